//! How one of two connections between the same two processes gives way to the other, with nothing
//! lost for it.
//!
//! Both nodes dial after a partition, so there may be two connections for a moment, and both may be
//! in use by the time that one is found to be the lower. Each side then, on the lower one,
//! 1. asks nothing more: requests go by the other, and so do the entity lanes, whose writers stop
//!    between two packets and end their streams, so that the other's go on where they stopped;
//! 2. tells the peer, by a stream of its own, which gives way too if it has not yet;
//! 3. says by that stream when all that the peer has sent by its lanes is delivered, before which
//!    no later connection's lanes deliver anything;
//! 4. ends that stream when, besides, all it has asked is answered.
//!
//! Who has ended its stream and has seen the end of the peer's closes the connection.
//!
//! There are two cases in which messages are lost, which step 2 says (see [`Lanes`]). A side that had
//! the higher one first never uses the lower, nor reads its lanes. And a side that is given way to on
//! a connection without having another yet ends its lanes with it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quinn::{ReadExactError, RecvStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::conn::Conn;
use super::frame::FrameError;
use super::handle::Shared;
use super::pump::Fault;
use super::{Class, settings};

/// What the peer is told behind its word on the [`Lanes`]: those it has sent by have been read to
/// their end.
pub(super) const DELIVERED: u8 = 3;

/// What becomes of the lanes of a side that gives way on a connection; the first thing the peer is
/// told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lanes {
    /// The peer's are read to their end, and this side's go on by another connection.
    GoOn,
    /// The peer's are not read, and nothing was sent by this side's.
    Unused,
    /// The peer's are read to their end, and nothing more comes by this side's, answers neither.
    End,
}

impl Lanes {
    fn from_wire(word: u8) -> Option<Self> {
        match word {
            0 => Some(Self::GoOn),
            1 => Some(Self::Unused),
            2 => Some(Self::End),
            _ => None,
        }
    }

    pub(super) fn to_wire(self) -> u8 {
        match self {
            Self::GoOn => 0,
            Self::Unused => 1,
            Self::End => 2,
        }
    }

    /// Whether what the other side has sent is lost, or has no answer.
    fn lose_what_came(self) -> bool {
        self != Self::GoOn
    }
}

/// Where a connection stands on its way out.
#[derive(Debug)]
pub(super) struct Handover {
    state: Mutex<State>,
    /// This side gives way.
    begun: CancellationToken,
    /// The peer gives way.
    peer_begun: CancellationToken,
    /// This side needs the connection no more, and has said so.
    done: CancellationToken,
    /// Nor does the peer.
    peer_done: CancellationToken,
    /// All that this side has sent by its lanes has been delivered.
    delivered: CancellationToken,
    /// The writers of the lanes that have stopped.
    written: [CancellationToken; settings::LANES],
    /// The peer's lanes whose end has been delivered.
    read: [CancellationToken; settings::LANES],
    /// Nothing runs on it any more.
    ended: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    /// What becomes of this side's lanes, once that is decided.
    own: Option<Lanes>,
    /// What becomes of the peer's, once it has said so.
    peers: Option<Lanes>,
    /// Whether the connection has ended, and what was not decided of its lanes is so for good.
    has_ended: bool,
    /// Whether it has been told that lanes which go on have lost something.
    is_loss_told: bool,
}

impl Handover {
    /// That of a connection of which `lanes` says whether it is to give way from the start.
    pub(super) fn new(lanes: Option<Lanes>) -> Arc<Self> {
        let each = || std::array::from_fn(|_| CancellationToken::new());
        Arc::new(Self {
            state: Mutex::new(State { own: lanes, ..State::default() }),
            begun: CancellationToken::new(),
            peer_begun: CancellationToken::new(),
            done: CancellationToken::new(),
            peer_done: CancellationToken::new(),
            delivered: CancellationToken::new(),
            written: each(),
            read: each(),
            ended: CancellationToken::new(),
        })
    }

    /// Whether this side never uses the connection.
    pub(super) fn is_unused(&self) -> bool {
        self.lock().own == Some(Lanes::Unused)
    }

    /// Set when this side gives way.
    pub(super) fn begun(&self) -> &CancellationToken {
        &self.begun
    }

    /// Set when the peer gives way.
    pub(super) fn peer_begun(&self) -> &CancellationToken {
        &self.peer_begun
    }

    /// Set when nothing runs on it any more.
    pub(super) fn ended(&self) -> &CancellationToken {
        &self.ended
    }

    /// Has the lanes of a connection in use, of which nothing is decided, go on by another one; whether
    /// they do. They end when what was sent by them is lost, and when the connection has ended.
    pub(super) fn go_on(&self) -> bool {
        let mut state = self.lock();
        debug_assert!(state.own.is_none(), "decided before: {:?}", state.own);
        let ends = state.has_ended || state.peers.is_some_and(Lanes::lose_what_came);
        let own = if ends { Lanes::End } else { Lanes::GoOn };
        *state.own.insert(own) == Lanes::GoOn
    }

    /// This side gives way, if it has not yet. What becomes of its lanes: they end if nothing else was
    /// decided.
    pub(super) fn begin(&self) -> Lanes {
        let own = *self.lock().own.get_or_insert(Lanes::End);
        self.begun.cancel();
        own
    }

    /// The connection has ended. What was decided of the lanes, which cannot be any more.
    pub(super) fn end(&self) -> Option<Lanes> {
        let mut state = self.lock();
        state.has_ended = true;
        state.own
    }

    /// Whether the peer said that what was sent by the lanes is lost, or has no answer.
    pub(super) fn is_lost(&self) -> bool {
        self.lock().peers.is_some_and(Lanes::lose_what_came)
    }

    /// Whether something that was sent by lanes that go on may be lost, now that the connection has
    /// ended.
    pub(super) fn has_lost(&self, quic: &quinn::Connection) -> bool {
        let closed_as_done = self.done.is_cancelled() && super::hello::is_duplicate(quic);
        let is_delivered = self.delivered.is_cancelled() || closed_as_done;
        let is_read = self.read.iter().all(CancellationToken::is_cancelled);
        self.is_lost() || !is_delivered || !is_read
    }

    /// Whether nobody has told yet that lanes which go on have lost something; whoever asks tells it.
    pub(super) fn tells_loss(&self) -> bool {
        !std::mem::replace(&mut self.lock().is_loss_told, true)
    }

    /// The end of the writer of a lane, however it comes.
    pub(super) fn writing(&self, lane: usize) -> Option<tokio_util::sync::DropGuard> {
        self.written.get(lane).map(|written| written.clone().drop_guard())
    }

    /// Waits until the writer of a lane has stopped.
    pub(super) async fn written(&self, lane: usize) {
        self.is_over(self.written.get(lane)).await;
    }

    /// The end of the peer's lane has been delivered.
    pub(super) fn has_read(&self, lane: usize) {
        if let Some(read) = self.read.get(lane) {
            read.cancel();
        }
    }

    /// Waits until all that the peer sent by a lane of this connection has been delivered.
    pub(super) async fn read(&self, lane: usize) {
        self.is_over(self.read.get(lane)).await;
    }

    async fn is_over(&self, lane: Option<&CancellationToken>) {
        let Some(lane) = lane else { return };
        tokio::select! {
            biased;
            () = lane.cancelled() => {}
            () = self.ended.cancelled() => {}
        }
    }

    /// The peer gives way; `false` when it has said so before.
    fn peer_gives_way(&self, lanes: Lanes) -> bool {
        let mut state = self.lock();
        if state.peers.is_some() {
            return false;
        }
        state.peers = Some(lanes);
        if lanes == Lanes::Unused {
            // It sends nothing by them.
            self.read.iter().for_each(CancellationToken::cancel);
        }
        self.peer_begun.cancel();
        true
    }

    /// Whether this side's lanes go on and have lost what was sent by them.
    fn go_on_with_loss(&self) -> bool {
        let state = self.lock();
        state.own == Some(Lanes::GoOn) && state.peers.is_some_and(Lanes::lose_what_came)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sees a connection out, once it gives way.
pub(super) async fn run(conn: Arc<Conn>, shared: Arc<Shared>) -> Result<(), Fault> {
    conn.handover().begun.cancelled().await;
    // Whatever became of it, the connection ends here.
    let (code, reason) = match timeout(shared.patience, take_leave(&conn)).await {
        Ok(Ok(())) => (settings::CLOSE_DUPLICATE, "another connection stays"),
        // Its stream is gone.
        Ok(Err(_)) => (settings::CLOSE_ORDERLY, "it gave way"),
        Err(_) => {
            tracing::warn!(
                node = %shared.local, peer = %conn.peer, patience = ?shared.patience,
                "a connection that gave way ends before all on it is done"
            );
            (settings::CLOSE_ORDERLY, "it gave way and was not done in time")
        }
    };
    conn.quic.close(code, reason.as_bytes());
    Ok(())
}

/// Steps 2 to 4, and the wait for the peer's.
async fn take_leave(conn: &Conn) -> Result<(), Fault> {
    let handover = conn.handover();
    let lanes = handover.begin();
    let mut send = conn.quic.open_uni().await.map_err(|_| Fault::Lost)?;
    // A stream that is gone already fails at the write that follows.
    let _ = send.set_priority(settings::priority(Class::Control));
    let word = [settings::TAG_GIVE_WAY, lanes.to_wire()];
    send.write_all(&word).await.map_err(|_| Fault::Lost)?;
    if lanes != Lanes::Unused {
        for read in &handover.read {
            read.cancelled().await;
        }
    }
    send.write_all(&[DELIVERED]).await.map_err(|_| Fault::Lost)?;
    conn.all_answered().await;
    send.finish().map_err(|_| Fault::Lost)?;
    handover.done.cancel();
    handover.peer_done.cancelled().await;
    Ok(())
}

/// Follows the stream by which the peer says that it gives way; the tag has been read.
pub(super) async fn follow(
    conn: &Conn,
    shared: &Shared,
    mut recv: RecvStream,
) -> Result<(), Fault> {
    let handover = conn.handover();
    let malformed = |got| Fault::from(FrameError::Unknown { what: "word of giving way", got });
    let mut word = [0];
    recv.read_exact(&mut word).await.map_err(|_| Fault::Lost)?;
    let [got] = word;
    let lanes = Lanes::from_wire(got).ok_or_else(|| malformed(got))?;
    if !handover.peer_gives_way(lanes) {
        return Err(malformed(got));
    }
    if handover.go_on_with_loss() {
        // Until then this connection may yet take something that is lost, too.
        handover.begun.cancelled().await;
        for written in &handover.written {
            written.cancelled().await;
        }
        conn.lose_lanes(shared);
    }
    recv.read_exact(&mut word).await.map_err(|_| Fault::Lost)?;
    match word {
        [DELIVERED] => handover.delivered.cancel(),
        [got] => return Err(malformed(got)),
    }
    match recv.read_exact(&mut word).await {
        Err(ReadExactError::FinishedEarly(_)) => {
            handover.peer_done.cancel();
            Ok(())
        }
        Err(ReadExactError::ReadError(_)) => Err(Fault::Lost),
        Ok(()) => {
            let [got] = word;
            Err(malformed(got))
        }
    }
}
