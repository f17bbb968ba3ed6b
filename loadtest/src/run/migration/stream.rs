//! Calls that go on while guests move.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt as _};
use odeum_proto::Name;
use odeum_runtime::api::client::ApiClient;
use odeum_runtime::api::types::{CallAnswer, CallOptions};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::check::counts::{Counter, Floor, Told};
use crate::guests;

/// How long a call may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// Guests that are asked at a time.
const AT_ONCE: usize = 32;

/// Calls to one guest, begun at even times whatever became of those before.
pub(super) struct Stream {
    answers: Answers,
    ended: Arc<AtomicBool>,
    sending: tokio::task::JoinHandle<JoinSet<()>>,
}

/// A guest that answers.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) name: Name,
    /// What it has counted.
    pub(super) counted: u64,
}

/// What guests have counted, which each of them keeps in its memory alone.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts(Arc<Mutex<Counted>>);

#[derive(Debug, Default)]
struct Counted {
    counters: BTreeMap<Name, Counter>,
    /// What each had counted before the first of these calls.
    before: u64,
    wrong: usize,
}

impl Counts {
    /// Of guests of which each has counted so much.
    fn since(before: u64) -> Self {
        Self(Arc::new(Mutex::new(Counted { before, ..Counted::default() })))
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A guest is about to be called.
    fn sent(&self, guest: &Name) -> Floor {
        self.lock().counters.entry(guest.clone()).or_default().sent()
    }

    fn answered(&self, guest: &Name, floor: Floor, answer: &CallAnswer) {
        let mut counted = self.lock();
        let count = guests::count_in(&answer.body).unwrap_or_default();
        let told = Told {
            count: count.saturating_sub(counted.before),
            epoch: answer.epoch.0,
            node: answer.node.as_str(),
            replayed: answer.replayed,
        };
        let answered = counted.counters.entry(guest.clone()).or_default().answered(floor, told);
        counted.wrong += usize::from(answered.is_err());
    }

    fn failed(&self, guest: &Name) {
        self.lock().counters.entry(guest.clone()).or_default().is_unknown();
    }

    /// How often something was found that was forgotten, done twice or in another order, now that all
    /// calls are answered or have failed.
    pub(super) fn wrong(&self) -> usize {
        let counted = self.lock();
        let ends = counted.counters.values().map(|counter| counter.ends_at(counter.highest()));
        counted.wrong + ends.filter(Result::is_err).count()
    }
}

/// When each call was to be asked, and after how many milliseconds from then it was answered.
#[derive(Debug, Clone, Default)]
pub(super) struct Answers {
    times: Arc<Mutex<Vec<(Instant, f64)>>>,
    failed: Arc<AtomicUsize>,
    counts: Counts,
}

impl Answers {
    #[cfg(test)]
    pub(super) fn of(times: impl IntoIterator<Item = (Instant, f64)>) -> Self {
        let answers = Self::default();
        answers.lock().extend(times);
        answers
    }

    /// What one in a hundred exceeds of those that were to be asked since then, in milliseconds.
    pub(super) fn p99_between(&self, since: Option<Instant>) -> f64 {
        let is_late = |at: &Instant| since.is_none_or(|since| *at >= since);
        let mut times: Vec<f64> =
            self.lock().iter().filter(|(at, _)| is_late(at)).map(|(_, ms)| *ms).collect();
        times.sort_by(f64::total_cmp);
        quantile(&times, 0.99)
    }

    /// The longest of those that were to be asked in that time, in milliseconds.
    pub(super) fn longest_between(&self, from: Instant, to: Instant) -> f64 {
        let times = self.lock();
        let within = times.iter().filter(|(at, _)| (from..=to).contains(at));
        within.map(|(_, ms)| *ms).fold(0.0, f64::max)
    }

    pub(super) fn failed(&self) -> usize {
        self.failed.load(Ordering::Relaxed)
    }

    /// How many messages were forgotten or handled twice.
    pub(super) fn wrong(&self) -> usize {
        self.counts.wrong()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Instant, f64)>> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream {
    /// `rate` calls a second, in turn through all `clients`, of which so many write to a page that
    /// was not written to before.
    pub(super) fn start(clients: Vec<ApiClient>, guest: Guest, rate: u64, dirtied: u32) -> Self {
        let Guest { name, counted } = guest;
        let answers = Answers { counts: Counts::since(counted), ..Answers::default() };
        let ended = Arc::new(AtomicBool::new(false));
        let (told, stop) = (answers.clone(), Arc::clone(&ended));
        let sending = tokio::spawn(async move {
            let mut calls = JoinSet::new();
            let begin = Instant::now();
            let every = rate.checked_div(dirtied.into()).unwrap_or(u64::MAX).max(1);
            for number in 0_u64.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let due = begin + Duration::from_nanos(1_000_000_000 / rate * number);
                if let Some(wait) = due.checked_duration_since(Instant::now()) {
                    sleep(wait).await;
                }
                // Pages are taken in order, from the second, and over again.
                let page = u32::try_from(number / every % 16_000).unwrap_or_default() + 1;
                let body = match number % every {
                    0 if dirtied > 0 => (page % (dirtied * 100)).to_le_bytes().to_vec(),
                    _ => b"get".to_vec(),
                };
                let turn = usize::try_from(number).unwrap_or_default() % clients.len().max(1);
                let Some(client) = clients.get(turn).cloned() else { break };
                let (name, told) = (name.clone(), told.clone());
                calls.spawn(async move {
                    let options = CallOptions { deadline: DEADLINE, ..CallOptions::default() };
                    let floor = told.counts.sent(&name);
                    match client.call(&name, body, &options).await {
                        Ok(answer) => {
                            told.lock().push((due, due.elapsed().as_secs_f64() * 1_000.0));
                            told.counts.answered(&name, floor, &answer);
                        }
                        Err(_) => {
                            told.failed.fetch_add(1, Ordering::Relaxed);
                            told.counts.failed(&name);
                        }
                    }
                });
                while calls.try_join_next().is_some() {}
            }
            calls
        });
        Self { answers, ended, sending }
    }

    pub(super) fn answers(&self) -> &Answers {
        &self.answers
    }

    /// Ends it when all of it is answered.
    pub(super) async fn end(self) -> anyhow::Result<Answers> {
        self.ended.store(true, Ordering::Relaxed);
        let mut calls = self.sending.await?;
        while let Some(ended) = calls.join_next().await {
            ended?;
        }
        Ok(self.answers)
    }
}

/// One of some sorted values.
pub(super) fn quantile(sorted: &[f64], of: f64) -> f64 {
    let at = (sorted.len() as f64 * of).ceil() as usize;
    sorted.get(at.saturating_sub(1).min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

/// Calls to many guests in turn.
pub(super) struct Turns {
    ended: Arc<AtomicBool>,
    counts: Counts,
    callers: JoinSet<usize>,
}

/// Callers, each of which asks one guest after the other. Nobody has asked them before.
pub(super) fn round_robin(clients: Vec<ApiClient>, names: Vec<Name>) -> Turns {
    let (ended, names) = (Arc::new(AtomicBool::new(false)), Arc::new(names));
    let (counts, mut callers) = (Counts::default(), JoinSet::new());
    for (place, client) in clients.into_iter().enumerate() {
        let (ended, names) = (Arc::clone(&ended), Arc::clone(&names));
        let counts = counts.clone();
        callers.spawn(async move {
            let options = CallOptions { deadline: DEADLINE, ..CallOptions::default() };
            let mut failed = 0;
            for name in names.iter().cycle().skip(place * names.len() / 3) {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                let floor = counts.sent(name);
                match client.call(name, b"get".to_vec(), &options).await {
                    Ok(answer) => counts.answered(name, floor, &answer),
                    Err(_) => {
                        failed += 1;
                        counts.failed(name);
                    }
                }
            }
            failed
        });
    }
    Turns { ended, counts, callers }
}

impl Turns {
    /// Ends it; how many calls failed, and how many messages were forgotten or handled twice.
    pub(super) async fn end(mut self) -> anyhow::Result<(usize, usize)> {
        self.ended.store(true, Ordering::Relaxed);
        let mut failed = 0;
        while let Some(ended) = self.callers.join_next().await {
            failed += ended?;
        }
        Ok((failed, self.counts.wrong()))
    }
}

/// Returns when each of the guests has answered.
pub(super) async fn all_answer(
    client: &ApiClient,
    names: &[Name],
    patience: Duration,
) -> anyhow::Result<()> {
    let begin = Instant::now();
    let options = CallOptions { deadline: DEADLINE, ..CallOptions::default() };
    let asked = stream::iter(names).map(async |name| {
        loop {
            match client.call(name, b"get".to_vec(), &options).await {
                Ok(_) => return Ok(()),
                Err(error) if begin.elapsed() > patience => return Err(error),
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    });
    let mut asked = asked.buffer_unordered(AT_ONCE);
    while let Some(answered) = asked.next().await {
        answered?;
    }
    Ok(())
}
