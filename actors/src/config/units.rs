//! Durations and sizes as people write them: `250ms`, `4 MiB`. A bare number is refused, since
//! nobody can tell its unit.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

/// A value with a unit that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// No duration.
    #[error(
        "{given:?} is no duration: expected a number with a unit, such as \"250ms\" or \"1m 30s\""
    )]
    Duration {
        /// What was given.
        given: Box<str>,
    },
    /// No size.
    #[error("{given:?} is no size: expected a number with a unit, such as \"64KiB\" or \"4 MiB\"")]
    Size {
        /// What was given.
        given: Box<str>,
    },
    /// A size beyond what can be counted.
    #[error("{given:?} is more than {} bytes", u64::MAX)]
    TooLarge {
        /// What was given.
        given: Box<str>,
    },
}

/// A length of time, written as `250ms`, `5s` or `1m 30s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HumanDuration(pub Duration);

impl FromStr for HumanDuration {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        humantime::parse_duration(text)
            .map(Self)
            .map_err(|_| UnitError::Duration { given: text.into() })
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

/// The units of [`ByteSize`], largest first.
const UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// A number of bytes, written as `64KiB` or `4 MiB`; `kB`, `MB` and `GB` are powers of 1,000.
/// Case does not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// `n` times 1,048,576 bytes.
    #[must_use]
    pub const fn mebibytes(n: u32) -> Self {
        Self((n as u64) << 20)
    }

    /// Rounded to a tenth of its largest unit, for a table: `1.4 MiB`.
    #[must_use]
    pub fn rounded(self) -> String {
        let unit = UNITS[..3].iter().find(|(_, factor)| self.0 >= *factor);
        unit.map_or_else(
            || format!("{} B", self.0),
            |(name, factor)| {
                // Integers, so that a size never prints as what it is not quite.
                let tenths = u128::from(self.0) * 10 / u128::from(*factor);
                format!("{}.{} {name}", tenths / 10, tenths % 10)
            },
        )
    }
}

impl FromStr for ByteSize {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let given = text.trim();
        let end = given.find(|c: char| !c.is_ascii_digit()).unwrap_or(given.len());
        let (digits, unit) = given.split_at(end);
        let factor = UNITS
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit.trim_start()))
            .map(|(_, factor)| *factor);
        match (digits.is_empty(), factor) {
            (false, Some(factor)) => digits
                .parse::<u64>()
                .ok()
                .and_then(|number| number.checked_mul(factor))
                .map(Self)
                .ok_or_else(|| UnitError::TooLarge { given: text.into() }),
            _ => Err(UnitError::Size { given: text.into() }),
        }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole =
            |(_, factor): &&(&str, u64)| self.0 >= *factor && self.0.is_multiple_of(*factor);
        let (name, factor) = UNITS[..3].iter().find(whole).unwrap_or(&UNITS[6]);
        f.pad(&format!("{} {name}", self.0 / factor))
    }
}

macro_rules! as_text {
    ($($name:ident)*) => {$(
        impl TryFrom<String> for $name {
            type Error = UnitError;
            fn try_from(text: String) -> Result<Self, UnitError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    )*};
}
as_text!(HumanDuration ByteSize);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read_with_any_spacing_and_case() {
        for (text, bytes) in
            [("4 MiB", 4 << 20), ("4mib", 4 << 20), ("64KiB", 64 << 10), ("0 B", 0), ("2 kB", 2000)]
        {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
    }

    #[test]
    fn what_has_no_unit_or_too_many_bytes_is_refused() {
        for bad in ["", "4", "MiB", "-1 B", "1.5 MiB", "4 MiBs", "99999999999999999999 B"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
        assert!(matches!(
            "18446744073709551615 GiB".parse::<ByteSize>(),
            Err(UnitError::TooLarge { .. })
        ));
        for bad in ["", "250", "ms", "5 parsecs"] {
            assert!(bad.parse::<HumanDuration>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_size_in_a_table_is_short() {
        assert_eq!(ByteSize(1_500_000).rounded(), "1.4 MiB");
        assert_eq!(ByteSize(1_023).rounded(), "1023 B");
        assert_eq!(ByteSize(u64::MAX).rounded(), "17179869183.9 GiB");
    }

    proptest! {
        #[test]
        fn what_is_printed_can_be_typed_back(n in any::<u64>(), shift in 0_u32..40, ms in any::<u32>()) {
            let size = ByteSize(n >> shift << shift);
            prop_assert_eq!(size.to_string().parse(), Ok(size));
            let duration = HumanDuration(Duration::from_millis(ms.into()));
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }
    }
}
