//! Watchers: each follows all changes of a group, now at this node, now at that, from the revision
//! on that it has seen.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::cluster::MEMBERS;
use super::link::Told;
use super::scene::Scene;
use super::streams::WATCHERS;
use super::ttl;
use super::wire::{GROUPS, Seen, What};
use crate::check::findings::Finding;

/// How long a watcher waits before it looks for another node when one is down.
const REST: Duration = Duration::from_millis(100);

/// Starts all watchers; they go on until they are dropped.
pub(super) fn start(scene: &Arc<Scene>, seed: u64) -> JoinSet<()> {
    let mut watchers = JoinSet::new();
    for watcher in 0..WATCHERS {
        for group in 0..GROUPS {
            let number = u64::from(group) + 100 * (watcher as u64 + 1);
            let rng = StdRng::seed_from_u64(seed ^ number);
            watchers.spawn(watch(Arc::clone(scene), watcher, group, rng));
        }
    }
    watchers
}

async fn watch(scene: Arc<Scene>, watcher: usize, group: u16, mut rng: StdRng) {
    let mut seen = 0;
    let mut place = watcher;
    loop {
        let watching = scene.ways.to(place % MEMBERS).and_then(|way| way.watch(group, seen));
        let until = Instant::now() + Duration::from_millis(rng.random_range(2_000..12_000));
        if let Some(mut watching) = watching {
            while let Ok(Some(told)) = timeout_at(until, watching.next()).await {
                match told {
                    Told::Changes(changes) => {
                        seen = changes.last().map_or(seen, |last| last.revision);
                        scene.findings.unless_ok(pass_on(&scene, watcher, group, changes));
                    }
                    Told::Lapsed => {
                        scene.findings.add(Finding::new(format!(
                            "watcher {watcher} of data-{group}, which had seen {seen}, was told \
                             that changes behind it are forgotten"
                        )));
                        return;
                    }
                }
            }
        }
        place = rng.random_range(0..MEMBERS);
        sleep(REST).await;
    }
}

fn pass_on(scene: &Scene, watcher: usize, group: u16, changes: Vec<Seen>) -> Result<(), Finding> {
    let now = scene.now();
    let new = scene.streams().told(watcher, group, changes, scene.keys.unwritten())?;
    let expired = new.iter().filter(|change| change.what == What::Expired);
    for change in expired {
        if !change.session.starts_with(ttl::PREFIX) {
            return Err(Finding::new(format!("it has no time to live and is over: {change:?}")));
        }
        scene.leases().gone(&change.session, now)?;
    }
    Ok(())
}
