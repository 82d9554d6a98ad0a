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

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use memchr::{memchr, memchr3};

/// What is wrong with a message: a sentence for the operator.
pub(crate) type Fault = &'static str;

/// What the reader found, for the one who answers: message by message, in order.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    answered: AtomicU64,
    /// One more than the index of the message that is at fault; 0 for none.
    fault_at: AtomicU64,
    fault: std::sync::OnceLock<Fault>,
    /// The connection has become something else: what comes now is no HTTP.
    upgraded: AtomicBool,
}

impl Verdict {
    /// Called once for each request that hyper hands on, in order: whether its head was fine.
    pub(crate) fn next(&self) -> Result<(), Fault> {
        let message = self.answered.fetch_add(1, Ordering::Relaxed) + 1;
        let fault_at = self.fault_at.load(Ordering::Acquire);
        // Nothing behind a fault was judged, so nothing behind it passes.
        if fault_at != 0 && message >= fault_at {
            return Err(self.fault.get().copied().unwrap_or("the message is framed wrongly"));
        }
        Ok(())
    }

    /// The last message was agreed to be the last: nothing behind it is judged.
    pub(super) fn upgraded(&self) {
        self.upgraded.store(true, Ordering::Release);
    }

    /// Whether what comes is no HTTP any more.
    pub(super) fn is_over(&self) -> bool {
        self.upgraded.load(Ordering::Acquire)
    }

    /// Takes in what the reader found.
    ///
    /// # Errors
    ///
    /// A fault in a body: nothing more may be read.
    pub(super) fn take(&self, found: &Found) -> io::Result<()> {
        match *found {
            Found::InHead { message, fault } => {
                self.condemn(message, fault);
                Ok(())
            }
            Found::InBody(fault) => Err(io::Error::new(io::ErrorKind::InvalidData, fault)),
        }
    }

    fn condemn(&self, message: u64, fault: Fault) {
        self.fault.get_or_init(|| fault);
        self.fault_at.store(message + 1, Ordering::Release);
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    InHead { message: u64, fault: Fault },
    InBody(Fault),
}

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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
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

/// Follows the messages of a connection, byte by byte as they come.
#[derive(Debug)]
pub(super) struct Reader {
    state: State,
    /// The beginning of a head that has not come whole.
    partial: Vec<u8>,
    max_head: usize,
    message: u64,
    /// How many bytes of the last read stand in front of a fault in a body.
    sound: usize,
}

impl Reader {
    /// Takes heads of at most `max_head` bytes.
    pub(super) fn new(max_head: usize) -> Self {
        Self { state: State::Head, partial: Vec::new(), max_head, message: 0, sound: 0 }
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
                    let mut chunk = *chunk;
                    let rest = step(&mut chunk, bytes).map_err(|fault| {
                        self.sound = whole - bytes.len();
                        self.off(Found::InBody(fault))
                    })?;
                    if chunk == (Chunk::TrailerLf { empty: true }) && rest.1 {
                        self.next_message();
                    } else {
                        self.state = State::Chunk(chunk);
                    }
                    rest.0
                }
            };
        }
        Ok(())
    }

    /// How many bytes of the last read stand in front of the fault that it found in a body.
    pub(super) fn sound(&self) -> usize {
        self.sound
    }

    /// The index of the message that is read, or due.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn message(&self) -> u64 {
        self.message
    }

    fn next_message(&mut self) {
        self.state = State::Head;
        self.message += 1;
    }

    fn off(&mut self, found: Found) -> Found {
        self.state = State::Off;
        self.partial = Vec::new();
        found
    }

    /// Takes the head from the beginning of `bytes`, once it is whole; returns what is behind it.
    fn head<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], Found> {
        if self.partial.is_empty() {
            // Empty lines in front of a request are passed over (RFC 9112 §2.2).
            let skip = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            let bytes = bytes.get(skip..).unwrap_or_default();
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
            Ok(Framing::Length(0)) => self.next_message(),
            Ok(Framing::Length(length)) => self.state = State::Length(length),
            Ok(Framing::Chunked) => self.state = State::Chunk(Chunk::Size { size: 0, digits: 0 }),
            Err(fault) => return Err(self.condemn(fault)),
        }
        Ok(())
    }
}

/// The index behind the empty line that ends a head. Lines are taken to end in LF here, so that
/// a head with bare LFs is found, and then refused.
fn end_of_head(bytes: &[u8], from: usize) -> Option<usize> {
    let mut from = from;
    loop {
        let newline = from + memchr(b'\n', bytes.get(from..)?)?;
        match bytes.get(newline + 1..)? {
            [b'\n', ..] => return Some(newline + 2),
            [b'\r', b'\n', ..] => return Some(newline + 3),
            _ => from = newline + 1,
        }
    }
}

enum Framing {
    Length(u64),
    Chunked,
}

/// How the body behind a head is framed, if that can be read in one way only (RFC 9112 §6).
fn body_of(head: &[u8]) -> Result<Framing, Fault> {
    let (request_line, mut rest) = split_line(head)?;
    // A `#` may stand in a method, which is a token (RFC 9110 §5.6.2).
    if memchr(b' ', request_line)
        .is_some_and(|end| memchr(b'#', request_line.get(end..).unwrap_or_default()).is_some())
    {
        return Err("there is a `#` in the target");
    }
    let mut length = None;
    let mut chunked = false;
    loop {
        let line;
        (line, rest) = split_line(rest)?;
        if line.is_empty() {
            break;
        }
        if matches!(line, [b' ' | b'\t', ..]) {
            return Err("a header line is folded (obsolete since RFC 7230)");
        }
        let colon = memchr(b':', line).ok_or("a header line has no colon")?;
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            if length.is_some() {
                return Err("`Content-Length` is repeated");
            }
            length = Some(parse_length(value).ok_or("`Content-Length` is not a number")?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if chunked {
                return Err("`Transfer-Encoding` is repeated");
            }
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err("`Transfer-Encoding` is not `chunked`");
            }
            chunked = true;
        }
    }
    match (length, chunked) {
        (Some(_), true) => Err("there are both `Content-Length` and `Transfer-Encoding`"),
        (None, true) if request_line.ends_with(b"HTTP/1.0") => {
            Err("HTTP/1.0 has no `Transfer-Encoding`")
        }
        (None, true) => Ok(Framing::Chunked),
        (length, false) => Ok(Framing::Length(length.unwrap_or(0))),
    }
}

/// The first line, which ends in CRLF and has no other CR, and what is behind it.
fn split_line(head: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let end = memchr3(b'\r', b'\n', 0, head).unwrap_or(head.len());
    let (line, rest) = head.split_at(end);
    match rest {
        [b'\r', b'\n', rest @ ..] => Ok((line, rest)),
        [b'\n', ..] => Err("a line ends in a bare LF"),
        [0, ..] => Err("there is a NUL in the head"),
        [] => Ok((line, rest)),
        _ => Err("there is a CR within a line"),
    }
}

/// `1*DIGIT` and nothing else: no sign, no list (RFC 9112 §6.3).
fn parse_length(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| digits)?.parse().ok()
}

/// Goes one step through a chunked body. Returns what is left of `bytes`, and whether the
/// message ended with the last byte taken.
fn step<'b>(chunk: &mut Chunk, bytes: &'b [u8]) -> Result<(&'b [u8], bool), Fault> {
    if let Chunk::Data { left } = chunk {
        let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
        *left -= here as u64;
        if *left == 0 {
            *chunk = Chunk::DataCr;
        }
        return Ok((bytes.get(here..).unwrap_or_default(), false));
    }
    let Some((&byte, rest)) = bytes.split_first() else { return Ok((bytes, false)) };
    let mut ended = false;
    *chunk = match (*chunk, byte) {
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
        (Chunk::DataLf, b'\n') => Chunk::Size { size: 0, digits: 0 },
        (Chunk::DataCr | Chunk::DataLf, _) => return Err("a chunk is longer than its size"),
        (Chunk::Trailer { empty }, b'\r') => Chunk::TrailerLf { empty },
        (Chunk::Trailer { .. }, b'\n') => return Err("a trailer line ends in a bare LF"),
        (Chunk::Trailer { .. }, _) => Chunk::Trailer { empty: false },
        (Chunk::TrailerLf { empty: true }, b'\n') => {
            ended = true;
            Chunk::TrailerLf { empty: true }
        }
        (Chunk::SizeEnd { .. } | Chunk::TrailerLf { .. }, _) => {
            return Err("there is a CR within a line");
        }
        (Chunk::Data { left }, _) => Chunk::Data { left },
    };
    Ok((rest, ended))
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

    #[test]
    fn a_verdict_counts_requests() {
        let verdict = Verdict::default();
        assert_eq!(verdict.next(), Ok(()));
        verdict.condemn(2, "broken");
        assert_eq!(verdict.next(), Ok(()));
        assert_eq!(verdict.next(), Err("broken"));
        assert_eq!(verdict.next(), Err("broken"));
    }
}
