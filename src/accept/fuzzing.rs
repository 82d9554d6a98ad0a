//! Fuzz targets of what comes in: the framing of HTTP/1, chunked bodies, the frames of HTTP/2 and
//! PROXY headers. In no product; see `src/fuzzing.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "to panic is how a target speaks"
)]

use tokio::time::Instant;

use super::frames::Frames;
use super::framing::{Found, Reader};
use super::proxy_protocol::{Parsed, parse};
use crate::limits::MAX_PROXY_HEADER_BYTES;

/// Largest head, in bytes: never met, as it is counted for heads that come in pieces only; hyper
/// counts the others.
const MAX_HEAD: usize = 1 << 20;

/// What a caller sends on a connection: the first byte says into what pieces it is cut, which
/// must not matter.
pub(crate) fn framing(data: &[u8]) {
    let Some((piece, stream)) = data.split_first() else { return };
    let whole = found(stream, stream.len().max(1));
    assert_eq!(found(stream, 1), whole, "byte by byte");
    let piece = usize::from(*piece).max(1);
    assert_eq!(found(stream, piece), whole, "in pieces of {piece}");
}

/// The first fault, and at which byte of the stream if it is in a body.
fn found(stream: &[u8], piece: usize) -> Option<(Found, usize)> {
    let mut reader = Reader::new(MAX_HEAD);
    let mut first = None;
    for (index, bytes) in stream.chunks(piece).enumerate() {
        match (reader.read(bytes), &first) {
            (Ok(()), _) => {}
            (Err(found), None) => {
                assert!(reader.sound() <= bytes.len());
                let at = match found {
                    Found::InHead { .. } => 0,
                    Found::InBody(_) => index * piece + reader.sound(),
                };
                first = Some((found, at));
            }
            (Err(again), Some(_)) => panic!("judged on behind a fault: {again:?}"),
        }
    }
    first
}

/// What the body of a message comes to.
#[derive(Debug, PartialEq, Eq)]
enum Chunks {
    /// It ends behind so many bytes.
    Whole(usize),
    Unfinished,
    Broken,
}

/// A body in chunks: a reference, which reads it by its grammar (RFC 9112 §7.1) and not byte by
/// byte, must see its end where the reader sees it. What one takes for a body and the other for
/// a request is how requests are smuggled.
pub(crate) fn chunked(body: &[u8]) {
    let expected = reference(body);
    let head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let read = |body: &[u8]| {
        let mut reader = Reader::new(MAX_HEAD);
        reader.read(head).expect("the head is fine");
        reader.read(body).map(|()| reader.message())
    };
    match expected {
        Chunks::Whole(end) => {
            assert_eq!(read(&body[..end]), Ok(1), "its end was missed");
            assert_eq!(read(&body[..end - 1]), Ok(0), "its end was seen too early");
        }
        Chunks::Unfinished => assert_eq!(read(body), Ok(0)),
        Chunks::Broken => assert!(matches!(read(body), Err(Found::InBody(_))), "taken for whole"),
    }
}

fn reference(body: &[u8]) -> Chunks {
    let mut at = 0;
    let mut is_last = false;
    while !is_last {
        let line = match line(&body[at..], |byte| byte == 0) {
            Ok(Some(line)) => line,
            Ok(None) => return beginning_of_size(&body[at..]),
            Err(Broken) => return Chunks::Broken,
        };
        let Some(size) = size(line) else { return Chunks::Broken };
        at += line.len() + 2;
        is_last = size == 0;
        if !is_last {
            let Some(data) = body[at..].get(..size) else { return Chunks::Unfinished };
            at += data.len();
            match &body[at..] {
                [b'\r', b'\n', ..] => at += 2,
                [] | [b'\r'] => return Chunks::Unfinished,
                _ => return Chunks::Broken,
            }
        }
    }
    loop {
        match line(&body[at..], |_| false) {
            Ok(Some(line)) => at += line.len() + 2,
            Ok(None) => return Chunks::Unfinished,
            Err(Broken) => return Chunks::Broken,
        }
        if body[..at].ends_with(b"\r\n\r\n") {
            return Chunks::Whole(at);
        }
    }
}

struct Broken;

/// A line without its CRLF; `None` where it has not ended.
fn line(bytes: &[u8], is_bad: impl Fn(u8) -> bool) -> Result<Option<&[u8]>, Broken> {
    let end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
    let text = &bytes[..end.unwrap_or(bytes.len())];
    if text.iter().any(|byte| is_bad(*byte)) {
        return Err(Broken);
    }
    match bytes[text.len()..] {
        [b'\r', b'\n', ..] => Ok(Some(text)),
        [] | [b'\r'] => Ok(None),
        _ => Err(Broken),
    }
}

fn size(line: &[u8]) -> Option<usize> {
    let digits = line.split(|byte| *byte == b';').next()?;
    let fine = !digits.is_empty() && digits.len() <= 15;
    let fine = fine && digits.iter().all(u8::is_ascii_hexdigit);
    usize::from_str_radix(str::from_utf8(digits).ok().filter(|_| fine)?, 16).ok()
}

/// The line of a size that has not ended.
fn beginning_of_size(bytes: &[u8]) -> Chunks {
    let line = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    let fine = bytes.is_empty() || size(line).is_some();
    if fine { Chunks::Unfinished } else { Chunks::Broken }
}

/// What a caller of HTTP/2 sends, behind the preface: the first byte says into what pieces it is cut,
/// which must not matter.
pub(crate) fn frames(data: &[u8]) {
    let Some((piece, stream)) = data.split_first() else { return };
    let now = Instant::now();
    let read = |piece: usize| {
        let mut frames = Frames::new(now);
        frames.read(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", now).expect("that is no flood");
        let outcome = stream.chunks(piece).try_for_each(|piece| frames.read(piece, now));
        let open = frames.fields_since().is_some();
        (outcome, outcome.is_ok() && open, frames.last_stream())
    };
    let whole = read(stream.len().max(1));
    assert_eq!(read(1), whole, "byte by byte");
    let piece = usize::from(*piece).max(1);
    assert_eq!(read(piece), whole, "in pieces of {piece}");
    assert!(whole.2 < 1 << 31);
}

/// The beginning of a connection: whoever reads what is said to be missing, and no more, comes
/// to the end of the header and never past it.
pub(crate) fn proxy(stream: &[u8]) {
    let whole = parse(stream);
    let mut read = 0;
    loop {
        match parse(&stream[..read]) {
            Ok(Parsed::Missing(more)) => {
                assert!(more > 0 && read + more <= MAX_PROXY_HEADER_BYTES);
                if read + more > stream.len() {
                    assert!(!matches!(whole, Ok(Parsed::Header { .. })));
                    return;
                }
                read += more;
            }
            Ok(Parsed::Header { length, source }) => {
                assert_eq!(length, read);
                assert_eq!(whole, Ok(Parsed::Header { length, source }));
                return;
            }
            Err(_) => {
                assert!(whole.is_err());
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn chunks_end_where_their_grammar_says(
            pieces in vec(select(vec![
                "1\r\na\r\n", "3\r\nabc\r\n", "0\r\n", "\r\n", "0\r\n\r\n", "a", "A: b\r\n", ";x=y", ";",
                "\r", "\n", "\0", " ", "00", "f", "3", "x", "abc", "GET / HTTP/1.1\r\n\r\n",
            ]), 0..8),
        ) {
            super::chunked(pieces.concat().as_bytes());
        }

        #[test]
        fn frames_are_the_same_in_pieces(
            piece: u8,
            frames in vec((0..12_u8, any::<u8>(), 0..6_u32, 0..20_usize), 0..40),
        ) {
            let mut stream = vec![piece];
            for (kind, flags, id, length) in frames {
                stream.extend_from_slice(&[0, 0, u8::try_from(length).unwrap(), kind, flags]);
                stream.extend_from_slice(&id.to_be_bytes());
                stream.extend(std::iter::repeat_n(kind, length));
            }
            super::frames(&stream);
        }
    }
}
