//! The description of an application, as it stands in a TOML file.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::child::ChildSpec;
use crate::policy::backoff::Backoff;
use crate::policy::{Intensity, Restart, Shutdown, Strategy};
use crate::service::Executor;

/// An application.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct HostConfig {
    /// Its name, which is the root's.
    pub name: Arc<str>,
    /// Which of the root's children are restarted when one crashes.
    pub strategy: Strategy,
    /// How many restarts the root tolerates.
    pub intensity: IntensityConfig,
    /// Supervisors below the root, by name.
    pub supervisors: BTreeMap<Arc<str>, SupervisorConfig>,
    /// The services, by name.
    pub services: BTreeMap<Arc<str>, ServiceConfig>,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            name: "host".into(),
            strategy: Strategy::default(),
            intensity: IntensityConfig::default(),
            supervisors: BTreeMap::new(),
            services: BTreeMap::new(),
        }
    }
}

/// A supervisor below the root.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct SupervisorConfig {
    /// Which of its services are restarted when one crashes.
    pub strategy: Strategy,
    /// How many restarts it tolerates.
    pub intensity: IntensityConfig,
}

/// How many restarts are tolerated.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct IntensityConfig {
    /// Restarts inside the window; the next one is too many.
    pub max_restarts: u32,
    /// The window, such as `"10s"`.
    #[serde(with = "crate::config::duration")]
    pub within: Duration,
}

impl Default for IntensityConfig {
    fn default() -> Self {
        let Intensity { max_restarts, within } = Intensity::default();
        Self { max_restarts, within }
    }
}

impl IntensityConfig {
    pub(crate) fn to_intensity(&self) -> Intensity {
        Intensity::new(self.max_restarts, self.within)
    }
}

/// A service.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ServiceConfig {
    /// Its kind in the catalogue.
    pub kind: Arc<str>,
    /// Where it runs.
    pub executor: Executor,
    /// Whether it is started again when it ends.
    pub restart: Restart,
    /// The wait before a restart.
    pub backoff: BackoffConfig,
    /// How long it may take to stop before it is killed.
    #[serde(with = "crate::config::duration")]
    pub shutdown: Duration,
    /// How long it may take to be ready.
    #[serde(with = "crate::config::duration")]
    pub start_timeout: Duration,
    /// How often a process gives a sign of life.
    #[serde(with = "crate::config::duration")]
    pub heartbeat: Duration,
    /// After how long without one it counts as crashed.
    #[serde(with = "crate::config::duration")]
    pub silence: Duration,
    /// The services that must be ready before it starts.
    pub depends_on: Vec<Arc<str>>,
    /// The supervisor it belongs to; the root if none.
    pub supervisor: Option<Arc<str>>,
    /// What it is made with.
    pub settings: toml::Table,
}

impl Default for ServiceConfig {
    fn default() -> Self {
        Self {
            kind: Arc::from(""),
            executor: Executor::default(),
            restart: Restart::default(),
            backoff: BackoffConfig::default(),
            shutdown: Duration::from_secs(5),
            start_timeout: Duration::from_secs(30),
            heartbeat: Duration::from_millis(500),
            silence: Duration::from_secs(5),
            depends_on: Vec::new(),
            supervisor: None,
            settings: toml::Table::new(),
        }
    }
}

impl ServiceConfig {
    pub(crate) fn apply(&self, child: ChildSpec) -> ChildSpec {
        child
            .restart(self.restart)
            .backoff(self.backoff.to_backoff())
            .shutdown(Shutdown::Timeout(self.shutdown))
            .start_timeout(self.start_timeout)
    }
}

/// The wait before a restart: exponential with jitter between these.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct BackoffConfig {
    /// The first wait; `"0s"` means no wait at all.
    #[serde(with = "crate::config::duration")]
    pub first: Duration,
    /// The longest.
    #[serde(with = "crate::config::duration")]
    pub cap: Duration,
    /// After how long a run counts as healthy.
    #[serde(with = "crate::config::duration")]
    pub reset_after: Duration,
}

impl Default for BackoffConfig {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(50),
            cap: Duration::from_secs(5),
            reset_after: Duration::from_secs(30),
        }
    }
}

impl BackoffConfig {
    pub(crate) fn to_backoff(&self) -> Backoff {
        if self.first.is_zero() {
            return Backoff::immediate();
        }
        Backoff::exponential(self.first, self.cap).reset_after(self.reset_after)
    }
}
