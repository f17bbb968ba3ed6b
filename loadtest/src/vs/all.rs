//! Every comparison and every measurement that has a table, one after the other, and `BENCHMARKS.md`.
//!
//! Each part is this program once more, with the very command that the file names: a part measures the
//! same as when it runs by itself, in a process that has done nothing before, and one that fails, even by
//! a panic, costs that part alone.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use clap::{Args, ValueEnum as _};
use tokio::process::Command;
use tokio::time::timeout;

mod benchmarks;
mod part;
mod versions;

pub use self::benchmarks::{Benchmarks, Measured, Section};
pub use self::part::Part;
use crate::remote::cpus::Cpus;
use crate::scenario::machine;

/// The file that is written.
const FILE: &str = "BENCHMARKS.md";

/// How long a part may take: several times what the longest one takes on two slow CPUs. What takes longer
/// has not measured what it was to measure.
const LONGEST: Duration = Duration::from_secs(2 * 60 * 60);

/// Lines of what a part that failed said last.
const LAST_WORDS: usize = 20;

/// The exit codes of a part that has a table.
const WITH_TABLE: [i32; 2] = [0, 99];

/// The exit code of a part whose peer is not installed.
const NOT_INSTALLED: i32 = 3;

/// What the command line says of `vs all` alone.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Of all")]
pub struct AllArgs {
    /// `all`: only these, with commas between them.
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    only: Vec<Part>,
    /// `all`: where the figures are written; `BENCHMARKS.md` in the folder of the harness when left out.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl AllArgs {
    /// They would be ignored where there is one peer.
    ///
    /// # Errors
    /// If any was given.
    pub(super) fn are_not_for_one_peer(&self) -> anyhow::Result<()> {
        let given = !self.only.is_empty() || self.out.is_some();
        anyhow::ensure!(!given, "--only and --out are for `vs all`");
        Ok(())
    }
}

/// What is measured, and how long.
#[derive(Debug, Clone)]
pub(super) struct All {
    pub(super) rounds: usize,
    pub(super) quick: usize,
    pub(super) threads: Option<usize>,
    pub(super) cpus: Cpus,
    pub(super) install: bool,
    pub(super) args: AllArgs,
}

impl All {
    /// Which parts.
    fn parts(&self) -> Vec<Part> {
        let wanted = |part: &Part| self.args.only.is_empty() || self.args.only.contains(part);
        Part::value_variants().iter().copied().filter(wanted).collect()
    }

    /// The words of a part on the command line.
    fn words(&self, part: Part) -> Vec<String> {
        let mut words: Vec<String> = part.words().map(str::to_owned).into();
        words.extend(["--rounds".to_owned(), self.rounds.to_string()]);
        if self.quick != 1 {
            words.extend(["--quick".to_owned(), self.quick.to_string()]);
        }
        if let Some(threads) = self.threads.filter(|_| part.takes_threads()) {
            words.extend(["--threads".to_owned(), threads.to_string()]);
        }
        if part.takes_cpus() && self.cpus != Cpus::default() {
            let name = self.cpus.to_possible_value().map(|value| value.get_name().to_owned());
            words.extend(["--cpus".to_owned(), name.unwrap_or_default()]);
        }
        if part.takes_install() && self.install {
            words.push("--install".to_owned());
        }
        words
    }
}

/// Runs all parts and writes the file; `say` is told what happens as it does.
///
/// # Errors
/// If the file cannot be written. A part that fails is written down as failed.
pub(super) async fn run(all: &All, say: impl Fn(&str)) -> anyhow::Result<Benchmarks> {
    let parts = all.parts();
    let file = all.args.out.clone().unwrap_or_else(usual_file);
    let began = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let words = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    let mut benchmarks = Benchmarks {
        began,
        command: as_given(&words),
        version: versions::ours(),
        machine: machine::this(),
        sections: Vec::with_capacity(parts.len()),
    };
    for (number, part) in (1..).zip(&parts) {
        let words = all.words(*part);
        say(&format!("\n[{number} of {}] odeum-loadtest {}", parts.len(), words.join(" ")));
        let section = measure(*part, &words).await;
        match &section.result {
            Measured::Table(_) => {}
            Measured::Skipped(why) => say(&format!("left out: {why}")),
            Measured::Failed(error) => say(&format!("failed: {error}")),
        }
        benchmarks.sections.push(section);
        // After each, so that what took an hour is there whatever comes then.
        std::fs::write(&file, benchmarks.markdown())
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    say(&format!("\n{}\nwritten: {}", benchmarks.summary(), file.display()));
    Ok(benchmarks)
}

/// In the folder of the harness where there is one, else here.
fn usual_file() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    if folder.is_dir() { folder.join(FILE) } else { PathBuf::from(FILE) }
}

/// How a command is given in a clone.
fn as_given(words: &str) -> String {
    let release = if cfg!(debug_assertions) { "" } else { "--release " };
    format!("cargo run {release}-p odeum-loadtest -- {words}")
}

async fn measure(part: Part, words: &[String]) -> Section {
    let begin = Instant::now();
    let result = table(words).await.unwrap_or_else(|error| Measured::Failed(format!("{error:#}")));
    let took = Duration::from_secs(begin.elapsed().as_secs());
    let [sort, name] = part.words();
    Section {
        name: format!("{sort} {name}"),
        about: part.about().to_owned(),
        command: as_given(&words.join(" ")),
        // Afterwards: it may have been installed meanwhile.
        peer: part.peer().await,
        took: humantime::format_duration(took).to_string(),
        result,
    }
}

/// Runs a part, which prints its table, and reads that.
async fn table(words: &[String]) -> anyhow::Result<Measured> {
    let folder = tempfile::Builder::new().prefix("odeum-loadtest-").tempdir()?;
    let sheet = folder.path().join("sheet.json");
    let mut command = Command::new(std::env::current_exe()?);
    command.args(words).arg("--sheet").arg(&sheet);
    command.stdin(Stdio::null()).stdout(Stdio::inherit()).stderr(Stdio::piped());
    let output = timeout(LONGEST, command.kill_on_drop(true).output()).await;
    let output = output.with_context(|| format!("it takes longer than {LONGEST:?}"))??;
    match output.status.code() {
        Some(code) if WITH_TABLE.contains(&code) => {
            let text = std::fs::read(&sheet).context("it has written no table")?;
            Ok(Measured::Table(serde_json::from_slice(&text)?))
        }
        Some(NOT_INSTALLED) => Ok(Measured::Skipped(last_words(&output))),
        _ => anyhow::bail!("{}\n{}", output.status, last_words(&output)),
    }
}

/// What a part said last to those who look for errors.
fn last_words(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> =
        said.lines().map(|it| it.trim_start_matches("odeum-loadtest: ")).collect();
    lines.get(lines.len().saturating_sub(LAST_WORDS)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(only: Vec<Part>) -> All {
        All {
            rounds: 3,
            quick: 10,
            threads: Some(2),
            cpus: Cpus::default(),
            install: true,
            args: AllArgs { only, out: None },
        }
    }

    #[test]
    fn every_part_is_given_what_it_takes() {
        let words = |part| all(Vec::new()).words(part).join(" ");
        assert_eq!(words(Part::Etcd), "vs etcd --rounds 3 --quick 10 --threads 2 --install");
        assert_eq!(words(Part::BareQuinn), "vs bare-quinn --rounds 3 --quick 10 --threads 2");
        assert_eq!(words(Part::Migration), "run migration --rounds 3 --quick 10");
    }

    #[test]
    fn only_what_is_wanted_is_run_in_the_usual_order() {
        assert_eq!(all(vec![Part::Store, Part::Ractor]).parts(), [Part::Ractor, Part::Store]);
        assert_eq!(all(Vec::new()).parts().len(), 11);
    }

    #[test]
    fn what_is_for_all_is_refused_where_there_is_one_peer() {
        let args = AllArgs { only: vec![Part::Store], out: None };
        assert!(args.are_not_for_one_peer().is_err());
        assert!(AllArgs::default().are_not_for_one_peer().is_ok());
    }
}
