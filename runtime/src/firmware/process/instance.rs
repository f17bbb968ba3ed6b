//! A guest in a process of its own, as its host actor has it.

use std::sync::Arc;

use odeum_proto::http::{HttpAnswer, HttpRequest};

use super::{
    check::{self, Breach, Terms},
    link::Link,
    wire::{Happening, Outcome, Work},
};
use crate::firmware::{
    effect::{Answer, Variables},
    error::{GuestFailure, Hint},
    instance::Arrival,
};

/// A guest that handles messages. Dropping it kills its process.
#[derive(Debug)]
pub(in crate::firmware) struct ProcessInstance {
    link: Link,
    terms: Terms,
    memory_bytes: u64,
    hears_of_its_start: bool,
}

impl ProcessInstance {
    pub(super) fn new(link: Link, terms: Terms, memory_bytes: u64, hears: bool) -> Self {
        Self { link, terms, memory_bytes, hears_of_its_start: hears }
    }

    /// As [`Instance::handle`](crate::firmware::Instance::handle).
    pub(in crate::firmware) async fn handle(
        mut self,
        arrival: Arrival<'_>,
        variables: Arc<dyn Variables>,
    ) -> Result<(Self, Answer), GuestFailure> {
        match &arrival {
            Arrival::TimedOut { number } => self.terms.timed_out(*number),
            Arrival::Answered { number, .. } => self.terms.answered(*number),
            _ => {}
        }
        let work = Work::Handle(Happening::from(arrival));
        let handled = match self.link.work(work, Some(variables)).await? {
            Outcome::Handled(Ok(handled)) => handled,
            Outcome::Handled(Err(failure)) => return Err(check::failed(failure)),
            _ => return Err(self.link.breached(&other_outcome())),
        };
        self.terms.handled(&handled).map_err(|breach| self.link.breached(&breach))?;
        self.memory_bytes = handled.memory_bytes;
        Ok((self, handled.answer.into()))
    }

    pub(in crate::firmware) fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    pub(in crate::firmware) fn hears_of_its_start(&self) -> bool {
        self.hears_of_its_start
    }

    pub(in crate::firmware) fn pid(&self) -> u32 {
        self.link.pid()
    }

    /// Why its process ended, once it has by itself.
    pub(in crate::firmware) fn ended(
        &self,
    ) -> impl Future<Output = Option<GuestFailure>> + Send + 'static {
        self.link.ended()
    }

    /// Lets the guest take leave.
    pub(in crate::firmware) async fn end(self) {
        if let Err(error) = self.link.work(Work::End, None).await {
            tracing::warn!(pid = self.link.pid(), %error, "host process ended without taking leave");
        }
    }
}

/// A process that runs a job or serves HTTP. Dropping it kills it.
#[derive(Debug)]
pub(in crate::firmware) struct HostProcess {
    link: Link,
}

impl HostProcess {
    pub(super) fn new(link: Link) -> Self {
        Self { link }
    }

    pub(in crate::firmware) fn pid(&self) -> u32 {
        self.link.pid()
    }

    /// As [`ProcessInstance::ended`].
    pub(in crate::firmware) fn ended(
        &self,
    ) -> impl Future<Output = Option<GuestFailure>> + Send + 'static {
        self.link.ended()
    }

    /// Runs the job to its end.
    pub(in crate::firmware) async fn run(&self) -> Result<(i32, Hint), GuestFailure> {
        match self.link.work(Work::Run, None).await? {
            Outcome::Ran(ended) => ended.map_err(check::failed),
            _ => Err(self.link.breached(&other_outcome())),
        }
    }

    /// Has a request answered, beside others.
    pub(in crate::firmware) async fn serve(
        &self,
        request: HttpRequest,
    ) -> Result<HttpAnswer, GuestFailure> {
        match self.link.work(Work::Serve(request), None).await? {
            Outcome::Served(Ok(answer)) => {
                check::served(&answer).map_err(|breach| self.link.breached(&breach))?;
                Ok(answer)
            }
            Outcome::Served(Err(failure)) => Err(check::failed(failure)),
            _ => Err(self.link.breached(&other_outcome())),
        }
    }
}

fn other_outcome() -> Breach {
    Breach::new("an outcome of something else")
}
