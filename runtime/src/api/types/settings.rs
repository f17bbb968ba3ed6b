//! What is said of a firmware when it is deployed: what its package's manifest says is the default.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    num::NonZeroU32,
};

use odeum_proto::{Digest, Epoch, Label, Name, NodeId, limits};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, Unexpected, Visitor, value::MapAccessDeserializer},
};

use super::text;
use crate::package::manifest::{
    Abi, Count, Health, Manifest, MemoryLimit, MessageTime, Time, Transient,
};

/// Header of `PUT /v1/firmware/{name}`: a [`FirmwareSettings`] as JSON.
pub const SETTINGS_HEADER: &str = "odeum-settings";

/// What who deploys a firmware says of it, by the keys of its manifest. What is left out is as its
/// manifest says, and what that leaves out as the node does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct FirmwareSettings {
    /// Labels that a node must have to run it, with these values. No manifest has any.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<Label, Label>,
    /// The nodes that may run it; all when left out. No manifest has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Nodes>,
    /// Firmware that it is not put beside while another node can have it, nor that beside it. No
    /// manifest has any.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub apart: BTreeSet<Name>,
    /// How many replicas there are; as many as before, or one, when left out. No manifest has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<Replicas>,
    /// How much an instance may take.
    pub limits: LimitSettings,
    /// How it is started again after a crash.
    pub restart: RestartSettings,
    /// When an instance is not well. `cpu`, `memory` and `liveness` are each taken whole.
    pub health: Health,
    /// How an update goes on, and when it is undone.
    pub update: UpdateSettings,
    /// Stops an idle instance until its next message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transient: Option<TransientSetting>,
}

/// Some nodes, by name: at least one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeSet<NodeId>", into = "BTreeSet<NodeId>")]
pub struct Nodes(BTreeSet<NodeId>);

impl Nodes {
    /// Those; `None` when there are none.
    #[must_use]
    pub fn new(nodes: BTreeSet<NodeId>) -> Option<Self> {
        (!nodes.is_empty()).then_some(Self(nodes))
    }
}

impl TryFrom<BTreeSet<NodeId>> for Nodes {
    type Error = SettingsError;

    fn try_from(nodes: BTreeSet<NodeId>) -> Result<Self, SettingsError> {
        Self::new(nodes).ok_or(SettingsError::NoNode)
    }
}

impl From<Nodes> for BTreeSet<NodeId> {
    fn from(nodes: Nodes) -> Self {
        nodes.0
    }
}

/// Settings that mean nothing. Nothing was changed; correct the key that is named.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// No node at all may run it.
    #[error("`nodes` names none: name one, or leave the key out, so that any may run it")]
    NoNode,
    /// It is to be apart from itself.
    #[error(
        "`apart` of {name} names {name} itself: its replicas are spread in any case, leave it out"
    )]
    ApartFromItself {
        /// What is deployed.
        name: Name,
    },
    /// They ask for something that nothing here would see to.
    #[error(
        "the settings ask for `{key}`, which a guest of the ABI {abi} cannot have here: leave it out"
    )]
    Beyond {
        /// Its key.
        key: &'static str,
        /// The guest's ABI.
        abi: Abi,
    },
}

/// How much an instance may take.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct LimitSettings {
    /// Linear memory, 64 KiB to 4 GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryLimit>,
    /// Time for one message, 10 ms and more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_time: Option<MessageTime>,
}

/// How an instance is started again after a crash.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RestartSettings {
    /// Restarts within `within` before it is given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_restarts: Option<NonZeroU32>,
    /// The time in which restarts count, 1 s to a day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<Time<1_000, 86_400_000>>,
    /// Restarts within an hour before it is given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_hour: Option<NonZeroU32>,
    /// Pause before the first restart, up to a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause: Option<Time<0, 60_000>>,
    /// The longest of these pauses, up to an hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longest_pause: Option<Time<0, 3_600_000>>,
}

/// A number of replicas.
pub type Replicas = Count<1, { limits::REPLICAS as u64 }>;

/// Whether an idle instance is stopped until its next message: `{ idle = "10m" }`, or `false` where the
/// manifest says that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransientSetting {
    /// It keeps running.
    Off,
    /// It is, after that time.
    On(Transient),
}

impl Serialize for TransientSetting {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => to.serialize_bool(false),
            Self::On(transient) => transient.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for TransientSetting {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // Not an untagged enum, whose errors would not say what is wrong inside.
        struct Said;

        impl<'de> Visitor<'de> for Said {
            type Value = TransientSetting;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`false`, or a table with `idle`")
            }

            fn visit_bool<E: de::Error>(self, is_on: bool) -> Result<Self::Value, E> {
                match is_on {
                    false => Ok(TransientSetting::Off),
                    true => Err(E::invalid_value(Unexpected::Bool(true), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                Transient::deserialize(MapAccessDeserializer::new(map)).map(TransientSetting::On)
            }
        }
        from.deserialize_any(Said)
    }
}

/// How an update goes on, and when it is undone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct UpdateSettings {
    /// Most replicas that are not ready at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<NonZeroU32>,
    /// Crashes after which the version before comes back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback_restarts: Option<u32>,
    /// How long an update is watched, 1 s to a day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback_within: Option<Time<1_000, 86_400_000>>,
}

impl FirmwareSettings {
    /// Whether what is called `name` can be deployed with them.
    ///
    /// # Errors
    /// [`SettingsError::ApartFromItself`].
    pub fn check(&self, name: &Name) -> Result<(), SettingsError> {
        if self.apart.contains(name) {
            return Err(SettingsError::ApartFromItself { name: name.clone() });
        }
        Ok(())
    }

    /// The manifest of a package that would say all this itself, but for what no manifest has.
    #[must_use]
    pub fn over(&self, manifest: &Manifest) -> Manifest {
        let mut manifest = manifest.clone();
        let Self {
            labels: _,
            nodes: _,
            apart: _,
            replicas: _,
            limits,
            restart,
            health,
            update,
            transient,
        } = self;
        lay(&mut manifest.limits.memory, &limits.memory);
        lay(&mut manifest.limits.message_time, &limits.message_time);
        lay(&mut manifest.restart.max_restarts, &restart.max_restarts);
        lay(&mut manifest.restart.within, &restart.within);
        lay(&mut manifest.restart.per_hour, &restart.per_hour);
        lay(&mut manifest.restart.pause, &restart.pause);
        lay(&mut manifest.restart.longest_pause, &restart.longest_pause);
        lay(&mut manifest.health.boot_time, &health.boot_time);
        lay(&mut manifest.health.cpu, &health.cpu);
        lay(&mut manifest.health.memory, &health.memory);
        lay(&mut manifest.health.liveness, &health.liveness);
        let of_update = &mut manifest.update;
        of_update.max_unavailable = update.max_unavailable.unwrap_or(of_update.max_unavailable);
        of_update.rollback_restarts =
            update.rollback_restarts.unwrap_or(of_update.rollback_restarts);
        of_update.rollback_within = update.rollback_within.unwrap_or(of_update.rollback_within);
        match transient {
            Some(TransientSetting::On(said)) => manifest.transient = Some(said.clone()),
            Some(TransientSetting::Off) => manifest.transient = None,
            None => {}
        }
        manifest
    }
}

/// What is said goes before what was there.
fn lay<T: Clone>(there: &mut Option<T>, said: &Option<T>) {
    if said.is_some() {
        there.clone_from(said);
    }
}

/// Body of `POST /v1/firmware/{name}/apply`: what is to be deployed, without the package itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplyBody {
    /// The content of the package's file.
    #[serde(with = "text")]
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// The manifest in it. Tells what would change while the cluster does not have the package.
    pub manifest: String,
    /// What is said beside it.
    #[serde(default)]
    pub settings: FirmwareSettings,
    /// Whether only to tell what would change.
    #[serde(default)]
    pub dry_run: bool,
}

/// Answer of `POST /v1/firmware/{name}/apply`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The firmware.
    pub name: Name,
    /// What changes by it.
    pub change: Change,
    /// Which settings are others than before; none when it is created.
    pub differences: Vec<Difference>,
    /// Whether the cluster does not have the package: nothing was changed then, and
    /// `PUT /v1/firmware/{name}` with the package and the settings brings both.
    pub package_needed: bool,
    /// Whether it was only to be told.
    pub dry_run: bool,
    /// The package.
    #[serde(with = "text")]
    pub digest: Digest,
    /// Where it is placed, if that is decided.
    pub node: Option<NodeId>,
    /// Under which activation.
    pub epoch: Option<Epoch>,
}

/// What applying something changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Nothing had that name.
    Created,
    /// It has another package or other settings.
    Updated,
    /// It is as it was, and goes on undisturbed.
    Unchanged,
}

super::displayed_as_in_json! {
    Change { Created => "created", Updated => "updated", Unchanged => "unchanged" }
}

/// A setting that is another one than before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Its key in a file for `odeum apply`, or `package`.
    pub key: String,
    /// What it was; `None` when there was nothing.
    pub from: Option<String>,
    /// What it is; `None` when there is nothing any more.
    pub to: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let text = "name = 'x'\nversion = '1.0.0'\n[limits]\nmemory = '1 MiB'\n\
                    [restart]\npause = '20s'\n[update]\nrollback-restarts = 7\n";
        Manifest::parse(text.as_bytes()).expect("a manifest")
    }

    #[test]
    fn what_is_said_goes_before_the_manifest_and_the_rest_stays() {
        assert_eq!(FirmwareSettings::default().over(&manifest()), manifest());
        let json = r#"{"limits": {"memory": "2 MiB"}, "restart": {"max-restarts": 3},
                       "transient": {"idle": "1m"}, "health": {"boot-time": "5s"}}"#;
        let settings: FirmwareSettings = serde_json::from_str(json).expect("settings");
        let over = settings.over(&manifest());
        assert_eq!(over.limits.memory.expect("said").bytes(), 2 << 20);
        assert_eq!(over.restart.pause, manifest().restart.pause);
        assert_eq!(over.restart.max_restarts, NonZeroU32::new(3));
        assert_eq!(over.update, manifest().update);
        assert!(over.transient.is_some() && over.health.boot_time.is_some());
    }

    #[test]
    fn what_the_manifest_says_of_idling_can_be_switched_off_and_on() {
        let text = "name = 'x'\nversion = '1.0.0'\n[transient]\nidle = '1m'\n";
        let manifest = Manifest::parse(text.as_bytes()).expect("a manifest");
        let over = |json: &str| {
            let settings = serde_json::from_str::<FirmwareSettings>(json);
            let settings = settings.map_err(|error| error.to_string())?;
            let again = serde_json::to_string(&settings).expect("serializes");
            assert_eq!(serde_json::from_str::<FirmwareSettings>(&again).expect("reads"), settings);
            Ok::<_, String>(
                settings.over(&manifest).transient.map(|it| it.idle.duration().as_secs()),
            )
        };
        assert_eq!(over("{}"), Ok(Some(60)));
        assert_eq!(over(r#"{"transient": false}"#), Ok(None));
        assert_eq!(over(r#"{"transient": {"idle": "2m"}}"#), Ok(Some(120)));
        let error = over(r#"{"transient": true}"#).expect_err("means nothing");
        assert!(error.contains("expected `false`, or a table with `idle`"), "{error}");
        let error = over(r#"{"transient": {"idel": "2m"}}"#).expect_err("is refused");
        assert!(error.contains("unknown field `idel`"), "{error}");
    }

    #[test]
    fn where_it_may_be_reads_back_and_what_means_nothing_is_refused() {
        let read = |json: &str| {
            let settings = serde_json::from_str::<FirmwareSettings>(json);
            settings.map_err(|error| error.to_string())
        };
        let settings = read(r#"{"nodes": ["n3", "n1"], "apart": ["stock"]}"#).expect("settings");
        let text = serde_json::to_string(&settings).expect("serializes");
        assert!(text.contains(r#""nodes":["n1","n3"],"apart":["stock"]"#), "{text}");
        assert_eq!(read(&text), Ok(settings.clone()));
        assert_eq!(read(r#"{"apart": []}"#), Ok(FirmwareSettings::default()));
        let text = serde_json::to_string(&FirmwareSettings::default()).expect("serializes");
        assert!(!text.contains("nodes") && !text.contains("apart"), "{text}");
        for (json, why) in [
            (r#"{"nodes": []}"#, "`nodes` names none: name one, or leave the key out"),
            (r#"{"nodes": ["n 1"]}"#, "' ' cannot be in a node id"),
            (r#"{"nodes": "n1"}"#, "expected a sequence"),
            (r#"{"apart": ["Stock"]}"#, "'S' cannot be in a name"),
            (r#"{"apart": [""]}"#, "a name cannot be empty"),
        ] {
            let error = read(json).expect_err(json);
            assert!(error.contains(why), "{json}: {error}");
        }
        let name = |text: &str| text.parse::<Name>().expect("a name");
        assert_eq!(settings.check(&name("shop")), Ok(()));
        let error = settings.check(&name("stock")).expect_err("is refused").to_string();
        assert!(error.starts_with("`apart` of stock names stock itself"), "{error}");
    }

    #[test]
    fn settings_read_back_and_unknown_ones_are_refused() {
        let json = r#"{"labels": {"disk": "ssd"}, "update": {"rollback-within": "1m"}}"#;
        let settings: FirmwareSettings = serde_json::from_str(json).expect("settings");
        let text = serde_json::to_string(&settings).expect("serializes");
        assert_eq!(serde_json::from_str::<FirmwareSettings>(&text).expect("reads back"), settings);
        let error = serde_json::from_str::<FirmwareSettings>(r#"{"limits": {"memroy": "1 MiB"}}"#);
        assert!(error.is_err());
    }
}
