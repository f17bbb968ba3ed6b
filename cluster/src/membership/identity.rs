//! Who a member is to the failure detector, and its packets as bytes. Pure.
//!
//! Written by hand rather than derived, so that a release of foca cannot change our wire. A
//! packet has up to [`limits::DATAGRAM_BYTES`]; an identity takes 13 bytes and its name.

use bytes::{Buf, BufMut};
use foca::{Header, Member, Message, State};
use odeum_proto::{IdError, Incarnation, NodeId, limits};

/// One life of a node, as the failure detector counts lives.
///
/// A node that was declared down though it lives cannot refute that; it comes back as a new
/// identity. Its [`Incarnation`] is its start and must stay what it is on disk, so a second
/// number counts those returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) node: NodeId,
    pub(super) incarnation: Incarnation,
    pub(super) renewal: u32,
}

impl foca::Identity for Identity {
    type Addr = NodeId;

    fn renew(&self) -> Option<Self> {
        let renewal = self.renewal.checked_add(1)?;
        Some(Self { renewal, ..self.clone() })
    }

    fn addr(&self) -> NodeId {
        self.node.clone()
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        (self.incarnation, self.renewal) > (adversary.incarnation, adversary.renewal)
    }
}

/// Bytes that are no packet of the failure detector, or a packet that does not fit. It is
/// dropped: datagrams may be lost.
#[derive(Debug, thiserror::Error)]
pub(super) enum CodecError {
    /// No room is left in the packet.
    #[error("no room in the packet")]
    Full,
    /// The packet ends too early.
    #[error("the packet ends too early")]
    Truncated,
    /// A tag of another protocol.
    #[error("unknown {what} {got}")]
    Unknown {
        /// Which tag.
        what: &'static str,
        /// Its value.
        got: u8,
    },
    /// A name that cannot be one.
    #[error(transparent)]
    Name(#[from] IdError),
    /// A name that is no text.
    #[error(transparent)]
    Text(#[from] std::str::Utf8Error),
}

/// foca's packets in our bytes, little endian.
#[derive(Debug, Clone, Copy)]
pub(super) struct Codec;

impl foca::Codec<Identity> for Codec {
    type Error = CodecError;

    fn encode_header(
        &mut self,
        header: &Header<Identity>,
        mut buf: impl BufMut,
    ) -> Result<(), CodecError> {
        put_identity(&header.src, &mut buf)?;
        put_u16(header.src_incarnation, &mut buf)?;
        put_identity(&header.dst, &mut buf)?;
        put_message(&header.message, &mut buf)
    }

    fn decode_header(&mut self, mut buf: impl Buf) -> Result<Header<Identity>, CodecError> {
        Ok(Header {
            src: get_identity(&mut buf)?,
            src_incarnation: get_u16(&mut buf)?,
            dst: get_identity(&mut buf)?,
            message: get_message(&mut buf)?,
        })
    }

    fn encode_member(
        &mut self,
        member: &Member<Identity>,
        mut buf: impl BufMut,
    ) -> Result<(), CodecError> {
        put_identity(member.id(), &mut buf)?;
        put_u16(member.incarnation(), &mut buf)?;
        put_u8(
            match member.state() {
                State::Alive => 0,
                State::Suspect => 1,
                State::Down => 2,
            },
            &mut buf,
        )
    }

    fn decode_member(&mut self, mut buf: impl Buf) -> Result<Member<Identity>, CodecError> {
        let id = get_identity(&mut buf)?;
        let incarnation = get_u16(&mut buf)?;
        let state = match get_u8(&mut buf)? {
            0 => State::Alive,
            1 => State::Suspect,
            2 => State::Down,
            got => return Err(CodecError::Unknown { what: "member state", got }),
        };
        Ok(Member::new(id, incarnation, state))
    }
}

fn put_message(message: &Message<Identity>, buf: &mut impl BufMut) -> Result<(), CodecError> {
    let mut with = |tag, id: &Identity, number| {
        put_u8(tag, buf)?;
        put_identity(id, buf)?;
        put_u8(number, buf)
    };
    match message {
        Message::PingReq { target, probe_number } => with(2, target, *probe_number),
        Message::IndirectPing { origin, probe_number } => with(3, origin, *probe_number),
        Message::IndirectAck { target, probe_number } => with(4, target, *probe_number),
        Message::ForwardedAck { origin, probe_number } => with(5, origin, *probe_number),
        Message::Ping(number) => put_u8(0, buf).and_then(|()| put_u8(*number, buf)),
        Message::Ack(number) => put_u8(1, buf).and_then(|()| put_u8(*number, buf)),
        Message::Announce => put_u8(6, buf),
        Message::Feed => put_u8(7, buf),
        Message::Gossip => put_u8(8, buf),
        Message::Broadcast => put_u8(9, buf),
        Message::TurnUndead => put_u8(10, buf),
    }
}

fn get_message(buf: &mut impl Buf) -> Result<Message<Identity>, CodecError> {
    let tag = get_u8(buf)?;
    if let 2..=5 = tag {
        let (id, probe_number) = (get_identity(buf)?, get_u8(buf)?);
        return Ok(match tag {
            2 => Message::PingReq { target: id, probe_number },
            3 => Message::IndirectPing { origin: id, probe_number },
            4 => Message::IndirectAck { target: id, probe_number },
            _ => Message::ForwardedAck { origin: id, probe_number },
        });
    }
    match tag {
        0 => get_u8(buf).map(Message::Ping),
        1 => get_u8(buf).map(Message::Ack),
        6 => Ok(Message::Announce),
        7 => Ok(Message::Feed),
        8 => Ok(Message::Gossip),
        9 => Ok(Message::Broadcast),
        10 => Ok(Message::TurnUndead),
        got => Err(CodecError::Unknown { what: "message", got }),
    }
}

fn put_identity(id: &Identity, buf: &mut impl BufMut) -> Result<(), CodecError> {
    let name = id.node.as_str().as_bytes();
    room(buf, 1 + name.len() + 12)?;
    // A name has at most `limits::NAME_BYTES`.
    buf.put_u8(u8::try_from(name.len()).unwrap_or(u8::MAX));
    buf.put_slice(name);
    buf.put_u64_le(id.incarnation.0);
    buf.put_u32_le(id.renewal);
    Ok(())
}

fn get_identity(buf: &mut impl Buf) -> Result<Identity, CodecError> {
    let length = usize::from(get_u8(buf)?);
    let mut name = [0; limits::NAME_BYTES];
    let name = name.get_mut(..length).ok_or(CodecError::Truncated)?;
    left(buf, length + 12)?;
    buf.copy_to_slice(name);
    let node = std::str::from_utf8(name)?.parse()?;
    Ok(Identity { node, incarnation: Incarnation(buf.get_u64_le()), renewal: buf.get_u32_le() })
}

fn put_u8(value: u8, buf: &mut impl BufMut) -> Result<(), CodecError> {
    room(buf, 1)?;
    buf.put_u8(value);
    Ok(())
}

fn put_u16(value: u16, buf: &mut impl BufMut) -> Result<(), CodecError> {
    room(buf, 2)?;
    buf.put_u16_le(value);
    Ok(())
}

fn get_u8(buf: &mut impl Buf) -> Result<u8, CodecError> {
    left(buf, 1)?;
    Ok(buf.get_u8())
}

fn get_u16(buf: &mut impl Buf) -> Result<u16, CodecError> {
    left(buf, 2)?;
    Ok(buf.get_u16_le())
}

fn room(buf: &impl BufMut, bytes: usize) -> Result<(), CodecError> {
    if buf.remaining_mut() < bytes { Err(CodecError::Full) } else { Ok(()) }
}

fn left(buf: &impl Buf, bytes: usize) -> Result<(), CodecError> {
    if buf.remaining() < bytes { Err(CodecError::Truncated) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use foca::Codec as _;
    use proptest::prelude::*;

    use super::*;

    fn identities() -> impl Strategy<Value = Identity> {
        ("[a-z][a-z0-9]{0,30}", any::<u64>(), any::<u32>()).prop_map(|(name, n, renewal)| {
            Identity { node: name.parse().expect("valid"), incarnation: Incarnation(n), renewal }
        })
    }

    fn messages() -> impl Strategy<Value = Message<Identity>> {
        prop_oneof![
            any::<u8>().prop_map(Message::Ping),
            any::<u8>().prop_map(Message::Ack),
            (identities(), any::<u8>())
                .prop_map(|(target, probe_number)| Message::PingReq { target, probe_number }),
            (identities(), any::<u8>())
                .prop_map(|(origin, probe_number)| Message::IndirectPing { origin, probe_number }),
            (identities(), any::<u8>())
                .prop_map(|(target, probe_number)| Message::IndirectAck { target, probe_number }),
            (identities(), any::<u8>())
                .prop_map(|(origin, probe_number)| Message::ForwardedAck { origin, probe_number }),
            Just(Message::Announce),
            Just(Message::Feed),
            Just(Message::Gossip),
            Just(Message::Broadcast),
            Just(Message::TurnUndead),
        ]
    }

    /// When this fails, undo the change or raise `wire::MAJOR`.
    #[test]
    fn the_bytes_of_this_wire_version_stay() {
        let node = |name: &str, renewal| Identity {
            node: name.parse().expect("valid"),
            incarnation: Incarnation(3),
            renewal,
        };
        let message = Message::PingReq { target: node("c", 0), probe_number: 9 };
        let header =
            Header { src: node("a", 1), src_incarnation: 0x0102, dst: node("b", 0), message };
        let mut bytes = Vec::new();
        Codec.encode_header(&header, &mut bytes).expect("encodes");
        Codec
            .encode_member(&Member::new(node("d", 0), 5, State::Down), &mut bytes)
            .expect("encodes");
        let id = |name: u8, renewal| [&[1, name, 3][..], &[0; 7], &[renewal, 0, 0, 0]].concat();
        let expected = [
            id(b'a', 1),
            vec![2, 1],
            id(b'b', 0),
            vec![2],
            id(b'c', 0),
            vec![9],
            id(b'd', 0),
            vec![5, 0, 2],
        ];
        assert_eq!(bytes, expected.concat());
    }

    proptest! {
        #[test]
        fn packets_survive_the_wire(
            src in identities(),
            dst in identities(),
            src_incarnation in any::<u16>(),
            message in messages(),
        ) {
            let header = Header { src: src.clone(), src_incarnation, dst, message };
            let member = Member::new(src, src_incarnation, State::Suspect);
            let mut bytes = Vec::new();
            Codec.encode_header(&header, &mut bytes).expect("encodes");
            Codec.encode_member(&member, &mut bytes).expect("encodes");
            let mut rest = &bytes[..];
            prop_assert_eq!(Codec.decode_header(&mut rest).expect("decodes"), header);
            prop_assert_eq!(Codec.decode_member(&mut rest).expect("decodes"), member);
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn any_bytes_are_packets_or_errors_but_no_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = Codec.decode_header(&bytes[..]);
            let _ = Codec.decode_member(&bytes[..]);
        }
    }
}
