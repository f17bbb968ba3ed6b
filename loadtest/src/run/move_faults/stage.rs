//! The nodes, the guest, and how a case comes about.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use odeum_cluster::netns::Net;
use odeum_proto::{EntityId, Name, NodeId};
use odeum_runtime::api::types::{ActorNode, FirmwareState, MoveBegun, MoveBody, MoveState};
use rustix::process::Signal;
use tokio::time::sleep;

use super::case::{Case, Fault, Victim};
use super::chain::{self, Senders};
use super::halt::{Halt, Halted};
use crate::fleet::{Fleet, FleetOptions};
use crate::guests;

/// The nodes.
pub(super) const NAMES: [&str; 3] = ["n1", "n2", "n3"];

/// Messages that are answered while a fault lasts, and after it.
const SOME: usize = 6;

/// How long anything else may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long nobody may know of a move that has begun: the node that is to carry it out has to see it first.
const UNSEEN: Duration = Duration::from_secs(2);

/// How often is looked.
const LOOK: Duration = Duration::from_millis(20);

/// How a move ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Moved,
    Stayed,
    Overtaken,
    /// Who knew it was killed.
    Forgotten,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Moved => "it moved",
            Self::Stayed => "it stayed",
            Self::Overtaken => "it was placed anew",
            Self::Forgotten => "nobody knows more",
        })
    }
}

/// See the module.
pub(super) struct Stage {
    fleet: Fleet,
    guest: Name,
    senders: Senders,
}

impl Stage {
    /// Starts the nodes, the guest and those who tell it something. What it is told it keeps in its
    /// session, or in its memory alone.
    pub(super) async fn set(net: Net, is_kept: bool) -> anyhow::Result<Self> {
        let names = NAMES.map(str::to_owned).to_vec();
        let options =
            FleetOptions { names, net: Some(net), steps: true, ..FleetOptions::default() };
        let fleet = Fleet::start(options).await?;
        let guest: Name = "chain".parse()?;
        guests::deploy(fleet.client(0)?, std::slice::from_ref(&guest), &chain::guest(is_kept))
            .await?;
        let mut senders = Senders::start(guest.clone(), fleet.clients());
        senders.go_on(SOME).await?;
        Ok(Self { fleet, guest, senders })
    }

    /// How many messages were answered.
    pub(super) fn acknowledged(&self) -> usize {
        self.senders.acknowledged()
    }

    /// The longest time in which none was.
    pub(super) fn longest_gap(&self) -> Duration {
        self.senders.longest_gap()
    }

    /// Whether all answers are one chain.
    pub(super) async fn reckon(&mut self) -> anyhow::Result<()> {
        if let Some(panic) = self.fleet.panic() {
            anyhow::bail!("a node panicked: {panic}");
        }
        self.senders.reckon().await
    }

    pub(super) async fn end(self) {
        self.fleet.end().await;
    }

    /// Ends the nodes and leaves what they have written; where.
    pub(super) async fn keep(mut self) -> String {
        self.fleet.keep();
        let stage = self.fleet.stage().display().to_string();
        self.fleet.end().await;
        stage
    }

    /// Moves the guest, and nothing happens.
    pub(super) async fn moves(&mut self) -> anyhow::Result<Ending> {
        let (source, target) = self.course().await?;
        let begun = self.begin_from_to(source, target).await?;
        let ending = self.ending(&begun).await?;
        anyhow::ensure!(ending == Ending::Moved, "without any fault {ending}");
        self.senders.go_on(SOME).await?;
        Ok(ending)
    }

    /// Moves the guest, and has something happen at a step of that, which lasts so long or until somebody
    /// is answered, whichever is later. How the move ended, and how many stayed before it.
    pub(super) async fn perform(
        &mut self,
        case: Case,
        lasts: Duration,
    ) -> anyhow::Result<(Ending, usize)> {
        let (source, target) = self.course().await?;
        let at = if case.is_at_source() { source } else { target };
        let halt = Halt::at(&self.fleet.steps(at)?, case.step)?;
        let (begun, halted, stayed) = self.begin_until(&halt, source, target).await?;
        drop(halt);
        let victim = match case.victim {
            Victim::Source => source,
            Victim::Target => target,
            Victim::Leader => self.leader().await?,
        };
        self.strike(victim, case.fault).await?;
        drop(halted);
        sleep(lasts).await;
        self.senders.go_on(SOME).await.context("while the fault lasted")?;
        self.heal(victim, case.fault).await?;
        self.fleet.whole(PATIENCE).await?;
        let ending = self.ending(&begun).await?;
        self.has_one_host().await?;
        self.senders.go_on(SOME).await.context("after the fault")?;
        Ok((ending, stayed))
    }

    /// The node that has the guest, and another one.
    async fn course(&self) -> anyhow::Result<(usize, usize)> {
        let began = Instant::now();
        loop {
            let found = self.fleet.client(0)?.firmware_of(&self.guest).await?;
            let is_settled = found.state == FirmwareState::Running;
            if let Some(node) = found.node.filter(|_| is_settled) {
                let source = self.place(&node)?;
                // The next but one every other time, so that each goes to each.
                let step = 1 + self.acknowledged() % 2;
                return Ok((source, (source + step) % NAMES.len()));
            }
            anyhow::ensure!(began.elapsed() < PATIENCE, "the guest is nowhere");
            sleep(LOOK).await;
        }
    }

    fn place(&self, node: &NodeId) -> anyhow::Result<usize> {
        self.fleet.ids().position(|id| id == node).with_context(|| format!("no node is {node}"))
    }

    async fn leader(&self) -> anyhow::Result<usize> {
        let began = Instant::now();
        loop {
            for client in self.fleet.clients() {
                if let Ok(status) = client.status().await
                    && let Some(leader) = status.store.leader
                {
                    return self.place(&leader);
                }
            }
            anyhow::ensure!(began.elapsed() < PATIENCE, "there is no leader");
            sleep(LOOK).await;
        }
    }

    /// Begins a move that waits at a step. One that ends before with nothing done, as it may when what
    /// was struck last is not quite back, is begun again; how many were.
    async fn begin_until(
        &self,
        halt: &Halt,
        source: usize,
        target: usize,
    ) -> anyhow::Result<(MoveBegun, Halted, usize)> {
        let began = Instant::now();
        let mut stayed = 0;
        loop {
            let begun = self.begin_from_to(source, target).await?;
            let ended = tokio::select! {
                biased;
                halted = halt.reached() => return Ok((begun, halted?, stayed)),
                ended = self.ending(&begun) => ended?,
            };
            anyhow::ensure!(
                ended == Ending::Stayed && began.elapsed() < PATIENCE,
                "the move came by no such step: {ended}"
            );
            stayed += 1;
        }
    }

    async fn begin_from_to(&self, source: usize, target: usize) -> anyhow::Result<MoveBegun> {
        let to = self.fleet.ids().nth(target).context("no such node")?.clone();
        let body = MoveBody { entity: EntityId::firmware(self.guest.clone()), to };
        let began = Instant::now();
        loop {
            match self.fleet.client(source)?.begin_move(&body).await {
                Ok(begun) => return Ok(begun),
                // Such as that a node which has just come back has no lease yet.
                Err(_) if began.elapsed() < PATIENCE => sleep(LOOK).await,
                Err(error) => return Err(error).context("the move does not begin"),
            }
        }
    }

    async fn strike(&mut self, place: usize, fault: Fault) -> anyhow::Result<()> {
        match fault {
            Fault::Kill => self.fleet.kill(place).await,
            Fault::Pause => self.fleet.signal(place, Signal::STOP),
            Fault::Isolate => {
                let net = self.fleet.net().context("there is no network")?;
                let name = self.fleet.name(place)?;
                for other in NAMES.iter().filter(|other| **other != name) {
                    net.block(name, other)?;
                    net.block(other, name)?;
                }
                Ok(())
            }
        }
    }

    async fn heal(&mut self, place: usize, fault: Fault) -> anyhow::Result<()> {
        match fault {
            Fault::Kill => self.fleet.run(place).await,
            Fault::Pause => self.fleet.signal(place, Signal::CONT),
            Fault::Isolate => Ok(self.fleet.net().context("there is no network")?.heal()?),
        }
    }

    /// How a move ended, when it has.
    async fn ending(&self, begun: &MoveBegun) -> anyhow::Result<Ending> {
        let began = Instant::now();
        loop {
            let mut states = Vec::new();
            for client in self.fleet.clients() {
                let moves = client.moves().await?;
                let of = moves.into_iter().filter(|made| {
                    made.entity == begun.entity && made.epoch == begun.epoch && made.to == begun.to
                });
                states.extend(of.map(|made| made.state));
            }
            let is_known = !states.is_empty() || began.elapsed() > UNSEEN;
            if is_known && states.iter().all(|state| state.is_over()) {
                return Ok(match states.first() {
                    None => Ending::Forgotten,
                    Some(MoveState::Moved) => Ending::Moved,
                    Some(MoveState::Overtaken) => Ending::Overtaken,
                    Some(_) => Ending::Stayed,
                });
            }
            anyhow::ensure!(began.elapsed() < PATIENCE, "the move is stuck: {states:?}");
            sleep(LOOK).await;
        }
    }

    /// Waits until one node has the guest, and no other one has anything of it.
    async fn has_one_host(&self) -> anyhow::Result<()> {
        let named = format!("Host {}", self.guest);
        let began = Instant::now();
        loop {
            let mut hosts = 0;
            for client in self.fleet.clients() {
                hosts += count(&client.actors().await?, &named);
            }
            let found = self.fleet.client(0)?.firmware_of(&self.guest).await?;
            if hosts == 1 && found.state == FirmwareState::Running {
                return Ok(());
            }
            anyhow::ensure!(
                began.elapsed() < PATIENCE,
                "the guest is {:?} and has {hosts} hosts",
                found.state
            );
            sleep(LOOK).await;
        }
    }
}

fn count(node: &ActorNode, named: &str) -> usize {
    let own = usize::from(node.name.starts_with(named));
    own + node.children.iter().map(|child| count(child, named)).sum::<usize>()
}
