//! Acts 7 and 8: the guest moves to another node while messages flow, and a node is drained.

use std::time::{Duration, Instant};

use odeum_proto::{EntityId, NodeId};

use super::{Cast, GO_ON, api};
use crate::{
    api::types::{MoveBody, MoveState, MoveSummary},
    config::ByteSize,
    demo::{error::DemoError, stage::Stage, traffic::Traffic},
};

/// How long draining a node may take.
const DRAIN: Duration = Duration::from_secs(30);

/// What the moves came to.
pub(super) struct Travel {
    /// How often the guest moved.
    pub moves: usize,
    /// The longest time in which it handled nothing because it moved, as its former node counts it.
    pub paused: Duration,
    /// Where it is.
    pub host: NodeId,
}

/// Moves the guest through all other nodes, and drains the one that has it then.
pub(super) async fn travel(
    stage: &mut Stage<'_>,
    cast: &Cast,
    host: &NodeId,
    traffic: &Traffic,
) -> Result<Travel, DemoError> {
    stage.story.act(7, "The guest moves while it runs, with all that it has in memory");
    let (mut at, mut paused, mut moves) = (host.clone(), Duration::ZERO, 0);
    let targets: Vec<NodeId> = cast.except(host).cloned().chain([host.clone()]).collect();
    for to in targets {
        let made = moved(stage, cast, &to, traffic).await?;
        stage.story.say(told(&made));
        paused = paused.max(pause(&made));
        moves += 1;
        at = to;
        stage.until_acknowledged(GO_ON, &at, traffic).await?;
    }

    stage.story.act(8, "A node is drained");
    let other = cast.except(&at).next().cloned().unwrap_or_else(|| at.clone());
    let client = stage.client(&other)?;
    let began = Instant::now();
    client.drain(&at, DRAIN).await.map_err(api("drain a node", &at))?;
    let took = began.elapsed();
    let made = with_its_memory(last_move(stage, cast, &other, &at).await?, &at)?;
    stage.story.say(format_args!("{at} is empty after {} ms", took.as_millis()));
    stage.story.say(told(&made));
    paused = paused.max(pause(&made));
    moves += 1;
    client.use_again(&at).await.map_err(api("use a node again", &at))?;
    let host = made.to;
    stage.until_acknowledged(GO_ON, &host, traffic).await?;
    let (acknowledged, count) = traffic.look(|log| (log.acks.len(), log.highest()));
    stage.story.say(format_args!("{acknowledged} acknowledged, the count is {count}"));
    Ok(Travel { moves, paused, host })
}

/// Moves the guest to a node.
async fn moved(
    stage: &mut Stage<'_>,
    cast: &Cast,
    to: &NodeId,
    traffic: &Traffic,
) -> Result<MoveSummary, DemoError> {
    let client = stage.client(to)?;
    let body = MoveBody { entity: EntityId::firmware(cast.counter.clone()), to: to.clone() };
    let begun = client.begin_move(&body).await.map_err(api("move the guest", to))?;
    let made = stage
        .until(&format!("the guest to move to {to}"), to, Some(traffic), async |_| {
            let moves = client.moves().await.map_err(|error| error.to_string())?;
            let of = |made: &&MoveSummary| made.entity == begun.entity && made.epoch == begun.epoch;
            let made = moves.into_iter().rev().find(|made| of(&made));
            let made = made.ok_or_else(|| "it has not begun".to_owned())?;
            let seen = made.state.as_str().to_owned();
            if made.state.is_over() { Ok(made) } else { Err(seen) }
        })
        .await?;
    with_its_memory(made, to)
}

/// A move, if it was one and took along what the guest has in memory.
fn with_its_memory(made: MoveSummary, node: &NodeId) -> Result<MoveSummary, DemoError> {
    if made.state == MoveState::Moved && made.live == Some(true) {
        return Ok(made);
    }
    let got = made.reason.unwrap_or_else(|| made.state.as_str().to_owned());
    let expected = "a move with all that it has in memory";
    Err(DemoError::Answer { node: node.clone(), got: got.into(), expected })
}

/// The move by which the guest left `from` last.
async fn last_move(
    stage: &mut Stage<'_>,
    cast: &Cast,
    via: &NodeId,
    from: &NodeId,
) -> Result<MoveSummary, DemoError> {
    let client = stage.client(via)?;
    let entity = EntityId::firmware(cast.counter.clone());
    stage
        .until("the guest to be elsewhere", from, None, async |_| {
            let moves = client.moves().await.map_err(|error| error.to_string())?;
            let of = |made: &MoveSummary| made.entity == entity && made.from == *from;
            let made = moves.into_iter().rev().find(of);
            made.filter(|it| it.state == MoveState::Moved).ok_or_else(|| "not yet".to_owned())
        })
        .await
}

fn pause(made: &MoveSummary) -> Duration {
    Duration::from_secs_f64(made.paused_ms.unwrap_or_default() / 1_000.0)
}

fn told(made: &MoveSummary) -> String {
    let size = ByteSize(made.bytes).rounded();
    let (from, to, took) = (&made.from, &made.to, made.took_ms);
    let paused = made.paused_ms.unwrap_or_default();
    format!("from {from} to {to} with {size} of memory in {took:.1} ms, paused for {paused:.1} ms")
}
