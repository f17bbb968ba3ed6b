//! A policy as people read it: by its keys, and in words.

use std::{collections::BTreeMap, time::Duration};

use odeum_proto::store::{FirmwareSpec, Measure, Remedy, Threshold};

use crate::config::{ByteSize, HumanDuration};

/// What is in force, by the keys of a file for `odeum apply`.
pub(in crate::node) fn in_force(spec: &FirmwareSpec) -> BTreeMap<String, String> {
    let (limits, policy) = (&spec.limits, &spec.policy);
    let (restarts, rollback) = (&policy.restarts, &policy.rollback);
    let mut all: Vec<(String, String)> = [
        ("limits.memory", size(limits.memory_bytes)),
        ("limits.message-time", time(limits.message_time)),
        ("restart.pause", time(restarts.first_pause)),
        ("restart.longest-pause", time(restarts.longest_pause)),
        ("restart.max-restarts", restarts.max_restarts.to_string()),
        ("restart.within", time(restarts.within)),
        ("restart.per-hour", restarts.per_hour.to_string()),
        ("health.boot-time", time(policy.boot_time)),
        ("update.rollback-restarts", rollback.crashes.to_string()),
        ("update.rollback-within", time(rollback.within)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    all.extend(policy.idle.map(|idle| ("transient.idle".to_owned(), time(idle))));
    for threshold in &policy.thresholds {
        let measure = match threshold.of {
            Measure::Cpu => "cpu",
            Measure::Memory => "memory",
        };
        let then = match threshold.then {
            Remedy::Warn => "warn",
            Remedy::Restart => "restart",
            Remedy::Stop => "stop",
        };
        let lasting = time(threshold.lasting);
        let value = format!("above {} for {lasting}: {then}", amount(threshold));
        all.push((format!("health.{measure}"), value));
    }
    let labels = policy.labels.iter();
    all.extend(labels.map(|(label, value)| (format!("labels.{label}"), value.to_string())));
    all.into_iter().collect()
}

/// The same in words, a sentence each.
pub(in crate::node) fn words(spec: &FirmwareSpec) -> Vec<String> {
    let (limits, policy) = (&spec.limits, &spec.policy);
    let restarts = &policy.restarts;
    let mut words = vec![
        format!(
            "it may use {} of memory, and {} for one message",
            size(limits.memory_bytes),
            time(limits.message_time)
        ),
        format!(
            "it may take {} to start; after a crash it is started again in {}, and in twice that \
             after the next one, up to {}",
            time(policy.boot_time),
            time(restarts.first_pause),
            time(restarts.longest_pause)
        ),
        format!(
            "it is given up after {} restarts within {}, or {} within an hour",
            restarts.max_restarts,
            time(restarts.within),
            restarts.per_hour
        ),
        format!(
            "an update that crashes {} times within {} is rolled back",
            policy.rollback.crashes,
            time(policy.rollback.within)
        ),
    ];
    if let Some(idle) = policy.idle {
        words.push(format!("its instance ends after {} without a message", time(idle)));
    }
    for threshold in &policy.thresholds {
        let what = match threshold.of {
            Measure::Cpu => "computes",
            Measure::Memory => "uses memory",
        };
        let then = match threshold.then {
            Remedy::Warn => "its node says so",
            Remedy::Restart => "it is started anew",
            Remedy::Stop => "it is given up",
        };
        let (amount, lasting) = (amount(threshold), time(threshold.lasting));
        words.push(format!("when it {what} above {amount} for {lasting}, {then}"));
    }
    if !policy.labels.is_empty() {
        let labels = policy.labels.iter().map(|(label, value)| format!("{label}={value}"));
        words.push(format!("it runs on nodes with {} only", labels.collect::<Vec<_>>().join(", ")));
    }
    words
}

fn amount(threshold: &Threshold) -> String {
    match threshold.of {
        Measure::Cpu => format!("{} % of a core", threshold.above),
        Measure::Memory => size(threshold.above),
    }
}

fn size(bytes: u64) -> String {
    ByteSize(bytes).to_string()
}

fn time(duration: Duration) -> String {
    HumanDuration(duration).to_string()
}

#[cfg(test)]
mod tests {
    use odeum_proto::{
        Digest,
        store::{FirmwareLimits, FirmwarePolicy},
    };

    use super::*;

    #[test]
    fn a_policy_is_told_by_its_keys_and_in_words() {
        let label = |text: &str| text.parse().expect("a label");
        let cpu = Threshold {
            of: Measure::Cpu,
            above: 90,
            lasting: Duration::from_secs(30),
            then: Remedy::Restart,
        };
        let policy = FirmwarePolicy {
            idle: Some(Duration::from_secs(60)),
            thresholds: vec![cpu],
            labels: [(label("disk"), label("ssd"))].into(),
            ..FirmwarePolicy::default()
        };
        let limits =
            FirmwareLimits { memory_bytes: 16 << 20, message_time: Duration::from_secs(1) };
        let name = "counter".parse().expect("a name");
        let spec = FirmwareSpec { name, digest: Digest::of(b"x"), size: 1, limits, policy };
        let keys = in_force(&spec);
        assert_eq!(keys["limits.memory"], "16 MiB");
        assert_eq!(keys["health.cpu"], "above 90 % of a core for 30s: restart");
        assert_eq!((keys["labels.disk"].as_str(), keys["transient.idle"].as_str()), ("ssd", "1m"));
        let words = words(&spec);
        assert_eq!(words[0], "it may use 16 MiB of memory, and 1s for one message");
        assert_eq!(
            words[2],
            "it is given up after 12 restarts within 1m 30s, or 60 within an hour"
        );
        assert!(words.contains(
            &"when it computes above 90 % of a core for 30s, it is started anew".to_owned()
        ));
        assert_eq!(words.last().expect("some"), "it runs on nodes with disk=ssd only");
    }
}
