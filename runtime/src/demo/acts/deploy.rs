//! Act 2: the guest is uploaded and runs somewhere.

use std::time::{Duration, Instant};

use odeum_proto::NodeId;

use super::{Cast, api};
use crate::{
    api::types::{ActorNode, DeployOptions, FirmwareState},
    demo::{error::DemoError, stage::Stage},
};

/// The guest: counts, and keeps its count in a session variable.
const COUNTER: &[u8] = include_bytes!("../../../../examples/guests/counter/counter.wasm");

pub(super) async fn deploy(
    stage: &mut Stage<'_>,
    cast: &Cast,
) -> Result<(NodeId, Duration), DemoError> {
    stage.story.act(2, "A WebAssembly guest is deployed");
    let [first, ..] = &cast.nodes;
    let client = stage.client(first)?;
    let began = Instant::now();
    let options = DeployOptions::default();
    let deployed = client.put_firmware(&cast.counter, COUNTER.to_vec(), &options).await;
    let deployed = deployed.map_err(api("deploy the guest", first))?;
    let digest: String = deployed.digest.to_string().chars().take(12).collect();
    stage.story.say(format_args!(
        "uploaded {} ({} bytes, digest {digest}…) through {first}",
        cast.counter, deployed.size
    ));
    let host = until_running(stage, cast, first).await?;
    let took = began.elapsed();
    let actors = stage.client(&host)?.actors().await.map_err(api("get the actors", &host))?;
    let path = path_to(&actors, cast.counter.as_str()).join(" > ");
    stage.story.say(format_args!("it runs on {host}, supervised: {path}"));
    Ok((host, took))
}

/// Waits until the guest runs, as `node` sees it. Returns its host.
async fn until_running(
    stage: &mut Stage<'_>,
    cast: &Cast,
    node: &NodeId,
) -> Result<NodeId, DemoError> {
    let client = stage.client(node)?;
    stage
        .until("the guest to run", node, None, async |_| {
            let guest = client.firmware_of(&cast.counter).await.map_err(|e| e.to_string())?;
            match (guest.state, guest.node) {
                (FirmwareState::Running, Some(host)) => Ok(host),
                (state, _) => {
                    Err(format!("it is {state}: {}", guest.last_error.unwrap_or_default()))
                }
            }
        })
        .await
}

/// The names from the root of the tree to the first actor whose name contains `name`.
fn path_to<'a>(tree: &'a ActorNode, name: &str) -> Vec<&'a str> {
    if tree.children.is_empty() && tree.name.contains(name) {
        return vec![&tree.name];
    }
    for child in &tree.children {
        let mut path = path_to(child, name);
        if !path.is_empty() {
            path.insert(0, &tree.name);
            return path;
        }
    }
    Vec::new()
}
