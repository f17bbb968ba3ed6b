//! What passes between a node and a host process, and in which frames.
//!
//! A frame is the length of its body in 4 bytes, little endian, and the body, one value of
//! [`codec`]. Both ends are the same executable, so the [`VERSION`] only tells when somebody started
//! another one by hand. The process believes its node; the node believes nothing that the process
//! says (`check`).

use std::io::{self, Read};

use bytes::Bytes;
use odeum_proto::{
    Digest, ReplicaId,
    codec::{self, DecodeError},
    http::{self, HttpAnswer, HttpRequest},
    session::Write,
    store::FirmwareLimits,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::log::Line;
use crate::firmware::{
    deeds::Deed,
    effect::{Answer, Effect},
    error::{GuestFailure, Hint},
    instance::Arrival,
};

/// Raised when a frame changes its meaning.
pub(super) const VERSION: u32 = 2;

/// Largest body of a frame, in bytes: that of an HTTP request or answer, with its envelope. All that one
/// message may write and all that it may send to others are less, 3 MiB each.
pub(super) const FRAME_BYTES: usize = http::BODY_BYTES + (1 << 20);

/// Bytes of a frame before its body.
const LENGTH: usize = 4;

/// What a node tells a host process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// First of all.
    Setup(Box<Setup>),
    /// Something to do.
    Work {
        /// What its outcome is told by.
        number: u64,
        work: Work,
    },
    /// The variable that was asked for.
    Variable { value: Option<Bytes> },
}

/// What a host process runs, and within which bounds. The compiled module is its standard output.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Setup {
    pub(super) firmware: ReplicaId,
    pub(super) limits: FirmwareLimits,
    /// The package.
    pub(super) digest: Digest,
    /// Text of the manifest.
    pub(super) manifest: String,
    /// Whether the module is a component.
    pub(super) is_component: bool,
    /// How many of its instances there may be at once.
    pub(super) instances: u64,
    /// What the node gives: folders, and names of variables, whose values are in the environment.
    pub(super) folders: Vec<String>,
    pub(super) environment: Vec<String>,
    /// Certificates of authorities, for HTTPS; none for guests that send no requests.
    pub(super) authorities: Vec<Bytes>,
    /// Whether what is published goes anywhere.
    pub(super) has_broker: bool,
    /// The quietest level that the node logs.
    pub(super) log: String,
}

/// Something to do.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Work {
    /// Give the guest one message.
    Handle(Happening),
    /// Run the job to its end.
    Run,
    /// Answer a request.
    Serve(HttpRequest),
    /// Let the guest take leave.
    End,
}

/// An [`Arrival`] that owns what it tells.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Happening {
    Started,
    Called { topic: Option<String>, body: Bytes },
    Published { topic: String, payload: Bytes },
    TimedOut { number: u64 },
    Answered { number: u64, outcome: Result<Bytes, String> },
    Probed { within: std::time::Duration },
}

impl From<Arrival<'_>> for Happening {
    fn from(arrival: Arrival<'_>) -> Self {
        match arrival {
            Arrival::Started => Self::Started,
            Arrival::Probed { within } => Self::Probed { within },
            Arrival::Called { topic, body } => {
                Self::Called { topic: topic.map(str::to_owned), body: Bytes::copy_from_slice(body) }
            }
            Arrival::Published { topic, payload } => Self::Published {
                topic: topic.to_owned(),
                payload: Bytes::copy_from_slice(payload),
            },
            Arrival::TimedOut { number } => Self::TimedOut { number },
            Arrival::Answered { number, outcome } => Self::Answered {
                number,
                outcome: outcome.map(Bytes::copy_from_slice).map_err(str::to_owned),
            },
        }
    }
}

impl Happening {
    pub(super) fn arrival(&self) -> Arrival<'_> {
        match self {
            Self::Started => Arrival::Started,
            Self::Probed { within } => Arrival::Probed { within: *within },
            Self::Called { topic, body } => Arrival::Called { topic: topic.as_deref(), body },
            Self::Published { topic, payload } => Arrival::Published { topic, payload },
            Self::TimedOut { number } => Arrival::TimedOut { number: *number },
            Self::Answered { number, outcome } => {
                let outcome = outcome.as_deref().map_err(String::as_str);
                Arrival::Answered { number: *number, outcome }
            }
        }
    }
}

/// What a host process tells its node.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// First of all: it is there.
    Hello { version: u32, pid: u32 },
    /// It has loaded the module, and started the guest if that handles messages.
    Ready {
        memory_bytes: u64,
        /// What it is not denied, because this kernel cannot.
        lacks: Vec<String>,
    },
    /// It cannot.
    NotReady(GuestFailure),
    /// What is the value of a variable of the message at hand?
    GetVariable { key: String },
    /// The guest published something to the broker.
    Published { topic: String, payload: Bytes },
    /// A line of the log.
    Log(Line),
    /// What became of some work.
    Done { number: u64, outcome: Outcome },
}

/// What became of some work.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Outcome {
    Handled(Result<Handled, GuestFailure>),
    Ran(Result<(i32, Hint), GuestFailure>),
    Served(Result<HttpAnswer, GuestFailure>),
    Ended,
}

/// An [`Answer`], and the memory of the instance after it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Handled {
    pub(super) memory_bytes: u64,
    pub(super) answer: Said,
}

/// An [`Answer`].
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Said {
    Done { writes: Vec<Write>, reply: Bytes, deeds: Vec<Deed> },
    Refused { code: i32, reason: Box<str> },
}

impl From<Answer> for Said {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Done(Effect { writes, reply, deeds }) => {
                Self::Done { writes, reply: reply.into(), deeds }
            }
            Answer::Refused { code, reason } => Self::Refused { code, reason },
        }
    }
}

impl From<Said> for Answer {
    fn from(said: Said) -> Self {
        match said {
            Said::Done { writes, reply, deeds } => {
                Self::Done(Effect { writes, reply: reply.into(), deeds })
            }
            Said::Refused { code, reason } => Self::Refused { code, reason },
        }
    }
}

/// A frame that is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    #[error("a frame of {got} bytes, where at most {FRAME_BYTES} are allowed")]
    TooLarge { got: usize },
    #[error("a frame of {allowed} bytes that broke off after {got}")]
    BrokenOff { got: usize, allowed: usize },
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// `value` as a frame.
///
/// # Errors
/// When it is larger than a frame may be.
pub(super) fn frame<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; LENGTH];
    codec::encode_into(value, &mut bytes).map_err(io::Error::other)?;
    let length = bytes.len() - LENGTH;
    match u32::try_from(length) {
        Ok(number) if length <= FRAME_BYTES => {
            bytes[..LENGTH].copy_from_slice(&number.to_le_bytes());
            Ok(bytes)
        }
        _ => Err(io::Error::other(FrameError::TooLarge { got: length })),
    }
}

/// Writes one value.
///
/// # Errors
/// What the stream said.
pub(super) fn write<T: Serialize>(mut to: impl io::Write, value: &T) -> io::Result<()> {
    to.write_all(&frame(value)?)
}

/// The next value; `None` at the end of the stream.
///
/// # Errors
/// [`FrameError`], after which nothing that follows can be read.
pub(super) fn read<T: DeserializeOwned>(mut from: impl Read) -> Result<Option<T>, FrameError> {
    let mut length = [0; LENGTH];
    if let Err(error) = from.read_exact(&mut length) {
        return ended(error).map(|()| None);
    }
    let allowed = allowed(length)?;
    let mut body = Vec::new();
    from.take(allowed as u64).read_to_end(&mut body)?;
    decoded(&body, allowed).map(Some)
}

/// As [`read`]. Memory is taken as bytes come, not as they are announced.
pub(super) async fn next<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
) -> Result<Option<T>, FrameError> {
    let mut length = [0; LENGTH];
    if let Err(error) = from.read_exact(&mut length).await {
        return ended(error).map(|()| None);
    }
    let allowed = allowed(length)?;
    let mut body = Vec::new();
    from.take(allowed as u64).read_to_end(&mut body).await?;
    decoded(&body, allowed).map(Some)
}

fn ended(error: io::Error) -> Result<(), FrameError> {
    let is_end = matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    );
    if is_end { Ok(()) } else { Err(error.into()) }
}

fn allowed(length: [u8; LENGTH]) -> Result<usize, FrameError> {
    let got = u32::from_le_bytes(length) as usize;
    if got <= FRAME_BYTES { Ok(got) } else { Err(FrameError::TooLarge { got }) }
}

fn decoded<T: DeserializeOwned>(body: &[u8], allowed: usize) -> Result<T, FrameError> {
    match body.len() {
        got if got < allowed => Err(FrameError::BrokenOff { got, allowed }),
        _ => Ok(codec::decode(body)?),
    }
}

/// For fields of type `Vec<u8>`: copied at once instead of one by one.
pub(in crate::firmware) mod at_once {
    use bytes::Bytes;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(in crate::firmware) fn serialize<S: Serializer>(
        bytes: &[u8],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(in crate::firmware) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<u8>, D::Error> {
        Bytes::deserialize(from).map(Vec::from)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_frame_comes_back_as_it_went() {
        let happening = Happening::Answered { number: 7, outcome: Err("gone".to_owned()) };
        let bytes = frame(&happening).expect("fits");
        assert_eq!(read::<Happening>(&bytes[..]).expect("reads"), Some(happening));
        assert!(read::<Happening>(&[][..]).expect("the end").is_none());
    }

    #[test]
    fn a_frame_that_lies_about_its_length_is_refused_before_memory_is_taken() {
        let lie = [u32::MAX.to_le_bytes().as_slice(), b"x"].concat();
        assert!(matches!(read::<Report>(&lie[..]), Err(FrameError::TooLarge { .. })));
        let short = [(FRAME_BYTES as u32).to_le_bytes().as_slice(), b"x"].concat();
        let broken = read::<Report>(&short[..]);
        assert!(matches!(broken, Err(FrameError::BrokenOff { got: 1, .. })), "{broken:?}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_report_or_refused(body in proptest::collection::vec(any::<u8>(), 0..256)) {
            let length = u32::try_from(body.len()).expect("short").to_le_bytes();
            let _ = read::<Report>(&[length.as_slice(), &body].concat()[..]);
        }
    }
}
