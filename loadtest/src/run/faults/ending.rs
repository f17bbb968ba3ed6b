//! The last look, when nothing happens any more and all nodes are well: nothing that was
//! acknowledged is lost, wherever one looks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::time::sleep;

use super::cluster::MEMBERS;
use super::link::Reply;
use super::scene::Scene;
use super::wire::Do;
use crate::check::findings::Finding;
use crate::check::history::Entry;
use crate::check::keys::Past;
use crate::check::operation::{Answer, Op};

/// How long all may take to have everything, on a machine that does other work.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(100);
/// Variables that are read at a time.
const AT_ONCE: usize = 8;
/// Who reads, in histories.
const READER: u8 = u8::MAX;

/// Looks at everything once more; how many variables were looked at.
///
/// # Errors
/// What is wrong.
pub(super) async fn look(scene: &Arc<Scene>) -> Result<usize, Finding> {
    everybody_was_told(scene).await?;
    counters_are_right(scene).await?;
    let used = scene.keys.close()?.into_iter().filter(Past::was_used);
    let read = stream::iter(used.map(|past| read(scene, past))).buffer_unordered(AT_ONCE);
    read.try_fold(0, |count, ()| async move { Ok(count + 1) }).await
}

async fn everybody_was_told(scene: &Scene) -> Result<(), Finding> {
    let began = Instant::now();
    loop {
        let behind = scene.streams().behind();
        match behind {
            None => return scene.streams().all_there(),
            Some(behind) if began.elapsed() > PATIENCE => {
                return Err(Finding::new(format!("{behind}, {PATIENCE:?} after the end")));
            }
            Some(_) => sleep(LOOK).await,
        }
    }
}

async fn counters_are_right(scene: &Scene) -> Result<(), Finding> {
    let counters = scene.counters().clone();
    for (counter, tally) in counters {
        let told = scene.streams().counter(&counter);
        for place in 0..MEMBERS {
            let answer = get(scene, place, &counter).await?;
            let value = match answer {
                Answer::Found(found) => found.map_or(0, |(_, value)| value),
                other => return Err(Finding::new(format!("{counter} at the end: {other}"))),
            };
            if !tally.allows(value) || value != told {
                return Err(Finding::new(format!(
                    "{counter} is {value} at n{} and {told} for who watched; {tally:?}",
                    place + 1
                )));
            }
        }
    }
    Ok(())
}

/// Reads a variable at every node.
async fn read(scene: &Scene, mut past: Past) -> Result<(), Finding> {
    for node in 0..MEMBERS {
        let called = scene.now();
        let answer = Some(get(scene, node, &past.name).await?);
        let (op, returned) = (Op::Get { lease: false }, Some(scene.now()));
        past.read(Entry { client: READER, node, op, called, returned, answer })?;
    }
    Ok(())
}

/// What a node has, as soon as it says so.
async fn get(scene: &Scene, place: usize, session: &str) -> Result<Answer, Finding> {
    let began = Instant::now();
    loop {
        let session = session.to_owned();
        let get = Do::Operate { session, op: Op::Get { lease: false }, request: None };
        let reply = scene.ask(place, get).await;
        match reply {
            Reply::Answer(Answer::Failed(_)) | Reply::Unknown | Reply::NotSent => {}
            Reply::Answer(answer) => return Ok(answer),
        }
        if began.elapsed() > PATIENCE {
            let name = place + 1;
            return Err(Finding::new(format!("n{name} does not answer at the end: {reply:?}")));
        }
        sleep(LOOK).await;
    }
}
