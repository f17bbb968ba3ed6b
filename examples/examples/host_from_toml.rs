//! An application described in TOML: which services, where each runs, on what it depends.
//! It runs until Ctrl-C or SIGTERM; here it sends itself one after a moment.
//!
//! `cargo run -p odeum-examples --example host_from_toml [FILE]`
#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use odeum_actors::config::{self, Origin, Sources};
use odeum_actors::{ActorError, Catalog, Host, HostConfig, Service, ServiceContext, Settings};
use serde::Deserialize;

/// Ticks.
#[derive(Deserialize)]
struct Clock {
    #[serde(with = "config::duration")]
    every: Duration,
}

impl Service for Clock {
    async fn run(&mut self, ctx: &mut ServiceContext) -> Result<(), ActorError> {
        let mut interval = tokio::time::interval(self.every);
        loop {
            tokio::select! {
                biased;
                () = ctx.stopped() => return Ok(()),
                _ = interval.tick() => {}
            }
            ctx.send(b"tick".to_vec()).await;
        }
    }
}

/// Shows what it is sent.
struct Display;

impl Service for Display {
    async fn run(&mut self, ctx: &mut ServiceContext) -> Result<(), ActorError> {
        while let Some(message) = ctx.receive().await {
            let text = String::from_utf8_lossy(&message).into_owned();
            println!("  {} (process {}): {text}", ctx.name(), std::process::id());
        }
        println!("  {} stops", ctx.name());
        Ok(())
    }
}

fn main() -> ExitCode {
    let catalog = Catalog::new()
        .with("clock", |settings: &Settings| settings.read::<Clock>())
        .with("display", |_: &Settings| Ok(Display));
    if let Some(code) = catalog.enter() {
        return code;
    }
    match application(&catalog) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn application(catalog: &Catalog) -> Result<(), Box<dyn Error>> {
    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/host.toml"));
    let file = std::env::args().nth(1).map_or_else(beside, PathBuf::from);
    let resolved = Sources::gather("HOST", Some(&file), None)?.resolve::<HostConfig>()?;
    for entry in resolved.entries()?.iter().filter(|entry| entry.origin != Origin::Default) {
        println!("{} = {}  # {}", entry.key, entry.value, entry.origin);
    }
    let host = Host::new(&resolved.config, catalog)?.start().await?;
    println!("{}", host.root().tree().await);

    let demonstrate = async {
        let (Some(clock), Some(uplink)) = (host.service("clock"), host.service("uplink")) else {
            return Ok(());
        };
        let mut ticks = clock.messages();
        for _ in 0..3 {
            let tick = ticks.next().await?;
            uplink.send(tick.to_vec()).await?;
        }
        println!("SIGTERM: everything stops, last started first");
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM)?;
        Ok::<_, Box<dyn Error>>(())
    };
    let (exit, shown) = tokio::join!(host.run(), demonstrate);
    shown?;
    println!("the host {}", exit?);
    Ok(())
}
