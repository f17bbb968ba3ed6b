//! The kinds of services an application has: how each is made from its settings.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::actor::ActorError;
use crate::config::suggest::nearest;

use super::{Service, ServiceContext};

/// The kinds of services an application has. Cheap to clone.
///
/// A child process of the application finds its service here, so [`Catalog::enter`] must be
/// the first thing `main` does when a service runs as a process.
#[derive(Clone, Default)]
pub struct Catalog {
    kinds: Arc<BTreeMap<Arc<str>, Factory>>,
}

type Factory = Arc<dyn Fn(&Settings) -> Result<Box<dyn AnyService>, ActorError> + Send + Sync>;

/// There is no such kind of service.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("there is no kind of service named {kind}{}", nearest.as_ref().map(|n| format!("; did you mean {n}?")).unwrap_or_default())]
pub struct UnknownKind {
    /// What was asked for.
    pub kind: Arc<str>,
    /// The most similar kind there is.
    pub nearest: Option<Arc<str>>,
}

impl Catalog {
    /// An empty catalogue.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a kind. `make` is called for every start, in the process it runs in.
    #[must_use]
    pub fn with<S: Service>(
        self,
        kind: impl Into<Arc<str>>,
        make: impl Fn(&Settings) -> Result<S, ActorError> + Send + Sync + 'static,
    ) -> Self {
        let mut kinds = (*self.kinds).clone();
        let factory: Factory = Arc::new(move |settings| Ok(Box::new(make(settings)?)));
        kinds.insert(kind.into(), factory);
        Self { kinds: Arc::new(kinds) }
    }

    pub(crate) fn knows(&self, kind: &Arc<str>) -> Result<(), UnknownKind> {
        if self.kinds.contains_key(kind) {
            return Ok(());
        }
        let nearest = nearest(kind, self.kinds.keys().map(|kind| &**kind)).map(Arc::from);
        Err(UnknownKind { kind: Arc::clone(kind), nearest })
    }

    pub(crate) fn make(
        &self,
        kind: &Arc<str>,
        settings: &Settings,
    ) -> Result<Box<dyn AnyService>, ActorError> {
        match self.kinds.get(kind) {
            Some(factory) => factory(settings),
            None => Err(self
                .knows(kind)
                .err()
                .map_or_else(|| ActorError::msg("unknown kind of service"), ActorError::from)),
        }
    }
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.kinds.keys()).finish()
    }
}

/// What a service is made with: a table of settings.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings(pub toml::Table);

impl Settings {
    /// The settings as a type.
    ///
    /// # Errors
    /// If they do not fit; the error names the key.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ActorError> {
        Ok(self.0.clone().try_into()?)
    }
}

type Run<'a> = Pin<Box<dyn Future<Output = Result<(), ActorError>> + Send + 'a>>;

/// A service without its type.
pub(crate) trait AnyService: Send {
    fn start<'a>(&'a mut self, ctx: &'a mut ServiceContext) -> Run<'a>;
    fn run<'a>(&'a mut self, ctx: &'a mut ServiceContext) -> Run<'a>;
    fn stop(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

impl<S: Service> AnyService for S {
    fn start<'a>(&'a mut self, ctx: &'a mut ServiceContext) -> Run<'a> {
        Box::pin(Service::start(self, ctx))
    }

    fn run<'a>(&'a mut self, ctx: &'a mut ServiceContext) -> Run<'a> {
        Box::pin(Service::run(self, ctx))
    }

    fn stop(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(Service::stop(self))
    }
}
