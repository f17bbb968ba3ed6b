//! A program that is a cluster: three processes of it share bank accounts, each account active
//! on one of them. One process is killed; the accounts it had are open again on the others.
//!
//! `cargo run -p odeum-examples --example three_nodes`
#![expect(clippy::print_stdout, reason = "it tells a story")]

use std::collections::BTreeSet;
use std::error::Error;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use odeum_actors::ActorError;
use odeum_cluster::builder::RunningNode;
use odeum_cluster::entity::{Entity, EntityContext, EntityMessage, EntityRef, Kind};
use odeum_cluster::node::ClusterNode;
use odeum_cluster::transport::pki::Authority;
use odeum_proto::{EntityId, NodeId};
use serde::{Deserialize, Serialize};

const PATIENCE: Duration = Duration::from_secs(10);

/// An account. It is kept in memory only, so that what happens to it is plain to see: an entity
/// that must outlive its node keeps its state in the store.
#[derive(Default)]
struct Account {
    balance: u64,
}

#[derive(Debug, Serialize, Deserialize)]
enum Order {
    Deposit(u64),
    Withdraw(u64),
    Show,
}

/// What every order is answered with.
#[derive(Debug, Serialize, Deserialize)]
struct Statement {
    balance: u64,
    node: NodeId,
    refused: Option<String>,
}

impl EntityMessage for Order {
    type Reply = Statement;
}

impl Entity for Account {
    type Message = Order;

    async fn handle(
        &mut self,
        ctx: &mut EntityContext<'_, Self>,
        order: Order,
    ) -> Result<Statement, ActorError> {
        let mut refused = None;
        match order {
            Order::Deposit(amount) => self.balance += amount,
            Order::Withdraw(amount) => match self.balance.checked_sub(amount) {
                Some(left) => self.balance = left,
                None => refused = Some(format!("only {} left", self.balance)),
            },
            Order::Show => {}
        }
        Ok(Statement { balance: self.balance, node: ctx.node().clone(), refused })
    }
}

async fn node(
    name: &str,
    dir: &Path,
    join: Option<SocketAddr>,
) -> Result<RunningNode, Box<dyn Error>> {
    let accounts = Kind::new("account".parse()?, |_: &EntityId| Account::default());
    let node = ClusterNode::builder(name.parse()?)
        .data_dir(dir.join(name))
        .certs(dir.join(name).join("certs"))
        .listen(([127, 0, 0, 1], 0).into())
        .join(join.map(|addr| addr.to_string()))
        .kind(accounts);
    Ok(node.start().await?)
}

fn account(node: &RunningNode, owner: &str) -> Result<EntityRef<Order>, Box<dyn Error>> {
    Ok(node.entity(format!("account/{owner}").parse()?))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => story().await,
        [name, dir, join] => be_a_node(name, Path::new(dir), join.parse()?).await,
        _ => Err("it takes no arguments".into()),
    }
}

/// One of the other processes: a node until its parent ends.
async fn be_a_node(name: &str, dir: &Path, join: SocketAddr) -> Result<(), Box<dyn Error>> {
    let node = node(name, dir, Some(join)).await?;
    println!("{name} is up");
    let end = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0]));
    // The parent closes it, or is gone.
    let _ = end.await?;
    node.shutdown().await;
    Ok(())
}

async fn story() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let dir = folder.path();
    let authority = Authority::create(dir)?;
    for name in ["a", "b", "c"] {
        authority.issue(&name.parse()?, &dir.join(name).join("certs"))?;
    }
    let first = node("a", dir, None).await?;
    println!("a is up");
    let mut others = vec![
        process("b", dir.to_owned(), first.addr())?,
        process("c", dir.to_owned(), first.addr())?,
    ];

    let owners = ["ada", "bob", "cyd", "dot", "eve", "fay", "gus", "hal"];
    // The newcomers take their shares within a few seconds: new accounts are opened there.
    let mut places = BTreeSet::new();
    for n in 0.. {
        let opened = account(&first, &format!("account-{n}"))?;
        places.insert(opened.ask(Order::Show, PATIENCE).await?.node);
        if places.len() == 3 {
            println!("three nodes have accounts");
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for owner in owners {
        let theirs = account(&first, owner)?;
        theirs.tell(Order::Deposit(100)).await?;
        let statement = theirs.ask(Order::Withdraw(30), PATIENCE).await?;
        println!("{owner} has {} on {}", statement.balance, statement.node);
    }
    let statement = account(&first, "ada")?.ask(Order::Withdraw(1_000), PATIENCE).await?;
    println!("ada asks for 1000: {}", statement.refused.unwrap_or_default());

    if let Some(mut last) = others.pop() {
        println!("c is killed");
        last.kill()?;
        last.wait()?;
    }
    for owner in owners {
        // With a key it may be asked again when the node was lost in the middle.
        let key = format!("after-{owner}").parse()?;
        let theirs = account(&first, owner)?;
        let statement = theirs.ask_once(key, Order::Deposit(1), PATIENCE).await?;
        println!("{owner} has {} on {}", statement.balance, statement.node);
    }
    for mut other in others {
        drop(other.stdin.take());
        other.wait()?;
    }
    first.shutdown().await;
    println!("all stopped");
    Ok(())
}

/// Starts this program again as another node and waits until it is up.
fn process(name: &str, dir: PathBuf, join: SocketAddr) -> Result<Child, Box<dyn Error>> {
    let mut child = Command::new(std::env::current_exe()?)
        .args([name.as_ref(), dir.as_os_str(), join.to_string().as_ref()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output).read_line(&mut said)?;
    }
    print!("{said}");
    Ok(child)
}
