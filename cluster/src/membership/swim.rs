//! The failure detector's decisions: what came in and which timer rang → what to send, which
//! timers to set, what changed. Pure: no clock, no socket, its chances come from a seed.
//!
//! Source: Das, Gupta, Motivala 2002, "SWIM", with suspicion (§4.2) and the extensions of foca.
//! When a suspicion may become a verdict is for `vigil.rs` to say.

use std::num::{NonZeroU8, NonZeroUsize};
use std::time::{Duration, Instant};

use bytes::Bytes;
use foca::{AccumulatingRuntime, Codec as _, Foca, NoCustomBroadcast, PeriodicParams};
use odeum_proto::{Incarnation, NodeId, limits};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::MembershipConfig;
use super::identity::{Codec, CodecError, Identity};
use super::vigil::{Awake, Vigil};

/// A timer of the detector; give it back when it rings.
#[derive(Debug)]
pub(super) struct Timer {
    rings: foca::Timer<Identity>,
    /// When it was set first.
    set: Awake,
}

/// What the detector wants done.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// Packets to send.
    pub(super) send: Vec<(NodeId, Bytes)>,
    /// Timers to set.
    pub(super) timers: Vec<(Duration, Timer)>,
    /// Members that were declared down.
    pub(super) down: Vec<NodeId>,
}

/// A packet that was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum SwimError {
    /// It is no packet.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// It claims another sender than the link it came over.
    #[error("it claims to come from {claimed}")]
    Sender {
        /// Whom it claims to come from.
        claimed: NodeId,
    },
}

/// A member in the detector's eyes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemberState {
    /// It answers.
    Alive,
    /// It did not answer; it is used like an alive one until it is declared down or answers.
    Suspect,
    /// It did not answer for long enough, or it left.
    Down,
}

/// One node's failure detector.
pub(super) struct Swim {
    foca: Foca<Identity, Codec, StdRng, NoCustomBroadcast>,
    out: AccumulatingRuntime<Identity>,
    vigil: Vigil,
}

impl Swim {
    pub(super) fn new(identity: Identity, config: &MembershipConfig, seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        Self {
            foca: Foca::new(identity, foca_config(config), rng, Codec),
            out: AccumulatingRuntime::new(),
            vigil: Vigil::new(config),
        }
    }

    /// This node's own identity: renewed when it was wrongly declared down.
    pub(super) fn identity(&self) -> &Identity {
        self.foca.identity()
    }

    /// All members but this node, the ones that are down included.
    pub(super) fn members(&self) -> impl Iterator<Item = (&NodeId, Incarnation, MemberState)> {
        self.foca.iter_membership_state().map(|member| {
            let state = match member.state() {
                foca::State::Alive => MemberState::Alive,
                foca::State::Suspect => MemberState::Suspect,
                foca::State::Down => MemberState::Down,
            };
            (&member.id().node, member.id().incarnation, state)
        })
    }

    /// A packet came over the link to `from`. Of nodes that are not members yet it is believed what
    /// it says of those that are `known`.
    pub(super) fn receive(
        &mut self,
        from: &NodeId,
        packet: &[u8],
        known: impl Fn(&NodeId) -> bool,
        now: Instant,
    ) -> Result<Effects, SwimError> {
        let awake = self.vigil.look(now);
        let header = Codec.decode_header(packet)?;
        if header.src.node != *from {
            return Err(SwimError::Sender { claimed: header.src.node });
        }
        self.vigil.heard(from);
        let without = self.without_strangers(packet, known);
        let packet = without.as_deref().unwrap_or(packet);
        if let Err(error) = self.foca.handle_data(packet, &mut self.out) {
            tracing::debug!(peer = %from, %error, "packet not taken whole");
        }
        Ok(self.drain(awake))
    }

    /// A packet without what it says of nodes that are neither members nor `known`; `None` when it
    /// names none, or is no packet. Else a peer could make up members without end, and the few
    /// real ones among them would hardly ever be probed.
    fn without_strangers(&self, packet: &[u8], known: impl Fn(&NodeId) -> bool) -> Option<Vec<u8>> {
        let mut rest = packet;
        let header = Codec.decode_header(&mut rest).ok()?;
        let (count, mut rest) =
            rest.split_first_chunk().map(|(n, r)| (u16::from_be_bytes(*n), r))?;
        let mut named = Vec::new();
        for _ in 0..count {
            named.push(Codec.decode_member(&mut rest).ok()?);
        }
        let is_stranger = |node: &NodeId| {
            *node != self.identity().node
                && !known(node)
                && !self.members().any(|(member, ..)| member == node)
        };
        let before = named.len();
        named.retain(|member| !is_stranger(&member.id().node));
        if named.len() == before {
            return None;
        }
        let mut packet = Vec::with_capacity(packet.len());
        Codec.encode_header(&header, &mut packet).ok()?;
        packet.extend(u16::try_from(named.len()).ok()?.to_be_bytes());
        for member in named {
            Codec.encode_member(&member, &mut packet).ok()?;
        }
        Some(packet)
    }

    /// A timer rang.
    pub(super) fn rang(&mut self, timer: Timer, now: Instant) -> Effects {
        let awake = self.vigil.look(now);
        if let foca::Timer::ChangeSuspectToDown { member_id, .. } = &timer.rings
            && let Some(left) = self.vigil.left(&member_id.node, timer.set)
        {
            return Effects { timers: vec![(left, timer)], ..Effects::default() };
        }
        if let Err(error) = self.foca.handle_timer(timer.rings, &mut self.out) {
            // A busy machine delivers timers late and out of order; foca recovers by itself.
            tracing::debug!(%error, "failure detector timer");
        }
        self.drain(awake)
    }

    /// Asks a node to take this one into its cluster.
    pub(super) fn announce(
        &mut self,
        node: &NodeId,
        incarnation: Incarnation,
        now: Instant,
    ) -> Effects {
        let awake = self.vigil.look(now);
        let to = Identity { node: node.clone(), incarnation, renewal: 0 };
        if let Err(error) = self.foca.announce(to, &mut self.out) {
            tracing::debug!(peer = %node, %error, "announce");
        }
        self.drain(awake)
    }

    /// Declares this node down itself, so that nobody has to find out.
    pub(super) fn leave(&mut self, now: Instant) -> Effects {
        let awake = self.vigil.look(now);
        if let Err(error) = self.foca.leave_cluster(&mut self.out) {
            tracing::debug!(%error, "leave");
        }
        self.drain(awake)
    }

    fn drain(&mut self, awake: Awake) -> Effects {
        let mut effects = Effects::default();
        while let Some(news) = self.out.to_notify() {
            match news {
                foca::OwnedNotification::MemberDown(id) => {
                    self.vigil.forget(&id.node);
                    effects.down.push(id.node);
                }
                foca::OwnedNotification::Rejoin(_) => self.forget_suspicions(),
                _ => {}
            }
        }
        while let Some((to, packet)) = self.out.to_send() {
            effects.send.push((to.node, packet));
        }
        while let Some((after, rings)) = self.out.to_schedule() {
            let after = match &rings {
                foca::Timer::ChangeSuspectToDown { member_id, .. } => {
                    self.vigil.left(&member_id.node, awake).unwrap_or(after)
                }
                _ => after,
            };
            effects.timers.push((after, Timer { rings, set: awake }));
        }
        effects
    }

    /// This node was declared down though it lives, and is back: it was cut off, so that others
    /// did not answer it proves nothing. Its suspicions would stay for ever: the timers that were
    /// to end them went with its former identity, and who was never told of one cannot refute it.
    ///
    /// Only here, and told to nobody: a suspect that is dead is suspected again by its next probe.
    fn forget_suspicions(&mut self) {
        let suspects = self.foca.iter_membership_state().filter_map(|member| {
            let suspect = member.state() == foca::State::Suspect;
            let newer = member.incarnation().checked_add(1).filter(|_| suspect)?;
            Some(foca::Member::new(member.id().clone(), newer, foca::State::Alive))
        });
        let suspects: Vec<_> = suspects.collect();
        if let Err(error) = self.foca.apply_many(suspects.into_iter(), false, &mut self.out) {
            tracing::debug!(%error, "suspicions not forgotten");
        }
    }
}

/// How often one update is passed on. It reaches all of 1,000 nodes with 10.
const TRANSMISSIONS: NonZeroU8 = NonZeroU8::new(10).unwrap();
/// Members that are asked to probe for us, and that are gossiped to at a time.
const HELPERS: NonZeroUsize = NonZeroUsize::new(3).unwrap();
/// Members that are asked for their list at a time.
const ASKED: NonZeroUsize = NonZeroUsize::new(1).unwrap();
/// How often a member's list is asked for: closes gaps that lost packets left.
const ASK_PERIOD: Duration = Duration::from_secs(10);
/// How often members that are down are talked to, so that a healed partition is found.
const DOWN_PERIOD: Duration = Duration::from_secs(1);
/// How long a member is remembered as down.
const REMEMBER_DOWN: Duration = Duration::from_secs(24 * 3_600);
const PACKET: NonZeroUsize = NonZeroUsize::new(limits::DATAGRAM_BYTES).unwrap();

fn foca_config(config: &MembershipConfig) -> foca::Config {
    foca::Config {
        probe_period: config.probe_period,
        probe_rtt: config.probe_timeout,
        num_indirect_probes: HELPERS,
        max_transmissions: TRANSMISSIONS,
        suspect_to_down_after: config.suspicion,
        remove_down_after: Some(REMEMBER_DOWN),
        max_packet_size: PACKET,
        notify_down_members: true,
        periodic_announce: Some(PeriodicParams { frequency: ASK_PERIOD, num_members: ASKED }),
        periodic_announce_to_down_members: Some(PeriodicParams {
            frequency: DOWN_PERIOD,
            num_members: HELPERS,
        }),
        periodic_gossip: Some(PeriodicParams {
            frequency: config.gossip_period,
            num_members: HELPERS,
        }),
    }
}

#[cfg(test)]
mod tests;
