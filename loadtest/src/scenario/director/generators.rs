//! The processes that make the load, as their director has them.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Director;
use super::load::Load;
use super::stage::Stage;
use crate::scenario::protocol::{Assignment, Order, Said};

/// How long generators may take to prepare, and to look at everything at the end.
const PATIENCE: Duration = Duration::from_secs(300);

/// Words of generators that wait.
const WORDS: usize = 256;

/// A generator's process.
#[derive(Debug)]
pub(super) struct Generator {
    pub(super) child: Child,
    pub(super) stdin: ChildStdin,
}

impl Generator {
    pub(super) async fn order(&mut self, order: &Order) -> anyhow::Result<()> {
        let line = serde_json::to_string(order)? + "\n";
        Ok(self.stdin.write_all(line.as_bytes()).await?)
    }
}

/// All generators.
#[derive(Debug)]
pub(super) struct Generators {
    pub(super) all: Vec<Generator>,
    pub(super) words: mpsc::Receiver<(usize, Option<Said>)>,
    _ears: JoinSet<()>,
}

impl Director {
    /// Starts the generators, and waits until each is prepared.
    pub(super) async fn prepare(&mut self, stage: &Stage) -> anyhow::Result<Generators> {
        let of = self.scenario.generators;
        self.live.say(&format!("preparing {of} generators"));
        let (sender, words) = mpsc::channel(WORDS);
        let (mut all, mut ears) = (Vec::new(), JoinSet::new());
        for index in 0..of {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("load-generator").stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.kill_on_drop(true).spawn().context("a generator")?;
            let stdin = child.stdin.take().context("no stdin")?;
            let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
            let sender = sender.clone();
            ears.spawn(async move {
                while let Ok(Some(line)) = lines.next_line().await {
                    let Ok(said) = serde_json::from_str(&line) else { continue };
                    if sender.send((index, Some(said))).await.is_err() {
                        return;
                    }
                }
                // Whoever listens has gone when this cannot be sent.
                let _ = sender.send((index, None)).await;
            });
            let mut generator = Generator { child, stdin };
            let assignment = Assignment {
                file: self.file.clone(),
                text: self.text.clone(),
                changes: self.changes.clone(),
                index,
                of,
                run: stage.run.clone(),
                nodes: stage.nodes.clone(),
            };
            generator.order(&Order::Prepare(Box::new(assignment))).await?;
            all.push(generator);
        }
        let mut generators = Generators { all, words, _ears: ears };
        let mut ready = 0;
        while ready < of {
            match self.word(&mut generators).await? {
                Said::Ready => ready += 1,
                other => anyhow::bail!("a generator said {other:?} before it was prepared"),
            }
        }
        Ok(generators)
    }

    /// The next word of any generator.
    async fn word(&self, generators: &mut Generators) -> anyhow::Result<Said> {
        let word = timeout(PATIENCE, generators.words.recv()).await;
        let word = word.context("no generator says anything")?;
        understood(word)
    }

    /// Has generators look at what is left.
    pub(super) async fn finish(
        &mut self,
        generators: &mut Generators,
        load: &mut Load,
    ) -> anyhow::Result<()> {
        for generator in &mut generators.all {
            generator.order(&Order::Finish).await?;
        }
        let mut done = 0;
        while done < generators.all.len() {
            let said = self.word(generators).await?;
            done += usize::from(self.take(load, said));
        }
        Ok(())
    }
}

pub(super) fn understood(word: Option<(usize, Option<Said>)>) -> anyhow::Result<Said> {
    match word.context("all generators have ended")? {
        (index, None) => anyhow::bail!("generator {index} has ended early"),
        (index, Some(Said::Failed(error))) => anyhow::bail!("generator {index}: {error}"),
        (_, Some(said)) => Ok(said),
    }
}
