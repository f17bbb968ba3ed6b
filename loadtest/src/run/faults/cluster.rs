//! Three nodes as processes, each in a network namespace of its own, and what can be done to them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::future::try_join_all;
use odeum_cluster::netns::Net;
use odeum_cluster::transport::pki::Authority;
use tempfile::TempDir;
use tokio::time::sleep;

use super::link::{Link, Member, PATIENCE, Reply};
use super::plan::Who;
use super::wire::Do;
use crate::check::operation::Answer;
use crate::fault::disk::Disk;
use crate::fault::shim::Shim;

/// Members of the cluster.
pub(super) const MEMBERS: usize = 3;

/// Before the names of the namespaces.
const PREFIX: &str = "odeum-loadtest";

/// How soon every node must answer after a fault has ended, on a machine that does so much other
/// work that a heartbeat often comes too late. By itself it takes a second or two.
const WHOLE: Duration = Duration::from_secs(120);

/// How often it is looked whether something is the case.
const LOOK: Duration = Duration::from_millis(100);

/// Sessions that are asked after to see whether a node answers: enough to meet both groups.
const ASKED_AFTER: usize = 4;

/// The ways to the nodes that run, by place. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Ways(Arc<Mutex<[Option<Arc<Link>>; MEMBERS]>>);

impl Ways {
    fn all(&self) -> MutexGuard<'_, [Option<Arc<Link>>; MEMBERS]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The way to the node in a place, if one runs there.
    pub(super) fn to(&self, place: usize) -> Option<Arc<Link>> {
        self.all().get(place).cloned().flatten()
    }

    fn set(&self, place: usize, link: Option<Arc<Link>>) {
        if let Some(way) = self.all().get_mut(place) {
            *way = link;
        }
    }
}

/// The cluster. Everything of it ends when it is dropped.
#[derive(Debug)]
pub(super) struct Cluster {
    // In this order: processes end before the network, the disk and the folder go.
    seats: Vec<Seat>,
    ways: Ways,
    net: Net,
    disk: Option<(usize, Disk)>,
    clock: Option<Shim>,
    authority: Authority,
    stage: TempDir,
}

/// The place of a node, which keeps its address; the node in it may be another one later.
#[derive(Debug)]
struct Seat {
    /// The node.
    name: String,
    /// How many nodes there have been in it.
    nodes: usize,
    /// How often one was started in it.
    starts: usize,
    member: Option<Member>,
}

/// What a cluster is made with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Make {
    /// Which node has a small disk of its own.
    pub(super) disk: Option<usize>,
    /// Whether the time of day of each node can be moved, if there is a C compiler.
    pub(super) clock: bool,
}

/// What is written to fill a log's room quickly: a fraction of what watchers are kept told of.
const LOAD_BYTES: usize = 128 << 10;

/// The place's name in the network.
fn label(place: usize) -> String {
    format!("n{}", place + 1)
}

impl Cluster {
    /// Three nodes that answer.
    ///
    /// # Errors
    /// If they cannot be had.
    pub(super) async fn start(make: Make) -> anyhow::Result<Self> {
        let stage = tempfile::Builder::new().prefix("odeum-loadtest-").tempdir()?;
        let authority = Authority::create(&stage.path().join("authority"))?;
        let labels: Vec<String> = (0..MEMBERS).map(label).collect();
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let net = Net::create(PREFIX, &labels)?;
        let disk = match make.disk {
            Some(place) => Some((place, Disk::mount(&stage.path().join("disk"))?)),
            None => None,
        };
        let clock = make.clock.then(|| Shim::build(stage.path())).and_then(Result::ok);
        let seats = (0..MEMBERS)
            .map(|place| Seat { name: label(place), nodes: 1, starts: 0, member: None })
            .collect();
        let ways = Ways::default();
        let mut cluster = Self { seats, ways, net, disk, clock, authority, stage };
        for place in 0..MEMBERS {
            cluster.run(place).await?;
        }
        cluster.whole().await?;
        Ok(cluster)
    }

    /// The ways to the nodes.
    pub(super) fn ways(&self) -> Ways {
        self.ways.clone()
    }

    /// Its network.
    pub(super) fn net(&self) -> &Net {
        &self.net
    }

    /// The small disk, and the place of the node that has it.
    pub(super) fn disk(&self) -> anyhow::Result<&(usize, Disk)> {
        self.disk.as_ref().context("no node has a small disk")
    }

    /// Writes a while, until a node knows that its disk is full.
    ///
    /// # Errors
    /// If it does not come to know it.
    pub(super) async fn runs_full(&self, place: usize) -> anyhow::Result<()> {
        let began = Instant::now();
        for number in (0..ASKED_AFTER).cycle() {
            let way = self.ways.to(place).with_context(|| format!("{} is down", label(place)))?;
            if let Reply::Answer(Answer::Is(true)) = way.ask(Do::IsFull, PATIENCE).await {
                return Ok(());
            }
            let elapsed = began.elapsed();
            anyhow::ensure!(elapsed < WHOLE, "{} has room after {elapsed:?}", label(place));
            // At another node, whatever becomes of it there: who is full may lead.
            let session = format!("load-{number}");
            let load = Do::Load { session, bytes: LOAD_BYTES };
            if let Some(other) = self.ways.to((place + 1) % MEMBERS) {
                drop(other.ask(load, PATIENCE).await);
            }
        }
        Ok(())
    }

    /// Whether the time of day of its nodes can be moved.
    pub(super) fn has_clock(&self) -> bool {
        self.clock.is_some()
    }

    /// The file that moves the time of day of the node in a place.
    pub(super) fn clock_file(&self, place: usize) -> PathBuf {
        self.stage.path().join(format!("{}.clock", label(place)))
    }

    /// The log of the node in a place.
    pub(super) fn wal(&self, place: usize) -> anyhow::Result<PathBuf> {
        Ok(self.data(place)?.join("store").join("wal"))
    }

    /// Where everything is that the nodes leave behind.
    pub(super) fn stage(&self) -> &Path {
        self.stage.path()
    }

    /// Leaves that there for people to look at.
    pub(super) fn keep(&mut self) {
        self.stage.disable_cleanup(true);
    }

    fn seat(&self, place: usize) -> anyhow::Result<&Seat> {
        self.seats.get(place).context("no such place")
    }

    fn seat_mut(&mut self, place: usize) -> anyhow::Result<&mut Seat> {
        self.seats.get_mut(place).context("no such place")
    }

    /// The name of the node in a place.
    pub(super) fn name(&self, place: usize) -> anyhow::Result<&str> {
        Ok(&self.seat(place)?.name)
    }

    fn data(&self, place: usize) -> anyhow::Result<PathBuf> {
        let folder = match &self.disk {
            Some((with, disk)) if *with == place => disk.dir().to_owned(),
            _ => self.stage.path().join("data"),
        };
        Ok(folder.join(self.name(place)?))
    }

    /// The process of the node in a place.
    pub(super) fn member(&self, place: usize) -> anyhow::Result<&Member> {
        self.seat(place)?.member.as_ref().with_context(|| format!("{} does not run", label(place)))
    }

    /// Starts the node in a place, new or again.
    ///
    /// # Errors
    /// If it does not come to be a member.
    pub(super) async fn run(&mut self, place: usize) -> anyhow::Result<()> {
        self.run_all(&[place]).await
    }

    /// Starts nodes at the same time: some may need others to be there.
    ///
    /// # Errors
    /// If one does not come to be a member.
    pub(super) async fn run_all(&mut self, places: &[usize]) -> anyhow::Result<()> {
        let mut starts = Vec::new();
        for &place in places {
            let (command, log) = self.command(place)?;
            starts.push(async move {
                let member = Member::start(command.into(), &log).await;
                anyhow::Ok((place, member.with_context(|| format!("start of {}", label(place)))?))
            });
        }
        for (place, member) in try_join_all(starts).await? {
            self.ways.set(place, Some(Arc::clone(&member.link)));
            self.seat_mut(place)?.member = Some(member);
        }
        Ok(())
    }

    fn command(&mut self, place: usize) -> anyhow::Result<(Command, PathBuf)> {
        let data = self.data(place)?;
        let certs = self.stage.path().join("certs").join(self.name(place)?);
        if !certs.exists() {
            self.authority.issue(&self.name(place)?.parse()?, &certs)?;
        }
        std::fs::create_dir_all(data.parent().context("a folder of data has a parent")?)?;
        let mut command = self.net.command(&label(place), &std::env::current_exe()?);
        command.args(["store-member", "--name", self.name(place)?]);
        command.arg("--data").arg(&data).arg("--certs").arg(certs);
        command.arg("--listen").arg(self.net.addr(&label(place))?.to_string());
        // A node that has been a member finds the others by what it knows of them.
        if !data.exists() {
            let others = (0..MEMBERS).filter(|other| self.ways.to(*other).is_some());
            for other in others {
                command.arg("--join").arg(self.net.addr(&label(other))?.to_string());
            }
        }
        if let Some(clock) = &self.clock {
            clock.apply(&mut command, &self.clock_file(place))?;
        }
        let seat = self.seat_mut(place)?;
        seat.starts += 1;
        let log = format!("{}.{}.log", seat.name, seat.starts);
        Ok((command, self.stage.path().join(log)))
    }

    fn take(&mut self, place: usize) -> anyhow::Result<Member> {
        self.ways.set(place, None);
        let member = self.seat_mut(place)?.member.take();
        member.with_context(|| format!("{} does not run", label(place)))
    }

    /// kill -9.
    ///
    /// # Errors
    /// If it had panicked or does not run.
    pub(super) async fn kill(&mut self, place: usize) -> anyhow::Result<()> {
        self.take(place)?.kill().await.with_context(|| label(place))
    }

    /// SIGTERM.
    ///
    /// # Errors
    /// If it does not end well.
    pub(super) async fn stop(&mut self, place: usize) -> anyhow::Result<()> {
        self.take(place)?.stop().await.with_context(|| label(place))
    }

    /// Removes everything of the node in a place, which does not run and never will again. The
    /// next one to be started there is another one.
    ///
    /// # Errors
    /// If the others do not let it go.
    pub(super) async fn replace(&mut self, place: usize) -> anyhow::Result<()> {
        std::fs::remove_dir_all(self.data(place)?)?;
        let gone = self.name(place)?.to_owned();
        let removal = Do::Remove { node: gone.clone() };
        let survivor = (0..MEMBERS).find_map(|other| self.ways.to(other));
        let survivor = survivor.context("no node runs")?;
        match survivor.ask(removal, WHOLE + PATIENCE).await {
            Reply::Answer(Answer::Done) => {}
            reply => anyhow::bail!("{gone}, gone for good, is not let go: {reply:?}"),
        }
        let seat = self.seat_mut(place)?;
        seat.nodes += 1;
        seat.name = format!("{}-{}", label(place), seat.nodes);
        Ok(())
    }

    /// The place that is meant.
    pub(super) async fn place(&self, who: Who) -> anyhow::Result<usize> {
        match who {
            Who::Place(place) => Ok(place),
            Who::Leader(group) => self.leader(usize::from(group)).await,
        }
    }

    /// Who leads a group: who says so itself.
    async fn leader(&self, group: usize) -> anyhow::Result<usize> {
        let began = Instant::now();
        while began.elapsed() < WHOLE {
            for place in 0..MEMBERS {
                let Some(way) = self.ways.to(place) else { continue };
                let reply = way.ask(Do::Leaders, PATIENCE).await;
                if let Reply::Answer(Answer::Leaders(leaders)) = reply
                    && leaders.get(group).and_then(Option::as_deref) == Some(self.name(place)?)
                {
                    return Ok(place);
                }
            }
            sleep(LOOK).await;
        }
        anyhow::bail!("nobody leads data-{group} for {WHOLE:?}")
    }

    /// Waits until every node answers and writes, and looks whether all are well; how long that
    /// took.
    ///
    /// # Errors
    /// If one does not, or is not.
    pub(super) async fn whole(&mut self) -> anyhow::Result<Duration> {
        let began = Instant::now();
        try_join_all((0..MEMBERS).map(|place| self.answers(place, began))).await?;
        self.well()?;
        Ok(began.elapsed())
    }

    /// Whether all nodes run, without having panicked.
    ///
    /// # Errors
    /// If one does not.
    pub(super) fn well(&mut self) -> anyhow::Result<()> {
        for (place, seat) in self.seats.iter_mut().enumerate() {
            let member =
                seat.member.as_mut().with_context(|| format!("{} is down", label(place)))?;
            member.is_well().with_context(|| label(place))?;
        }
        Ok(())
    }

    /// Waits until the node in a place has written to and read from every group since a moment.
    pub(super) async fn answers(&self, place: usize, since: Instant) -> anyhow::Result<()> {
        for number in 0..ASKED_AFTER {
            let session = format!("whole-{number}");
            for what in
                [Do::Create { session: session.clone(), ttl_ms: None }, Do::Look { session }]
            {
                self.is_answered(place, &what, since).await?;
            }
        }
        Ok(())
    }

    async fn is_answered(&self, place: usize, what: &Do, since: Instant) -> anyhow::Result<()> {
        loop {
            let way = self.ways.to(place).with_context(|| format!("{} is down", label(place)))?;
            let reply = way.ask(what.clone(), PATIENCE).await;
            if let Reply::Answer(Answer::Done | Answer::Is(_)) = reply {
                return Ok(());
            }
            let elapsed = since.elapsed();
            anyhow::ensure!(
                elapsed < WHOLE,
                "{} does not answer {elapsed:?} after a fault has ended: {reply:?}",
                label(place)
            );
            sleep(LOOK).await;
        }
    }
}
