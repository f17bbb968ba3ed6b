//! What the driver of a store is asked to do: a line asks for it, a line has the outcome.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// One thing that a driver does with its store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// Writes every key once, so that each can be read.
    Fill,
    /// Keeps so many requests of a sort in flight for a while.
    Load {
        /// What is asked for.
        request: Request,
        /// Askers, each with one request at a time.
        in_flight: usize,
        /// For how long, in milliseconds.
        millis: u64,
    },
    /// One write after the other, each tried until it is acknowledged; the outcome is the longest
    /// time between two acknowledgements.
    Gap {
        /// For how long, in milliseconds.
        millis: u64,
    },
    /// Says which member leads where the gap is measured, by its place in the order of the starts.
    Leader,
}

/// A sort of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// A write that is on the disks of a majority when it is acknowledged.
    Write,
    /// A read.
    Read(Reading),
}

/// What a read may miss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Nothing that was acknowledged before.
    Linearizable,
    /// The same, as cheap as the store allows while the clocks of all members run equally fast.
    Lease,
    /// What the member that is asked has not heard of.
    Local,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fill => f.write_str("fill"),
            Self::Load { request, in_flight, millis } => {
                write!(f, "load {request} {in_flight} {millis}")
            }
            Self::Gap { millis } => write!(f, "gap {millis}"),
            Self::Leader => f.write_str("leader"),
        }
    }
}

impl FromStr for Workload {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> anyhow::Result<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        Ok(match words.as_slice() {
            ["fill"] => Self::Fill,
            ["load", request, in_flight, millis] => Self::Load {
                request: request.parse()?,
                in_flight: in_flight.parse()?,
                millis: millis.parse()?,
            },
            ["gap", millis] => Self::Gap { millis: millis.parse()? },
            ["leader"] => Self::Leader,
            _ => anyhow::bail!("{line:?} is no workload"),
        })
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Write => "write",
            Self::Read(Reading::Linearizable) => "read",
            Self::Read(Reading::Lease) => "lease-read",
            Self::Read(Reading::Local) => "local-read",
        })
    }
}

impl FromStr for Request {
    type Err = anyhow::Error;

    fn from_str(word: &str) -> anyhow::Result<Self> {
        Ok(match word {
            "write" => Self::Write,
            "read" => Self::Read(Reading::Linearizable),
            "lease-read" => Self::Read(Reading::Lease),
            "local-read" => Self::Read(Reading::Local),
            _ => anyhow::bail!("{word:?} is no request"),
        })
    }
}

/// How long a load runs before it is measured: connections, caches and batches are warm then.
pub(super) fn warm_up(measured: Duration) -> Duration {
    measured / 6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_is_read_as_it_was_written() {
        let read = Request::Read;
        for workload in [
            Workload::Fill,
            Workload::Load { request: Request::Write, in_flight: 64, millis: 5 },
            Workload::Load { request: read(Reading::Linearizable), in_flight: 1, millis: 3_000 },
            Workload::Load { request: read(Reading::Lease), in_flight: 9, millis: 2 },
            Workload::Load { request: read(Reading::Local), in_flight: 9, millis: 2 },
            Workload::Gap { millis: 7 },
            Workload::Leader,
        ] {
            assert_eq!(workload.to_string().parse::<Workload>().unwrap(), workload);
        }
        assert!("load erase 1 1".parse::<Workload>().is_err());
    }
}
