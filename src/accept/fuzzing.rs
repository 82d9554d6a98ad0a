//! Fuzz target of the framing of HTTP/1. In no product; see `src/fuzzing.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "to panic is how a target speaks"
)]

use super::framing::{Found, Reader};

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
