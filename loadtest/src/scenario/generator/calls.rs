//! Requests to firmware: messages, HTTP, and moves.

use std::time::Duration;

use odeum_proto::{EntityId, RequestId};
use odeum_runtime::api::types::{CallOptions, MoveBody};
use reqwest::Method as HttpMethod;
use tokio::time::{Instant, sleep, timeout};

use super::target::Guest;
use super::tries::{Judged, Tries};
use super::{Ended, Work};
use crate::check::counts::Told;
use crate::guests;
use crate::scenario::protocol::Check;
use crate::scenario::spec::{Deployed, Method};

/// How often is looked whether something has moved.
const LOOK: Duration = Duration::from_millis(10);

impl Work {
    fn failed(tries: Tries<'_>, bytes: usize) -> Ended {
        Ended { retried: tries.retried, bytes: bytes as u64, error: Some(tries.error()) }
    }

    fn done(tries: &Tries<'_>, bytes: usize) -> Ended {
        Ended { retried: tries.retried, bytes: bytes as u64, error: None }
    }

    /// Has a guest count.
    pub(super) async fn call(&self, guest: &Guest, size: usize) -> Ended {
        let floor = guest.counter().sent();
        let request = RequestId::random();
        let mut tries = Tries::new(&self.nodes, self.scenario.deadline.0);
        while let Some((client, limit)) = tries.next().await {
            let options = CallOptions {
                request: Some(request.clone()),
                deadline: limit,
                ..CallOptions::default()
            };
            let called = client.call(&guest.name, guests::add(size), &options);
            let answer = match tries.judge(timeout(limit, called).await) {
                Judged::Done(answer) => answer,
                Judged::Again => continue,
                Judged::Failed(_) => break,
            };
            let Some(count) = guests::count_in(&answer.body) else { break };
            let node = answer.node.to_string();
            let (epoch, replayed) = (answer.epoch.0, answer.replayed);
            let told = Told { count, epoch, node: &node, replayed };
            let result = guest.counter().answered(floor, told);
            if let Err(wrong) = result {
                let check = Check::of(&wrong);
                self.teller.found(check, format!("{}: {wrong}", guest.name), String::new());
            }
            return Self::done(&tries, size);
        }
        if tries.unknown {
            guest.counter().is_unknown();
        }
        Self::failed(tries, size)
    }

    /// Calls firmware that somebody else has deployed.
    pub(super) async fn call_deployed(&self, it: &Deployed) -> Ended {
        let request = RequestId::random();
        let mut tries = Tries::new(&self.nodes, self.scenario.deadline.0);
        while let Some((client, limit)) = tries.next().await {
            let options = CallOptions {
                request: Some(request.clone()),
                session: it.session.clone(),
                deadline: limit,
                ..CallOptions::default()
            };
            let called = client.call(&it.name, it.body.clone().into_bytes(), &options);
            match tries.judge(timeout(limit, called).await) {
                Judged::Done(_) => return Self::done(&tries, it.body.len()),
                Judged::Again => {}
                Judged::Failed(_) => break,
            }
        }
        Self::failed(tries, it.body.len())
    }

    /// An HTTP request to a route of firmware. It is tried again at another node only where it was not
    /// sent: what a `POST` did is not known to be done once.
    pub(super) async fn request(
        &self,
        path: &str,
        method: Method,
        size: usize,
        is_echo: bool,
    ) -> Ended {
        let until = Instant::now() + self.scenario.deadline.0;
        let (mut retried, bytes) = (0, size as u64);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Some(client) = self.nodes.at(self.nodes.turn()) else { return Ended::default() };
            let url = client.url().join(path);
            let Ok(url) = url else {
                return Ended { error: Some("bad address".to_owned()), ..Ended::default() };
            };
            let method = match method {
                Method::Get => HttpMethod::GET,
                Method::Post => HttpMethod::POST,
                Method::Put => HttpMethod::PUT,
                Method::Delete => HttpMethod::DELETE,
            };
            let request = self.http.request(method, url).timeout(left).body(vec![b'x'; size]);
            let error = match request.send().await {
                Ok(answer) if answer.status().is_success() => match answer.bytes().await {
                    Ok(body) if is_echo && body.len() != size => "another body".to_owned(),
                    Ok(_) => return Ended { error: None, retried, bytes },
                    Err(_) => "connection lost".to_owned(),
                },
                Ok(answer) => {
                    // The node had no place for it, or nowhere to send it to: it was not handled.
                    if matches!(answer.status().as_u16(), 429 | 503) && left > 8 * LOOK {
                        retried += 1;
                        sleep(4 * LOOK).await;
                        continue;
                    }
                    format!("status {}", answer.status().as_u16())
                }
                Err(error) if error.is_connect() && left > 4 * LOOK => {
                    retried += 1;
                    sleep(LOOK).await;
                    continue;
                }
                Err(error) if error.is_timeout() => "deadline".to_owned(),
                Err(_) => "connection lost".to_owned(),
            };
            return Ended { error: Some(error), retried, bytes };
        }
    }

    /// Moves a guest to another node, and returns when it is there.
    pub(super) async fn move_guest(&self, guest: &Guest) -> Ended {
        let error = |error: &str| Ended { error: Some(error.to_owned()), ..Ended::default() };
        let Some(client) = self.nodes.at(self.nodes.turn()) else { return Ended::default() };
        let until = Instant::now() + self.scenario.deadline.0;
        let at = match client.firmware_of(&guest.name).await {
            Ok(it) => it.node,
            Err(refused) => return error(&super::tries::name_of(&refused)),
        };
        let Some(at) = at else { return error("it is nowhere") };
        let names = self.nodes.names();
        let place = names.iter().position(|name| *name == at.as_str()).unwrap_or_default();
        let to = names.get((place + 1) % names.len().max(1)).filter(|name| *name != at.as_str());
        let Some(to) = to.and_then(|name| name.parse().ok()) else {
            return error("there is no other node");
        };
        let body = MoveBody { entity: EntityId::firmware(guest.name.clone()), to };
        let begun = match client.begin_move(&body).await {
            Ok(begun) => begun,
            Err(refused) => return error(&super::tries::name_of(&refused)),
        };
        while Instant::now() < until {
            let moves = client.moves().await.unwrap_or_default();
            let of =
                moves.iter().rev().find(|it| it.entity == begun.entity && it.epoch == begun.epoch);
            match of {
                Some(it) if it.state.is_over() => {
                    let has_moved = it.state == odeum_runtime::api::types::MoveState::Moved;
                    return if has_moved { Ended::default() } else { error(it.state.as_str()) };
                }
                _ => sleep(LOOK).await,
            }
        }
        error("deadline")
    }
}
