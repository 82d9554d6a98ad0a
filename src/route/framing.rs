//! Whether a request says without doubt where its body ends.
//!
//! Two servers that disagree on this see different requests on one connection: the second
//! one is then smuggled past every check of the first (CL.TE and TE.CL attacks). So anything
//! but one plain length or one plain `chunked` is refused, and the connection closes, because
//! what follows on it can't be trusted (RFC 9112 §6.1, §6.3).
//!
//! hyper settles some of this before a [`Request`] exists: it drops a `Content-Length` beside
//! `Transfer-Encoding`, and a second equal `Content-Length`. What it drops can't be seen here:
//! `accept/framing.rs` reads the bytes of the head and marks such a request [`Condemned`].

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Request, Version};

use crate::rejection::{Code, Rejection};

/// The mark on a request whose head, seen as bytes, could be read in two ways, and why. It is
/// an extension of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condemned(pub &'static str);

/// Refuses a request whose body could be framed in two ways.
pub(super) fn check<B>(request: &Request<B>) -> Result<(), Rejection> {
    if let Some(Condemned(fault)) = request.extensions().get() {
        return Err(refuse("the head of the request can be read in more than one way", fault));
    }
    fault(request.version(), request.headers()).map_or(Ok(()), |fault| {
        Err(refuse("the length of the request body is not stated in exactly one valid way", fault))
    })
}

fn refuse(detail: &'static str, fault: &str) -> Rejection {
    let reason = format!(
        "request framing refused: {fault}; an attempt at request smuggling, or a broken client \
         or proxy in front of the gateway"
    );
    Rejection::new(Code::BadRequest, detail, reason).closing()
}

fn fault(version: Version, headers: &HeaderMap) -> Option<&'static str> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let (length, coding) = (lengths.next(), codings.next());

    if length.is_some() && coding.is_some() {
        return Some("both Content-Length and Transfer-Encoding");
    }
    if lengths.next().is_some() {
        return Some("Content-Length is repeated");
    }
    if codings.next().is_some() {
        return Some("Transfer-Encoding is repeated");
    }
    if let Some(length) = length
        && !is_length(length.as_bytes())
    {
        return Some("Content-Length is not one decimal number of bytes");
    }
    if let Some(coding) = coding {
        // HTTP/1.0 has no transfer codings and HTTP/2 has its own frames (RFC 9113 §8.2.2).
        if version != Version::HTTP_11 {
            return Some("Transfer-Encoding outside HTTP/1.1");
        }
        if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Some("Transfer-Encoding is not `chunked`");
        }
    }
    None
}

/// `1*DIGIT` that fits 64 bits: no sign, no list, no space (RFC 9110 §8.6).
fn is_length(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_digit)
        && str::from_utf8(text).is_ok_and(|digits| digits.parse::<u64>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;
    use http::HeaderValue;

    fn fault_of(version: Version, fields: &[(&str, &str)]) -> Option<&'static str> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        fault(version, &headers)
    }

    #[test]
    fn one_plain_framing_is_allowed() {
        for fields in [
            &[][..],
            &[("content-length", "0")],
            &[("content-length", "18446744073709551615")],
            &[("transfer-encoding", "chunked")],
            &[("transfer-encoding", "Chunked")],
        ] {
            assert_eq!(fault_of(Version::HTTP_11, fields), None, "{fields:?}");
        }
        assert_eq!(fault_of(Version::HTTP_2, &[("content-length", "3")]), None);
        assert_eq!(fault_of(Version::HTTP_10, &[("content-length", "3")]), None);
    }

    #[test]
    fn doubtful_framing_is_refused() {
        for fields in [
            &[("content-length", "3"), ("transfer-encoding", "chunked")][..],
            &[("content-length", "3"), ("content-length", "3")],
            &[("content-length", "3"), ("content-length", "4")],
            &[("content-length", "3, 3")],
            &[("content-length", "+3")],
            &[("content-length", "-3")],
            &[("content-length", "")],
            &[("content-length", "0x3")],
            &[("content-length", "3 ")],
            &[("content-length", "18446744073709551616")],
            &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
            &[("transfer-encoding", "chunked, chunked")],
            &[("transfer-encoding", "gzip, chunked")],
            &[("transfer-encoding", "identity")],
            &[("transfer-encoding", "xchunked")],
            &[("transfer-encoding", "chunked;q=1")],
            &[("transfer-encoding", "")],
        ] {
            assert!(fault_of(Version::HTTP_11, fields).is_some(), "{fields:?}");
        }
        for version in [Version::HTTP_10, Version::HTTP_2] {
            assert!(fault_of(version, &[("transfer-encoding", "chunked")]).is_some());
        }
    }

    #[test]
    fn a_refusal_closes_the_connection() {
        let request = Request::builder()
            .header("content-length", "3")
            .header("transfer-encoding", "chunked")
            .body(())
            .unwrap();
        let rejection = check(&request).unwrap_err();
        assert_eq!(rejection.code(), Code::BadRequest);
        assert!(rejection.closes());
    }
}
