//! Measurements with a table of their own, most with a budget, one module for each.

use clap::ValueEnum;

use crate::report::Report;

pub mod entities;
pub mod faults;
pub mod generator;
pub mod migration;
pub mod move_faults;
pub mod store;

use self::faults::FaultsArgs;
use self::move_faults::MoveFaultsArgs;

/// A measurement with a table of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Measurement {
    /// What a million entities cost in memory, where they are and elsewhere.
    Entities,
    /// A million variables in three nodes that are all killed, and a session with a thousand
    /// watchers.
    Store,
    /// Guests that move between three nodes while they are called, a node that is drained, and one
    /// that is killed.
    Migration,
    /// The generator of load tests beside a bare client, and how exact its sends are.
    Generator,
    /// What the replicated store keeps of its promises while its nodes die, are cut off and lose
    /// what is on their disks. Takes root, and `ip` and `nft`.
    StoreFaults,
    /// What a guest keeps of its promises while it moves and nodes die, are cut off or stand still at
    /// each step of that. Takes root, and `ip` and `nft`.
    MoveFaults,
}

/// How much is measured.
#[derive(Debug)]
pub struct Wanted {
    /// Rounds; each row is their median.
    pub rounds: usize,
    /// Divides the work of a round.
    pub quick: usize,
    /// Decides what comes by lot, where anything does.
    pub seed: Option<u64>,
    /// Which faults of [`Measurement::StoreFaults`], and for how long they come, here and of
    /// [`Measurement::MoveFaults`].
    pub faults: FaultsArgs,
    /// Which faults of [`Measurement::MoveFaults`].
    pub move_faults: MoveFaultsArgs,
}

/// Measures; `say` is told what happens as it does. `None` where this machine does not allow it.
///
/// # Errors
/// If a process cannot be started or fails in the middle.
pub async fn measure(
    measurement: Measurement,
    wanted: Wanted,
    say: impl Fn(&str) + Send,
) -> anyhow::Result<Option<Report>> {
    let Wanted { rounds, quick, seed, faults, move_faults } = wanted;
    Ok(Some(match measurement {
        Measurement::Entities => entities::run(rounds, quick).await?,
        Measurement::Store => store::run(rounds, quick).await?,
        Measurement::Migration => migration::run(rounds, quick).await?,
        Measurement::Generator => generator::run(rounds, quick).await?,
        Measurement::StoreFaults | Measurement::MoveFaults if !faults::is_possible() => {
            return Ok(None);
        }
        Measurement::StoreFaults => faults::run(faults, seed, say).await?,
        Measurement::MoveFaults => move_faults::run(&move_faults, faults.time(), seed, say)?,
    }))
}
