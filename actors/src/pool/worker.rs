//! What a user writes for a pool, a [`Worker`], and the actor around it.
//!
//! | message | from | answer |
//! |---|---|---|
//! | a ticket | the pool's queue | the result to the job's caller, `Finished` to the queue |

use std::future::Future;
use std::sync::Arc;

use tokio::time::Instant;

use crate::actor::{Actor, ActorError};
use crate::context::Context;
use crate::handle::Handle;

use super::core::{Event, JobId};
use super::queue::QueueMessage;
use super::ticket::{Begin, Task, Ticket};

/// Does the jobs of a pool, one at a time. Every start and restart makes a new value.
pub trait Worker: Sized + Send + 'static {
    /// What it is given.
    type Job: Send + 'static;
    /// What comes of it. What can go wrong with a job belongs in here, as a `Result`.
    type Output: Send + 'static;

    /// Runs before the first job; until it has returned `Ok` the worker is given none.
    ///
    /// # Errors
    /// An error means that this start failed; it is tried again after the pool's backoff.
    fn started(&mut self) -> impl Future<Output = Result<(), ActorError>> + Send {
        async { Ok(()) }
    }

    /// Does one job.
    ///
    /// # Errors
    /// An error means "restart me": the worker counts as dead in the middle of the job, as
    /// after a panic.
    fn work(
        &mut self,
        job: Self::Job,
        task: Task,
    ) -> impl Future<Output = Result<Self::Output, ActorError>> + Send;

    /// How many bytes it uses, asked after each job; none if it does not know.
    fn memory(&self) -> Option<u64> {
        None
    }

    /// Runs once on an orderly stop; not after a panic, an error or a kill.
    fn stopping(&mut self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// Tells the memory of a worker from outside.
pub(crate) type Probe<W> = Arc<dyn Fn(&W) -> Option<u64> + Send + Sync>;

pub(crate) type TicketOf<W> = Ticket<<W as Worker>::Job, <W as Worker>::Output>;

pub(crate) struct WorkerActor<W: Worker> {
    pub(crate) worker: W,
    pub(crate) index: usize,
    pub(crate) generation: u64,
    pub(crate) queue: Handle<QueueMessage<W::Job, W::Output>>,
    pub(crate) probe: Option<Probe<W>>,
}

impl<W: Worker> WorkerActor<W> {
    fn finished(&self, job: JobId, done: bool) {
        let memory = match &self.probe {
            Some(probe) => probe(&self.worker),
            None => self.worker.memory(),
        };
        let (worker, generation) = (self.index, self.generation);
        self.tell(Event::Finished { worker, generation, job, done, memory });
    }

    /// A note: there are never more of them than jobs given out.
    fn tell(&self, event: Event<Arc<TicketOf<W>>>) {
        self.queue.mailbox.push_note(QueueMessage::Noted(event));
    }
}

impl<W: Worker> Actor for WorkerActor<W> {
    type Message = Arc<TicketOf<W>>;

    async fn started(&mut self, _: &mut Context<Self>) -> Result<(), ActorError> {
        self.worker.started().await?;
        self.tell(Event::Ready { worker: self.index, generation: self.generation });
        Ok(())
    }

    async fn handle(
        &mut self,
        _: &mut Context<Self>,
        ticket: Arc<TicketOf<W>>,
    ) -> Result<(), ActorError> {
        match ticket.begin(self.generation, Instant::now().into_std()) {
            Begin::NotMine => {}
            Begin::Skip { id } => self.finished(id, false),
            Begin::Do { id, job, task } => {
                let output = self.worker.work(job, task).await?;
                // In this order: who has the answer finds the worker free.
                self.finished(id, true);
                ticket.answer(Ok(output));
            }
        }
        Ok(())
    }

    async fn stopping(&mut self, _: &mut Context<Self>) {
        self.worker.stopping().await;
    }
}
