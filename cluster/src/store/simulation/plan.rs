//! What happens in a run: drawn from its seed before it begins.

use std::time::Duration;

use crate::store::seeds::Random;

/// Something that goes wrong, or that an operator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The process of a node dies, and starts again.
    Kill(usize),
    /// The machine of a node loses its power.
    PowerLoss(usize),
    /// It loses it in the middle of a flush: of the so many-th from now.
    PowerLossInFlush(usize, u64),
    /// All machines lose their power at once.
    Blackout,
    /// A node hears nobody and is heard by nobody.
    Cut(usize),
    /// What the first says to the second is lost.
    Deaf(usize, usize),
    /// What two say to each other comes when this is over.
    Hold(usize, usize),
    /// So many messages of a hundred are lost.
    Loss(u64),
    /// A node gives up what it leads.
    HandOver(usize),
    /// A node is removed for good.
    Leave(usize),
    /// A new node joins.
    Join,
}

/// A fault, when it begins and how long it lasts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timed {
    pub(super) at: Duration,
    pub(super) lasts: Duration,
    pub(super) fault: Fault,
}

/// A run.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// How many nodes there are at first. One more may join.
    pub(super) nodes: usize,
    /// The longest way of a message.
    pub(super) latency: Duration,
    /// The longest time of a flush.
    pub(super) flush: Duration,
    /// Entries between two snapshots.
    pub(super) snapshot_every: u64,
    /// How large a segment of the log becomes.
    pub(super) segment_bytes: u64,
    /// How long clients are busy.
    pub(super) busy: Duration,
    /// The longest pause of a client between two requests.
    pub(super) pause: Duration,
    pub(super) faults: Vec<Timed>,
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

impl Plan {
    pub(super) fn new(random: &mut Random) -> Self {
        let nodes = random.pick(&[3, 3, 3, 5]);
        let busy = random.within(6_000..12_000);
        let mut faults: Vec<Timed> = (0..random.within(3..10))
            .map(|_| Timed {
                at: ms(random.below(busy)),
                lasts: ms(random.within(100..3_000)),
                fault: Fault::draw(random, nodes as u64),
            })
            .collect();
        faults.sort_by_key(|timed| timed.at);
        // Of many that leave or join only the first does.
        let mut seen = Vec::new();
        faults.retain(|timed| {
            let rare = match timed.fault {
                Fault::Leave(_) => 1,
                Fault::Join => 2,
                _ => return true,
            };
            let first = !seen.contains(&rare);
            seen.push(rare);
            first
        });
        Self {
            nodes,
            latency: ms(random.pick(&[2, 10, 40])),
            flush: ms(random.pick(&[0, 2, 10, 40])),
            snapshot_every: random.pick(&[10, 40, 200]),
            segment_bytes: random.pick(&[4_096, 16_384, 65_536]),
            busy: ms(busy),
            pause: ms(random.pick(&[20, 100, 300])),
            faults,
        }
    }
}

impl Fault {
    fn draw(random: &mut Random, nodes: u64) -> Self {
        let node = random.below(nodes) as usize;
        let other = (node + 1 + random.below(nodes - 1) as usize) % nodes as usize;
        match random.below(18) {
            0 | 1 => Self::Kill(node),
            2..=4 => Self::PowerLoss(node),
            5..=7 => Self::PowerLossInFlush(node, random.below(20)),
            8 => Self::Blackout,
            9 | 10 => Self::Cut(node),
            11 => Self::Deaf(node, other),
            12 | 13 => Self::Hold(node, other),
            14 => Self::Loss(random.within(1..15)),
            15 => Self::HandOver(node),
            16 => Self::Leave(node),
            _ => Self::Join,
        }
    }
}
