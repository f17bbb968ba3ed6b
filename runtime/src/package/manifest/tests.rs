//! What a manifest may say, and how it is told what it may not.

use proptest::prelude::*;

use super::*;

const LEAST: &str = "name = 'x'\nversion = '1.0.0'\n";

const FULL: &str = r#"
name = "thermostat"
version = "1.2.0-beta.1"
abi = "wasi-reactor"
missing-imports = "trap"
entry = "bin/thermostat.wasm"
files = ["LICENSE", "schemas"]
args = ["--room", "kitchen"]
durability = "durable"
isolation = "process"

[environment]
LOG = "debug"

[limits]
memory = "16 MiB"
message-time = "250ms"
table-elements = 1000
stack = "1 MiB"
instances = 3
output = "64 KiB"
log = "4 KiB"
fuel = 1000000

[capabilities]
folders = [{ guest = "/data", host = "/srv/data", read-only = false }]
environment = ["HOME"]
clock = true
random = true
sockets = ["10.0.0.1:5432"]
http = ["*.example.org", "api.example.org:8443"]
messages = ["echo", "shop-*"]
publish = ["alerts/*"]
subscribe = ["orders"]

[capabilities.mqtt]
publish = ["rooms/kitchen/#"]
subscribe = ["rooms/+/temperature"]

[restart]
when = "always"
max-restarts = 5
within = "1m"
pause = "1s"
longest-pause = "30s"

[update]
max-unavailable = 2
rollback-restarts = 1
rollback-within = "1m"

[transient]
idle = "5m"
"#;

fn parse(text: &str) -> Result<Manifest, String> {
    Manifest::parse(text.as_bytes()).map_err(|error| error.to_string())
}

fn refused(text: &str) -> String {
    parse(text).expect_err("it is refused")
}

#[test]
fn what_a_manifest_leaves_out_is_as_in_one_that_says_nothing() {
    let least = parse(LEAST).expect("name and version are enough");
    assert_eq!(least, Manifest::new("x".parse().expect("a name"), Version::new(1, 0, 0)));
    assert_eq!(least.capabilities, Capabilities::default(), "everything is denied");
}

#[test]
fn what_is_written_reads_back_the_same() {
    for text in [LEAST, FULL] {
        let manifest = parse(text).expect("valid");
        let again = manifest.to_text().expect("it can be written");
        assert_eq!(parse(&again).as_ref(), Ok(&manifest), "{again}");
        assert_eq!(parse(&again).expect("valid").to_text().expect("written"), again);
    }
}

#[test]
fn a_mistyped_key_is_told_with_its_place_and_the_nearest_one() {
    let wrong = |text| refused(&format!("{LEAST}{text}"));
    assert_eq!(
        wrong("abi_ = 'firmlet'"),
        "odeum.toml:3:1: there is no key `abi_` here; the nearest is `abi`"
    );
    assert_eq!(
        wrong("[capabilities]\n  clocks = true"),
        "odeum.toml:4:3: there is no key `clocks` here; the nearest is `clock`"
    );
    assert_eq!(
        wrong("[capabilities]\nfolders = [{ guest = '/d', host = '/d', readonly = true }]"),
        "odeum.toml:4:41: there is no key `readonly` here; the nearest is `read-only`"
    );
    assert_eq!(
        wrong("[transient]\nzzz = 1"),
        "odeum.toml:4:1: there is no key `zzz` here; there are `idle`"
    );
}

#[test]
fn a_mistyped_word_is_told_with_the_nearest_one() {
    assert_eq!(
        refused(&format!("{LEAST}abi = 'wasi-comand'")),
        "odeum.toml:3:7: there is no `wasi-comand` here; the nearest is `wasi-command`"
    );
}

#[test]
fn what_is_missing_is_named() {
    assert_eq!(refused("name = 'x'"), "odeum.toml:1:1: the key `version` is missing");
    let transient = refused(&format!("{LEAST}[transient]\n"));
    assert_eq!(transient, "odeum.toml:3:1: the key `idle` is missing");
}

#[test]
fn a_value_out_of_bounds_is_told_with_its_bounds_and_place() {
    for (text, told) in [
        ("[limits]\nmemory = '1 KiB'", "4:10: 1 KiB is not between 64 KiB and 4 GiB"),
        ("[limits]\nmessage-time = '1ms'", "4:16: 1ms is not between 10ms and"),
        ("[limits]\nmemory = 5", "4:10: invalid type: integer `5`, expected"),
        ("[limits]\nmemory = '5'", "4:10: \"5\" is no size"),
        ("[limits]\nfuel = 0", "4:8: 0 is not between 1 and"),
        ("[update]\nmax-unavailable = 0", "4:19: invalid value"),
        ("entry = '../x.wasm'", "3:9: the path \"../x.wasm\" has \"..\" in it"),
        ("entry = '/x.wasm'", "3:9: the path \"/x.wasm\" is absolute"),
        ("files = ['a\\b']", "3:9: the path \"a\\\\b\" has '\\\\' in it"),
        ("[environment]\n'1A' = 'x'", "4:1: \"1A\" is no name of a variable"),
        ("[capabilities]\nhttp = ['a b']", "4:8: \"a b\" is no host"),
        ("[capabilities.mqtt]\nsubscribe = ['a/#/b']", "4:13: \"a/#/b\" is no MQTT topic filter"),
        ("[capabilities]\nfolders = [{ guest = 'd', host = '/d' }]", "4:22: the path \"d\""),
        ("abi = ", "3:7: "),
    ] {
        let got = refused(&format!("{LEAST}{text}"));
        assert!(got.starts_with(&format!("odeum.toml:{told}")), "{text}: {got}");
    }
}

#[test]
fn a_manifest_beyond_its_bound_or_no_text_is_refused_unread() {
    let large = vec![b' '; MANIFEST_BYTES + 1];
    assert!(matches!(Manifest::parse(&large), Err(ManifestError::TooLarge { .. })));
    assert_eq!(Manifest::parse(b"name = '\xff'"), Err(ManifestError::NotUtf8 { at: 8 }));
    let deep = "a=".to_owned() + &"[".repeat(10_000);
    assert!(parse(&deep).is_err());
}

#[test]
fn hosts_are_meant_by_name_domain_address_and_port() {
    let allows = |pattern: &str, host, port| {
        pattern.parse::<HostPattern>().expect("a host").allows(host, port)
    };
    assert!(allows("example.org", "EXAMPLE.org", 1));
    assert!(!allows("example.org", "www.example.org", 1));
    assert!(allows("example.org:443", "example.org", 443));
    assert!(!allows("example.org:443", "example.org", 80));
    assert!(allows("*.example.org", "a.b.example.org", 80));
    assert!(!allows("*.example.org", "example.org", 80));
    assert!(!allows("*.example.org", "badexample.org", 80));
    assert!(!allows("*.example.org", ".example.org", 80));
    assert!(allows("[::1]:80", "0:0:0:0:0:0:0:1", 80));
    for bad in
        ["", "*", "*.*", "a:0", "a:b", "a:65536", "::1", "[::1", "[a]", "-a", "a..b", "1.2.3"]
    {
        assert!(bad.parse::<HostPattern>().is_err(), "{bad}");
    }
}

#[test]
fn topics_are_meant_by_name_or_beginning() {
    let allows =
        |pattern: &str, name| pattern.parse::<TopicPattern>().expect("a topic").allows(name);
    assert!(allows("a/*", "a/b") && !allows("a/*", "ab") && allows("*", "ab"));
    assert!(allows("a", "a") && !allows("a", "ab"));
    for bad in ["", "a*b", "**", "a b"] {
        assert!(bad.parse::<TopicPattern>().is_err(), "{bad}");
    }
}

#[test]
fn firmware_is_meant_by_name_or_beginning() {
    let allows = |pattern: &str, name: &str| {
        let pattern: FirmwarePattern = pattern.parse().expect("a pattern");
        pattern.allows(&name.parse().expect("a name"))
    };
    assert!(allows("shop-*", "shop-1") && !allows("shop-*", "shop") && allows("*", "shop"));
    assert!(allows("shop", "shop") && !allows("shop", "shop-1"));
    for bad in ["", "a*b", "**", "A", "firmware/a", "-*"] {
        assert!(bad.parse::<FirmwarePattern>().is_err(), "{bad}");
    }
}

#[test]
fn mqtt_filters_mean_what_the_standard_says() {
    let allows =
        |filter: &str, topic| filter.parse::<MqttFilter>().expect("a filter").allows(topic);
    assert!(allows("sport/tennis/player1/#", "sport/tennis/player1"));
    assert!(allows("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"));
    assert!(allows("sport/+", "sport/") && !allows("sport/+", "sport"));
    assert!(allows("+/+", "/finance") && allows("/+", "/finance") && !allows("+", "/finance"));
    assert!(!allows("#", "$SYS/x") && allows("$SYS/#", "$SYS/x"));
    for bad in ["", "sport+", "sport/tennis#", "a/#/b", "a\0"] {
        assert!(bad.parse::<MqttFilter>().is_err(), "{bad}");
    }
}

#[test]
fn a_folder_lies_in_another_by_whole_names() {
    let path = |text: &str| text.parse::<HostPath>().expect("a path");
    assert!(path("/srv/data/x").is_within(&path("/srv/data")));
    assert!(path("/srv/data").is_within(&path("/srv/data")) && path("/a").is_within(&path("/")));
    assert!(!path("/srv/database").is_within(&path("/srv/data")));
    assert!("/srv/data/../../etc".parse::<HostPath>().is_err());
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_fail_otherwise_than_with_an_error(text in "\\PC{0,200}") {
        let _ = Manifest::parse(text.as_bytes());
    }

    #[test]
    fn a_path_of_a_package_never_leaves_its_folder(text in "[a./\\\\:-]{0,12}") {
        if let Ok(path) = text.parse::<PackagePath>() {
            let within = path.within(std::path::Path::new("/root/x"));
            prop_assert!(within.starts_with("/root/x"));
            let odd = within.components().any(|c| !matches!(
                c, std::path::Component::Normal(_) | std::path::Component::RootDir));
            prop_assert!(!odd, "{}", within.display());
        }
    }
}
