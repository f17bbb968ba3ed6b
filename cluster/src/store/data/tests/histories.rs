//! Random histories from a small world, so that commands meet each other's effects often: the
//! state machine beside its [`Model`].

use std::collections::BTreeMap;

use odeum_proto::codec;
use odeum_proto::session::{Change, Compare, Ended, Quotas, Test, What};

use super::model::{Answer, Model};
use super::*;
use crate::store::seeds::{Random, from_each_seed};

/// How many histories.
const SEEDS: u64 = 10_000;

impl Random {
    fn session(&mut self) -> SessionId {
        session(self.pick(&["s", "s", "t", "f/s"]))
    }

    fn key<T: From<&'static str>>(&mut self) -> T {
        T::from(self.pick(&["a", "a", "b"]))
    }

    fn value(&mut self) -> Value {
        match self.below(5) {
            0 => Value::string("x"),
            1 => Value::bytes(&[1, 2]),
            n => Value::Integer(n as i64 * 3 - 6),
        }
    }

    fn ttl(&mut self) -> Option<Duration> {
        self.pick(&[None, Some(5), Some(20)]).map(Duration::from_millis)
    }

    fn text(&mut self) -> Box<str> {
        self.pick(&["p", "q"]).into()
    }

    fn definition(&mut self) -> Definition {
        let bound = |n: u64| Value::Integer(n as i64);
        Definition {
            kind: self.pick(&[ValueType::Integer, ValueType::Integer, ValueType::String]),
            constraints: Constraints::default(),
            history: self.below(3) as u8,
            metadata: Metadata::new(),
        }
        .bounded(self.maybe(|r| bound(r.below(3))), self.maybe(|r| bound(3 + r.below(3))))
    }

    fn operation(&mut self) -> Operation {
        match self.below(12) {
            0 | 1 => Operation::Register {
                key: self.key(),
                definition: Box::new(self.definition()),
                initial: self.value(),
                replace: self.below(2) == 0,
            },
            2..=6 => Operation::Set {
                key: self.key(),
                value: self.value(),
                expected: self.maybe(|r| r.below(5)),
                register: self.below(4) > 0,
            },
            7 | 8 => Operation::Delete { key: self.key(), expected: self.maybe(|r| r.below(5)) },
            9 => Operation::Note { key: self.text(), value: self.maybe(Self::text) },
            10 => Operation::PutProgram { name: self.text(), program: program("x") },
            _ => Operation::DeleteProgram { name: self.text() },
        }
    }

    fn compare(&mut self) -> Compare {
        let test = match self.below(3) {
            0 => Test::Version(self.below(4)),
            1 => Test::Exists(self.below(2) == 0),
            _ => Test::Is(self.value()),
        };
        Compare { key: self.key(), test }
    }

    fn write(&mut self) -> Write {
        let key = String::from(self.key::<&str>());
        match self.maybe(|r| r.below(4)) {
            Some(_) => Write::Delete { key },
            None => Write::Set { key, value: vec![b'1'; self.below(3) as usize] },
        }
    }

    fn action(&mut self) -> DataAction {
        let (kind, session) = (self.below(29), self.session());
        match kind {
            0..=3 => {
                let ttl = self.ttl();
                let metadata = self.maybe(|r| (r.text(), r.text())).into_iter().collect();
                DataAction::CreateSession { session, settings: SessionSettings { ttl, metadata } }
            }
            4 => DataAction::TouchSession { session },
            5 => DataAction::DeleteSession { session },
            6 => DataAction::SetTtl { session, ttl: self.ttl() },
            7..=14 => DataAction::Operate { session, operation: self.operation() },
            15 | 16 => DataAction::Batch {
                session,
                atomic: self.below(2) == 0,
                operations: self.many(4, Self::operation),
            },
            17 | 18 => DataAction::Transaction {
                session,
                compare: self.many(2, Self::compare),
                then: self.many(3, Self::operation),
                otherwise: self.many(3, Self::operation),
            },
            19 => DataAction::Expire { max: self.below(3) as u32 },
            20 => {
                let (entity, epoch) = (self.entity(), self.epoch());
                DataAction::Fence { entity, epoch, born: Epoch(self.below(epoch.0)) }
            }
            21 => DataAction::Forget { entity: self.entity(), epoch: self.epoch() },
            22 => DataAction::SetQuotas(self.quotas()),
            23 => DataAction::Compact { upto: Revision(self.below(40)) },
            _ => DataAction::Commit(Commit {
                entity: self.entity(),
                epoch: self.epoch(),
                request: request(self.pick(&["r1", "r2", "r3", "r4"])),
                session,
                writes: self.many(3, Self::write),
                reply: vec![self.below(9) as u8],
                carried: self.many(2, |it| Carried {
                    request: request(it.pick(&["r1", "r2", "r3", "r4"])),
                    reply: Some(vec![it.below(9) as u8].into()),
                }),
            }),
        }
    }

    fn quotas(&mut self) -> Quotas {
        let highest = Quotas::HIGHEST;
        Quotas {
            sessions: self.pick(&[1, 2, highest.sessions]),
            variables_per_session: self.pick(&[1, highest.variables_per_session]),
            variable_bytes: self.pick(&[1, 4, highest.variable_bytes]),
            ..highest
        }
    }

    fn entity(&mut self) -> EntityId {
        entity(self.pick(&["firmware/f", "firmware/g"]))
    }

    fn epoch(&mut self) -> Epoch {
        Epoch(1 + self.below(4))
    }

    fn command(&mut self) -> DataCommand {
        let origin = self.maybe(|r| {
            let sequence = 1 + r.below(4);
            let lowest = 1 + r.below(2).min(r.below(sequence));
            origin(r.pick(&["n1", "n2"]), 1 + r.below(6) / 5, sequence, lowest)
        });
        let request = self.maybe(|r| request(r.pick(&["k1", "k2"])));
        DataCommand { origin, request, action: self.action() }
    }
}

trait Bounded {
    fn bounded(self, min: Option<Value>, max: Option<Value>) -> Self;
}

impl Bounded for Definition {
    fn bounded(mut self, min: Option<Value>, max: Option<Value>) -> Self {
        if self.kind == ValueType::Integer {
            self.constraints.min = min;
            self.constraints.max = max;
        }
        self
    }
}

fn same_sessions(data: &Data, model: &Model) {
    assert!(data.sessions().keys().eq(model.sessions.keys()));
    for (ours, theirs) in data.sessions().values().zip(model.sessions.values()) {
        assert_eq!((ours.ttl(), ours.touched().0), (theirs.ttl, theirs.touched));
        assert_eq!(ours.metadata(), &theirs.metadata);
        assert_eq!(ours.programs(), &theirs.programs);
        assert_eq!(ours.last_version, theirs.last_version);
        assert!(ours.variables().keys().eq(theirs.variables.keys()));
        for (ours, theirs) in ours.variables().values().zip(theirs.variables.values()) {
            assert_eq!(ours.definition(), theirs.definition);
            let past = ours.history().map(|past| (past.value.clone(), past.version));
            let values: Vec<_> = past.chain([(ours.value().clone(), ours.version())]).collect();
            assert_eq!(values, theirs.values);
        }
    }
}

/// A refused command changes nothing; what time brings and what its client is told is no effect of
/// it.
fn nothing_but_time(before: &Data, after: &Data, command: &DataCommand, revision: u64) {
    let mut ticked = before.clone();
    ticked.state.now = after.state.now;
    if let Some(session) = command.action.session() {
        ticked.end_if_due(Revision(revision), session);
    }
    if command.origin.is_some() {
        ticked.state.clients = after.state.clients.clone();
    }
    assert_eq!(&ticked, after);
}

fn every_change_is_given_once_or_is_forgotten(data: &Data, model: &Model, last: u64) {
    for from in 0..=last {
        if from < model.compacted {
            let forgotten = data.changes_after(Revision(from), Watched::All).map(drop);
            assert_eq!(forgotten, Err(Compacted { at: Revision(model.compacted) }));
            continue;
        }
        let after = |change: &&Change| change.revision.0 > from;
        let given = |watched: Watched<'_>| -> Vec<_> {
            let changes = data.changes_after(Revision(from), watched).expect("all are there");
            changes.map(|change| (**change).clone()).collect()
        };
        let wanted: Vec<_> = model.changes.iter().filter(after).cloned().collect();
        assert_eq!(given(Watched::All), wanted);
        let id = session("s");
        let of_one: Vec<_> = wanted.iter().filter(|c| c.session == id).cloned().collect();
        assert_eq!(given(Watched::Session(&id)), of_one);
        let glob = "?".parse().expect("valid");
        let of_some: Vec<_> =
            wanted.into_iter().filter(|c| c.session.as_str().len() == 1).collect();
        assert_eq!(given(Watched::Matching(&glob)), of_some);
    }
}

/// A variable that is there gets the next version, and one that is made again one that is above
/// all that it has had.
fn versions_grow_by_one(changes: &[Change]) {
    let mut there: BTreeMap<(&SessionId, &str), u64> = BTreeMap::new();
    let mut removed: BTreeMap<(&SessionId, &str), u64> = BTreeMap::new();
    for Change { session, what, .. } in changes {
        match what {
            What::Created => {
                there.retain(|(of, _), _| *of != session);
                removed.retain(|(of, _), _| *of != session);
            }
            What::Set { key, version, .. } => {
                let had = removed.get(&(session, &**key)).copied().unwrap_or_default();
                match there.insert((session, key), *version) {
                    Some(before) => assert_eq!(*version, before + 1, "{key} of {session}"),
                    None => assert!(*version > had, "{key} of {session}"),
                }
            }
            What::Removed { key } => {
                let had = there.remove(&(session, &**key));
                removed.insert((session, key), had.expect("it was there"));
            }
            _ => {}
        }
    }
}

/// Who ends because its time is over has had all of it since it was last renewed.
fn nothing_ends_before_its_time(before: &Data, after: &Data, new: &[Change]) {
    let ended = new.iter().filter(|change| change.what == What::Deleted(Ended::Expired));
    for Change { session, .. } in ended {
        let due = before.sessions().get(session).and_then(|session| session.due());
        assert!(due.is_some_and(|due| due <= after.now()), "{session} was due at {due:?}");
    }
}

/// A command that is sent again, or a request that is made again, is answered as before and
/// changes nothing.
fn what_is_repeated_is_answered_and_not_done(
    data: &Data,
    command: &DataCommand,
    outcome: &DataOutcome,
    revision: u64,
) {
    let kept = command.action.session().is_some_and(|id| data.sessions().contains_key(id));
    let refused = matches!(outcome, DataOutcome::Refused(_));
    if command.origin.is_none() && !(command.request.is_some() && kept && !refused) {
        return;
    }
    let mut again = data.clone();
    let answer = again.apply(Revision(revision + 1), data.now(), command);
    assert_eq!(&answer, outcome, "another answer");
    assert_eq!(&again, data, "a second effect");
}

/// A replica as one that was started from a snapshot of `data`.
fn restored(data: &Data) -> Data {
    let bytes = codec::encode(data).expect("encodes");
    let replica = codec::decode(&bytes).expect("decodes");
    assert_eq!(&replica, data, "a snapshot read back");
    replica
}

fn history(seed: u64) {
    let mut random = Random::new(seed);
    let (mut data, mut model) = (Data::default(), Model::default());
    let mut replica = data.clone();
    let (mut at, last) = (1_000, random.within(5..40));
    for revision in 1..=last {
        at += random.below(8);
        // The next leader's clock may be behind.
        let stamp = at - random.below(3);
        let command = random.command();
        let (before, told) = (data.clone(), model.changes.len());
        let outcome = data.apply(Revision(revision), LogTime(stamp), &command);
        let wanted = model.apply(revision, stamp, &command);
        let there = replica.apply(Revision(revision), LogTime(stamp), &command);
        assert_eq!(there, outcome, "another replica's outcome");
        if matches!(outcome, DataOutcome::Refused(_)) {
            nothing_but_time(&before, &data, &command, revision);
        }
        what_is_repeated_is_answered_and_not_done(&data, &command, &outcome, revision);
        assert_eq!(Answer::from(outcome), wanted, "seed {seed} {revision}: {command:?}");
        same_sessions(&data, &model);
        nothing_ends_before_its_time(&before, &data, &model.changes[told..]);
        if random.percent(5) {
            replica = restored(&data);
        }
    }
    assert_eq!(replica, data, "a replica that was started from snapshots");
    check_index(&data);
    check_index(&replica);
    versions_grow_by_one(&model.changes);
    every_change_is_given_once_or_is_forgotten(&data, &model, last);
}

#[test]
fn every_replica_does_what_the_model_says_and_a_refused_command_does_nothing() {
    let test = "store::data::tests::histories::\
                every_replica_does_what_the_model_says_and_a_refused_command_does_nothing";
    from_each_seed(test, SEEDS, history);
}
