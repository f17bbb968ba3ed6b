//! An HTTP request to a firmware and its answer, as they cross between nodes: the body of a message
//! whose session is [`SESSION`], and of its reply.

use serde::{Deserialize, Serialize};

/// The session of a message that is an HTTP request. No session of the store is called so, because a
/// guest that serves HTTP has none.
pub const SESSION: &str = "odeum:http";

/// What an HTTP request and an answer have beyond their bodies, in bytes: path and headers.
pub const HEAD_BYTES: usize = 64 << 10;

/// Largest body of a request or an answer, in bytes. It is in memory as a whole, of the node that is
/// asked, of the one that runs the guest, and of the guest's process if it has one; each bounds how
/// many bytes of them there are at once. What is larger is a blob.
pub const BODY_BYTES: usize = 16 << 20;

/// Bodies up to so many bytes are taken whatever else is under way. Each beyond that takes one of a few
/// places, and waits for it.
pub const SMALL_BODY_BYTES: usize = 1 << 20;

/// Headers that are about a connection and not about a request or its answer, in lower case; they
/// do not travel. Source: RFC 9110 §7.6.1. Length and host are said anew.
pub const OF_CONNECTION: &[&str] = &[
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A header: its name in lower case, and its value.
pub type Header = (String, Vec<u8>);

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpRequest {
    /// The method, such as `GET`.
    pub method: String,
    /// Host and port as the client names them.
    pub authority: String,
    /// The path behind the firmware's own, with its query.
    pub path: String,
    /// The headers, without those of the connection.
    pub headers: Vec<Header>,
    /// The body, at most [`BODY_BYTES`].
    #[serde(with = "crate::codec::bytes")]
    pub body: Vec<u8>,
}

/// The answer to one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpAnswer {
    /// The status, such as 200.
    pub status: u16,
    /// The headers.
    pub headers: Vec<Header>,
    /// The body, at most [`BODY_BYTES`].
    #[serde(with = "crate::codec::bytes")]
    pub body: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_bytes_of_a_request_and_an_answer_are_those_of_this_wire_version() {
        let request = HttpRequest {
            method: "GET".to_owned(),
            authority: "h:1".to_owned(),
            path: "/a?b".to_owned(),
            headers: vec![("x".to_owned(), b"y".to_vec())],
            body: b"z".to_vec(),
        };
        let bytes = codec::encode(&request).expect("encodes");
        assert_eq!(hex(&bytes), "0347455403683a31042f613f620101780179017a");
        assert_eq!(codec::decode(&bytes), Ok(request));
        let answer = HttpAnswer { status: 404, headers: Vec::new(), body: b"no".to_vec() };
        let bytes = codec::encode(&answer).expect("encodes");
        assert_eq!(hex(&bytes), "fb940100026e6f");
        assert_eq!(codec::decode(&bytes), Ok(answer));
    }
}
