//! Compares a shelf with the index: a pure function.

use std::time::{Duration, Instant};

use odeum_proto::{Digest, NodeId};

use crate::blobs::BlobsConfig;
use crate::blobs::shelf::{Listed, Purpose};
use crate::store::BlobIndex;

/// Where a shelf and the index differ.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Survey {
    /// Files that are here for something else than they count as.
    pub(super) purposes: Vec<(Digest, Purpose)>,
    /// Blobs that should be here and are not, in order.
    pub(super) missing: Vec<Digest>,
    /// Files of no blob, for long enough.
    pub(super) strays: Vec<Digest>,
    /// A file that was not looked at for too long.
    pub(super) unverified: Option<Digest>,
    /// When a look may find more, if nothing changes.
    pub(super) next: Option<Instant>,
}

impl Survey {
    /// Whether there is nothing to do.
    pub(super) fn is_quiet(&self) -> bool {
        self.purposes.is_empty()
            && self.missing.is_empty()
            && self.strays.is_empty()
            && self.unverified.is_none()
    }

    fn due(&mut self, from: Instant, after: Duration, now: Instant) -> bool {
        let at = from + after;
        if at <= now {
            return true;
        }
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
        false
    }
}

/// What is to be done about the files `listed`, which are in the order of their digests.
pub(super) fn survey(
    index: &BlobIndex,
    local: &NodeId,
    listed: &[Listed],
    now: Instant,
    config: &BlobsConfig,
) -> Survey {
    let mut found = Survey::default();
    for file in listed {
        match index.get(&file.digest) {
            None => {
                if found.due(file.used, config.stray_for, now) {
                    found.strays.push(file.digest);
                    continue;
                }
            }
            Some(blob) if blob.holders.contains(local) => {
                if file.purpose != Purpose::Held {
                    found.purposes.push((file.digest, Purpose::Held));
                }
            }
            // One that has just been put may be about to be noted as held.
            Some(_) if file.purpose == Purpose::Held => {
                if found.due(file.used, config.stray_for, now) {
                    found.purposes.push((file.digest, Purpose::Copy));
                }
            }
            Some(_) => {}
        }
        let is_old = match file.verified {
            Some(at) => found.due(at, config.verify_every, now),
            None => true,
        };
        if is_old && found.unverified.is_none() {
            found.unverified = Some(file.digest);
        }
    }
    let here = |digest: &Digest| listed.binary_search_by_key(digest, |file| file.digest).is_ok();
    let held = index.records().iter().filter(|(_, blob)| blob.holders.contains(local));
    found.missing = held.map(|(digest, _)| *digest).filter(|digest| !here(digest)).collect();
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use odeum_proto::Revision;
    use odeum_proto::store::Command;

    use super::*;
    use crate::blobs::fixtures::{node, record};
    use crate::store::State;

    const SECOND: Duration = Duration::from_secs(1);

    fn digest(content: u8) -> Digest {
        Digest::of(&[content])
    }

    /// Blob 1 is on n1, 2 on n2, 3 on both; there is no other.
    fn state() -> State {
        let mut state = State::default();
        for n in [1_u8, 2] {
            state.apply(Revision(n.into()), &Command::PutNode(record(n, 100, 0)));
        }
        for (content, holders) in [(1_u8, &[1_u8][..]), (2, &[2]), (3, &[1, 2])] {
            let holders: BTreeSet<_> = holders.iter().map(|n| node(*n)).collect();
            let digest = digest(content);
            let put = Command::PutBlob { digest, size: 1, holders, owner: None };
            state.apply(Revision(10), &put);
        }
        state
    }

    fn surveyed(files: &[(u8, Purpose, Instant)], now: Instant) -> Survey {
        let config = BlobsConfig {
            stray_for: 10 * SECOND,
            verify_every: 100 * SECOND,
            ..BlobsConfig::default()
        };
        let mut listed: Vec<Listed> = files
            .iter()
            .map(|&(content, purpose, used)| {
                let (digest, verified) = (digest(content), Some(used));
                Listed { digest, size: 1, purpose, used, verified }
            })
            .collect();
        listed.sort_by_key(|file| file.digest);
        survey(state().blobs(), &node(1), &listed, now, &config)
    }

    fn sorted(mut digests: Vec<Digest>) -> Vec<Digest> {
        digests.sort_unstable();
        digests
    }

    #[test]
    fn what_should_be_here_and_is_not_is_missing() {
        let now = Instant::now();
        let found = surveyed(&[(3, Purpose::Held, now)], now);
        assert_eq!(found.missing, [digest(1)]);
        assert_eq!(surveyed(&[], now).missing, sorted(vec![digest(1), digest(3)]));
    }

    #[test]
    fn what_is_held_elsewhere_becomes_a_copy_and_what_is_held_here_is_none() {
        let start = Instant::now();
        let files =
            [(1, Purpose::Copy, start), (2, Purpose::Held, start), (3, Purpose::Held, start)];
        let found = surveyed(&files, start);
        assert_eq!(found.purposes, [(digest(1), Purpose::Held)]);
        assert_eq!(found.next, Some(start + 10 * SECOND));
        let found = surveyed(&files, start + 10 * SECOND);
        assert!(found.purposes.contains(&(digest(2), Purpose::Copy)));
        assert_eq!(found.purposes.len(), 2);
    }

    #[test]
    fn what_nobody_knows_goes_when_its_time_is_over_and_not_before() {
        let start = Instant::now();
        let files =
            [(1, Purpose::Held, start), (3, Purpose::Held, start), (9, Purpose::Copy, start)];
        let early = surveyed(&files, start + 9 * SECOND);
        assert!(early.is_quiet(), "{early:?}");
        assert_eq!(early.next, Some(start + 10 * SECOND));
        assert_eq!(surveyed(&files, start + 10 * SECOND).strays, [digest(9)]);
    }

    #[test]
    fn every_file_is_looked_at_once_in_a_while() {
        let start = Instant::now();
        let (old, new) = (start, start + 50 * SECOND);
        let files = [(1, Purpose::Held, new), (3, Purpose::Held, old)];
        let found = surveyed(&files, start + 100 * SECOND);
        assert_eq!((found.unverified, found.next), (Some(digest(3)), Some(start + 150 * SECOND)));
    }
}
