//! Numbered messages from every node to entities on every node, and the reckoning: what each
//! entity was told must be told once and in order, and what each sender asked must be answered
//! or refused in time.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use odeum_actors::ActorError;
use odeum_cluster::builder::RunningNode;
use odeum_cluster::entity::{Entity, EntityContext, EntityMessage, EntityRef, Kind};
use odeum_proto::EntityId;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

/// Entities that keep ledgers: some on every node.
const LEDGERS: usize = 12;

/// Tasks of each node that write to each of them.
const SENDERS: usize = 2;

/// Tells before each ask.
const TELLS: u64 = 4;

/// How long an ask may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(1);

/// The pause after each ask: a machine with other work must keep up with all senders.
const PACE: Duration = Duration::from_millis(40);

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
    Written(u64),
    /// As many bytes as asked for.
    Echo(Vec<u8>),
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
    /// Tells the activations of a process apart.
    activation: u64,
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
                let line = format!("{} {} {sender} {number}\n", ctx.id(), self.activation);
                (&*self.journal.0).write_all(line.as_bytes())?;
                Ok(Receipt::Written(number))
            }
            Entry::Echo(bytes) => Ok(Receipt::Echo(vec![7; usize::try_from(bytes)?])),
        }
    }
}

/// The kind of the ledgers.
pub(crate) fn ledgers(journal: Journal) -> Kind {
    let activations = AtomicU64::new(0);
    Kind::new("ledger".parse().expect("a name"), move |_| Ledger {
        journal: journal.clone(),
        activation: activations.fetch_add(1, Ordering::Relaxed),
    })
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
            let sender = Sender { tally: Tally::default(), answered: Instant::now() };
            let sender = Arc::new(Mutex::new(sender));
            traffic.senders.push(Arc::clone(&sender));
            tasks.spawn(send(ledger, name, sender, Arc::clone(&traffic.ended)));
        }
        traffic.tasks = Mutex::new(tasks);
        traffic
    }

    /// How long some sender has been without an answer.
    pub(crate) fn stalest(&self) -> Duration {
        let since = self.senders.iter().map(|s| s.lock().expect("no panic").answered.elapsed());
        since.max().unwrap_or_default()
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
            let told = ledger.tell(entry(number)).await.is_ok();
            number += 1;
            state.lock().expect("no panic").tally.told += u64::from(told);
        }
        let asked = Instant::now();
        let answer = ledger.ask(entry(number), DEADLINE).await;
        let took = asked.elapsed();
        {
            let mut state = state.lock().expect("no panic");
            match answer {
                Ok(receipt) if receipt == Receipt::Written(number) => {
                    state.tally.answered += 1;
                    state.answered = Instant::now();
                }
                Ok(_) => state.tally.wrong += 1,
                Err(_) => state.tally.refused += 1,
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

/// Reads what all ledgers were told in all lives of all nodes: nothing twice, and to each life of
/// a ledger in the order it was sent. Gives how much it was.
pub(crate) fn reckon(journals: &[PathBuf]) -> usize {
    let mut told: HashMap<(String, String), HashSet<u64>> = HashMap::new();
    let mut count = 0;
    for journal in journals {
        let text = fs::read_to_string(journal).expect("a journal");
        let mut last: HashMap<(&str, &str, &str), u64> = HashMap::new();
        // What is behind the last line's end is a line that is being written.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        for line in text.get(..whole).unwrap_or_default().lines() {
            let words: Vec<_> = line.split(' ').collect();
            let [ledger, activation, sender, number] = words[..] else { panic!("{line}") };
            let number: u64 = number.parse().expect("a number");
            let before = last.insert((ledger, activation, sender), number);
            assert!(
                before.is_none_or(|before| before < number),
                "{ledger} was told number {number} of {sender} after {before:?}: {}",
                journal.display()
            );
            let all = told.entry((ledger.to_owned(), sender.to_owned())).or_default();
            assert!(
                all.insert(number),
                "{ledger} was told number {number} of {sender} in two lives of it: {}",
                journal.display()
            );
            count += 1;
        }
    }
    count
}

/// A message for a sloth.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Errand {
    /// To be answered with the name of its node.
    Where,
    /// To be slept over.
    Load(Vec<u8>),
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
    Kind::new("sloth".parse().expect("a name"), |_| Sloth).mailbox(32)
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
        tasks.spawn(async move {
            loop {
                // One that was refused for its time is followed by the next.
                let _ = sloth.tell(Errand::Load(vec![7; LOAD])).await;
            }
        });
    }
    tasks
}
