//! The moves that spread the replicas of a firmware again, after a node has come or come back.

use odeum_proto::{
    Epoch,
    store::{Command, NodeRecord},
};

use super::{
    Host, Leased, Table, Wish,
    rank::{Crowd, Load},
};

/// The move that makes the replicas of one firmware more evenly spread, all of which are in `wishes`:
/// over zones first, from one that has at least two more of them than another, because with one more
/// nothing would be gained; then over nodes, in the same way, where that makes the zones no worse.
/// It goes where it may be, and not beside what it is apart from now. Nothing while one of them moves
/// or is not where it can stay.
#[must_use]
pub fn even_out(
    wishes: &[Wish<'_>],
    table: Table<'_>,
    hosts: &[Host<'_>],
    leased: &Leased,
) -> Option<Command> {
    let takers: Vec<&Host<'_>> = hosts.iter().filter(|host| host.takes(leased) > 0).collect();
    let mut here: Vec<Here<'_>> = Vec::with_capacity(wishes.len());
    for wish in wishes {
        let placed =
            table.placements.get(&wish.entity).filter(|_| !table.is_moving(&wish.entity))?;
        let at = takers.iter().find(|host| host.record.id == placed.node)?.record;
        here.push(Here { wish, at, epoch: placed.epoch });
    }
    let first = &wishes.first()?.entity;
    let mut crowd = Crowd::of_others(first, table, hosts);
    for Here { wish, at, .. } in &here {
        crowd.change(&wish.entity, &at.id, 1);
    }
    let view = crowd.view(first, table.apart);
    // The last one on each node: the first one is the one that most callers know.
    here.sort_by(|a, b| a.at.id.cmp(&b.at.id));
    let last = here.chunk_by(|a, b| a.at.id == b.at.id).filter_map(<[Here<'_>]>::last);
    let moves = last.filter_map(|it| {
        let gains = takers.iter().filter(|to| it.wish.fits(to.record)).filter_map(|to| {
            let closer = view.closer(it.at, to.record);
            let is_better = closer < (0, 0) && !view.comes_beside(&it.at.id, &to.record.id);
            is_better.then_some((closer, *to))
        });
        let gains: Vec<_> = gains.collect();
        let best = gains.iter().map(|(closer, _)| *closer).min()?;
        let equal = gains.into_iter().filter(|(closer, _)| *closer == best);
        let to = equal.map(|(_, to)| Load::of(to, table, leased)).min()?;
        Some((best, it, to.record))
    });
    let (_, it, to) = moves.min_by_key(|(closer, ..)| *closer)?;
    let (entity, to) = (it.wish.entity.clone(), to.id.clone());
    Some(Command::BeginMove { entity, to, expected: it.epoch })
}

/// A replica, and where it is.
struct Here<'a> {
    wish: &'a Wish<'a>,
    at: &'a NodeRecord,
    epoch: Epoch,
}
