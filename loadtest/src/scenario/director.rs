//! Directs a run: the cluster, the generators, the faults, and what is made of it all.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use odeum_cluster::netns::Net;
use tokio::time::sleep;

use super::collect::Collected;
use super::live::Live;
use super::outcome::{NodeFacts, Outcome};
use super::protocol::{Changes, Check, Found, Looked};
use super::sample::Samples;
use super::spec::Scenario;
use super::torment::{Able, Marks, WHOLE};
use super::{lasts, machine};
use crate::fault::defect::Defect;
use crate::fleet::Fleet;

mod ending;
mod generators;
mod load;
mod stage;

use self::load::{Load, files_of, look_at_nodes};
use self::stage::{Stage, classes};

/// After the generators have ended, before it is looked at what nodes have not given back.
const SETTLE: Duration = Duration::from_secs(2);

/// Directs one run.
#[derive(Debug)]
pub(crate) struct Director {
    pub(crate) file: String,
    pub(crate) text: String,
    pub(crate) changes: Changes,
    pub(crate) scenario: Scenario,
    pub(crate) size: usize,
    pub(crate) able: Able,
    pub(crate) defects: Vec<Defect>,
    /// Where findings are written.
    pub(crate) findings: PathBuf,
    pub(crate) began: String,
    pub(crate) command: String,
    pub(crate) live: Live,
}

impl Director {
    /// Runs the scenario.
    pub(crate) async fn run(&mut self, net: Option<Net>) -> anyhow::Result<Outcome> {
        let mut stage = self.enter(net).await?;
        let result = tokio::select! {
            result = self.perform(&mut stage) => result,
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        };
        self.live.end();
        // What was made in somebody else's cluster goes, whatever happened.
        let result = match result {
            Ok((mut load, classes)) => {
                self.leave(&mut stage, &mut load).await;
                Ok(self.outcome(&stage, &load, classes))
            }
            Err(error) => {
                self.clean(&stage).await;
                Err(error)
            }
        };
        if let Some(mut fleet) = stage.fleet.take() {
            let is_well = result.as_ref().is_ok_and(|outcome| outcome.found.is_empty());
            if !is_well {
                fleet.keep();
                let stage = fleet.stage().display();
                self.live.say(&format!("logs and data of the nodes are in {stage}"));
            }
            fleet.end().await;
        }
        result
    }

    async fn perform(
        &mut self,
        stage: &mut Stage,
    ) -> anyhow::Result<(Load, BTreeMap<String, (u64, u64)>)> {
        self.deploy(stage).await?;
        let mut generators = self.prepare(stage).await?;
        let seconds = lasts(&self.scenario).as_secs();
        let mut load = Load {
            collected: Collected::new(seconds, self.scenario.targets.len()),
            samples: Samples::default(),
            found: Vec::new(),
            marks: Marks::default(),
            looked: Looked::default(),
            longest_gap_us: 0,
        };
        let pids = stage.fleet.as_ref().map(Fleet::pids).unwrap_or_default();
        look_at_nodes(&mut load.samples, &pids, &stage.clients).await;
        load.samples.begin(|name| files_of(&pids, name));
        self.load(stage, &mut generators, &pids, &mut load).await?;
        if let Some(fleet) = &mut stage.fleet {
            self.live.say("waiting until the cluster is whole");
            if let Err(error) = fleet.whole(WHOLE).await {
                self.is_wrong(&mut load, Check::Health, format!("health: {error:#}"));
            }
        }
        self.live.say("looking at what is there");
        self.finish(&mut generators, &mut load).await?;
        let classes = classes(&stage.clients).await;
        for generator in &mut generators.all {
            // It has said all; an error means that it has ended.
            let _ = generator.child.kill().await;
        }
        // Without generators: nodes have files open for those that talk to them.
        sleep(SETTLE).await;
        look_at_nodes(&mut load.samples, &pids, &stage.clients).await;
        load.samples.end(|name| files_of(&pids, name));
        Ok((load, classes))
    }

    /// Takes back what the run made in the cluster, and looks at whether all of it has gone.
    async fn leave(&mut self, stage: &mut Stage, load: &mut Load) {
        self.clean(stage).await;
        if let Some(fleet) = &stage.fleet
            && let Some(line) = fleet.panic()
        {
            self.is_wrong(load, Check::Health, format!("health: {line}"));
        }
        let leaks: Vec<String> =
            self.nodes(stage, load).iter().filter_map(NodeFacts::leak).collect();
        for leak in leaks {
            self.is_wrong(load, Check::Leak, leak);
        }
        if !load.found.is_empty()
            && let Err(error) = self.write_findings(&load.found)
        {
            self.live.say(&format!("findings cannot be written: {error:#}"));
        }
        if let Some(mut fleet) = stage.fleet.take() {
            let folder = fleet.stage().display().to_string();
            fleet.stop_all().await;
            let left = machine::processes_of(&folder);
            if !left.is_empty() {
                self.is_wrong(load, Check::Leak, format!("leaks: processes are left: {left:?}"));
            }
            stage.fleet = Some(fleet);
        }
    }

    fn write_findings(&self, found: &[Found]) -> anyhow::Result<()> {
        std::fs::create_dir_all(&self.findings)?;
        for (number, Found { title, account, .. }) in (1..).zip(found) {
            let file = self.findings.join(format!("finding-{number}.txt"));
            std::fs::write(&file, format!("{title}\n\n{account}"))?;
        }
        Ok(())
    }
}
