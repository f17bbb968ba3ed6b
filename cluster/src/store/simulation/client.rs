//! What programs on a node do with the store while things go wrong.

use std::sync::Arc;
use std::time::Duration;

use odeum_proto::session::{
    Commit, Compare, DataAction, DataOutcome, Operation, SessionRefusal, SessionSettings, Test,
    Value, Write,
};
use odeum_proto::{EntityId, Epoch, GroupId, RequestId, SessionId};

use super::history::{Answer, BANK, COUNTER, Event, MONEY, Name, Op};
use super::world::{Phase, World, elapsed};
use crate::store::seeds::Random;
use crate::store::{Consistency, SessionError, SessionHandle, StoreHandle, Variable, WatchEvent};

/// Registers that are written to with values of their own, and counters.
const REGISTERS: [Name; 3] = [("user-0", "v"), ("user-1", "v"), ("user-2", "w")];
const COUNTERS: [Name; 2] = [("user-0", COUNTER), ("user-3", COUNTER)];

/// How long a session of a client lives when it is left alone.
const TTL: Duration = Duration::from_secs(2);

fn id(session: &str) -> SessionId {
    session.parse().expect("valid")
}

fn integer(variable: &Variable) -> i64 {
    if let Value::Integer(value) = variable.value() { *value } else { 0 }
}

/// What all clients need is made.
pub(super) async fn prepare(store: &StoreHandle) -> Result<(), SessionError> {
    let session = |name: &str| store.session(id(name)).deadline(Duration::from_secs(5));
    let names = REGISTERS.iter().chain(&COUNTERS).map(|(session, _)| *session);
    for name in names.chain([BANK]) {
        session(name).create(SessionSettings::default()).await?;
    }
    for (name, key, value) in COUNTERS
        .iter()
        .map(|(name, key)| (*name, *key, 0))
        .chain([(BANK, "a", MONEY), (BANK, "b", 0)])
    {
        match session(name).compare_and_set(key, 0, Value::Integer(value)).await {
            // It was made by a try before this one.
            Ok(_) | Err(SessionError::Refused(SessionRefusal::VersionConflict { .. })) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A program, which does one thing after another.
pub(super) struct Client {
    world: Arc<World>,
    node: usize,
    store: StoreHandle,
    random: Random,
    /// What its requests and values have in common.
    name: String,
    number: i64,
    /// When its own session was last renewed for sure.
    renewed: Option<Duration>,
}

impl Client {
    pub(super) fn new(world: &Arc<World>, node: usize, store: &StoreHandle, place: u64) -> Self {
        let mut now = world.now();
        let life = now.lives[node];
        let random = Random::new(now.random.next());
        let number = ((node as i64 * 100 + life as i64) * 10 + place as i64) * 1_000_000;
        let name = format!("{node}-{life}-{place}");
        let (world, store) = (Arc::clone(world), store.clone());
        Self { world, node, store, random, name, number, renewed: None }
    }

    pub(super) async fn run(mut self) {
        loop {
            let pause = self.world.plan.pause.as_millis() as u64;
            tokio::time::sleep(Duration::from_millis(self.random.below(pause + 1))).await;
            let (phase, prepared) = {
                let now = self.world.now();
                (now.phase, now.prepared)
            };
            match phase {
                Phase::Founding => {}
                Phase::Busy if prepared => self.act().await,
                Phase::Busy => {}
                Phase::End => return,
            }
        }
    }

    async fn act(&mut self) {
        match self.random.below(14) {
            0..=2 => self.write().await,
            3..=5 => self.read().await,
            6..=8 => self.count().await,
            9 => self.compare_and_set().await,
            10 => self.request().await,
            11 => self.repeat().await,
            12 => self.move_money().await,
            _ => self.live().await,
        }
    }

    fn session(&mut self, name: &str) -> SessionHandle {
        let deadline = Duration::from_millis(self.random.within(300..3_000));
        self.store.session(id(name)).deadline(deadline)
    }

    fn value(&mut self) -> i64 {
        self.number += 1;
        self.number
    }

    fn record(&self, op: Op, began: u64, answer: Answer) {
        let ended = self.world.moment();
        let event = Event { node: self.node, op, began, ended, answer };
        tracing::debug!(target: "simulation", at = ?elapsed(), ?event);
        self.world.trace("event", format!("{event:?}").as_bytes());
        self.world.now().events.push(event);
    }

    /// What a write came to.
    fn written(&self, result: Result<u64, SessionError>) -> Answer {
        match result {
            Ok(version) => Answer::Written(version),
            Err(SessionError::Refused(_)) => Answer::Refused,
            Err(SessionError::Store(error)) => {
                if !error.is_retryable() {
                    self.world.fault(format!("node {}: {error}", self.node));
                }
                Answer::Unknown
            }
        }
    }

    async fn write(&mut self) {
        let name = self.random.pick(&REGISTERS);
        let (session, value) = (self.session(name.0), self.value());
        let began = self.world.moment();
        let result = session.set(name.1, Value::Integer(value)).await;
        self.record(Op::Write { name, value, expected: None }, began, self.written(result));
    }

    async fn read_of(&mut self, name: Name) -> Option<(u64, i64)> {
        let session = self.session(name.0);
        let consistency = self.random.pick(&[Consistency::Linearizable, Consistency::Lease]);
        let began = self.world.moment();
        let read = session.get(name.1, consistency).await.ok();
        let read = read.map(|read| read.map(|variable| (variable.version(), integer(&variable))));
        let answer = read.map_or(Answer::Unknown, Answer::Read);
        self.record(Op::Read { name }, began, answer);
        read.flatten()
    }

    async fn read(&mut self) {
        let name = self.random.pick(&[REGISTERS[0], REGISTERS[1], REGISTERS[2], COUNTERS[1]]);
        self.read_of(name).await;
    }

    async fn count(&mut self) {
        let name = self.random.pick(&COUNTERS);
        let Some((version, value)) = self.read_of(name).await else { return };
        let session = self.session(name.0);
        let began = self.world.moment();
        let result = session.compare_and_set(name.1, version, Value::Integer(value + 1)).await;
        let answer = self.written(result);
        // Another may have written the same number.
        if answer != Answer::Refused {
            let op = Op::Write { name, value: value + 1, expected: Some(version) };
            self.record(op, began, answer);
        }
    }

    async fn compare_and_set(&mut self) {
        let name = self.random.pick(&REGISTERS);
        let version = self.read_of(name).await.map_or(0, |(version, _)| version);
        let (session, value) = (self.session(name.0), self.value());
        let began = self.world.moment();
        let result = session.compare_and_set(name.1, version, Value::Integer(value)).await;
        let op = Op::Write { name, value, expected: Some(version) };
        self.record(op, began, self.written(result));
    }

    /// A request of an entity, made again until it is answered.
    async fn request(&mut self) {
        let number = self.value();
        let request = format!("{}-{number}", self.name);
        let entity: EntityId = "firmware/f".parse().expect("valid");
        let Ok(group) = self.store.group_of_entity(&entity) else { return };
        let commit = Commit {
            entity,
            epoch: Epoch(1),
            request: request.parse().expect("valid"),
            session: id(&format!("firmware/{request}")),
            writes: vec![Write::Set { key: "count".into(), value: vec![1] }],
            reply: vec![2],
            carried: Vec::new(),
        };
        let began = self.world.moment();
        let mut answer = Answer::Unknown;
        for _ in 0..self.random.within(1..4) {
            let deadline = Duration::from_millis(self.random.within(300..2_000));
            let action = DataAction::Commit(commit.clone());
            match self.store.write_data(group, action, deadline).await {
                Ok(DataOutcome::Applied { .. }) => answer = Answer::Made,
                Ok(DataOutcome::Replayed { reply }) if reply.as_deref() == Some(&[2]) => {
                    answer = Answer::Made;
                }
                Ok(other) => self.world.fault(format!("{request}: {other:?}")),
                Err(_) => {}
            }
        }
        self.record(Op::Once { request }, began, answer);
    }

    /// A write under a key of its own, asked for several times.
    async fn repeat(&mut self) {
        let (name, value) = (self.random.pick(&REGISTERS), self.value());
        let request: RequestId = format!("k-{}-{value}", self.name).parse().expect("valid");
        let began = self.world.moment();
        let mut answer = Answer::Unknown;
        for _ in 0..self.random.within(2..4) {
            let session = self.session(name.0).request(request.clone());
            let result = session.set(name.1, Value::Integer(value)).await;
            match (self.written(result), &answer) {
                (Answer::Unknown, _) => {}
                (new, Answer::Unknown) => answer = new,
                (new, old) if new != *old => {
                    self.world.fault(format!("{request} was answered {old:?} and {new:?}"));
                }
                _ => {}
            }
        }
        self.record(Op::Write { name, value, expected: None }, began, answer);
    }

    async fn move_money(&mut self) {
        let session = self.session(BANK);
        let (Ok(Some(a)), Ok(Some(b))) = (
            session.get("a", Consistency::Linearizable).await,
            session.get("b", Consistency::Linearizable).await,
        ) else {
            return;
        };
        let compare = [("a", &a), ("b", &b)]
            .map(|(key, is)| Compare { key: key.into(), test: Test::Version(is.version()) });
        let set = |key: &str, value| Operation::Set {
            key: key.into(),
            value: Value::Integer(value),
            expected: None,
            register: false,
        };
        let amount = self.random.within(1..10) as i64;
        let then = vec![set("a", integer(&a) - amount), set("b", integer(&b) + amount)];
        // Whatever it comes to: the bank is looked at as a whole.
        let _ = session.transaction(compare.to_vec(), then, Vec::new()).await;
    }

    /// A session of its own, which must not end before its time.
    async fn live(&mut self) {
        let session = self.session(&format!("life-{}", self.name));
        if let Some(renewed) = self.renewed {
            let there = session.read(Consistency::Linearizable, |there, _| there.is_some()).await;
            if let Ok(false) = there
                && elapsed() < renewed + TTL
            {
                let text = format!("{} ended at {:?} of {renewed:?}", session.id(), elapsed());
                self.world.fault(text);
            }
        }
        let began = elapsed();
        let settings = SessionSettings { ttl: Some(TTL), ..SessionSettings::default() };
        if session.create(settings).await.is_ok() {
            self.renewed = Some(began);
        }
    }
}

/// Sees every change of the first group of sessions, over all lives of its node.
pub(super) async fn watch(world: Arc<World>, node: usize, store: StoreHandle) {
    let group = GroupId::Data(0);
    let from = world.now().watched.entry(node).or_default().revision;
    let all = "*".parse().expect("a pattern");
    let mut watch = store.watch_group(group, all, from);
    loop {
        let event = watch.next().await;
        let mut now = world.now();
        let seen = now.watched.entry(node).or_default();
        seen.revision = watch.seen();
        match event {
            WatchEvent::Changes(changes) => seen.changes.extend(changes),
            WatchEvent::State { at, .. } => {
                now.faults.push(format!("node {node} has missed changes up to {at}"));
            }
        }
    }
}
