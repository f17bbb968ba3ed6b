//! Act 9: the traffic ends, and everybody is asked for the count.

use std::time::Duration;

use odeum_proto::NodeId;

use super::{Cast, api};
use crate::{
    api::types::CallOptions,
    demo::{
        error::DemoError,
        stage::Stage,
        traffic::{Log, SESSION, Traffic, count_of, may_repeat},
        verdict::Verdict,
    },
};

/// The session variable in which the guest keeps its count.
const VARIABLE: &str = "count";
/// How long the last messages may take to be acknowledged.
const LAST_MESSAGES: Duration = Duration::from_secs(30);

/// Ends the traffic and asks everybody for the final count: the guest, and the session variable on
/// each node.
pub(super) async fn settle(
    stage: &mut Stage<'_>,
    cast: &Cast,
    host: &NodeId,
    traffic: Traffic,
) -> Result<(Log, u64, Verdict), DemoError> {
    stage.story.act(9, "The reckoning");
    let via = traffic.via().unwrap_or_else(|| host.clone());
    let log = traffic.finish(LAST_MESSAGES).await.ok_or_else(|| DemoError::Deadline {
        event: "the last messages to be acknowledged".into(),
        node: via.clone(),
        after: LAST_MESSAGES,
        last: None,
    })?;
    if let Some((node, reason)) = log.failure {
        return Err(DemoError::Traffic { node, reason });
    }
    let client = stage.client(&via)?;
    let options = CallOptions { session: Some(SESSION.to_owned()), ..CallOptions::default() };
    let answer = stage
        .until("the guest to tell its count", &via, None, async |_| {
            match client.call(&cast.counter, b"get".to_vec(), &options).await {
                Err(error) if may_repeat(&error) => Err(error.to_string()),
                answer => Ok(answer),
            }
        })
        .await?
        .map_err(api("ask for the count", &via))?;
    let count = count_of(&answer).ok_or_else(|| DemoError::Answer {
        node: via.clone(),
        got: String::from_utf8_lossy(&answer.body).into(),
        expected: "a count",
    })?;
    stage.story.say(format_args!(
        "{} messages sent, all acknowledged; the guest says {count}",
        log.acks.len()
    ));
    for id in &cast.nodes {
        let client = stage.client(id)?;
        stage
            .until(&format!("{id} to hold the final count"), id, None, async |_| {
                let session = client.session(&cast.session).await.map_err(|e| e.to_string())?;
                let value = session.variables.get(VARIABLE).and_then(|v| v.plain());
                let text = String::from_utf8_lossy(value.as_deref().unwrap_or_default());
                if text == count.to_string() { Ok(()) } else { Err(format!("it has {text:?}")) }
            })
            .await?;
    }
    stage.story.say(format_args!(
        "session {}, variable {VARIABLE} on each of the three nodes: {count}",
        cast.session
    ));
    let counts: Vec<_> = log.acks.iter().map(|ack| ack.count).collect();
    let verdict = Verdict::judge(&counts, 0, count);
    Ok((log, count, verdict))
}
