//! The numbers of a demo: what one run measured, and the medians of several.

use std::{fs, io, path::Path, time::Duration};

use odeum_proto::NodeId;
use serde::{Serialize, Serializer};

use super::{error::DemoError, verdict::Verdict};

/// Time from SIGKILL until every other node shows the killed one as down, at most.
const NOTICED_WANTED: Duration = Duration::from_secs(2);
/// Time from SIGKILL until a call is acknowledged by the guest on its new host, at most.
const BACK_WANTED: Duration = Duration::from_secs(5);

/// What one run measured.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Summary {
    /// From the start of the first process until three nodes agreed on a leader.
    #[serde(rename = "formed_ms", serialize_with = "millis")]
    pub formed: Duration,
    /// From the upload until the guest took messages.
    #[serde(rename = "deployed_ms", serialize_with = "millis")]
    pub deployed: Duration,
    /// For each trap, how long no message was acknowledged.
    #[serde(rename = "trap_pauses_ms", serialize_with = "all_millis")]
    pub trap_pauses: Vec<Duration>,
    /// The node that was killed.
    pub killed: NodeId,
    /// Whether it led the store, too.
    pub killed_led: bool,
    /// From SIGKILL until all others showed it as down.
    #[serde(rename = "noticed_ms", serialize_with = "millis")]
    pub noticed: Duration,
    /// From SIGKILL until the guest acknowledged a message on another node.
    #[serde(rename = "back_ms", serialize_with = "millis")]
    pub back: Duration,
    /// Where that was.
    pub new_host: NodeId,
    /// From the restart of the killed node until it had caught up.
    #[serde(rename = "rejoined_ms", serialize_with = "millis")]
    pub rejoined: Duration,
    /// How often the guest moved while it ran.
    pub moves: usize,
    /// The longest time in which it handled nothing because it moved.
    #[serde(rename = "paused_ms", serialize_with = "millis")]
    pub paused: Duration,
    /// Messages acknowledged.
    pub acknowledged: u64,
    /// Tries beyond the first.
    pub retries: u64,
    /// Acknowledgements that were the remembered reply of an earlier try.
    pub replayed: u64,
    /// The final count.
    pub count: u64,
    /// Acknowledged counts that are missing.
    pub lost: u64,
    /// Counts without an acknowledgement.
    pub doubled: u64,
    /// From the beginning to the verdict.
    #[serde(rename = "total_ms", serialize_with = "millis")]
    pub total: Duration,
}

impl Summary {
    /// Whether the counts are as promised.
    pub(super) fn is_good(&self) -> bool {
        Verdict { lost: self.lost, doubled: self.doubled }.is_clean()
    }

    /// The rows of the table: what, result, wanted.
    pub(super) fn rows(&self) -> Vec<[String; 3]> {
        let row = |what: &str, result: String, wanted: &str| [what.into(), result, wanted.into()];
        let pauses: Vec<_> = self.trap_pauses.iter().copied().map(seconds).collect();
        let role =
            if self.killed_led { "hosted the guest, led the store" } else { "hosted the guest" };
        let within = |limit: Duration| format!("at most {} s", limit.as_secs());
        vec![
            row("cluster of 3 formed in", seconds(self.formed), ""),
            row("guest deployed in", seconds(self.deployed), ""),
            row("guest trapped, counted on after", pauses.join(", "), ""),
            row("node killed", format!("{} ({role})", self.killed), ""),
            row(
                "death noticed by both others after",
                seconds(self.noticed),
                &within(NOTICED_WANTED),
            ),
            row(
                "guest back after",
                format!("{} (on {})", seconds(self.back), self.new_host),
                &within(BACK_WANTED),
            ),
            row("killed node back and caught up in", seconds(self.rejoined), ""),
            row(
                "guest moved while it ran",
                format!("{} times, paused for at most {} ms", self.moves, self.paused.as_millis()),
                "",
            ),
            row("messages acknowledged", self.acknowledged.to_string(), ""),
            row(
                "sent again with the same key",
                format!("{} ({} had taken effect before)", self.retries, self.replayed),
                "",
            ),
            row("final count", self.count.to_string(), &self.acknowledged.to_string()),
            row("acknowledged counts lost", self.lost.to_string(), "0"),
            row("counts doubled", self.doubled.to_string(), "0"),
            row("total time", seconds(self.total), ""),
        ]
    }

    /// One line.
    pub(super) fn in_short(&self) -> String {
        let Self { acknowledged, lost, doubled, .. } = self;
        format!(
            "{acknowledged} acknowledged, {lost} lost, {doubled} doubled; death noticed after {}, \
             guest back after {}",
            seconds(self.noticed),
            seconds(self.back),
        )
    }
}

/// Several runs together.
#[derive(Debug, Serialize)]
pub(super) struct Series {
    runs: Vec<Summary>,
    failed: usize,
    #[serde(rename = "noticed_median_ms", serialize_with = "millis")]
    noticed: Duration,
    #[serde(rename = "back_median_ms", serialize_with = "millis")]
    back: Duration,
}

impl Series {
    /// The runs that reached their end, and the number of those that did not.
    pub(super) fn new(runs: Vec<Summary>, failed: usize) -> Self {
        let median_of = |field: fn(&Summary) -> Duration| median(runs.iter().map(field).collect());
        let (noticed, back) = (median_of(|run| run.noticed), median_of(|run| run.back));
        Self { runs, failed, noticed, back }
    }

    /// Whether every run passed and the medians are within what is wanted.
    pub(super) fn is_good(&self) -> bool {
        let all_clean = self.failed == 0 && self.runs.iter().all(Summary::is_good);
        all_clean && self.noticed <= NOTICED_WANTED && self.back <= BACK_WANTED
    }

    /// The lines at the end of a series.
    pub(super) fn lines(&self) -> [String; 3] {
        let runs = self.runs.len() + self.failed;
        let passed = self.runs.iter().filter(|run| run.is_good()).count();
        let line = |what, median, wanted: Duration| {
            let met = if median <= wanted { "met" } else { "missed" };
            format!("{what}: median {}, wanted {} s: {met}", seconds(median), wanted.as_secs())
        };
        [
            format!("{passed} of {runs} runs passed"),
            line("death noticed", self.noticed, NOTICED_WANTED),
            line("guest back", self.back, BACK_WANTED),
        ]
    }

    /// Writes it as JSON.
    pub(super) fn write(&self, path: &Path) -> Result<(), DemoError> {
        let json = serde_json::to_vec_pretty(self).map_err(io::Error::from);
        json.and_then(|json| fs::write(path, json))
            .map_err(|reason| DemoError::Report { path: path.to_owned(), reason })
    }
}

/// The middle one; of an even number the lower of the two in the middle, which was measured.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}

/// `0.41 s`
pub(super) fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

fn millis<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    time.as_millis().serialize(serializer)
}

fn all_millis<S: Serializer>(times: &[Duration], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(times.iter().map(Duration::as_millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_a_time_that_was_measured() {
        let ms = |times: &[u64]| median(times.iter().map(|&t| Duration::from_millis(t)).collect());
        assert_eq!(ms(&[]), Duration::ZERO);
        assert_eq!(ms(&[5]), Duration::from_millis(5));
        assert_eq!(ms(&[9, 1, 5]), Duration::from_millis(5));
        assert_eq!(ms(&[9, 1, 5, 7]), Duration::from_millis(5));
    }
}
