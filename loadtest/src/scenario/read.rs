//! Scenario files: read, checked, and refused with the line and column of what is wrong.

use std::collections::BTreeSet;
use std::path::Path;

use clap::ValueEnum;
use clap::builder::PossibleValue;
use serde_saphyr::{DefaultMessageFormatter, Error, Location, MessageFormatter as _, Spanned};

use super::library;
use super::spec::{Budget, Fault, Keys, Phase, Scenario, Target, Who};
use crate::run::Measurement;

/// Most nodes that are started: an address of the network for each.
const NODES: usize = 16;

/// Why a scenario is not run.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// There is no such scenario, and no such file.
    #[error(
        "there is no scenario `{name}` and no file of that name; there are {known}, and the measurements \
         {measurements}"
    )]
    Unknown {
        /// What was given.
        name: String,
        /// Those that are built in.
        known: String,
        /// What has a table of its own.
        measurements: String,
    },
    /// The file cannot be read.
    #[error("cannot read {file}: {reason}")]
    Unreadable {
        /// The file.
        file: String,
        /// What the system said.
        reason: std::io::Error,
    },
    /// What it says cannot be.
    #[error("{at}: {reason}")]
    Wrong {
        /// The file, line and column.
        at: String,
        /// What is wrong.
        reason: String,
    },
}

/// The text of a scenario that is built in or in a file, and what to call it in errors.
///
/// # Errors
/// [`ScenarioError`].
pub fn text_of(name: &str) -> Result<(String, String), ScenarioError> {
    if let Some(text) = library::text(name) {
        return Ok((format!("{name}.yaml"), text.to_owned()));
    }
    if !Path::new(name).is_file() && !name.contains(['/', '.']) {
        let known: Vec<_> = library::ALL.iter().map(|(name, _)| *name).collect();
        let known = known.join(", ");
        let measurements: Vec<_> =
            Measurement::value_variants().iter().filter_map(ValueEnum::to_possible_value).collect();
        let measurements: Vec<_> = measurements.iter().map(PossibleValue::get_name).collect();
        let measurements = measurements.join(", ");
        return Err(ScenarioError::Unknown { name: name.to_owned(), known, measurements });
    }
    let read = std::fs::read_to_string(name);
    let file = name.to_owned();
    read.map(|text| (file.clone(), text))
        .map_err(|reason| ScenarioError::Unreadable { file, reason })
}

/// The scenario that a text describes. `file` is its name in errors.
///
/// # Errors
/// [`ScenarioError::Wrong`] with the place.
pub fn parse(file: &str, text: &str) -> Result<Scenario, ScenarioError> {
    let scenario: Scenario = serde_saphyr::from_str(text).map_err(|error| {
        let at = place(file, error.location());
        let reason = match error.without_snippet() {
            Error::SerdeUnknownField { field, expected, .. } => unknown("key", field, expected),
            Error::SerdeUnknownVariant { variant, expected, .. } => {
                unknown("word", variant, expected)
            }
            Error::SerdeMissingField { field, .. } => format!("`{field}` is missing"),
            other => DefaultMessageFormatter.format_message(other).into_owned(),
        };
        ScenarioError::Wrong { at, reason }
    })?;
    Checked { file, scenario: &scenario }.check()?;
    Ok(scenario)
}

fn place(file: &str, at: Option<Location>) -> String {
    match at {
        Some(at) if at.line() > 0 => format!("{file}:{}:{}", at.line(), at.column()),
        _ => file.to_owned(),
    }
}

fn unknown(sort: &str, given: &str, known: &[&str]) -> String {
    let all = known.join(", ");
    format!("there is no {sort} `{given}` here; there are {all}")
}

/// What no single value can know about itself.
struct Checked<'a> {
    file: &'a str,
    scenario: &'a Scenario,
}

impl Checked<'_> {
    fn wrong<T>(
        &self,
        at: Option<Location>,
        reason: impl Into<String>,
    ) -> Result<T, ScenarioError> {
        Err(ScenarioError::Wrong { at: place(self.file, at), reason: reason.into() })
    }

    fn check(&self) -> Result<(), ScenarioError> {
        let Scenario { name, generators, in_flight, targets, phases, cluster, .. } = self.scenario;
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            return self.wrong(None, "`name` is made of letters, digits and hyphens");
        }
        if !(1..=64).contains(generators) {
            return self.wrong(None, "`generators` is 1 to 64");
        }
        if *in_flight == 0 {
            return self.wrong(None, "`in-flight` is at least 1");
        }
        if targets.is_empty() {
            return self.wrong(None, "`targets` names nothing that is asked");
        }
        if phases.is_empty() {
            return self.wrong(None, "`phases` has none");
        }
        let sizes = &cluster.nodes.0;
        if sizes.is_empty() || sizes.iter().any(|size| !(1..=NODES).contains(size)) {
            return self.wrong(None, format!("`nodes` is 1 to {NODES}, or a list of such numbers"));
        }
        for phase in phases {
            self.check_phase(phase)?;
        }
        for (name, target) in targets {
            self.check_target(name, target)?;
        }
        self.check_mix()?;
        for fault in &self.scenario.faults {
            self.check_fault(fault)?;
        }
        for budget in &self.scenario.budgets {
            self.check_budget(budget)?;
        }
        Ok(())
    }

    fn check_phase(&self, phase: &Phase) -> Result<(), ScenarioError> {
        let is_rate = |rate: f64| rate.is_finite() && rate >= 0.0;
        let is_right = match phase {
            Phase::Ramp { from, to, .. } => is_rate(*from) && is_rate(*to),
            Phase::Hold { rate: Some(rate), clients: None, .. } | Phase::Spike { rate, .. } => {
                is_rate(*rate)
            }
            Phase::Hold { rate: None, clients: Some(clients), .. } => *clients > 0,
            Phase::Hold { .. } => {
                return self.wrong(None, "`hold` has a `rate` or `clients`, and not both");
            }
        };
        if !is_right {
            return self.wrong(None, format!("a rate is no such number: {phase}"));
        }
        if phase.lasts().is_zero() {
            return self.wrong(None, format!("a phase takes time: {phase}"));
        }
        Ok(())
    }

    fn check_target(&self, name: &str, target: &Target) -> Result<(), ScenarioError> {
        let wrong = |reason: String| self.wrong(None, format!("target `{name}`: {reason}"));
        let keys = match target {
            Target::Call(it) => {
                if it.guests < self.scenario.generators {
                    return wrong(format!(
                        "{} generators share {} guests; each needs one of its own",
                        self.scenario.generators, it.guests
                    ));
                }
                it.keys
            }
            Target::Read(it)
            | Target::Write(it)
            | Target::CompareAndSet(it)
            | Target::Watch(it) => {
                if it.sessions == 0 {
                    return wrong("`sessions` is at least 1".to_owned());
                }
                it.keys
            }
            Target::Ask(it) | Target::Tell(it) => {
                if it.entities < self.scenario.generators {
                    return wrong("there are fewer entities than generators".to_owned());
                }
                it.keys
            }
            Target::Move(it) => {
                let of = self.scenario.targets.get(&it.of.value);
                if !matches!(of, Some(Target::Call(_))) {
                    let reason = format!("there is no `call` target `{}` to move", it.of.value);
                    return self.wrong(Some(it.of.referenced), reason);
                }
                Keys::Uniform
            }
            Target::Firmware(_) | Target::Http(_) => Keys::Uniform,
        };
        let share = |share: f64| share > 0.0 && share <= 1.0;
        match keys {
            Keys::Zipfian(power) if !(power.is_finite() && power >= 0.0) => {
                wrong("the power of `zipfian` is 0 or more".to_owned())
            }
            Keys::Hot { share: of, load } if !(share(of) && share(load)) => {
                wrong("`share` and `load` of `hot` are above 0 and at most 1".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn check_mix(&self) -> Result<(), ScenarioError> {
        let Scenario { targets, mix, .. } = self.scenario;
        for (name, weight) in mix {
            if !targets.contains_key(name) {
                let known: Vec<_> = targets.keys().map(String::as_str).collect();
                return self.wrong(Some(weight.referenced), unknown("target", name, &known));
            }
        }
        if !mix.is_empty() && mix.values().all(|weight| weight.value == 0) {
            return self.wrong(None, "`mix` asks nothing of anybody");
        }
        Ok(())
    }

    fn check_fault(&self, fault: &Spanned<Fault>) -> Result<(), ScenarioError> {
        let at = Some(fault.referenced);
        let (_, every) = fault.value.when();
        if every.is_some_and(|every| every.is_zero()) {
            return self.wrong(at, "`every` takes time");
        }
        if !self.scenario.cluster.urls.is_empty() {
            return Ok(());
        }
        let smallest = self.scenario.cluster.nodes.0.iter().min().copied().unwrap_or_default();
        let known: BTreeSet<String> = (1..=smallest).map(|number| format!("n{number}")).collect();
        let named: Vec<&String> = match (&fault.value, fault.value.who()) {
            (Fault::Split(split), _) => split.side.iter().collect(),
            (_, Some(Who::Named(name))) => vec![name],
            _ => Vec::new(),
        };
        if let Some(name) = named.into_iter().find(|name| !known.contains(*name)) {
            let known: Vec<_> = known.iter().map(String::as_str).collect();
            return self.wrong(at, unknown("node", name, &known));
        }
        if let Fault::Split(split) = &fault.value
            && (split.side.is_empty() || split.side.len() >= smallest)
        {
            return self.wrong(at, "`side` names some nodes and not all");
        }
        Ok(())
    }

    fn check_budget(&self, budget: &Spanned<Budget>) -> Result<(), ScenarioError> {
        if let Some(of) = budget.value.of()
            && !self.scenario.targets.contains_key(&of.value)
        {
            let known: Vec<_> = self.scenario.targets.keys().map(String::as_str).collect();
            return self.wrong(Some(of.referenced), unknown("target", &of.value, &known));
        }
        if let Budget::Latency(latency) = &budget.value
            && !(latency.percentile > 0.0 && latency.percentile <= 100.0)
        {
            return self.wrong(Some(budget.referenced), "a percentile is above 0 and at most 100");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        parse("x.yaml", text).expect_err("it is wrong").to_string()
    }

    const RIGHT: &str = "\
name: x
targets:
  a: { write: {} }
phases:
  - hold: { rate: 10, for: 1s }
";

    #[test]
    fn what_is_left_out_has_a_meaning() {
        let scenario = parse("x.yaml", RIGHT).unwrap();
        assert_eq!(scenario.cluster.nodes.0, [3]);
        assert!(matches!(&scenario.targets["a"], Target::Write(it) if it.sessions == 16));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_column() {
        let cases = [
            ("name: x\ntargets: { a: { wriet: {} } }\n", "x.yaml:2:", "`wriet`"),
            ("mix:\n  b: 3\n", "x.yaml:7:6: ", "target `b` here; there are a"),
            ("faults:\n  - kill: { at: 3s, node: n9 }\n", "x.yaml:7:", "node `n9`"),
            ("budgets:\n  - rate: { of: c, at-least: 3 }\n", "x.yaml:7:17: ", "target `c`"),
            ("seed: many\n", "x.yaml:6:7: ", ""),
            ("sede: 3\n", "x.yaml:6:1: ", "no key `sede` here"),
        ];
        for (more, at, reason) in cases {
            let text = if more.starts_with("name") {
                format!("{more}phases: []\n")
            } else {
                format!("{RIGHT}{more}")
            };
            let refusal = refused(&text);
            assert!(refusal.starts_with(at), "{refusal}");
            assert!(refusal.contains(reason), "{refusal}");
        }
    }

    #[test]
    fn an_open_and_a_closed_loop_at_once_are_refused() {
        let text = RIGHT.replace("rate: 10", "rate: 10, clients: 3");
        assert!(refused(&text).contains("not both"));
    }

    #[test]
    fn nodes_are_one_number_or_several() {
        let sizes = |nodes: &str| {
            parse("x.yaml", &format!("{RIGHT}cluster: {{ nodes: {nodes} }}\n"))
                .map(|it| it.cluster.nodes.0)
        };
        assert_eq!(sizes("5").unwrap(), [5]);
        assert_eq!(sizes("[1, 3]").unwrap(), [1, 3]);
        assert!(sizes("0").is_err() && sizes("[]").is_err());
    }

    #[test]
    fn the_scenario_of_the_readme_is_right() {
        let readme = include_str!("../../../README.md");
        let blocks = readme.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
        let scenarios: Vec<&str> = blocks.filter(|text| text.contains("phases:")).collect();
        assert_eq!(scenarios.len(), 1);
        parse("README.md", scenarios[0]).unwrap();
    }

    #[test]
    fn every_scenario_of_the_library_is_right() {
        for (name, text) in library::ALL {
            let scenario = parse(name, text).unwrap();
            assert_eq!(scenario.name, *name);
            assert!(!scenario.about.is_empty(), "{name}");
        }
    }
}
