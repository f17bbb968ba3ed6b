//! Deploys what is not deployed so already.

use odeum_proto::{EntityId, Name, chronicle::What, store::FirmwareSpec};

use super::{NodeFacade, blob_problem, policy};
use crate::{
    api::{
        Deployment, Problem,
        types::{Applied, ApplyBody, Change, Difference},
    },
    package::manifest::Manifest,
};

impl NodeFacade {
    pub(super) async fn apply(&self, name: Name, body: ApplyBody) -> Result<Applied, Problem> {
        let ApplyBody { digest, size, manifest, settings, dry_run } = body;
        let bad = |reason: String| Problem::BadRequest { reason: reason.into() };
        let manifest =
            Manifest::parse(manifest.as_bytes()).map_err(|error| bad(error.to_string()))?;
        settings.check(&name).map_err(|error| bad(error.to_string()))?;
        self.fresh().await?;
        let replicas = self.replicas(&name);
        let said = policy::Said { name: &name, digest, size, replicas, settings: &settings };
        let spec = policy::spec(said, &manifest, &self.defaults);
        let present = self.store.view(|state| state.firmware().get(&name).cloned());
        let (change, differences) = compared(present.as_deref(), &spec);
        let is_here = self.blobs.stat(digest).is_some();
        let mut applied = Applied {
            name: name.clone(),
            change,
            differences,
            package_needed: change != Change::Unchanged && !is_here,
            dry_run,
            digest,
            node: None,
            epoch: None,
        };
        if change != Change::Unchanged && is_here && !dry_run {
            let package = self.blobs.get_keeping_copy(digest).await;
            let package = package.map_err(|error| blob_problem(&error))?;
            // What the package itself says counts, which is what was said if who said it was right.
            self.deploy(Deployment { name: name.clone(), package, settings }).await?;
        }
        let entity = EntityId::firmware(name);
        let placement = self.store.view(|state| state.placements().get(&entity).cloned());
        applied.epoch = placement.as_ref().map(|at| at.epoch);
        applied.node = placement.map(|at| at.node);
        Ok(applied)
    }
}

/// Most settings that an event names. The list is for people, and has an end.
const KEYS: usize = 16;

/// What is done by deploying `spec` where `present` is, in the words of events.
pub(super) fn deed(present: Option<&FirmwareSpec>, spec: &FirmwareSpec) -> What {
    let digest = spec.digest;
    match present {
        Some(present) if present.digest == digest && present != spec => {
            let (_, differences) = compared(Some(present), spec);
            What::Configured { keys: differences.into_iter().map(|it| it.key).take(KEYS).collect() }
        }
        _ => What::Deployed { digest },
    }
}

/// What is another than before.
fn compared(present: Option<&FirmwareSpec>, spec: &FirmwareSpec) -> (Change, Vec<Difference>) {
    let Some(present) = present else { return (Change::Created, Vec::new()) };
    if present == spec {
        return (Change::Unchanged, Vec::new());
    }
    let (mut before, mut after) = (policy::in_force(present), policy::in_force(spec));
    before.insert("package".to_owned(), present.digest.to_string());
    after.insert("package".to_owned(), spec.digest.to_string());
    let keys: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let difference = |key: &String| {
        let (from, to) = (before.get(key).cloned(), after.get(key).cloned());
        (from != to).then(|| Difference { key: key.clone(), from, to })
    };
    (Change::Updated, keys.into_iter().filter_map(difference).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use odeum_proto::{
        Digest,
        store::{FirmwareLimits, FirmwarePolicy},
    };

    use super::*;

    fn spec(content: &[u8], memory_bytes: u64) -> FirmwareSpec {
        FirmwareSpec {
            name: "x".parse().expect("a name"),
            digest: Digest::of(content),
            size: 1,
            limits: FirmwareLimits { memory_bytes, message_time: Duration::from_secs(1) },
            policy: FirmwarePolicy::default(),
            replicas: 1,
        }
    }

    #[test]
    fn only_what_is_another_than_before_is_a_difference() {
        let one = spec(b"a", 1 << 20);
        assert_eq!(compared(None, &one).0, Change::Created);
        assert_eq!(compared(Some(&one), &one), (Change::Unchanged, vec![]));
        let keys = |other: &FirmwareSpec| {
            let (change, differences) = compared(Some(&one), other);
            assert_eq!(change, Change::Updated);
            differences.into_iter().map(|it| it.key).collect::<Vec<_>>()
        };
        assert_eq!(keys(&spec(b"a", 2 << 20)), ["limits.memory"]);
        let configured = What::Configured { keys: vec!["limits.memory".to_owned()] };
        assert_eq!(deed(Some(&one), &spec(b"a", 2 << 20)), configured);
        for (present, spec) in
            [(None, one.clone()), (Some(&one), one.clone()), (Some(&one), spec(b"b", 2 << 20))]
        {
            assert_eq!(deed(present, &spec), What::Deployed { digest: spec.digest });
        }
        assert_eq!(keys(&spec(b"b", 2 << 20)), ["limits.memory", "package"]);
        let mut labelled = one.clone();
        let label = |text: &str| text.parse().expect("a label");
        labelled.policy.labels.insert(label("disk"), label("ssd"));
        let (_, differences) = compared(Some(&one), &labelled);
        let expected =
            Difference { key: "labels.disk".to_owned(), from: None, to: Some("ssd".to_owned()) };
        assert_eq!(differences, [expected]);
    }
}
