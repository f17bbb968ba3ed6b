//! What concerns several children at once: the first start, the restart of a group, and the
//! end. Each goes on whenever a child it waits for has come to where it should.

use std::time::Duration;

use super::kid::{Due, Group, Mode, Phase, Stage, Then};
use super::{ChildId, Command, Core};

impl Core {
    pub(super) fn restart_group(&mut self, from: ChildId, wait: Duration) {
        let (from, wait) = match &self.group {
            Some(group) => {
                let pending = match group.stage {
                    Stage::Stopping { wait } => wait,
                    Stage::Waiting | Stage::Starting => Duration::ZERO,
                };
                (from.min(group.from), wait.max(pending))
            }
            None => (from, wait),
        };
        let stage = Stage::Stopping { wait };
        self.group = Some(Group { from, cursor: ChildId(u64::MAX), stage });
        self.step();
    }

    pub(super) fn on_group_due(&mut self) {
        if let Some(group) = &mut self.group
            && group.stage == Stage::Waiting
        {
            group.stage = Stage::Starting;
            group.cursor = group.from;
            self.step();
        }
    }

    /// Goes on with what is under way: the end, a group's restart, or the boot.
    pub(super) fn step(&mut self) {
        if matches!(self.mode, Mode::Ending { .. }) {
            self.step_end();
            return;
        }
        match self.group.as_ref().map(|group| group.stage) {
            Some(Stage::Stopping { wait }) => self.step_stop(wait),
            Some(Stage::Starting) => self.step_start(),
            Some(Stage::Waiting) | None => {}
        }
    }

    fn step_end(&mut self) {
        let Mode::Ending { cursor, .. } = self.mode else { return };
        if let Some(waiting) = self.stop_below(ChildId(0), cursor) {
            if let Mode::Ending { cursor, .. } = &mut self.mode {
                *cursor = waiting;
            }
            return;
        }
        if let Mode::Ending { exit, .. } = std::mem::replace(&mut self.mode, Mode::Ended) {
            self.timers.clear();
            self.out.push(Command::Finish(exit));
        }
    }

    fn step_stop(&mut self, wait: Duration) {
        let Some((from, cursor)) = self.group.as_ref().map(|group| (group.from, group.cursor))
        else {
            return;
        };
        let waiting = self.stop_below(from, cursor);
        let Some(group) = &mut self.group else { return };
        if let Some(waiting) = waiting {
            group.cursor = waiting;
        } else if wait.is_zero() {
            group.stage = Stage::Starting;
            group.cursor = from;
            self.step_start();
        } else {
            group.stage = Stage::Waiting;
            let at = self.now + wait;
            self.timers.insert((at, self.next_timer), Due::Group);
            self.next_timer += 1;
        }
    }

    /// Stops the last child in `from..=cursor` that is up; returns the one now waited for.
    fn stop_below(&mut self, from: ChildId, cursor: ChildId) -> Option<ChildId> {
        let mut waiting = None;
        let mut sleeping = Vec::new();
        for (id, kid) in self.children.range(from..=cursor).rev() {
            match kid.phase {
                Phase::Backoff => sleeping.push(*id),
                Phase::Starting | Phase::Running { .. } | Phase::Stopping { .. } => {
                    waiting = Some((*id, kid.phase));
                    break;
                }
                Phase::Idle | Phase::Done => {}
            }
        }
        for id in sleeping {
            self.disarm(id);
            self.kid(id, |kid| kid.phase = Phase::Idle);
        }
        let (id, phase) = waiting?;
        if !matches!(phase, Phase::Stopping { .. }) {
            self.stop(id, Then::Idle);
        }
        Some(id)
    }

    fn step_start(&mut self) {
        loop {
            let Some(cursor) = self.group.as_ref().map(|group| group.cursor) else { return };
            let next = self.children.range(cursor..).next().map(|(id, kid)| (*id, kid.phase));
            match next {
                Some((child, Phase::Idle)) => {
                    self.move_cursor(child);
                    self.start(child);
                    return;
                }
                Some((child, Phase::Starting)) => {
                    self.move_cursor(child);
                    return;
                }
                Some((ChildId(id), _)) => self.move_cursor(ChildId(id + 1)),
                None => {
                    self.group = None;
                    if self.mode == Mode::Booting {
                        self.mode = Mode::Running;
                        self.out.push(Command::Ready);
                    }
                    return;
                }
            }
        }
    }

    fn move_cursor(&mut self, cursor: ChildId) {
        if let Some(group) = &mut self.group {
            group.cursor = cursor;
        }
    }
}
