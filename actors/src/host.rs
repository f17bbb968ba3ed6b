//! An application from a declarative description: services, where each runs, on what it
//! depends, how it is restarted.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::child::ChildSpec;
use crate::error::StartError;
use crate::policy::exit::Exit;
use crate::service::{Catalog, ServiceHandle, ServiceSpec, Settings, UnknownKind};
use crate::supervisor::{Supervisor, SupervisorSpec};

pub use self::config::{
    BackoffConfig, HostConfig, IntensityConfig, ServiceConfig, SupervisorConfig,
};
use self::order::Node;
pub use self::order::OrderError;

mod config;
mod order;

/// An application to be: supervisors and services in start order.
#[derive(Debug)]
pub struct Host {
    root: SupervisorSpec,
    services: BTreeMap<Arc<str>, ServiceHandle>,
}

/// Why a description makes no application.
#[derive(Debug, Error)]
pub enum HostError {
    /// A service names what does not exist, or services wait for each other.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// A service is of a kind that the catalogue does not know.
    #[error("service {service}: {reason}")]
    Kind {
        /// The service.
        service: Arc<str>,
        /// What is unknown.
        reason: UnknownKind,
    },
}

impl Host {
    /// Makes the application that `config` describes of the services in `catalog`.
    ///
    /// # Errors
    /// If the description does not fit together.
    pub fn new(config: &HostConfig, catalog: &Catalog) -> Result<Self, HostError> {
        let mut services = BTreeMap::new();
        let mut root = SupervisorSpec::new(Arc::clone(&config.name), config.strategy)
            .intensity(config.intensity.to_intensity());
        for node in order::order(config)? {
            match node {
                Node::Service(name) => {
                    root = root.child(service(config, catalog, &name, &mut services)?);
                }
                Node::Supervisor { name, members } => {
                    let described = config.supervisors.get(&name).cloned().unwrap_or_default();
                    let mut supervisor = SupervisorSpec::new(name, described.strategy)
                        .intensity(described.intensity.to_intensity());
                    for member in members {
                        supervisor =
                            supervisor.child(service(config, catalog, &member, &mut services)?);
                    }
                    root = root.supervisor(supervisor);
                }
            }
        }
        Ok(Self { root, services })
    }

    /// The handle of a service, valid at once.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&ServiceHandle> {
        self.services.get(name)
    }

    /// Starts everything in its order and returns when all is ready.
    ///
    /// # Errors
    /// If a service does not start; those before it were stopped again.
    pub async fn start(self) -> Result<RunningHost, StartError> {
        let root = self.root.start().await?;
        Ok(RunningHost { root, services: self.services })
    }
}

fn service(
    config: &HostConfig,
    catalog: &Catalog,
    name: &Arc<str>,
    handles: &mut BTreeMap<Arc<str>, ServiceHandle>,
) -> Result<ChildSpec, HostError> {
    let described = config.services.get(name).cloned().unwrap_or_default();
    let spec = ServiceSpec::new(Arc::clone(name), described.kind.clone(), described.executor)
        .settings(Settings(described.settings.clone()))
        .heartbeat(described.heartbeat, described.silence);
    let (handle, child) = catalog
        .service(spec)
        .map_err(|reason| HostError::Kind { service: Arc::clone(name), reason })?;
    handles.insert(Arc::clone(name), handle);
    Ok(described.apply(child))
}

/// An application under way.
#[derive(Clone)]
pub struct RunningHost {
    root: Supervisor,
    services: BTreeMap<Arc<str>, ServiceHandle>,
}

impl RunningHost {
    /// The handle of a service.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&ServiceHandle> {
        self.services.get(name)
    }

    /// The root of its tree: for events, the tree, further children.
    #[must_use]
    pub fn root(&self) -> &Supervisor {
        &self.root
    }

    /// Stops everything, in reverse order.
    pub async fn shutdown(&self) {
        self.root.shutdown().await;
    }

    /// Runs until SIGTERM or SIGINT, then stops everything in reverse order; or until the
    /// application gives up by itself.
    ///
    /// # Errors
    /// If signals cannot be received.
    pub async fn run(&self) -> std::io::Result<Exit> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let signalled = any(&mut terminate, &mut interrupt);
        tokio::select! {
            biased;
            () = signalled => {
                self.root.shutdown().await;
                Ok(self.root.finished().await)
            }
            exit = self.root.finished() => Ok(exit),
        }
    }
}

async fn any(a: &mut Signal, b: &mut Signal) {
    tokio::select! {
        _ = a.recv() => {}
        _ = b.recv() => {}
    }
}

impl fmt::Debug for RunningHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningHost").field("root", &self.root).finish_non_exhaustive()
    }
}
