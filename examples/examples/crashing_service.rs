//! One service under every executor: in the loop, on a thread, in a process, in a process
//! with a runtime of its own. It crashes in each, and each time it is back.
//!
//! `cargo run -p odeum-examples --example crashing_service`
#![expect(clippy::print_stdout, clippy::panic, reason = "an example that crashes on purpose")]

use std::error::Error;
use std::process::ExitCode;

use odeum_actors::{
    ActorError, Backoff, Catalog, Change, Executor, Service, ServiceContext, ServiceSpec, Settings,
    Strategy, SupervisorSpec,
};

struct Greeter;

impl Greeter {
    fn new(_: &Settings) -> Result<Self, ActorError> {
        Ok(Self)
    }
}

impl Service for Greeter {
    async fn run(&mut self, ctx: &mut ServiceContext) -> Result<(), ActorError> {
        while let Some(name) = ctx.receive().await {
            match name.as_slice() {
                b"panic" => panic!("told to"),
                // Only sensible in a process of its own: anywhere else it ends everything.
                b"abort" => std::process::abort(),
                name => {
                    let name = String::from_utf8_lossy(name);
                    let from = std::process::id();
                    ctx.send(format!("hello {name} from process {from}").into_bytes()).await;
                }
            }
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    let catalog = Catalog::new().with("greeter", Greeter::new);
    // In a child process this runs the service and nothing else.
    if let Some(code) = catalog.enter() {
        return code;
    }
    // The panics here are the point; their traces would bury the story.
    std::panic::set_hook(Box::new(|_| {}));
    match application(&catalog) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("it failed: {error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn application(catalog: &Catalog) -> Result<(), Box<dyn Error>> {
    println!("this is process {}", std::process::id());
    let root = SupervisorSpec::new("root", Strategy::OneForOne).start().await?;
    for (executor, crash) in [
        (Executor::Async, "panic"),
        (Executor::Thread, "panic"),
        (Executor::Process, "abort"),
        (Executor::AsyncProcess, "abort"),
    ] {
        println!("{executor:?}");
        let (greeter, child) = catalog.service(ServiceSpec::new("greeter", "greeter", executor))?;
        root.add(child.backoff(Backoff::immediate())).await?;
        let mut messages = greeter.messages();
        greeter.send(b"world".to_vec()).await?;
        println!("  {}", String::from_utf8_lossy(&messages.next().await?));

        let mut events = root.events();
        greeter.send(crash.into()).await?;
        loop {
            match events.next().await?.change {
                Change::Exited(exit) => println!("  told to {crash}, it {exit}"),
                Change::Ready => break,
                _ => {}
            }
        }
        greeter.send(b"again".to_vec()).await?;
        println!("  {}", String::from_utf8_lossy(&messages.next().await?));
        root.remove("greeter").await?;
    }
    root.shutdown().await;
    Ok(())
}
