//! Where a head ends, and how the body behind it is framed. A head that could be read in two ways is
//! refused, whatever it asks for.

use memchr::{memchr, memchr3};

use super::Fault;

/// The index behind the empty line that ends a head. Lines are taken to end in LF here, so that
/// a head with bare LFs is found, and then refused.
pub(super) fn end_of_head(bytes: &[u8], from: usize) -> Option<usize> {
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

/// How a body is framed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
}

/// How the body behind the head at the beginning of `bytes` is framed, if that can be read in one way
/// only (RFC 9112 §6), and what is behind the head; `None` if the head is not whole.
pub(super) fn body_of(bytes: &[u8]) -> Result<Option<(Framing, &[u8])>, Fault> {
    let Some((request_line, mut rest)) = split_line(bytes)? else { return Ok(None) };
    // A `#` may stand in a method, which is a token (RFC 9110 §5.6.2).
    if memchr(b' ', request_line)
        .is_some_and(|end| memchr(b'#', request_line.get(end..).unwrap_or_default()).is_some())
    {
        return Err("there is a `#` in the target");
    }
    let mut length = None;
    let mut chunked = false;
    loop {
        let Some((line, behind)) = split_line(rest)? else { return Ok(None) };
        rest = behind;
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
    let framing = match (length, chunked) {
        (Some(_), true) => {
            return Err("there are both `Content-Length` and `Transfer-Encoding`");
        }
        (None, true) if request_line.ends_with(b"HTTP/1.0") => {
            return Err("HTTP/1.0 has no `Transfer-Encoding`");
        }
        (None, true) => Framing::Chunked,
        (length, false) => Framing::Length(length.unwrap_or(0)),
    };
    Ok(Some((framing, rest)))
}

/// A line without its end, and what is behind it.
type Line<'b> = (&'b [u8], &'b [u8]);

/// The first line, which ends in CRLF and has no other CR; `None` if it is not whole.
fn split_line(bytes: &[u8]) -> Result<Option<Line<'_>>, Fault> {
    let Some(end) = memchr3(b'\r', b'\n', 0, bytes) else { return Ok(None) };
    let (line, rest) = bytes.split_at(end);
    match rest {
        [b'\r', b'\n', rest @ ..] => Ok(Some((line, rest))),
        [b'\r'] => Ok(None),
        [b'\n', ..] => Err("a line ends in a bare LF"),
        [0, ..] => Err("there is a NUL in the head"),
        _ => Err("there is a CR within a line"),
    }
}

/// `1*DIGIT` and nothing else: no sign, no list (RFC 9112 §6.3).
fn parse_length(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| digits)?.parse().ok()
}
