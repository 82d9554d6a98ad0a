//! The codings of bodies that can be read and written again: gzip, deflate and br.
//!
//! A piece at a time in both directions, so that a small body that unfolds to gigabytes is never
//! held as more than a piece. What is damaged or cut short is an error, never an end.

use std::io;

use bytes::{Buf, Bytes};
use compression_codecs::brotli::params::EncoderParams;
use compression_codecs::core::Level;
use compression_codecs::core::util::{PartialBuffer, WriteBuffer};
use compression_codecs::{
    BrotliDecoder, BrotliEncoder, DecodeV2, DeflateDecoder, DeflateEncoder, EncodeV2, GzipDecoder,
    GzipEncoder, ZlibDecoder, ZlibEncoder,
};

use crate::limits::LINK_PIECE_BYTES;

/// How hard gzip and deflate try, of 9: about what servers use for what they make on the fly.
const DEFLATE_LEVEL: Level = Level::Precise(5);
/// The same of br, of 11.
const BROTLI_LEVEL: Level = Level::Precise(4);
/// The window of br in bits: 256 KiB for each answer under way.
const BROTLI_WINDOW: i32 = 18;

/// A coding of bodies (RFC 9110 §8.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Deflate,
    Brotli,
}

impl Coding {
    /// The coding of this name, in any case of letters.
    pub(super) fn named(name: &str) -> Option<Self> {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        match () {
            () if is("gzip") || is("x-gzip") => Some(Self::Gzip),
            () if is("deflate") => Some(Self::Deflate),
            () if is("br") => Some(Self::Brotli),
            () => None,
        }
    }
}

/// Undoes the coding of a body, and does it again.
pub(super) struct Recoder {
    coding: Coding,
    decoder: Box<dyn DecodeV2 + Send>,
    encoder: Box<dyn EncodeV2 + Send>,
    /// The decoder has met the end of the body, or of one that another may follow.
    ended: bool,
}

/// What undoes a coding, and what does it.
type Pair = (Box<dyn DecodeV2 + Send>, Box<dyn EncodeV2 + Send>);

/// Whether a chunk has more to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// There may be more.
    More,
    /// That was all of it.
    Nothing,
}

impl Recoder {
    /// For a body that begins with this byte. By the book `deflate` is the zlib format, and some
    /// servers send the bare stream (RFC 9110 §8.4.1.2): no such stream begins as zlib does.
    ///
    /// # Errors
    ///
    /// It asks for a window that br does not have (RFC 7932 §9.1), of up to 1 GiB: the library
    /// would give it.
    pub(super) fn new(coding: Coding, first: u8) -> io::Result<Self> {
        if coding == Coding::Brotli && first & 0x7F == 0x11 {
            return Err(io::Error::other("its window is larger than `br` allows"));
        }
        let level = DEFLATE_LEVEL.into();
        let (decoder, encoder): Pair = match coding {
            Coding::Gzip => (Box::new(GzipDecoder::new()), Box::new(GzipEncoder::new(level))),
            Coding::Deflate if first & 0x0F == 8 => {
                (Box::new(ZlibDecoder::new()), Box::new(ZlibEncoder::new(level)))
            }
            Coding::Deflate => {
                (Box::new(DeflateDecoder::new()), Box::new(DeflateEncoder::new(level)))
            }
            Coding::Brotli => {
                let settings = EncoderParams::default().quality(BROTLI_LEVEL).text_mode();
                let settings = settings.window_size(BROTLI_WINDOW);
                (Box::new(BrotliDecoder::new()), Box::new(BrotliEncoder::new(settings)))
            }
        };
        Ok(Self { coding, decoder, encoder, ended: false })
    }

    /// Takes from `chunk` what unfolds to one piece at most, and says how many bytes of `plain`
    /// that is.
    ///
    /// # Errors
    ///
    /// The chunk is damaged, or stands behind the end of the body.
    pub(super) fn unpack(
        &mut self,
        chunk: &mut Bytes,
        plain: &mut [u8],
    ) -> io::Result<(usize, Rest)> {
        let mut out = WriteBuffer::new_initialized(plain);
        if chunk.is_empty() {
            if self.ended {
                return Ok((0, Rest::Nothing));
            }
            let all = self.decoder.flush(&mut out)?;
            if !all && out.written_len() == 0 {
                return Err(io::Error::other("it can't be read on"));
            }
            return Ok((out.written_len(), if all { Rest::Nothing } else { Rest::More }));
        }
        if self.ended {
            // Of gzip alone several may follow each other (RFC 1952 §2.2).
            if self.coding != Coding::Gzip {
                return Err(io::Error::other("there is something behind its end"));
            }
            self.decoder.reinit()?;
        }
        let mut input = PartialBuffer::new(chunk.as_ref());
        self.ended = self.decoder.decode(&mut input, &mut out)?;
        let used = input.written_len();
        chunk.advance(used);
        if used == 0 && out.written_len() == 0 && !self.ended {
            return Err(io::Error::other("it can't be read on"));
        }
        Ok((out.written_len(), Rest::More))
    }

    /// Whether the body, all of which was unpacked, ends where it should.
    ///
    /// # Errors
    ///
    /// It was cut short.
    pub(super) fn check_end(&mut self) -> io::Result<()> {
        let mut left = [0];
        let mut out = WriteBuffer::new_initialized(&mut left);
        if self.ended || (self.decoder.finish(&mut out)? && out.written_len() == 0) {
            return Ok(());
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    /// Appends `plain` to `out`, packed. Some of it may be kept back until [`Recoder::flush`].
    pub(super) fn pack(&mut self, plain: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        let mut input = PartialBuffer::new(plain);
        while !input.unwritten().is_empty() {
            append(out, |out| self.encoder.encode(&mut input, out))?;
        }
        Ok(())
    }

    /// Appends to `out` what was kept back.
    pub(super) fn flush(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        while !append(out, |out| self.encoder.flush(out))? {}
        Ok(())
    }

    /// Appends to `out` what was kept back and the end.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        while !append(out, |out| self.encoder.finish(out))? {}
        Ok(())
    }
}

/// Lets `write` write one piece at most behind what is in `out`.
fn append<T>(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut WriteBuffer<'_>) -> io::Result<T>,
) -> io::Result<T> {
    let start = out.len();
    out.resize(start + LINK_PIECE_BYTES, 0);
    let mut buffer = WriteBuffer::new_initialized(out.get_mut(start..).unwrap_or_default());
    let outcome = write(&mut buffer);
    let written = buffer.written_len();
    out.truncate(start + written);
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_beyond_br_is_refused() {
        // The largest of RFC 7932 has 24 bits; 0x11 begins the extension with up to 30.
        for (first, good) in
            [(0x0F, true), (0x01, true), (0x21, true), (0x11, false), (0x91, false)]
        {
            assert_eq!(Recoder::new(Coding::Brotli, first).is_ok(), good, "{first:#x}");
        }
        assert!(Recoder::new(Coding::Gzip, 0x11).is_ok());
    }

    #[test]
    fn codings_by_name() {
        for (name, coding) in [
            ("gzip", Some(Coding::Gzip)),
            ("X-GZip", Some(Coding::Gzip)),
            ("deflate", Some(Coding::Deflate)),
            ("br", Some(Coding::Brotli)),
            ("zstd", None),
            ("gzip, br", None),
            ("", None),
        ] {
            assert_eq!(Coding::named(name), coding, "{name}");
        }
    }
}
