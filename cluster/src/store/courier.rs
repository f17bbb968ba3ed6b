//! Changes on their way to the leader of a group: those that come while others are under way go
//! together.
//!
//! One request to the leader, one message to its core and one answer carry as many changes as
//! waited; each is an entry of its own in the log. A lone change waits for nobody; few that come
//! while a load is under way wait for its answer, a millisecond at most. So the cost of the way is
//! shared the more, the more there is to do.
//!
//! Who waits for an answer does not keep others waiting: it is the replica's task that carries.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use odeum_proto::NodeId;
use odeum_proto::log::{Forward, StoreReply, StoreRequest};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::rpc::Rpc;
use super::seat::Seat;

/// Loads under way at a time. More makes smaller loads, and one would leave the leader without
/// work for a round trip; so those beyond the second only go when the way is long.
const UNDER_WAY: usize = 4;

/// Loads that may be under way however short the way is, when they are [`WORTH`] it.
const AT_ONCE: usize = 2;

/// Changes that are worth a second load while one is under way. With fewer two loads would go in
/// turn, each waiting for the other, and each change for both: what few do goes in one load.
const WORTH: usize = 64;

/// How long after the last load another may follow that could not go at once.
const APART: Duration = Duration::from_millis(1);

/// Changes that go together at most.
const LOAD: usize = 512;

/// Bytes of changes after which a load is full: a quarter of what fits a frame, so that the
/// largest change still fits behind others.
const LOAD_BYTES: usize = 1 << 20;

/// Changes that wait for the courier; more wait outside.
const QUEUE: usize = 4 * LOAD;

/// One change to be carried.
pub(super) struct Parcel {
    pub(super) leader: NodeId,
    /// The encoded command.
    pub(super) command: Bytes,
    pub(super) until: Instant,
    pub(super) answer: oneshot::Sender<StoreReply>,
}

/// Where parcels are given in, and where the courier takes them from.
pub(super) fn queue() -> (mpsc::Sender<Parcel>, mpsc::Receiver<Parcel>) {
    mpsc::channel(QUEUE)
}

/// Carries what is given in, until nobody can give in anything any more.
pub(super) async fn run(seat: Arc<Seat>, rpc: Arc<dyn Rpc>, mut parcels: mpsc::Receiver<Parcel>) {
    let mut under_way = FuturesUnordered::new();
    let mut packed = VecDeque::new();
    let mut waiting = Vec::new();
    let mut last = Instant::now();
    loop {
        if let Some(room @ 1..) = LOAD.checked_sub(waiting.len())
            && let Some(0) = parcels.recv_many(&mut waiting, room).now_or_never()
        {
            return;
        }
        if packed.is_empty() && has_room(under_way.len(), last, waiting.len()) {
            packed.extend(loads(waiting.drain(..), Instant::now()));
        }
        while has_room(under_way.len(), last, packed.iter().map(Load::len).sum())
            && let Some(load) = packed.pop_front()
        {
            last = Instant::now();
            under_way.push(carry(&seat, &rpc, load));
        }
        let some_wait = !(waiting.is_empty() && packed.is_empty());
        let room = LOAD.saturating_sub(waiting.len());
        tokio::select! {
            biased;
            Some(carried) = under_way.next() => {
                // Who was answered may ask again at once, and goes with those who wait.
                if carried < WORTH {
                    tokio::task::yield_now().await;
                }
            }
            () = sleep_until(last + APART), if some_wait && waits_for_time(under_way.len(), last) => {}
            taken = parcels.recv_many(&mut waiting, room), if room > 0 => {
                if taken == 0 {
                    return;
                }
            }
        }
    }
}

/// Whether another load of `waiting` changes may go while `number` are under way, of which the last
/// went at `last`.
fn has_room(number: usize, last: Instant, waiting: usize) -> bool {
    match number {
        0 => true,
        1..AT_ONCE if waiting >= WORTH => true,
        _ => number < UNDER_WAY && last.elapsed() >= APART,
    }
}

/// Whether another may go when some time has passed, however few wait.
fn waits_for_time(number: usize, last: Instant) -> bool {
    (1..UNDER_WAY).contains(&number) && last.elapsed() < APART
}

/// What goes together: to one leader, and not too much.
#[derive(Debug)]
struct Load {
    leader: NodeId,
    until: Instant,
    commands: Vec<Bytes>,
    answers: Vec<oneshot::Sender<StoreReply>>,
}

impl Load {
    fn len(&self) -> usize {
        self.commands.len()
    }
}

/// Packs parcels, in their order. Those that nobody waits for any more are left out.
fn loads(parcels: impl Iterator<Item = Parcel>, now: Instant) -> Vec<Load> {
    let mut full = Vec::new();
    let mut open: BTreeMap<NodeId, (usize, Load)> = BTreeMap::new();
    for Parcel { leader, command, until, answer } in parcels {
        if answer.is_closed() || until <= now {
            continue;
        }
        let (bytes, load) = open.entry(leader).or_insert_with_key(|leader| {
            let leader = leader.clone();
            (0, Load { leader, until, commands: Vec::new(), answers: Vec::new() })
        });
        if *bytes > 0 && *bytes + command.len() > LOAD_BYTES {
            let leader = load.leader.clone();
            let next = Load { leader, until, commands: Vec::new(), answers: Vec::new() };
            full.push(std::mem::replace(load, next));
            *bytes = 0;
        }
        *bytes += command.len();
        load.until = load.until.max(until);
        load.commands.push(command);
        load.answers.push(answer);
    }
    full.extend(open.into_values().map(|(_, load)| load));
    full
}

/// How many changes it had.
async fn carry(seat: &Seat, rpc: &Arc<dyn Rpc>, load: Load) -> usize {
    let number = load.len();
    let Load { leader, until, commands, mut answers } = load;
    let remaining = until.saturating_duration_since(Instant::now());
    let forward = Forward { remaining, request: StoreRequest::Propose(commands) };
    let forgotten = async {
        for answer in &mut answers {
            answer.closed().await;
        }
    };
    let reply = tokio::select! {
        biased;
        reply = seat.forward(&leader, forward, rpc) => reply,
        // It keeps no place from others.
        () = forgotten => return number,
    };
    let mut answers = answers.into_iter();
    // Who has gone needs no answer.
    let rest = match reply {
        StoreReply::Proposed(written) => {
            for ((outcome, at), answer) in written.into_iter().zip(answers.by_ref()) {
                let _ = answer.send(StoreReply::Written { outcome, at });
            }
            StoreReply::Unknown { reason: "it leads no more".into() }
        }
        other => other,
    };
    for answer in answers {
        let _ = answer.send(rest.clone());
    }
    number
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    type Waiter = oneshot::Receiver<StoreReply>;

    fn parcel(leader: &str, bytes: usize, until: Instant) -> (Parcel, Waiter) {
        let (answer, waiter) = oneshot::channel();
        let leader = leader.parse().expect("a name");
        (Parcel { leader, command: vec![0; bytes].into(), until, answer }, waiter)
    }

    fn sizes(loads: &[Load]) -> Vec<(&str, Vec<usize>)> {
        let of = |load: &Load| load.commands.iter().map(Bytes::len).collect();
        loads.iter().map(|load| (load.leader.as_str(), of(load))).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_load_goes_when_it_is_worth_it_and_a_third_only_when_the_way_is_long() {
        let last = Instant::now();
        assert!(has_room(0, last, 1));
        assert!(!has_room(1, last, WORTH - 1) && has_room(1, last, WORTH));
        assert!(!has_room(2, last, LOAD) && waits_for_time(2, last));
        tokio::time::advance(APART).await;
        assert!(has_room(1, last, 1) && has_room(2, last, 1) && has_room(3, last, 1));
        assert!(!has_room(4, last, LOAD) && !waits_for_time(4, last));
    }

    #[test]
    fn what_goes_to_one_leader_goes_together_in_its_order() {
        let now = Instant::now();
        let until = now + Duration::from_secs(1);
        let wanted = [("n1", 1), ("n2", 2), ("n1", 3), ("n2", 4)];
        let (parcels, _waiters): (Vec<_>, Vec<_>) =
            wanted.into_iter().map(|(leader, bytes)| parcel(leader, bytes, until)).unzip();
        let packed = loads(parcels.into_iter(), now);
        assert_eq!(sizes(&packed), [("n1", vec![1, 3]), ("n2", vec![2, 4])]);
    }

    #[test]
    fn a_load_is_bounded_and_a_change_that_is_larger_goes_alone() {
        let now = Instant::now();
        let until = now + Duration::from_secs(1);
        let wanted = [10, LOAD_BYTES - 10, 1, 2 * LOAD_BYTES, 5];
        let (parcels, _waiters): (Vec<_>, Vec<_>) =
            wanted.into_iter().map(|bytes| parcel("n1", bytes, until)).unzip();
        let packed = loads(parcels.into_iter(), now);
        let expected = [
            ("n1", vec![10, LOAD_BYTES - 10]),
            ("n1", vec![1]),
            ("n1", vec![2 * LOAD_BYTES]),
            ("n1", vec![5]),
        ];
        assert_eq!(sizes(&packed), expected);
    }

    #[test]
    fn what_nobody_waits_for_is_not_carried_and_a_load_may_take_as_long_as_its_most_patient() {
        let now = Instant::now();
        let later = |seconds| now + Duration::from_secs(seconds);
        let (gone, waiter) = parcel("n1", 1, later(9));
        drop(waiter);
        let (late, _late) = parcel("n1", 2, now);
        let (patient, _patient) = parcel("n1", 3, later(5));
        let (hasty, _hasty) = parcel("n1", 4, later(1));
        let packed = loads([gone, late, patient, hasty].into_iter(), now);
        assert_eq!(sizes(&packed), [("n1", vec![3, 4])]);
        assert!(packed.iter().all(|load| load.until == later(5)));
    }
}
