//! Guests that run to their end.

use super::{
    abi::{component, wasi_p1},
    error::{GuestFailure, Hint},
    module::{Linked, Module},
    setting::Setting,
};
use crate::package::manifest::RestartWhen;

/// How a job ended.
pub(super) type Ended = Result<(i32, Hint), GuestFailure>;

/// Runs a job to its end: its exit code, and what it was denied. What it may compute in all is
/// bounded when its manifest states a `message-time`.
///
/// # Errors
/// [`GuestFailure`] when it ended otherwise than by itself, or is a guest of another kind.
pub async fn run(module: &Module, setting: &Setting) -> Result<(i32, Hint), GuestFailure> {
    let manifest = module.manifest();
    let time = manifest.limits.message_time.map(|time| time.duration());
    match module.linked() {
        Linked::Command(pre) => {
            let guest = wasi_p1::guest(manifest, setting).await?;
            wasi_p1::run(pre, guest, time).await
        }
        Linked::Cli(pre) => component::run(pre, manifest, setting, time).await,
        Linked::Core(_)
        | Linked::Reactor(_)
        | Linked::Firmlet(_)
        | Linked::Http(_)
        | Linked::Actor(_) => Err(GuestFailure::OtherKind { kind: module.kind() }),
    }
}

/// What follows the end of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Follows {
    /// Nothing: it has completed with this exit code.
    Completed(i32),
    /// It failed, and stays so.
    Failed(GuestFailure),
    /// It runs again, by the restart policy. The error says why.
    Again(GuestFailure),
}

/// What follows an end, by the manifest's `restart.when`.
pub(super) fn follows(ended: Ended, when: RestartWhen) -> Follows {
    let exited = |code, hint| GuestFailure::Exited { code, hint };
    match (ended, when) {
        (Ok((0, hint)), RestartWhen::Always) => Follows::Again(exited(0, hint)),
        (Ok((code, _)), RestartWhen::Never) => Follows::Completed(code),
        (Ok((0, _)), RestartWhen::OnFailure) => Follows::Completed(0),
        (Ok((code, hint)), _) => Follows::Again(exited(code, hint)),
        (Err(failure), RestartWhen::Never) => Follows::Failed(failure),
        (Err(failure), _) => Follows::Again(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_an_end_is_for_the_manifest_to_say() {
        let exit = |code| Ok((code, Hint::default()));
        let trap = || GuestFailure::Trapped { reason: "unreachable".into(), frames: Vec::new() };
        let exited = |code| GuestFailure::Exited { code, hint: Hint::default() };
        for (ended, when, then) in [
            (exit(0), RestartWhen::OnFailure, Follows::Completed(0)),
            (exit(3), RestartWhen::OnFailure, Follows::Again(exited(3))),
            (Err(trap()), RestartWhen::OnFailure, Follows::Again(trap())),
            (exit(0), RestartWhen::Never, Follows::Completed(0)),
            (exit(3), RestartWhen::Never, Follows::Completed(3)),
            (Err(trap()), RestartWhen::Never, Follows::Failed(trap())),
            (exit(0), RestartWhen::Always, Follows::Again(exited(0))),
            (exit(3), RestartWhen::Always, Follows::Again(exited(3))),
            (Err(trap()), RestartWhen::Always, Follows::Again(trap())),
        ] {
            assert_eq!(follows(ended, when), then);
        }
    }
}
