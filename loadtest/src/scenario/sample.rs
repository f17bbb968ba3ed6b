//! What nodes and generators take while they work.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::growth::Growth;
use super::machine;
use super::outcome::{GeneratorFacts, NodeFacts};

/// Processor time of a process, and when that was looked at.
#[derive(Debug, Clone, Copy)]
struct Clocked {
    pid: u32,
    cpu: f64,
    at: Instant,
}

/// What was seen of nodes and generators so far.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    nodes: BTreeMap<String, NodeFacts>,
    /// Of each node: when it was first and last looked at, and the time it worked in between.
    worked: BTreeMap<String, (Clocked, f64, f64)>,
    generators: BTreeMap<u32, Clocked>,
    busiest: f64,
    generator_memory: u64,
    /// How the memory of each generator grew.
    grown: BTreeMap<u32, Growth>,
}

impl Samples {
    /// Looks at a node whose process is here; its memory.
    pub(crate) fn look_at(&mut self, name: &str, pid: u32) -> u64 {
        let bytes = machine::memory_of(pid).unwrap_or_default();
        self.has_memory(name, bytes);
        if let Some(cpu) = machine::cpu_of(pid) {
            let now = Clocked { pid, cpu, at: Instant::now() };
            let (last, worked, passed) =
                self.worked.entry(name.to_owned()).or_insert((now, 0.0, 0.0));
            // Another process begins from nothing.
            if last.pid == pid {
                *worked += (cpu - last.cpu).max(0.0);
                *passed += now.at.duration_since(last.at).as_secs_f64();
            }
            *last = now;
        }
        bytes
    }

    /// A node said how much memory it has.
    pub(crate) fn has_memory(&mut self, name: &str, bytes: u64) {
        let facts = self.node(name);
        facts.memory_most = facts.memory_most.max(bytes);
        facts.memory_after = bytes;
    }

    fn node(&mut self, name: &str) -> &mut NodeFacts {
        let new = || NodeFacts { name: name.to_owned(), ..NodeFacts::default() };
        self.nodes.entry(name.to_owned()).or_insert_with(new)
    }

    /// What nodes have now is what they have before the load.
    pub(crate) fn begin(&mut self, files: impl Fn(&str) -> Option<u64>) {
        for (name, facts) in &mut self.nodes {
            facts.memory_before = facts.memory_after;
            facts.files_before = files(name).unwrap_or_default();
        }
    }

    /// What nodes have now is what they have after the load.
    pub(crate) fn end(&mut self, files: impl Fn(&str) -> Option<u64>) {
        for (name, facts) in &mut self.nodes {
            facts.files_after = files(name).unwrap_or_default();
        }
    }

    /// Looks at a generator, after that share of the load.
    pub(crate) fn look_at_generator(&mut self, pid: u32, share: f64) {
        if let Some(bytes) = machine::memory_of(pid) {
            self.generator_memory = self.generator_memory.max(bytes);
            self.grown.entry(pid).or_default().take(share, bytes);
        }
        let Some(cpu) = machine::cpu_of(pid) else { return };
        let now = Clocked { pid, cpu, at: Instant::now() };
        if let Some(last) = self.generators.insert(pid, now) {
            let passed = now.at.duration_since(last.at).as_secs_f64();
            // Of less than that, processor time is told too coarsely.
            if passed > 0.5 {
                self.busiest = self.busiest.max(100.0 * (cpu - last.cpu) / passed);
            }
        }
    }

    /// What was seen of nodes.
    pub(crate) fn nodes(&self, starts: impl Fn(&str) -> usize) -> Vec<NodeFacts> {
        let facts = |(name, facts): (&String, &NodeFacts)| {
            let worked = self.worked.get(name);
            NodeFacts {
                cpu_percent: worked
                    .map_or(0.0, |(_, worked, passed)| 100.0 * worked / passed.max(0.001)),
                starts: starts(name),
                ..facts.clone()
            }
        };
        self.nodes.iter().map(facts).collect()
    }

    /// What was seen of generators.
    pub(crate) fn generators(&self) -> GeneratorFacts {
        GeneratorFacts {
            processes: self.generators.len(),
            busiest_percent: self.busiest,
            memory_bytes: self.generator_memory,
            memory_growth_bytes: self.grown.values().filter_map(Growth::bytes).max(),
            ..GeneratorFacts::default()
        }
    }
}
