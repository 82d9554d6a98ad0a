//! The trace that a request belongs to: `traceparent` of W3C Trace Context, level 1, and the ids
//! in it.
//!
//! Ids are kept as the hexadecimal digits that headers and logs have. They name things and guard
//! nothing, so they need not be unguessable. Whose `traceparent` decides about anything is the
//! tracer's business (`tracer.rs`); without one the header goes upstream as it came.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header that names a request's trace, and its place in it.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The header that tracing systems add to it for themselves.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Of a `traceparent` in version 00.
const LENGTH: usize = 55;

/// A trace id: 32 lower-case hexadecimal digits, not all zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceId([u8; 32]);

/// The id of a span: 16 lower-case hexadecimal digits, not all zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SpanId([u8; 16]);

/// Whether a request leaves spans: a flag of `traceparent`, by which all take the same decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampled {
    /// It does.
    Yes,
    /// It does not.
    No,
}

/// What a `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace.
    pub trace: TraceId,
    /// The span of whoever sent it.
    pub span: SpanId,
    /// What they decided.
    pub sampled: Sampled,
}

impl TraceParent {
    /// The one of these headers, if there is exactly one and it is valid.
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        // Most requests have none.
        let value = headers.get(TRACEPARENT)?;
        let is_only = headers.get_all(TRACEPARENT).iter().nth(1).is_none();
        is_only.then(|| Self::parse(value.as_bytes())).flatten()
    }

    fn parse(value: &[u8]) -> Option<Self> {
        let (head, rest) = value.split_at_checked(LENGTH)?;
        let mut parts = head.split(|byte| *byte == b'-');
        let (version, trace) = (hex(parts.next()?, 2)?, hex(parts.next()?, 32)?);
        let (span, flags) = (hex(parts.next()?, 16)?, hex(parts.next()?, 2)?);
        // Version ff is forbidden; 00 ends here, later ones may go on behind a dash.
        let ends_well = match version {
            b"ff" => false,
            b"00" => rest.is_empty(),
            _later => rest.first().is_none_or(|byte| *byte == b'-'),
        };
        let zero = |digits: &[u8]| digits.iter().all(|digit| *digit == b'0');
        if !ends_well || zero(trace) || zero(span) || parts.next().is_some() {
            return None;
        }
        let odd = flags.last().is_some_and(|digit| b"13579bdf".contains(digit));
        Some(Self {
            trace: TraceId(trace.try_into().ok()?),
            span: SpanId(span.try_into().ok()?),
            sampled: if odd { Sampled::Yes } else { Sampled::No },
        })
    }

    /// As a header value, of version 00.
    pub fn header(&self) -> HeaderValue {
        let mut text = [b'-'; LENGTH];
        let flags = match self.sampled {
            Sampled::Yes => b"01",
            Sampled::No => b"00",
        };
        let parts: [(usize, &[u8]); 4] =
            [(0, b"00"), (3, &self.trace.0), (36, &self.span.0), (53, flags)];
        for (at, part) in parts {
            if let Some(place) = text.get_mut(at..at + part.len()) {
                place.copy_from_slice(part);
            }
        }
        // Digits and dashes.
        HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("-"))
    }
}

impl TraceId {
    /// A new one.
    pub fn random() -> Self {
        let mut digits = [0; 32];
        write_hex(&mut digits, &fastrand::u128(1..).to_be_bytes());
        Self(digits)
    }

    /// The 32 digits.
    pub fn as_str(&self) -> &str {
        // Both makers wrote ASCII.
        str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The 16 bytes.
    pub fn to_bytes(self) -> Vec<u8> {
        to_bytes(&self.0)
    }
}

impl SpanId {
    /// A new one.
    pub fn random() -> Self {
        let mut digits = [0; 16];
        write_hex(&mut digits, &fastrand::u64(1..).to_be_bytes());
        Self(digits)
    }

    /// The 8 bytes.
    pub fn to_bytes(self) -> Vec<u8> {
        to_bytes(&self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.0).unwrap_or_default())
    }
}

fn hex(digits: &[u8], length: usize) -> Option<&[u8]> {
    let lower_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (digits.len() == length && digits.iter().all(lower_hex)).then_some(digits)
}

fn write_hex(digits: &mut [u8], bytes: &[u8]) {
    let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' + value - 10 };
    for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        *pair = [digit(byte >> 4), digit(byte & 15)];
    }
}

fn to_bytes(digits: &[u8]) -> Vec<u8> {
    let value = |digit: u8| if digit <= b'9' { digit - b'0' } else { digit - b'a' + 10 };
    digits.as_chunks::<2>().0.iter().map(|[high, low]| value(*high) << 4 | value(*low)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn read(values: &[&str]) -> Option<TraceParent> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRACEPARENT, HeaderValue::from_str(value).unwrap());
        }
        TraceParent::from_headers(&headers)
    }

    #[test]
    fn a_valid_traceparent_names_its_trace() {
        assert_eq!(read(&[GOOD]).unwrap().trace.as_str(), TRACE);
        let later = format!("01{}-more", GOOD.strip_prefix("00").unwrap());
        assert_eq!(read(&[&later]).unwrap().trace.as_str(), TRACE);
    }

    #[test]
    fn anything_else_names_none() {
        let tail = GOOD.strip_prefix("00").unwrap();
        for bad in [
            String::new(),
            GOOD.to_uppercase(),
            format!("{GOOD}-x"),
            format!("ff{tail}"),
            format!("01{tail}x"),
            GOOD.replace(TRACE, &"0".repeat(32)),
            GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            GOOD.replace('-', "_"),
            GOOD.replace("4bf9", "4bg9"),
        ] {
            assert_eq!(read(&[&bad]), None, "{bad}");
        }
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[GOOD, GOOD]), None);
    }

    #[test]
    fn it_is_written_as_it_was_read() {
        for flags in ["00", "01"] {
            let text = format!("00-{TRACE}-00f067aa0ba902b7-{flags}");
            let read = read(&[&text]).unwrap();
            assert_eq!(read.sampled, if flags == "01" { Sampled::Yes } else { Sampled::No });
            assert_eq!(read.header(), text);
        }
        // Other flags are not known here, and go on as none (level 1, §3.2.2.5).
        for (flags, sampled) in [("03", Sampled::Yes), ("fe", Sampled::No), ("ff", Sampled::Yes)] {
            let text = format!("00-{TRACE}-00f067aa0ba902b7-{flags}");
            assert_eq!(read(&[&text]).unwrap().sampled, sampled, "{flags}");
        }
    }

    #[test]
    fn new_ids_are_valid_and_differ() {
        for _ in 0..100 {
            let (trace, span, sampled) = (TraceId::random(), SpanId::random(), Sampled::Yes);
            let made = TraceParent { trace, span, sampled };
            assert_eq!(TraceParent::parse(made.header().as_bytes()), Some(made));
            assert_ne!(trace, TraceId::random());
        }
        let given = read(&[GOOD]).unwrap();
        assert_eq!(given.span.to_bytes(), [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
        assert_eq!(given.trace.to_bytes().len(), 16);
    }
}
