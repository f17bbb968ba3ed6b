//! Where things run is seen and changed from the command line, at real nodes.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/cluster.rs"]
#[expect(dead_code, reason = "each test program uses a part of it")]
mod cluster;
#[path = "support/process.rs"]
mod process;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Output;

use bytes::Bytes;
use cluster::{Callers, Cluster, PATIENCE};
use odeum_actors::ActorError;
use odeum_cluster::builder::RunningNode;
use odeum_cluster::entity::{Entity, EntityContext, EntityMessage, EntityRef, Kind};
use odeum_cluster::node::ClusterNode;
use odeum_proto::EntityId;
use process::{complaint, odeum, text};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::process::Command;

/// Counts in its memory alone.
const HEAP: &[u8] = include_bytes!("support/heap.wat");

/// A job that waits for 1,000 s.
const JOB: &[u8] = include_bytes!("support/job.wat");

/// The phases of a move that ends well, in their order.
const PHASES: [&str; 6] = ["preparing", "copying", "freezing", "sending", "switching", "moved"];

/// Who runs commands at the node `n1`.
#[derive(Clone, Copy)]
struct Operator<'a>(&'a Cluster);

impl Operator<'_> {
    async fn run(self, arguments: &[&str]) -> Output {
        let mut command = Command::from(odeum(arguments));
        command.args(["--api-url", self.0.api("n1").url().as_str()]).kill_on_drop(true);
        command.output().await.expect("the command runs")
    }

    /// What a command prints that must succeed.
    async fn done(self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        let said = text(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}\n{}", self.0.last_words());
        text(&output.stdout)
    }

    /// The same for machines: JSON, and no word beside it.
    async fn json(self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["-o", "json"]].concat()).await;
        let said = text(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}\n{}", self.0.last_words());
        assert_eq!(said, "", "{arguments:?}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// What a command says that must fail with 1 and in one line, whoever reads it.
    async fn refused(self, arguments: &[&str]) -> String {
        let said = complaint(&self.run(arguments).await, 1);
        let output = self.run(&[arguments, &["-o", "json"]].concat()).await;
        assert_eq!(complaint(&output, 1), said, "{arguments:?}");
        said
    }

    /// What a firmware replies, and the node that it did so on.
    async fn called(self, firmware: &str, message: &str) -> (String, String) {
        let answer = self.json(&["call", firmware, message, "--deadline", "30s"]).await;
        let word = |of: &Value| of.as_str().expect("a text").to_owned();
        (word(&answer["reply"]["value"]), word(&answer["node"]))
    }

    /// How many entities each node has that are placed one by one.
    async fn shares(self) -> BTreeMap<String, u64> {
        let shown = self.json(&["placement", "show"]).await;
        let nodes = shown["nodes"].as_array().expect("a list").iter();
        let share = |node: &Value| {
            let name = node["node"].as_str().expect("a name").to_owned();
            (name, node["entities"].as_u64().expect("a number"))
        };
        nodes.map(share).collect()
    }

    async fn moves(self) -> Vec<Value> {
        self.json(&["get", "moves"]).await.as_array().expect("a list").clone()
    }

    /// What is planned for those who read JSON: one move, from where to where.
    async fn one_move(self, arguments: &[&str]) -> (String, String) {
        let steps = self.json(arguments).await;
        let steps = steps.as_array().expect("a list");
        assert_eq!(steps.len(), 1, "{steps:?}");
        let word = |key: &str| steps[0][key].as_str().expect("a text").to_owned();
        assert!(word("entity").starts_with("firmware/heap-"), "{steps:?}");
        (word("from"), word("to"))
    }
}

/// Checks what is shown of a move while it goes: its phases in their order, each with how long it has
/// taken so far, and at the end what was sent.
fn check_progress(said: &str) {
    let line = |line: &str| -> (f64, usize) {
        let (took, phase) = line.split_once(" ms  ").expect("a time and a phase");
        let word = phase.split(',').next().unwrap_or_default();
        let place = PHASES.iter().position(|phase| *phase == word).expect("a phase");
        (took.trim().parse().expect("a number"), place)
    };
    let shown: Vec<(f64, usize)> = said.lines().map(line).collect();
    let in_order = shown.windows(2).all(|two| two[0].0 <= two[1].0 && two[0].1 < two[1].1);
    assert!(in_order, "{said}");
    let last = said.lines().last().expect("a line");
    assert!(last.contains(" ms  moved, ") && last.ends_with(" sent"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_is_shown_while_it_goes_and_told_when_it_is_over() {
    let cluster = Cluster::of(2, &[]).await;
    let operator = Operator(&cluster);
    let at = cluster.deploy("n1", "heap", HEAP.to_vec()).await;
    let to = cluster.other_than(&at);
    for count in ["1", "2", "3"] {
        let said = operator.called("heap", "add 1").await;
        assert_eq!(said, (count.to_owned(), at.clone()));
    }

    let shown = operator.run(&["migrate", "heap", "--to", &to, "--watch"]).await;
    let (said, result) = (text(&shown.stderr), text(&shown.stdout));
    assert_eq!(shown.status.code(), Some(0), "{said}\n{}", cluster.last_words());
    check_progress(&said);
    assert!(result.starts_with(&format!("firmware/heap is on {to}: ")), "{result}");
    for part in [" moved with it, in ", " ms, paused for "] {
        assert!(result.contains(part), "{result}");
    }
    assert_eq!(operator.called("heap", "get").await, ("3".to_owned(), to.clone()));

    let back = operator.json(&["migrate", "heap", "--to", &at, "--watch"]).await;
    assert_eq!((&back["from"], &back["to"]), (&to.as_str().into(), &at.as_str().into()));
    assert_eq!((&back["entity"], &back["state"]), (&"firmware/heap".into(), &"moved".into()));
    assert_eq!((&back["live"], &back["reason"]), (&true.into(), &Value::Null));
    assert!(back["bytes"].as_u64() > Some(0), "{back}");
    assert!(back["paused_ms"].as_f64() > Some(0.0), "{back}");
    assert!(back["new_epoch"].as_u64() > back["epoch"].as_u64(), "{back}");
    assert_eq!(operator.called("heap", "get").await, ("3".to_owned(), at.clone()));

    // Who does not wait looks at it later.
    let begun = operator.done(&["migrate", "heap", "--to", &to, "--wait", "0s"]).await;
    assert_eq!(begun.trim_end(), format!("firmware/heap moves from {at} to {to}"));
    let all = async || {
        let moves = operator.moves().await;
        (moves.len() == 3 && moves[2]["state"] == "moved").then_some(moves)
    };
    let moves = cluster.until("the third move", PATIENCE, all).await;
    let (here, there) = (at.as_str(), to.as_str());
    for (made, way) in moves.iter().zip([(here, there), (there, here), (here, there)]) {
        assert_eq!((&made["from"], &made["to"]), (&way.0.into(), &way.1.into()), "{moves:?}");
    }
    assert_eq!(operator.called("heap", "get").await, ("3".to_owned(), to.clone()));
    let table = operator.done(&["get", "moves"]).await;
    let lines: Vec<Vec<&str>> = table.lines().map(|it| it.split_whitespace().collect()).collect();
    assert_eq!(lines.len(), 4, "{table}");
    assert_eq!(lines[0][..5], ["BEGAN", "ENTITY", "FROM", "TO", "STATE"]);
    assert_eq!(lines[3][1..6], ["firmware/heap", here, there, "moved", "moves"], "{table}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_moved_stays_and_the_command_says_why() {
    let cluster = Cluster::of(2, &[]).await;
    let operator = Operator(&cluster);
    let at = cluster.deploy("n1", "heap", HEAP.to_vec()).await;
    let (other, already) = (cluster.other_than(&at), format!("firmware/heap is on {at} already"));
    for (entity, to, why) in [
        ("heap", at.as_str(), already.as_str()),
        ("heap", "n9", "there is no node n9; `odeum get nodes` shows all of them"),
        ("heapp", other.as_str(), "there is no firmware heapp; the nearest is heap"),
        ("heap.2", other.as_str(), "there is no replica heap.2: heap has 1 of them"),
        ("account/ada", other.as_str(), "there is no account/ada"),
    ] {
        let said = operator.refused(&["migrate", entity, "--to", to]).await;
        assert_eq!(said, format!("error: {why}"), "{entity} to {to}");
    }
    assert_eq!(operator.json(&["get", "moves"]).await, json!([]), "nothing was begun");

    let at = cluster.deploy("n1", "job", JOB.into()).await;
    let other = cluster.other_than(&at);
    let said = operator.run(&["migrate", "job", "--to", &other, "--watch"]).await;
    assert_eq!(complaint(&said, 1), format!("error: firmware/job stays on {at}: it is a job"));
    assert_eq!(cluster.running("n1", "job").await, at);
    let moves = operator.moves().await;
    let told: Vec<_> = moves.iter().map(|made| (&made["state"], &made["reason"])).collect();
    assert_eq!(told, [(&Value::from("stayed"), &Value::from("it is a job"))]);
}

/// Three nodes with one firmware each that counts in memory: `heap-a`, which has counted to 1,
/// `heap-b`, to 2, and `heap-c`, to none; and where they are.
async fn spread() -> (Cluster, [String; 3]) {
    let cluster = Cluster::of(3, &[]).await;
    let mut at = Vec::new();
    for (firmware, count) in [("heap-a", 1), ("heap-b", 2), ("heap-c", 0)] {
        at.push(cluster.deploy("n1", firmware, HEAP.to_vec()).await);
        for count in 1..=count {
            assert_eq!(cluster.number("n1", firmware, "add 1").await, count);
        }
    }
    assert_eq!(at.iter().collect::<BTreeSet<_>>().len(), 3, "they are spread: {at:?}");
    (cluster, at.try_into().expect("three"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_where_is_shown_and_explained_and_a_plan_changes_nothing_until_it_is_carried_out() {
    let (cluster, [a, b, _]) = spread().await;
    let operator = Operator(&cluster);
    let shown = operator.json(&["placement", "show"]).await;
    let column = |of: &Value, list: &str, key: &str| -> Vec<String> {
        let rows = of[list].as_array().expect("a list").iter();
        rows.map(|row| row[key].as_str().expect("a text").to_owned()).collect()
    };
    assert_eq!(column(&shown, "nodes", "node"), ["n1", "n2", "n3"]);
    let entities = ["firmware/heap-a", "firmware/heap-b", "firmware/heap-c"];
    assert_eq!(column(&shown, "entities", "entity"), entities);
    assert_eq!(shown["entities"][0]["node"], a);
    let table = operator.done(&["placement", "show"]).await;
    for part in ["CAPACITY", "SHARDS", "n1", "n2", "n3", "MOVES TO"].iter().chain(&entities) {
        assert!(table.contains(part), "{part} is missing:\n{table}");
    }

    let why = operator.json(&["placement", "explain", "heap-a"]).await;
    assert_eq!((&why["entity"], &why["node"]), (&entities[0].into(), &a.as_str().into()));
    let mut nodes = column(&why, "nodes", "node");
    nodes.sort();
    assert_eq!(nodes, ["n1", "n2", "n3"]);
    let told = operator.done(&["placement", "explain", "heap-a"]).await;
    assert!(told.starts_with(&format!("firmware/heap-a is on {a}: it stays there")), "{told}");
    for node in ["n1", "n2", "n3"] {
        assert!(told.lines().any(|line| line.starts_with(node)), "{node} is missing:\n{told}");
    }
    for (entity, why) in [
        ("heap-aa", "there is no firmware heap-aa"),
        ("heap-a.2", "there is no replica heap-a.2: heap-a has 1 of them"),
        ("account/ada", "there is no account/ada"),
    ] {
        let said = operator.refused(&["placement", "explain", entity]).await;
        assert!(said.contains(why), "{said}");
    }

    // Two on one node, none on another.
    operator.done(&["migrate", "heap-a", "--to", &b]).await;
    let way = (b.clone(), a.clone());
    assert_eq!(operator.one_move(&["placement", "plan", "--dry-run"]).await, way);
    let before = operator.json(&["placement", "show"]).await;
    for command in [&["placement", "plan"][..], &["placement", "rebalance", "--dry-run"]] {
        let said = operator.done(command).await;
        let is_told = said.starts_with("firmware/heap-")
            && said.trim_end().ends_with(&format!(" would move from {b} to {a}"));
        assert!(is_told, "{command:?}: {said}");
    }
    assert_eq!(operator.json(&["placement", "show"]).await, before, "a plan changes nothing");
    assert_eq!(operator.moves().await.len(), 1);

    assert_eq!(operator.one_move(&["placement", "rebalance"]).await, way);
    cluster
        .until("equally busy nodes", PATIENCE, async || {
            let shares = operator.shares().await;
            shares.values().all(|entities| *entities == 1).then_some(())
        })
        .await;
    assert!(operator.done(&["placement", "plan"]).await.starts_with("nothing to move: "));
    assert_eq!(operator.json(&["placement", "rebalance"]).await, json!([]));
    for (firmware, count) in [("heap-a", 1), ("heap-b", 2), ("heap-c", 0)] {
        assert_eq!(cluster.number("n1", firmware, "get").await, count, "{firmware}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_emptied_while_it_is_called_and_used_again() {
    let (cluster, [_, _, node]) = spread().await;
    let operator = Operator(&cluster);
    let callers = Callers::start("heap-c", vec![cluster.routes(); 2]);
    callers.go_on(&cluster, 10, PATIENCE).await;
    let said = operator.done(&["drain", &node]).await;
    let empty = format!("{node} is empty, and gets nothing until `odeum drain {node} --undo`");
    assert_eq!(said.trim_end(), empty);
    callers.go_on(&cluster, 10, PATIENCE).await;

    let shown = operator.json(&["placement", "show"]).await;
    let places = shown["entities"].as_array().expect("a list").iter().map(|it| &it["node"]);
    let places: Vec<&Value> = places.collect();
    assert!(places.len() == 3 && places.iter().all(|at| at.is_string() && **at != node), "{shown}");
    let nodes = shown["nodes"].as_array().expect("a list");
    let drained = nodes.iter().find(|it| it["node"] == node).expect("it is a member");
    assert_eq!(drained["entities"], 0, "{shown}");
    assert_eq!(drained["takes_nothing"], format!("{node} is drained"));
    let table = operator.done(&["placement", "show"]).await;
    let of_node = |line: &&str| line.starts_with(&node) && line.ends_with("is drained");
    assert_eq!(table.lines().filter(of_node).count(), 1, "{table}");
    assert!(operator.done(&["get", "nodes"]).await.contains("alive, drained"));
    let explained = operator.done(&["placement", "explain", "heap-c"]).await;
    assert!(explained.contains(&format!("{node} is drained")), "{explained}");

    let refused = operator.refused(&["migrate", "heap-a", "--to", &node]).await;
    let until = format!("it is drained, until `odeum drain {node} --undo`");
    assert_eq!(refused, format!("error: {node} may not have firmware/heap-a: {until}"));
    assert_eq!(operator.done(&["drain", &node]).await.trim_end(), empty, "it is so still");
    assert_eq!(operator.json(&["drain", &node]).await, json!({ "drained": node }));
    for more in [&[][..], &["--undo"]] {
        let said = operator.refused(&[&["drain", "n9"], more].concat()).await;
        assert_eq!(said, "error: there is no node n9; `odeum get nodes` shows all of them");
    }

    let said = operator.done(&["drain", &node, "--undo"]).await;
    assert_eq!(said.trim_end(), format!("{node} is used again"));
    assert_eq!(operator.json(&["drain", &node, "--undo"]).await, json!({ "used": node }));
    operator.done(&["migrate", "heap-c", "--to", &node]).await;
    assert_eq!(cluster.running("n1", "heap-c").await, node);
    callers.go_on(&cluster, 10, PATIENCE).await;
    assert!(callers.reckon(&cluster, "n1").await >= 30);
    for (firmware, count) in [("heap-a", 1), ("heap-b", 2)] {
        assert_eq!(cluster.number("n1", firmware, "get").await, count, "{firmware}");
    }
}

#[derive(Serialize, Deserialize)]
enum Order {
    Deposit(u64),
    Show,
}

impl EntityMessage for Order {
    /// What it has, and on which node.
    type Reply = (u64, String);
}

/// An entity of a program's own kind, with what it has in its memory alone.
struct Account(u64);

impl Entity for Account {
    type Message = Order;

    async fn handle(
        &mut self,
        ctx: &mut EntityContext<'_, Self>,
        order: Order,
    ) -> Result<(u64, String), ActorError> {
        if let Order::Deposit(amount) = order {
            self.0 += amount;
        }
        Ok((self.0, ctx.node().to_string()))
    }

    async fn freeze(&mut self, _: &mut EntityContext<'_, Self>) -> Result<Bytes, ActorError> {
        Ok(Bytes::copy_from_slice(&self.0.to_be_bytes()))
    }

    async fn thaw(
        &mut self,
        _: &mut EntityContext<'_, Self>,
        state: Bytes,
    ) -> Result<(), ActorError> {
        self.0 = u64::from_be_bytes(state.as_ref().try_into()?);
        Ok(())
    }
}

/// A program in the cluster that hosts accounts: a member like the nodes, in this process.
async fn program(cluster: &Cluster, node: &str) -> RunningNode {
    let accounts = Kind::new("account".parse().expect("a kind"), |_: &EntityId| Account(0));
    ClusterNode::builder(node.parse().expect("a name"))
        .data_dir(cluster.data(node))
        .certs(cluster.certs(node))
        .listen(([127, 0, 0, 1], 0).into())
        .join([cluster.cluster_addr("n1").to_string()])
        .kind(accounts.movable())
        .start()
        .await
        .expect("it joins")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entity_of_a_programs_own_kind_is_not_moved_by_itself_and_goes_with_its_shard() {
    let cluster = Cluster::of(1, &[]).await;
    let operator = Operator(&cluster);
    let programs = [program(&cluster, "n2").await, program(&cluster, "n3").await];
    let ada: EntityRef<Order> = programs[0].entity("account/ada".parse().expect("an entity"));
    let (amount, at) = ada.ask(Order::Deposit(70), PATIENCE).await.expect("it answers");
    assert_eq!(amount, 70);
    let other = if at == "n2" { "n3" } else { "n2" };

    let said = operator.refused(&["migrate", "account/ada", "--to", other]).await;
    let why = "entities of kind account move with their shards, not one by one; `odeum drain n";
    assert!(said.contains(why), "{said}");
    let said = operator.refused(&["placement", "explain", "account/ada"]).await;
    let why = "entities of kind account are placed by shard, not one by one; account/ada is on n";
    assert!(said.contains(why), "{said}");

    operator.done(&["drain", &at]).await;
    let shown = operator.json(&["placement", "show"]).await;
    let nodes = shown["nodes"].as_array().expect("a list");
    let shards = |name: &str| {
        let node = nodes.iter().find(|it| it["node"] == name).expect("it is a member");
        node["shards"].as_u64()
    };
    assert_eq!((shards(&at), shards(other)), (Some(0), Some(64)), "{shown}");
    let found = ada.ask(Order::Show, PATIENCE).await.expect("it answers");
    assert_eq!(found, (70, other.to_owned()), "with what it has in memory");
    for program in programs {
        program.root().shutdown().await;
    }
}
