//! Variables of sessions: each operation on them is a part of a history that is held against a register,
//! and each write must be told by a watch.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use odeum_proto::session::Glob;
use odeum_proto::{RequestId, SessionId};
use odeum_runtime::api::client::{ApiClient, ApiError, SetOptions, Watched};
use odeum_runtime::api::types::{
    After, Reading, SettingsBody, WatchChange, WatchLine, WatchWhat, Written,
};
use serde_json::Value as Json;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::target::Doing;
use super::tries::{Judged, Tries};
use super::{Ended, Work};
use crate::check::findings::Finding;
use crate::check::keys::{Key, Keys, Outcome, Sort};
use crate::check::operation::{Answer, Op};
use crate::check::told::{Acknowledged, Change, Told};
use crate::monotonic;
use crate::scenario::protocol::Check;
use crate::scenario::spec::{Consistency, Scenario, Target};

/// The variable of each session.
const VARIABLE: &str = "value";

/// Variables that are done with and are read once more at the end.
const KEPT: usize = 64;

/// How often is looked whether a session is to be made or removed.
const LOOK: Duration = Duration::from_millis(20);

/// How long the first sessions may take, and the watch.
const PATIENCE: Duration = Duration::from_secs(30);

/// All variables of a generator.
#[derive(Debug)]
pub(crate) struct Variables {
    pub(super) keys: Keys,
    glob: Glob,
    told: Mutex<Told>,
    /// Who waits until a value was told.
    awaited: Mutex<HashMap<i64, oneshot::Sender<()>>>,
}

impl Variables {
    /// Those that a scenario asks, if it does.
    pub(super) fn of(scenario: &Scenario, run: &str, index: usize) -> anyhow::Result<Option<Self>> {
        let sessions = scenario.targets.values().filter_map(|target| match target {
            Target::Read(it)
            | Target::Write(it)
            | Target::CompareAndSet(it)
            | Target::Watch(it) => Some(it.sessions),
            _ => None,
        });
        let Some(slots) = sessions.max() else { return Ok(None) };
        let prefix = format!("load-{run}-{index}-");
        let glob = format!("{prefix}*").parse()?;
        let keys = Keys::new(Sort { prefix, slots, kept: KEPT });
        Ok(Some(Self { keys, glob, told: Mutex::default(), awaited: Mutex::default() }))
    }

    pub(super) fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn awaited(&self) -> MutexGuard<'_, HashMap<i64, oneshot::Sender<()>>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The variable in a place, or in the next one whose session is there.
    fn ready_from(&self, slot: usize) -> Option<Arc<Key>> {
        let all = self.keys.slot_count();
        (0..all).filter_map(|n| self.keys.at((slot + n) % all)).find(|key| key.is_ready())
    }
}

/// Makes the sessions and begins to watch them; goes on until `helpers` are ended.
///
/// # Errors
/// If the sessions or the watch cannot be had.
pub(super) async fn start(work: &Arc<Work>, helpers: &mut JoinSet<()>) -> anyhow::Result<()> {
    let Some(variables) = &work.variables else { return Ok(()) };
    let (ready, is_ready) = oneshot::channel();
    let watching = Arc::clone(work);
    helpers.spawn(async move { watch(&watching, ready).await });
    timeout(PATIENCE, is_ready).await.context("no watch could be had")??;
    let keeping = Arc::clone(work);
    helpers.spawn(async move { keep(&keeping).await });
    let all = async {
        let slots = variables.keys.slot_count();
        while (0..slots).any(|slot| variables.keys.at(slot).is_some_and(|key| !key.is_ready())) {
            sleep(LOOK).await;
        }
    };
    timeout(PATIENCE, all).await.context("sessions could not be made")
}

/// Makes sessions of variables that are new, and removes those that are done with.
async fn keep(work: &Work) {
    let Some(variables) = &work.variables else { return };
    loop {
        for slot in 0..variables.keys.slot_count() {
            let Some(key) = variables.keys.at(slot).filter(|key| !key.is_ready()) else { continue };
            let Ok(id) = key.name.parse::<SessionId>() else { continue };
            let Some(client) = work.nodes.at(work.nodes.turn()) else { continue };
            let (settings, request) = (SettingsBody::default(), RequestId::random());
            if client.create_session(&id, &settings, &request).await.is_ok() {
                key.is_there();
            }
        }
        for name in variables.keys.forgotten() {
            remove(work, &name).await;
        }
        sleep(LOOK).await;
    }
}

/// Removes a session. One that cannot be removed now stays.
pub(super) async fn remove(work: &Work, name: &str) {
    if let Ok(id) = name.parse::<SessionId>()
        && let Some(client) = work.nodes.at(work.nodes.turn())
    {
        let _ = client.delete_session(&id).await;
    }
}

/// Watches all variables, at one node as long as that answers, and then at the next one from where it was.
async fn watch(work: &Work, ready: oneshot::Sender<()>) {
    let Some(variables) = &work.variables else { return };
    let mut ready = Some(ready);
    let mut after = After::Groups(BTreeMap::new());
    let watched = Watched::Matching(variables.glob.clone());
    loop {
        let Some(client) = work.nodes.at(work.nodes.turn()) else { return };
        let from = ready.is_none().then_some(&after);
        if let Ok(mut lines) = client.watch(&watched, from).await {
            let groups = groups(client).await;
            while let Ok(Some(line)) = lines.next().await {
                take(work, variables, &line);
                after.advance(&line);
                let known = matches!(&after, After::Groups(of) if of.len() >= groups);
                if let Some(ready) = ready.take_if(|_| known) {
                    // Who waited for it has given up otherwise.
                    let _ = ready.send(());
                }
            }
        }
        sleep(LOOK).await;
    }
}

/// How many groups of sessions there are.
async fn groups(client: &ApiClient) -> usize {
    let groups = client.store().await.map(|store| store.groups).unwrap_or_default();
    let data = groups.iter().filter(|group| group.group.to_string().starts_with("data"));
    data.count().max(1)
}

fn take(work: &Work, variables: &Variables, line: &WatchLine) {
    let (group, revision, changes) = match line {
        WatchLine::Changes { group, revision, changes } => (group, revision, changes),
        WatchLine::State { .. } => return variables.told().lapsed(),
        _ => return,
    };
    for WatchChange { index, session, what } in changes {
        let WatchWhat::Set { value, version, .. } = what else { continue };
        let Some(value) = number_in(value) else { continue };
        let change = Change {
            group: group.to_string(),
            revision: revision.0,
            index: *index,
            session: session.to_string(),
            version: *version,
            value,
        };
        let told = variables.told().told(change);
        if let Err(wrong) = told {
            work.teller.found(Check::Watch, wrong, String::new());
        }
        if let Some(waits) = variables.awaited().remove(&value) {
            // One that has waited long enough has gone.
            let _ = waits.send(());
        }
    }
}

/// A value of so many bytes that tells its number.
fn text_of(number: i64, bytes: usize) -> Json {
    let mut text = format!("{number} ");
    let rest = bytes.saturating_sub(text.len());
    text.extend(std::iter::repeat_n('x', rest));
    Json::String(text)
}

fn number_in(value: &Json) -> Option<i64> {
    value.as_str()?.split(' ').next()?.parse().ok()
}

/// Does something with a variable at one node; what that came to, and the revision of a write.
async fn attempt(
    client: &ApiClient,
    id: &SessionId,
    (op, bytes): (Op, usize),
    request: &RequestId,
) -> Result<(Answer, u64), ApiError> {
    let written = |written: Written| {
        (Answer::Written { version: written.version, at: None }, written.revision.0)
    };
    let result = match op {
        Op::Get { lease } => {
            let reading = if lease { Reading::Lease } else { Reading::Linearizable };
            client
                .variable(id, VARIABLE, reading)
                .await
                .map(|it| (Answer::Found(number_in(&it.value).map(|value| (it.version, value))), 0))
        }
        Op::Set { value } => {
            let (value, options) = (text_of(value, bytes), SetOptions::default());
            client.set_variable(id, VARIABLE, &value, options, request).await.map(written)
        }
        Op::CompareAndSet { expected, value } => {
            let options = SetOptions { expected: Some(expected), ..SetOptions::default() };
            let value = text_of(value, bytes);
            client.set_variable(id, VARIABLE, &value, options, request).await.map(written)
        }
        Op::Delete => {
            let deleted = client.delete_variable(id, VARIABLE, None, request).await;
            deleted.map(|()| (Answer::Removed { existed: true, at: None }, 0))
        }
    };
    match result {
        Err(error) => match error.code() {
            // A session that has gone is seen by the next write.
            Some("not-found") if matches!(op, Op::Get { .. }) => Ok((Answer::Found(None), 0)),
            Some("version-conflict") => Ok((Answer::Otherwise, 0)),
            Some("unknown-session") => Ok((Answer::NoSession, 0)),
            _ => Err(error),
        },
        done => done,
    }
}

/// A read of a variable at one node, as a history has it.
pub(super) async fn read(client: &ApiClient, name: &str, limit: Duration) -> Option<Answer> {
    let (id, op) = (name.parse().ok()?, Op::Get { lease: false });
    let read = timeout(limit, attempt(client, &id, (op, 0), &RequestId::random())).await;
    read.ok()?.ok().map(|(answer, _)| answer)
}

/// Microseconds by which histories are ordered.
pub(super) fn micros() -> u64 {
    monotonic::now() / 1_000
}

impl Work {
    /// Does something with the variable in a place.
    pub(super) async fn operate(
        &self,
        variables: &Variables,
        doing: Doing,
        slot: usize,
        bytes: usize,
    ) -> Ended {
        let mut tries = Tries::new(&self.nodes, self.scenario.deadline.0);
        // One that is done with at this moment has another one in its place.
        let begun = (0..4).find_map(|_| {
            let key = variables.ready_from(slot)?;
            let value = variables.keys.value();
            let op = match doing {
                Doing::Read(consistency) => Op::Get { lease: consistency == Consistency::Lease },
                Doing::Write | Doing::Watch => Op::Set { value },
                Doing::CompareAndSet => Op::CompareAndSet { expected: key.version(), value },
            };
            if doing == Doing::Read(Consistency::Local) {
                return Some((key, op, None));
            }
            let client = u8::try_from(self.index).unwrap_or(u8::MAX);
            let id = variables.keys.begin(&key, client, op, micros())?;
            Some((key, op, Some(id)))
        });
        let Some((key, op, id)) = begun else {
            return Ended { error: Some("no session is ready".to_owned()), ..Ended::default() };
        };
        let value = match op {
            Op::Set { value } | Op::CompareAndSet { value, .. } => Some(value),
            Op::Get { .. } | Op::Delete => None,
        };
        let told = (doing == Doing::Watch).then(|| {
            let (sender, told) = oneshot::channel();
            variables.awaited().insert(value.unwrap_or_default(), sender);
            told
        });
        let answer = match id {
            Some(_) => self.tried(&mut tries, &key, (op, bytes)).await,
            None => self.read_local(&mut tries, &key).await,
        };
        if let Some(id) = id {
            let (unknown, place) = (tries.unknown, tries.place);
            let outcome = outcome(variables, &key, op, answer.clone(), (unknown, place));
            match outcome {
                Ok(outcome) => {
                    if let Err(finding) = variables.keys.end(&key, id, outcome) {
                        self.found(Check::Linearizability, finding);
                    }
                }
                Err((check, wrong)) => {
                    let ended = variables.keys.end(&key, id, Outcome::Unknown);
                    self.found(check, Finding::new(wrong));
                    if let Err(finding) = ended {
                        self.found(Check::Linearizability, finding);
                    }
                }
            }
        }
        let retried = tries.retried;
        let sent = if value.is_some() { bytes as u64 } else { 0 };
        let error = match (&answer, told) {
            (None | Some((Answer::NoSession, _)), _) => Some(tries.error()),
            (Some((Answer::Written { .. }, _)), Some(told)) => {
                let told = timeout(self.scenario.deadline.0, told).await;
                told.is_err().then(|| "not told in time".to_owned())
            }
            _ => None,
        };
        if doing == Doing::Watch
            && let Some(value) = value
        {
            variables.awaited().remove(&value);
        }
        Ended { error, retried, bytes: sent }
    }

    fn found(&self, check: Check, finding: Finding) {
        let Finding { title, account, .. } = finding;
        self.teller.found(check, title, account);
    }

    /// Tries it at one node after the other.
    async fn tried(
        &self,
        tries: &mut Tries<'_>,
        key: &Key,
        what: (Op, usize),
    ) -> Option<(Answer, u64)> {
        let id: SessionId = key.name.parse().ok()?;
        let request = RequestId::random();
        while let Some((client, limit)) = tries.next().await {
            match tries.judge(timeout(limit, attempt(client, &id, what, &request)).await) {
                Judged::Done(answer) => return Some(answer),
                Judged::Again => {}
                Judged::Failed(_) => break,
            }
        }
        None
    }

    /// Reads what a node has.
    async fn read_local(&self, tries: &mut Tries<'_>, key: &Key) -> Option<(Answer, u64)> {
        let id: SessionId = key.name.parse().ok()?;
        while let Some((client, limit)) = tries.next().await {
            let read = timeout(limit, client.variable(&id, VARIABLE, Reading::Local)).await;
            match tries.judge(read) {
                Judged::Done(_) => return Some((Answer::Done, 0)),
                Judged::Again => {}
                // A node that has not heard of it yet.
                Judged::Failed(error) if error.code() == Some("not-found") => {
                    return Some((Answer::Done, 0));
                }
                Judged::Failed(_) => break,
            }
        }
        None
    }
}

/// What a history says of an operation.
fn outcome(
    variables: &Variables,
    key: &Key,
    op: Op,
    answer: Option<(Answer, u64)>,
    (unknown, place): (bool, usize),
) -> Result<Outcome, (Check, String)> {
    let value = match op {
        Op::Set { value } | Op::CompareAndSet { value, .. } => value,
        Op::Get { .. } | Op::Delete => 0,
    };
    let watch = |wrong: String| (Check::Watch, wrong);
    let Some((answer, revision)) = answer else {
        if matches!(op, Op::Get { .. }) {
            return Ok(Outcome::Dropped);
        }
        if unknown {
            variables.told().unknown(value);
            return Ok(Outcome::Unknown);
        }
        variables.told().refused(value).map_err(watch)?;
        return Ok(Outcome::Dropped);
    };
    match (&answer, op) {
        (Answer::Written { version, .. }, Op::Set { .. } | Op::CompareAndSet { .. }) => {
            let (session, version) = (key.name.clone(), *version);
            let acknowledged = Acknowledged { session, version, revision };
            variables.told().acknowledged(value, acknowledged).map_err(watch)?;
        }
        (Answer::Otherwise, Op::CompareAndSet { .. }) => {
            variables.told().refused(value).map_err(watch)?;
        }
        (Answer::Found(_), Op::Get { .. }) => {}
        (Answer::NoSession, _) => {
            return Err((
                Check::Lost,
                format!("lost: session {} was created and is gone", key.name),
            ));
        }
        (other, _) => {
            return Err((Check::Linearizability, format!("{}: {op} came to {other}", key.name)));
        }
    }
    Ok(Outcome::Returned { node: place, at: micros(), answer })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_tells_its_number_whatever_its_size() {
        for bytes in [0, 1, 5, 100] {
            let text = text_of(12_345, bytes);
            assert_eq!(number_in(&text), Some(12_345));
            assert!(text.as_str().unwrap().len() >= bytes);
        }
    }
}
