//! The scenarios that are built in.

/// By name, with their texts.
pub const ALL: &[(&str, &str)] = &[
    ("smoke", include_str!("../../scenarios/smoke.yaml")),
    ("steady", include_str!("../../scenarios/steady.yaml")),
    ("spike", include_str!("../../scenarios/spike.yaml")),
    ("chaos", include_str!("../../scenarios/chaos.yaml")),
    ("soak", include_str!("../../scenarios/soak.yaml")),
    ("migration-storm", include_str!("../../scenarios/migration-storm.yaml")),
    ("rolling-upgrade", include_str!("../../scenarios/rolling-upgrade.yaml")),
    ("million-entities", include_str!("../../scenarios/million-entities.yaml")),
];

/// The text of one.
#[must_use]
pub fn text(name: &str) -> Option<&'static str> {
    ALL.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}
