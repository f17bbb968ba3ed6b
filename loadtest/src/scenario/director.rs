//! Directs a run: the cluster, the generators, the faults, and what is made of it all.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use odeum_cluster::netns::Net;
use odeum_proto::Name;
use odeum_runtime::api::client::ApiClient;
use rand::RngExt as _;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, timeout};

use super::collect::Collected;
use super::generator::{guest_prefix, server_name};
use super::live::{Live, View};
use super::outcome::{
    CheckRow, ClusterFacts, FaultMark, GeneratorFacts, NodeFacts, Outcome, PhaseMark, TargetRow,
    budgets,
};
use super::protocol::{Assignment, Changes, Check, Found, Looked, NodeAt, Order, Said};
use super::sample::Samples;
use super::schedule::Segment;
use super::spec::{Fault, Phase, Scenario, Target, Who};
use super::timetable::timetable;
use super::torment::{Able, Deployed, Marks, Torment, WHOLE};
use super::{lasts, machine};
use crate::fleet::{Fleet, FleetOptions, Pids};
use crate::guests;
use crate::monotonic;

/// How long generators may take to prepare, and to look at everything at the end.
const PATIENCE: Duration = Duration::from_secs(300);

/// Between the order to begin and the first send.
const LEAD: Duration = Duration::from_millis(300);

/// How often nodes and generators are looked at, and the picture is drawn.
const LOOK: Duration = Duration::from_secs(1);

/// After the load, before it is looked at what nodes have not given back.
const SETTLE: Duration = Duration::from_secs(2);

/// How long after its deadline an answer may come to be told by a generator, in seconds.
const BEHIND: u64 = 5;

/// What is found wrong and kept: what follows it proves nothing more.
const FOUND: usize = 100;

/// Words of generators that wait.
const WORDS: usize = 256;

/// Directs one run.
#[derive(Debug)]
pub(crate) struct Director {
    pub(crate) file: String,
    pub(crate) text: String,
    pub(crate) changes: Changes,
    pub(crate) scenario: Scenario,
    pub(crate) size: usize,
    pub(crate) able: Able,
    pub(crate) drop_one_in: Option<u64>,
    /// Where findings are written.
    pub(crate) findings: PathBuf,
    pub(crate) began: String,
    pub(crate) command: String,
    pub(crate) live: Live,
}

/// The cluster, as a run has it.
#[derive(Debug)]
struct Stage {
    fleet: Option<Fleet>,
    nodes: Vec<NodeAt>,
    clients: Vec<ApiClient>,
    /// Names what the run makes.
    run: String,
    deployed: Vec<Deployed>,
    server: Option<Name>,
}

/// A generator's process.
#[derive(Debug)]
struct Generator {
    child: Child,
    stdin: ChildStdin,
}

impl Generator {
    async fn order(&mut self, order: &Order) -> anyhow::Result<()> {
        let line = serde_json::to_string(order)? + "\n";
        Ok(self.stdin.write_all(line.as_bytes()).await?)
    }
}

/// All generators.
#[derive(Debug)]
struct Generators {
    all: Vec<Generator>,
    words: mpsc::Receiver<(usize, Option<Said>)>,
    _ears: JoinSet<()>,
}

/// What comes out of a load.
#[derive(Debug)]
struct Load {
    collected: Collected,
    samples: Samples,
    found: Vec<Found>,
    marks: Marks,
    looked: Looked,
    longest_gap_us: u64,
}

impl Director {
    /// Runs the scenario.
    pub(crate) async fn run(&mut self, net: Option<Net>) -> anyhow::Result<Outcome> {
        let mut stage = self.enter(net).await?;
        let result = tokio::select! {
            result = self.perform(&mut stage) => result,
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        };
        self.live.end();
        // What was made in somebody else's cluster goes, whatever happened.
        let result = match result {
            Ok((mut load, classes)) => {
                self.leave(&mut stage, &mut load).await;
                Ok(self.outcome(&stage, &load, classes))
            }
            Err(error) => {
                self.clean(&stage).await;
                Err(error)
            }
        };
        if let Some(mut fleet) = stage.fleet.take() {
            let is_well = result.as_ref().is_ok_and(|outcome| outcome.found.is_empty());
            if !is_well {
                fleet.keep();
                let stage = fleet.stage().display();
                self.live.say(&format!("logs and data of the nodes are in {stage}"));
            }
            fleet.end().await;
        }
        result
    }

    /// Starts the cluster, or finds it.
    async fn enter(&mut self, net: Option<Net>) -> anyhow::Result<Stage> {
        let run: String = format!("{:06x}", rand::rng().random_range(0..1 << 24));
        let (deployed, server) = (Vec::new(), None);
        if !self.scenario.cluster.urls.is_empty() {
            let (mut nodes, mut clients) = (Vec::new(), Vec::new());
            for url in &self.scenario.cluster.urls {
                let client = ApiClient::new(url)?;
                let status = client.status().await.with_context(|| url.clone())?;
                nodes.push(NodeAt { name: status.node.to_string(), url: url.clone(), door: None });
                clients.push(client);
            }
            return Ok(Stage { fleet: None, nodes, clients, run, deployed, server });
        }
        let place = if net.is_some() { "in network namespaces" } else { "on loopback" };
        self.live.say(&format!("starting {} nodes {place}", self.size));
        let faults = || self.scenario.faults.iter().map(|fault| &fault.value);
        let shim = faults().any(|it| matches!(it, Fault::Clock(_) | Fault::SlowDisk(_)));
        let disk = faults().find_map(|it| match it {
            Fault::DiskFull(it) => Some(match &it.node {
                Who::Named(name) => {
                    name.trim_start_matches('n').parse::<usize>().unwrap_or(1).saturating_sub(1)
                }
                _ => self.size - 1,
            }),
            _ => None,
        });
        let doors =
            self.scenario.targets.values().any(|it| matches!(it, Target::Ask(_) | Target::Tell(_)));
        let options = FleetOptions {
            names: (1..=self.size).map(|number| format!("n{number}")).collect(),
            net,
            small_disk: disk.filter(|_| self.able.no_disk.is_none()),
            shim,
            doors,
            drop_one_in: self.drop_one_in,
        };
        let fleet = Fleet::start(options).await.context("the cluster does not start")?;
        if shim && !fleet.has_shim() {
            self.able.no_shim = Some("there is no C compiler (cc)".to_owned());
        }
        let clients = fleet.clients();
        let nodes = fleet.ids().zip(&clients).zip(fleet.doors()).map(|((id, client), door)| {
            NodeAt { name: id.to_string(), url: client.url().to_string(), door }
        });
        let nodes = nodes.collect();
        Ok(Stage { fleet: Some(fleet), nodes, clients, run, deployed, server })
    }

    /// Deploys what is called.
    async fn deploy(&mut self, stage: &mut Stage) -> anyhow::Result<()> {
        let client = stage.clients.first().context("there is no node")?.clone();
        for (place, (name, target)) in self.scenario.targets.iter().enumerate() {
            match target {
                Target::Call(it) => {
                    self.live.say(&format!("deploying {} guests for {name}", it.guests));
                    let names = guests::names(&guest_prefix(&stage.run, place), it.guests)?;
                    let deployed = Deployed { names, state: it.state, memory: it.memory.0 };
                    // Also what is only partly deployed is removed at the end.
                    let (names, package) = (deployed.names.clone(), deployed.package(1));
                    stage.deployed.push(deployed);
                    guests::deploy(&client, &names, &package)
                        .await
                        .with_context(|| format!("target {name}"))?;
                }
                Target::Http(it) if it.firmware.is_none() && stage.server.is_none() => {
                    self.live.say("deploying a server of HTTP");
                    let server: Name = server_name(&stage.run).parse()?;
                    stage.server = Some(server.clone());
                    guests::deploy(&client, &[server], guests::SERVER).await?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn perform(
        &mut self,
        stage: &mut Stage,
    ) -> anyhow::Result<(Load, BTreeMap<String, (u64, u64)>)> {
        self.deploy(stage).await?;
        let mut generators = self.prepare(stage).await?;
        let seconds = lasts(&self.scenario).as_secs();
        let mut load = Load {
            collected: Collected::new(seconds, self.scenario.targets.len()),
            samples: Samples::default(),
            found: Vec::new(),
            marks: Marks::default(),
            looked: Looked::default(),
            longest_gap_us: 0,
        };
        let pids = stage.fleet.as_ref().map(Fleet::pids).unwrap_or_default();
        look_at_nodes(&mut load.samples, &pids, &stage.clients).await;
        load.samples.begin(|name| files_of(&pids, name));
        self.load(stage, &mut generators, &pids, &mut load).await?;
        if let Some(fleet) = &mut stage.fleet {
            self.live.say("waiting until the cluster is whole");
            if let Err(error) = fleet.whole(WHOLE).await {
                self.is_wrong(&mut load, Check::Health, format!("health: {error:#}"));
            }
        }
        sleep(SETTLE).await;
        look_at_nodes(&mut load.samples, &pids, &stage.clients).await;
        load.samples.end(|name| files_of(&pids, name));
        self.live.say("looking at what is there");
        self.finish(&mut generators, &mut load).await?;
        let classes = classes(&stage.clients).await;
        for generator in &mut generators.all {
            // It has said all; an error means that it has ended.
            let _ = generator.child.kill().await;
        }
        Ok((load, classes))
    }

    /// Starts the generators, and waits until each is prepared.
    async fn prepare(&mut self, stage: &Stage) -> anyhow::Result<Generators> {
        let of = self.scenario.generators;
        self.live.say(&format!("preparing {of} generators"));
        let (sender, words) = mpsc::channel(WORDS);
        let (mut all, mut ears) = (Vec::new(), JoinSet::new());
        for index in 0..of {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("load-generator").stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.kill_on_drop(true).spawn().context("a generator")?;
            let stdin = child.stdin.take().context("no stdin")?;
            let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
            let sender = sender.clone();
            ears.spawn(async move {
                while let Ok(Some(line)) = lines.next_line().await {
                    let Ok(said) = serde_json::from_str(&line) else { continue };
                    if sender.send((index, Some(said))).await.is_err() {
                        return;
                    }
                }
                // Whoever listens has gone when this cannot be sent.
                let _ = sender.send((index, None)).await;
            });
            let mut generator = Generator { child, stdin };
            let assignment = Assignment {
                file: self.file.clone(),
                text: self.text.clone(),
                changes: self.changes.clone(),
                index,
                of,
                run: stage.run.clone(),
                nodes: stage.nodes.clone(),
            };
            generator.order(&Order::Prepare(Box::new(assignment))).await?;
            all.push(generator);
        }
        let mut generators = Generators { all, words, _ears: ears };
        let mut ready = 0;
        while ready < of {
            match self.word(&mut generators).await? {
                Said::Ready => ready += 1,
                other => anyhow::bail!("a generator said {other:?} before it was prepared"),
            }
        }
        Ok(generators)
    }

    /// The next word of any generator.
    async fn word(&self, generators: &mut Generators) -> anyhow::Result<Said> {
        let word = timeout(PATIENCE, generators.words.recv()).await;
        let word = word.context("no generator says anything")?;
        understood(word)
    }

    /// The load itself, with its faults.
    async fn load(
        &mut self,
        stage: &mut Stage,
        generators: &mut Generators,
        pids: &Pids,
        load: &mut Load,
    ) -> anyhow::Result<()> {
        let (faults, events) = timetable(&self.scenario);
        let mark = |fault: &Fault| FaultMark {
            name: fault.to_string(),
            begins_s: fault.when().0.as_secs_f64(),
            ends_s: None,
            whole_s: None,
            not_possible: None,
        };
        load.marks = Arc::new(Mutex::new(faults.iter().map(mark).collect()));
        let at = monotonic::now() + u64::try_from(LEAD.as_nanos())?;
        for generator in &mut generators.all {
            generator.order(&Order::Begin { at }).await?;
        }
        let began = Instant::now() + LEAD;
        let names = stage.nodes.iter().map(|node| node.name.clone());
        let nodes = names.zip(stage.clients.iter().cloned()).collect();
        let mut torment = Torment::new(
            stage.fleet.as_mut(),
            nodes,
            stage.deployed.clone(),
            (self.able.clone(), self.scenario.seed()),
            Arc::clone(&load.marks),
        );
        let mut over = 0;
        {
            let tormenting = torment.run(&faults, &events, began);
            tokio::pin!(tormenting);
            let (mut tormented, mut ticks) = (false, interval(LOOK));
            while over < generators.all.len() || !tormented {
                tokio::select! {
                    word = generators.words.recv() => {
                        over += usize::from(self.take(load, understood(word)?));
                    }
                    () = &mut tormenting, if !tormented => tormented = true,
                    _ = ticks.tick() => {
                        self.tick(load, (generators, pids), &stage.clients, began).await;
                    }
                }
            }
        }
        let errors = std::mem::take(&mut torment.errors);
        drop(torment);
        for error in errors {
            self.is_wrong(load, Check::Health, format!("health: {error}"));
        }
        Ok(())
    }

    /// Takes what a generator says; whether it is over.
    fn take(&mut self, load: &mut Load, said: Said) -> bool {
        match said {
            Said::Second { number, counts } => load.collected.take(number, &counts),
            Said::Found(found) => self.found(load, found),
            Said::Over { longest_gap_us } => {
                load.longest_gap_us = load.longest_gap_us.max(longest_gap_us);
                return true;
            }
            Said::Done(looked) => {
                load.looked.add(&looked);
                return true;
            }
            Said::Ready | Said::Failed(_) => {}
        }
        false
    }

    fn found(&mut self, load: &mut Load, found: Found) {
        if load.found.len() < FOUND {
            self.live.say(&format!("FOUND: {}", found.title));
            load.found.push(found);
        }
    }

    fn is_wrong(&mut self, load: &mut Load, check: Check, title: String) {
        self.found(load, Found { check, title, account: String::new() });
    }

    /// Once a second.
    async fn tick(
        &mut self,
        load: &mut Load,
        (generators, pids): (&Generators, &Pids),
        clients: &[ApiClient],
        began: Instant,
    ) {
        let elapsed = Instant::now().saturating_duration_since(began);
        let memory = look_at_nodes(&mut load.samples, pids, clients).await;
        for generator in &generators.all {
            if let Some(pid) = generator.child.id() {
                load.samples.look_at_generator(pid);
            }
        }
        let second = u32::try_from(elapsed.as_secs()).unwrap_or(u32::MAX);
        // Of this second nothing may have come yet.
        load.collected.takes_memory(second.saturating_sub(1), memory);
        let behind = self.scenario.deadline.0.as_secs() + BEHIND;
        let behind = u32::try_from(behind).unwrap_or(u32::MAX);
        load.collected.close_before(second.saturating_sub(behind));
        let marks = load.marks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let view = View {
            scenario: &self.scenario,
            elapsed,
            collected: &load.collected,
            faults: &marks,
            found: &load.found,
            memory,
        };
        self.live.draw(&view);
    }

    /// Has generators look at what is left.
    async fn finish(&mut self, generators: &mut Generators, load: &mut Load) -> anyhow::Result<()> {
        for generator in &mut generators.all {
            generator.order(&Order::Finish).await?;
        }
        let mut done = 0;
        while done < generators.all.len() {
            let said = self.word(generators).await?;
            done += usize::from(self.take(load, said));
        }
        Ok(())
    }

    /// Takes back what the run made in the cluster, and looks at whether all of it has gone.
    async fn leave(&mut self, stage: &mut Stage, load: &mut Load) {
        self.clean(stage).await;
        if let Some(fleet) = &stage.fleet
            && let Some(line) = fleet.panic()
        {
            self.is_wrong(load, Check::Health, format!("health: {line}"));
        }
        let leaks: Vec<String> =
            self.nodes(stage, load).iter().filter_map(NodeFacts::leak).collect();
        for leak in leaks {
            self.is_wrong(load, Check::Leak, leak);
        }
        if !load.found.is_empty()
            && let Err(error) = self.write_findings(&load.found)
        {
            self.live.say(&format!("findings cannot be written: {error:#}"));
        }
        if let Some(mut fleet) = stage.fleet.take() {
            let folder = fleet.stage().display().to_string();
            fleet.stop_all().await;
            let left = machine::processes_of(&folder);
            if !left.is_empty() {
                self.is_wrong(load, Check::Leak, format!("leaks: processes are left: {left:?}"));
            }
            stage.fleet = Some(fleet);
        }
    }

    /// Removes what was deployed from a cluster that goes on.
    async fn clean(&self, stage: &Stage) {
        if stage.fleet.is_some() {
            return;
        }
        let names: Vec<Name> = stage.deployed.iter().flat_map(|it| it.names.clone()).collect();
        let names: Vec<Name> = names.into_iter().chain(stage.server.clone()).collect();
        if let Some(client) = stage.clients.first() {
            // What cannot be removed is named so that its owner can see whose it is.
            let _ = guests::remove(client, &names).await;
        }
    }

    fn write_findings(&self, found: &[Found]) -> anyhow::Result<()> {
        std::fs::create_dir_all(&self.findings)?;
        for (number, Found { title, account, .. }) in (1..).zip(found) {
            let file = self.findings.join(format!("finding-{number}.txt"));
            std::fs::write(&file, format!("{title}\n\n{account}"))?;
        }
        Ok(())
    }

    fn nodes(&self, stage: &Stage, load: &Load) -> Vec<NodeFacts> {
        let starts = |name: &str| stage.fleet.as_ref().map_or(0, |fleet| fleet.starts(name));
        load.samples.nodes(starts)
    }

    fn outcome(
        &self,
        stage: &Stage,
        load: &Load,
        classes: BTreeMap<String, (u64, u64)>,
    ) -> Outcome {
        let Scenario { targets, .. } = &self.scenario;
        let seconds = lasts(&self.scenario).as_secs_f64();
        let whole = &load.collected.whole;
        let counts = |name: Option<&str>| match name {
            None => whole.all(),
            Some(name) => {
                let place = targets.keys().position(|other| other == name);
                place.and_then(|place| whole.targets.get(place)).cloned().unwrap_or_default()
            }
        };
        let nodes = self.nodes(stage, load);
        let longest_outage_ms = load.longest_gap_us as f64 / 1_000.0;
        let budgets = budgets(&self.scenario, &counts, seconds, &nodes, longest_outage_ms);
        let each = targets.iter().zip(&whole.targets);
        let each = each.map(|((name, it), counts)| TargetRow::new(name, sort(it), counts, seconds));
        let faults = load.marks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Outcome {
            scenario: self.scenario.name.clone(),
            about: self.scenario.about.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            began: self.began.clone(),
            command: self.command.clone(),
            seed: self.scenario.seed(),
            load: load_of(&self.scenario.phases).to_owned(),
            machine: machine::this(),
            cluster: ClusterFacts {
                nodes: stage.nodes.iter().map(|node| node.name.clone()).collect(),
                place: self.place(stage),
            },
            seconds,
            phases: phases(&self.scenario.phases),
            all: TargetRow::new("all", "", &whole.all(), seconds),
            targets: each.collect(),
            timeline: load.collected.points(),
            checks: CheckRow::all(&load.looked, &load.found, nodes.len()),
            found: load.found.clone(),
            generators: self.generators(load, &whole.lateness),
            longest_outage_ms,
            lost_with_a_node: load.looked.lost_with_a_node,
            pass: load.found.is_empty() && budgets.iter().all(|row| row.pass),
            faults,
            budgets,
            nodes,
            classes,
        }
    }

    fn generators(&self, load: &Load, lateness: &super::measure::Times) -> GeneratorFacts {
        let mut facts = GeneratorFacts {
            late_p50_us: lateness.percentile(50.0),
            late_p99_us: lateness.percentile(99.0),
            late_max_us: lateness.longest(),
            ..load.samples.generators()
        };
        let late = self.scenario.late.0.as_micros();
        facts.judge(u64::try_from(late).unwrap_or(u64::MAX));
        facts
    }

    fn place(&self, stage: &Stage) -> String {
        match &stage.fleet {
            None => "a cluster that was there".to_owned(),
            Some(fleet) if fleet.net().is_some() => {
                "nodes of this machine, each in a network namespace".to_owned()
            }
            Some(_) => "nodes of this machine on loopback".to_owned(),
        }
    }
}

fn understood(word: Option<(usize, Option<Said>)>) -> anyhow::Result<Said> {
    match word.context("all generators have ended")? {
        (index, None) => anyhow::bail!("generator {index} has ended early"),
        (index, Some(Said::Failed(error))) => anyhow::bail!("generator {index}: {error}"),
        (_, Some(said)) => Ok(said),
    }
}

fn files_of(pids: &Pids, name: &str) -> Option<u64> {
    let pid = pids.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied()?;
    machine::files_of(pid)
}

/// Looks at all nodes; the memory of the largest.
async fn look_at_nodes(samples: &mut Samples, pids: &Pids, clients: &[ApiClient]) -> u64 {
    let here = pids.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if !here.is_empty() {
        let memory = here.iter().map(|(name, pid)| samples.look_at(name, *pid));
        return memory.max().unwrap_or_default();
    }
    // They are elsewhere, and tell about themselves.
    let Some(client) = clients.first() else { return 0 };
    let Ok(Ok(nodes)) = timeout(LOOK / 2, client.nodes()).await else { return 0 };
    let mut most = 0;
    for node in nodes {
        if let Some(told) = node.load {
            samples.has_memory(node.id.as_str(), told.memory_bytes);
            most = most.max(told.memory_bytes);
        }
    }
    most
}

/// Bytes between nodes by class, on the links that are there.
async fn classes(clients: &[ApiClient]) -> BTreeMap<String, (u64, u64)> {
    let mut classes: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for client in clients {
        let Ok(report) = client.links().await else { continue };
        for state in report.links.into_iter().filter_map(|link| link.state) {
            for (class, traffic) in state.classes {
                let of = classes.entry(class).or_default();
                of.0 += traffic.sent_bytes;
                of.1 += traffic.received_bytes;
            }
        }
    }
    classes
}

fn load_of(phases: &[Phase]) -> &'static str {
    let is_closed = |phase: &Phase| matches!(phase, Phase::Hold { clients: Some(_), .. });
    match (phases.iter().any(is_closed), phases.iter().all(is_closed)) {
        (_, true) => "closed",
        (true, false) => "mixed",
        (false, false) => "open",
    }
}

fn phases(phases: &[Phase]) -> Vec<PhaseMark> {
    let segments = Segment::all(phases);
    let mark = |(phase, segment): (&Phase, Segment)| PhaseMark {
        name: phase.to_string(),
        begins_s: segment.begins.as_secs_f64(),
        ends_s: segment.ends().as_secs_f64(),
    };
    phases.iter().zip(segments).map(mark).collect()
}

/// What sort of target it is, as files have it.
fn sort(target: &Target) -> &'static str {
    match target {
        Target::Call(_) => "call",
        Target::Firmware(_) => "firmware",
        Target::Http(_) => "http",
        Target::Read(_) => "read",
        Target::Write(_) => "write",
        Target::CompareAndSet(_) => "compare-and-set",
        Target::Watch(_) => "watch",
        Target::Ask(_) => "ask",
        Target::Tell(_) => "tell",
        Target::Move(_) => "move",
    }
}
