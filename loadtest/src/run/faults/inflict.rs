//! Faults, carried out.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use rand::rngs::StdRng;
use rustix::process::Signal;
use tokio::time::sleep;

use super::cluster::{Cluster, MEMBERS};
use super::damage;
use super::plan::{Fault, Way};
use crate::fault::shim;

/// Long enough for what the others had of a dead node's to be with both of them: they say that
/// they have it as soon as it is, and nothing delays them.
const SPREAD: Duration = Duration::from_secs(2);

/// Brings a fault about, keeps it for a while and ends it. Then the nodes answer again; how long
/// that took.
///
/// # Errors
/// If something happens that should not, or does not that should.
pub(super) async fn inflict(
    cluster: &mut Cluster,
    fault: Fault,
    lasts: Duration,
    rng: &mut StdRng,
) -> anyhow::Result<Duration> {
    match fault {
        Fault::Kill(who) => {
            let place = cluster.place(who).await?;
            die(cluster, &[place], lasts).await?;
        }
        Fault::KillAllBut(survivor) => {
            let dead: Vec<usize> = (0..MEMBERS).filter(|place| *place != survivor).collect();
            die(cluster, &dead, lasts).await?;
        }
        Fault::KillAll => {
            let all: Vec<usize> = (0..MEMBERS).collect();
            die(cluster, &all, lasts / 4).await?;
        }
        Fault::Restart(who) => {
            let place = cluster.place(who).await?;
            cluster.stop(place).await?;
            sleep(lasts / 4).await;
            cluster.run(place).await?;
        }
        Fault::Cut(who, way) => {
            let place = cluster.place(who).await?;
            cut(cluster, place, way)?;
            sleep(lasts).await;
            cluster.net().heal()?;
        }
        Fault::Pause(who) => {
            let place = cluster.place(who).await?;
            cluster.member(place)?.signal(Signal::STOP)?;
            sleep(lasts).await;
            cluster.member(place)?.signal(Signal::CONT)?;
        }
        Fault::FillDisk => {
            let (place, disk) = cluster.disk()?;
            disk.fill()?;
            cluster.runs_full(*place).await?;
            sleep(lasts).await;
            disk.free()?;
        }
        Fault::Tear(place) => tear(cluster, place, rng).await?,
        Fault::Flip(place) => flip(cluster, place, rng).await?,
        Fault::Jump(place, seconds) => {
            shim::set_clock(&cluster.clock_file(place), seconds)?;
            sleep(lasts).await;
            shim::set_clock(&cluster.clock_file(place), 0)?;
        }
    }
    cluster.whole().await
}

async fn die(cluster: &mut Cluster, places: &[usize], lasts: Duration) -> anyhow::Result<()> {
    for place in places {
        cluster.kill(*place).await?;
    }
    sleep(lasts).await;
    cluster.run_all(places).await
}

fn cut(cluster: &Cluster, place: usize, way: Way) -> anyhow::Result<()> {
    let name = |place: usize| format!("n{}", place + 1);
    for other in (0..MEMBERS).filter(|other| *other != place) {
        if way != Way::In {
            cluster.net().block(&name(place), &name(other))?;
        }
        if way != Way::Out {
            cluster.net().block(&name(other), &name(place))?;
        }
    }
    Ok(())
}

/// All nodes die, and one of them loses the end of its log. What is in that was acknowledged by the
/// others as well: it dies first, and they go on writing.
async fn tear(cluster: &mut Cluster, place: usize, rng: &mut StdRng) -> anyhow::Result<()> {
    cluster.kill(place).await?;
    let others: Vec<usize> = (0..MEMBERS).filter(|other| *other != place).collect();
    let died = Instant::now();
    for other in &others {
        cluster.answers(*other, died).await?;
    }
    sleep(SPREAD).await;
    for other in &others {
        cluster.kill(*other).await?;
    }
    let torn = damage::tear(&cluster.wal(place)?, rng)?;
    let all: Vec<usize> = (0..MEMBERS).collect();
    cluster.run_all(&all).await.with_context(|| format!("{torn:?} was cut off"))
}

/// One node dies and a byte of its log is changed. It does not start, and says why; another one
/// takes its place.
async fn flip(cluster: &mut Cluster, place: usize, rng: &mut StdRng) -> anyhow::Result<()> {
    cluster.kill(place).await?;
    let changed = damage::flip(&cluster.wal(place)?, rng)?;
    let (file, offset) = (changed.file.display().to_string(), changed.offset);
    let refusal = match cluster.run(place).await {
        Ok(()) => {
            anyhow::bail!("with a byte changed in the record at {offset} of {file} it starts")
        }
        Err(error) => format!("{error:#}"),
    };
    anyhow::ensure!(
        refusal.contains(&format!("{file} is damaged at byte {offset}:")),
        "with a byte changed in the record at {offset} of {file} it says: {refusal}"
    );
    cluster.replace(place).await?;
    cluster.run(place).await
}
