//! Files that declare firmware, in TOML or YAML, and what can be wrong with them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read as _,
    path::{Path, PathBuf},
};

use odeum_actors::config::line_and_column;
use odeum_proto::{Label, Name};
use serde::Deserialize;

use crate::{
    api::types::{
        FirmwareSettings, LimitSettings, Nodes, Replicas, RestartSettings, TransientSetting,
        UpdateSettings,
    },
    cli::CliError,
    config::ByteSize,
    package::{
        manifest::{Health, advice},
        source::Source,
    },
};

/// Longest file, in bytes: a thousand firmwares with everything that can be said of each.
const FILE_BYTES: u64 = 4 << 20;

/// What standard input is called in messages.
const STDIN: &str = "standard input";

/// A firmware that a file declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Declared {
    /// The file.
    pub(super) place: Box<str>,
    /// Its name; the package's when `None`.
    pub(super) name: Option<Name>,
    /// Its package.
    pub(super) source: Source,
    /// What is said beside the package's manifest.
    pub(super) settings: FirmwareSettings,
}

/// A file that cannot be applied. Nothing was changed; correct the place it names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DeclaredError {
    /// A key or a word that does not exist.
    #[error("{at}: there is no {what} here; {advice}")]
    Unknown {
        /// File, line, column.
        at: Box<str>,
        /// Which.
        what: Box<str>,
        /// The nearest one, or which there are.
        advice: Box<str>,
    },
    /// A key that has no default is not there.
    #[error("{at}: the key `{key}` is missing")]
    Missing {
        /// File, line, column.
        at: Box<str>,
        /// The key.
        key: Box<str>,
    },
    /// No TOML, no YAML, or a value that its key cannot take.
    #[error("{at}: {reason}")]
    Invalid {
        /// File, line, column.
        at: Box<str>,
        /// What is wrong.
        reason: Box<str>,
    },
    /// Nothing is declared.
    #[error(
        "{file} declares no firmware: begin each with `[[firmware]]` in TOML, or with `- ` under \
         `firmware:` in YAML"
    )]
    Nothing {
        /// The file.
        file: Box<str>,
    },
    /// Two that are called alike.
    #[error(
        "{name} is declared twice, in {first} and in {second}: each may have a name of its own"
    )]
    Twice {
        /// The name.
        name: Name,
        /// A file.
        first: Box<str>,
        /// Another one, or the same.
        second: Box<str>,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    firmware: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Entry {
    name: Option<Name>,
    source: String,
    #[serde(default)]
    labels: BTreeMap<Label, Label>,
    nodes: Option<Nodes>,
    #[serde(default)]
    apart: BTreeSet<Name>,
    replicas: Option<Replicas>,
    #[serde(default)]
    limits: LimitSettings,
    #[serde(default)]
    restart: RestartSettings,
    #[serde(default)]
    health: Health,
    #[serde(default)]
    update: UpdateSettings,
    transient: Option<TransientSetting>,
}

/// What all these files declare.
pub(super) fn read(files: &[PathBuf]) -> Result<Vec<Declared>, CliError> {
    let mut all = Vec::new();
    for path in files {
        let is_stdin = path.as_os_str() == "-";
        let name = if is_stdin { STDIN.to_owned() } else { path.display().to_string() };
        let text = if is_stdin { text_of_stdin()? } else { text_of(path)? };
        let folder = if is_stdin { None } else { path.parent() };
        all.extend(declared(&name, folder.unwrap_or(Path::new("")), path, &text)?);
    }
    Ok(all)
}

fn text_of(path: &Path) -> Result<String, CliError> {
    let unreadable = |reason| CliError::Unreadable { path: path.to_owned(), reason };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    bounded(file, &path.display().to_string(), unreadable)
}

fn text_of_stdin() -> Result<String, CliError> {
    // Blocking is fine: nothing else runs before it is known.
    bounded(std::io::stdin().lock(), STDIN, |reason| CliError::Stdin { reason })
}

fn bounded(
    from: impl std::io::Read,
    what: &str,
    unreadable: impl FnOnce(std::io::Error) -> CliError,
) -> Result<String, CliError> {
    let mut bytes = Vec::new();
    let read = from.take(FILE_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(CliError::TooLarge { what: what.into(), limit: ByteSize(FILE_BYTES) });
    }
    String::from_utf8(bytes).map_err(|error| {
        let reason = format!("byte {} is no UTF-8", error.utf8_error().valid_up_to()).into();
        DeclaredError::Invalid { at: what.into(), reason }.into()
    })
}

/// What `text` declares; `folder` is where its sources are.
fn declared(
    file: &str,
    folder: &Path,
    path: &Path,
    text: &str,
) -> Result<Vec<Declared>, DeclaredError> {
    let document = if is_yaml(path, text) { of_yaml(file, text) } else { of_toml(file, text) }?;
    if document.firmware.is_empty() {
        return Err(DeclaredError::Nothing { file: file.into() });
    }
    let entry = |entry: Entry| {
        let Entry {
            name,
            source,
            labels,
            nodes,
            apart,
            replicas,
            limits,
            restart,
            health,
            update,
            transient,
        } = entry;
        let bad = |reason: String| DeclaredError::Invalid {
            at: file.into(),
            reason: format!("source {source:?}: {reason}").into(),
        };
        let source = located(folder, &source).map_err(|error| bad(error.to_string()))?;
        let settings = FirmwareSettings {
            labels,
            nodes,
            apart,
            replicas,
            limits,
            restart,
            health,
            update,
            transient,
        };
        Ok(Declared { place: file.into(), name, source, settings })
    };
    document.firmware.into_iter().map(entry).collect()
}

/// A source as the file means it: what is there, or looks like a path, is relative to its folder.
fn located(folder: &Path, text: &str) -> Result<Source, crate::package::registry::PlaceError> {
    let beside = folder.join(text);
    match text.parse()? {
        Source::Registry(place) => Ok(Source::Registry(place)),
        Source::Kept(name) if !beside.exists() => Ok(Source::Kept(name)),
        _ if beside.is_dir() => Ok(Source::Folder(beside)),
        _ => Ok(Source::File(beside)),
    }
}

/// The ending says it; where there is none that does, the first line that says anything.
fn is_yaml(path: &Path, text: &str) -> bool {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("toml") => return false,
        Some("yaml" | "yml" | "json") => return true,
        _ => {}
    }
    let said = |line: &&str| !line.is_empty() && !line.starts_with('#');
    let first = text.lines().map(str::trim).find(said).unwrap_or_default();
    let is_toml = first.starts_with('[') || first.split(':').next().unwrap_or("").contains('=');
    !is_toml && !first.is_empty()
}

fn of_toml(file: &str, text: &str) -> Result<Document, DeclaredError> {
    toml::from_str(text).map_err(|error| {
        let (line, column) = line_and_column(text, error.span().map_or(0, |span| span.start));
        let at = format!("{file}:{line}:{column}").into();
        let message = error.message();
        // serde only tells what it misses as text.
        let mut quoted = message.split('`').skip(1).step_by(2);
        match quoted.next() {
            Some(key) if message.starts_with("unknown field") => {
                unknown(at, "key", key, &quoted.collect::<Vec<_>>())
            }
            Some(word) if message.starts_with("unknown variant") => {
                unknown(at, "word", word, &quoted.collect::<Vec<_>>())
            }
            Some(key) if message.starts_with("missing field") => {
                DeclaredError::Missing { at, key: key.into() }
            }
            _ => DeclaredError::Invalid { at, reason: message.into() },
        }
    })
}

fn of_yaml(file: &str, text: &str) -> Result<Document, DeclaredError> {
    use serde_saphyr::{DefaultMessageFormatter, Error, MessageFormatter as _};

    serde_saphyr::from_str(text).map_err(|error| {
        let at = match error.location() {
            Some(at) if at.line() > 0 => format!("{file}:{}:{}", at.line(), at.column()).into(),
            _ => file.into(),
        };
        match error.without_snippet() {
            Error::SerdeUnknownField { field, expected, .. } => unknown(at, "key", field, expected),
            Error::SerdeUnknownVariant { variant, expected, .. } => {
                unknown(at, "word", variant, expected)
            }
            Error::SerdeMissingField { field, .. } => {
                DeclaredError::Missing { at, key: (*field).into() }
            }
            other => {
                let reason = DefaultMessageFormatter.format_message(other).into();
                DeclaredError::Invalid { at, reason }
            }
        }
    })
}

fn unknown(at: Box<str>, sort: &str, given: &str, known: &[&str]) -> DeclaredError {
    let what = format!("{sort} `{given}`").into();
    DeclaredError::Unknown { at, what, advice: advice(given, known) }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use odeum_proto::NodeId;

    use super::*;

    const TOML: &str = r#"
[[firmware]]
name = "counter"
source = "counter.wasm"
labels = { disk = "ssd" }
nodes = ["n1", "n3"]
apart = ["gate"]
replicas = 3
limits = { memory = "16 MiB", message-time = "250ms" }
restart = { max-restarts = 5 }

[[firmware]]
source = "oci://localhost:5000/gate:1.0.0"

[firmware.health.cpu]
above = 90
lasting = "30s"
then = "restart"
"#;

    const YAML: &str = r#"
firmware:
  - name: counter
    source: counter.wasm
    labels: { disk: ssd }
    nodes: [n1, n3]
    apart: [gate]
    replicas: 3
    limits: { memory: 16 MiB, message-time: 250ms }
    restart:
      max-restarts: 5
  - source: oci://localhost:5000/gate:1.0.0
    health:
      cpu: { above: 90, lasting: 30s, then: restart }
"#;

    fn of(path: &str, text: &str) -> Result<Vec<Declared>, String> {
        let declared = declared(path, Path::new("there"), Path::new(path), text);
        declared.map_err(|error| error.to_string())
    }

    fn refused(path: &str, text: &str) -> String {
        of(path, text).expect_err("it is refused")
    }

    #[test]
    fn both_forms_say_the_same() {
        let toml = of("f.toml", TOML).expect("declares");
        let [counter, gate] = &toml[..] else { panic!("{toml:?}") };
        assert_eq!(counter.name.as_ref().map(Name::as_str), Some("counter"));
        assert_eq!(counter.source, Source::File("there/counter.wasm".into()));
        assert_eq!(counter.settings.restart.max_restarts, NonZeroU32::new(5));
        assert_eq!(counter.settings.replicas.expect("said").number(), 3);
        let nodes: BTreeSet<NodeId> = counter.settings.nodes.clone().expect("said").into();
        assert_eq!(nodes.iter().map(NodeId::as_str).collect::<Vec<_>>(), ["n1", "n3"]);
        assert_eq!(counter.settings.apart.iter().map(Name::as_str).collect::<Vec<_>>(), ["gate"]);
        assert!(gate.settings.nodes.is_none() && gate.settings.apart.is_empty());
        assert!(gate.name.is_none() && matches!(gate.source, Source::Registry(_)));
        assert_eq!(gate.settings.health.cpu.as_ref().expect("said").above.number(), 90);
        let without_place = |all: Vec<Declared>| {
            all.into_iter().map(|it| (it.name, it.source, it.settings)).collect::<Vec<_>>()
        };
        assert_eq!(without_place(toml), without_place(of("f.yaml", YAML).expect("declares")));
    }

    #[test]
    fn the_form_is_told_by_the_ending_or_by_the_first_words() {
        let is = |path: &str, text: &str| is_yaml(Path::new(path), text);
        assert!(!is("-", TOML) && !is("x.toml", YAML));
        assert!(is("-", YAML) && is("x.yml", TOML) && is("-", "{firmware: []}"));
        assert!(
            !is(
                "-",
                "# nothing

"
            ) && !is(
                "-",
                "firmware = []
"
            )
        );
        assert!(of("-", YAML).is_ok() && of("-", TOML).is_ok());
    }

    #[test]
    fn an_unknown_key_is_told_with_its_place_and_the_nearest_one() {
        let toml = "[[firmware]]
source = 'x.wasm'
[firmware.limits]
memroy = '1 MiB'
";
        let said = "f.toml:4:1: there is no key `memroy` here; the nearest is `memory`";
        assert_eq!(refused("f.toml", toml), said);
        let yaml = "firmware:
  - source: x.wasm
    limits:
      memroy: 1 MiB
";
        let said = "f.yaml:4:7: there is no key `memroy` here; the nearest is `memory`";
        assert_eq!(refused("f.yaml", yaml), said);
        let yaml = "firmwares:
  - source: x.wasm
";
        assert!(refused("f.yaml", yaml).contains("f.yaml:1:1: there is no key `firmwares`"));
    }

    #[test]
    fn a_value_that_its_key_cannot_take_is_told_with_its_place() {
        let toml = "[[firmware]]
source = 'x.wasm'
limits = { memory = '1 B' }
";
        let said = refused("f.toml", toml);
        assert!(said.starts_with("f.toml:3:"), "{said}");
        assert!(said.contains("is not between 64 KiB and 4 GiB"), "{said}");
        let yaml = "firmware:
  - source: x.wasm
    limits: { memory: 1 B }
";
        let said = refused("f.yaml", yaml);
        assert!(said.starts_with("f.yaml:3:"), "{said}");
        assert!(said.contains("is not between 64 KiB and 4 GiB"), "{said}");
        for (path, text) in [
            (
                "f.toml",
                "[[firmware]]
name = 'x'
",
            ),
            (
                "f.yaml",
                "firmware:
  - name: x
",
            ),
        ] {
            let said = refused(path, text);
            assert!(said.contains("the key `source` is missing"), "{said}");
        }
    }

    #[test]
    fn nodes_that_are_none_and_names_that_cannot_be_are_told_with_their_place() {
        for (value, why) in [
            ("nodes = []", "`nodes` names none: name one, or leave the key out"),
            ("nodes = ['N1']", "'N' cannot be in a node id"),
            ("apart = ['a.b']", "'.' cannot be in a name"),
        ] {
            let said = refused("f.toml", &format!("[[firmware]]\nsource = 'x.wasm'\n{value}\n"));
            assert!(said.starts_with("f.toml:3:") && said.contains(why), "{value}: {said}");
            let yaml = value.replace(" = ", ": ");
            let yaml = format!("firmware:\n  - source: x.wasm\n    {yaml}\n");
            let said = refused("f.yaml", &yaml);
            assert!(said.starts_with("f.yaml:3:") && said.contains(why), "{value}: {said}");
        }
    }

    #[test]
    fn idling_is_switched_off_by_both_forms() {
        let toml = "[[firmware]]\nsource = 'x.wasm'\ntransient = ";
        let yaml = "firmware:\n  - source: x.wasm\n    transient: ";
        for (path, text) in [("f.toml", toml), ("f.yaml", yaml)] {
            let off = of(path, &format!("{text}false\n")).expect("declares");
            assert_eq!(off[0].settings.transient, Some(TransientSetting::Off));
            let on = of(
                path,
                &format!(
                    "{text}{{ {} }}\n",
                    match path {
                        "f.toml" => "idle = '1m'",
                        _ => "idle: 1m",
                    }
                ),
            );
            let on = on.expect("declares");
            assert!(matches!(on[0].settings.transient, Some(TransientSetting::On(_))), "{on:?}");
            let said = refused(path, &format!("{text}true\n"));
            assert!(said.starts_with(path) && said.contains("`false`, or a table"), "{said}");
        }
    }

    #[test]
    fn a_file_that_declares_nothing_is_refused() {
        for (path, text) in
            [("f.toml", ""), ("f.toml", "firmware = []"), ("f.yaml", "firmware: []")]
        {
            assert!(refused(path, text).contains("declares no firmware"), "{text}");
        }
        for (path, text) in [("f.toml", "[[firmware"), ("f.yaml", "firmware: ["), ("f.yaml", "x")] {
            assert!(refused(path, text).starts_with(path), "{text}");
        }
    }

    #[test]
    fn what_is_kept_or_in_a_registry_is_not_beside_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("shop")).expect("made");
        let located = |text: &str| located(folder.path(), text).expect("a source");
        assert_eq!(located("counter@1.0.0"), Source::Kept("counter@1.0.0".to_owned()));
        assert_eq!(located("shop"), Source::Folder(folder.path().join("shop")));
        assert_eq!(located("gone/x.odeum"), Source::File(folder.path().join("gone/x.odeum")));
        assert_eq!(located("/abs/x.wasm"), Source::File("/abs/x.wasm".into()));
    }
}
