//! Entities in Rust that count, and the door by which generators reach them: a node of a program that
//! has Odeum built in takes requests from outside and asks its entities.
//!
//! One line there, one line back under the same number, in any order:
//!
//! ```text
//! 17 ask 4711 g0 12 xxxx     entity 4711 counts message 12 of sender g0
//! 17 ok 31 n2 815 12 0 0 0   it has counted 31, on n2, in life 815; of g0 it had 12 last, missed 0, had 0
//!                            twice and 0 behind later ones
//! 18 tell 4711 g0 13 xxxx    the same without waiting for it
//! 18 ok
//! 19 err unavailable
//! ```
//! What is told comes to an entity in the order of the lines of one connection.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use odeum_actors::ActorError;
use odeum_cluster::entity::{
    CallError, EntitiesHandle, Entity, EntityContext, EntityMessage, EntityRef, Kind,
};
use odeum_proto::EntityId;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, BufWriter};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::monotonic;

/// The kind of these entities.
const KIND: &str = "counted";

/// A sender whose messages count and have no order.
pub(crate) const NOBODY: &str = "-";

/// How long an entity may take for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Missed messages of a sender that an entity remembers, to know a late one: far more than are under way.
const MISSING: u64 = 1_000;

/// Lines that wait to be written to a connection.
const LINES: usize = 4_096;

/// What an entity is sent.
#[derive(Debug, Serialize, Deserialize)]
struct Count {
    sender: Box<str>,
    /// The place among those of that sender; 0 asks and does not count.
    number: u64,
    /// Means nothing.
    payload: String,
}

impl EntityMessage for Count {
    type Reply = Counted;
}

/// What an entity knows of the messages it has had.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counted {
    /// Messages of all senders in this life.
    pub(crate) count: u64,
    /// Where it is.
    pub(crate) node: String,
    /// When this life began, by the clock of the machine that nobody sets: a later life has a larger one.
    pub(crate) life: u64,
    /// The number of the latest message of the sender.
    pub(crate) last: u64,
    /// Messages of the sender that should have come between those that came.
    pub(crate) missed: u64,
    /// Messages of the sender that came again.
    pub(crate) again: u64,
    /// Messages of the sender that came behind later ones.
    pub(crate) late: u64,
}

/// What an entity has of one sender.
#[derive(Debug, Default)]
struct Sender {
    last: u64,
    /// None as long as each message came behind the one before it: there may be a million senders.
    gaps: Option<Box<Gaps>>,
}

/// What came otherwise.
#[derive(Debug, Default)]
struct Gaps {
    missed: u64,
    again: u64,
    late: u64,
    /// The latest of those that were missed.
    missing: BTreeSet<u64>,
}

impl Sender {
    /// A message came.
    fn had(&mut self, number: u64) {
        // The first one of a life may be any: those before were another life's.
        let expected = if self.last == 0 { number } else { self.last + 1 };
        if number != expected {
            self.gaps.get_or_insert_default().had(number, expected);
        }
        self.last = self.last.max(number);
    }
}

impl Gaps {
    fn had(&mut self, number: u64, expected: u64) {
        if number > expected {
            self.missed += number - expected;
            let remembered = number.saturating_sub(MISSING).max(expected);
            self.missing.extend(remembered..number);
            while self.missing.len() as u64 > MISSING {
                self.missing.pop_first();
            }
        } else if self.missing.remove(&number) {
            self.missed -= 1;
            self.late += 1;
        } else {
            self.again += 1;
        }
    }
}

/// An entity that counts.
#[derive(Debug)]
struct Counter {
    life: u64,
    count: u64,
    senders: HashMap<Box<str>, Sender>,
}

impl Entity for Counter {
    type Message = Count;

    async fn handle(
        &mut self,
        ctx: &mut EntityContext<'_, Self>,
        Count { sender, number, .. }: Count,
    ) -> Result<Counted, ActorError> {
        let has_order = &*sender != NOBODY;
        let of = self.senders.entry(sender).or_default();
        if number > 0 {
            self.count += 1;
            if has_order {
                of.had(number);
            }
        }
        let (missed, again, late) = match &of.gaps {
            None => (0, 0, 0),
            Some(gaps) => (gaps.missed, gaps.again, gaps.late),
        };
        Ok(Counted {
            count: self.count,
            node: ctx.node().to_string(),
            life: self.life,
            last: of.last,
            missed,
            again,
            late,
        })
    }
}

/// The kind that a node hosts.
pub(crate) fn kind() -> anyhow::Result<Kind> {
    let begin =
        |_: &EntityId| Counter { life: monotonic::now(), count: 0, senders: HashMap::new() };
    Ok(Kind::new(KIND.parse()?, begin))
}

/// Lets generators in at `addr`, for as long as the process lives.
pub(crate) fn open(entities: EntitiesHandle, addr: SocketAddr) {
    tokio::spawn(async move {
        if let Err(error) = listen(entities, addr).await {
            tracing::error!(%error, "the door is closed");
        }
    });
}

async fn listen(entities: EntitiesHandle, addr: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(addr).await.with_context(|| addr.to_string())?;
    let mut guests = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let entities = entities.clone();
        guests.spawn(async move { serve(entities, stream).await });
        while guests.try_join_next().is_some() {}
    }
}

async fn serve(entities: EntitiesHandle, stream: TcpStream) {
    let (read, write) = stream.into_split();
    let (answers, queue) = mpsc::channel(LINES);
    let mut work = JoinSet::new();
    work.spawn(write_lines(queue, write));
    let mut lines = BufReader::new(read).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let Some(request) = Request::parse(&line) else { break };
        let (id, is_tell) = (request.id, request.is_tell);
        let Some((entity, message)) = request.of(&entities) else { break };
        if is_tell {
            // One after the other, so that their order is that of the lines.
            let line = match entity.tell(message).await {
                Ok(()) => format!("{id} ok\n"),
                Err(error) => format!("{id} err {}\n", word_for(&error)),
            };
            if answers.send(line).await.is_err() {
                break;
            }
        } else {
            let answers = answers.clone();
            work.spawn(async move {
                let line = match entity.ask(message, PATIENCE).await {
                    Ok(Counted { count, node, life, last, missed, again, late }) => {
                        format!("{id} ok {count} {node} {life} {last} {missed} {again} {late}\n")
                    }
                    Err(error) => format!("{id} err {}\n", word_for(&error)),
                };
                // Who has gone does not wait for it.
                let _ = answers.send(line).await;
            });
        }
        while work.try_join_next().is_some() {}
    }
}

/// Why there is no answer, in a word: those of the same word are counted together.
fn word_for(error: &CallError) -> &'static str {
    match error {
        CallError::Unavailable { .. } => "unavailable",
        CallError::Unreachable { .. } => "unreachable",
        CallError::DeadlineExceeded { .. } => "deadline",
        CallError::Overloaded { .. } => "overloaded",
        CallError::TooLarge { .. } => "too-large",
        _ => "refused",
    }
}

/// Writes lines, several at a time where several wait.
async fn write_lines(mut queue: mpsc::Receiver<String>, write: OwnedWriteHalf) {
    let mut write = BufWriter::new(write);
    while let Some(line) = queue.recv().await {
        if write.write_all(line.as_bytes()).await.is_err() {
            return;
        }
        while let Ok(line) = queue.try_recv() {
            if write.write_all(line.as_bytes()).await.is_err() {
                return;
            }
        }
        if write.flush().await.is_err() {
            return;
        }
    }
}

struct Request<'a> {
    id: u64,
    is_tell: bool,
    entity: &'a str,
    sender: &'a str,
    number: u64,
    payload: &'a str,
}

impl<'a> Request<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.splitn(6, ' ');
        let mut word = || words.next();
        Some(Self {
            id: word()?.parse().ok()?,
            is_tell: match word()? {
                "tell" => true,
                "ask" => false,
                _ => return None,
            },
            entity: word()?,
            sender: word()?,
            number: word()?.parse().ok()?,
            payload: word().unwrap_or_default(),
        })
    }

    fn of(self, entities: &EntitiesHandle) -> Option<(EntityRef<Count>, Count)> {
        let id: EntityId = format!("{KIND}/{}", self.entity).parse().ok()?;
        let (sender, payload) = (self.sender.into(), self.payload.to_owned());
        Some((entities.entity(id), Count { sender, number: self.number, payload }))
    }
}

/// Why a message by a door has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DoorError {
    /// It was not sent.
    Closed,
    /// It was sent, and nobody knows what came of it.
    Lost,
    /// The node says that there is no answer.
    Refused(String),
}

/// A connection to a door, made anew when it is lost.
#[derive(Debug)]
pub(crate) struct Visitor {
    addr: SocketAddr,
    next: AtomicU64,
    /// Of the present connection.
    connection: tokio::sync::Mutex<Option<Arc<Connection>>>,
}

#[derive(Debug)]
struct Connection {
    lines: mpsc::Sender<String>,
    /// Who waits for which answer; none when the connection is lost.
    waiting: Mutex<Option<HashMap<u64, oneshot::Sender<String>>>>,
    work: Mutex<JoinSet<()>>,
}

impl Connection {
    fn waiting(&self) -> MutexGuard<'_, Option<HashMap<u64, oneshot::Sender<String>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Visitor {
    /// Connects when first used.
    pub(crate) fn new(addr: SocketAddr) -> Self {
        Self { addr, next: AtomicU64::new(0), connection: tokio::sync::Mutex::default() }
    }

    async fn connection(&self) -> Result<Arc<Connection>, DoorError> {
        let mut connection = self.connection.lock().await;
        if let Some(connection) = &*connection
            && connection.waiting().is_some()
        {
            return Ok(Arc::clone(connection));
        }
        let stream = TcpStream::connect(self.addr).await.map_err(|_| DoorError::Closed)?;
        stream.set_nodelay(true).map_err(|_| DoorError::Closed)?;
        let (read, write) = stream.into_split();
        let (lines, queue) = mpsc::channel(LINES);
        let waiting = Mutex::new(Some(HashMap::new()));
        let made = Arc::new(Connection { lines, waiting, work: Mutex::default() });
        let ear = Arc::clone(&made);
        let mut work = JoinSet::new();
        work.spawn(write_lines(queue, write));
        work.spawn(async move { hear(&ear, read).await });
        *made.work.lock().unwrap_or_else(PoisonError::into_inner) = work;
        *connection = Some(Arc::clone(&made));
        Ok(made)
    }

    /// Sends what `line` gives behind a number, and returns what is said to it. `line` is called in the
    /// order of the lines of the connection.
    async fn exchange(
        &self,
        line: impl FnOnce() -> String,
        patience: Duration,
    ) -> Result<String, DoorError> {
        let connection = self.connection().await?;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        let place = connection.lines.reserve().await.map_err(|_| DoorError::Closed)?;
        match &mut *connection.waiting() {
            Some(waiting) => waiting.insert(id, sender),
            None => return Err(DoorError::Closed),
        };
        place.send(format!("{id} {}\n", line()));
        match tokio::time::timeout(patience, answer).await {
            Ok(Ok(said)) => match said.strip_prefix("err ") {
                Some(error) => Err(DoorError::Refused(error.to_owned())),
                None => Ok(said),
            },
            Ok(Err(_)) => Err(DoorError::Lost),
            Err(_) => {
                if let Some(waiting) = &mut *connection.waiting() {
                    waiting.remove(&id);
                }
                Err(DoorError::Lost)
            }
        }
    }

    /// Asks an entity. `number` 0 adds nothing.
    pub(crate) async fn ask(
        &self,
        (entity, sender, number): (usize, &str, u64),
        payload: &str,
        patience: Duration,
    ) -> Result<Counted, DoorError> {
        let line = || format!("ask {entity} {sender} {number} {payload}");
        let said = self.exchange(line, patience).await?;
        counted(&said).ok_or(DoorError::Lost)
    }

    /// Tells an entity. `number` is called when the place of the line is decided.
    pub(crate) async fn tell(
        &self,
        (entity, sender): (usize, &str),
        number: impl FnOnce() -> u64,
        payload: &str,
        patience: Duration,
    ) -> Result<(), DoorError> {
        let line = || format!("tell {entity} {sender} {} {payload}", number());
        self.exchange(line, patience).await.map(drop)
    }
}

/// Passes on what the door says, until it closes.
async fn hear(connection: &Connection, read: OwnedReadHalf) {
    let mut lines = BufReader::new(read).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let Some((id, said)) = line.split_once(' ') else { break };
        let Ok(id) = id.parse::<u64>() else { break };
        let asker = connection.waiting().as_mut().and_then(|waiting| waiting.remove(&id));
        // One that has waited long enough has gone.
        let _ = asker.map(|asker| asker.send(said.to_owned()));
    }
    *connection.waiting() = None;
}

fn counted(said: &str) -> Option<Counted> {
    let mut words = said.strip_prefix("ok ")?.split(' ');
    let mut word = || words.next();
    Some(Counted {
        count: word()?.parse().ok()?,
        node: word()?.to_owned(),
        life: word()?.parse().ok()?,
        last: word()?.parse().ok()?,
        missed: word()?.parse().ok()?,
        again: word()?.parse().ok()?,
        late: word()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_is_written() {
        let request = Request::parse("17 tell 4711 g0 12 x x").expect("a line");
        assert!(request.is_tell && request.id == 17 && request.number == 12);
        assert_eq!((request.entity, request.sender, request.payload), ("4711", "g0", "x x"));
        assert!(Request::parse("17 shout 4711 g0 12").is_none());
        let said = counted("ok 31 n2 815 12 0 1 2").expect("an answer");
        assert_eq!((said.count, said.life, said.again, said.late), (31, 815, 1, 2));
    }

    #[test]
    fn what_is_missed_comes_late_or_comes_again_is_told_apart() {
        let gaps = |numbers: &[u64]| {
            let mut sender = Sender::default();
            numbers.iter().for_each(|number| sender.had(*number));
            let Gaps { missed, again, late, .. } = sender.gaps.map(|it| *it).unwrap_or_default();
            (missed, again, late)
        };
        assert_eq!(gaps(&[5, 6, 7]), (0, 0, 0));
        assert_eq!(gaps(&[5, 6, 9]), (2, 0, 0));
        assert_eq!(gaps(&[5, 6, 6, 7]), (0, 1, 0));
        assert_eq!(gaps(&[5, 7, 6, 8]), (0, 0, 1));
        assert_eq!(gaps(&[5, 7, 6, 6]), (0, 1, 1));
        assert_eq!(gaps(&[5, 6, 4]), (0, 1, 0));
        // Of very many only the latest ones are known.
        assert_eq!(gaps(&[1, 1_000_000, 999_999, 2]), (999_997, 1, 1));
    }
}
