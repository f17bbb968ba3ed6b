//! What a node believes of what a host process says: nothing that an honest one could not have said.
//!
//! A guest that broke out of its sandbox can say anything. It must not do more that way than its
//! manifest allows, nor take more of the node than its limits. Pure.

use std::{collections::BTreeSet, fmt};

use bytes::Bytes;
use odeum_proto::{
    Name,
    http::{BODY_BYTES, HEAD_BYTES, HttpAnswer},
    limits,
    session::Write,
};

use super::wire::{Handled, Said};
use crate::{
    firmware::{
        abi::{
            core::key_text,
            dealings::{ASKS, DEEDS, TIMERS, TOPICS},
        },
        bridge::is_topic,
        deeds::{Deed, LONGEST_ASK},
        effect::LOG_LINE_BYTES,
        error::GuestFailure,
    },
    package::manifest::{Abi, Manifest},
};

/// Longest reason of a failure or a refusal, in bytes, and most frames of a trap: more than honest
/// ones have.
const REASON_BYTES: usize = LOG_LINE_BYTES;
const FRAMES: usize = 8;

/// Something that only a process would say that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Breach(String);

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Breach {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

fn holds(holds: bool, what: impl FnOnce() -> String) -> Result<(), Breach> {
    if holds { Ok(()) } else { Err(Breach(what())) }
}

/// What one instance may say.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    manifest: Manifest,
    /// Whether it may do anything to others.
    deals: bool,
    memory: u64,
    timers: BTreeSet<u64>,
    asks: BTreeSet<u64>,
    topics: BTreeSet<String>,
}

impl Terms {
    /// Those of a package, whose instance has at most `memory` bytes.
    pub(super) fn new(manifest: &Manifest, abi: Abi, memory: u64) -> Self {
        Self {
            manifest: manifest.clone(),
            deals: matches!(abi, Abi::Actor | Abi::ActorCore | Abi::WasiReactor),
            memory,
            timers: BTreeSet::new(),
            asks: BTreeSet::new(),
            topics: BTreeSet::new(),
        }
    }

    /// A timer is over, or an ask has its outcome.
    pub(super) fn timed_out(&mut self, number: u64) {
        self.timers.remove(&number);
    }

    /// As [`Self::timed_out`].
    pub(super) fn answered(&mut self, number: u64) {
        self.asks.remove(&number);
    }

    /// What an instance may say that it has, in bytes.
    pub(super) fn memory(&self, claimed: u64) -> Result<u64, Breach> {
        let allowed = self.memory;
        holds(claimed <= allowed, || format!("{claimed} bytes of memory, of {allowed}"))?;
        Ok(claimed)
    }

    /// The name of a variable that it asks for.
    pub(super) fn key(key: &str) -> Result<(), Breach> {
        holds(key_text(key.as_bytes()).is_some(), || "a bad name of a variable".to_owned())
    }

    /// What it publishes to the broker.
    pub(super) fn published(&self, topic: &str, payload: &Bytes) -> Result<(), Breach> {
        let filters = &self.manifest.capabilities.mqtt.publish;
        let allows = is_topic(topic) && filters.iter().any(|filter| filter.allows(topic));
        holds(allows, || "a publication under a topic that it may not use".to_owned())?;
        self.fits(payload.len(), "a publication")
    }

    /// What came of a message. What is set by it is outstanding from then on.
    pub(super) fn handled(&mut self, handled: &Handled) -> Result<(), Breach> {
        self.memory(handled.memory_bytes)?;
        match &handled.answer {
            // What is no text of a line is replaced, by up to three bytes for one.
            Said::Refused { reason, .. } => holds(reason.len() <= 4 * LOG_LINE_BYTES, || {
                "a refusal that is too long".to_owned()
            }),
            Said::Done { writes, reply, deeds } => {
                self.written(writes, reply)?;
                self.done(deeds)
            }
        }
    }

    fn written(&self, writes: &[Write], reply: &Bytes) -> Result<(), Breach> {
        holds(writes.len() <= limits::WRITES_PER_MESSAGE, || "too many writes".to_owned())?;
        holds(reply.len() <= limits::MESSAGE_BYTES, || "a reply that is too large".to_owned())?;
        self.fits(reply.len(), "a reply")?;
        let mut all = reply.len();
        for write in writes {
            let (key, value) = match write {
                Write::Set { key, value } => (key, value.len()),
                Write::Delete { key } => (key, 0),
            };
            Self::key(key)?;
            holds(value <= limits::VARIABLE_BYTES, || "a variable that is too large".to_owned())?;
            all += key.len() + value;
        }
        holds(all <= limits::COMMIT_BYTES, || format!("{all} bytes of writes"))
    }

    fn done(&mut self, deeds: &[Deed]) -> Result<(), Breach> {
        let may = self.deals || deeds.is_empty();
        holds(may, || "what a guest of its ABI cannot do".to_owned())?;
        // There is always room for taking a timer back.
        holds(deeds.len() <= DEEDS + TIMERS, || "too many deeds".to_owned())?;
        let mut sent = 0_usize;
        for deed in deeds {
            let capabilities = &self.manifest.capabilities;
            match deed {
                Deed::Tell { to, body } => {
                    self.message(to.firmware(), body)?;
                    sent += body.len();
                }
                Deed::Ask { number, to, body, deadline } => {
                    self.message(to.firmware(), body)?;
                    sent += body.len();
                    holds(*deadline <= LONGEST_ASK, || "an ask without end".to_owned())?;
                    self.asks.insert(*number);
                }
                Deed::SetTimer { number, .. } => drop(self.timers.insert(*number)),
                Deed::CancelTimer { number } => drop(self.timers.remove(number)),
                Deed::Publish { topic, payload } => {
                    let allows = capabilities.publish.iter().any(|it| it.allows(topic));
                    holds(allows, || "a publication that it may not make".to_owned())?;
                    sent += payload.len();
                }
                Deed::Subscribe { topic } => {
                    let allows = capabilities.subscribe.iter().any(|it| it.allows(topic));
                    holds(allows, || "a topic that it may not hear".to_owned())?;
                    self.topics.insert(topic.clone());
                }
            }
        }
        let is_bounded =
            self.timers.len() <= TIMERS && self.asks.len() <= ASKS && self.topics.len() <= TOPICS;
        holds(is_bounded, || "more timers, asks or topics than there may be".to_owned())?;
        self.fits(sent, "messages to others")
    }

    fn message(&self, to: &Name, body: &[u8]) -> Result<(), Breach> {
        let allows = self.manifest.capabilities.messages.iter().any(|it| it.allows(to));
        holds(allows, || "a message to whom it may send none".to_owned())?;
        holds(body.len() <= limits::MESSAGE_BYTES, || "a message that is too large".to_owned())
    }

    fn fits(&self, got: usize, what: &str) -> Result<(), Breach> {
        let allowed = self.manifest.limits.output.bytes();
        holds(got as u64 <= allowed, || format!("{what} of {got} bytes, of {allowed}"))
    }
}

/// What it answers to a request.
pub(super) fn served(answer: &HttpAnswer) -> Result<(), Breach> {
    let head: usize = answer.headers.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
    holds(head <= HEAD_BYTES, || format!("{head} bytes of headers"))?;
    holds(answer.body.len() <= BODY_BYTES, || format!("a body of {} bytes", answer.body.len()))
}

/// A failure, with its texts cut to what is worth telling.
pub(super) fn failed(failure: GuestFailure) -> GuestFailure {
    let cut = |text: Box<str>| Box::from(&text[..text.floor_char_boundary(REASON_BYTES)]);
    match failure {
        GuestFailure::Trapped { reason, frames } => GuestFailure::Trapped {
            reason: cut(reason),
            frames: frames.into_iter().take(FRAMES).map(cut).collect(),
        },
        GuestFailure::NotGranted { what, reason } => {
            GuestFailure::NotGranted { what: cut(what), reason: cut(reason) }
        }
        GuestFailure::NotKept { reason } => GuestFailure::NotKept { reason: cut(reason) },
        GuestFailure::NotStarted { reason } => GuestFailure::NotStarted { reason: cut(reason) },
        GuestFailure::NotAlive { failures, reason } => {
            GuestFailure::NotAlive { failures, reason: cut(reason) }
        }
        GuestFailure::Process { reason } => GuestFailure::Process { reason: cut(reason) },
        GuestFailure::Limit(_)
        | GuestFailure::Exited { .. }
        | GuestFailure::Exceeded { .. }
        | GuestFailure::OtherKind { .. } => failure,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn terms(lines: &str, abi: Abi) -> Terms {
        let text = format!("name = 'guest'\nversion = '1.0.0'\n{lines}");
        Terms::new(&Manifest::parse(text.as_bytes()).expect("a manifest"), abi, 1 << 20)
    }

    fn done(writes: Vec<Write>, reply: usize, deeds: Vec<Deed>) -> Handled {
        let answer = Said::Done { writes, reply: vec![0; reply].into(), deeds };
        Handled { memory_bytes: 0, answer }
    }

    fn set(key: &str, len: usize) -> Write {
        Write::Set { key: key.to_owned(), value: vec![0; len] }
    }

    #[test]
    fn what_an_honest_process_says_is_believed() {
        let granted = "[capabilities]\nmessages = ['oth*']\npublish = ['a/*']\nsubscribe = ['b']";
        let mut terms = terms(granted, Abi::Actor);
        let to = || "other".parse().expect("a name");
        let deeds = vec![
            Deed::Tell { to: to(), body: vec![0; 9] },
            Deed::Ask { number: 1, to: to(), body: Vec::new(), deadline: LONGEST_ASK },
            Deed::SetTimer { number: 2, after: Duration::MAX },
            Deed::CancelTimer { number: 2 },
            Deed::Publish { topic: "a/b".to_owned(), payload: vec![0; 9] },
            Deed::Subscribe { topic: "b".to_owned() },
        ];
        let handled = done(vec![set("k", limits::VARIABLE_BYTES)], 9, deeds);
        assert_eq!(terms.handled(&handled), Ok(()));
    }

    #[test]
    fn what_only_a_hostile_process_says_is_a_breach() {
        let to = || "other".parse().expect("a name");
        let stranger = || "stranger".parse().expect("a name");
        let deed = |deed| done(Vec::new(), 0, vec![deed]);
        let large = limits::MESSAGE_BYTES + 1;
        for hostile in [
            done(vec![set("", 1)], 0, Vec::new()),
            done(vec![set("k", limits::VARIABLE_BYTES + 1)], 0, Vec::new()),
            done(vec![set("k", 1); limits::WRITES_PER_MESSAGE + 1], 0, Vec::new()),
            done(vec![set("k", limits::VARIABLE_BYTES); 13], 0, Vec::new()),
            done(Vec::new(), large, Vec::new()),
            deed(Deed::Tell { to: to(), body: vec![0; large] }),
            deed(Deed::Ask { number: 1, to: to(), body: Vec::new(), deadline: Duration::MAX }),
            deed(Deed::Tell { to: stranger(), body: Vec::new() }),
            deed(Deed::Ask { number: 1, to: stranger(), body: Vec::new(), deadline: LONGEST_ASK }),
            deed(Deed::Publish { topic: "a".to_owned(), payload: Vec::new() }),
            deed(Deed::Subscribe { topic: "a".to_owned() }),
            Handled {
                memory_bytes: 2 << 20,
                answer: Said::Refused { code: 1, reason: "no".into() },
            },
            Handled {
                memory_bytes: 0,
                answer: Said::Refused { code: 1, reason: "x".repeat(9_000).into() },
            },
        ] {
            let mut terms = terms("[capabilities]\nmessages = ['other']", Abi::Actor);
            assert!(terms.handled(&hostile).is_err(), "{hostile:?}");
        }
        let timer = Deed::SetTimer { number: 1, after: Duration::ZERO };
        assert!(terms("", Abi::Firmlet).handled(&deed(timer)).is_err());
    }

    #[test]
    fn timers_are_counted_over_all_messages() {
        let mut terms = terms("", Abi::Actor);
        let set =
            |number| done(Vec::new(), 0, vec![Deed::SetTimer { number, after: Duration::ZERO }]);
        for number in 0..TIMERS as u64 {
            terms.handled(&set(number)).expect("there is room");
        }
        terms.timed_out(0);
        terms.handled(&set(TIMERS as u64)).expect("one is over");
        assert!(terms.handled(&set(u64::MAX)).is_err());
    }

    #[test]
    fn only_topics_of_the_manifest_reach_the_broker() {
        let terms = terms("[capabilities.mqtt]\npublish = ['a/+']", Abi::Firmlet);
        assert!(terms.published("a/b", &Bytes::new()).is_ok());
        for topic in ["a/+", "b", "", "a/b/c"] {
            assert!(terms.published(topic, &Bytes::new()).is_err(), "{topic}");
        }
        assert!(terms.published("a/b", &Bytes::from(vec![0; 2 << 20])).is_err());
    }
}
