//! Act 4: the guest is made to trap while messages flow.

use std::time::{Duration, Instant};

use odeum_proto::{NodeId, RequestId};

use super::{Cast, GO_ON, api};
use crate::{
    api::{
        client::ApiClient,
        types::{CallOptions, FirmwareState},
    },
    demo::{
        error::DemoError,
        report::seconds,
        stage::Stage,
        traffic::{Log, SESSION, Traffic, may_repeat},
    },
};

/// How often the guest is made to trap: twice shows that the pause before a restart grows.
const TRAPS: usize = 2;

pub(super) async fn trap(
    stage: &mut Stage<'_>,
    cast: &Cast,
    host: &NodeId,
    traffic: &Traffic,
) -> Result<Vec<Duration>, DemoError> {
    stage.story.act(4, "The guest traps, and is restarted with backoff");
    let via = traffic.via().unwrap_or_else(|| host.clone());
    let client = stage.client(&via)?;
    let mut pauses = Vec::new();
    for trap in 1..=TRAPS {
        let (at, reason) = send_trap(stage, cast, &via, &client, traffic).await?;
        let before = traffic.look(Log::highest);
        stage.story.say(format_args!("\"trap\" was answered: {reason}"));
        until_restarted(stage, cast, host, trap, traffic).await?;
        stage.until_acknowledged(GO_ON, &via, traffic).await?;
        let (pause, after) = traffic.look(|log| (log.longest_gap(at), log.highest()));
        stage.story.say(format_args!(
            "restarted; messages waited {}, then the count went on from {before} to {after}",
            seconds(pause)
        ));
        pauses.push(pause);
    }
    if let Ok(answer) = client.call(&cast.counter, b"stats".to_vec(), &in_session()).await {
        stage.story.say(format_args!(
            "the new instance has {} messages: its own memory began anew, the session did not",
            String::from_utf8_lossy(&answer.body)
        ));
    }
    Ok(pauses)
}

/// Makes the guest trap. Returns when the message was sent, and what the caller was told.
async fn send_trap(
    stage: &mut Stage<'_>,
    cast: &Cast,
    via: &NodeId,
    client: &ApiClient,
    traffic: &Traffic,
) -> Result<(Instant, String), DemoError> {
    let options = in_session();
    let answer = stage
        .until("the guest to trap", via, Some(traffic), async |_| {
            let at = Instant::now();
            match client.call(&cast.counter, b"trap".to_vec(), &options).await {
                Err(error) if may_repeat(&error) => Err(error.to_string()),
                answer => Ok((at, answer)),
            }
        })
        .await?;
    match answer {
        (at, Err(error)) if error.code() == Some("trapped") => Ok((at, error.to_string())),
        (_, Err(reason)) => Err(api("make the guest trap", via)(reason)),
        (_, Ok(answer)) => Err(DemoError::Answer {
            node: via.clone(),
            got: String::from_utf8_lossy(&answer.body).into(),
            expected: "the guest's trap",
        }),
    }
}

/// A message of its own to the traffic's session.
fn in_session() -> CallOptions {
    CallOptions {
        request: Some(RequestId::random()),
        session: Some(SESSION.to_owned()),
        ..CallOptions::default()
    }
}

/// Waits until the host counts `restarts` restarts of the guest and it runs again.
async fn until_restarted(
    stage: &mut Stage<'_>,
    cast: &Cast,
    host: &NodeId,
    restarts: usize,
    traffic: &Traffic,
) -> Result<(), DemoError> {
    let client = stage.client(host)?;
    stage
        .until("the guest to be restarted", host, Some(traffic), async |_| {
            let guest = client.firmware_of(&cast.counter).await.map_err(|e| e.to_string())?;
            let counted = guest.restarts.unwrap_or_default() as usize;
            if counted >= restarts && guest.state == FirmwareState::Running {
                return Ok(());
            }
            Err(format!("it is {} after {counted} restarts", guest.state))
        })
        .await
}
