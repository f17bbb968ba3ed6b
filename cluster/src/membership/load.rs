//! How busy the nodes are: what this one measures of itself, and what its peers say.
//!
//! Measured from Linux's `/proc`; elsewhere the numbers are 0. Reading four small files of a file
//! system in memory takes some 50 µs and blocks on no disk.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use odeum_proto::NodeId;
use odeum_proto::load::NodeLoad;
use tokio::sync::watch;

/// How often a node measures and tells. Longer smooths, shorter shows bursts and costs each node
/// a datagram of 40 bytes per peer and period.
pub(super) const PERIOD: Duration = Duration::from_secs(1);

/// The load of every live node, this one included, by name.
pub type Loads = BTreeMap<NodeId, NodeLoad>;

/// Who knows how many entities are active on this node, once somebody does.
#[derive(Clone, Default)]
pub(super) struct Residents(Arc<OnceLock<Box<dyn Fn() -> u64 + Send + Sync>>>);

impl Residents {
    /// Only the first call counts.
    pub(super) fn count_by(&self, count: impl Fn() -> u64 + Send + Sync + 'static) {
        let _ = self.0.set(Box::new(count));
    }

    fn count(&self) -> u64 {
        self.0.get().map_or(0, |count| count())
    }
}

impl std::fmt::Debug for Residents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Residents").field(&self.0.get().is_some()).finish()
    }
}

/// What is known of the load of all.
#[derive(Debug)]
pub(super) struct LoadBook {
    residents: Residents,
    publish: Arc<watch::Sender<Arc<Loads>>>,
    said: Loads,
    before: Option<(Instant, Ticks)>,
}

impl LoadBook {
    pub(super) fn new(residents: Residents, publish: Arc<watch::Sender<Arc<Loads>>>) -> Self {
        Self { residents, publish, said: Loads::new(), before: None }
    }

    /// A datagram came over the link to `from`. Whether it was one of these.
    pub(super) fn receive(&mut self, from: &NodeId, bytes: &[u8]) -> bool {
        match NodeLoad::from_datagram(bytes) {
            Ok(Some(load)) => {
                self.said.insert(from.clone(), load);
            }
            Ok(None) => return bytes.first() == Some(&odeum_proto::load::TAG),
            Err(error) => tracing::debug!(peer = %from, %error, "load refused"),
        }
        true
    }

    /// Measures the load of this node and publishes what is known of all that are `live`. What to
    /// tell the peers.
    pub(super) fn measure(
        &mut self,
        own: &NodeId,
        live: impl Fn(&NodeId) -> bool,
    ) -> Option<Bytes> {
        let now = (Instant::now(), Ticks::read().unwrap_or_default());
        let load = NodeLoad {
            entities: self.residents.count(),
            ..load_between(self.before.as_ref().unwrap_or(&now), &now)
        };
        self.before = Some(now);
        self.said.retain(|node, _| live(node));
        self.said.insert(own.clone(), load);
        self.publish.send_replace(Arc::new(self.said.clone()));
        load.to_datagram().ok().map(Bytes::from)
    }
}

/// What the kernel has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Ticks {
    /// Processor time of this process.
    process: u64,
    /// Processor time of the machine's cores that was not idle.
    busy: u64,
    /// All processor time of the machine's cores.
    total: u64,
    /// Bytes of this process.
    memory_bytes: u64,
    /// Bytes of the machine.
    machine_memory_bytes: u64,
}

impl Ticks {
    /// As of now; `None` where there is no `/proc` as we know it.
    fn read() -> Option<Self> {
        let read = |file| fs::read_to_string(file).ok();
        let (busy, total) = machine_ticks(&read("/proc/stat")?)?;
        Some(Self {
            process: process_ticks(&read("/proc/self/stat")?)?,
            busy,
            total,
            memory_bytes: resident_pages(&read("/proc/self/statm")?)?
                * rustix::param::page_size() as u64,
            machine_memory_bytes: memory_total(&read("/proc/meminfo")?)?,
        })
    }
}

/// User and system time in `/proc/self/stat`, whose second field may have anything in it.
fn process_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    next()?.checked_add(next()?)
}

/// Busy and all time in the first line of `/proc/stat`: user, nice, system, idle, iowait, irq,
/// softirq, steal. What follows is part of user and nice.
fn machine_ticks(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let mut fields = [0_u64; 8];
    for (field, text) in fields.iter_mut().zip(line.split_whitespace()) {
        *field = text.parse().ok()?;
    }
    let total = fields.iter().try_fold(0_u64, |sum, field| sum.checked_add(*field))?;
    let [_, _, _, idle, waiting, ..] = fields;
    Some((total - idle - waiting, total))
}

/// The second field of `/proc/self/statm`.
fn resident_pages(statm: &str) -> Option<u64> {
    statm.split_whitespace().nth(1)?.parse().ok()
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
fn memory_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1_024)
}

/// The load between two looks.
fn load_between((then, before): &(Instant, Ticks), (now, after): &(Instant, Ticks)) -> NodeLoad {
    let per_second = rustix::param::clock_ticks_per_second();
    let elapsed_ms = u64::try_from(now.duration_since(*then).as_millis()).unwrap_or(u64::MAX);
    let spent = after.process.saturating_sub(before.process);
    let available = elapsed_ms.saturating_mul(per_second) / 1_000;
    let busy = after.busy.saturating_sub(before.busy);
    let all = after.total.saturating_sub(before.total);
    let permille = |part: u64, whole: u64| part.saturating_mul(1_000).checked_div(whole);
    NodeLoad {
        entities: 0,
        process_cpu: permille(spent, available)
            .and_then(|share| u32::try_from(share).ok())
            .unwrap_or_default(),
        machine_cpu: permille(busy, all)
            .and_then(|share| u16::try_from(share).ok())
            .unwrap_or_default(),
        memory_bytes: after.memory_bytes,
        machine_memory_bytes: after.machine_memory_bytes,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_linux_writes_is_understood() {
        let stat = "7 (a) b (c) R 1 7 7 0 -1 4194304 100 0 0 0 250 50 1 2 20 0 9 0 100 1 2";
        assert_eq!(process_ticks(stat), Some(300));
        let machine = "cpu  100 10 50 800 40 3 2 5 7 0\ncpu0 1 2 3 4";
        assert_eq!(machine_ticks(machine), Some((170, 1_010)));
        assert_eq!(resident_pages("5000 1200 300 1 0 900 0"), Some(1_200));
        assert_eq!(memory_total("MemTotal:  2048 kB\nMemFree: 1 kB"), Some(2_048 * 1_024));
    }

    #[test]
    fn a_load_is_the_share_of_the_time_between_two_looks() {
        let then = Instant::now();
        let second = rustix::param::clock_ticks_per_second();
        let before = Ticks { process: 7, busy: 100, total: 1_000, ..Ticks::default() };
        let after = Ticks {
            process: 7 + 3 * second,
            busy: 150,
            total: 1_200,
            memory_bytes: 9,
            machine_memory_bytes: 90,
        };
        let load = load_between(&(then, before), &(then + Duration::from_secs(2), after));
        assert_eq!((load.process_cpu, load.machine_cpu), (1_500, 250));
        assert_eq!((load.memory_bytes, load.machine_memory_bytes), (9, 90));
        assert_eq!(load_between(&(then, after), &(then, after)).process_cpu, 0, "no time went by");
    }

    #[test]
    fn the_load_of_a_node_is_known_until_it_is_down() {
        let node = |name: &str| name.parse::<NodeId>().expect("valid");
        let residents = Residents::default();
        residents.count_by(|| 7);
        let publish = Arc::new(watch::Sender::default());
        let mut book = LoadBook::new(residents, Arc::clone(&publish));
        let told = book.measure(&node("n2"), |_| true).expect("a datagram");
        assert!(book.receive(&node("n1"), &told));
        assert!(book.receive(&node("n1"), &[odeum_proto::load::TAG, 9]), "another version's");
        assert!(!book.receive(&node("n1"), b"\x02n1"), "the failure detector's");
        book.measure(&node("n2"), |_| true);
        assert_eq!(publish.borrow()[&node("n1")].entities, 7);
        book.measure(&node("n2"), |_| false);
        assert_eq!(publish.borrow().keys().collect::<Vec<_>>(), [&node("n2")]);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[\\PC\n]{0,80}", numbers in "cpu ([0-9]{1,20} ){0,12}") {
            let _ = (process_ticks(&text), machine_ticks(&text), machine_ticks(&numbers));
            let _ = (resident_pages(&text), memory_total(&text));
        }
    }
}
