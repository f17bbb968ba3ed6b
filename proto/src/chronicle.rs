//! What a firmware said and what became of it lately, as the node that ran it tells others who ask.
//!
//! A node keeps the last lines of each firmware in a ring: lines are numbered from 1 in each, and a
//! ring has a number of its own, so that whoever reads on finds out that there is another one.

use serde::{Deserialize, Serialize};

use crate::ids::{Digest, Epoch, NodeId, ReplicaId};

/// Most bytes of texts in one answer, but for a single line that has more: some frames of the wire
/// would fit, and nobody should wait for them behind it.
pub const ANSWER_BYTES: usize = 256 << 10;

/// Most lines in one answer: with what surrounds their texts they fit in a frame of the wire.
pub const ANSWER_LINES: usize = 4_096;

/// What is asked of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// Lines that a firmware has logged; answered by [`Lines`].
    Log {
        /// The replica of a firmware.
        name: ReplicaId,
        /// Which of them.
        from: Begin,
        /// How long to wait until there is at least one, in milliseconds.
        wait_ms: u32,
    },
    /// What became of a firmware; answered by a list of [`Happening`].
    Events {
        /// The replica of a firmware.
        name: ReplicaId,
    },
    /// Whether earlier activations of a replica have ended on a node, and what they had not saved
    /// is in the store; answered by a `bool`.
    HandedOver {
        /// The replica of a firmware.
        name: ReplicaId,
        /// The activation that is to begin.
        epoch: Epoch,
        /// How long to wait until it is so, in milliseconds.
        wait_ms: u32,
    },
}

/// Which lines are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Begin {
    /// The last ones.
    Last {
        /// At most so many.
        lines: u32,
        /// Not older than so many milliseconds.
        within_ms: Option<u64>,
    },
    /// Those behind a line of a ring.
    Behind {
        /// The ring; 0 for none that was ever seen.
        ring: u64,
        /// The line.
        number: u64,
        /// When there is another ring: those of later activations than this.
        epoch: Epoch,
    },
}

/// Lines, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lines {
    /// The ring they are from; 0 when the firmware never ran there.
    pub ring: u64,
    /// The last number up to which everything was told: where to read on.
    pub number: u64,
    /// Lines before these that were asked for and are not kept any more.
    pub missed: u64,
    /// The lines.
    pub lines: Vec<Line>,
}

/// One line that a firmware has logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Its place in its ring, from 1.
    pub number: u64,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// The activation.
    pub epoch: Epoch,
    /// How loud it is.
    pub level: Level,
    /// Where it comes from.
    pub stream: Stream,
    /// What it says.
    pub text: String,
}

/// How loud a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something is not as it should be.
    Warn,
    /// What is of use to an operator.
    Info,
    /// What is of use to who wrote the guest.
    Debug,
    /// Everything.
    Trace,
}

/// Where a line comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Stream {
    /// The guest logged it.
    Log,
    /// The guest wrote it to its standard output.
    Stdout,
    /// The guest wrote it to its standard error.
    Stderr,
    /// The node says it of the guest: what it was denied, what was dropped.
    Node,
}

/// Something that became of a firmware.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happening {
    /// When it happened last, in milliseconds since 1970.
    pub at_ms: u64,
    /// When it happened first, without anything else in between.
    pub first_ms: u64,
    /// How often it did.
    pub count: u32,
    /// The activation.
    pub epoch: Epoch,
    /// What.
    pub what: What,
}

/// What can become of a firmware. Texts are at most [`report::ERROR_BYTES`](crate::report::ERROR_BYTES).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// A package was deployed.
    Deployed {
        /// The package.
        digest: Digest,
    },
    /// An activation began.
    Started,
    /// It waits for its package or for the store.
    Waits {
        /// Why.
        reason: String,
    },
    /// It began to do what it is for.
    Running,
    /// Its guest ended by an error.
    Crashed {
        /// Which.
        reason: String,
    },
    /// It was started again after a crash.
    Restarted {
        /// How often that was in this activation.
        times: u64,
    },
    /// It is not started again.
    GivenUp {
        /// Why.
        reason: String,
    },
    /// The package before came back.
    RolledBack {
        /// The one that was undone.
        from: Digest,
        /// The one that came back.
        to: Digest,
        /// Why.
        reason: String,
    },
    /// It had no message for a while, and its instance ended until the next one.
    Idle,
    /// A message came while it was idle.
    Woken,
    /// It used more of its node than it should.
    Exceeded {
        /// What, how much, for how long.
        reason: String,
    },
    /// It is a job, and came to its end.
    Completed {
        /// Its exit code.
        code: i32,
    },
    /// Its activation ended: it is elsewhere, or another package, or deleted.
    Stopped,
    /// Somebody had it started anew.
    Renewed,
    /// An update is under way.
    Updating {
        /// The package.
        to: Digest,
        /// How many replicas have begun with it.
        done: u32,
        /// Of how many.
        of: u32,
    },
    /// An update has reached all replicas, and they are ready.
    Updated {
        /// The package.
        to: Digest,
    },
    /// Somebody changed how many replicas there are.
    Scaled {
        /// To how many.
        replicas: u32,
    },
    /// It did not show that it is alive.
    NotAlive {
        /// How.
        reason: String,
    },
    /// The same package was given other settings.
    Configured {
        /// Their keys.
        keys: Vec<String>,
    },
    /// It moved to another node.
    Moved {
        /// Where to.
        to: NodeId,
        /// Its activation there.
        next: Epoch,
        /// Whether what it had in memory went with it.
        live: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn name() -> ReplicaId {
        "counter".parse().expect("a name")
    }

    #[test]
    fn the_bytes_of_questions_are_those_of_this_wire_version() {
        let last = Begin::Last { lines: 10, within_ms: Some(300) };
        let behind = Begin::Behind { ring: 9, number: 4, epoch: Epoch(7) };
        let questions = vec![
            Question::Log { name: name(), from: last, wait_ms: 0 },
            Question::Log { name: name(), from: behind, wait_ms: 250 },
            Question::Events { name: name() },
            Question::HandedOver { name: name(), epoch: Epoch(7), wait_ms: 9 },
        ];
        let bytes = codec::encode(&questions).expect("encodes");
        let golden = [
            "04",
            "0007636f756e746572000a01fb2c0100",
            "0007636f756e74657201090407fa",
            "0107636f756e746572",
            "0207636f756e7465720709",
        ];
        assert_eq!(hex(&bytes), golden.concat());
        assert_eq!(codec::decode::<Vec<Question>>(&bytes), Ok(questions));
    }

    #[test]
    fn the_bytes_of_answers_are_those_of_this_wire_version() {
        let line = |level, stream| Line {
            number: 4,
            at_ms: 5,
            epoch: Epoch(7),
            level,
            stream,
            text: "hi".to_owned(),
        };
        let lines = Lines {
            ring: 9,
            number: 5,
            missed: 3,
            lines: vec![line(Level::Error, Stream::Log), line(Level::Trace, Stream::Node)],
        };
        let bytes = codec::encode(&lines).expect("encodes");
        assert_eq!(hex(&bytes), "0905030204050700000268690405070403026869");
        assert_eq!(codec::decode::<Lines>(&bytes), Ok(lines));
    }

    #[test]
    fn the_bytes_of_events_are_those_of_this_wire_version() {
        let text = || "x".to_owned();
        let digest = Digest::of(b"x");
        let all = [
            What::Deployed { digest },
            What::Started,
            What::Waits { reason: text() },
            What::Running,
            What::Crashed { reason: text() },
            What::Restarted { times: 2 },
            What::GivenUp { reason: text() },
            What::RolledBack { from: digest, to: digest, reason: text() },
            What::Idle,
            What::Woken,
            What::Exceeded { reason: text() },
            What::Completed { code: -1 },
            What::Stopped,
            What::Renewed,
            What::Updating { to: digest, done: 1, of: 3 },
            What::Updated { to: digest },
            What::Scaled { replicas: 3 },
            What::NotAlive { reason: text() },
            What::Configured { keys: vec![text()] },
            What::Moved { to: "n2".parse().expect("valid"), next: Epoch(8), live: true },
        ];
        for (number, what) in all.into_iter().enumerate() {
            let happening = Happening { at_ms: 3, first_ms: 2, count: 1, epoch: Epoch(7), what };
            let bytes = codec::encode(&happening).expect("encodes");
            let begins = format!("03020107{number:02x}");
            assert!(hex(&bytes).starts_with(&begins), "{happening:?}: {}", hex(&bytes));
            assert_eq!(codec::decode::<Happening>(&bytes), Ok(happening));
        }
    }
}
