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
pub(super) enum Framing {
    Length(u64),
    Chunked,
}

/// How the body behind a head is framed, if that can be read in one way only (RFC 9112 §6).
pub(super) fn body_of(head: &[u8]) -> Result<Framing, Fault> {
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
