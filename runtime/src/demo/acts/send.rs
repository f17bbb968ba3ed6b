//! Act 3: messages flow, through a node that does not host the guest.

use std::time::Instant;

use odeum_proto::NodeId;

use super::{Cast, route_around};
use crate::demo::{error::DemoError, report::seconds, stage::Stage, traffic::Traffic};

/// Messages between two lines of progress, and how many such lines.
const BATCH: (usize, usize) = (100, 3);

pub(super) async fn send_messages(
    stage: &mut Stage<'_>,
    cast: &Cast,
    host: &NodeId,
) -> Result<Traffic, DemoError> {
    stage.story.act(3, "Messages through a node that does not host the guest");
    let route = route_around(stage, cast, &[host])?;
    let via = route.via.clone();
    stage.story.say(format_args!("\"add 1\" over HTTP to {via}, which passes it on to {host}"));
    let began = Instant::now();
    let traffic = Traffic::start(&cast.counter, route);
    for _ in 0..BATCH.1 {
        stage.until_acknowledged(BATCH.0, &via, &traffic).await?;
        let (acknowledged, count) = traffic.look(|log| (log.acks.len(), log.highest()));
        stage.story.say(format_args!(
            "{acknowledged} acknowledged after {}, the count is {count}",
            seconds(began.elapsed())
        ));
    }
    Ok(traffic)
}
