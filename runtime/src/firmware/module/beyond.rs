//! What a manifest asks for that nothing here would see to. A guest that relies on it must not find
//! that out by itself.

use crate::package::manifest::{Abi, Capabilities, Durability, Manifest, Mqtt};

/// Those whose imports are functions and nothing else. A component's are found by versions that fit, and
/// a stand-in would hide those.
const OF_CORE: &[Abi] = &[Abi::ActorCore, Abi::WasiCommand, Abi::WasiReactor, Abi::Firmlet];

/// Those with the arguments, the environment, the files and the sockets of WASI.
const OF_WASI: &[Abi] =
    &[Abi::WasiCommand, Abi::WasiReactor, Abi::WasiCli, Abi::WasiHttp, Abi::Actor];

/// Those that are given the values of `[environment]`, by WASI or by `config`.
const OF_CONFIG: &[Abi] =
    &[Abi::WasiCommand, Abi::WasiReactor, Abi::WasiCli, Abi::WasiHttp, Abi::Actor, Abi::ActorCore];

/// Those that may read clocks and random numbers.
const OF_MACHINE: &[Abi] = &[
    Abi::WasiCommand,
    Abi::WasiReactor,
    Abi::WasiCli,
    Abi::WasiHttp,
    Abi::Actor,
    Abi::ActorCore,
    Abi::Firmlet,
];

/// Those that have an instance which waits for messages, and whose memory is known between them.
const OF_MESSAGES: &[Abi] = &[Abi::ActorCore, Abi::Actor, Abi::WasiReactor, Abi::Firmlet];

/// Those that write to sessions, and tell others.
const OF_SESSIONS: &[Abi] = &[Abi::ActorCore, Abi::Actor, Abi::WasiReactor];

/// Those that run until they are ended.
const OF_TIME: &[Abi] =
    &[Abi::ActorCore, Abi::Actor, Abi::WasiReactor, Abi::Firmlet, Abi::WasiHttp];

/// The first key that nothing acts on for a guest of that ABI.
pub(in crate::firmware) fn beyond(manifest: &Manifest, abi: Abi) -> Option<&'static str> {
    let usual = Manifest::new(manifest.name.clone(), manifest.version.clone());
    let Capabilities {
        folders,
        environment,
        clock,
        random,
        sockets,
        http,
        messages,
        publish,
        subscribe,
        mqtt,
    } = &manifest.capabilities;
    let path = manifest.health.liveness.as_ref().and_then(|it| it.path.as_ref());
    let is_checkpointed = manifest.durability == Durability::Checkpointed;
    let has_checkpoints = if is_checkpointed { OF_SESSIONS } else { &[] };
    let asked: &[(&str, bool, &[Abi])] = &[
        ("missing-imports", manifest.missing_imports != usual.missing_imports, OF_CORE),
        ("args", manifest.args != usual.args, OF_WASI),
        ("environment", manifest.environment != usual.environment, OF_CONFIG),
        ("capabilities.folders", !folders.is_empty(), OF_WASI),
        ("capabilities.environment", !environment.is_empty(), OF_WASI),
        ("capabilities.clock", *clock, OF_MACHINE),
        ("capabilities.random", *random, OF_MACHINE),
        ("capabilities.sockets", !sockets.is_empty(), OF_WASI),
        ("capabilities.http", !http.is_empty(), &[Abi::WasiCli, Abi::WasiHttp]),
        ("capabilities.messages", !messages.is_empty(), OF_SESSIONS),
        ("capabilities.publish", !publish.is_empty(), OF_SESSIONS),
        ("capabilities.subscribe", !subscribe.is_empty(), OF_SESSIONS),
        ("capabilities.mqtt", *mqtt != Mqtt::default(), &[Abi::Firmlet]),
        ("durability", manifest.durability != usual.durability, OF_SESSIONS),
        ("checkpoint", manifest.checkpoint != usual.checkpoint, has_checkpoints),
        ("health.memory", manifest.health.memory.is_some(), OF_MESSAGES),
        ("health.liveness", manifest.health.liveness.is_some(), OF_TIME),
        ("health.liveness.path", path.is_some(), &[Abi::WasiHttp]),
        ("transient", manifest.transient.is_some(), OF_MESSAGES),
    ];
    let is_beyond = |(_, is_asked, by): &&(&str, bool, &[Abi])| *is_asked && !by.contains(&abi);
    asked.iter().find(is_beyond).map(|(key, ..)| *key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(lines: &str) -> Manifest {
        let text = format!("name = 'guest'\nversion = '1.0.0'\n{lines}");
        Manifest::parse(text.as_bytes()).expect("a manifest")
    }

    #[test]
    fn what_an_abi_does_not_have_is_named_and_what_it_has_is_not() {
        for (lines, has, lacks) in [
            ("missing-imports = 'trap'", Abi::WasiReactor, Some(Abi::WasiHttp)),
            ("args = ['-v']", Abi::WasiCommand, Some(Abi::Firmlet)),
            ("[environment]\nKEY = 'value'", Abi::Actor, Some(Abi::Firmlet)),
            ("[environment]\nKEY = 'value'", Abi::ActorCore, None),
            ("[capabilities]\nenvironment = ['KEY']", Abi::Actor, Some(Abi::ActorCore)),
            ("[capabilities]\nclock = true\nrandom = true", Abi::ActorCore, None),
            ("[capabilities]\nhttp = ['example.org']", Abi::WasiHttp, Some(Abi::WasiCommand)),
            ("[capabilities]\npublish = ['a']", Abi::Actor, Some(Abi::WasiHttp)),
            ("[capabilities]\nmessages = ['a']", Abi::ActorCore, Some(Abi::Firmlet)),
            ("[capabilities]\nsubscribe = ['a']", Abi::WasiReactor, Some(Abi::WasiCli)),
            ("[capabilities.mqtt]\npublish = ['a']", Abi::Firmlet, Some(Abi::Actor)),
            ("[restart]\nwhen = 'never'", Abi::WasiCommand, None),
            ("[limits]\nfuel = 9", Abi::ActorCore, None),
            ("[transient]\nidle = '1s'", Abi::ActorCore, Some(Abi::WasiHttp)),
            ("isolation = 'process'", Abi::Firmlet, None),
            ("[update]\nmax-unavailable = 2", Abi::WasiHttp, None),
            ("[health]\nliveness = { interval = '1s' }", Abi::Firmlet, Some(Abi::WasiCli)),
            ("[health.memory]\nabove = '9 B'\nlasting = '1s'", Abi::Firmlet, Some(Abi::WasiHttp)),
            ("[health.memory]\nabove = '9 B'\nlasting = '1s'", Abi::Actor, Some(Abi::WasiCli)),
            (
                "[health.memory]\nabove = '9 B'\nlasting = '1s'",
                Abi::ActorCore,
                Some(Abi::WasiCommand),
            ),
            ("[health.liveness]\ninterval = '1s'\npath = '/'", Abi::WasiHttp, Some(Abi::ActorCore)),
            ("durability = 'volatile'", Abi::ActorCore, Some(Abi::Firmlet)),
            (
                "durability = 'checkpointed'\n[checkpoint]\nmessages = 9",
                Abi::WasiReactor,
                Some(Abi::WasiHttp),
            ),
        ] {
            let manifest = manifest(lines);
            assert_eq!(beyond(&manifest, has), None, "{lines}");
            if let Some(lacks) = lacks {
                let key = beyond(&manifest, lacks).expect("it is named");
                let leaf = key.rsplit('.').next().expect("a word");
                assert!(lines.contains(leaf), "{lines}: {key}");
            }
        }
    }
}
