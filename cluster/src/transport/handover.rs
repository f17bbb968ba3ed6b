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
//! There are two cases in which messages are lost, which step 2 says. A side that had the higher one
//! first never uses the lower, nor reads its lanes: it is *surplus* there. And a side that is given
//! way to on a connection without having another yet ends its lanes with it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quinn::{ReadExactError, RecvStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::conn::Conn;
use super::frame::FrameError;
use super::handle::Shared;
use super::pump::Fault;
use super::{Class, settings};

/// How long a connection that gives way may stay for what is under way on it. It costs next to
/// nothing; requests that take longer fail as if the link was lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the peer is told first: its lanes are read to their end, and this side's go on elsewhere.
const GOES_ON: u8 = 0;
/// Its lanes are not read, and nothing was sent by this side's.
const SURPLUS: u8 = 1;
/// Its lanes are read to their end, and nothing more comes by this side's, answers neither.
const ENDS: u8 = 2;
/// What the peer is told then: its lanes have been read to their end.
const DELIVERED: u8 = 3;

/// Where a connection stands on its way out.
#[derive(Debug)]
pub(super) struct Handover {
    /// Whether this side never used it.
    surplus: bool,
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
    /// Whether the lanes go over to another connection, once that is decided.
    goes_over: Option<bool>,
    /// Whether the peer said that what was sent by the lanes is lost, or has no answer.
    is_lost: bool,
    /// Whether the lanes have ended with the connection.
    lanes_ended: bool,
}

impl Handover {
    pub(super) fn new(surplus: bool) -> Arc<Self> {
        let lanes = || std::array::from_fn(|_| CancellationToken::new());
        let state = State { goes_over: surplus.then_some(false), ..State::default() };
        Arc::new(Self {
            surplus,
            state: Mutex::new(state),
            begun: CancellationToken::new(),
            peer_begun: CancellationToken::new(),
            done: CancellationToken::new(),
            peer_done: CancellationToken::new(),
            delivered: CancellationToken::new(),
            written: lanes(),
            read: lanes(),
            ended: CancellationToken::new(),
        })
    }

    /// Whether this side never used the connection.
    pub(super) fn is_surplus(&self) -> bool {
        self.surplus
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

    /// Decides whether the lanes go over to another connection, if there is one: not when what was
    /// sent by them is lost, nor when they have ended.
    pub(super) fn decide(&self, is_succeeded: bool) -> bool {
        let mut state = self.lock();
        let goes_over = is_succeeded && !state.is_lost && !state.lanes_ended;
        *state.goes_over.insert(goes_over)
    }

    /// The connection has ended. What was decided, which cannot be any more.
    pub(super) fn end_lanes(&self) -> Option<bool> {
        let mut state = self.lock();
        state.lanes_ended = true;
        state.goes_over
    }

    /// Whether the lanes went over; `None` when this side has not given way.
    pub(super) fn decided(&self) -> Option<bool> {
        self.lock().goes_over
    }

    /// Whether the peer said that what was sent by the lanes is lost, or has no answer.
    pub(super) fn is_lost(&self) -> bool {
        self.lock().is_lost
    }

    /// Whether something that was sent by lanes that went over may be lost, now that the connection
    /// has ended, and has not been told of before.
    pub(super) fn has_lost(&self, quic: &quinn::Connection) -> bool {
        if self.is_lost() {
            return false;
        }
        let closed_as_done = self.done.is_cancelled() && super::hello::is_duplicate(quic);
        let is_delivered = self.delivered.is_cancelled() || closed_as_done;
        let is_read = self.read.iter().all(CancellationToken::is_cancelled);
        !is_delivered || !is_read
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

    /// The peer gives way. Whether lanes that went over have lost what was sent by this one.
    fn peer_gives_way(&self, how: u8) -> bool {
        let mut state = self.lock();
        state.is_lost = how != GOES_ON;
        if how == SURPLUS {
            // It sends nothing by them.
            self.read.iter().for_each(CancellationToken::cancel);
        }
        self.peer_begun.cancel();
        state.is_lost && state.goes_over == Some(true)
    }

    /// What the peer is told first.
    fn how(&self) -> u8 {
        match self.decided() {
            _ if self.surplus => SURPLUS,
            Some(true) => GOES_ON,
            _ => ENDS,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sees a connection out, once it gives way.
pub(super) async fn run(conn: Arc<Conn>, shared: Arc<Shared>) -> Result<(), Fault> {
    conn.handover().begun.cancelled().await;
    // Whatever became of it, the connection ends here.
    match timeout(PATIENCE, take_leave(&conn)).await {
        Ok(Ok(())) => conn.quic.close(settings::CLOSE_DUPLICATE, b"another connection stays"),
        Ok(Err(Fault::Protocol(error))) => return Err(error.into()),
        Ok(Err(Fault::Lost)) => conn.quic.close(settings::CLOSE_ORDERLY, b"it gave way"),
        Err(_) => {
            tracing::warn!(
                node = %shared.local, peer = %conn.peer, patience = ?PATIENCE,
                "a connection that gave way ends before all on it is done"
            );
            conn.quic.close(settings::CLOSE_ORDERLY, b"it gave way and was not done in time");
        }
    }
    Ok(())
}

/// Steps 2 to 4, and the wait for the peer's.
async fn take_leave(conn: &Conn) -> Result<(), Fault> {
    let handover = conn.handover();
    let lost = |_| Fault::Lost;
    let mut send = conn.quic.open_uni().await.map_err(|_| Fault::Lost)?;
    // A stream that is gone already fails at the write that follows.
    let _ = send.set_priority(settings::priority(Class::Control));
    send.write_all(&[settings::TAG_GIVE_WAY, handover.how()]).await.map_err(lost)?;
    if !handover.surplus {
        for read in &handover.read {
            read.cancelled().await;
        }
    }
    send.write_all(&[DELIVERED]).await.map_err(lost)?;
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
    let [how] = word;
    if ![GOES_ON, SURPLUS, ENDS].contains(&how) || handover.peer_begun.is_cancelled() {
        return Err(malformed(how));
    }
    if handover.peer_gives_way(how) {
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
