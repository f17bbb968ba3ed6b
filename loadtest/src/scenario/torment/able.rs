//! Which faults can come on this machine, in this cluster.

use crate::scenario::spec::Fault;

/// What this machine and this cluster allow.
#[derive(Debug, Clone, Default)]
pub(crate) struct Able {
    /// Why nodes are not in network namespaces, if they are not.
    pub(crate) no_net: Option<String>,
    /// Why packets cannot be delayed.
    pub(crate) no_delay: Option<String>,
    /// Why no disk can be filled.
    pub(crate) no_disk: Option<String>,
    /// Why the time of day cannot be moved, and disks not be made slower.
    pub(crate) no_shim: Option<String>,
    /// Whether the nodes are somebody else's.
    pub(crate) is_foreign: bool,
}

impl Able {
    /// Why a fault cannot come, if it cannot.
    pub(crate) fn prevents(&self, fault: &Fault) -> Option<String> {
        let of_api =
            matches!(fault, Fault::Move(_) | Fault::Drain(_) | Fault::Update(_) | Fault::Roll(_));
        if self.is_foreign && !of_api {
            return Some("the harness has not started these nodes".to_owned());
        }
        match fault {
            Fault::Isolate(_) | Fault::Split(_) | Fault::Loss(_) | Fault::Bandwidth(_) => {
                self.no_net.clone()
            }
            Fault::Delay(_) => self.no_net.clone().or_else(|| self.no_delay.clone()),
            Fault::DiskFull(_) => self.no_disk.clone(),
            Fault::SlowDisk(_) | Fault::Clock(_) => self.no_shim.clone(),
            Fault::Kill(_)
            | Fault::Pause(_)
            | Fault::Restart(_)
            | Fault::Roll(_)
            | Fault::Move(_)
            | Fault::Drain(_)
            | Fault::Update(_) => None,
        }
    }
}
