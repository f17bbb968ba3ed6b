//! Gives blobs new holders for those that are lost, and forgets what nobody needs: the actor of the
//! node that leads `control`.
//!
//! Observe → decide → commit → act: it watches the index, the nodes and the live set, lets
//! [`planner`](super::planner) decide, has the new holder fetch the blob, and commits that it has.
//! Two leaders at once do no harm, because the log refuses what is overtaken, and a file that is
//! nobody's goes after a while.
//!
//! | message | from | answer |
//! |---|---|---|
//! | `Look` | its own clock | none |
//! | `Done` | its own tasks: a step has ended | none |

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use odeum_actors::{Actor, ActorError, ChildSpec, Context, child};
use odeum_proto::blob::{BlobReply, BlobRequest};
use odeum_proto::store::{Command, Outcome};
use odeum_proto::{Digest, NodeId, Revision};

use super::planner::{Site, Sites, Standing, Step, Unowned, plan};
use super::{Blobs, transfer::transfer_deadline};
use crate::membership::{LiveSet, MemberState};
use crate::store::State;
use crate::transport::Class;

/// How often the index is looked at: a grace ends without an event.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Blobs that are copied at a time. More is sooner done, and takes more from everything else.
const PARALLEL: usize = 4;

/// For how long a node is not asked again to take a blob that it could not: the first time, for it
/// may not have known yet who has it, and at most, for a full disk stays full for a while.
const AVOIDED_FOR: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How long one change may take to be committed. It is planned anew if it is not.
const COMMIT_DEADLINE: Duration = Duration::from_secs(5);

/// Blobs that are removed from the index at one look.
const REMOVALS: usize = 64;

pub(super) fn spec(blobs: Blobs) -> ChildSpec {
    let (_, spec) = child("BlobRepair", move || Repair {
        blobs: blobs.clone(),
        leading_since: None,
        settled: None,
        busy: BTreeSet::new(),
        avoided: BTreeMap::new(),
        unowned: Unowned::default(),
    });
    spec
}

#[derive(Debug)]
enum RepairMessage {
    Look,
    Done {
        digest: Digest,
        /// Who could not do its part.
        failed: Option<NodeId>,
    },
}

struct Repair {
    blobs: Blobs,
    leading_since: Option<Instant>,
    /// What was there when nothing had to be done, so that the index is not read for nothing.
    settled: Option<Sight>,
    busy: BTreeSet<Digest>,
    /// Nodes that could not take a blob, and when that was.
    avoided: BTreeMap<(Digest, NodeId), Avoided>,
    unowned: Unowned,
}

/// All that a plan depends on.
#[derive(Debug, Clone, PartialEq)]
struct Sight {
    index: Revision,
    layout: Revision,
    standings: Vec<(NodeId, Standing)>,
}

/// What one look comes to.
#[derive(Default)]
struct Plan {
    steps: Vec<(Digest, u64, Revision, Step)>,
    removals: Vec<(Digest, Revision)>,
}

/// A node that could not take a blob.
#[derive(Debug, Clone, Copy)]
struct Avoided {
    until: Instant,
    pause: Duration,
}

impl Actor for Repair {
    type Message = RepairMessage;

    async fn started(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        ctx.tell_every(LOOK_EVERY, || RepairMessage::Look);
        Ok(())
    }

    async fn handle(
        &mut self,
        ctx: &mut Context<Self>,
        message: RepairMessage,
    ) -> Result<(), ActorError> {
        match message {
            RepairMessage::Look => self.on_look(ctx).await,
            RepairMessage::Done { digest, failed } => self.on_done(digest, failed),
        }
        Ok(())
    }
}

impl Repair {
    async fn on_look(&mut self, ctx: &mut Context<Self>) {
        let store = &self.blobs.inner.store;
        if store.status().leader.as_ref() != Some(&self.blobs.inner.local) {
            (self.leading_since, self.settled) = (None, None);
            self.unowned = Unowned::default();
            return;
        }
        let now = Instant::now();
        self.avoided.retain(|_, avoided| now < avoided.until + AVOIDED_FOR.1);
        let since = *self.leading_since.get_or_insert(now);
        let plan = self.plan(now, since);
        for (digest, size, expected, step) in plan.steps {
            self.carry_out(ctx, (digest, size), expected, step);
        }
        for (digest, unowned_since) in plan.removals {
            let remove = Command::RemoveBlob { digest, unowned_since };
            match self.blobs.inner.store.write(remove, COMMIT_DEADLINE).await {
                Ok(Outcome::Refused(reason)) => tracing::debug!(%digest, %reason, "blob stays"),
                Ok(_) => tracing::info!(%digest, "blob removed, nobody owns it"),
                Err(error) => {
                    tracing::warn!(%digest, %error, "blob not removed");
                    return;
                }
            }
        }
    }

    fn plan(&mut self, now: Instant, leading_since: Instant) -> Plan {
        let blobs = self.blobs.clone();
        let Blobs { inner } = &blobs;
        let live = Arc::clone(&inner.live.borrow());
        inner.store.view(|state| {
            let clock = Clock { now, leading_since, lost_after: inner.config.lost_after };
            let sites = sites(state, &live, &inner.local, &clock);
            let standings = sites.iter().map(|(node, site)| ((*node).clone(), site.standing));
            let sight = Sight {
                index: state.blobs().changed(),
                layout: state.layout(),
                standings: standings.collect(),
            };
            if self.settled.as_ref() == Some(&sight) {
                return Plan::default();
            }
            let mut removals = self.unowned.due(state.blobs(), now, inner.config.unowned_for);
            removals.truncate(REMOVALS);
            let steps = self.steps(state, &sites);
            let quiet = steps.is_empty()
                && self.unowned.is_empty()
                && self.busy.is_empty()
                && self.avoided.is_empty();
            self.settled = quiet.then_some(sight);
            Plan { steps, removals }
        })
    }

    /// As many as may be begun, those of blobs with the fewest holders first.
    fn steps(&self, state: &State, sites: &Sites<'_>) -> Vec<(Digest, u64, Revision, Step)> {
        let room = PARALLEL.saturating_sub(self.busy.len());
        let rows = state.blobs().records().iter().filter(|(digest, _)| !self.busy.contains(digest));
        let copies = self.blobs.inner.config.copies;
        let mut steps: Vec<_> = rows
            .filter_map(|(digest, blob)| {
                let avoided = |node: &NodeId| {
                    let avoided = self.avoided.get(&(*digest, node.clone()));
                    avoided.is_some_and(|avoided| Instant::now() < avoided.until)
                };
                let step = plan(*digest, blob, sites, copies, avoided)?;
                Some((*digest, blob.size, blob.holders_at, step))
            })
            .collect();
        steps.sort_by_key(|(.., step)| match step {
            Step::Copy { left, .. } => *left,
            Step::Settle { .. } => usize::MAX,
        });
        steps.truncate(room);
        steps
    }

    fn carry_out(
        &mut self,
        ctx: &mut Context<Self>,
        (digest, size): (Digest, u64),
        expected: Revision,
        step: Step,
    ) {
        self.busy.insert(digest);
        let (blobs, own) = (self.blobs.clone(), ctx.handle().clone());
        ctx.spawn(async move {
            let (copied, holders) = match step {
                Step::Settle { holders } => (Ok(()), holders),
                Step::Copy { to, sources, holders, .. } => {
                    let copied = copy(&blobs, (digest, size), &to, sources).await;
                    (copied.map_err(|reason| (to, reason)), holders)
                }
            };
            let failed = match copied {
                Ok(()) => {
                    commit(&blobs, digest, holders, expected).await;
                    None
                }
                Err((to, reason)) => {
                    tracing::warn!(%digest, peer = %to, reason, "blob not copied");
                    Some(to)
                }
            };
            // When this actor has stopped, its next life plans anew.
            let _ = own.tell(RepairMessage::Done { digest, failed }).await;
        });
    }

    fn on_done(&mut self, digest: Digest, failed: Option<NodeId>) {
        self.busy.remove(&digest);
        if let Some(node) = failed {
            let (first, most) = AVOIDED_FOR;
            let before = self.avoided.get(&(digest, node.clone()));
            let pause = before.map_or(first, |before| (before.pause * 2).min(most));
            let until = Instant::now() + pause;
            self.avoided.insert((digest, node), Avoided { until, pause });
        }
    }
}

/// Has a node fetch a blob and keep it.
async fn copy(
    blobs: &Blobs,
    (digest, size): (Digest, u64),
    to: &NodeId,
    sources: Vec<NodeId>,
) -> Result<(), String> {
    if *to == blobs.inner.local {
        return blobs.hold(digest, &sources).await.map_err(|error| error.to_string());
    }
    // A source that does not answer costs its time, and then the next is asked.
    let deadline = 2 * transfer_deadline(size);
    let request = BlobRequest::Hold { digest, sources };
    match blobs.ask(to, Class::Lane, &request, deadline).await? {
        BlobReply::Kept => Ok(()),
        BlobReply::Failed { reason } => Err(reason.into()),
        _ => Err("it answered out of turn".to_owned()),
    }
}

async fn commit(blobs: &Blobs, digest: Digest, holders: BTreeSet<NodeId>, expected: Revision) {
    let names: Vec<_> = holders.iter().map(NodeId::as_str).collect();
    let names = names.join(" ");
    let command = Command::SetHolders { digest, holders, expected };
    match blobs.inner.store.write(command, COMMIT_DEADLINE).await {
        Ok(Outcome::Refused(reason)) => tracing::debug!(%digest, %reason, "repair overtaken"),
        Ok(_) => tracing::info!(%digest, holders = names, "blob has new holders"),
        Err(error) => tracing::warn!(%digest, %error, "new holders not committed"),
    }
}

/// What time means for who is there.
#[derive(Debug, Clone, Copy)]
struct Clock {
    now: Instant,
    /// A node that this one has never seen alive counts as away from then on.
    leading_since: Instant,
    lost_after: Duration,
}

/// The nodes of the cluster, as the node `local` sees them.
fn sites<'a>(state: &'a State, live: &LiveSet, local: &NodeId, clock: &Clock) -> Sites<'a> {
    let site = |(node, record): (&'a NodeId, _)| {
        let standing = match node == local {
            true => Standing::Here,
            false => standing(live, node, clock),
        };
        (node, Site { record, standing, leaving: state.leaving().contains(node) })
    };
    state.nodes().iter().map(site).collect()
}

fn standing(live: &LiveSet, node: &NodeId, clock: &Clock) -> Standing {
    let away_since = match live.members.get(node) {
        Some(member) if member.state != MemberState::Down => return Standing::Here,
        Some(member) => member.since,
        None => clock.leading_since,
    };
    match clock.now.saturating_duration_since(away_since) >= clock.lost_after {
        true => Standing::Gone,
        false => Standing::Away,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blobs::fixtures::{node, record};
    use crate::membership::Member;
    use odeum_proto::Incarnation;

    #[test]
    fn a_node_is_gone_when_it_was_down_or_unseen_for_the_whole_grace() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let member = |state, since| Member { incarnation: Incarnation(1), state, since };
        let live = LiveSet {
            members: BTreeMap::from([
                (node(2), member(MemberState::Suspect, start)),
                (node(3), member(MemberState::Down, start + 5 * second)),
            ]),
        };
        let mut state = State::default();
        for (at, n) in (1..).zip([1_u8, 2, 3, 4]) {
            state.apply(Revision(at), &Command::PutNode(record(n, 100, 0)));
        }
        state.apply(Revision(9), &Command::SetLeaving { node: node(4), leaving: true });
        let standings = |after: u32| {
            let now = start + after * second;
            let clock = Clock { now, leading_since: start, lost_after: 10 * second };
            let sites = sites(&state, &live, &node(1), &clock);
            assert!(sites[&node(4)].leaving && !sites[&node(1)].leaving);
            [1, 2, 3, 4].map(|n| sites[&node(n)].standing)
        };
        use Standing::{Away, Gone, Here};
        assert_eq!(standings(9), [Here, Here, Away, Away]);
        assert_eq!(standings(10), [Here, Here, Away, Gone]);
        assert_eq!(standings(15), [Here, Here, Gone, Gone]);
    }
}
