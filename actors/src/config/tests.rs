//! The promises of layered configuration.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct App {
    title: String,
    server: Server,
    pools: BTreeMap<String, Pool>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Server {
    port: u16,
    idle_timeout: HumanDuration,
    owner: Option<String>,
    workers: Option<u8>,
    limits: Limits,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Limits {
    body: ByteSize,
    weights: Vec<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Pool {
    size: u32,
    #[serde(default)]
    strict: bool,
}

impl Default for Server {
    fn default() -> Self {
        let idle_timeout = HumanDuration(std::time::Duration::from_secs(1));
        let (owner, workers, limits) = Default::default();
        Self { port: 1, idle_timeout, owner, workers, limits }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { body: ByteSize::mebibytes(1), weights: vec![1.0] }
    }
}

fn file(text: &str) -> Sources {
    Sources::new("APP").file("app.toml", text)
}

fn environment(pairs: &[(&str, &str)]) -> Sources {
    Sources::new("APP").environment(pairs.iter().copied())
}

fn app(sources: &Sources) -> App {
    sources.resolve::<App>().unwrap().config
}

fn refusal(sources: &Sources) -> String {
    sources.resolve::<App>().unwrap_err().to_string()
}

#[test]
fn a_later_layer_wins_key_by_key_and_each_value_knows_its_origin() {
    let sources = file("title = 'file'\n[server]\nport = 2\nidle-timeout = '2s'\nowner = 'a'\n")
        .file("app.test.toml", "[server]\nport = 3\n[server.limits]\nbody = '4 MiB'\n")
        .environment([("APP_SERVER__IDLE_TIMEOUT", "3s"), ("APPLE", "x"), ("APP_PROFILE", "test")])
        .flag("--title", "title", "flag");
    let resolved = sources.resolve::<App>().unwrap();
    assert_eq!(resolved.config.title, "flag");
    assert_eq!(resolved.config.server.port, 3);
    assert_eq!(resolved.config.server.limits.body, ByteSize::mebibytes(4));
    let shown: Vec<String> = resolved
        .entries()
        .unwrap()
        .iter()
        .map(|entry| format!("{} = {} ({})", entry.key, entry.value, entry.origin))
        .collect();
    assert_eq!(
        shown,
        [
            "pools = {} (default)",
            "server.idle-timeout = \"3s\" (environment APP_SERVER__IDLE_TIMEOUT)",
            "server.limits.body = \"4 MiB\" (app.test.toml:4:1)",
            "server.limits.weights = [1.0] (default)",
            "server.owner = \"a\" (app.toml:5:1)",
            "server.port = 3 (app.test.toml:2:1)",
            "server.workers = null (default)",
            "title = \"flag\" (flag --title)",
        ]
    );
}

#[test]
fn a_profile_is_the_file_beside_the_main_one() {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("app.toml");
    std::fs::write(&main, "title = 'main'\nserver.port = 2\n").unwrap();
    std::fs::write(folder.path().join("app.test.toml"), "server.port = 3\n").unwrap();
    let gather = |profile| Sources::gather("ODEUM_TEST_NONE", Some(&main), profile);
    assert_eq!(app(&gather(None).unwrap()).server.port, 2);
    let test = app(&gather(Some("test")).unwrap());
    assert_eq!((test.title.as_str(), test.server.port), ("main", 3));

    let absent = gather(Some("absent")).unwrap_err();
    assert!(absent.to_string().contains("app.absent.toml") && !absent.is_usage(), "{absent}");
    for (path, profile) in [(Some(main.as_path()), "../test"), (None, "test")] {
        let error = Sources::gather("ODEUM_TEST_NONE", path, Some(profile)).unwrap_err();
        assert!(error.to_string().contains(&format!("no profile `{profile}`")), "{error}");
        assert!(error.is_usage());
    }
}

#[test]
fn a_variable_is_read_as_what_its_key_takes() {
    let sources = environment(&[
        ("APP_TITLE", "42"),
        ("APP_SERVER__OWNER", "7"),
        ("APP_SERVER__WORKERS", "8"),
        ("APP_SERVER__LIMITS__WEIGHTS", "[0.5, 2.0]"),
        ("APP_POOLS__FAST__SIZE", "9"),
    ]);
    let app = app(&sources);
    assert_eq!((app.title.as_str(), app.server.owner.as_deref()), ("42", Some("7")));
    assert_eq!((app.server.workers, app.pools["fast"].size), (Some(8), 9));
    assert_eq!(app.server.limits.weights, [0.5, 2.0]);
}

#[test]
fn an_unknown_key_is_refused_with_its_place_and_the_nearest() {
    let keys = [
        ("[server]\n  prot = 1", "app.toml:2:3", "server.prot", "server.port"),
        ("titel = 'x'", "app.toml:1:1", "titel", "title"),
        ("[server]\nlimits.boddy = 1", "app.toml:2:8", "server.limits.boddy", "server.limits.body"),
        (
            "[pools.fast]\nsize = 1\nstrickt = true",
            "app.toml:3:1",
            "pools.fast.strickt",
            "pools.fast.strict",
        ),
    ];
    for (text, at, key, nearest) in keys {
        let said = format!("{at}: there is no setting `{key}`; the nearest is `{nearest}`");
        assert_eq!(refusal(&file(text)), said);
    }
    assert_eq!(
        refusal(&file("[server.limit]\nbody = '1 B'")),
        "app.toml:1:9: there is no section [server.limit]; the nearest is [server.limits]"
    );
    let error = refusal(&environment(&[("APP_SERVER__PROT", "1")]));
    assert!(error.starts_with("environment APP_SERVER__PROT: ") && error.contains("`server.port`"));
    let error = refusal(&Sources::new("APP").flag("--port", "server.prot", 1));
    assert!(error.starts_with("flag --port: ") && error.contains("`server.port`"));
}

#[test]
fn a_value_that_does_not_fit_is_refused_where_it_stands() {
    let cases = [
        ("[server]\nport = 70000", "app.toml:2:1: `server.port`: "),
        ("[server]\nidle-timeout = 250", "app.toml:2:1: `server.idle-timeout`: "),
        ("[server.limits]\nbody = '4 MiBs'", "app.toml:2:1: `server.limits.body`: "),
        ("server = 1", "app.toml:1:1: `server`: this is a section: write [server]"),
        ("[pools.fast]\nsize = 'many'", "app.toml:2:1: `pools.fast.size`: "),
        ("title = ", "app.toml:1:9: "),
    ];
    for (text, start) in cases {
        let message = refusal(&file(text));
        assert!(message.starts_with(start), "{text}: {message}");
    }
    let message = refusal(&environment(&[("APP_SERVER__PORT", "many")]));
    assert!(message.starts_with("environment APP_SERVER__PORT: `server.port`: "), "{message}");
    assert!(refusal(&file("[pools.fast]\nstrict = true")).contains("missing field `size`"));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[\\[\\]a-z.='\"\\{\\}\n#0-9 ä-]{0,60}") {
        let _ = file(&text).resolve::<App>();
        let _ = environment(&[("APP_SERVER__OWNER", &text), ("APP_SERVER__PORT", &text)])
            .resolve::<App>();
    }

    #[test]
    fn whichever_layers_set_a_key_the_strongest_wins_and_is_named(given in any::<[bool; 4]>()) {
        let [main, profile, variable, flag] = given;
        let mut sources = Sources::new("APP");
        let mut expected = (1, "default");
        if flag {
            sources = sources.flag("--port", "server.port", 5);
        }
        if variable {
            sources = sources.environment([("APP_SERVER__PORT", "4")]);
        }
        if main {
            sources = sources.file("app.toml", "server.port = 2");
            expected = (2, "app.toml:1:8");
        }
        if profile {
            sources = sources.file("app.test.toml", "server.port = 3");
            expected = (3, "app.test.toml:1:8");
        }
        if variable {
            expected = (4, "environment APP_SERVER__PORT");
        }
        if flag {
            expected = (5, "flag --port");
        }
        let resolved = sources.resolve::<App>().unwrap();
        prop_assert_eq!(resolved.config.server.port, expected.0);
        prop_assert_eq!(resolved.origin("server.port").to_string(), expected.1);
    }
}
