//! The log on real files: what was reported as done survives, what was not is cut, what is
//! damaged is named.

use std::fs;
use std::process::Command as Process;
use std::time::Duration;

use odeum_proto::log::{Change, Entry, LogId, Payload, Proposal, Vote};
use odeum_proto::session::DataAction;
use odeum_proto::store::Command;
use odeum_proto::{LogTime, codec};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const GROUPS: [GroupId; 3] = [GroupId::Control, GroupId::Data(0), GroupId::Data(1)];

fn config(dir: &TempDir, segment_bytes: u64) -> WalConfig {
    WalConfig { dir: dir.path().join("wal"), segment_bytes, ahead_bytes: 0, keep_segments: 4 }
}

fn entry(group: GroupId, index: u64) -> Record {
    entry_of_term(group, index, 1)
}

fn entry_of_term(group: GroupId, index: u64, term: u64) -> Record {
    let session = format!("f/{}", "x".repeat(index as usize % 50 + 1));
    let session = session.parse().expect("valid");
    let command = Command::Data(DataAction::DeleteSession { session }.into());
    let command = codec::encode(&command).expect("encodes").into();
    let payload = Payload::Command(Proposal { at: LogTime(index), command });
    Record { group, change: Change::Entry(Entry { id: LogId { term, index }, payload }) }
}

fn indices(log: &GroupLog) -> Vec<u64> {
    log.entries.iter().map(|entry| entry.id.index).collect()
}

fn newest_segment(dir: &Path) -> PathBuf {
    segment::path(dir, *segment::list(&System, dir).expect("listed").last().expect("one is there"))
}

async fn append(wal: &Wal, group: GroupId, indices: std::ops::Range<u64>) {
    for index in indices {
        wal.write_and_wait(vec![entry(group, index)]).await.expect("written");
    }
}

#[tokio::test]
async fn what_was_reported_as_done_is_there_after_reopening() {
    let dir = TempDir::new().expect("made");
    let config = config(&dir, 4096);
    let (wal, groups) = Wal::open(&config).expect("opens");
    assert!(groups.is_empty());
    for group in GROUPS {
        append(&wal, group, 0..40).await;
    }
    let vote = Vote { term: 3, voted_for: "n1".parse().expect("valid"), committed: true };
    let group = GROUPS[1];
    let changes = [
        Change::Vote(vote.clone()),
        Change::Truncate { from: 30 },
        Change::Committed(Some(LogId { term: 1, index: 29 })),
        Change::Purge(LogId { term: 1, index: 9 }),
    ];
    let records = changes.into_iter().map(|change| Record { group, change }).collect();
    wal.write_and_wait(records).await.expect("written");
    drop(wal);

    let (_wal, groups) = Wal::open(&config).expect("opens");
    assert_eq!(indices(&groups[&GROUPS[0]]), (0..40).collect::<Vec<_>>());
    let changed = &groups[&group];
    assert_eq!(indices(changed), (10..30).collect::<Vec<_>>());
    assert_eq!(changed.vote.as_ref(), Some(&vote));
    assert_eq!(changed.committed, Some(LogId { term: 1, index: 29 }));
    assert_eq!(changed.purged, Some(LogId { term: 1, index: 9 }));
}

#[tokio::test]
async fn a_segment_goes_when_every_group_has_purged_its_entries() {
    let dir = TempDir::new().expect("made");
    let config = config(&dir, 2048);
    let (wal, _) = Wal::open(&config).expect("opens");
    let vote = Vote { term: 7, voted_for: "n1".parse().expect("valid"), committed: false };
    let record = |group, change| vec![Record { group, change }];
    wal.write_and_wait(record(GROUPS[0], Change::Vote(vote.clone()))).await.expect("written");
    for index in 0..100 {
        for group in [GROUPS[0], GROUPS[1]] {
            wal.write_and_wait(vec![entry(group, index)]).await.expect("written");
        }
    }
    let before = segment::list(&System, &config.dir).expect("listed").len();
    assert!(before > 3);
    let purge = Change::Purge(LogId { term: 1, index: 99 });
    wal.write_and_wait(record(GROUPS[0], purge.clone())).await.expect("written");
    assert_eq!(segment::list(&System, &config.dir).expect("listed").len(), before);
    wal.write_and_wait(record(GROUPS[1], purge)).await.expect("written");
    drop(wal);
    assert_eq!(segment::list(&System, &config.dir).expect("listed").len(), 1);

    // What the removed segments said about votes and purges was carried on.
    let (wal, groups) = Wal::open(&config).expect("opens");
    assert_eq!(groups[&GROUPS[0]].vote.as_ref(), Some(&vote));
    append(&wal, GROUPS[0], 100..101).await;
    drop(wal);
    let (_wal, groups) = Wal::open(&config).expect("opens");
    assert_eq!(indices(&groups[&GROUPS[0]]), [100]);
}

#[tokio::test]
async fn a_log_cut_at_any_byte_of_its_tail_keeps_the_records_before_the_cut() {
    let dir = TempDir::new().expect("made");
    let written = config(&dir, 1 << 20);
    let (wal, _) = Wal::open(&written).expect("opens");
    let file = segment::path(&written.dir, 1);
    let mut ends = Vec::new();
    for index in 0..12 {
        append(&wal, GROUPS[0], index..index + 1).await;
        ends.push(fs::metadata(&file).expect("is there").len());
    }
    drop(wal);
    let bytes = fs::read(&file).expect("read");
    for cut in ends[5]..=ends[11] {
        let copy = TempDir::new().expect("made");
        let config = config(&copy, 1 << 20);
        fs::create_dir(&config.dir).expect("made");
        fs::write(segment::path(&config.dir, 1), &bytes[..cut as usize]).expect("written");
        let whole = ends.iter().filter(|&&end| end <= cut).count() as u64;
        let (wal, groups) = Wal::open(&config).expect("a torn tail is cut");
        assert_eq!(indices(&groups[&GROUPS[0]]), (0..whole).collect::<Vec<_>>());
        // The log goes on right there.
        append(&wal, GROUPS[0], whole..whole + 1).await;
        drop(wal);
        let (_, groups) = Wal::open(&config).expect("opens");
        assert_eq!(groups[&GROUPS[0]].entries.len() as u64, whole + 1);
    }
}

#[tokio::test]
async fn a_group_that_keeps_the_log_of_the_others_is_named_until_it_purges() {
    let dir = TempDir::new().expect("made");
    let config = WalConfig { keep_segments: 2, ..config(&dir, 2_048) };
    let (wal, _) = Wal::open(&config).expect("opens");
    append(&wal, GROUPS[0], 0..1).await;
    append(&wal, GROUPS[1], 0..200).await;
    let purge = |group, index| {
        let change = Change::Purge(LogId { term: 1, index });
        wal.write_and_wait(vec![Record { group, change }])
    };
    purge(GROUPS[1], 199).await.expect("written");
    // What a write came to is told before it is looked at.
    append(&wal, GROUPS[1], 200..201).await;
    assert!(segment::list(&System, &config.dir).expect("listed").len() > 3);
    assert_eq!((wal.pinned_by(GROUPS[0]), wal.pinned_by(GROUPS[1])), (Some(0), None));
    purge(GROUPS[0], 0).await.expect("written");
    append(&wal, GROUPS[1], 201..202).await;
    assert_eq!(wal.pinned_by(GROUPS[0]), None);
    assert!(segment::list(&System, &config.dir).expect("listed").len() < 3);
}

#[tokio::test]
async fn records_that_did_not_reach_the_zeros_ahead_of_them_are_a_torn_tail() {
    let dir = TempDir::new().expect("made");
    let written = WalConfig { ahead_bytes: 4_096, ..config(&dir, 1 << 20) };
    let (wal, _) = Wal::open(&written).expect("opens");
    append(&wal, GROUPS[0], 0..20).await;
    drop(wal);
    let bytes = fs::read(segment::path(&written.dir, 1)).expect("read");
    assert_eq!(bytes.len() % 4_096, 0, "it has grown by that much at a time");
    let scanned = frame::scan(&bytes, segment::HEADER, true).expect("whole");
    let starts: Vec<u64> = scanned.records.iter().map(|(at, _)| *at).collect();
    for cut in starts[18]..scanned.end {
        let copy = TempDir::new().expect("made");
        let config = WalConfig { ahead_bytes: 4_096, ..config(&copy, 1 << 20) };
        fs::create_dir(&config.dir).expect("made");
        let mut torn = bytes.clone();
        torn[cut as usize..].fill(0);
        fs::write(segment::path(&config.dir, 1), torn).expect("written");
        let whole = if cut < starts[19] { 18 } else { 19 };
        let (wal, groups) = Wal::open(&config).expect("a torn tail is cut");
        assert_eq!(indices(&groups[&GROUPS[0]]), (0..whole).collect::<Vec<_>>());
        append(&wal, GROUPS[0], whole..whole + 1).await;
        drop(wal);
        let (_, groups) = Wal::open(&config).expect("opens");
        assert_eq!(groups[&GROUPS[0]].entries.len() as u64, whole + 1);
    }
}

#[tokio::test]
async fn a_segment_that_was_only_begun_is_removed() {
    for left in [0, 5, segment::HEADER] {
        let dir = TempDir::new().expect("made");
        let config = config(&dir, 2048);
        let (wal, _) = Wal::open(&config).expect("opens");
        append(&wal, GROUPS[0], 0..60).await;
        drop(wal);
        let next = segment::list(&System, &config.dir).expect("listed").last().expect("one") + 1;
        fs::write(segment::path(&config.dir, next), vec![0; left]).expect("written");
        let (_wal, groups) = Wal::open(&config).expect("opens");
        assert_eq!(groups[&GROUPS[0]].entries.len(), 60);
    }
}

#[tokio::test]
async fn a_missing_segment_and_another_format_are_refused_by_name() {
    let dir = TempDir::new().expect("made");
    let config = config(&dir, 2048);
    let (wal, _) = Wal::open(&config).expect("opens");
    append(&wal, GROUPS[0], 0..100).await;
    drop(wal);
    let second = segment::path(&config.dir, 2);
    let bytes = fs::read(&second).expect("read");
    fs::remove_file(&second).expect("removed");
    let error = Wal::open(&config).expect_err("a file is missing");
    assert!(matches!(&error, WalError::Corrupt { file, .. } if *file == second), "{error}");

    let mut other = bytes;
    other[8] = 9;
    let crc = crc32fast::hash(&other[..20]).to_le_bytes();
    other[20..24].copy_from_slice(&crc);
    fs::write(&second, other).expect("written");
    let error = Wal::open(&config).expect_err("another format");
    assert!(matches!(&error, WalError::Version { found: 9, .. }), "{error}");
}

#[test]
fn a_flipped_bit_in_the_middle_is_refused_with_file_and_offset() {
    let runtime = tokio::runtime::Runtime::new().expect("starts");
    let dir = TempDir::new().expect("made");
    let written = config(&dir, 1200);
    runtime.block_on(async {
        let (wal, _) = Wal::open(&written).expect("opens");
        append(&wal, GROUPS[0], 0..60).await;
    });
    let numbers = segment::list(&System, &written.dir).expect("listed");
    assert!(numbers.len() >= 3);
    let newest = newest_segment(&written.dir);
    // The last record of the log has nothing behind it that proves it was synced.
    let last_frame = {
        let bytes = fs::read(&newest).expect("read");
        let scanned = frame::scan(&bytes, segment::HEADER, true).expect("whole");
        scanned.records.last().expect("one").0 as usize
    };
    proptest!(|(which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), bit in 0..8_u8)| {
        let number = *which.get(&numbers);
        let file = segment::path(&written.dir, number);
        let good = fs::read(&file).expect("read");
        let length = if file == newest { last_frame } else { good.len() };
        let mut bad = good.clone();
        let at = at.index(length);
        bad[at] ^= 1 << bit;
        fs::write(&file, &bad).expect("written");
        let result = Wal::open(&written);
        fs::write(&file, &good).expect("restored");
        match result {
            Err(WalError::Corrupt { file: named, offset, .. }) => {
                prop_assert_eq!(named, file);
                prop_assert!(offset as usize <= at, "offset {} is behind byte {}", offset, at);
            }
            other => prop_assert!(false, "not refused: {:?}", other.map(|(_, groups)| groups)),
        }
    });
}

/// A tmpfs of 64 KiB, unmounted at the end. Mounting needs root, which CI has.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let dir = TempDir::new().expect("made");
        let mut mount = Process::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(dir.path());
        mount.status().is_ok_and(|status| status.success()).then_some(Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Process::new("umount").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_stops_writes_and_they_go_on_when_there_is_space() {
    let Some(disk) = SmallDisk::mount() else {
        println!("skipped: a small disk can only be mounted by root");
        return;
    };
    let config = config(&disk.0, 16 << 10);
    let ballast = disk.0.path().join("ballast");
    fs::write(&ballast, vec![0; 32 << 10]).expect("fits");
    let (wal, _) = Wal::open(&config).expect("opens");
    let mut health = wal.health();
    let mut acknowledged = 0;
    let writing = async {
        for index in 0..600 {
            wal.write_and_wait(vec![entry(GROUPS[0], index)]).await.expect("written");
            acknowledged = index + 1;
        }
    };
    let filled = async {
        health.wait_for(|health| *health == Health::Full).await.expect("the writer runs");
    };
    let filled = tokio::time::timeout(Duration::from_secs(30), async {
        tokio::select! { () = writing => false, () = filled => true }
    });
    assert!(filled.await.expect("in time"), "the disk did not fill");

    // What is on the disk now is whole, and what was acknowledged is in it.
    let copy = TempDir::new().expect("made");
    let seen = WalConfig { dir: copy.path().to_owned(), ..config.clone() };
    for number in segment::list(&System, &config.dir).expect("listed") {
        fs::copy(segment::path(&config.dir, number), segment::path(&seen.dir, number))
            .expect("copied");
    }
    let (_seen, groups) = Wal::open(&seen).expect("nothing is damaged");
    assert!(groups[&GROUPS[0]].entries.len() as u64 >= acknowledged);

    fs::remove_file(&ballast).expect("removed");
    let goes_on = tokio::time::timeout(Duration::from_secs(30), async {
        // The write that waited when its asker went away is done first.
        let vote = Vote { term: 1, voted_for: "n1".parse().expect("valid"), committed: false };
        let record = Record { group: GROUPS[1], change: Change::Vote(vote) };
        wal.write_and_wait(vec![record]).await.expect("written");
    });
    goes_on.await.expect("in time");
    assert_eq!(*wal.health().borrow(), Health::Good);
    drop(wal);
    let (_wal, groups) = Wal::open(&config).expect("opens");
    assert!(groups[&GROUPS[0]].entries.len() as u64 >= acknowledged);
    assert!(groups[&GROUPS[1]].vote.is_some());
}

#[derive(Debug, Clone)]
enum Step {
    Append { group: usize, count: u64 },
    Truncate { group: usize, back: u64 },
    Purge { group: usize, on: u64 },
    Reopen,
}

/// Without the groups that nothing is known about.
fn known(mut groups: BTreeMap<GroupId, GroupLog>) -> BTreeMap<GroupId, GroupLog> {
    groups.retain(|_, log| *log != GroupLog::default());
    groups
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3_usize, 1..12_u64).prop_map(|(group, count)| Step::Append { group, count }),
        1 => (0..3_usize, 1..6_u64).prop_map(|(group, back)| Step::Truncate { group, back }),
        2 => (0..3_usize, 1..20_u64).prop_map(|(group, on)| Step::Purge { group, on }),
        2 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_log_replays_to_what_was_written(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Runtime::new().expect("starts");
        let dir = TempDir::new().expect("made");
        let config = WalConfig { ahead_bytes: 300, ..config(&dir, 1024) };
        let mut expected: BTreeMap<GroupId, GroupLog> = BTreeMap::new();
        let (mut wal, _) = Wal::open(&config).expect("opens");
        for (term, step) in (1..).zip(steps) {
            let records: Vec<Record> = match step {
                Step::Reopen => {
                    drop(wal);
                    let (opened, groups) = Wal::open(&config).expect("opens");
                    prop_assert_eq!(known(groups), known(expected.clone()));
                    wal = opened;
                    continue;
                }
                Step::Append { group, count } => {
                    let group = GROUPS[group];
                    let log = expected.entry(group).or_default();
                    let next = log.next_index();
                    (next..next + count).map(|index| entry_of_term(group, index, term)).collect()
                }
                Step::Truncate { group, back } => {
                    let group = GROUPS[group];
                    let log = expected.entry(group).or_default();
                    let Some(last) = log.entries.back() else { continue };
                    let from = (last.id.index + 1).saturating_sub(back);
                    let from = from.max(log.purged.map_or(0, |id| id.index + 1));
                    vec![Record { group, change: Change::Truncate { from } }]
                }
                Step::Purge { group, on } => {
                    let group = GROUPS[group];
                    let log = expected.entry(group).or_default();
                    let Some(first) = log.entries.front() else { continue };
                    let upto = LogId { term, index: first.id.index + on };
                    vec![Record { group, change: Change::Purge(upto) }]
                }
            };
            for record in &records {
                let log = expected.entry(record.group).or_default();
                log.apply(record.change.clone()).expect("in order");
            }
            runtime.block_on(wal.write_and_wait(records)).expect("written");
        }
        drop(wal);
        let (_wal, groups) = Wal::open(&config).expect("opens");
        prop_assert_eq!(known(groups), known(expected));
    }
}
