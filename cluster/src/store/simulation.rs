//! Whole stores in simulated time, over a simulated network, on simulated disks: from a seed, and
//! so again and again.
//!
//! Everything of the store is real, openraft and the files' formats included; what is not is the
//! clock, the network (`turmoil`), the disks ([`disk`]) and chance ([`entropy`]). Each run is a
//! process of its own: what is counted over all of a process, as a runtime's seed is, begins anew.
//!
//! What must be true of a run is in [`history`] and in [`run`].

mod client;
mod disk;
mod entropy;
mod history;
mod host;
mod log;
mod plan;
mod run;
mod wire;
mod world;

use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use self::run::{Outcome, Run};
use super::seeds;

/// Runs in a usual test.
const SEEDS: u64 = 6;

/// Of them so many are made twice.
const TWICE: u64 = 1;

/// Whether any task of this process has panicked.
static PANICKED: AtomicBool = AtomicBool::new(false);

/// A run in this process; what it was, in a line.
fn run_here(seed: u64) -> Outcome<String> {
    std::panic::set_hook(Box::new(|panic| {
        PANICKED.store(true, Ordering::SeqCst);
        eprintln!("{panic}\n{}", std::backtrace::Backtrace::capture());
    }));
    if std::env::var_os("RUST_LOG").is_some() {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let written = tracing_subscriber::fmt().with_env_filter(filter).without_time();
        let _ = written.with_ansi(false).with_writer(std::io::stderr).try_init();
    }
    let thread = std::thread::spawn(move || {
        entropy::decide(seed);
        let mut run = Run::new(seed);
        let made = run.make();
        let plan = &run.world.plan;
        let faults: Vec<_> = plan.faults.iter().map(|timed| timed.fault).collect();
        let events = run.world.now().events.len();
        let line = format!(
            "{} in {:?}: {} nodes, {events} events, {faults:?}",
            run.world.digest(),
            run.sim.elapsed(),
            plan.nodes,
        );
        made.map_err(|fault| format!("{fault}\n{line}\n{}", run.situation()))?;
        Ok(line)
    });
    thread.join().map_err(|_| "the run has panicked".to_owned())?
}

const TEST: &str = "store::simulation::whatever_fails_what_was_promised_is_kept_from_each_seed";

/// A run in a process of its own; the line that it says of itself.
fn run_apart(seed: u64) -> Outcome<String> {
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let ran = Command::new(this)
        .args(["--exact", TEST, "--nocapture"])
        .env(seeds::ONE, seed.to_string())
        .output()
        .map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    let line = said.lines().find_map(|line| line.strip_prefix("run: "));
    match line {
        Some(line) if ran.status.success() => Ok(line.to_owned()),
        _ => {
            let cried = String::from_utf8_lossy(&ran.stderr);
            Err(format!("seed {seed}\n{said}\n{cried}\nagain: {}", seeds::repeat(TEST, seed)))
        }
    }
}

#[test]
fn whatever_fails_what_was_promised_is_kept_from_each_seed() {
    let seeds = seeds::seeds(SEEDS);
    if std::env::var_os(seeds::ONE).is_some() {
        let ran = run_here(seeds.start);
        println!("\nrun: {}", ran.clone().unwrap_or_default());
        if let Err(fault) = ran {
            panic!("{fault}");
        }
        return;
    }
    let next = Mutex::new(seeds);
    let failed = Mutex::new(Vec::new());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.lock().expect("not poisoned").next();
                    let Some(seed) = seed else { return };
                    let ran = run_apart(seed).and_then(|line| match seed {
                        TWICE.. => Ok(()),
                        _ if run_apart(seed)? == line => Ok(()),
                        _ => Err(format!("two runs from seed {seed} differ")),
                    });
                    if let Err(fault) = ran {
                        println!("{fault}");
                        failed.lock().expect("not poisoned").push(seed);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("not poisoned");
    assert!(failed.is_empty(), "what was promised was not kept from the seeds {failed:?}");
}
