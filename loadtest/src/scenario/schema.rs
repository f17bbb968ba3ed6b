//! The schema of scenario files, for editors: `loadtest/scenarios/schema.json` is its output.

use schemars::generate::SchemaSettings;

use super::spec::Scenario;

/// The JSON schema of a scenario file.
///
/// # Errors
/// Never, as far as is known: it is a value of JSON.
pub fn schema() -> serde_json::Result<String> {
    let schema = SchemaSettings::draft07().into_generator().into_root_schema_for::<Scenario>();
    serde_json::to_string_pretty(&schema).map(|text| text + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_schema_is_that_of_the_types() {
        let published = include_str!("../../scenarios/schema.json");
        assert!(
            published == schema().unwrap(),
            "make it anew: cargo run -p odeum-loadtest -- schema > loadtest/scenarios/schema.json"
        );
    }
}
