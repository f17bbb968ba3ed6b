//! Clients: each does one thing after the other, at no more than its pace, at a node of its choice
//! until that does not answer.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::cluster::MEMBERS;
use super::link::Reply;
use super::scene::Scene;
use super::streams::Acknowledged;
use super::ttl;
use super::wire::{Do, What};
use crate::check::findings::Finding;
use crate::check::keys::{Key, Outcome};
use crate::check::operation::{Answer, At, Op};

/// Clients of variables.
const WRITERS: u8 = 8;
/// How often each does something. All together do some 130 operations a second, which leaves the
/// machine time for a second scenario and nodes time to fall behind.
const PACE: Duration = Duration::from_millis(60);
/// Clients of counters.
const COUNTERS: u8 = 2;
/// Clients of sessions with a time to live.
const KEEPERS: u8 = 2;
/// How long a client rests when a node does not answer.
const REST: Duration = Duration::from_millis(200);
/// How often a write under an idempotency key is asked for until it is given up.
const TRIES: usize = 6;

/// Starts all clients; they end when the scene does.
pub(super) fn start(scene: &Arc<Scene>, seed: u64) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    let client = |number: u8| Client {
        number,
        place: usize::from(number) % MEMBERS,
        rng: StdRng::seed_from_u64(seed ^ (u64::from(number) + 1)),
        scene: Arc::clone(scene),
    };
    for number in 0..WRITERS {
        clients.spawn(client(number).write());
    }
    for number in WRITERS..WRITERS + COUNTERS {
        clients.spawn(client(number).count());
    }
    for number in WRITERS + COUNTERS..WRITERS + COUNTERS + KEEPERS {
        clients.spawn(client(number).keep());
    }
    clients
}

struct Client {
    number: u8,
    /// The node it asks.
    place: usize,
    rng: StdRng,
    scene: Arc<Scene>,
}

impl Client {
    /// Does things with variables.
    async fn write(mut self) {
        while self.scene.goes_on() {
            let next = Instant::now() + PACE;
            let slot = self.rng.random_range(0..self.scene.keys.slot_count());
            if let Some(key) = self.scene.keys.at(slot) {
                if key.is_ready() {
                    self.operate(&key).await;
                } else if self.scene.create(self.place, &key.name).await {
                    key.is_there();
                } else {
                    sleep(REST).await;
                }
            }
            sleep_until(next).await;
        }
    }

    /// Does one thing with a variable.
    async fn operate(&mut self, key: &Arc<Key>) {
        let op = self.choose(key);
        // Only what is not refused: that a refusal is remembered for the key is not promised.
        let named = matches!(op, Op::Set { .. } | Op::Delete) && self.rng.random_bool(0.2);
        let request = named.then(|| format!("request-{}", self.scene.keys.value()));
        let called = self.scene.now();
        let Some(id) = self.scene.keys.begin(key, self.number, op, called) else { return };
        let reply = self.ask(key, op, request).await;
        let outcome = self.judge(key, op, reply);
        let (scene, keys) = (&self.scene, &self.scene.keys);
        match outcome {
            Ok(outcome) => scene.findings.unless_ok(keys.end(key, id, outcome)),
            Err(finding) => scene.findings.add(finding),
        }
        if self.rng.random_bool(0.02) {
            self.place = self.rng.random_range(0..MEMBERS);
        }
    }

    fn choose(&mut self, key: &Key) -> Op {
        let value = || self.scene.keys.value();
        match self.rng.random_range(0..100) {
            0..35 => Op::Get { lease: false },
            35..45 => Op::Get { lease: true },
            45..75 => Op::Set { value: value() },
            // Mostly the version that was seen last, which may be it.
            75..88 => Op::CompareAndSet { expected: key.version(), value: value() },
            88..93 => {
                let expected = self.rng.random_range(0..=key.version());
                Op::CompareAndSet { expected, value: value() }
            }
            _ => Op::Delete,
        }
    }

    /// Asks for something; for what has an idempotency key, again and elsewhere, until it is
    /// answered.
    async fn ask(&mut self, key: &Key, op: Op, request: Option<String>) -> Reply {
        let tries = if request.is_some() { TRIES } else { 1 };
        let mut unknown = false;
        for _ in 0..tries {
            let session = key.name.clone();
            let what = Do::Operate { session, op, request: request.clone() };
            let reply = self.scene.ask(self.place, what).await;
            match reply {
                Reply::Answer(Answer::Failed(_)) | Reply::Unknown => unknown = true,
                Reply::NotSent => {}
                answer => return answer,
            }
            self.place = (self.place + 1) % MEMBERS;
            sleep(REST).await;
        }
        if unknown { Reply::Unknown } else { Reply::NotSent }
    }

    /// What a reply says of an operation.
    fn judge(&self, key: &Key, op: Op, reply: Reply) -> Result<Outcome, Finding> {
        let scene = &self.scene;
        let answer = match (reply, op) {
            (Reply::NotSent, _) | (Reply::Unknown, Op::Get { .. }) => return Ok(Outcome::Dropped),
            (Reply::Unknown, _) => return Ok(Outcome::Unknown),
            (Reply::Answer(answer), _) => answer,
        };
        let what = match (&answer, op) {
            (Answer::Found(_), Op::Get { .. })
            | (Answer::Removed { existed: false, .. }, Op::Delete) => None,
            (Answer::Conflict { .. }, Op::CompareAndSet { value, .. }) => {
                scene.streams().refused(value)?;
                None
            }
            (
                Answer::Written { version, at },
                Op::Set { value } | Op::CompareAndSet { value, .. },
            ) => Some((*at, What::Set { version: *version, value })),
            (Answer::Removed { at, .. }, Op::Delete) => Some((*at, What::Removed)),
            _ => return Err(Finding::new(format!("{}: {op} came to: {answer}", key.name))),
        };
        if let Some((at, what)) = what {
            self.acknowledged(&key.name, at, what)?;
        }
        Ok(Outcome::Returned { node: self.place, at: scene.now(), answer })
    }

    fn acknowledged(&self, session: &str, at: Option<At>, what: What) -> Result<(), Finding> {
        self.scene.wrote();
        let session = session.to_owned();
        let Some(at) = at else {
            return Err(Finding::new(format!("{session}: {what:?} has no place in history")));
        };
        self.scene.streams().acknowledged(Acknowledged { at, session, what });
        Ok(())
    }

    /// Increments counters.
    async fn count(mut self) {
        let counters: Vec<String> = self.scene.counters().keys().cloned().collect();
        for counter in &counters {
            while self.scene.goes_on() && !self.scene.create(self.place, counter).await {
                sleep(REST).await;
            }
        }
        while self.scene.goes_on() {
            let next = Instant::now() + PACE;
            for counter in &counters {
                let counted = self.increment(counter).await;
                self.scene.findings.unless_ok(counted);
            }
            sleep_until(next).await;
        }
    }

    async fn increment(&mut self, counter: &str) -> Result<(), Finding> {
        let operate = |op| Do::Operate { session: counter.to_owned(), op, request: None };
        let read = self.scene.ask(self.place, operate(Op::Get { lease: false })).await;
        let (expected, before) = match read {
            Reply::Answer(Answer::Found(found)) => found.unwrap_or_default(),
            Reply::Answer(Answer::NoSession) => {
                return Err(Finding::new(format!("{counter} was created and is gone")));
            }
            _ => return self.go_elsewhere().await,
        };
        let value = before + 1;
        let written = self.scene.ask(self.place, operate(Op::CompareAndSet { expected, value }));
        match written.await {
            Reply::Answer(Answer::Written { version, at }) => {
                self.tally(counter, true);
                self.acknowledged(counter, at, What::Set { version, value })
            }
            Reply::Answer(Answer::Conflict { .. }) | Reply::NotSent => Ok(()),
            Reply::Answer(Answer::Failed(_)) | Reply::Unknown => {
                self.tally(counter, false);
                self.go_elsewhere().await
            }
            other => Err(Finding::new(format!("{counter}: an increment came to {other:?}"))),
        }
    }

    fn tally(&self, counter: &str, acknowledged: bool) {
        let mut counters = self.scene.counters();
        let tally = counters.entry(counter.to_owned()).or_default();
        if acknowledged {
            tally.acknowledged += 1;
        } else {
            tally.unknown += 1;
        }
    }

    async fn go_elsewhere(&mut self) -> Result<(), Finding> {
        self.place = (self.place + 1) % MEMBERS;
        sleep(REST).await;
        Ok(())
    }

    /// Keeps sessions alive for a while, and then does not.
    async fn keep(mut self) {
        for number in 0_u64.. {
            if !self.scene.goes_on() {
                return;
            }
            let session = format!("{}{}-{number}", ttl::PREFIX, self.number);
            let ttl = Duration::from_millis(self.rng.random_range(1_000..4_000));
            let kept = self.keep_one(&session, ttl).await;
            self.scene.findings.unless_ok(kept);
        }
    }

    async fn keep_one(&mut self, session: &str, ttl: Duration) -> Result<(), Finding> {
        let ttl_ms = u64::try_from(ttl.as_millis()).ok();
        let create = Do::Create { session: session.to_owned(), ttl_ms };
        let mut what = create;
        for _ in 0..self.rng.random_range(1..7) {
            let asked = self.scene.now();
            match self.scene.ask(self.place, what).await {
                Reply::Answer(Answer::Done) => self.scene.leases().kept(session, asked, ttl)?,
                Reply::Answer(Answer::NoSession) => {
                    return self.scene.leases().gone(session, self.scene.now());
                }
                _ => self.go_elsewhere().await?,
            }
            what = Do::Touch { session: session.to_owned() };
            sleep(ttl.mul_f64(self.rng.random_range(0.2..0.95))).await;
        }
        // It is over in a while; a cluster without a majority takes longer, and others need not
        // wait for it.
        for _ in 0..8 {
            let look = Do::Look { session: session.to_owned() };
            match self.scene.ask(self.place, look).await {
                Reply::Answer(Answer::Is(false)) => {
                    return self.scene.leases().gone(session, self.scene.now());
                }
                Reply::Answer(_) => sleep(ttl / 4).await,
                _ => self.go_elsewhere().await?,
            }
        }
        Ok(())
    }
}
