//! `odeum get events --follow`: what becomes of a firmware, as it happens.
//!
//! Every node keeps what it saw for itself, and the asked one asks all, so it is asked again and again;
//! what was seen before is told by its place. Goes on when the asked node goes and comes back.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use odeum_proto::{Epoch, NodeId, Recipient};
use tokio::time::sleep;

use super::super::{
    CliError, Invocation,
    out::single_line,
    tail::{is_deleted, is_unknown},
};
use crate::api::{client::ApiClient, types::FirmwareEvent};

/// Pause between two looks: sooner than people read, and a question to each node.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long a node that has gone is looked for: a restart on a busy machine with a long log.
const AWAY: Duration = Duration::from_secs(60);

/// More than nodes keep: what they do not tell any more is forgotten then.
const MANY: usize = 16_384;

/// What an event is known by: who saw it first and when, of which replica, in which activation, and
/// what.
type Place = (NodeId, String, u32, Epoch, String, String);

/// What was printed, with how often it had happened then.
#[derive(Debug, Default)]
struct Seen(BTreeMap<Place, u32>);

impl Seen {
    /// Those of `events` that happened since, or again. One that a node does not tell for a moment,
    /// because it does not answer, is no news when it does.
    fn news(&mut self, events: Vec<FirmwareEvent>) -> Vec<FirmwareEvent> {
        if self.0.len() > MANY {
            let told: BTreeSet<Place> = events.iter().map(place).collect();
            self.0.retain(|place, _| told.contains(place));
        }
        let mut is_new = |event: &FirmwareEvent| {
            let before = self.0.insert(place(event), event.count);
            before.is_none_or(|count| count < event.count)
        };
        events.into_iter().filter(|event| is_new(event)).collect()
    }
}

fn place(event: &FirmwareEvent) -> Place {
    let FirmwareEvent { node, first_at, replica, epoch, event, text, .. } = event;
    (node.clone(), first_at.clone(), *replica, *epoch, event.clone(), text.clone())
}

pub(super) async fn follow(
    invocation: &Invocation,
    api: &ApiClient,
    name: &Recipient,
) -> Result<(), CliError> {
    let (mut seen, mut last_seen) = (Seen::default(), None::<Instant>);
    // Once there are several they are told apart.
    let mut several = false;
    loop {
        match api.events(name).await {
            Ok(events) => {
                last_seen = Some(Instant::now());
                several |= events.iter().any(|event| event.replica > 1);
                for event in seen.news(events) {
                    if !invocation.out.line(&event, |event| Some(line(event, several)))? {
                        // Nobody reads on.
                        return Ok(());
                    }
                }
            }
            Err(error) => {
                let Some(at) = last_seen else { return Err(error.into()) };
                let is_unknown = is_unknown(&error);
                if is_unknown && is_deleted(api, name).await {
                    // It was there before: there is no more to come.
                    invocation.out.note(&format!("firmware {name} is deleted"));
                    return Ok(());
                }
                if at.elapsed() > AWAY || !(is_unknown || error.is_retryable()) {
                    return Err(error.into());
                }
            }
        }
        sleep(LOOK_EVERY).await;
    }
}

fn line(event: &FirmwareEvent, several: bool) -> String {
    let FirmwareEvent { at, count, node, replica, epoch, event, text, .. } = event;
    // What was done by hand before it was placed has none, and is about all replicas.
    let known = |number: String| if epoch.0 > 0 { number } else { "-".to_owned() };
    let replica =
        if several { format!("{:>3}  ", known(replica.to_string())) } else { String::new() };
    let epoch = known(epoch.to_string());
    let times = if *count > 1 { format!(" ({count} times)") } else { String::new() };
    format!("{at}  {node}  {replica}{epoch:>3}  {event:11}  {}{times}", single_line(text))
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::*;

    fn event(first_at: &str, count: u32, what: &str) -> FirmwareEvent {
        FirmwareEvent {
            at: first_at.to_owned(),
            first_at: first_at.to_owned(),
            count,
            node: "n1".parse().expect("a name"),
            replica: 1,
            epoch: Epoch(2),
            event: what.to_owned(),
            text: "why".to_owned(),
        }
    }

    #[test]
    fn each_event_is_news_once_and_again_when_it_happens_again() {
        let mut seen = Seen::default();
        let (started, crashed) = (event("t1", 1, "started"), event("t2", 1, "crashed"));
        assert_eq!(seen.news(vec![started.clone()]), from_ref(&started));
        assert_eq!(seen.news(vec![started.clone(), crashed.clone()]), from_ref(&crashed));
        assert_eq!(seen.news(vec![started.clone(), crashed.clone()]), []);
        let again = event("t2", 2, "crashed");
        assert_eq!(seen.news(vec![started.clone(), again.clone()]), from_ref(&again));
        assert_eq!(seen.news(vec![]), [], "its node does not answer");
        assert_eq!(seen.news(vec![started, again]), [], "and then it does");
    }

    #[test]
    fn a_line_has_what_a_row_has() {
        let event = event("2026-11-26T22:36:35.636Z", 2, "crashed");
        let said = line(&event, false);
        assert_eq!(said, "2026-11-26T22:36:35.636Z  n1    2  crashed      why (2 times)");
        let said = line(&event, true);
        assert_eq!(said, "2026-11-26T22:36:35.636Z  n1    1    2  crashed      why (2 times)");
    }
}
