//! Guests that move between three nodes while they are called, a node that is drained, and one that
//! is killed.
//!
//! | row | what is measured | against |
//! |---|---|---|
//! | pause, 1 MiB | the longest answer of each of some moves while a guest is asked 1,000 times a second: what one in a hundred moves exceeds | 10 ms and 3 times what one in a hundred answers exceeds without moves |
//! | pause, 64 MiB | the same for a guest of which 1 % is written to each second, and which is copied before | 25 ms |
//! | move of 64 MiB | from its beginning to its end, by the median | 3 times as long as two processes take for 64 MiB with quinn alone |
//! | drain | 1,000 guests leave a node while they are called | 5 s |
//! | failed calls | calls that failed in all of this but the kills | none |
//! | death noticed | from kill -9 of a node until both others have said that it is down | 2 s |
//! | a guest back | from then until the one guest that it had answers elsewhere | 5 s |
//! | failover | from kill -9 of a node with 1,000 guests until each answers elsewhere | 5 s |
//!
//! Answers are counted from when a question was to be asked, also when it was asked late.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::future::try_join_all;
use odeum_proto::{EntityId, Name, NodeId};
use odeum_runtime::api::client::ApiClient;
use odeum_runtime::api::types::{
    CallOptions, DeployOptions, MoveBody, MoveState, MoveSummary, NodeState, NodeSummary,
};
use tokio::time::sleep;

mod fleet;
mod stream;

use self::fleet::Fleet;
use self::stream::{Guest, Stream};
use crate::guests;
use crate::remote::pair::Pair;
use crate::remote::process::Side;
use crate::remote::workload::Workload;
use crate::remote::{self, DRIVE, HOLD, Party, cpus::Cpus};
use crate::report::{Report, Row, Target};

/// Questions a second to the guest that moves.
const RATE: u64 = 1_000;
/// Moves of each guest in a round.
const MOVES: usize = 40;
/// Time between two moves.
const REST: Duration = Duration::from_millis(750);
/// What a pause may take beyond three times a slow answer, in milliseconds.
const PAUSE: f64 = 10.0;
/// What a pause of the large guest may take, in milliseconds.
const LARGE_PAUSE: f64 = 25.0;
/// Bytes of the large guest.
const LARGE: usize = 64 << 20;
/// How many times as long as copying it its move may take.
const COPIES: f64 = 3.0;
/// Guests on the node that is drained, and on the one that is killed.
const MANY: usize = 1_000;
/// What draining it may take, and what the failover may, in seconds.
const BUDGET: f64 = 5.0;
/// How long the others may take to notice that a node is dead, in seconds.
const NOTICED: f64 = 2.0;
/// How long anything may take that has no budget.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often is looked whether something has come.
const LOOK: Duration = Duration::from_millis(10);

/// A guest with a memory of so many bytes. A message names a page, which is written to; the reply is
/// how many messages it has had, which only its memory tells.
fn guest(bytes: usize) -> Vec<u8> {
    let pages = bytes.div_ceil(64 << 10).max(2);
    let text = format!(
        r#"(module
  (import "odeum" "reply" (func $reply (param i32 i32)))
  (memory (export "memory") {pages})
  (func $begin (local $at i32)
    ;; Every page has something in it.
    (loop $next
      (i64.store (local.get $at) (i64.extend_i32_u (i32.add (local.get $at) (i32.const 1))))
      (local.set $at (i32.add (local.get $at) (i32.const 4096)))
      (br_if $next (i32.lt_u (local.get $at) (i32.const {end}))))
    (i64.store (i32.const 512) (i64.const 0)))
  (start $begin)
  (func (export "odeum_alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "odeum_handle") (param $ptr i32) (param $len i32) (result i32) (local $at i32)
    (i64.store (i32.const 512) (i64.add (i64.load (i32.const 512)) (i64.const 1)))
    (if (i32.eq (local.get $len) (i32.const 4)) (then
      (local.set $at (i32.mul (i32.load (local.get $ptr)) (i32.const 4096)))
      (i64.store offset=2048 (local.get $at) (i64.load (i32.const 512)))))
    (call $reply (i32.const 512) (i32.const 8))
    (i32.const 0)))"#,
        end = pages * (64 << 10),
    );
    text.into_bytes()
}

/// Runs the scenario.
///
/// # Errors
/// If a node cannot be started or fails in the middle.
pub async fn run(rounds: usize, quick: usize) -> anyhow::Result<Report> {
    let moves = (MOVES / quick).max(3);
    let many = (MANY / quick).max(10);
    let [mut small, mut large, mut copies, mut drains, mut failed, mut wrong] =
        [const { Vec::new() }; 6];
    let [mut noticed, mut backs, mut failovers] = [const { Vec::new() }; 3];
    for _ in 0..rounds {
        let fleet = Fleet::start().await?;
        let (pauses, usual, of_small) =
            paused(&fleet, "small", 1 << 20, moves).await.context("the small guest")?;
        small.push((pauses.p99, PAUSE + 3.0 * usual.p99));
        let (pauses, _, of_large) =
            paused(&fleet, "large", LARGE, moves).await.context("the large guest")?;
        large.push((pauses.p99, LARGE_PAUSE));
        copies.push((pauses.took, COPIES * copied(LARGE).await?));
        let (drained, of_drain) = drained(&fleet, many).await.context("the drained node")?;
        drains.push((drained, BUDGET));
        let all = [of_small, of_large, of_drain];
        failed.push((all.iter().map(|of| of.failed).sum::<usize>() as f64, 1.0));
        wrong.push((all.iter().map(|of| of.wrong).sum::<usize>() as f64, 1.0));
        failovers.push((killed(fleet, many).await.context("the killed node")?, BUDGET));
        let death = bereaved().await.context("the node that had one guest")?;
        noticed.push((death.noticed, NOTICED));
        backs.push((death.back, BUDGET));
    }
    let at_most = Target::AtMost(1.0);
    Ok(Report {
        peer: "budget or bare",
        conditions: vec![format!(
            "3 nodes on {} CPUs and one disk, {moves} moves of each guest at {RATE} calls a second \
             over HTTP, {many} guests drained and killed",
            std::thread::available_parallelism()?,
        )],
        rows: vec![
            Row::new("pause of a move, 1 MiB, p99", "ms", at_most, &small),
            Row::new("pause of a move, 64 MiB, p99", "ms", at_most, &large),
            Row::new("move of 64 MiB", "ms", at_most, &copies),
            Row::new(format!("drain of {many} guests"), "s", at_most, &drains),
            Row::new("failed calls", "calls", Target::AtMost(0.0), &failed),
            Row::new("forgotten or handled twice", "calls", Target::AtMost(0.0), &wrong),
            Row::new("death of a node noticed", "s", at_most, &noticed),
            Row::new("a guest back after it", "s", at_most, &backs),
            Row::new(format!("failover of {many} guests"), "s", at_most, &failovers),
        ],
    })
}

/// What became of calls.
struct Calls {
    failed: usize,
    /// Forgotten, or handled twice.
    wrong: usize,
}

/// How moves went.
struct Pauses {
    /// What one in a hundred exceeds, in milliseconds.
    p99: f64,
    /// What a move takes, in milliseconds, by the median.
    took: f64,
}

/// Moves a guest of so many bytes from node to node while it is called; its pauses, the answers
/// without moves, and what became of the calls.
async fn paused(
    fleet: &Fleet,
    guest_name: &'static str,
    bytes: usize,
    moves: usize,
) -> anyhow::Result<(Pauses, Usual, Calls)> {
    let name: Name = guest_name.parse()?;
    let deployed = deploy(fleet, name.clone(), guest(bytes)).await?;
    // A hundredth of the pages in a second, or one with each call.
    let pages = u32::try_from(bytes / 4_096)?;
    let stream = Stream::start(fleet.clients(), deployed, RATE, pages / 100);
    sleep(Duration::from_secs(3)).await;
    let usual = Usual { p99: stream.answers().p99_between(None) };
    let mut made = Vec::with_capacity(moves);
    for _ in 0..moves {
        let begin = Instant::now();
        let summary = moved(fleet, &name).await?;
        anyhow::ensure!(summary.live == Some(true), "its memory stayed behind: {summary:?}");
        made.push((begin, Instant::now(), summary));
        // What waited for it is answered, and the next move finds nothing of this one.
        sleep(REST).await;
    }
    let answers = stream.end().await?;
    let mut pauses: Vec<f64> =
        made.iter().map(|(from, to, _)| answers.longest_between(*from, *to)).collect();
    let mut took: Vec<f64> = made.iter().map(|(_, _, summary)| summary.took_ms).collect();
    for times in [&mut pauses, &mut took] {
        times.sort_by(f64::total_cmp);
    }
    fleet.first().delete_firmware(&name).await?;
    let pauses =
        Pauses { p99: stream::quantile(&pauses, 0.99), took: stream::quantile(&took, 0.5) };
    Ok((pauses, usual, Calls { failed: answers.failed(), wrong: answers.wrong() }))
}

/// How answers are without moves.
struct Usual {
    /// What one in a hundred exceeds, in milliseconds.
    p99: f64,
}

/// Deploys a guest and waits until it answers.
async fn deploy(fleet: &Fleet, name: Name, package: Vec<u8>) -> anyhow::Result<Guest> {
    fleet.first().put_firmware(&name, package, &DeployOptions::default()).await?;
    let counted = answers(fleet, &name).await?;
    Ok(Guest { name, counted })
}

/// Waits until a guest answers; what it has counted then.
async fn answers(fleet: &Fleet, name: &Name) -> anyhow::Result<u64> {
    let options = CallOptions { deadline: Duration::from_secs(30), ..CallOptions::default() };
    let begin = Instant::now();
    loop {
        match fleet.first().call(name, b"get".to_vec(), &options).await {
            Ok(answer) => return guests::count_in(&answer.body).context("a reply without a count"),
            Err(error) if begin.elapsed() > PATIENCE => return Err(error.into()),
            Err(_) => sleep(LOOK).await,
        }
    }
}

/// Moves a guest to another node.
async fn moved(fleet: &Fleet, name: &Name) -> anyhow::Result<MoveSummary> {
    let api = fleet.first();
    let at = api.firmware_of(name).await?.node.context("it is nowhere")?;
    let to = fleet.other_than(&at).context("there is no other node")?;
    let begun = api.begin_move(&MoveBody { entity: EntityId::firmware(name.clone()), to }).await?;
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        let moves = api.moves().await?;
        let of = |made: &&MoveSummary| made.entity == begun.entity && made.epoch == begun.epoch;
        match moves.into_iter().rev().find(|made| of(&made)) {
            Some(made) if made.state == MoveState::Moved => return Ok(made),
            Some(made) if made.state.is_over() => anyhow::bail!("it did not move: {made:?}"),
            _ => sleep(LOOK).await,
        }
    }
    anyhow::bail!("it has been on its way for {PATIENCE:?}")
}

/// What two processes take for so many bytes with quinn alone, in milliseconds.
async fn copied(bytes: usize) -> anyhow::Result<f64> {
    let stage = remote::stage(&[HOLD, DRIVE])?;
    let party = Party::Rust(Side::BareQuinn);
    let mut pair: Pair = party.start(stage.path(), Cpus::default().place()?, None).await?;
    let outcome = pair.measure(Workload::Bulk { bytes, in_flight: 1, count: 5 }).await?;
    pair.end().await;
    Ok(1_000.0 / outcome.per_second)
}

/// Drains a node that has many guests while all of them are called; seconds, and what became of the
/// calls.
async fn drained(fleet: &Fleet, many: usize) -> anyhow::Result<(f64, Calls)> {
    let names = fleet.fill("drained", many, guest(128 << 10)).await?;
    let callers = stream::round_robin(fleet.clients(), names.clone());
    let victim = fleet.last();
    let begin = Instant::now();
    fleet.first().drain(victim, PATIENCE).await?;
    let took = begin.elapsed().as_secs_f64();
    let (failed, wrong) = callers.end().await?;
    fleet.first().use_again(victim).await?;
    fleet.empty(&names).await?;
    Ok((took, Calls { failed, wrong }))
}

/// What a node's death was to others, in seconds from the kill.
struct Death {
    /// When the last of the others had noticed it.
    noticed: f64,
    /// When the guest that it had answered elsewhere.
    back: f64,
}

/// Kills a node that has one guest, in a fleet of its own: one that has had a node killed is not as it was.
async fn bereaved() -> anyhow::Result<Death> {
    let mut fleet = Fleet::start().await?;
    let names = fleet.fill("bereaved", 1, guest(128 << 10)).await?;
    let others = fleet.all_but_last();
    let begin = Instant::now();
    fleet.kill_last().await?;
    let noticed = try_join_all(others.iter().map(|other| noticed(other, fleet.last(), begin)));
    let back = async {
        stream::all_answer(fleet.first(), &names, PATIENCE).await?;
        anyhow::Ok(begin.elapsed().as_secs_f64())
    };
    let (noticed, back) = tokio::try_join!(noticed, back)?;
    let noticed = noticed.into_iter().fold(0.0, f64::max);
    fleet.end().await;
    Ok(Death { noticed, back })
}

/// When a node had noticed that another one is down, by what it says of how long it has known; seconds
/// from the kill.
async fn noticed(other: &ApiClient, killed: &NodeId, begin: Instant) -> anyhow::Result<f64> {
    while begin.elapsed() < PATIENCE {
        // An error means that it is busy with something else.
        let nodes = other.nodes().await.unwrap_or_default();
        let so_far = begin.elapsed();
        let is_it = |node: &&NodeSummary| node.id == *killed && node.state == NodeState::Down;
        if let Some(node) = nodes.iter().find(is_it) {
            let known = Duration::from_millis(node.since_ms.unwrap_or_default());
            return Ok(so_far.saturating_sub(known).as_secs_f64());
        }
        sleep(LOOK).await;
    }
    anyhow::bail!("{} does not notice in {PATIENCE:?} that {killed} is dead", other.url())
}

/// Kills a node that has many guests; seconds until each of them answers elsewhere.
async fn killed(mut fleet: Fleet, many: usize) -> anyhow::Result<f64> {
    let names = fleet.fill("killed", many, guest(128 << 10)).await?;
    let begin = Instant::now();
    fleet.kill_last().await?;
    stream::all_answer(fleet.first(), &names, PATIENCE).await?;
    let took = begin.elapsed().as_secs_f64();
    fleet.end().await;
    Ok(took)
}

#[cfg(test)]
mod tests {
    use super::stream::Answers;
    use super::*;

    #[test]
    fn a_quantile_of_answers_is_one_of_them() {
        let answers = Answers::of([(Instant::now(), 1.0), (Instant::now(), 5.0)]);
        assert!((answers.p99_between(None) - 5.0).abs() < f64::EPSILON);
    }
}
