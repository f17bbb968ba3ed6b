//! A node of the cluster begins anew, as this one is asked for it.

use std::time::{Duration, Instant};

use odeum_cluster::transport::{Class, Service};
use odeum_proto::{
    GroupId, Incarnation, NodeId,
    restart::{Question, Standing},
};
use tokio::time::sleep;

use super::{NodeFacade, nodes::no_node};
use crate::api::{Problem, types::NodeRestart};

/// How long a node may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// How often a node that begins anew is asked whether it is back.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Of so many voters or more, a majority is there without one of them.
const SEVERAL: usize = 3;

impl NodeFacade {
    pub(super) async fn restarted(
        &self,
        node: NodeId,
        patience: Duration,
    ) -> Result<NodeRestart, Problem> {
        let begin = Instant::now();
        self.fresh().await?;
        let record = self.store.view(|state| state.nodes().get(&node).cloned());
        let Some(record) = record else { return Err(no_node(&node)) };
        // A moment, mostly: a change of voters is two entries of the log.
        while self.changing().is_some() && begin.elapsed() < patience {
            sleep(LOOK_EVERY).await;
        }
        self.others_have_a_majority(&node)?;
        let former = record.incarnation;
        if node == self.record.id {
            self.life.end(former);
            return Ok(NodeRestart { node, former, incarnation: None });
        }
        let told = self.ask_life(&node, Question::Restart { incarnation: former }).await;
        told.map_err(|reason| {
            let reason = format!("{node} cannot be told to begin anew: {reason}");
            Problem::Unavailable { reason: reason.into() }
        })?;
        while begin.elapsed() < patience {
            sleep(LOOK_EVERY).await;
            // While it is away there is no answer.
            let Ok(standing) = self.ask_life(&node, Question::Standing).await else { continue };
            if standing.caught_up && self.is_back(&node, former) {
                let incarnation = Some(standing.incarnation);
                return Ok(NodeRestart { node, former, incarnation });
            }
        }
        let reason = format!("{node} was told to begin anew and is not back after {patience:?}");
        Err(Problem::Unavailable { reason: reason.into() })
    }

    async fn ask_life(&self, node: &NodeId, question: Question) -> Result<Standing, String> {
        let asked = self.transport.call(node, Service::Restart, Class::Lane, &question, ANSWER);
        asked.await.map_err(|error| error.to_string())
    }

    /// Whether a later life of it than `former` can be given work.
    fn is_back(&self, node: &NodeId, former: Incarnation) -> bool {
        self.membership.now().is_live(node)
            && self.store.view(|state| {
                let later = state.nodes().get(node).is_some_and(|it| it.incarnation > former);
                later && state.is_leased(node) && !state.is_closing(node)
            })
    }

    /// A group in which one set of voters is taking the place of another.
    fn changing(&self) -> Option<GroupId> {
        self.store.statuses().into_iter().find(|status| status.changing).map(|it| it.group)
    }

    /// Refuses what would leave a group without a majority for as long as `node` is away, where
    /// that need not be.
    fn others_have_a_majority(&self, node: &NodeId) -> Result<(), Problem> {
        if let Some(group) = self.changing() {
            let reason = format!("which nodes have a vote in {group} is just changing: try again");
            return Err(Problem::Conflict { reason: reason.into() });
        }
        let live = self.membership.now();
        let is_there = |other: &NodeId| *other == self.record.id || live.is_live(other);
        for status in self.store.statuses() {
            let voters: Vec<_> = status.members.iter().filter(|member| member.voter).collect();
            let others = voters.iter().filter(|it| it.node != *node && is_there(&it.node)).count();
            if voters.len() >= SEVERAL && others <= voters.len() / 2 {
                let group = status.group;
                let all = voters.len();
                let reason = format!(
                    "without {node} only {others} of the {all} nodes that have a vote in {group} \
                     would be there: wait until the others are back"
                );
                return Err(Problem::Conflict { reason: reason.into() });
            }
        }
        Ok(())
    }
}
