//! Who tells the guest numbers, and whether what it answered is one chain.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use odeum_proto::{Name, RequestId, limits};
use odeum_runtime::api::client::{ANSWER_SLACK, ApiClient};
use odeum_runtime::api::types::CallOptions;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::check::counts::{Counter, Told};

/// Who tells it something, at a time.
const SENDERS: u64 = 6;

/// How long one try may take at the node.
const TRY: Duration = Duration::from_secs(2);

/// How long it may take until its client gives it up.
const GIVEN_UP: Duration = TRY.saturating_add(ANSWER_SLACK);

/// The pause of a sender that was answered. All of them tell it a thousand numbers a second or two: more
/// than it remembers by their number while a node stands still and its senders try a second time.
const PACE: Duration = Duration::from_millis(3);
const _: () = assert!(2 * GIVEN_UP.as_millis() <= limits::DEDUPLICATION_TIME.as_millis());

/// The pause before the next one, and between two looks.
const PAUSE: Duration = Duration::from_millis(15);

/// How long it may take until somebody is answered, whatever happens to one node.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a folded hash is multiplied with: 2^64 divided by the golden ratio, which is odd.
const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;

/// What was answered.
#[derive(Debug, Clone)]
struct Ack {
    /// Which number: of the sender, and how many it has told before.
    message: u64,
    /// How many the guest has had with it.
    count: u64,
    /// All of them, folded.
    hash: u64,
    sent: Instant,
    at: Instant,
}

/// All that was answered.
#[derive(Debug, Default)]
struct Log {
    acks: Vec<Ack>,
    /// Finds counts that nobody may be told, and owners that nobody may have.
    counter: Counter,
}

fn fold(hash: u64, message: u64) -> u64 {
    hash.rotate_left(7).wrapping_mul(FACTOR) ^ message
}

/// Takes count and hash from the session. A variable that is not there leaves the place as it is.
const LOAD: &str = r"(i64.store (i32.const 512) (i64.const 0))
    (i64.store (i32.const 520) (i64.const 0))
    (drop (call $var_get (i32.const 0) (i32.const 5) (i32.const 512) (i32.const 16)))";

/// Puts count and hash into the session.
const SAVE: &str =
    "(drop (call $var_set (i32.const 0) (i32.const 5) (i32.const 512) (i32.const 16)))";

/// A guest that folds each number that it is told into a chain, and replies how many they were and
/// what they are together. It keeps both in its session, or in its memory alone.
pub(super) fn guest(is_kept: bool) -> Vec<u8> {
    let (load, save) = if is_kept { (LOAD, SAVE) } else { ("", "") };
    let text = format!(
        r#"(module
  (import "odeum" "reply" (func $reply (param i32 i32)))
  (import "odeum" "var_get" (func $var_get (param i32 i32 i32 i32) (result i32)))
  (import "odeum" "var_set" (func $var_set (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 64)
  (data (i32.const 0) "chain")
  (func $begin (local $at i32)
    ;; Every page has something in it, so that it is copied.
    (local.set $at (i32.const 4096))
    (loop $next
      (i32.store (local.get $at) (local.get $at))
      (local.set $at (i32.add (local.get $at) (i32.const 4096)))
      (br_if $next (i32.lt_u (local.get $at) (i32.const 4194304)))))
  (start $begin)
  (func (export "odeum_alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "odeum_handle") (param $ptr i32) (param $len i32) (result i32)
    {load}
    (if (i32.eq (local.get $len) (i32.const 8)) (then
      (i64.store (i32.const 512) (i64.add (i64.load (i32.const 512)) (i64.const 1)))
      (i64.store (i32.const 520) (i64.xor (i64.load (local.get $ptr))
        (i64.mul (i64.rotl (i64.load (i32.const 520)) (i64.const 7)) (i64.const {factor}))))
      {save}))
    (call $reply (i32.const 512) (i32.const 16))
    (i32.const 0)))"#,
        factor = FACTOR.cast_signed(),
    );
    text.into_bytes()
}

/// Count and hash in a reply.
fn in_reply(reply: &[u8]) -> anyhow::Result<(u64, u64)> {
    let number = |at: usize| Some(u64::from_le_bytes(*reply.get(at..)?.first_chunk()?));
    number(0).zip(number(8)).with_context(|| format!("a reply of {} bytes", reply.len()))
}

/// Those who tell it numbers, one after the other each.
pub(super) struct Senders {
    guest: Name,
    clients: Vec<ApiClient>,
    log: Arc<Mutex<Log>>,
    ended: Arc<AtomicBool>,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl Senders {
    pub(super) fn start(guest: Name, clients: Vec<ApiClient>) -> Self {
        let (log, ended) = (Arc::<Mutex<Log>>::default(), Arc::<AtomicBool>::default());
        let mut tasks = JoinSet::new();
        for sender in 0..SENDERS {
            let (log, ended) = (Arc::clone(&log), Arc::clone(&ended));
            let (guest, clients) = (guest.clone(), clients.clone());
            tasks.spawn(async move {
                for number in 0_u64.. {
                    if ended.load(Ordering::Relaxed) {
                        break;
                    }
                    tell(&guest, &clients, (sender << 32) | number, &log).await?;
                    sleep(PACE).await;
                }
                Ok(())
            });
        }
        Self { guest, clients, log, ended, tasks }
    }

    /// How many were answered.
    pub(super) fn acknowledged(&self) -> usize {
        locked(&self.log).acks.len()
    }

    /// The longest time in which nobody was answered.
    pub(super) fn longest_gap(&self) -> Duration {
        let mut times: Vec<Instant> = locked(&self.log).acks.iter().map(|ack| ack.at).collect();
        times.sort_unstable();
        let gaps = times.iter().zip(times.iter().skip(1));
        gaps.map(|(before, after)| after.duration_since(*before)).max().unwrap_or_default()
    }

    /// Waits until so many are answered that were told after this began.
    pub(super) async fn go_on(&mut self, many: usize) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let is_later = |ack: &&Ack| ack.sent >= began;
            let later = locked(&self.log).acks.iter().rev().filter(is_later).count();
            if later >= many {
                return Ok(());
            }
            if let Some(ended) = self.tasks.try_join_next() {
                ended??;
            }
            anyhow::ensure!(
                began.elapsed() < PATIENCE,
                "only {later} messages were answered in {PATIENCE:?}"
            );
            sleep(PAUSE).await;
        }
    }

    /// Ends them, and looks whether all that they were answered is one chain, of which the guest knows
    /// the end.
    pub(super) async fn reckon(&mut self) -> anyhow::Result<()> {
        self.ended.store(true, Ordering::Relaxed);
        let ended = async {
            while let Some(ended) = self.tasks.join_next().await {
                ended??;
            }
            anyhow::Ok(())
        };
        timeout(PATIENCE, ended).await.context("a message is not answered")??;
        let options = CallOptions { deadline: PATIENCE, ..CallOptions::default() };
        let mut said = Vec::new();
        for client in &self.clients {
            let reply = client.call(&self.guest, b"get".to_vec(), &options).await?;
            let (count, hash) = in_reply(&reply.body)?;
            locked(&self.log).counter.ends_at(count).map_err(anyhow::Error::msg)?;
            said.push(hash);
        }
        // Its counts are all there are, and each was told once; now what was counted.
        let end = end_of_chain(locked(&self.log).acks.clone())?;
        anyhow::ensure!(
            said.iter().all(|hash| *hash == end),
            "the guest says {said:x?} at the end, and not {end:x}"
        );
        Ok(())
    }
}

/// Tells it one number until it is answered, at each node in turn, and takes that down.
async fn tell(
    guest: &Name,
    clients: &[ApiClient],
    message: u64,
    log: &Mutex<Log>,
) -> anyhow::Result<()> {
    let request = Some(RequestId::random());
    let options = CallOptions { request, deadline: TRY, ..CallOptions::default() };
    let (sent, floor) = (Instant::now(), locked(log).counter.sent());
    let first = usize::try_from(message >> 32)?;
    for client in clients.iter().cycle().skip(first) {
        match client.call(guest, message.to_le_bytes().to_vec(), &options).await {
            Ok(answer) => {
                let (count, hash) = in_reply(&answer.body)?;
                let (epoch, node) = (answer.epoch.0, answer.node.as_str());
                let told = Told { count, epoch, node, replayed: answer.replayed };
                let at = Instant::now();
                let mut log = locked(log);
                log.acks.push(Ack { message, count, hash, sent, at });
                return log.counter.answered(floor, told).map_err(anyhow::Error::msg);
            }
            Err(error) if error.is_retryable() || error.code() == Some("deadline-exceeded") => {
                sleep(PAUSE).await;
            }
            Err(error) => return Err(error).context("a message is refused for good"),
        }
    }
    anyhow::bail!("there is nobody to tell it")
}

/// Whether each answer has the hash of all before it in the order of their counts; the last hash.
fn end_of_chain(mut acks: Vec<Ack>) -> anyhow::Result<u64> {
    acks.sort_by_key(|ack| ack.count);
    let mut hash = 0;
    for ack in &acks {
        hash = fold(hash, ack.message);
        anyhow::ensure!(ack.hash == hash, "{ack:?} is not the chain of those before it");
    }
    Ok(hash)
}

/// What it guards is changed by single steps, so a panic while it was held did no harm.
fn locked(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers to messages in the order of a chain.
    fn chain(messages: &[u64]) -> Vec<Ack> {
        let now = Instant::now();
        let mut hash = 0;
        let ack = |(count, message): (u64, &u64)| {
            hash = fold(hash, *message);
            Ack { message: *message, count, hash, sent: now, at: now }
        };
        (1..).zip(messages).map(ack).collect()
    }

    #[test]
    fn answers_in_any_order_are_one_chain() {
        let mut acks = chain(&[1, 2, 1 << 32, 3]);
        let end = acks[3].hash;
        acks.swap(0, 2);
        assert_eq!(end_of_chain(acks).expect("it is"), end);
    }

    #[test]
    fn what_the_guest_forgot_or_had_otherwise_is_found() {
        let fault = |acks| end_of_chain(acks).expect_err("it is none").to_string();
        let mut forgotten = chain(&[1, 2, 3]);
        forgotten[2].hash = fold(0, 3);
        assert!(fault(forgotten).contains("is not the chain"));
        let mut otherwise = chain(&[1, 2, 3]);
        otherwise[1].message = 4;
        assert!(fault(otherwise).contains("is not the chain"));
        let mut lost = chain(&[1, 2, 3]);
        lost.remove(1);
        assert!(fault(lost).contains("is not the chain"));
    }
}
