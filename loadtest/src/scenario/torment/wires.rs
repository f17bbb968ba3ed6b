//! Faults of the network: what is cut, and how wide it is.

use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use odeum_cluster::netns::Net;

use super::Torment;

/// A part of the network that is not as it should be.
#[derive(Debug, Clone)]
pub(super) enum Cut {
    Block(String, String),
    Lose(u8),
}

impl Torment<'_> {
    pub(super) fn cut(&mut self, number: usize, cuts: Vec<Cut>) -> anyhow::Result<()> {
        let net = self.fleet()?.net().context("nodes have no network of their own")?;
        for cut in &cuts {
            match cut {
                Cut::Block(from, to) => net.block(from, to)?,
                Cut::Lose(percent) => net.lose(*percent)?,
            }
        }
        self.cuts.insert(number, cuts);
        Ok(())
    }

    /// Takes a cut back: all of them, and those again that go on.
    pub(super) fn mend(&mut self, number: usize) -> anyhow::Result<()> {
        self.cuts.remove(&number);
        self.fleet()?.net().context("nodes have no network of their own")?.heal()?;
        for (number, cuts) in std::mem::take(&mut self.cuts) {
            self.cut(number, cuts)?;
        }
        Ok(())
    }

    /// What the queue of a node's cable is.
    pub(super) fn shape(&mut self, place: usize, arguments: &[&str]) -> anyhow::Result<()> {
        let name = self.name(place);
        let net = self.fleet()?.net().context("nodes have no network of their own")?;
        let mut command = net.command(&name, Path::new("tc"));
        command.arg("qdisc").args(arguments);
        run(&mut command)
    }
}

/// Whether the kernel can delay packets in the namespace of a node.
///
/// # Errors
/// Why not.
pub(crate) fn can_delay(net: &Net, node: &str) -> anyhow::Result<()> {
    let tc = |arguments: &[&str]| {
        let mut command = net.command(node, Path::new("tc"));
        command.arg("qdisc").args(arguments);
        run(&mut command)
    };
    tc(&["add", "dev", "cable", "root", "netem", "delay", "1ms"])?;
    tc(&["del", "dev", "cable", "root"])
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{}", said.trim());
    Ok(())
}
