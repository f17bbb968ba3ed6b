//! What becomes of a firmware over time: what its manifest says, and of the rest what the node does
//! that it is deployed through.

mod words;

use odeum_proto::{
    Digest, Name,
    store::{
        FirmwareLimits, FirmwarePolicy, FirmwareSpec, Liveness, Measure, RestartBudget,
        RollbackBudget, Threshold,
    },
};

use crate::{
    api::types::FirmwareSettings,
    config::FirmwareConfig,
    package::manifest::{Health, LivenessCheck, Manifest, Restart, Update},
};

pub(super) use words::{in_force, words};

/// What is said of a deployment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said<'a> {
    /// Under which name.
    pub(super) name: &'a Name,
    /// The package.
    pub(super) digest: Digest,
    /// Its length in bytes.
    pub(super) size: u64,
    /// How many replicas it has already; 1 when it is new.
    pub(super) replicas: u32,
    /// What is said beside its manifest.
    pub(super) settings: &'a FirmwareSettings,
}

/// What is deployed. Who deploys it knows better than who built it, and either knows better than the
/// node.
pub(super) fn spec(said: Said<'_>, manifest: &Manifest, config: &FirmwareConfig) -> FirmwareSpec {
    let Said { name, digest, size, replicas, settings } = said;
    let manifest = settings.over(manifest);
    let memory = manifest.limits.memory.map(|memory| memory.bytes());
    let message_time = manifest.limits.message_time.map(|time| time.duration());
    let limits = FirmwareLimits {
        memory_bytes: memory.unwrap_or(config.memory.0),
        message_time: message_time.unwrap_or(config.message_time.0),
    };
    let policy = FirmwarePolicy {
        labels: settings.labels.clone(),
        nodes: settings.nodes.clone().map(Into::into).unwrap_or_default(),
        apart: settings.apart.clone(),
        ..policy(&manifest, config)
    };
    let said = settings.replicas.and_then(|it| u32::try_from(it.number()).ok());
    let replicas = said.unwrap_or(replicas);
    FirmwareSpec { name: name.clone(), digest, size, limits, policy, replicas }
}

/// The policy of a firmware with that manifest.
fn policy(manifest: &Manifest, config: &FirmwareConfig) -> FirmwarePolicy {
    let usual = FirmwarePolicy::default();
    let Update { max_unavailable, rollback_restarts, rollback_within } = &manifest.update;
    let boot_time = manifest.health.boot_time.map_or(usual.boot_time, |time| time.duration());
    FirmwarePolicy {
        restarts: restarts(&manifest.restart, config),
        boot_time,
        idle: manifest.transient.as_ref().map(|transient| transient.idle.duration()),
        rollback: RollbackBudget {
            crashes: *rollback_restarts,
            within: rollback_within.duration(),
        },
        thresholds: thresholds(&manifest.health),
        labels: usual.labels,
        max_unavailable: max_unavailable.get(),
        liveness: manifest.health.liveness.as_ref().map(liveness),
        nodes: usual.nodes,
        apart: usual.apart,
    }
}

fn restarts(restart: &Restart, config: &FirmwareConfig) -> RestartBudget {
    let Restart { when: _, max_restarts, within, per_hour, pause, longest_pause } = restart;
    let usual = RestartBudget::default();
    let first_pause = pause.map_or(config.restart_pause.0, |pause| pause.duration());
    let longest = longest_pause.map_or(config.longest_restart_pause.0, |pause| pause.duration());
    RestartBudget {
        first_pause,
        // A first one that is longer was meant.
        longest_pause: longest.max(first_pause),
        max_restarts: max_restarts.unwrap_or(config.max_restarts).get(),
        within: within.map_or(usual.within, |within| within.duration()),
        per_hour: per_hour.unwrap_or(config.max_restarts_per_hour).get(),
    }
}

fn liveness(check: &LivenessCheck) -> Liveness {
    Liveness {
        interval: check.interval.duration(),
        timeout: check.timeout.duration(),
        failures: check.failures.get(),
        path: check.path.as_ref().map(|path| path.as_str().to_owned()),
    }
}

fn thresholds(health: &Health) -> Vec<Threshold> {
    let cpu = health.cpu.as_ref().map(|it| Threshold {
        of: Measure::Cpu,
        above: it.above.number(),
        lasting: it.lasting.duration(),
        then: it.then.into(),
    });
    let memory = health.memory.as_ref().map(|it| Threshold {
        of: Measure::Memory,
        above: it.above.bytes(),
        lasting: it.lasting.duration(),
        then: it.then.into(),
    });
    cpu.into_iter().chain(memory).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use odeum_proto::store::Remedy;

    use super::*;

    fn of(lines: &str) -> FirmwarePolicy {
        let text = format!("name = 'guest'\nversion = '1.0.0'\n{lines}");
        let manifest = Manifest::parse(text.as_bytes()).expect("a manifest");
        policy(&manifest, &FirmwareConfig::default())
    }

    #[test]
    fn a_manifest_that_says_nothing_gets_what_the_node_does() {
        assert_eq!(of(""), FirmwarePolicy::default());
    }

    #[test]
    fn what_a_manifest_says_goes_before() {
        let policy = of("[restart]\npause = '20s'\nper-hour = 3\nmax-restarts = 2\nwithin = '10s'
            [transient]\nidle = '1m'
            [update]\nrollback-restarts = 1\nrollback-within = '1m'
            [health]\nboot-time = '5s'\ncpu = { above = 90, lasting = '30s', then = 'restart' }
            memory = { above = '1 MiB', lasting = '0ms' }
            liveness = { interval = '10s', path = '/healthz' }");
        let second = Duration::from_secs(1);
        assert_eq!(
            policy.restarts,
            RestartBudget {
                first_pause: 20 * second,
                longest_pause: 20 * second,
                max_restarts: 2,
                within: 10 * second,
                per_hour: 3,
            }
        );
        assert_eq!((policy.boot_time, policy.idle), (5 * second, Some(60 * second)));
        assert_eq!(policy.rollback, RollbackBudget { crashes: 1, within: 60 * second });
        let [cpu, memory] = &policy.thresholds[..] else { panic!("{:?}", policy.thresholds) };
        assert_eq!((cpu.of, cpu.above, cpu.then), (Measure::Cpu, 90, Remedy::Restart));
        assert_eq!((memory.of, memory.above), (Measure::Memory, 1 << 20));
        let liveness = policy.liveness.expect("it is said");
        assert_eq!((liveness.interval, liveness.timeout), (10 * second, second));
        assert_eq!((liveness.failures, liveness.path.as_deref()), (3, Some("/healthz")));
    }
}
