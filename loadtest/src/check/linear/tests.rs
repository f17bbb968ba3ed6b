//! Against a search that tries everything, on histories small enough for it.

use proptest::prelude::*;

use super::*;

/// A register without versions: the more can be, the more a search has to keep in mind.
#[derive(Debug)]
struct Plain;

impl Model for Plain {
    type State = u8;
    /// Writes, or reads when there is nothing to write.
    type Op = Option<u8>;
    /// What was read; what was written.
    type Answer = u8;

    fn step(state: &u8, op: &Option<u8>, answer: Option<&u8>) -> Option<u8> {
        let after = op.unwrap_or(*state);
        answer.is_none_or(|answer| *answer == after).then_some(after)
    }

    fn changes_nothing(op: &Option<u8>, _: &u8) -> bool {
        op.is_none()
    }
}

#[derive(Debug, Clone)]
struct Operation {
    op: Option<u8>,
    answer: Option<u8>,
    called: u8,
    returned: Option<u8>,
}

fn operation() -> impl Strategy<Value = Operation> {
    let op = prop_oneof![Just(None), (1..4_u8).prop_map(Some)];
    (op, 0..4_u8, 0..16_u8, 1..8_u8, prop::bool::weighted(0.2)).prop_map(
        |(op, read, called, took, open)| Operation {
            op,
            answer: (!open).then(|| op.unwrap_or(read)),
            called,
            returned: (!open).then_some(called + took),
        },
    )
}

fn checked(history: &[Operation]) -> bool {
    let mut moments: Vec<(u8, bool, usize)> = Vec::new();
    for (id, operation) in history.iter().enumerate() {
        moments.push((operation.called, false, id));
        moments.extend(operation.returned.map(|at| (at, true, id)));
    }
    moments.sort_unstable();
    let mut checker = Checker::<Plain>::new(0);
    moments.into_iter().all(|(_, returns, id)| {
        let number = u32::try_from(id).unwrap();
        if returns {
            return checker.returns(number).is_ok();
        }
        checker.call(number, history[id].op, history[id].answer);
        true
    })
}

/// Whether some order of what is left explains it, tried one by one.
fn explained(history: &[Operation], left: &[usize], state: u8) -> bool {
    let first_return = left.iter().filter_map(|&id| history[id].returned).min();
    let Some(first_return) = first_return else { return true };
    left.iter().any(|&id| {
        // Whatever happens next was called before anything that is left has returned.
        if history[id].called > first_return {
            return false;
        }
        let rest: Vec<usize> = left.iter().copied().filter(|&other| other != id).collect();
        Plain::step(&state, &history[id].op, history[id].answer.as_ref())
            .is_some_and(|after| explained(history, &rest, after))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn what_some_order_explains_is_accepted_and_nothing_else(
        history in prop::collection::vec(operation(), 0..8)
    ) {
        let all: Vec<usize> = (0..history.len()).collect();
        prop_assert_eq!(checked(&history), explained(&history, &all, 0));
    }
}

#[test]
fn a_dozen_open_writes_are_kept_in_mind() {
    let mut checker = Checker::<Plain>::new(0);
    for id in 0..12 {
        checker.call(id, Some(u8::try_from(id + 1).unwrap()), None);
    }
    for (id, read) in (12..).zip([3, 7, 1, 12]) {
        checker.call(id, None, Some(read));
        assert_eq!(checker.returns(id), Ok(()));
    }
    // Each of them can have happened once.
    checker.call(16, None, Some(3));
    assert!(matches!(checker.returns(16), Err(Fault::Impossible { id: 16, .. })));
}
