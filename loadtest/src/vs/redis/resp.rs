//! What is said to Redis, and what it answers: the part of its protocol (RESP 2) that `SET` and `GET`
//! need.
//!
//! By hand, and not by the crate `redis`: that is a dozen crates more for two commands, and whoever
//! measures wants nothing of its own between the two sides that is not known.
//!
//! Source: <https://redis.io/docs/latest/develop/reference/protocol-spec/>.

use bytes::{Buf as _, Bytes, BytesMut};

/// The longest value that an answer may have, in bytes: far beyond those that are written here.
const LONGEST: usize = 1 << 20;
/// The longest first line of an answer, in bytes: a number, or an error.
const LINE: usize = 4 << 10;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// It is done.
    Done,
    /// It is refused.
    Refused(String),
    /// A value; `None` when there is none.
    Value(Option<Bytes>),
}

/// Appends a command to what is to be sent.
pub(super) fn put(words: &[&[u8]], to: &mut BytesMut) {
    to.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        to.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        to.extend_from_slice(word);
        to.extend_from_slice(b"\r\n");
    }
}

/// Takes the first answer from what has come; `None` when it is not whole yet.
///
/// # Errors
/// If it is nothing that Redis answers to these commands.
pub(super) fn take(from: &mut BytesMut) -> anyhow::Result<Option<Reply>> {
    let Some(end) = from.windows(2).position(|two| two == b"\r\n") else {
        anyhow::ensure!(from.len() <= LINE, "a line of more than {LINE} bytes");
        return Ok(None);
    };
    let line = from.get(..end).unwrap_or_default();
    let Some((sort, rest)) = line.split_first() else { anyhow::bail!("an empty line") };
    let said = || String::from_utf8_lossy(rest).into_owned();
    let reply = match sort {
        b'+' => Reply::Done,
        b'-' => Reply::Refused(said()),
        b'$' if rest == b"-1" => Reply::Value(None),
        b'$' => return take_value(from, end + 2, said().parse()?),
        _ => anyhow::bail!("{:?} is no answer", String::from_utf8_lossy(line)),
    };
    from.advance(end + 2);
    Ok(Some(reply))
}

/// Takes a value of so many bytes that begins at `begin`, if it is whole.
fn take_value(from: &mut BytesMut, begin: usize, length: usize) -> anyhow::Result<Option<Reply>> {
    anyhow::ensure!(length <= LONGEST, "a value of {length} bytes");
    let Some(end) = from.get(begin + length..begin + length + 2) else { return Ok(None) };
    anyhow::ensure!(end == b"\r\n", "a value that does not end where it says");
    from.advance(begin);
    let value = from.split_to(length).freeze();
    from.advance(2);
    Ok(Some(Reply::Value(Some(value))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(mut bytes: BytesMut) -> Vec<Reply> {
        std::iter::from_fn(|| take(&mut bytes).unwrap()).collect()
    }

    #[test]
    fn a_command_is_an_array_of_words_with_their_lengths() {
        let mut sent = BytesMut::new();
        put(&[b"SET", b"key-7", b"a\r\nb"], &mut sent);
        assert_eq!(&sent[..], b"*3\r\n$3\r\nSET\r\n$5\r\nkey-7\r\n$4\r\na\r\nb\r\n");
    }

    #[test]
    fn answers_are_read_in_their_order() {
        let bytes = BytesMut::from(&b"+OK\r\n$4\r\na\r\nb\r\n$-1\r\n$0\r\n\r\n-ERR no\r\n"[..]);
        let value = |bytes: &'static [u8]| Reply::Value(Some(Bytes::from_static(bytes)));
        let refused = Reply::Refused("ERR no".into());
        let expected = [Reply::Done, value(b"a\r\nb"), Reply::Value(None), value(b""), refused];
        assert_eq!(all(bytes), expected);
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for wrong in [&b"\r\n"[..], b"hello\r\n", b"$x\r\n", b"$99999999999\r\n", b"$1\r\nabc\r\n"]
        {
            assert!(take(&mut BytesMut::from(wrong)).is_err(), "{wrong:?}");
        }
        assert!(take(&mut BytesMut::from(&vec![b'+'; LINE + 1][..])).is_err());
    }

    proptest! {
        #[test]
        fn an_answer_is_read_wherever_the_network_cuts_it(cut in 0_usize..19) {
            let whole = b"$5\r\nvalue\r\n+OK\r\n$-1\r\n";
            let (first, second) = whole.split_at(cut.min(whole.len()));
            let mut bytes = BytesMut::from(first);
            let mut replies = Vec::new();
            while let Some(reply) = take(&mut bytes).unwrap() {
                replies.push(reply);
            }
            bytes.extend_from_slice(second);
            replies.extend(all(bytes));
            let value = Reply::Value(Some(Bytes::from_static(b"value")));
            prop_assert_eq!(replies, vec![value, Reply::Done, Reply::Value(None)]);
        }

        #[test]
        fn whatever_comes_does_not_panic(bytes: Vec<u8>) {
            let mut bytes = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = take(&mut bytes) {}
        }
    }
}
