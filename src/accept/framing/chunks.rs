//! The parts of a chunked body (RFC 9112 §7.1), byte by byte: where it ends, and what in it could be
//! read in two ways. What is in the chunks is passed over.

use super::Fault;

/// Where in a chunked body the reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    Size {
        size: u64,
        digits: u8,
    },
    Extension {
        size: u64,
    },
    SizeEnd {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    /// In the trailer section; whether the current line is empty so far.
    Trailer {
        empty: bool,
    },
    TrailerLf {
        empty: bool,
    },
}

impl Chunk {
    /// In front of the first chunk.
    pub(super) const FIRST: Self = Self::Size { size: 0, digits: 0 };
}

/// Goes one step through a chunked body. Returns where that leads, `None` behind the end of the
/// message, and what is left of `bytes`.
pub(super) fn step(chunk: Chunk, bytes: &[u8]) -> Result<(Option<Chunk>, &[u8]), Fault> {
    if let Chunk::Data { left } = chunk {
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let left = left - here as u64;
        let next = if left == 0 { Chunk::DataCr } else { Chunk::Data { left } };
        return Ok((Some(next), bytes.get(here..).unwrap_or_default()));
    }
    let Some((&byte, rest)) = bytes.split_first() else { return Ok((Some(chunk), bytes)) };
    let next = match (chunk, byte) {
        (Chunk::Size { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
            if digits == 15 {
                return Err("a chunk size has too many digits");
            }
            let digit = char::from(byte).to_digit(16).unwrap_or_default();
            Chunk::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }
        }
        (Chunk::Size { digits: 0, .. }, _) => return Err("a chunk has no size"),
        (Chunk::Size { size, .. }, b';') => Chunk::Extension { size },
        (Chunk::Size { size, .. } | Chunk::Extension { size }, b'\r') => Chunk::SizeEnd { size },
        (Chunk::Size { .. }, _) => return Err("a chunk size is not a hexadecimal number"),
        (Chunk::Extension { .. }, b'\n' | 0) => {
            return Err("a chunk extension has a bare LF or a NUL");
        }
        (Chunk::Extension { size }, _) => Chunk::Extension { size },
        (Chunk::SizeEnd { size: 0 } | Chunk::TrailerLf { empty: false }, b'\n') => {
            Chunk::Trailer { empty: true }
        }
        (Chunk::SizeEnd { size }, b'\n') => Chunk::Data { left: size },
        (Chunk::DataCr, b'\r') => Chunk::DataLf,
        (Chunk::DataLf, b'\n') => Chunk::FIRST,
        (Chunk::DataCr | Chunk::DataLf, _) => return Err("a chunk is longer than its size"),
        (Chunk::Trailer { empty }, b'\r') => Chunk::TrailerLf { empty },
        (Chunk::Trailer { .. }, b'\n') => return Err("a trailer line ends in a bare LF"),
        (Chunk::Trailer { .. }, _) => Chunk::Trailer { empty: false },
        (Chunk::TrailerLf { empty: true }, b'\n') => return Ok((None, rest)),
        (Chunk::SizeEnd { .. } | Chunk::TrailerLf { .. }, _) => {
            return Err("there is a CR within a line");
        }
        (Chunk::Data { left }, _) => Chunk::Data { left },
    };
    Ok((Some(next), rest))
}
