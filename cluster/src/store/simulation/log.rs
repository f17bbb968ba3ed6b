//! The log alone, on a disk that loses its power again and again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use odeum_proto::GroupId;
use odeum_proto::log::{Change, Entry, LogId, Payload, Record, Vote};

use super::disk::{Make, SimDisk};
use crate::store::disk::Disk;
use crate::store::seeds::{Random, from_each_seed};
use crate::store::wal::{GroupLog, Wal};

const SEEDS: u64 = 300;

/// Starts of the process on the same disk.
const LIVES: usize = 6;

const GROUPS: [GroupId; 2] = [GroupId::Control, GroupId::Data(0)];

/// What is known of one group: from what was reported as done to what was written.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    /// The index that the next entry has.
    next: (u64, u64),
    /// The term of the vote.
    term: (u64, u64),
    /// The first index that is not purged; nobody waits for a purge.
    first: u64,
}

type Model = Arc<Mutex<BTreeMap<GroupId, Known>>>;

fn record(group: GroupId, change: Change) -> Record {
    Record { group, change }
}

fn log_id(index: u64) -> LogId {
    LogId { term: 1, index }
}

/// A life of the process: it writes, and ends in the midst of it.
async fn live(disk: &SimDisk, model: &Model, random: &mut Random) {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let (wal, found) = match Wal::open_on(&shared, &shared.log_in("/wal".into())) {
        Ok(opened) => opened,
        Err(error) => {
            assert!(disk.is_off(), "it does not open: {error}");
            return;
        }
    };
    check(&found, model);
    for _ in 0..random.within(1..60) {
        let group = random.pick(&GROUPS);
        match random.below(8) {
            0..=4 => append(&wal, group, model, random).await,
            5 => vote(&wal, group, model).await,
            6 => purge(&wal, group, model, random).await,
            _ => tokio::time::sleep(Duration::from_millis(random.below(30))).await,
        }
    }
}

async fn append(wal: &Wal, group: GroupId, model: &Model, random: &mut Random) {
    let records: Vec<Record> = {
        let mut model = model.lock().expect("not poisoned");
        let known = model.entry(group).or_default();
        let first = known.next.1;
        known.next.1 += random.within(1..12);
        let entry = |index| Entry { id: log_id(index), payload: Payload::Blank };
        (first..known.next.1).map(|index| record(group, Change::Entry(entry(index)))).collect()
    };
    let (model, next) = (Arc::clone(model), model.lock().expect("not poisoned")[&group].next.1);
    let done = Box::new(move |done: std::io::Result<()>| {
        if done.is_ok() {
            let mut model = model.lock().expect("not poisoned");
            let known = model.entry(group).or_default();
            known.next.0 = known.next.0.max(next);
        }
    });
    wal.write(records, done).await;
}

async fn vote(wal: &Wal, group: GroupId, model: &Model) {
    let term = {
        let mut model = model.lock().expect("not poisoned");
        let known = model.entry(group).or_default();
        known.term.1 += 1;
        known.term.1
    };
    let vote = Vote { term, voted_for: "n1".parse().expect("valid"), committed: false };
    if wal.write_and_wait(vec![record(group, Change::Vote(vote))]).await.is_ok() {
        model.lock().expect("not poisoned").entry(group).or_default().term.0 = term;
    }
}

/// Purges some of what is surely there, as a snapshot lets a group do.
async fn purge(wal: &Wal, group: GroupId, model: &Model, random: &mut Random) {
    let upto = {
        let mut model = model.lock().expect("not poisoned");
        let known = model.entry(group).or_default();
        if known.next.0 <= known.first {
            return;
        }
        known.first += 1 + random.below(known.next.0 - known.first);
        known.first - 1
    };
    wal.write_lazily(vec![record(group, Change::Purge(log_id(upto)))]).await;
}

/// What was reported as done is there, and nothing that was not written.
fn check(found: &BTreeMap<GroupId, GroupLog>, model: &Model) {
    let nothing = GroupLog::default();
    for (group, known) in model.lock().expect("not poisoned").iter_mut() {
        let log = found.get(group).unwrap_or(&nothing);
        let next = log.last_index().map_or(0, |last| last + 1);
        let term = log.vote.as_ref().map_or(0, |vote| vote.term);
        let first = log.purged.map_or(0, |purged| purged.index + 1);
        assert!((known.next.0..=known.next.1).contains(&next), "{group} ends at {next}: {known:?}");
        assert!((known.term.0..=known.term.1).contains(&term), "{group} voted {term}: {known:?}");
        assert!(first <= known.first, "{group} begins at {first}: {known:?}");
        assert!(log.entries.iter().map(|entry| entry.id.index).eq(first..next), "{group}: a gap");
        // What was found is relied on from now on.
        *known = Known { next: (next, next), term: (term, term), first };
    }
    let known: BTreeSet<_> = model.lock().expect("not poisoned").keys().copied().collect();
    assert!(found.keys().all(|group| known.contains(group)));
}

fn history(seed: u64) {
    let mut random = Random::new(seed);
    let make = Make {
        flush: Duration::from_millis(random.pick(&[0, 5])),
        segment_bytes: random.pick(&[1_024, 4_096]),
    };
    let disk = SimDisk::new(make, Random::new(random.next()));
    let model = Model::default();
    for _ in 0..LIVES {
        if random.percent(50) {
            disk.lose_power_after(random.below(12));
        }
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().expect("built");
        runtime.block_on(live(&disk, &model, &mut random));
        drop(runtime);
        if disk.is_off() || random.percent(50) { disk.lose_power() } else { disk.lose_process() }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    disk.keep_power();
    // Looks at what there is first.
    runtime.expect("built").block_on(live(&disk, &model, &mut random));
}

#[test]
fn what_was_reported_as_done_is_there_whenever_the_power_goes() {
    let test = "store::simulation::log::what_was_reported_as_done_is_there_whenever_the_power_goes";
    from_each_seed(test, SEEDS, history);
}
