//! The promises of layered configuration.

use std::time::Duration;

use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct App {
    title: String,
    server: Server,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Server {
    port: u16,
    #[serde(with = "crate::config::duration")]
    idle_timeout: Duration,
}

impl Default for App {
    fn default() -> Self {
        Self { title: "none".into(), server: Server::default() }
    }
}

impl Default for Server {
    fn default() -> Self {
        Self { port: 1, idle_timeout: Duration::from_secs(1) }
    }
}

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn a_later_layer_wins_key_by_key_and_each_value_knows_its_origin() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.toml");
    std::fs::write(&file, "title = 'file'\n[server]\nport = 2\nidle-timeout = '2s'\n").unwrap();
    std::fs::write(folder.path().join("app.test.toml"), "[server]\nport = 3\n").unwrap();
    let loaded = Layers::new()
        .file(&file)
        .unwrap()
        .profile(&file, "test")
        .unwrap()
        .profile(&file, "absent")
        .unwrap()
        .variables("APP", variables(&[("APP_SERVER__IDLE_TIMEOUT", "3s"), ("APPLE", "x")]))
        .set("title", "flag", "--title")
        .load::<App>()
        .unwrap();
    let server = Server { port: 3, idle_timeout: Duration::from_secs(3) };
    assert_eq!(loaded.value, App { title: "flag".into(), server });
    let shown: Vec<String> =
        loaded.explain().map(|(key, value, origin)| format!("{key}={value} {origin}")).collect();
    assert_eq!(
        shown[0],
        "server.idle-timeout=\"3s\" environment variable APP_SERVER__IDLE_TIMEOUT"
    );
    assert!(shown[1].starts_with("server.port=3") && shown[1].ends_with("app.test.toml"));
    assert_eq!(shown[2], "title=\"flag\" --title");
}

#[test]
fn a_variable_that_looks_like_a_number_may_be_a_text() {
    let loaded = Layers::new().variables("APP", variables(&[("APP_TITLE", "42")])).load::<App>();
    assert_eq!(loaded.unwrap().value.title, "42");
}

#[test]
fn an_error_names_the_key_and_where_it_came_from() {
    for (name, value, said) in [
        (
            "APP_SERVER__PROT",
            "1",
            "unknown key server.prot (environment variable APP_SERVER__PROT); did you mean server.port?",
        ),
        ("APP_SERVER__PORT", "70000", "server.port (environment variable APP_SERVER__PORT): "),
        ("APP_SERVER__IDLE_TIMEOUT", "soon", "server.idle-timeout (environment variable"),
    ] {
        let layers = Layers::new().variables("APP", variables(&[(name, value)]));
        let error = layers.load::<App>().unwrap_err().to_string();
        assert!(error.starts_with(said), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.toml");
    std::fs::write(&file, "title = ").unwrap();
    assert!(matches!(Layers::new().file(&file), Err(ConfigError::Syntax { .. })));
    assert!(matches!(Layers::new().file("/nowhere"), Err(ConfigError::Unreadable { .. })));
}
