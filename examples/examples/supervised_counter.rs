//! The smallest tree: a counter that crashes on a bad message and is restarted.
//!
//! `cargo run -p odeum-examples --example supervised_counter`
#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use std::error::Error;
use std::time::Duration;

use odeum_actors::{Actor, ActorError, Change, Context, Reply, Strategy, SupervisorSpec, child};

struct Counter {
    count: u64,
}

enum Count {
    Add(u64),
    Divide(u64),
    Get(Reply<u64>),
}

impl Actor for Counter {
    type Message = Count;

    async fn handle(&mut self, _: &mut Context<Self>, message: Count) -> Result<(), ActorError> {
        match message {
            Count::Add(n) => self.count += n,
            Count::Divide(n) => {
                let divided = self.count.checked_div(n);
                self.count = divided.ok_or_else(|| ActorError::msg("division by zero"))?;
            }
            Count::Get(reply) => reply.send(self.count),
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (counter, spec) = child("counter", || Counter { count: 0 });
    let root = SupervisorSpec::new("root", Strategy::OneForOne).child(spec).start().await?;
    let mut events = root.events();
    let second = Duration::from_secs(1);

    counter.tell(Count::Add(40)).await?;
    counter.tell(Count::Add(2)).await?;
    println!("the counter says {}", counter.ask(second, Count::Get).await?);

    println!("now it is told to divide by zero");
    counter.tell(Count::Divide(0)).await?;
    loop {
        match events.next().await?.change {
            Change::Exited(exit) => println!("  it {exit}"),
            Change::Restarting { after, .. } => println!("  it starts again in {after:?}"),
            Change::Ready => break,
            _ => {}
        }
    }
    // The handle is the same; the state began anew.
    println!("the same handle still works; it says {}", counter.ask(second, Count::Get).await?);
    println!("{}", root.tree().await);
    root.shutdown().await;
    Ok(())
}
