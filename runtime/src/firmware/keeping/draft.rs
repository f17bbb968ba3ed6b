//! What a guest wrote that the store does not have yet. Pure.
//!
//! It has two layers. What messages write gathers by session; when it is to be saved, each session
//! becomes one commit, which stays as it is until the store is known to have it: it may be under way
//! when nobody knows what became of it, and only the same commit under the same request is made once.
//! Reading looks through both, the newer first.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use odeum_proto::{
    EntityId, Epoch, RequestId, SessionId, limits,
    session::{Carried, Commit, Write},
};

/// Bytes of all that is not saved. More is memory of the node that no limit of a guest bounds.
const FULL_BYTES: usize = 16 << 20;

/// Sessions with something that is not saved.
const FULL_SESSIONS: usize = 4_096;

/// Most bytes of replies that are remembered with a session before it is saved.
const CARRIED_BYTES: usize = 1 << 20;

/// What one message comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) session: SessionId,
    pub(super) request: RequestId,
    pub(super) writes: Vec<Write>,
    pub(super) reply: Vec<u8>,
}

/// All that is not saved.
#[derive(Debug, Default)]
pub(super) struct Draft {
    unsaved: BTreeMap<SessionId, Unsaved>,
    /// Commits that the store may have or not.
    sent: Vec<Commit>,
    /// Messages since the last time that all was sent.
    messages: u64,
    bytes: usize,
    /// Whether requests that do not fit leave, the oldest first, instead of being saved.
    forgets: bool,
}

/// What is not saved of one session.
#[derive(Debug, Default)]
struct Unsaved {
    writes: BTreeMap<String, Option<Vec<u8>>>,
    carried: VecDeque<Carried>,
    writes_bytes: usize,
    carried_bytes: usize,
}

impl Unsaved {
    fn bytes(&self) -> usize {
        self.writes_bytes + self.carried_bytes
    }

    fn write(&mut self, key: String, value: Option<Vec<u8>>) {
        self.writes_bytes += weight(&key, value.as_deref());
        if let Some(before) = self.writes.get(&key) {
            self.writes_bytes -= weight(&key, before.as_deref());
        }
        self.writes.insert(key, value);
    }

    fn carry(&mut self, it: Carried) {
        self.carried_bytes += it.weight();
        self.carried.push_back(it);
    }

    /// Whether more requests are remembered with it than may be.
    fn carries_too_much(&self) -> bool {
        self.carried.len() > limits::CARRIED_PER_COMMIT || self.carried_bytes > CARRIED_BYTES
    }
}

fn weight(key: &str, value: Option<&[u8]>) -> usize {
    key.len() + value.map_or(0, <[u8]>::len)
}

fn parts(write: &Write) -> (&str, Option<&[u8]>) {
    match write {
        Write::Set { key, value } => (key, Some(value)),
        Write::Delete { key } => (key, None),
    }
}

fn carried(request: RequestId, reply: Vec<u8>) -> Carried {
    let is_kept = reply.len() <= limits::REMEMBERED_REPLY_BYTES;
    Carried { request, reply: is_kept.then(|| Bytes::from(reply)) }
}

impl Draft {
    /// An empty one. `forgets` is whether requests that do not fit leave, the oldest first.
    pub(super) fn new(forgets: bool) -> Self {
        Self { forgets, ..Self::default() }
    }

    /// What was written to a variable and is not saved: `Some(None)` when it was deleted.
    pub(super) fn written(&self, session: &SessionId, key: &str) -> Option<Option<Vec<u8>>> {
        let newer = self.unsaved.get(session).and_then(|it| it.writes.get(key));
        if let Some(value) = newer {
            return Some(value.clone());
        }
        let sent = self.sent.iter().rev().filter(|commit| commit.session == *session);
        let mut writes = sent.flat_map(|commit| commit.writes.iter().rev().map(parts));
        let (_, value) = writes.find(|(of, _)| *of == key)?;
        Some(value.map(<[u8]>::to_vec))
    }

    /// The reply to a request whose effect is not saved; `Some(None)` when it was too large.
    pub(super) fn remembered(&self, request: &RequestId) -> Option<Option<Vec<u8>>> {
        let unsaved = self.unsaved.values().flat_map(|it| &it.carried);
        let sent = self.sent.iter().flat_map(|commit| &commit.carried);
        let found = unsaved.chain(sent).find(|it| it.request == *request)?;
        Some(found.reply.as_ref().map(|reply| reply.to_vec()))
    }

    /// Whether one more message can be kept with what its session has, so that it is one commit.
    pub(super) fn has_room(&self, kept: &Kept) -> bool {
        let none = Unsaved::default();
        let there = self.unsaved.get(&kept.session).unwrap_or(&none);
        let new = kept.writes.iter().filter(|it| !there.writes.contains_key(parts(it).0)).count();
        let written: usize = kept.writes.iter().map(|it| weight(parts(it).0, parts(it).1)).sum();
        let reply = match kept.reply.len() {
            length if length <= limits::REMEMBERED_REPLY_BYTES => length,
            _ => 0,
        };
        let request = kept.request.as_str().len() + reply + 16;
        let requests = if self.forgets { 0 } else { there.carried.len() };
        there.writes.len() + new <= limits::WRITES_PER_MESSAGE
            && requests < limits::CARRIED_PER_COMMIT
            && there.bytes() + written + request <= limits::COMMIT_BYTES
    }

    /// Keeps what a message came to. There must be [room](Self::has_room) for it.
    pub(super) fn keep(&mut self, kept: Kept) {
        let Kept { session, request, writes, reply } = kept;
        let there = self.unsaved.entry(session).or_default();
        let before = there.bytes();
        for write in writes {
            match write {
                Write::Set { key, value } => there.write(key, Some(value)),
                Write::Delete { key } => there.write(key, None),
            }
        }
        there.carry(carried(request, reply));
        while self.forgets && there.carries_too_much() {
            if let Some(oldest) = there.carried.pop_front() {
                there.carried_bytes -= oldest.weight();
            }
        }
        self.bytes = self.bytes + there.bytes() - before;
        self.messages += 1;
    }

    /// Messages whose effects are not saved and were not sent, either.
    pub(super) fn messages(&self) -> u64 {
        self.messages
    }

    /// Whether there is as much as there may be.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= FULL_BYTES
            || self.unsaved.len() >= FULL_SESSIONS
            || self.unsaved.values().any(Unsaved::carries_too_much)
    }

    /// Whether something was given to the store that it may not have.
    pub(super) fn is_in_doubt(&self) -> bool {
        !self.sent.is_empty()
    }

    /// Whether all is saved.
    pub(super) fn is_empty(&self) -> bool {
        self.unsaved.is_empty() && self.sent.is_empty()
    }

    /// What is to be given to the store now: what it may not have yet, else all that has gathered,
    /// each session a commit.
    pub(super) fn send(&mut self, entity: &EntityId, epoch: Epoch) -> Vec<Commit> {
        if self.sent.is_empty() {
            (self.messages, self.bytes) = (0, 0);
            let unsaved = std::mem::take(&mut self.unsaved);
            self.sent = unsaved
                .into_iter()
                .map(|(session, it)| it.commit(session, entity, epoch))
                .collect();
        }
        self.sent.clone()
    }

    /// The store has it, and this node sees it there; or the store will never have it.
    pub(super) fn settle(&mut self, request: &RequestId) {
        self.sent.retain(|commit| commit.request != *request);
    }
}

impl Unsaved {
    fn commit(self, session: SessionId, entity: &EntityId, epoch: Epoch) -> Commit {
        let write = |(key, value)| match value {
            Some(value) => Write::Set { key, value },
            None => Write::Delete { key },
        };
        Commit {
            entity: entity.clone(),
            epoch,
            request: RequestId::random(),
            session,
            writes: self.writes.into_iter().map(write).collect(),
            reply: Vec::new(),
            carried: self.carried.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn session(name: &str) -> SessionId {
        format!("counter/{name}").parse().expect("valid")
    }

    fn entity() -> EntityId {
        EntityId::firmware("counter".parse().expect("valid"))
    }

    fn kept(name: &str, request: &str, key: &str, value: Option<&[u8]>) -> Kept {
        let key = key.to_owned();
        let write = match value {
            Some(value) => Write::Set { key, value: value.to_vec() },
            None => Write::Delete { key },
        };
        Kept {
            session: session(name),
            request: request.parse().expect("valid"),
            writes: vec![write],
            reply: b"ok".to_vec(),
        }
    }

    #[test]
    fn what_was_written_last_is_read_until_the_store_has_it() {
        let mut draft = Draft::new(false);
        draft.keep(kept("s", "r1", "k", Some(b"1")));
        let read = |draft: &Draft| draft.written(&session("s"), "k");
        assert_eq!(read(&draft), Some(Some(b"1".to_vec())));
        let sent = draft.send(&entity(), Epoch(3));
        draft.keep(kept("s", "r2", "k", None));
        assert_eq!(read(&draft), Some(None), "deleted since");
        assert_eq!(draft.send(&entity(), Epoch(3)), sent, "as it is until its outcome is known");
        draft.settle(&sent[0].request);
        assert_eq!(read(&draft), Some(None));
        let next = draft.send(&entity(), Epoch(3));
        assert_ne!(next[0].request, sent[0].request);
        draft.settle(&next[0].request);
        assert!(draft.is_empty());
        assert_eq!(read(&draft), None, "the store knows");
        assert_eq!(draft.written(&session("other"), "k"), None);
    }

    #[test]
    fn a_session_is_one_commit_that_tells_of_all_its_requests() {
        let mut draft = Draft::new(false);
        for number in 0..3 {
            draft.keep(kept("s", &format!("r{number}"), "k", Some(&[number])));
        }
        draft.keep(kept("t", "r9", "k", Some(b"x")));
        assert_eq!(draft.messages(), 4);
        let request = |text: &str| text.parse::<RequestId>().expect("valid");
        assert_eq!(draft.remembered(&request("r1")), Some(Some(b"ok".to_vec())));
        let sent = draft.send(&entity(), Epoch(3));
        assert_eq!(draft.messages(), 0);
        assert_eq!(draft.remembered(&request("r1")), Some(Some(b"ok".to_vec())));
        let [s, t] = &sent[..] else { panic!("{sent:?}") };
        assert_eq!((s.writes.len(), s.carried.len(), t.carried.len()), (1, 3, 1));
        assert_eq!(s.writes, [Write::Set { key: "k".to_owned(), value: vec![2] }]);
        draft.settle(&s.request);
        assert_eq!(draft.remembered(&request("r1")), None, "the store remembers it");
    }

    #[test]
    fn what_would_be_more_than_a_commit_has_no_room() {
        let mut draft = Draft::new(false);
        let large = vec![0; limits::VARIABLE_BYTES];
        let mut number = 0;
        loop {
            let key = format!("k{number}");
            let next = kept("s", &format!("r{number}"), &key, Some(&large));
            if !draft.has_room(&next) {
                break;
            }
            draft.keep(next);
            number += 1;
        }
        assert_eq!(number, 11, "twelve of them are too much with their requests");
        assert!(draft.has_room(&kept("other", "r", "k", Some(&large))));
        assert!(draft.has_room(&kept("s", "r", "k0", Some(b""))), "what is overwritten is free");
    }

    #[test]
    fn the_oldest_requests_leave_where_they_may_and_are_saved_where_not() {
        for forgets in [false, true] {
            let mut draft = Draft::new(forgets);
            let mut number = 0;
            let most = limits::CARRIED_PER_COMMIT;
            while number < most + 9 {
                let next = kept("s", &format!("r{number}"), "k", Some(b""));
                if !draft.has_room(&next) {
                    break;
                }
                draft.keep(next);
                number += 1;
            }
            assert_eq!(number, if forgets { most + 9 } else { most });
            assert_eq!(draft.send(&entity(), Epoch(1))[0].carried.len(), most);
        }
    }

    #[test]
    fn a_reply_that_is_too_large_is_only_known_to_have_been_given() {
        let mut draft = Draft::new(false);
        let reply = vec![0; limits::REMEMBERED_REPLY_BYTES + 1];
        draft.keep(Kept { reply, ..kept("s", "r", "k", Some(b"")) });
        assert_eq!(draft.remembered(&"r".parse().expect("valid")), Some(None));
    }

    proptest! {
        /// Whatever is kept and whenever it is sent, a reader sees what it would see of a store to
        /// which everything was written at once.
        #[test]
        fn a_reader_never_sees_a_difference(
            steps in prop::collection::vec((0_u8..4, 0_u8..3, prop::option::of(any::<u8>())), 1..60),
        ) {
            let (mut draft, mut store) = (Draft::new(false), BTreeMap::new());
            let mut truth = BTreeMap::new();
            for (number, (what, key, value)) in steps.into_iter().enumerate() {
                let key = format!("k{key}");
                match what {
                    0 => drop(draft.send(&entity(), Epoch(1))),
                    1 => {
                        for commit in draft.send(&entity(), Epoch(1)) {
                            for write in &commit.writes {
                                let (key, value) = parts(write);
                                store.insert(key.to_owned(), value.map(<[u8]>::to_vec));
                            }
                            draft.settle(&commit.request);
                        }
                    }
                    _ => {
                        let value = value.map(|byte| vec![byte]);
                        draft.keep(kept("s", &format!("r{number}"), &key, value.as_deref()));
                        truth.insert(key.clone(), value);
                    }
                }
                for (key, is) in &truth {
                    let seen = draft.written(&session("s"), key).or_else(|| store.get(key).cloned());
                    prop_assert_eq!(seen.as_ref(), Some(is));
                }
            }
        }
    }
}
