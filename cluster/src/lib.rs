//! Nodes among nodes: transport, membership, replicated store, placement and routing.
//!
//! A program becomes a cluster by describing a node and the kinds of entities it hosts. There is
//! no other server: the nodes find each other, agree on who owns what, and take over from one
//! that is lost.
//!
//! # A node with entities
//!
//! ```
//! use std::time::Duration;
//! use odeum_actors::ActorError;
//! use odeum_cluster::entity::{Entity, EntityContext, EntityMessage, Kind};
//! use odeum_cluster::node::ClusterNode;
//! use odeum_cluster::transport::pki::Authority;
//! use odeum_proto::EntityId;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! enum Count {
//!     Add(u64),
//!     Get,
//! }
//!
//! impl EntityMessage for Count {
//!     type Reply = u64;
//! }
//!
//! struct Counter(u64);
//!
//! impl Entity for Counter {
//!     type Message = Count;
//!
//!     async fn handle(
//!         &mut self,
//!         _: &mut EntityContext<'_, Self>,
//!         message: Count,
//!     ) -> Result<u64, ActorError> {
//!         if let Count::Add(n) = message {
//!             self.0 += n;
//!         }
//!         Ok(self.0)
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let dir = folder.path();
//! let authority = Authority::create(&dir.join("authority"))?;
//! authority.issue(&"n1".parse()?, &dir.join("certs"))?;
//! let node = ClusterNode::builder("n1".parse()?)
//!     .data_dir(dir.join("data"))
//!     .certs(dir.join("certs"))
//!     .listen("127.0.0.1:0".parse()?)
//!     .kind(Kind::new("counter".parse()?, |_: &EntityId| Counter(0)))
//!     .start()
//!     .await?;
//!
//! let visits = node.entity::<Count>("counter/visits".parse()?);
//! visits.tell(Count::Add(2)).await?;
//! assert_eq!(visits.ask(Count::Get, Duration::from_secs(5)).await?, 2);
//! node.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Two nodes that talk
//!
//! The second joins the first, hosts nothing itself, and reaches what the first hosts by the same
//! name. Both hear what is published.
//!
//! ```
//! use std::time::Duration;
//! use odeum_actors::ActorError;
//! use odeum_cluster::builder::ClusterNodeBuilder;
//! use odeum_cluster::entity::{Entity, EntityContext, EntityMessage, Kind};
//! use odeum_cluster::node::ClusterNode;
//! use odeum_cluster::transport::pki::Authority;
//! use odeum_proto::EntityId;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Greet(String);
//!
//! impl EntityMessage for Greet {
//!     type Reply = String;
//! }
//!
//! struct Host;
//!
//! impl Entity for Host {
//!     type Message = Greet;
//!
//!     async fn handle(
//!         &mut self,
//!         ctx: &mut EntityContext<'_, Self>,
//!         Greet(name): Greet,
//!     ) -> Result<String, ActorError> {
//!         Ok(format!("{name}, welcome to {} on {}", ctx.id(), ctx.node()))
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let dir = folder.path();
//! let authority = Authority::create(&dir.join("authority"))?;
//! let described = |name: &str| -> Result<ClusterNodeBuilder, Box<dyn std::error::Error>> {
//!     let certs = dir.join(name).join("certs");
//!     authority.issue(&name.parse()?, &certs)?;
//!     let node = ClusterNode::builder(name.parse()?).certs(certs);
//!     Ok(node.data_dir(dir.join(name)).listen("127.0.0.1:0".parse()?))
//! };
//! let first = described("n1")?.kind(Kind::new("host".parse()?, |_: &EntityId| Host));
//! let first = first.start().await?;
//! let second = described("n2")?.join([first.addr().to_string()]).start().await?;
//!
//! let host = second.entity::<Greet>("host/main-hall".parse()?);
//! let answer = host.ask(Greet("Ada".to_owned()), Duration::from_secs(10)).await?;
//! assert_eq!(answer, "Ada, welcome to host/main-hall on n1");
//!
//! let news = second.topic::<String>("news")?;
//! let mut heard = news.subscribe().await?;
//! news.publish(&"doors open".to_owned()).await?;
//! assert_eq!(heard.next().await.transpose()?, Some("doors open".to_owned()));
//! second.shutdown().await;
//! first.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! # What is promised, and the test that keeps it
//!
//! | promise | test |
//! |---|---|
//! | messages of one sender to one entity are handled at most once and in order | `entity::tests::delivery::messages_of_each_node_arrive_once_and_in_their_order` |
//! | the same while shards move: nothing lost, doubled or reordered | `entity::tests::moves::nothing_is_lost_doubled_or_reordered_while_a_node_joins_and_leaves` |
//! | an ask has one reply or one error by its deadline, and late work is not started | `entity::tests::delivery::an_ask_whose_time_is_up_is_an_error_and_is_not_started` |
//! | asked again with the same key, the effect happens once | `entity::tests::delivery::asked_again_with_the_same_key_the_effect_happens_once` |
//! | an entity that falls behind makes its senders wait, wherever they are | `entity::tests::delivery::a_slow_entity_makes_its_senders_wait_and_loses_nothing` |
//! | an entity that fails is made anew, its asker is told, and what waits for it is kept | `entity::tests::lives` |
//! | replicas are spread over zones and nodes, and are where their deployment lets them be | `placement::planner::tests` |
//! | a singleton is active on one node, and on another when that stops | `entity::tests::lives::a_singleton_is_active_unasked_and_follows_when_its_node_stops` |
//! | what a crashed node owned is active elsewhere | `entity::tests::moves::entities_of_a_node_that_crashed_are_active_elsewhere` |
//! | what an entity wrote to the store is there after such a crash | `entity::tests::moves::what_an_entity_wrote_to_the_store_is_there_when_its_node_has_crashed` |
//! | an entity is active on one node at a time, also while a node is cut off or was stopped | `lease::tests::model`, `store::tests::leases`, `tests/faults` |
//! | a subscriber gets a topic's messages in order, or is told how many it missed | `tests/topics.rs` |
//! | a blob is on several nodes, is repaired when one is lost, and goes when nobody owns it | `tests/blobs.rs` |
//! | a peer is who its certificate says, or is refused with the reason | `transport::tests::introductions` |
//! | certificates are renewed and authorities changed without an outage | `transport::tests::renewal` |
//! | process groups and remote calls work between all nodes, and again after a link came back | `tests/control_plane.rs` |
//! | a dead node is noticed within 2 s; a pause of 1 s or a loss of 5 % evicts nobody | `membership::tests`, `tests/faults` |
//! | kills, pauses, partitions, loss, delay and hostile peers cost time and never an order, a double or the node | `tests/faults` |
//! | bytes from peers are packets or errors | the fuzz targets in `cluster/fuzz`, and a bounded run of them in `fuzz::tests` |
//!
//! What each part promises in detail stands on its own page: [`entity`], [`transport`],
//! [`membership`], [`lease`], [`store`], [`topic`], [`blobs`].
//!
//! Not promised: anything of the above where the machine of a node is suspended or its clock runs by
//! more than 5 % faster or slower than others' ([`lease`]). What firmware commits to the store is fenced
//! by epochs even then; what an [`entity`] writes there never is.

pub mod blobs;
pub mod builder;
pub mod clock;
pub mod control_plane;
pub mod departure;
pub mod entity;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzz;
pub mod lease;
pub mod membership;
pub mod migration;
#[cfg(feature = "testing")]
pub mod mishap;
#[cfg(feature = "testing")]
pub mod netns;
pub mod network;
pub mod node;
pub mod placement;
pub mod probe;
pub mod roster;
pub mod router;
pub mod store;
pub mod topic;
pub mod transport;
