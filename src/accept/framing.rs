//! Reads along on an HTTP/1 connection and refuses messages that could be read in two ways.
//!
//! hyper is lenient where a proxy must not be: it drops `Content-Length` where there is
//! `Transfer-Encoding` too, merges repeated lengths, takes a bare LF for an end of line and cuts
//! the target at a `#`, and none of that can be seen in the request it hands on. Somebody in front of us may read such a
//! message otherwise, and then one caller's body is another caller's request (request
//! smuggling). So the bytes are judged here on their way into hyper; what is found wrong in a
//! head is told to the one who answers the request ([`Verdict`]), what is found wrong in a body
//! ends the reading.
//!
//! It follows the framing of each message to know where the next one begins, and knows nothing
//! else about it. HTTP/2 has frames of its own and is not read along.

mod chunks;
mod head;
mod verdict;

pub(super) use verdict::{Found, Verdict};

use chunks::Chunk;
use head::{Framing, body_of, end_of_head};

/// What is wrong with a message: a sentence for the operator.
pub(crate) type Fault = &'static str;

/// Where in the stream of messages the reader is.
#[derive(Debug)]
enum State {
    /// In a head, or in front of one.
    Head,
    /// In a body of known length.
    Length(u64),
    Chunk(Chunk),
    /// Behind a fault: nothing is judged any more.
    Off,
}

/// Follows the messages of a connection, byte by byte as they come.
#[derive(Debug)]
pub(super) struct Reader {
    state: State,
    /// The beginning of a head that has not come whole.
    partial: Vec<u8>,
    max_head: usize,
    message: u64,
    /// Nothing came behind the last message.
    between: bool,
    /// How many bytes of the last read stand in front of a fault in a body.
    sound: usize,
}

impl Reader {
    /// Takes heads of at most `max_head` bytes.
    pub(super) fn new(max_head: usize) -> Self {
        Self {
            state: State::Head,
            partial: Vec::new(),
            max_head,
            message: 0,
            between: true,
            sound: 0,
        }
    }

    /// Reads on.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Result<(), Found> {
        let whole = bytes.len();
        while !bytes.is_empty() {
            bytes = match &mut self.state {
                State::Off => return Ok(()),
                State::Head => self.head(bytes)?,
                State::Length(left) => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= here as u64;
                    if *left == 0 {
                        self.next_message();
                    }
                    bytes.get(here..).unwrap_or_default()
                }
                State::Chunk(chunk) => {
                    let (next, rest) = chunks::step(*chunk, bytes).map_err(|fault| {
                        self.sound = whole - bytes.len();
                        self.off(Found::InBody(fault))
                    })?;
                    match next {
                        Some(chunk) => self.state = State::Chunk(chunk),
                        None => self.next_message(),
                    }
                    rest
                }
            };
        }
        Ok(())
    }

    /// Whether all that came were whole messages.
    pub(super) fn is_between(&self) -> bool {
        self.between
    }

    /// How many bytes of the last read stand in front of the fault that it found in a body.
    pub(super) fn sound(&self) -> usize {
        self.sound
    }

    /// Whether what came ends within a head, or a head was found to be at fault.
    pub(super) fn is_in_head(&self) -> bool {
        matches!(self.state, State::Head | State::Off) && !self.between
    }

    /// The index of the message that is read, or due.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn message(&self) -> u64 {
        self.message
    }

    fn next_message(&mut self) {
        self.state = State::Head;
        self.between = true;
        self.message += 1;
    }

    fn off(&mut self, found: Found) -> Found {
        self.state = State::Off;
        self.partial = Vec::new();
        found
    }

    /// Takes the head from the beginning of `bytes`, once it is whole; returns what is behind it.
    fn head<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], Found> {
        self.between = false;
        if self.partial.is_empty() {
            // Empty lines in front of a request are passed over (RFC 9112 §2.2).
            let skip = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            let bytes = bytes.get(skip..).unwrap_or_default();
            // Nearly every head comes whole and is fine: one pass over it says both.
            if let Ok(Some((framing, rest))) = body_of(bytes) {
                self.enter(framing);
                return Ok(rest);
            }
            return match end_of_head(bytes, 0) {
                Some(end) => {
                    let (head, rest) = bytes.split_at(end);
                    self.judge(head).map(|()| rest)
                }
                None => self.keep(bytes).map(|()| &[][..]),
            };
        }
        let had = self.partial.len();
        self.partial
            .extend_from_slice(bytes.get(..bytes.len().min(self.max_head)).unwrap_or_default());
        match end_of_head(&self.partial, had.saturating_sub(3)) {
            Some(end) => {
                let whole = std::mem::take(&mut self.partial);
                self.judge(whole.get(..end).unwrap_or_default())?;
                Ok(bytes.get(end.saturating_sub(had)..).unwrap_or_default())
            }
            None if self.partial.len() > self.max_head => {
                Err(self.condemn("the head is larger than `max_header_bytes`"))
            }
            None => Ok(&[]),
        }
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), Found> {
        if bytes.len() > self.max_head {
            return Err(self.condemn("the head is larger than `max_header_bytes`"));
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    fn condemn(&mut self, fault: Fault) -> Found {
        let message = self.message;
        self.off(Found::InHead { message, fault })
    }

    fn judge(&mut self, head: &[u8]) -> Result<(), Found> {
        match body_of(head) {
            Ok(Some((framing, _nothing))) => self.enter(framing),
            Ok(None) => return Err(self.condemn("the head has no end")),
            Err(fault) => return Err(self.condemn(fault)),
        }
        Ok(())
    }

    /// Goes on behind a head.
    fn enter(&mut self, framing: Framing) {
        match framing {
            Framing::Length(0) => self.next_message(),
            Framing::Length(length) => self.state = State::Length(length),
            Framing::Chunked => self.state = State::Chunk(Chunk::FIRST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `bytes` whole and byte by byte; both must find the same.
    fn found(bytes: &[u8]) -> Result<u64, Found> {
        let mut whole = Reader::new(1024);
        let outcome = whole.read(bytes).map(|()| whole.message);
        let mut slow = Reader::new(1024);
        let slowly = bytes.chunks(1).try_for_each(|byte| slow.read(byte)).map(|()| slow.message);
        assert_eq!(outcome, slowly, "{:?}", String::from_utf8_lossy(bytes));
        outcome
    }

    fn in_head(message: u64, fault: Fault) -> Result<u64, Found> {
        Err(Found::InHead { message, fault })
    }

    #[test]
    fn good_messages_pass_and_are_counted() {
        for (bytes, messages) in [
            (&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], 1),
            (b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 2),
            (b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n", 2),
            (b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab", 0),
            (b"POST / HTTP/1.1\r\ntransfer-encoding: Chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nA: b\r\n\r\nGET / HTTP/1.1\r\n\r\n", 2),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n", 1),
        ] {
            assert_eq!(found(bytes), Ok(messages), "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_body_is_not_taken_for_a_head() {
        let smuggled = b"POST / HTTP/1.1\r\nContent-Length: 44\r\n\r\nPOST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n\0";
        assert_eq!(found(smuggled), Ok(1));
    }

    #[test]
    fn heads_that_can_be_read_in_two_ways_are_condemned() {
        let both = "there are both `Content-Length` and `Transfer-Encoding`";
        let length = "`Content-Length` is not a number";
        for (fields, fault) in [
            ("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", both),
            ("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", both),
            ("Content-Length: 3\r\nContent-Length: 3\r\n", "`Content-Length` is repeated"),
            ("Content-Length: 3, 3\r\n", length),
            ("Content-Length: +3\r\n", length),
            ("Content-Length: 0x3\r\n", length),
            ("Content-Length:\r\n", length),
            ("Content-Length: 99999999999999999999\r\n", length),
            ("Transfer-Encoding: gzip, chunked\r\n", "`Transfer-Encoding` is not `chunked`"),
            ("Transfer-Encoding: xchunked\r\n", "`Transfer-Encoding` is not `chunked`"),
            (
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                "`Transfer-Encoding` is repeated",
            ),
            ("A: b\n", "a line ends in a bare LF"),
            ("A: b\r\n c\r\n", "a header line is folded (obsolete since RFC 7230)"),
            ("A: b\rc\r\n", "there is a CR within a line"),
            ("A: b\0c\r\n", "there is a NUL in the head"),
            ("Content-Length\r\n", "a header line has no colon"),
        ] {
            let second = format!("GET / HTTP/1.1\r\n\r\nPOST / HTTP/1.1\r\n{fields}\r\nabc");
            assert_eq!(found(second.as_bytes()), in_head(1, fault), "{fields:?}");
        }
        let hash = b"GET /a#/b HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(found(hash), in_head(0, "there is a `#` in the target"));
        assert_eq!(found(b"G#T /a HTTP/1.1\r\nReferer: /#\r\n\r\n"), Ok(1));
        let old = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(found(old), in_head(0, "HTTP/1.0 has no `Transfer-Encoding`"));
    }

    #[test]
    fn chunks_that_are_framed_wrongly_end_the_reading() {
        for (body, fault) in [
            ("x\r\n", "a chunk has no size"),
            ("\r\n", "a chunk has no size"),
            ("3\nabc", "a chunk size is not a hexadecimal number"),
            ("3 \r\nabc", "a chunk size is not a hexadecimal number"),
            ("0000000000000003\r\nabc", "a chunk size has too many digits"),
            ("3;a\nb\r\nabc", "a chunk extension has a bare LF or a NUL"),
            ("3\r\nabcd\r\n", "a chunk is longer than its size"),
            ("0\r\nA: b\n\r\n", "a trailer line ends in a bare LF"),
            ("3\rabc", "there is a CR within a line"),
        ] {
            let bytes = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
            assert_eq!(found(bytes.as_bytes()), Err(Found::InBody(fault)), "{body:?}");
        }
    }

    #[test]
    fn a_head_has_a_size() {
        let long = format!("GET / HTTP/1.1\r\nA: {}", "x".repeat(2000));
        assert_eq!(
            found(long.as_bytes()),
            in_head(0, "the head is larger than `max_header_bytes`")
        );
    }
}
