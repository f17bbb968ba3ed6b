//! What two processes do with each other, defined once for all sides: a line asks for it, a line
//! has the outcome. The Erlang side (`vs/erlang/odeum_peer.erl`) reads and writes the same lines.

use std::fmt;
use std::str::FromStr;

use anyhow::Context as _;

/// One thing that a driver does with the process that holds the counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// Messages without an answer from one sender, until the counter has counted them all.
    Tell {
        /// Bytes of each.
        bytes: usize,
        /// How many.
        count: u64,
    },
    /// Questions that are echoed.
    Ask {
        /// Bytes of each, and of its answer.
        bytes: usize,
        /// Askers, each with one question at a time.
        in_flight: usize,
        /// How many in all.
        count: u64,
    },
    /// One asker beside large transfers that never pause.
    Beside {
        /// Bytes of a question.
        bytes: usize,
        /// Transfers at a time.
        blobs: usize,
        /// Bytes of a transfer.
        blob_bytes: usize,
        /// For how long, in milliseconds.
        millis: u64,
    },
    /// Large transfers, each acknowledged when it is whole.
    Bulk {
        /// Bytes of each.
        bytes: usize,
        /// Transfers at a time.
        in_flight: usize,
        /// How many in all.
        count: u64,
    },
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tell { bytes, count } => write!(f, "tell {bytes} {count}"),
            Self::Ask { bytes, in_flight, count } => write!(f, "ask {bytes} {in_flight} {count}"),
            Self::Beside { bytes, blobs, blob_bytes, millis } => {
                write!(f, "beside {bytes} {blobs} {blob_bytes} {millis}")
            }
            Self::Bulk { bytes, in_flight, count } => write!(f, "bulk {bytes} {in_flight} {count}"),
        }
    }
}

impl FromStr for Workload {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> anyhow::Result<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        Ok(match words.as_slice() {
            ["tell", bytes, count] => Self::Tell { bytes: bytes.parse()?, count: count.parse()? },
            ["ask", bytes, in_flight, count] => Self::Ask {
                bytes: bytes.parse()?,
                in_flight: in_flight.parse()?,
                count: count.parse()?,
            },
            ["beside", bytes, blobs, blob_bytes, millis] => Self::Beside {
                bytes: bytes.parse()?,
                blobs: blobs.parse()?,
                blob_bytes: blob_bytes.parse()?,
                millis: millis.parse()?,
            },
            ["bulk", bytes, in_flight, count] => Self::Bulk {
                bytes: bytes.parse()?,
                in_flight: in_flight.parse()?,
                count: count.parse()?,
            },
            _ => anyhow::bail!("{line:?} is no workload"),
        })
    }
}

/// How a workload went.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Outcome {
    /// Messages, answers or transfers in a second.
    pub per_second: f64,
    /// Median time to an answer, in microseconds; zero where there is none.
    pub p50: f64,
    /// The time to an answer that one in a hundred exceeds, in microseconds.
    pub p99: f64,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "done {:.3} {:.3} {:.3}", self.per_second, self.p50, self.p99)
    }
}

impl FromStr for Outcome {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> anyhow::Result<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["done", per_second, p50, p99] = words.as_slice() else {
            anyhow::bail!("the other process said {line:?} where an outcome was expected");
        };
        let number = |word: &str| word.parse::<f64>().context("a number of an outcome");
        Ok(Self { per_second: number(per_second)?, p50: number(p50)?, p99: number(p99)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_and_an_outcome_are_read_as_they_were_written() {
        for workload in [
            Workload::Tell { bytes: 64, count: 5 },
            Workload::Ask { bytes: 64, in_flight: 3, count: 9 },
            Workload::Beside { bytes: 64, blobs: 2, blob_bytes: 1 << 24, millis: 10 },
            Workload::Bulk { bytes: 1 << 24, in_flight: 2, count: 4 },
        ] {
            assert_eq!(workload.to_string().parse::<Workload>().unwrap(), workload);
        }
        let outcome = Outcome { per_second: 1.5, p50: 2.25, p99: 0.0 };
        assert_eq!(outcome.to_string().parse::<Outcome>().unwrap(), outcome);
        assert!("done 1 2".parse::<Outcome>().is_err());
        assert!("tell 64".parse::<Workload>().is_err());
    }
}
