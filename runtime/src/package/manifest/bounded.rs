//! Sizes, counts and times that lie between two bounds, so that one in hand needs no check.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::config::{ByteSize, HumanDuration};

/// A value outside of its bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given} is not between {least} and {most}")]
pub struct BoundError {
    given: Box<str>,
    least: Box<str>,
    most: Box<str>,
}

impl BoundError {
    fn new(given: &impl ToString, least: &impl ToString, most: &impl ToString) -> Self {
        let text = |value: String| value.into_boxed_str();
        Self {
            given: text(given.to_string()),
            least: text(least.to_string()),
            most: text(most.to_string()),
        }
    }
}

macro_rules! bounded {
    ($(#[$doc:meta])* $name:ident, as $written:ident: $serde:literal, $wrap:expr, $unwrap:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = $serde, into = $serde)]
        pub struct $name<const LEAST: u64, const MOST: u64>(u64);

        impl<const LEAST: u64, const MOST: u64> $name<LEAST, MOST> {
            /// The value in the bounds that is nearest to `number`.
            #[must_use]
            pub const fn clamped(number: u64) -> Self {
                if number < LEAST {
                    Self(LEAST)
                } else if number > MOST {
                    Self(MOST)
                } else {
                    Self(number)
                }
            }
        }

        impl<const LEAST: u64, const MOST: u64> TryFrom<$written> for $name<LEAST, MOST> {
            type Error = BoundError;
            fn try_from(given: $written) -> Result<Self, BoundError> {
                let unwrap: fn($written) -> Option<u64> = $unwrap;
                let wrap: fn(u64) -> $written = $wrap;
                match unwrap(given) {
                    Some(number) if (LEAST..=MOST).contains(&number) => Ok(Self(number)),
                    _ => Err(BoundError::new(&given, &wrap(LEAST), &wrap(MOST))),
                }
            }
        }

        impl<const LEAST: u64, const MOST: u64> From<$name<LEAST, MOST>> for $written {
            fn from(value: $name<LEAST, MOST>) -> Self {
                let wrap: fn(u64) -> $written = $wrap;
                wrap(value.0)
            }
        }

        impl<const LEAST: u64, const MOST: u64> fmt::Display for $name<LEAST, MOST> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $written::from(*self).fmt(f)
            }
        }
    };
}

bounded! {
    /// A number of bytes from `LEAST` to `MOST`, written as `4 MiB`.
    Bytes, as ByteSize: "ByteSize", ByteSize, |size| Some(size.0)
}

bounded! {
    /// A number from `LEAST` to `MOST`.
    Count, as u64: "u64", |number| number, Some
}

bounded! {
    /// A length of time from `LEAST` to `MOST` milliseconds, written as `250ms`. What is shorter
    /// than a millisecond is cut off.
    Time, as HumanDuration: "HumanDuration",
    |millis| HumanDuration(Duration::from_millis(millis)),
    |time| u64::try_from(time.0.as_millis()).ok()
}

impl<const LEAST: u64, const MOST: u64> Bytes<LEAST, MOST> {
    /// How many bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl<const LEAST: u64, const MOST: u64> Count<LEAST, MOST> {
    /// The number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl<const LEAST: u64, const MOST: u64> Time<LEAST, MOST> {
    /// How long.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}
