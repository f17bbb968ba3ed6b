//! Act 6: the killed node starts again on its data, while messages flow.

use std::time::{Duration, Instant};

use super::{Cast, api, crash::Crash, sees_everyone, started};
use crate::demo::{error::DemoError, report::seconds, stage::Stage, traffic::Traffic};

pub(super) async fn rejoin(
    stage: &mut Stage<'_>,
    cast: &Cast,
    crash: &Crash,
    traffic: &Traffic,
) -> Result<Duration, DemoError> {
    stage.story.act(6, "The dead node comes back and catches up");
    let id = &crash.killed;
    let began = Instant::now();
    stage.fleet.start(id, Some(crash.survivor.cluster))?;
    let node = stage.until_ready(id).await?;
    stage.story.say(started(id, &node, "started again on its data"));
    let ahead = crash.survivor.client.status().await.map_err(api("get the status", id))?;
    let target = ahead.store.applied;
    let event = format!("{id} to catch up with the store");
    let applied = stage
        .until(&event, id, Some(traffic), async |_| {
            let applied = node.client.status().await.map_err(|e| e.to_string())?.store.applied;
            let behind = || format!("it has change {applied} of {target}");
            if applied >= target { Ok(applied) } else { Err(behind()) }
        })
        .await?;
    for other in &cast.nodes {
        let client = stage.client(other)?;
        let event = format!("{other} to see three nodes again");
        stage
            .until(&event, other, Some(traffic), async |_| {
                sees_everyone(&client, &cast.nodes).await
            })
            .await?;
    }
    let took = began.elapsed();
    stage.story.say(format_args!(
        "it has change {applied} of the store and votes again, {} after its start",
        seconds(took)
    ));
    Ok(took)
}
