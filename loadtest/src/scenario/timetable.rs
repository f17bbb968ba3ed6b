//! When what breaks and is mended again: pure, decided before anything happens.

use std::time::Duration;

use super::spec::{Fault, Scenario};

/// Something that happens at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// When, from the beginning of the load.
    pub(crate) at: Duration,
    /// Which fault, by its place in the timetable.
    pub(crate) number: usize,
    /// Whether it begins; else it is over.
    pub(crate) begins: bool,
}

/// All faults of a scenario in their times: those that come again, each time, as long as there is load.
/// A fault that would be under way at the end is over then.
pub(crate) fn timetable(scenario: &Scenario) -> (Vec<Fault>, Vec<Event>) {
    let end: Duration = scenario.phases.iter().map(super::spec::Phase::lasts).sum();
    let (mut faults, mut events) = (Vec::new(), Vec::new());
    for fault in &scenario.faults {
        let (first, every) = fault.value.when();
        let mut at = first;
        while at < end {
            let number = faults.len();
            faults.push(fault.value.clone());
            events.push(Event { at, number, begins: true });
            if let Some(lasts) = fault.value.lasts() {
                events.push(Event { at: (at + lasts).min(end), number, begins: false });
            }
            match every {
                Some(every) => at += every,
                None => break,
            }
        }
    }
    // What is over at a time is over before something else begins.
    events.sort_by_key(|event| (event.at, event.begins));
    (faults, events)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::read::parse;

    fn of(faults: &str) -> Vec<(u64, usize, bool)> {
        let text = format!(
            "name: x\ntargets: {{ a: {{ write: {{}} }} }}\nphases: [ hold: {{ rate: 1, for: 20s }} ]\n\
             faults:\n{faults}"
        );
        let (_, events) = timetable(&parse("x.yaml", &text).unwrap());
        events.iter().map(|it| (it.at.as_secs(), it.number, it.begins)).collect()
    }

    #[test]
    fn faults_begin_and_end_in_the_order_of_their_times() {
        let events = of("  - kill: { at: 8s, for: 4s }\n  - pause: { at: 1s, for: 9s }\n");
        assert_eq!(events, [(1, 1, true), (8, 0, true), (10, 1, false), (12, 0, false)]);
    }

    #[test]
    fn a_fault_that_comes_again_does_so_until_the_end_and_is_over_then() {
        let events = of("  - kill: { at: 5s, every: 7s, for: 3s }\n");
        let expected = [
            (5, 0, true),
            (8, 0, false),
            (12, 1, true),
            (15, 1, false),
            (19, 2, true),
            (20, 2, false),
        ];
        assert_eq!(events, expected);
    }

    #[test]
    fn what_would_come_after_the_end_does_not_come() {
        assert!(of("  - update: { at: 20s }\n").is_empty());
    }
}
