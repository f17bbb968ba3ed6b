//! Faults, carried out at their times.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use odeum_proto::Name;
use odeum_runtime::api::client::ApiClient;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rustix::process::Signal;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::outcome::FaultMark;
use super::spec::{Fault, State, Way, Who};
use super::timetable::Event;
use crate::fault::shim;
use crate::fleet::Fleet;
use crate::guests;

mod able;
mod errands;
mod wires;

pub(crate) use self::able::Able;
use self::wires::Cut;
pub(crate) use self::wires::can_delay;

/// How long a cluster may take until it is whole again after a fault.
pub(crate) const WHOLE: Duration = Duration::from_secs(120);

/// How often is looked.
const LOOK: Duration = Duration::from_millis(50);

/// Firmware of the harness: what is replaced and moved.
#[derive(Debug, Clone)]
pub(crate) struct Deployed {
    pub(crate) names: Vec<Name>,
    pub(crate) state: State,
    pub(crate) memory: u64,
}

impl Deployed {
    /// Its package.
    pub(crate) fn package(&self, version: u32) -> Vec<u8> {
        guests::counting(self.state == State::Session, self.memory, version)
    }
}

/// What became of the faults so far, for all to see.
pub(crate) type Marks = Arc<Mutex<Vec<FaultMark>>>;

/// Carries faults out.
pub(crate) struct Torment<'a> {
    pub(crate) fleet: Option<&'a mut Fleet>,
    nodes: Vec<(String, ApiClient)>,
    deployed: Vec<Deployed>,
    able: Able,
    random: StdRng,
    marks: Marks,
    /// For whom each fault that has begun is.
    struck: BTreeMap<usize, Option<usize>>,
    cuts: BTreeMap<usize, Vec<Cut>>,
    version: u32,
    began: Instant,
    /// What goes on by itself.
    tasks: JoinSet<anyhow::Result<()>>,
    /// What went wrong, which is no fault of the cluster's that is looked for.
    pub(crate) errors: Vec<String>,
}

impl<'a> Torment<'a> {
    pub(crate) fn new(
        fleet: Option<&'a mut Fleet>,
        nodes: Vec<(String, ApiClient)>,
        deployed: Vec<Deployed>,
        (able, seed): (Able, u64),
        marks: Marks,
    ) -> Self {
        Self {
            fleet,
            nodes,
            deployed,
            able,
            random: StdRng::seed_from_u64(seed),
            marks,
            struck: BTreeMap::new(),
            cuts: BTreeMap::new(),
            version: 1,
            began: Instant::now(),
            tasks: JoinSet::new(),
            errors: Vec::new(),
        }
    }

    fn now_s(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    fn mark(&self, number: usize, f: impl FnOnce(&mut FaultMark)) {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mark) = marks.get_mut(number) {
            f(mark);
        }
    }

    /// Has everything happen at its time; the load begins at `began`. Returns when all is over.
    pub(crate) async fn run(&mut self, faults: &[Fault], events: &[Event], began: Instant) {
        self.began = began;
        for event in events {
            let until = began + event.at;
            loop {
                tokio::select! {
                    biased;
                    Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                        self.note(ended);
                    }
                    () = sleep_until(until) => break,
                }
            }
            let Some(fault) = faults.get(event.number) else { continue };
            let done = if event.begins {
                self.begin(event.number, fault).await
            } else {
                self.end(event.number, fault).await
            };
            if let Err(error) = done {
                self.errors.push(format!("{fault}: {error:#}"));
            }
        }
        while let Some(ended) = self.tasks.join_next().await {
            self.note(ended);
        }
    }

    fn note(&mut self, ended: Result<anyhow::Result<()>, tokio::task::JoinError>) {
        if let Err(error) = ended.unwrap_or_else(|error| Err(error.into())) {
            self.errors.push(format!("{error:#}"));
        }
    }

    /// The place of the node that is meant.
    async fn place(&mut self, who: &Who) -> anyhow::Result<usize> {
        let named = |nodes: &[(String, ApiClient)], name: &str| {
            nodes.iter().position(|(other, _)| other == name)
        };
        match who {
            Who::Named(name) => named(&self.nodes, name).with_context(|| format!("no node {name}")),
            Who::Any => {
                let running = match &self.fleet {
                    Some(fleet) => fleet.running(),
                    None => (0..self.nodes.len()).collect(),
                };
                running.choose(&mut self.random).copied().context("no node runs")
            }
            Who::Leader => {
                for (_, client) in &self.nodes {
                    let Ok(store) = client.store().await else { continue };
                    let control = store.groups.iter().find(|it| it.group.to_string() == "control");
                    let leader = control.and_then(|group| group.leader.as_ref());
                    if let Some(place) = leader.and_then(|it| named(&self.nodes, it.as_str())) {
                        return Ok(place);
                    }
                }
                anyhow::bail!("nobody leads")
            }
        }
    }

    fn fleet(&mut self) -> anyhow::Result<&mut Fleet> {
        self.fleet.as_deref_mut().context("the harness has not started these nodes")
    }

    fn name(&self, place: usize) -> String {
        self.nodes.get(place).map(|(name, _)| name.clone()).unwrap_or_default()
    }

    async fn begin(&mut self, number: usize, fault: &Fault) -> anyhow::Result<()> {
        let now = self.now_s();
        self.mark(number, |mark| mark.begins_s = now);
        if let Some(reason) = self.able.prevents(fault) {
            self.mark(number, |mark| mark.not_possible = Some(reason));
            return Ok(());
        }
        let place = match fault.who() {
            Some(who) => Some(self.place(who).await?),
            None => None,
        };
        self.struck.insert(number, place);
        if let (Some(place), Some(who)) = (place, fault.who())
            && !matches!(who, Who::Named(_))
        {
            let (name, said) = (self.name(place), fault.to_string());
            let named = said.replace(&who.to_string(), &name);
            self.mark(number, |mark| mark.name = named);
        }
        let at = place.unwrap_or_default();
        match fault {
            Fault::Kill(_) => self.fleet()?.kill(at).await,
            Fault::Pause(_) => self.fleet()?.signal(at, Signal::STOP),
            Fault::Restart(_) => self.fleet()?.stop(at).await,
            Fault::Roll(_) => {
                self.roll(number);
                Ok(())
            }
            Fault::Move(it) => self.begin_moves(number, it.guests),
            Fault::Drain(_) => self.begin_drain(number, at),
            Fault::Update(_) => {
                self.begin_update(number);
                Ok(())
            }
            Fault::Isolate(it) => {
                let others = (0..self.nodes.len()).filter(|other| *other != at);
                let mut cuts = Vec::new();
                for other in others {
                    let (own, other) = (self.name(at), self.name(other));
                    if it.way != Way::In {
                        cuts.push(Cut::Block(own.clone(), other.clone()));
                    }
                    if it.way != Way::Out {
                        cuts.push(Cut::Block(other, own));
                    }
                }
                self.cut(number, cuts)
            }
            Fault::Split(it) => {
                let names: Vec<String> = self.nodes.iter().map(|(name, _)| name.clone()).collect();
                let mut cuts = Vec::new();
                for one in names.iter().filter(|name| it.side.contains(name)) {
                    for other in names.iter().filter(|name| !it.side.contains(name)) {
                        cuts.push(Cut::Block(one.clone(), other.clone()));
                        cuts.push(Cut::Block(other.clone(), one.clone()));
                    }
                }
                self.cut(number, cuts)
            }
            Fault::Loss(it) => self.cut(number, vec![Cut::Lose(it.percent)]),
            Fault::Delay(it) => {
                let by = format!("{}us", it.by.0.as_micros());
                self.shape(at, &["add", "dev", "cable", "root", "netem", "delay", &by])
            }
            Fault::Bandwidth(it) => {
                let rate = format!("{}bit", it.rate.0.saturating_mul(8));
                let tbf = ["tbf", "rate", &rate, "burst", "32kb", "latency", "100ms"];
                self.shape(at, &[&["add", "dev", "cable", "root"][..], &tbf].concat())
            }
            Fault::DiskFull(_) => {
                let (_, disk) = self.fleet()?.disk().context("no node has a small disk")?;
                disk.fill()
            }
            Fault::SlowDisk(it) => shim::set_disk(&self.fleet()?.shim_file(at)?, it.by.0),
            Fault::Clock(it) => shim::set_clock(&self.fleet()?.shim_file(at)?, it.seconds),
        }
    }

    async fn end(&mut self, number: usize, fault: &Fault) -> anyhow::Result<()> {
        let Some(place) = self.struck.remove(&number) else { return Ok(()) };
        let at = place.unwrap_or_default();
        match fault {
            // Another fault may have brought it back already.
            Fault::Kill(_) | Fault::Restart(_) => {
                let fleet = self.fleet()?;
                if fleet.pid(at).is_none() {
                    fleet.run(at).await?;
                }
            }
            Fault::Pause(_) => {
                let fleet = self.fleet()?;
                if fleet.pid(at).is_some() {
                    fleet.signal(at, Signal::CONT)?;
                }
            }
            Fault::Drain(_) => self.use_again(at),
            Fault::Isolate(_) | Fault::Split(_) | Fault::Loss(_) => self.mend(number)?,
            Fault::Delay(_) | Fault::Bandwidth(_) => {
                self.shape(at, &["del", "dev", "cable", "root"])?;
            }
            Fault::DiskFull(_) => {
                let (_, disk) = self.fleet()?.disk().context("no node has a small disk")?;
                disk.free()?;
            }
            Fault::SlowDisk(_) => shim::set_disk(&self.fleet()?.shim_file(at)?, Duration::ZERO)?,
            Fault::Clock(_) => shim::set_clock(&self.fleet()?.shim_file(at)?, 0)?,
            Fault::Roll(_) | Fault::Move(_) | Fault::Update(_) => {}
        }
        let now = self.now_s();
        self.mark(number, |mark| mark.ends_s = Some(now));
        self.watch_until_whole(number);
        Ok(())
    }
}
