//! A policy as people read it: by its keys, and in words.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use odeum_proto::store::{FirmwareSpec, Liveness, Measure, Remedy, Threshold};

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
        ("replicas", spec.replicas.to_string()),
        ("update.max-unavailable", policy.max_unavailable.to_string()),
        ("update.rollback-restarts", rollback.crashes.to_string()),
        ("update.rollback-within", time(rollback.within)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    all.extend(policy.idle.map(|idle| ("transient.idle".to_owned(), time(idle))));
    if let Some(liveness) = &policy.liveness {
        let Liveness { interval, timeout, failures, path } = liveness;
        let of = path.as_ref().map(|path| format!("{path} ")).unwrap_or_default();
        let (interval, timeout) = (time(*interval), time(*timeout));
        let value = format!("{of}every {interval}, within {timeout}: {failures} failures");
        all.push(("health.liveness".to_owned(), value));
    }
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
    let names = [("nodes", listed(&policy.nodes)), ("apart", listed(&policy.apart))];
    let said = names.into_iter().filter(|(_, value)| !value.is_empty());
    all.extend(said.map(|(key, value)| (key.to_owned(), value)));
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
    if spec.replicas > 1 {
        let (of, most) = (spec.replicas, policy.max_unavailable);
        let those = if most == 1 { "one".to_owned() } else { format!("{most} at most") };
        words.push(format!("of its {of} replicas an update has {those} not ready at a time"));
    }
    if let Some(liveness) = &policy.liveness {
        let (interval, timeout) = (time(liveness.interval), time(liveness.timeout));
        let how = match &liveness.path {
            Some(path) => format!("it is asked for {path}, and has to answer with 2xx"),
            None => "it is asked whether it is alive, and has to answer".to_owned(),
        };
        let failures = liveness.failures;
        words.push(format!(
            "every {interval} {how} within {timeout}; {failures} failures in a row are a crash"
        ));
    }
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
    if !policy.nodes.is_empty() {
        words.push(format!("it runs on {} only", listed(&policy.nodes)));
    }
    if !policy.apart.is_empty() {
        let apart = listed(&policy.apart);
        words.push(format!("it is not put beside {apart} while another node can have it"));
    }
    words
}

fn listed(names: &BTreeSet<impl ToString>) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
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
            nodes: ["n3", "n1"].map(|node| node.parse().expect("a name")).into(),
            apart: ["stock".parse().expect("a name")].into(),
            ..FirmwarePolicy::default()
        };
        let limits =
            FirmwareLimits { memory_bytes: 16 << 20, message_time: Duration::from_secs(1) };
        let name = "counter".parse().expect("a name");
        let spec =
            FirmwareSpec { name, digest: Digest::of(b"x"), size: 1, limits, policy, replicas: 1 };
        let keys = in_force(&spec);
        assert_eq!(keys["limits.memory"], "16 MiB");
        assert_eq!(keys["health.cpu"], "above 90 % of a core for 30s: restart");
        assert_eq!((keys["labels.disk"].as_str(), keys["transient.idle"].as_str()), ("ssd", "1m"));
        assert_eq!((keys["nodes"].as_str(), keys["apart"].as_str()), ("n1, n3", "stock"));
        let words = words(&spec);
        assert_eq!(words[0], "it may use 16 MiB of memory, and 1s for one message");
        assert_eq!(
            words[2],
            "it is given up after 12 restarts within 1m 30s, or 60 within an hour"
        );
        assert!(words.contains(
            &"when it computes above 90 % of a core for 30s, it is started anew".to_owned()
        ));
        let [.., labels, nodes, apart] = &words[..] else { panic!("{words:?}") };
        assert_eq!(labels, "it runs on nodes with disk=ssd only");
        assert_eq!(nodes, "it runs on n1, n3 only");
        assert_eq!(apart, "it is not put beside stock while another node can have it");
    }
}
