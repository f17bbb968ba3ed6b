//! What a run came to: all that reports are made of. Its JSON is the report that machines read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::collect::Point;
use super::measure::Counts;
use super::protocol::{Check, Found, Looked};
use super::spec::{Budget, Scenario};

/// Percentiles of the curves.
const CURVE: [f64; 15] =
    [0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 97.5, 99.0, 99.5, 99.9, 99.95, 99.99, 99.999, 100.0];

/// Files that a node may have open more at the end than after its start: connections and logs come and go.
const FILES: u64 = 64;

/// What a run came to.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// The scenario.
    pub scenario: String,
    /// What it finds out.
    pub about: String,
    /// The version of the harness, which is that of the nodes it starts.
    pub version: String,
    /// When it began, as RFC 3339 has it.
    pub began: String,
    /// The command that runs it again.
    pub command: String,
    /// The seed.
    pub seed: u64,
    /// Whether requests were sent at their times (`open`), when others were answered (`closed`), or now
    /// so and now so (`mixed`).
    pub load: String,
    /// What it ran on.
    pub machine: Machine,
    /// The nodes, and where they are.
    pub cluster: ClusterFacts,
    /// How long the load was, in seconds.
    pub seconds: f64,
    /// Its phases.
    pub phases: Vec<PhaseMark>,
    /// All targets together.
    pub all: TargetRow,
    /// Each of them.
    pub targets: Vec<TargetRow>,
    /// How it went in time.
    pub timeline: Vec<Point>,
    /// What broke.
    pub faults: Vec<FaultMark>,
    /// What was looked after.
    pub checks: Vec<CheckRow>,
    /// What was found wrong.
    pub found: Vec<Found>,
    /// What must hold.
    pub budgets: Vec<BudgetRow>,
    /// Those that made the load.
    pub generators: GeneratorFacts,
    /// Each node.
    pub nodes: Vec<NodeFacts>,
    /// Bytes between nodes by class, on the links that were there at the end: sent and received.
    pub classes: BTreeMap<String, (u64, u64)>,
    /// The longest time in which nobody was answered, in milliseconds.
    pub longest_outage_ms: f64,
    /// Messages to entities that were lost with a node or a link: nothing is promised of those.
    pub lost_with_a_node: u64,
    /// Whether all budgets hold and nothing was found wrong.
    pub pass: bool,
}

/// A machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor.
    pub cpu: String,
    /// How many CPUs there are.
    pub cpus: usize,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// The kernel.
    pub kernel: String,
}

/// A cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterFacts {
    /// The names of its nodes.
    pub nodes: Vec<String>,
    /// Where they are, in words.
    pub place: String,
}

/// A phase in its time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseMark {
    /// What it is.
    pub name: String,
    /// When it began, in seconds.
    pub begins_s: f64,
    /// When it ended, in seconds.
    pub ends_s: f64,
}

/// A target and what came of the requests to it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "as in `Counts`; times are milliseconds")]
pub struct TargetRow {
    pub name: String,
    pub sort: String,
    pub sent: u64,
    pub answered: u64,
    pub failed: u64,
    pub dropped: u64,
    pub late: u64,
    pub retried: u64,
    pub bytes: u64,
    pub rate: f64,
    pub error_percent: f64,
    pub mean_ms: f64,
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
    /// Percentiles and what they are.
    pub curve: Vec<(f64, f64)>,
    /// Why requests failed.
    pub errors: BTreeMap<String, u64>,
}

impl TargetRow {
    pub(crate) fn new(name: &str, sort: &str, counts: &Counts, seconds: f64) -> Self {
        let at = |of: f64| counts.times.percentile(of) as f64 / 1_000.0;
        Self {
            name: name.to_owned(),
            sort: sort.to_owned(),
            sent: counts.sent,
            answered: counts.answered,
            failed: counts.failed,
            dropped: counts.dropped,
            late: counts.late,
            retried: counts.retried,
            bytes: counts.bytes,
            rate: counts.answered as f64 / seconds.max(f64::MIN_POSITIVE),
            error_percent: counts.error_percent(),
            mean_ms: counts.times.mean() / 1_000.0,
            p50_ms: at(50.0),
            p90_ms: at(90.0),
            p99_ms: at(99.0),
            p999_ms: at(99.9),
            max_ms: counts.times.longest() as f64 / 1_000.0,
            curve: CURVE.into_iter().map(|of| (of, at(of))).collect(),
            errors: counts.errors.clone(),
        }
    }
}

/// A fault, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaultMark {
    /// What.
    pub name: String,
    /// When it began, in seconds.
    pub begins_s: f64,
    /// When it was over, in seconds.
    pub ends_s: Option<f64>,
    /// How long after that the cluster was whole again, in seconds.
    pub whole_s: Option<f64>,
    /// Why it did not come, if it did not.
    pub not_possible: Option<String>,
}

/// Something that was looked after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckRow {
    /// What.
    pub check: Check,
    /// What was looked at; empty when there was nothing.
    pub looked_at: String,
    /// How often it was found wrong.
    pub found: usize,
}

impl CheckRow {
    /// The rows of all checks.
    pub(crate) fn all(looked: &Looked, found: &[Found], nodes: usize) -> Vec<Self> {
        let counters = || match (looked.counters, looked.entities) {
            (0, 0) => String::new(),
            (guests, 0) => format!("{} answers of {guests} guests", looked.counted),
            (0, entities) => format!("{} messages to {entities} entities", looked.messages),
            (guests, entities) => format!(
                "{} answers of {guests} guests, {} messages to {entities} entities",
                looked.counted, looked.messages
            ),
        };
        let variables = || match looked.variables {
            0 => String::new(),
            all => format!("{} operations on {all} variables", looked.operations),
        };
        let row = |check: Check| Self {
            check,
            looked_at: match check {
                Check::Lost | Check::Doubled | Check::Reordered | Check::DoubleActivation => {
                    counters()
                }
                Check::Linearizability => variables(),
                Check::Watch if looked.changes == 0 => String::new(),
                Check::Watch => format!("{} changes", looked.changes),
                Check::Leak | Check::Health if nodes == 0 => String::new(),
                Check::Leak | Check::Health => format!("{nodes} nodes"),
            },
            found: found.iter().filter(|it| it.check == check).count(),
        };
        Check::ALL.into_iter().map(row).collect()
    }
}

/// Something that must hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BudgetRow {
    /// What.
    pub what: String,
    /// The bound: at most, or at least where `is_least`.
    pub bound: f64,
    /// Whether the bound is the least.
    pub is_least: bool,
    /// What it was.
    pub value: f64,
    /// The unit of both.
    pub unit: String,
    /// Whether it holds.
    pub pass: bool,
}

/// Who made the load.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GeneratorFacts {
    /// How many processes.
    pub processes: usize,
    /// How late sends of an open loop were, in microseconds.
    pub late_p50_us: u64,
    /// The same, for 99 of a hundred.
    pub late_p99_us: u64,
    /// The same, the latest.
    pub late_max_us: u64,
    /// Processor time of the busiest second of any, in percent of the one CPU that it can use.
    pub busiest_percent: f64,
    /// Memory of the largest, in bytes.
    pub memory_bytes: u64,
    /// By how much that of any has grown from the second fifth of the load to the last, in bytes; `None`
    /// when nobody has looked, because the load was too short.
    #[serde(default)]
    pub memory_growth_bytes: Option<u64>,
    /// Why the generators and not the cluster are the limit, if they are.
    pub bottleneck: Option<String>,
}

impl GeneratorFacts {
    /// Decides whether they are the bottleneck. `late_us` is when a send counts as late.
    pub(crate) fn judge(&mut self, late_us: u64) {
        self.bottleneck = if self.busiest_percent > 90.0 {
            Some(format!(
                "a generator used {:.0} % of the one CPU that it can use: what was measured is the \
                 generator's limit; take more of them, on CPUs that nodes do not need",
                self.busiest_percent
            ))
        } else if self.late_p99_us > late_us {
            Some(format!(
                "one send in a hundred began {:.1} ms late or later: generators did not get a CPU in \
                 time; times count from when requests were due, and so contain it",
                self.late_p99_us as f64 / 1_000.0
            ))
        } else {
            None
        };
    }
}

/// A node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// Its name.
    pub name: String,
    /// Memory before the load, in bytes.
    pub memory_before: u64,
    /// Memory at most.
    pub memory_most: u64,
    /// Memory after the load.
    pub memory_after: u64,
    /// Open files before the load; 0 where that is not known.
    pub files_before: u64,
    /// Open files after the load.
    pub files_after: u64,
    /// Processor time in percent of one CPU, as a mean.
    pub cpu_percent: f64,
    /// How often it was started.
    pub starts: usize,
}

impl NodeFacts {
    /// What it did not give back, if anything.
    pub(crate) fn leak(&self) -> Option<String> {
        let Self { name, files_before, files_after, .. } = self;
        let is_leak = *files_before > 0 && *files_after > files_before + FILES;
        is_leak.then(|| {
            format!("leaks: {name} had {files_before} files open before the load and {files_after} after it")
        })
    }
}

/// What was measured besides the requests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<'a> {
    /// How long the load was.
    pub(crate) seconds: f64,
    pub(crate) nodes: &'a [NodeFacts],
    pub(crate) generators: &'a GeneratorFacts,
    pub(crate) faults: &'a [FaultMark],
    pub(crate) longest_outage_ms: f64,
}

/// Holds what was measured against the budgets of a scenario.
pub(crate) fn budgets(
    scenario: &Scenario,
    counts: &dyn Fn(Option<&str>) -> Counts,
    seen: Seen<'_>,
) -> Vec<BudgetRow> {
    let Seen { seconds, nodes, generators, faults, longest_outage_ms } = seen;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let row = |what: String, bound: f64, value: f64, unit: &str| BudgetRow {
        what,
        bound,
        is_least: false,
        value,
        unit: unit.to_owned(),
        pass: value <= bound,
    };
    let judge = |budget: &Budget| {
        let of = budget.of().map(|of| of.value.as_str());
        let name = of.map(|of| format!(" of {of}")).unwrap_or_default();
        match budget {
            Budget::Latency(it) => {
                let times = counts(of).times;
                let value = times.percentile(it.percentile) as f64 / 1_000.0;
                let bound = it.at_most.0.as_secs_f64() * 1_000.0;
                let what = format!("latency{name}, p{}", it.percentile);
                let row = row(what, bound, value, "ms");
                // Where nobody was answered there is no latency.
                BudgetRow { pass: row.pass && times.count() > 0, ..row }
            }
            Budget::Rate(it) => {
                let value = counts(of).answered as f64 / seconds.max(f64::MIN_POSITIVE);
                let row = row(format!("rate{name}"), it.at_least, value, "/s");
                BudgetRow { is_least: true, pass: value >= it.at_least, ..row }
            }
            Budget::Errors(it) => {
                let value = counts(of).error_percent();
                row(format!("errors{name}"), it.at_most_percent, value, "%")
            }
            Budget::Memory(it) => {
                let most = nodes.iter().map(|node| node.memory_most).max().unwrap_or_default();
                row("memory of a node".to_owned(), mib(it.at_most.0), mib(most), "MiB")
            }
            Budget::Growth(it) => {
                let grown = |node: &NodeFacts| node.memory_after.saturating_sub(node.memory_before);
                let most = nodes.iter().map(grown).max().unwrap_or_default();
                row("growth of a node".to_owned(), mib(it.at_most.0), mib(most), "MiB")
            }
            Budget::GeneratorGrowth(it) => {
                let grown = generators.memory_growth_bytes;
                let value = mib(grown.unwrap_or_default());
                let unseen = " (the load is too short to see any)";
                let what = format!("growth of a generator{}", grown.map_or(unseen, |_| ""));
                let row = row(what, mib(it.at_most.0), value, "MiB");
                // What nobody has looked at holds nothing.
                BudgetRow { pass: row.pass && grown.is_some(), ..row }
            }
            Budget::Outage(it) => {
                let bound = it.at_most.0.as_secs_f64() * 1_000.0;
                row("time without an answer".to_owned(), bound, longest_outage_ms, "ms")
            }
            Budget::Whole(it) => {
                let came = faults.iter().filter(|fault| fault.not_possible.is_none());
                // One after which it never was has no time, and is found by a check.
                let most = came.filter_map(|fault| fault.whole_s).fold(0.0, f64::max);
                row("whole again after a fault".to_owned(), it.at_most.0.as_secs_f64(), most, "s")
            }
        }
    };
    scenario.budgets.iter().map(|budget| judge(&budget.value)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::scenario::read::parse;

    const SCENARIO: &str = "\
name: x
targets:
  a: { write: {} }
phases:
  - hold: { rate: 10, for: 1s }
budgets:
  - latency: { percentile: 99, of: a, at-most: 5ms }
  - rate: { at-least: 9 }
  - errors: { at-most-percent: 10 }
  - memory: { at-most: 100MiB }
  - growth: { at-most: 10MiB }
  - generator-growth: { at-most: 4MiB }
  - outage: { at-most: 2s }
  - whole: { at-most: 3s }
";

    /// After the only fault that came the cluster was whole again a second after the outage. A generator
    /// grows by 2,100 bytes for each millisecond of that.
    fn verdicts(counts: &Counts, node: &NodeFacts, outage_ms: f64) -> Vec<bool> {
        let scenario = parse("x.yaml", SCENARIO).unwrap();
        let of = |_: Option<&str>| counts.clone();
        let fault = |whole_s, reason: Option<&str>| FaultMark {
            name: "kill n1".to_owned(),
            begins_s: 0.1,
            ends_s: Some(0.2),
            whole_s: Some(whole_s),
            not_possible: reason.map(str::to_owned),
        };
        let faults = [fault(outage_ms / 1_000.0 + 0.9995, None), fault(60.0, Some("no rights"))];
        let growth = Some((outage_ms * 2_100.0) as u64);
        let generators =
            GeneratorFacts { memory_growth_bytes: growth, ..GeneratorFacts::default() };
        let seen = Seen {
            seconds: 1.0,
            nodes: std::slice::from_ref(node),
            generators: &generators,
            faults: &faults,
            longest_outage_ms: outage_ms,
        };
        let rows = budgets(&scenario, &of, seen);
        rows.into_iter().map(|row| row.pass).collect()
    }

    fn counts(answered: u64, failed: u64, micros: u64) -> Counts {
        let mut counts = Counts { sent: answered + failed, answered, failed, ..Counts::default() };
        (0..answered).for_each(|_| counts.times.record(micros));
        counts
    }

    #[test]
    fn each_budget_is_held_against_its_own_figure() {
        let node = NodeFacts {
            memory_before: 50 << 20,
            memory_most: 90 << 20,
            memory_after: 55 << 20,
            ..NodeFacts::default()
        };
        assert_eq!(verdicts(&counts(10, 0, 3_000), &node, 100.0), [true; 8]);
        let node = NodeFacts { memory_most: 101 << 20, memory_after: 61 << 20, ..node };
        assert_eq!(verdicts(&counts(8, 1, 6_000), &node, 2_001.0), [false; 8]);
    }

    #[test]
    fn a_latency_that_nobody_saw_is_no_good_one() {
        assert!(!verdicts(&counts(0, 10, 0), &NodeFacts::default(), 0.0)[0]);
    }

    #[test]
    fn a_growth_that_nobody_could_see_says_so_and_does_not_hold() {
        let scenario = parse("x.yaml", SCENARIO).unwrap();
        let generators = GeneratorFacts::default();
        let seen = Seen {
            seconds: 1.0,
            nodes: &[],
            generators: &generators,
            faults: &[],
            longest_outage_ms: 0.0,
        };
        let rows = budgets(&scenario, &|_: Option<&str>| Counts::default(), seen);
        let growth = rows.iter().find(|row| row.what.starts_with("growth of a generator")).unwrap();
        assert!(growth.what.ends_with("(the load is too short to see any)"), "{}", growth.what);
        assert!(!growth.pass);
    }

    proptest! {
        #[test]
        fn more_errors_never_make_a_budget_hold(answered in 1_u64..50, failed in 0_u64..50) {
            let holds = |failed| verdicts(&counts(answered, failed, 1), &NodeFacts::default(), 0.0)[2];
            prop_assert!(!holds(failed + 1) || holds(failed));
        }
    }

    #[test]
    fn a_generator_that_is_busy_or_late_says_that_it_is_the_limit() {
        let of = |busiest_percent, late_p99_us| {
            let mut facts =
                GeneratorFacts { busiest_percent, late_p99_us, ..GeneratorFacts::default() };
            facts.judge(1_000);
            facts.bottleneck
        };
        assert_eq!(of(50.0, 400), None);
        assert!(of(97.0, 400).unwrap().contains("97 %"));
        assert!(of(50.0, 4_000).unwrap().contains("4.0 ms late"));
    }
}
