//! How firmware fares on the node that runs it, as that node tells others who are asked.

use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, ReplicaId};

/// Most bytes of the last error in a report. The whole text is in the log of the node.
pub const ERROR_BYTES: usize = 2_048;

/// One replica of a firmware on the node that answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirmwareReport {
    /// Its name.
    pub name: ReplicaId,
    /// The activation.
    pub epoch: Epoch,
    /// How it fares.
    pub state: HostState,
    /// How often its instance was restarted in this activation.
    pub restarts: u32,
    /// Linear memory of its instance, while there is one.
    pub memory_bytes: Option<u64>,
    /// The time for which it computes, in percent of one core, smoothed over some ten seconds.
    pub cpu_percent: u32,
    /// Why it was restarted last, or why it does not run; at most [`ERROR_BYTES`].
    pub last_error: Option<String>,
}

/// How an instance fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostState {
    /// Its package is fetched, compiled or instantiated.
    Starting,
    /// It takes messages.
    Running,
    /// It ended by an error and is started again after a pause.
    Restarting,
    /// It ended too often, or cannot be started.
    Failed,
    /// It is a job that ran to its end.
    Completed {
        /// Its exit code.
        code: i32,
    },
    /// It has had no message for a while, and its instance is gone until the next one.
    Idle,
    /// It runs in a process of its own.
    RunningApart {
        /// That process on its node.
        pid: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    #[test]
    fn the_bytes_of_a_report_are_those_of_this_wire_version() {
        let report = |state, last_error| FirmwareReport {
            name: "counter".parse().expect("a name"),
            epoch: Epoch(7),
            state,
            restarts: 3,
            memory_bytes: Some(65_536),
            cpu_percent: 2,
            last_error,
        };
        let reports = vec![
            report(HostState::Starting, None),
            report(HostState::Running, None),
            report(HostState::Restarting, Some("trap".to_owned())),
            report(HostState::Failed, None),
            report(HostState::Completed { code: -1 }, None),
            report(HostState::Idle, None),
            report(HostState::RunningApart { pid: 7 }, None),
        ];
        let bytes = codec::encode(&reports).expect("encodes");
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let golden = [
            "07",
            "07636f756e74657207000301fc000001000200",
            "07636f756e74657207010301fc000001000200",
            "07636f756e74657207020301fc0000010002010474726170",
            "07636f756e74657207030301fc000001000200",
            "07636f756e7465720704010301fc000001000200",
            "07636f756e74657207050301fc000001000200",
            "07636f756e7465720706070301fc000001000200",
        ];
        assert_eq!(hex, golden.concat());
        assert_eq!(codec::decode::<Vec<FirmwareReport>>(&bytes), Ok(reports));
    }
}
