//! How firmware fares on the node that runs it, as that node tells others who are asked.

use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, Name};

/// Most bytes of the last error in a report. The whole text is in the log of the node.
pub const ERROR_BYTES: usize = 2_048;

/// One firmware on the node that answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirmwareReport {
    /// Its name.
    pub name: Name,
    /// The activation.
    pub epoch: Epoch,
    /// How it fares.
    pub state: HostState,
    /// How often its instance was restarted in this activation.
    pub restarts: u32,
    /// Linear memory of its instance, while there is one.
    pub memory_bytes: Option<u64>,
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
            last_error,
        };
        let reports = vec![
            report(HostState::Starting, None),
            report(HostState::Running, None),
            report(HostState::Restarting, Some("trap".to_owned())),
            report(HostState::Failed, None),
            report(HostState::Completed { code: -1 }, None),
            report(HostState::RunningApart { pid: 7 }, None),
        ];
        let bytes = codec::encode(&reports).expect("encodes");
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let golden = [
            "06",
            "07636f756e74657207000301fc0000010000",
            "07636f756e74657207010301fc0000010000",
            "07636f756e74657207020301fc00000100010474726170",
            "07636f756e74657207030301fc0000010000",
            "07636f756e7465720704010301fc0000010000",
            "07636f756e7465720705070301fc0000010000",
        ];
        assert_eq!(hex, golden.concat());
        assert_eq!(codec::decode::<Vec<FirmwareReport>>(&bytes), Ok(reports));
    }
}
