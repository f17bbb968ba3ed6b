//! What a user writes for a pool, a [`Worker`], and the actor around it.
//!
//! | message | from | answer |
//! |---|---|---|
//! | an assignment | the pool's queue | the result to the job's caller, `Finished` to the queue |

use std::future::Future;
use std::sync::Arc;

use tokio::time::Instant;

use crate::actor::{Actor, ActorError};
use crate::context::Context;
use crate::handle::Handle;

use super::core::{Event, JobId};
use super::queue::QueueMessage;
use super::ticket::{Assignment, Task, Ticket};

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
    type Message = Assignment<W::Job, W::Output>;

    async fn started(&mut self, _: &mut Context<Self>) -> Result<(), ActorError> {
        self.worker.started().await?;
        self.tell(Event::Ready { worker: self.index, generation: self.generation });
        Ok(())
    }

    async fn handle(
        &mut self,
        _: &mut Context<Self>,
        Assignment { generation, job: id, ticket }: Self::Message,
    ) -> Result<(), ActorError> {
        if generation != self.generation {
            // The end of the incarnation it was meant for brings the job back.
            return Ok(());
        }
        match ticket.begin(Instant::now().into_std()) {
            None => self.finished(id, false),
            Some((job, task)) => {
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;
    use crate::child::child;
    use crate::mailbox::Mailbox;
    use crate::policy::Strategy;
    use crate::pool::error::PoolError;
    use crate::supervisor::SupervisorSpec;
    use crate::sync::lock;

    struct Recorder(Arc<Mutex<Vec<u32>>>);

    impl Worker for Recorder {
        type Job = u32;
        type Output = u32;

        async fn work(&mut self, job: u32, _: Task) -> Result<u32, ActorError> {
            lock(&self.0).push(job);
            Ok(job)
        }
    }

    type Answer = oneshot::Receiver<Result<u32, PoolError<u32>>>;

    fn ticket(job: u32) -> (Arc<TicketOf<Recorder>>, Answer) {
        let deadline = crate::sync::now() + Duration::from_secs(60);
        Ticket::new(job, None, None, (deadline, deadline), None)
    }

    /// The queue may learn of a death after the next incarnation is up, so that what it
    /// meant for the dead one lands with the next, and is given to that one once more, after
    /// older jobs. The queue takes the first job it gave for the only one that can be begun.
    #[tokio::test]
    async fn a_worker_begins_jobs_in_the_order_they_were_given_to_its_own_incarnation() {
        let begun = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&begun);
        let queue = Handle { mailbox: Arc::new(Mailbox::new("queue".into())) };
        let (worker, spec) = child("worker", move || WorkerActor {
            worker: Recorder(Arc::clone(&record)),
            index: 0,
            generation: 2,
            queue: queue.clone(),
            probe: None,
        });
        let root = SupervisorSpec::new("root", Strategy::OneForOne).child(spec);
        let root = root.start().await.expect("it starts");

        let ((older, older_answer), (younger, younger_answer)) = (ticket(1), ticket(2));
        let give = |generation, ticket: &Arc<TicketOf<Recorder>>, job| {
            ticket.assign();
            let (job, ticket) = (JobId(job), Arc::clone(ticket));
            worker.mailbox.push_note(Assignment { generation, job, ticket });
        };
        give(1, &younger, 2);
        give(2, &older, 1);
        give(2, &younger, 2);
        assert_eq!(younger_answer.await.expect("an answer").expect("done"), 2);
        assert_eq!(older_answer.await.expect("an answer").expect("done"), 1);
        assert_eq!(*lock(&begun), [1, 2]);
        root.shutdown().await;
    }

    #[tokio::test]
    async fn a_ticket_nobody_has_any_more_answers_its_caller() {
        let (unbegun, answer) = ticket(7);
        drop(unbegun);
        assert!(matches!(answer.await, Ok(Err(PoolError::Down(7)))));
        let (begun, answer) = ticket(8);
        assert!(begun.begin(crate::sync::now()).is_some());
        drop(begun);
        assert!(matches!(answer.await, Ok(Err(PoolError::Dropped))));
    }
}
