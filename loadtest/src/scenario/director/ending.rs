//! What a run comes to, from what was measured and seen.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use super::Director;
use super::load::Load;
use super::stage::Stage;
use crate::scenario::measure::Times;
use crate::scenario::outcome::{
    CheckRow, ClusterFacts, GeneratorFacts, NodeFacts, Outcome, PhaseMark, Seen, TargetRow, budgets,
};
use crate::scenario::schedule::Segment;
use crate::scenario::spec::{Phase, Scenario, Target};
use crate::scenario::{lasts, machine};

impl Director {
    pub(super) fn nodes(&self, stage: &Stage, load: &Load) -> Vec<NodeFacts> {
        let starts = |name: &str| stage.fleet.as_ref().map_or(0, |fleet| fleet.starts(name));
        load.samples.nodes(starts)
    }

    pub(super) fn outcome(
        &self,
        stage: &Stage,
        load: &Load,
        classes: BTreeMap<String, (u64, u64)>,
    ) -> Outcome {
        let Scenario { targets, .. } = &self.scenario;
        let seconds = lasts(&self.scenario).as_secs_f64();
        let whole = &load.collected.whole;
        let counts = |name: Option<&str>| match name {
            None => whole.all(),
            Some(name) => {
                let place = targets.keys().position(|other| other == name);
                place.and_then(|place| whole.targets.get(place)).cloned().unwrap_or_default()
            }
        };
        let nodes = self.nodes(stage, load);
        let longest_outage_ms = load.longest_gap_us as f64 / 1_000.0;
        let faults = load.marks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let generators = self.generators(load, &whole.lateness);
        let seen = Seen {
            seconds,
            nodes: &nodes,
            generators: &generators,
            faults: &faults,
            longest_outage_ms,
        };
        let budgets = budgets(&self.scenario, &counts, seen);
        let each = targets.iter().zip(&whole.targets);
        let each = each.map(|((name, it), counts)| TargetRow::new(name, sort(it), counts, seconds));
        Outcome {
            scenario: self.scenario.name.clone(),
            about: self.scenario.about.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            began: self.began.clone(),
            command: self.command.clone(),
            seed: self.scenario.seed(),
            load: load_of(&self.scenario.phases).to_owned(),
            machine: machine::this(),
            cluster: ClusterFacts {
                nodes: stage.nodes.iter().map(|node| node.name.clone()).collect(),
                place: self.place(stage),
            },
            seconds,
            phases: phases(&self.scenario.phases),
            all: TargetRow::new("all", "", &whole.all(), seconds),
            targets: each.collect(),
            timeline: load.collected.points(),
            checks: CheckRow::all(&load.looked, &load.found, nodes.len()),
            found: load.found.clone(),
            generators,
            longest_outage_ms,
            lost_with_a_node: load.looked.lost_with_a_node,
            pass: load.found.is_empty() && budgets.iter().all(|row| row.pass),
            faults,
            budgets,
            nodes,
            classes,
        }
    }

    fn generators(&self, load: &Load, lateness: &Times) -> GeneratorFacts {
        let mut facts = GeneratorFacts {
            late_p50_us: lateness.percentile(50.0),
            late_p99_us: lateness.percentile(99.0),
            late_max_us: lateness.longest(),
            ..load.samples.generators()
        };
        let late = self.scenario.late.0.as_micros();
        facts.judge(u64::try_from(late).unwrap_or(u64::MAX));
        facts
    }

    fn place(&self, stage: &Stage) -> String {
        match &stage.fleet {
            None => "a cluster that was there".to_owned(),
            Some(fleet) if fleet.net().is_some() => {
                "nodes of this machine, each in a network namespace".to_owned()
            }
            Some(_) => "nodes of this machine on loopback".to_owned(),
        }
    }
}

fn load_of(phases: &[Phase]) -> &'static str {
    let is_closed = |phase: &Phase| matches!(phase, Phase::Hold { clients: Some(_), .. });
    match (phases.iter().any(is_closed), phases.iter().all(is_closed)) {
        (_, true) => "closed",
        (true, false) => "mixed",
        (false, false) => "open",
    }
}

fn phases(phases: &[Phase]) -> Vec<PhaseMark> {
    let segments = Segment::all(phases);
    let mark = |(phase, segment): (&Phase, Segment)| PhaseMark {
        name: phase.to_string(),
        begins_s: segment.begins.as_secs_f64(),
        ends_s: segment.ends().as_secs_f64(),
    };
    phases.iter().zip(segments).map(mark).collect()
}

/// What sort of target it is, as files have it.
fn sort(target: &Target) -> &'static str {
    match target {
        Target::Call(_) => "call",
        Target::Firmware(_) => "firmware",
        Target::Http(_) => "http",
        Target::Read(_) => "read",
        Target::Write(_) => "write",
        Target::CompareAndSet(_) => "compare-and-set",
        Target::Watch(_) => "watch",
        Target::Ask(_) => "ask",
        Target::Tell(_) => "tell",
        Target::Move(_) => "move",
    }
}
