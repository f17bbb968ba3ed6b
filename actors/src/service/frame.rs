//! The frames between an application and a process of its own: a length, a tag, a body.
//!
//! Both ends are the same program file, so there is no version; the bound is checked
//! before anything is allocated all the same.

use std::io::{self, Read, Write};

use super::Health;
use super::context::Report;

/// The largest body, 16 MiB: a message is a request, not a file.
pub(crate) const MAX_BODY: usize = 16 << 20;

/// What the application tells a process.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// First of all: the settings, as TOML.
    Setup(String),
    Message(Vec<u8>),
    Stop,
}

/// A length and a tag.
pub(crate) const HEADER: usize = 5;

pub(crate) fn order(order: &Order) -> Vec<u8> {
    match order {
        Order::Setup(settings) => encode(b'S', settings.as_bytes()),
        Order::Message(body) => encode(b'M', body),
        Order::Stop => encode(b'X', &[]),
    }
}

pub(crate) fn report(report: &Report) -> Vec<u8> {
    match report {
        Report::Ready => encode(b'R', &[]),
        Report::Heartbeat => encode(b'B', &[]),
        Report::Message(body) => encode(b'M', body),
        Report::Failed(reason) => encode(b'F', reason.as_bytes()),
        Report::Health(health) => encode(
            b'H',
            &[match health {
                Health::Unknown => 0,
                Health::Good => 1,
                Health::Degraded => 2,
            }],
        ),
    }
}

fn encode(tag: u8, body: &[u8]) -> Vec<u8> {
    // A body over the bound is cut by neither end: the reader refuses it, which ends the
    // process and names the reason.
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let mut frame = Vec::with_capacity(HEADER + body.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.push(tag);
    frame.extend_from_slice(body);
    frame
}

/// The length and the tag of a frame.
pub(crate) fn header(bytes: [u8; HEADER]) -> io::Result<(usize, u8)> {
    let [a, b, c, d, tag] = bytes;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length > MAX_BODY {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame over 16 MiB"));
    }
    Ok((length, tag))
}

pub(crate) fn parse_report(tag: u8, body: Vec<u8>) -> io::Result<Report> {
    Ok(match (tag, body.as_slice()) {
        (b'R', []) => Report::Ready,
        (b'B', []) => Report::Heartbeat,
        (b'H', [1]) => Report::Health(Health::Good),
        (b'H', [2]) => Report::Health(Health::Degraded),
        (b'H', [_]) => Report::Health(Health::Unknown),
        (b'F', _) => Report::Failed(String::from_utf8_lossy(&body).into()),
        (b'M', _) => Report::Message(body),
        _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "an unknown frame")),
    })
}

pub(crate) fn read_order(stream: &mut impl Read) -> io::Result<Order> {
    let mut bytes = [0; HEADER];
    stream.read_exact(&mut bytes)?;
    let (length, tag) = header(bytes)?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    match tag {
        b'S' => String::from_utf8(body)
            .map(Order::Setup)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error)),
        b'M' => Ok(Order::Message(body)),
        b'X' => Ok(Order::Stop),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "an unknown frame")),
    }
}

pub(crate) fn write(stream: &mut impl Write, frame: &[u8]) -> io::Result<()> {
    stream.write_all(frame)?;
    stream.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_as_they_went_and_hostile_ones_are_refused() {
        for sent in [Order::Setup("a = 1".into()), Order::Message(vec![1, 2]), Order::Stop] {
            assert_eq!(read_order(&mut order(&sent).as_slice()).unwrap(), sent);
        }
        for sent in [
            Report::Ready,
            Report::Heartbeat,
            Report::Health(Health::Degraded),
            Report::Message(vec![]),
            Report::Failed("x".into()),
        ] {
            let bytes = report(&sent);
            let (length, tag) = header(bytes[..HEADER].try_into().unwrap()).unwrap();
            assert_eq!(bytes.len(), HEADER + length);
            assert_eq!(parse_report(tag, bytes[HEADER..].to_vec()).unwrap(), sent);
        }
        assert!(read_order(&mut [255, 255, 255, 255, b'M'].as_slice()).is_err());
        assert!(read_order(&mut [0, 0, 0, 0, b'?'].as_slice()).is_err());
        assert!(parse_report(b'R', vec![1]).is_err());
    }
}
