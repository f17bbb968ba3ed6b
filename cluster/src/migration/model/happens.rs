//! What can happen in a world, and which worlds come of it.

use odeum_proto::Epoch;
use odeum_proto::store::{Command, Outcome, Refusal};

use super::{ACTS, Active, Arrival, Giving, NODES, Standing, World, doing, name};
use crate::migration::steps::{Act, End, Event, Machine};

impl World {
    /// All that can happen next, but for messages.
    pub(super) fn nexts(&self) -> Vec<Self> {
        let mut nexts = Vec::new();
        for of in 0..self.parts.len() {
            self.migrator(of, &mut nexts);
            self.log(of, &mut nexts);
            self.coordinators(of, &mut nexts);
            self.crashes(of, &mut nexts);
        }
        self.deaths(&mut nexts);
        self.cuts(&mut nexts);
        nexts
    }

    /// Messages that are answered.
    pub(super) fn messages(&self) -> Vec<Self> {
        let mut nexts = Vec::new();
        for (of, part) in self.parts.iter().enumerate() {
            for node in (0..NODES).filter(|node| self.speaks(of, *node)) {
                if part.answered < self.budget.messages {
                    nexts.push(self.with_part(of, |part| {
                        part.answered += 1;
                        part.active[node].as_mut().expect("it speaks").memory += 1;
                    }));
                }
            }
        }
        nexts
    }

    fn migrator(&self, of: usize, nexts: &mut Vec<Self>) {
        let part = &self.parts[of];
        if self.standing[part.source] == Standing::Dead {
            return;
        }
        let Some(giving) = &part.giving else {
            let made = self.table.moves().get(&part.entity);
            let made = made.filter(|made| made.is_under_way() && self.is_well(part.source));
            if let Some(made) = made {
                let (machine, act) = Machine::begin();
                let giving = Giving { machine, act: doing(act), epoch: made.epoch };
                nexts.push(self.with_part(of, |part| part.giving = Some(giving)));
            }
            return;
        };
        let (act, is_half_done) = giving.act;
        let epoch = giving.epoch;
        let is_here = part.active[part.source].as_ref().filter(|it| it.epoch == epoch);
        let hears = self.is_well(part.source) && self.is_well(part.target);
        match ACTS[act] {
            Act::Prepare => {
                if is_here.is_some() && hears {
                    for event in [Event::Prepared { small: true }, Event::Failed] {
                        nexts.push(self.with(|next| {
                            next.parts[of].arrival = Some(Arrival { epoch, memory: None });
                            next.event(of, event);
                        }));
                    }
                }
                nexts.push(self.with(|next| next.event(of, Event::Failed)));
            }
            Act::Freeze => {
                if is_here.is_some() {
                    nexts.push(self.with(|next| {
                        next.parts[of].freeze(true);
                        next.event(of, Event::Frozen);
                    }));
                }
                nexts.push(self.with(|next| next.event(of, Event::Failed)));
            }
            Act::Send => {
                let is_expected = part.arrival.as_ref().is_some_and(|it| it.epoch == epoch);
                let memory = is_here.map(|it| it.memory);
                if is_expected && hears && memory.is_some() {
                    for event in [Event::Thawed, Event::Failed] {
                        nexts.push(self.with(|next| {
                            if let Some(arrival) = &mut next.parts[of].arrival {
                                arrival.memory = memory;
                            }
                            next.event(of, event);
                        }));
                    }
                }
                nexts.push(self.with(|next| next.event(of, Event::Failed)));
            }
            Act::Switch if self.is_well(part.source) => self.switches(of, epoch, nexts),
            // It goes on, and a while later the log is asked.
            Act::CallOff if !is_half_done => nexts.push(self.with_part(of, |part| {
                part.freeze(false);
                if let Some(giving) = &mut part.giving {
                    giving.act.1 = true;
                }
            })),
            Act::CallOff | Act::Retract if self.is_well(part.source) => {
                for is_heard in [true, false] {
                    nexts.push(self.with(|next| {
                        let entity = next.parts[of].entity.clone();
                        let command = Command::CallOff { entity, expected: epoch };
                        let event = match next.apply(&command) {
                            Outcome::Refused(Refusal::StaleEpoch { .. }) => Event::Stale,
                            _ => Event::CalledOff,
                        };
                        next.event(of, if is_heard { event } else { Event::Unknown });
                    }));
                }
            }
            // The log does not hear it.
            Act::Switch | Act::CallOff | Act::Retract => {
                nexts.push(self.with(|next| next.event(of, Event::Unknown)));
            }
            Act::Copy | Act::Finish(_) => unreachable!("not kept"),
        }
    }

    fn switches(&self, of: usize, epoch: Epoch, nexts: &mut Vec<Self>) {
        nexts.push(self.with(|next| {
            let event = next.switch(of, epoch);
            next.event(of, event);
        }));
        // The other node cannot be given anything at the moment.
        nexts.push(self.with(|next| next.event(of, Event::Refused)));
        // Its outcome is not heard; it may be made now, later or never.
        nexts.push(self.with(|next| {
            next.switch(of, epoch);
            next.event(of, Event::Unknown);
        }));
        if self.parts[of].on_its_way.is_none() {
            nexts.push(self.with(|next| {
                next.parts[of].on_its_way = Some(epoch);
                next.event(of, Event::Unknown);
            }));
        }
    }

    fn switch(&mut self, of: usize, expected: Epoch) -> Event {
        let part = &self.parts[of];
        let (entity, to) = (part.entity.clone(), name(part.target));
        match self.apply(&Command::Switch { entity, to, expected }) {
            Outcome::Placed { .. } => Event::Switched,
            Outcome::Refused(Refusal::StaleEpoch { .. }) => Event::Stale,
            _ => Event::Refused,
        }
    }

    fn event(&mut self, of: usize, event: Event) {
        let part = &mut self.parts[of];
        let Some(giving) = &mut part.giving else { return };
        match (self.on)(&mut giving.machine, event) {
            Act::Finish(End::Moved | End::Overtaken) => {
                let epoch = giving.epoch;
                part.giving = None;
                if part.at_source(epoch).is_some() {
                    part.active[part.source] = None;
                }
            }
            Act::Finish(End::Stayed) => {
                part.freeze(false);
                part.giving = None;
            }
            act => giving.act = doing(act),
        }
    }

    fn log(&self, of: usize, nexts: &mut Vec<Self>) {
        if let Some(epoch) = self.parts[of].on_its_way {
            nexts.push(self.with(|next| {
                next.parts[of].on_its_way = None;
                next.switch(of, epoch);
            }));
            nexts.push(self.with_part(of, |part| part.on_its_way = None));
        }
        // Who has died, or is cut off for so long that its lease is over, loses what it had.
        let (owner, epoch) = self.place(of);
        if matches!(self.standing[owner], Standing::Dead | Standing::Lapsed) {
            for other in (0..NODES).filter(|node| self.is_well(*node)) {
                nexts.push(self.with(|next| next.place_anew(of, other, epoch)));
            }
        }
    }

    /// It begins without what it had in memory.
    fn place_anew(&mut self, of: usize, node: usize, epoch: Epoch) {
        self.parts[of].may_forget = true;
        let entity = self.parts[of].entity.clone();
        self.apply(&Command::Place { entity, node: name(node), expected: Some(epoch) });
    }

    /// Each node that sees the table ends what is not its own and begins what is.
    fn coordinators(&self, of: usize, nexts: &mut Vec<Self>) {
        let (part, (owner, epoch)) = (&self.parts[of], self.place(of));
        for node in (0..NODES).filter(|node| self.is_well(*node)) {
            let active = part.active[node].as_ref();
            let is_current = active.is_some_and(|it| it.epoch == epoch && node == owner);
            // What a move has frozen is told by it.
            let is_frozen = active.is_some_and(|active| active.frozen);
            if active.is_some() && !is_current && !is_frozen {
                nexts.push(self.with_part(of, |part| part.active[node] = None));
            }
            if active.is_none() && node == owner {
                nexts.push(self.with(|next| next.start(of, node, epoch)));
            }
        }
        let made = self.table.moves().get(&part.entity);
        if let Some(arrival) = &part.arrival
            && self.is_well(part.target)
            && made.is_none_or(|made| made.epoch != arrival.epoch)
        {
            nexts.push(self.with_part(of, |part| part.arrival = None));
        }
    }

    fn start(&mut self, of: usize, node: usize, epoch: Epoch) {
        let came_from = self.table.moved_from(&self.parts[of].entity, epoch);
        let part = &mut self.parts[of];
        let came_from = came_from.filter(|_| node == part.target);
        let arrival = part.arrival.take_if(|arrival| Some(arrival.epoch) == came_from);
        let memory = arrival.and_then(|arrival| arrival.memory).unwrap_or_default();
        part.active[node] = Some(Active { epoch, memory, frozen: false });
    }

    fn deaths(&self, nexts: &mut Vec<Self>) {
        let alive = |node: &usize| self.standing[*node] != Standing::Dead;
        for node in (0..NODES).filter(alive).filter(|_| self.budget.deaths > 0) {
            nexts.push(self.with(|next| {
                next.budget.deaths -= 1;
                next.standing[node] = Standing::Dead;
                for part in &mut next.parts {
                    part.active[node] = None;
                    if part.source == node {
                        part.giving = None;
                    }
                    if part.target == node {
                        part.arrival = None;
                    }
                }
            }));
        }
    }

    fn cuts(&self, nexts: &mut Vec<Self>) {
        for (node, standing) in self.standing.into_iter().enumerate() {
            let to = |standing| self.with(|next| next.standing[node] = standing);
            match standing {
                Standing::Well if self.budget.cuts > 0 => nexts.push(self.with(|next| {
                    next.budget.cuts -= 1;
                    next.standing[node] = Standing::Cut;
                })),
                Standing::Cut => {
                    nexts.push(to(Standing::Well));
                    nexts.push(self.with(|next| {
                        next.standing[node] = Standing::Lapsed;
                        for part in &mut next.parts {
                            part.active[node] = None;
                        }
                    }));
                }
                // With the next lease it has what nobody has taken under another epoch.
                Standing::Lapsed => nexts.push(self.with(|next| {
                    next.standing[node] = Standing::Well;
                    for of in 0..next.parts.len() {
                        let (owner, epoch) = next.place(of);
                        if owner == node {
                            next.place_anew(of, node, epoch);
                        }
                    }
                })),
                Standing::Well | Standing::Dead => {}
            }
        }
    }

    /// A migrator dies. Nobody knows what it has asked the log for: what is frozen begins anew.
    fn crashes(&self, of: usize, nexts: &mut Vec<Self>) {
        let part = &self.parts[of];
        let Some(epoch) = part.giving.as_ref().map(|giving| giving.epoch) else { return };
        if self.budget.crashes == 0 || !self.is_well(part.source) {
            return;
        }
        nexts.push(self.with(|next| {
            next.budget.crashes -= 1;
            let part = &mut next.parts[of];
            part.giving = None;
            let source = part.source;
            if part.at_source(epoch).is_some_and(|active| active.frozen) {
                part.active[source] = None;
                next.place_anew(of, source, epoch);
            }
        }));
    }
}
