//! The breaker's decisions: pure, with the time as an argument.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{BreakerConfig, BreakerState, Trip};

/// A call that was let through, and in which period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

#[derive(Debug)]
enum Mode {
    Closed,
    Open { since: Instant },
    HalfOpen { under_way: u32, succeeded: u32 },
}

#[derive(Debug)]
pub(crate) struct State {
    config: BreakerConfig,
    mode: Mode,
    /// Counts changes of mode: an outcome from before the last change says nothing now.
    period: u64,
    row: u32,
    recent: VecDeque<bool>,
}

impl State {
    pub(crate) fn new(config: BreakerConfig) -> Self {
        Self { config, mode: Mode::Closed, period: 0, row: 0, recent: VecDeque::new() }
    }

    /// Lets a call through, or says for how long none is.
    pub(crate) fn admit(&mut self, now: Instant) -> Result<Ticket, Duration> {
        if let Mode::Open { since } = self.mode {
            let open = now.saturating_duration_since(since);
            if open < self.config.open_for {
                return Err(self.config.open_for - open);
            }
            self.change(Mode::HalfOpen { under_way: 0, succeeded: 0 });
        }
        if let Mode::HalfOpen { under_way, succeeded } = &mut self.mode {
            if *under_way + *succeeded >= self.config.trials.max(1) {
                return Err(Duration::ZERO);
            }
            *under_way += 1;
        }
        Ok(Ticket(self.period))
    }

    pub(crate) fn record(&mut self, ticket: Ticket, ok: bool, now: Instant) {
        if ticket != Ticket(self.period) {
            return;
        }
        match &mut self.mode {
            Mode::Open { .. } => {}
            Mode::HalfOpen { .. } if !ok => self.change(Mode::Open { since: now }),
            Mode::HalfOpen { under_way, succeeded } => {
                *under_way = under_way.saturating_sub(1);
                *succeeded += 1;
                if *succeeded >= self.config.trials.max(1) {
                    self.change(Mode::Closed);
                }
            }
            Mode::Closed => {
                if self.trips(ok) {
                    self.change(Mode::Open { since: now });
                }
            }
        }
    }

    pub(crate) fn view(&self, now: Instant) -> BreakerState {
        match self.mode {
            Mode::Closed => BreakerState::Closed,
            Mode::Open { since } if now.saturating_duration_since(since) < self.config.open_for => {
                BreakerState::Open
            }
            Mode::Open { .. } | Mode::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    fn trips(&mut self, ok: bool) -> bool {
        match self.config.trip {
            Trip::Consecutive(limit) => {
                self.row = if ok { 0 } else { self.row.saturating_add(1) };
                self.row >= limit.max(1)
            }
            Trip::Rate { failures, of_last } => {
                let of_last = of_last.max(1) as usize;
                if self.recent.len() == of_last {
                    self.recent.pop_front();
                }
                self.recent.push_back(ok);
                let failed = self.recent.iter().filter(|ok| !**ok).count();
                self.recent.len() == of_last
                    && failed > 0
                    && failed as f64 >= failures * of_last as f64
            }
        }
    }

    fn change(&mut self, mode: Mode) {
        self.mode = mode;
        self.period += 1;
        self.row = 0;
        self.recent.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OPEN: Duration = Duration::from_secs(10);

    fn breaker(trip: Trip, trials: u32) -> State {
        State::new(BreakerConfig { trip, open_for: OPEN, trials })
    }

    #[test]
    fn it_opens_by_rate_only_over_a_full_window() {
        let now = Instant::now();
        let mut state = breaker(Trip::Rate { failures: 0.5, of_last: 4 }, 1);
        for ok in [false, true, true] {
            let ticket = state.admit(now).unwrap();
            state.record(ticket, ok, now);
            assert_eq!(state.view(now), BreakerState::Closed);
        }
        let ticket = state.admit(now).unwrap();
        state.record(ticket, false, now);
        assert_eq!(state.view(now), BreakerState::Open);
    }

    #[test]
    fn a_late_outcome_of_an_earlier_period_changes_nothing() {
        let now = Instant::now();
        let mut state = breaker(Trip::Consecutive(1), 1);
        let (early, late) = (state.admit(now).unwrap(), state.admit(now).unwrap());
        state.record(early, false, now);
        let then = now + OPEN;
        let trial = state.admit(then).unwrap();
        state.record(late, false, then);
        assert!(state.admit(then).is_err(), "one trial at a time");
        state.record(trial, true, then);
        assert_eq!(state.view(then), BreakerState::Closed);
    }

    proptest! {
        #[test]
        fn open_lets_nothing_through_and_half_open_no_more_than_its_trials(
            steps in prop::collection::vec((0u64..4, any::<bool>(), any::<bool>()), 1..200),
            limit in 1u32..4,
            trials in 1u32..4,
        ) {
            let mut now = Instant::now();
            let mut state = breaker(Trip::Consecutive(limit), trials);
            let mut under_way = Vec::new();
            let mut row = 0;
            for (seconds, admit, ok) in steps {
                now += Duration::from_secs(seconds * 3);
                let before = state.view(now);
                if admit {
                    match state.admit(now) {
                        Ok(ticket) => {
                            prop_assert_ne!(before, BreakerState::Open);
                            under_way.push(ticket);
                        }
                        Err(wait) => {
                            prop_assert_ne!(before, BreakerState::Closed);
                            prop_assert!(wait <= OPEN);
                        }
                    }
                    if state.view(now) == BreakerState::HalfOpen {
                        let current = under_way.iter().filter(|t| t.0 == state.period).count();
                        prop_assert!(current <= trials as usize);
                    }
                } else if let Some(ticket) = under_way.pop() {
                    let current = ticket.0 == state.period;
                    state.record(ticket, ok, now);
                    if before == BreakerState::Closed && current {
                        row = if ok { 0 } else { row + 1 };
                        let opened = state.view(now) == BreakerState::Open;
                        prop_assert_eq!(opened, row >= limit);
                        if opened { row = 0; }
                    } else if state.view(now) != before {
                        row = 0;
                    }
                }
            }
        }
    }
}
