//! Defects that nodes have on purpose, to see them found.

use std::fmt;
use std::str::FromStr;

use odeum_cluster::mishap::{self, Mishap};

/// What can go wrong, as the command line has it.
static WORDS: [(&str, Mishap); 5] = [
    ("drop", Mishap::Drop),
    ("double", Mishap::Double),
    ("swap", Mishap::Swap),
    ("forget", Mishap::Forget),
    ("omit", Mishap::Omit),
];

/// One of so many goes wrong: `drop:50` is one message of fifty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Defect {
    mishap: Mishap,
    every: u64,
}

impl Defect {
    /// All nodes of this process have it from now on.
    pub(crate) fn order(self) {
        mishap::one_in(self.mishap, self.every);
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = WORDS.iter().find(|(_, mishap)| *mishap == self.mishap);
        write!(f, "{}:{}", word.map_or("", |(word, _)| word), self.every)
    }
}

impl FromStr for Defect {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once(':').and_then(|(word, every)| {
            let (_, mishap) = WORDS.iter().find(|(known, _)| *known == word)?;
            Some(Self { mishap: *mishap, every: every.parse().ok()? })
        });
        parts.ok_or_else(|| {
            let known: Vec<&str> = WORDS.iter().map(|(word, _)| *word).collect();
            format!("it is WORD:NUMBER, and the words are {}", known.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_defect_is_read_as_it_is_written() {
        for (word, mishap) in WORDS {
            let defect: Defect = format!("{word}:7").parse().unwrap();
            assert_eq!(defect, Defect { mishap, every: 7 });
            assert_eq!(defect.to_string().parse::<Defect>(), Ok(defect));
        }
        assert!("drop".parse::<Defect>().unwrap_err().contains("drop, double"));
        assert!("lose:7".parse::<Defect>().is_err() && "drop:x".parse::<Defect>().is_err());
    }
}
