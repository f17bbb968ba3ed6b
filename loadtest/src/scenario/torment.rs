//! Faults, carried out at their times.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use odeum_proto::{EntityId, Name, NodeId};
use odeum_runtime::api::client::ApiClient;
use odeum_runtime::api::types::MoveBody;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rustix::process::Signal;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::outcome::FaultMark;
use super::spec::{Fault, State, Way, Who};
use super::timetable::Event;
use crate::fault::shim;
use crate::fleet::{self, Fleet};
use crate::guests;
use crate::persist::persist;

/// How long a cluster may take until it is whole again after a fault.
pub(crate) const WHOLE: Duration = Duration::from_secs(120);

/// How long a node may take to give away what it has.
const DRAIN: Duration = Duration::from_secs(60);

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

/// What this machine and this cluster allow.
#[derive(Debug, Clone, Default)]
pub(crate) struct Able {
    /// Why nodes are not in network namespaces, if they are not.
    pub(crate) no_net: Option<String>,
    /// Why packets cannot be delayed.
    pub(crate) no_delay: Option<String>,
    /// Why no disk can be filled.
    pub(crate) no_disk: Option<String>,
    /// Why the time of day cannot be moved, and disks not be made slower.
    pub(crate) no_shim: Option<String>,
    /// Whether the nodes are somebody else's.
    pub(crate) is_foreign: bool,
}

impl Able {
    /// Why a fault cannot come, if it cannot.
    pub(crate) fn prevents(&self, fault: &Fault) -> Option<String> {
        let of_api =
            matches!(fault, Fault::Move(_) | Fault::Drain(_) | Fault::Update(_) | Fault::Roll(_));
        if self.is_foreign && !of_api {
            return Some("the harness has not started these nodes".to_owned());
        }
        match fault {
            Fault::Isolate(_) | Fault::Split(_) | Fault::Loss(_) | Fault::Bandwidth(_) => {
                self.no_net.clone()
            }
            Fault::Delay(_) => self.no_net.clone().or_else(|| self.no_delay.clone()),
            Fault::DiskFull(_) => self.no_disk.clone(),
            Fault::SlowDisk(_) | Fault::Clock(_) => self.no_shim.clone(),
            Fault::Kill(_)
            | Fault::Pause(_)
            | Fault::Restart(_)
            | Fault::Roll(_)
            | Fault::Move(_)
            | Fault::Drain(_)
            | Fault::Update(_) => None,
        }
    }
}

/// What became of the faults so far, for all to see.
pub(crate) type Marks = Arc<Mutex<Vec<FaultMark>>>;

/// A part of the network that is not as it should be.
#[derive(Debug, Clone)]
enum Cut {
    Block(String, String),
    Lose(u8),
}

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

    /// Takes down when all nodes see each other again.
    fn watch_until_whole(&mut self, number: usize) {
        if self.fleet.is_none() {
            return;
        }
        let clients = self.clients();
        let marks = Arc::clone(&self.marks);
        self.tasks.spawn(async move {
            let begin = Instant::now();
            for client in &clients {
                while !fleet::sees_all(client, clients.len()).await {
                    // Another fault may have come meanwhile; the end of the load looks once more.
                    if begin.elapsed() > WHOLE {
                        return Ok(());
                    }
                    sleep(LOOK).await;
                }
            }
            let mut marks = marks.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(mark) = marks.get_mut(number) {
                mark.whole_s = Some(begin.elapsed().as_secs_f64());
            }
            Ok(())
        });
    }

    fn cut(&mut self, number: usize, cuts: Vec<Cut>) -> anyhow::Result<()> {
        let net = self.fleet()?.net().context("nodes have no network of their own")?;
        for cut in &cuts {
            match cut {
                Cut::Block(from, to) => net.block(from, to)?,
                Cut::Lose(percent) => net.lose(*percent)?,
            }
        }
        self.cuts.insert(number, cuts);
        Ok(())
    }

    /// Takes a cut back: all of them, and those again that go on.
    fn mend(&mut self, number: usize) -> anyhow::Result<()> {
        self.cuts.remove(&number);
        self.fleet()?.net().context("nodes have no network of their own")?.heal()?;
        for (number, cuts) in std::mem::take(&mut self.cuts) {
            self.cut(number, cuts)?;
        }
        Ok(())
    }

    /// What the queue of a node's cable is.
    fn shape(&mut self, place: usize, arguments: &[&str]) -> anyhow::Result<()> {
        let name = self.name(place);
        let net = self.fleet()?.net().context("nodes have no network of their own")?;
        let mut command = net.command(&name, Path::new("tc"));
        command.arg("qdisc").args(arguments);
        run(&mut command)
    }

    /// Restarts all nodes, one after the other, each when the one before is back: as
    /// `odeum rollout restart` does.
    fn roll(&mut self, number: usize) {
        let (nodes, ended) = (self.nodes.clone(), self.ended_mark(number));
        let marks = Arc::clone(&self.marks);
        self.tasks.spawn(async move {
            for place in 0..nodes.len() {
                // Another one waits until it is back.
                let asked = nodes.get((place + 1) % nodes.len()).or(nodes.first());
                let (Some((_, client)), Some((name, own))) = (asked, nodes.get(place)) else {
                    continue;
                };
                client.restart_node(&name.parse()?, WHOLE).await.with_context(|| name.clone())?;
                let begin = Instant::now();
                while own.ready().await.is_err() {
                    anyhow::ensure!(begin.elapsed() < WHOLE, "{name} is not ready after {WHOLE:?}");
                    sleep(LOOK).await;
                }
            }
            ended();
            let mut marks = marks.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(mark) = marks.get_mut(number) {
                mark.whole_s = Some(0.0);
            }
            Ok(())
        });
    }

    /// The clients of all nodes, running or not.
    fn clients(&self) -> Vec<ApiClient> {
        self.nodes.iter().map(|(_, client)| client.clone()).collect()
    }

    fn any_client(&mut self) -> anyhow::Result<ApiClient> {
        let at = match &self.fleet {
            Some(fleet) => fleet.running().choose(&mut self.random).copied(),
            None => Some(self.random.random_range(0..self.nodes.len())),
        };
        let (_, client) = at.and_then(|at| self.nodes.get(at)).context("no node runs")?;
        Ok(client.clone())
    }

    fn ended_mark(&self, number: usize) -> impl FnOnce() + Send + 'static + use<> {
        let (marks, began) = (Arc::clone(&self.marks), self.began);
        move || {
            let mut marks = marks.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(mark) = marks.get_mut(number) {
                mark.ends_s = Some(began.elapsed().as_secs_f64());
            }
        }
    }

    fn begin_moves(&mut self, number: usize, count: usize) -> anyhow::Result<()> {
        let all: Vec<Name> = self.deployed.iter().flat_map(|it| it.names.clone()).collect();
        let chosen: Vec<Name> = all.sample(&mut self.random, count).cloned().collect();
        let (client, ended) = (self.any_client()?, self.ended_mark(number));
        let ids: Vec<String> = self.nodes.iter().map(|(name, _)| name.clone()).collect();
        self.tasks.spawn(async move {
            for name in chosen {
                let at = client.firmware_of(&name).await?.node;
                let at = at.as_ref().map(NodeId::as_str);
                let place = ids.iter().position(|id| Some(id.as_str()) == at).unwrap_or_default();
                let Some(to) = ids.get((place + 1) % ids.len().max(1)) else { continue };
                let body = MoveBody { entity: EntityId::firmware(name), to: to.parse()? };
                // One that moves already, or whose node has just died, stays where it is.
                let _ = client.begin_move(&body).await;
            }
            ended();
            Ok(())
        });
        Ok(())
    }

    fn begin_drain(&mut self, number: usize, place: usize) -> anyhow::Result<()> {
        let (client, ended) = (self.any_client()?, self.ended_mark(number));
        let id: NodeId = self.name(place).parse()?;
        self.tasks.spawn(async move {
            let drained = client.drain(&id, DRAIN).await;
            ended();
            // It is taken back while others still make room.
            match drained {
                Err(error) if !error.is_retryable() => Err(error.into()),
                _ => Ok(()),
            }
        });
        Ok(())
    }

    fn use_again(&mut self, place: usize) {
        let (clients, name) = (self.clients(), self.name(place));
        let until = Instant::now() + WHOLE;
        self.tasks.spawn(async move {
            let id: NodeId = name.parse()?;
            let use_again = |client: ApiClient| {
                let id = id.clone();
                async move { client.use_again(&id).await }
            };
            persist(&clients, until, use_again).await.map(drop)
        });
    }

    /// Replaces all firmware. While the store elects a leader or is busy it takes no update for a moment,
    /// which is tried again: that is no defect of a cluster whose nodes die.
    fn begin_update(&mut self, number: usize) {
        self.version += 1;
        let (clients, ended) = (self.clients(), self.ended_mark(number));
        let (deployed, version) = (self.deployed.clone(), self.version);
        let until = Instant::now() + WHOLE;
        self.tasks.spawn(async move {
            for it in deployed {
                let put = guests::put(&clients, &it.names, &it.package(version), until).await;
                put.context("hot update")?;
            }
            ended();
            Ok(())
        });
    }
}

/// Whether the kernel can delay packets in the namespace of a node.
///
/// # Errors
/// Why not.
pub(crate) fn can_delay(net: &odeum_cluster::netns::Net, node: &str) -> anyhow::Result<()> {
    let tc = |arguments: &[&str]| {
        let mut command = net.command(node, Path::new("tc"));
        command.arg("qdisc").args(arguments);
        run(&mut command)
    };
    tc(&["add", "dev", "cable", "root", "netem", "delay", "1ms"])?;
    tc(&["del", "dev", "cable", "root"])
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{}", said.trim());
    Ok(())
}
