//! What a shelf promises of its files, whatever the disk does to them.

use std::process::Command as Process;
use std::time::Duration;

use tempfile::TempDir;

use super::*;

const KIB: u64 = 1 << 10;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn open(folder: &TempDir) -> Shelf {
    bounded(folder, u64::MAX, u64::MAX)
}

fn bounded(folder: &TempDir, quota: u64, spare: u64) -> Shelf {
    Shelf::open(folder.path().join("blobs"), quota, spare).expect("opens")
}

/// Some bytes and their digest.
fn blob(content: u8, size: u64) -> (Digest, Vec<u8>) {
    let bytes = vec![content; usize::try_from(size).expect("fits")];
    (Digest::of(&bytes), bytes)
}

fn held(shelf: &Shelf, content: u8, size: u64) -> Digest {
    let (digest, bytes) = blob(content, size);
    shelf.put(digest, &bytes, Purpose::Held).expect("is kept");
    digest
}

fn copied(shelf: &Shelf, content: u8, size: u64) -> Digest {
    let (digest, bytes) = blob(content, size);
    shelf.put(digest, &bytes, Purpose::Copy).expect("is kept");
    digest
}

fn incoming(folder: &TempDir) -> usize {
    entries(&folder.path().join("blobs").join(INCOMING)).expect("lists").len()
}

/// Counted anew, without the running totals.
fn counted(shelf: &Shelf) -> (usize, u64, u64) {
    let files = shelf.list();
    let copies = files.iter().filter(|file| file.purpose == Purpose::Copy);
    (files.len(), files.iter().map(|file| file.size).sum(), copies.map(|file| file.size).sum())
}

#[test]
fn a_blob_that_was_put_is_there_also_after_a_restart() {
    let folder = folder();
    let shelf = open(&folder);
    let (digest, bytes) = blob(7, 3 * KIB);
    assert_eq!(shelf.get(digest).expect("reads"), None);
    shelf.put(digest, &bytes, Purpose::Held).expect("is kept");
    shelf.put(digest, &bytes, Purpose::Copy).expect("is kept again");
    assert_eq!(shelf.usage().blobs, 1);
    assert_eq!(shelf.usage().spare, 0, "what is held is not a copy");
    let again = open(&folder);
    assert_eq!(again.get(digest).expect("reads").as_deref(), Some(&bytes[..]));
    assert_eq!((again.usage().blobs, again.usage().bytes), (1, 3 * KIB));
    assert!(again.has(digest) && again.check(digest, Purpose::Held).expect("reads"));
}

#[test]
fn bytes_that_are_not_what_their_digest_says_are_refused() {
    let folder = folder();
    let shelf = open(&folder);
    let refused = shelf.put(Digest::of(b"one"), b"other", Purpose::Held);
    assert!(matches!(refused, Err(ShelfError::OtherDigest { .. })), "{refused:?}");
    assert_eq!(counted(&shelf), (0, 0, 0));
}

#[test]
fn a_damaged_a_truncated_and_an_empty_file_are_set_aside_and_can_be_written_anew() {
    let damages: [fn(&mut Vec<u8>); 3] =
        [|bytes| bytes[100] ^= 1, |bytes| bytes.truncate(512), Vec::clear];
    for (damage, content) in damages.into_iter().zip(1..) {
        let folder = folder();
        let shelf = open(&folder);
        let digest = held(&shelf, content, KIB);
        let path = shelf.path(digest);
        let (_, whole) = blob(content, KIB);
        let mut bytes = whole.clone();
        damage(&mut bytes);
        fs::write(&path, &bytes).expect("damages");
        assert_eq!(shelf.get(digest).expect("reads"), None);
        assert!(!path.exists() && !shelf.has(digest));
        let aside = folder.path().join("blobs").join(DAMAGED).join(digest.to_string());
        assert_eq!(fs::read(aside).expect("is kept"), bytes);
        assert_eq!(shelf.usage().damaged, 1);
        held(&shelf, content, KIB);
        assert_eq!(shelf.get(digest).expect("reads").as_deref(), Some(&whole[..]));

        fs::write(&path, &bytes).expect("damages again");
        assert!(!shelf.verify(digest).expect("reads"));
        fs::write(&path, &bytes).expect("a file nobody knows of");
        held(&shelf, content, KIB);
        assert!(shelf.verify(digest).expect("reads"));
    }
}

#[test]
fn a_put_over_a_damaged_file_writes_it_anew() {
    let folder = folder();
    let shelf = open(&folder);
    let digest = held(&shelf, 1, KIB);
    fs::write(shelf.path(digest), b"damaged").expect("damages");
    held(&shelf, 1, KIB);
    assert!(shelf.verify(digest).expect("reads"));
    assert_eq!(shelf.usage().damaged, 1);
}

#[test]
fn few_damaged_files_are_kept() {
    let folder = folder();
    let shelf = open(&folder);
    for content in 0..20 {
        let digest = held(&shelf, content, KIB);
        fs::write(shelf.path(digest), b"damaged").expect("damages");
        assert_eq!(shelf.get(digest).expect("reads"), None);
    }
    let damaged = entries(&folder.path().join("blobs").join(DAMAGED)).expect("lists");
    assert_eq!(damaged.len(), MOST_DAMAGED);
    assert_eq!(counted(&shelf), (0, 0, 0));
}

#[test]
fn what_a_crash_left_half_written_goes_at_start_and_what_is_no_blob_stays() {
    let folder = folder();
    let digest = held(&open(&folder), 1, KIB);
    let blobs = folder.path().join("blobs");
    fs::write(blobs.join(INCOMING).join(format!("{digest}.0")), b"half").expect("writes");
    let foreign = blobs.join(&digest.to_string()[..2]).join("notes.txt");
    fs::write(&foreign, b"mine").expect("writes");
    let shelf = open(&folder);
    assert_eq!(incoming(&folder), 0);
    assert!(foreign.exists());
    assert_eq!(shelf.list().iter().map(|file| file.digest).collect::<Vec<_>>(), [digest]);
}

#[test]
fn a_file_that_somebody_else_removed_is_missed() {
    let folder = folder();
    let shelf = open(&folder);
    let digest = held(&shelf, 1, KIB);
    fs::remove_file(shelf.path(digest)).expect("removes");
    assert!(!shelf.check(digest, Purpose::Held).expect("reads"));
    assert_eq!(counted(&shelf), (0, 0, 0));
    held(&shelf, 1, KIB);
    assert!(shelf.verify(digest).expect("reads"));
}

#[test]
fn nothing_is_removed_that_was_put_or_read_since() {
    let folder = folder();
    let shelf = open(&folder);
    let digest = held(&shelf, 1, KIB);
    let seen = Instant::now();
    held(&shelf, 1, KIB);
    assert!(!shelf.remove(digest, seen).expect("stays"));
    let seen = Instant::now();
    shelf.get(digest).expect("reads");
    assert!(!shelf.remove(digest, seen).expect("stays"));
    let later = Instant::now() + Duration::from_secs(1);
    assert!(shelf.remove(digest, later).expect("goes"));
    assert!(!shelf.remove(digest, later).expect("is gone"));
    assert!(!shelf.path(digest).exists());
}

#[test]
fn copies_make_room_the_oldest_first_and_what_is_held_stays() {
    let folder = folder();
    let shelf = bounded(&folder, 4 * KIB, 2 * KIB);
    let first = held(&shelf, 1, KIB);
    let (a, b) = (copied(&shelf, 2, KIB), copied(&shelf, 3, KIB));
    shelf.get(a).expect("reads");
    let c = copied(&shelf, 4, KIB);
    assert!(shelf.has(a) && shelf.has(c) && !shelf.has(b), "copies have 2 KiB");
    let second = held(&shelf, 5, 2 * KIB);
    assert!(shelf.has(first) && shelf.has(second) && shelf.has(c) && !shelf.has(a));
    let third = held(&shelf, 6, KIB);
    assert_eq!(counted(&shelf), (3, 4 * KIB, 0));

    let (digest, bytes) = blob(7, KIB);
    let refused = shelf.put(digest, &bytes, Purpose::Held);
    let Err(ShelfError::Quota { needed, used, quota }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!((needed, used, quota), (KIB, 4 * KIB, 4 * KIB));
    assert!(!shelf.has(digest) && incoming(&folder) == 0);
    assert!(shelf.set_purpose(third, Purpose::Copy));
    shelf.put(digest, &bytes, Purpose::Held).expect("fits now");
    assert!(!shelf.has(third));
    let usage = shelf.usage();
    assert_eq!((usage.blobs, usage.bytes, usage.spare), counted(&shelf));
}

#[test]
fn what_becomes_a_copy_is_bounded_like_one() {
    let folder = folder();
    let shelf = bounded(&folder, u64::MAX, 2 * KIB);
    for content in 0..4 {
        let digest = held(&shelf, content, KIB);
        shelf.set_purpose(digest, Purpose::Copy);
    }
    shelf.trim_copies().expect("removes");
    assert_eq!(counted(&shelf), (2, 2 * KIB, 2 * KIB));
    let (digest, bytes) = blob(9, 3 * KIB);
    let refused = shelf.put(digest, &bytes, Purpose::Copy);
    assert!(matches!(refused, Err(ShelfError::Quota { quota, .. }) if quota == 2 * KIB));
    assert_eq!(counted(&shelf), (2, 2 * KIB, 2 * KIB), "it would not have helped");
}

#[test]
fn many_who_put_the_same_and_others_at_once_all_find_it_kept() {
    let folder = folder();
    let shelf = open(&folder);
    std::thread::scope(|scope| {
        for n in 0..8_u8 {
            let shelf = &shelf;
            scope.spawn(move || {
                for content in 0..6 {
                    let digest = held(shelf, content, 64 * KIB);
                    assert!(shelf.get(digest).expect("reads").is_some(), "{n}: {content}");
                }
            });
        }
    });
    assert_eq!(counted(&shelf), (6, 6 * 64 * KIB, 0));
    assert_eq!((incoming(&folder), shelf.usage().damaged), (0, 0));
}

/// A tmpfs of 64 KiB, unmounted at the end. Mounting needs root, which CI has.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let dir = folder();
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

#[test]
fn a_full_disk_refuses_a_blob_gives_up_copies_for_one_and_leaves_nothing_behind() {
    let Some(disk) = SmallDisk::mount() else {
        println!("skipped: a small disk can only be mounted by root");
        return;
    };
    let shelf = open(&disk.0);
    let first = held(&shelf, 1, 24 * KIB);
    let copy = copied(&shelf, 2, 24 * KIB);
    let second = held(&shelf, 3, 30 * KIB);
    assert!(!shelf.has(copy), "it made room");
    let (digest, bytes) = blob(4, 30 * KIB);
    let refused = shelf.put(digest, &bytes, Purpose::Held);
    assert!(matches!(refused, Err(ShelfError::NoSpace { .. })), "{refused:?}");
    assert!(!shelf.has(digest) && incoming(&disk.0) == 0);
    for digest in [first, second] {
        assert!(shelf.verify(digest).expect("reads"));
    }
    let later = Instant::now() + Duration::from_secs(1);
    assert!(shelf.remove(first, later).expect("goes"));
    shelf.put(digest, &bytes, Purpose::Held).expect("there is space");
    assert_eq!(shelf.usage().bytes, 60 * KIB);
}
