//! Numbered messages from every node to entities on every node, and the reckoning: what each
//! entity was told must be told once and in order, and what each sender asked must be answered
//! or refused in time.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use odeum_actors::ActorError;
use odeum_cluster::builder::RunningNode;
use odeum_cluster::entity::{Entity, EntityContext, EntityMessage, EntityRef, Kind};
use odeum_proto::EntityId;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

/// Entities that keep ledgers: some on every node.
const LEDGERS: usize = 12;

/// Shards of their kind. Few, so that hardly one is empty: empty ones would be those that move.
const SHARDS: NonZeroU16 = NonZeroU16::new(6).expect("not zero");

/// Tasks of each node that write to each of them.
const SENDERS: usize = 2;

/// Tells before each ask.
const TELLS: u64 = 4;

/// How long an ask may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(1);

/// How long a sender may be without an answer before it is to say why: longer than any fault lasts.
const UNEXPLAINED: Duration = Duration::from_secs(8);

/// The pause after each ask: a machine with other work must keep up with all senders.
const PACE: Duration = Duration::from_millis(40);

/// No entity is idle for so long. A kind that says so has its entities ended in good order when a
/// node comes that is to have some of them: under all traffic they move to where they belong.
const IDLE: Duration = Duration::from_secs(300);

/// What one message of the load on a sloth weighs, in bytes.
const LOAD: usize = 64 << 10;

/// An entry for a ledger.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Entry {
    /// To be written down.
    Numbered {
        /// By whom it was sent: a task of a life of a node.
        sender: String,
        /// How many came before it.
        number: u64,
    },
    /// To be answered with as many bytes.
    Echo(u32),
}

/// The answer to an [`Entry`].
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Receipt {
    /// It is written down.
    Written {
        /// Which entry.
        number: u64,
        /// Where the ledger is.
        node: String,
    },
    /// As many bytes as asked for.
    Echo(Bytes),
}

impl EntityMessage for Entry {
    type Reply = Receipt;
}

/// Where the entities of a process write what they were told, a line each, at once: it survives
/// the process.
#[derive(Debug, Clone)]
pub(crate) struct Journal(Arc<File>);

impl Journal {
    pub(crate) fn create(path: &Path) -> Self {
        Self(Arc::new(OpenOptions::new().append(true).create_new(true).open(path).expect("new")))
    }
}

/// An entity that writes down what it is told.
struct Ledger {
    journal: Journal,
    /// Tells the lives of entities of a process apart.
    life: u64,
}

impl Entity for Ledger {
    type Message = Entry;

    async fn handle(
        &mut self,
        ctx: &mut EntityContext<'_, Self>,
        entry: Entry,
    ) -> Result<Receipt, ActorError> {
        match entry {
            Entry::Numbered { sender, number } => {
                // Looked at before each message, and here once more: between there and here the
                // process may have been stopped.
                if !ctx.holds_lease() {
                    return Err(ActorError::msg("its lease is over"));
                }
                let (ledger, life) = (ctx.id(), self.life);
                // One clock for all processes of this machine.
                let at = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
                let line = format!("{at} {ledger} {life} {sender} {number}\n");
                (&*self.journal.0).write_all(line.as_bytes())?;
                Ok(Receipt::Written { number, node: ctx.node().to_string() })
            }
            Entry::Echo(bytes) => Ok(Receipt::Echo(vec![7; usize::try_from(bytes)?].into())),
        }
    }
}

/// The kind of the ledgers.
pub(crate) fn ledgers(journal: Journal) -> Kind {
    let lives = AtomicU64::new(0);
    let make = move |_: &EntityId| Ledger {
        journal: journal.clone(),
        life: lives.fetch_add(1, Ordering::Relaxed),
    };
    Kind::new("ledger".parse().expect("a name"), make).shards(SHARDS).idle(IDLE)
}

/// What a process sends to all ledgers.
pub(crate) struct Traffic {
    tasks: Mutex<JoinSet<()>>,
    ended: Arc<AtomicBool>,
    senders: Vec<Arc<Mutex<Sender>>>,
}

/// One task that writes to one ledger.
struct Sender {
    tally: Tally,
    answered: Instant,
    /// Where the ledger was then.
    home: String,
    /// What it does, and what came of the last thing that failed.
    at: String,
    failed: String,
}

impl Traffic {
    pub(crate) fn start(node: &RunningNode, name: &str) -> Self {
        let ended = Arc::<AtomicBool>::default();
        let mut traffic = Self { tasks: Mutex::default(), ended, senders: Vec::new() };
        let mut tasks = JoinSet::new();
        for (ledger, number) in
            (0..LEDGERS).flat_map(|ledger| (0..SENDERS).map(move |number| (ledger, number)))
        {
            let ledger = node.entity(format!("ledger/l{ledger}").parse().expect("a name"));
            let name = format!("{name}.{}.{number}", std::process::id());
            let sender = Sender {
                tally: Tally::default(),
                answered: Instant::now(),
                home: String::new(),
                at: String::new(),
                failed: String::new(),
            };
            let sender = Arc::new(Mutex::new(sender));
            traffic.senders.push(Arc::clone(&sender));
            tasks.spawn(send(ledger, name, sender, Arc::clone(&traffic.ended)));
        }
        traffic.tasks = Mutex::new(tasks);
        traffic
    }

    /// How long some sender has been without an answer. Those of whom that is to be explained say what
    /// keeps them.
    pub(crate) fn stalest(&self) -> Duration {
        let since = |sender: &Arc<Mutex<Sender>>| {
            let Sender { answered, home, at, failed, .. } = &*sender.lock().expect("no panic");
            let since = answered.elapsed();
            if since > UNEXPLAINED {
                tracing::warn!(?since, home, at, failed, "a sender has no answer");
            }
            since
        };
        self.senders.iter().map(since).max().unwrap_or_default()
    }

    /// The nodes whose ledgers gave the last answers.
    pub(crate) fn homes(&self) -> BTreeSet<String> {
        self.senders.iter().map(|s| s.lock().expect("no panic").home.clone()).collect()
    }

    /// Ends the traffic when its last messages are answered.
    pub(crate) async fn settle(&self) -> Tally {
        self.ended.store(true, Ordering::Relaxed);
        let tasks = std::mem::take(&mut *self.tasks.lock().expect("no panic"));
        for ended in tasks.join_all().await {
            let () = ended;
        }
        self.senders.iter().fold(Tally::default(), |sum, sender| {
            let one = sender.lock().expect("no panic").tally;
            Tally {
                told: sum.told + one.told,
                answered: sum.answered + one.answered,
                refused: sum.refused + one.refused,
                wrong: sum.wrong + one.wrong,
                overdue: sum.overdue.max(one.overdue),
            }
        })
    }
}

async fn send(
    ledger: EntityRef<Entry>,
    name: String,
    state: Arc<Mutex<Sender>>,
    ended: Arc<AtomicBool>,
) {
    let entry = |number| Entry::Numbered { sender: name.clone(), number };
    let mut number = 0;
    while !ended.load(Ordering::Relaxed) {
        for _ in 0..TELLS {
            state.lock().expect("no panic").at = format!("tells {number} to {}", ledger.id());
            let told = ledger.tell(entry(number)).await;
            number += 1;
            let mut state = state.lock().expect("no panic");
            state.tally.told += u64::from(told.is_ok());
            if let Err(error) = told {
                state.failed = error.to_string();
            }
        }
        state.lock().expect("no panic").at = format!("asks {} as {number}", ledger.id());
        let asked = Instant::now();
        let answer = ledger.ask(entry(number), DEADLINE).await;
        let took = asked.elapsed();
        {
            let mut state = state.lock().expect("no panic");
            match answer {
                Ok(Receipt::Written { number: written, node }) if written == number => {
                    state.tally.answered += 1;
                    state.answered = Instant::now();
                    state.home = node;
                }
                Ok(_) => state.tally.wrong += 1,
                Err(error) => {
                    state.tally.refused += 1;
                    state.failed = error.to_string();
                }
            }
            let overdue = took.saturating_sub(DEADLINE);
            state.tally.overdue = state.tally.overdue.max(overdue);
        }
        number += 1;
        tokio::time::sleep(PACE).await;
    }
}

/// What the senders of a process came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Tells that were taken.
    pub(crate) told: u64,
    /// Asks with the right answer.
    pub(crate) answered: u64,
    /// Asks with an error.
    pub(crate) refused: u64,
    /// Asks with another's answer.
    pub(crate) wrong: u64,
    /// How long after its deadline the latest answer or error came.
    pub(crate) overdue: Duration,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { told, answered, refused, wrong, overdue } = self;
        write!(f, "{told} {answered} {refused} {wrong} {}", overdue.as_millis())
    }
}

impl FromStr for Tally {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Result<Vec<u64>, _> = text.split(' ').map(str::parse).collect();
        let [told, answered, refused, wrong, overdue] = numbers.unwrap_or_default()[..] else {
            return Err(text.to_owned());
        };
        Ok(Self { told, answered, refused, wrong, overdue: Duration::from_millis(overdue) })
    }
}

/// From when to when each life of a ledger was told anything.
type Lives = HashMap<(usize, u64), (u128, u128)>;

/// What a ledger was told by one sender: when, in which life of it, and the number.
type Told = (u128, (usize, u64), u64);

/// Reads what all ledgers were told in all lives of all nodes: nothing twice, all in the order it
/// was sent, and no life of a ledger told anything after the next one was. How many messages.
pub(crate) fn reckon(journals: &[PathBuf]) -> usize {
    let mut lives: HashMap<String, Lives> = HashMap::new();
    let mut all: HashMap<(String, String), Vec<Told>> = HashMap::new();
    for (process, journal) in journals.iter().enumerate() {
        let text = fs::read_to_string(journal).expect("a journal");
        // What is behind the last line's end is a line that is being written.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        for line in text.get(..whole).unwrap_or_default().lines() {
            let words: Vec<_> = line.split(' ').collect();
            let [at, ledger, life, sender, number] = words[..] else { panic!("{line}") };
            let number_of = |text: &str| text.parse::<u64>().expect("a number");
            let (at, life) = (at.parse().expect("a time"), (process, number_of(life)));
            let told = (at, life, number_of(number));
            let span = lives.entry(ledger.to_owned()).or_default().entry(life).or_insert((at, at));
            *span = (span.0.min(at), span.1.max(at));
            all.entry((ledger.to_owned(), sender.to_owned())).or_default().push(told);
        }
    }
    for (ledger, lives) in lives {
        let mut spans: Vec<_> = lives.into_iter().map(|(life, span)| (span, life)).collect();
        spans.sort_unstable();
        for pair in spans.windows(2) {
            let [((_, last), former), ((first, _), latter)] = pair else { continue };
            assert!(last < first, "{ledger} was active twice: {former:?} after {latter:?} began");
        }
    }
    for ((ledger, sender), told) in &mut all {
        told.sort_unstable();
        let mut numbers: Vec<_> = told.iter().map(|(.., number)| *number).collect();
        numbers.sort_unstable();
        let twice = numbers.windows(2).find(|pair| pair[0] == pair[1]);
        assert!(twice.is_none(), "{ledger} was told twice by {sender}: {twice:?}");
        for pair in told.windows(2) {
            let [(_, former, before), (_, latter, after)] = pair else { continue };
            assert!(
                before < after,
                "{ledger} was told {after} in {latter:?} after {before} in {former:?} by {sender}"
            );
        }
    }
    all.values().map(Vec::len).sum()
}

/// A message for a sloth.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Errand {
    /// To be answered with the name of its node.
    Where,
    /// To be slept over.
    Load(Bytes),
}

impl EntityMessage for Errand {
    type Reply = String;
}

/// An entity that handles a message a second.
pub(crate) struct Sloth;

impl Entity for Sloth {
    type Message = Errand;

    async fn handle(
        &mut self,
        ctx: &mut EntityContext<'_, Self>,
        errand: Errand,
    ) -> Result<String, ActorError> {
        if let Errand::Load(_) = errand {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(ctx.node().to_string())
    }
}

/// The kind of the sloths. Few messages may wait for one, since they are large.
pub(crate) fn sloths() -> Kind {
    Kind::new("sloth".parse().expect("a name"), |_| Sloth).mailbox(32).idle(IDLE)
}

fn sloth(node: &RunningNode, name: &str) -> EntityRef<Errand> {
    let id: EntityId = name.parse().expect("a name");
    node.entity(id)
}

/// The node of a sloth.
pub(crate) async fn whereabouts(node: &RunningNode, name: &str) -> String {
    let asked = sloth(node, name).ask(Errand::Where, DEADLINE).await;
    asked.unwrap_or_else(|error| format!("nowhere: {error}"))
}

/// Tells a sloth more than it can handle, until the process ends.
pub(crate) fn load(node: &RunningNode, name: &str) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for _ in 0..SENDERS * 4 {
        let sloth = sloth(node, name);
        let load = Bytes::from(vec![7; LOAD]);
        tasks.spawn(async move {
            loop {
                // One that was refused for its time is followed by the next.
                let _ = sloth.tell(Errand::Load(load.clone())).await;
            }
        });
    }
    tasks
}
