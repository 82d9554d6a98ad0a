//! The trace that a request belongs to: the `traceparent` of W3C Trace Context, level 1.
//!
//! Read for the log only; the header goes upstream as it came.

use std::fmt;

use http::{HeaderMap, HeaderName};

/// The header that carries it.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// A trace id: 32 lower-case hexadecimal digits, not all zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceId([u8; 32]);

impl TraceId {
    /// The trace id of these headers, if they have exactly one `traceparent` and it is valid.
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let value = values.next()?;
        if values.next().is_some() {
            return None;
        }
        Self::parse(value.as_bytes())
    }

    fn parse(value: &[u8]) -> Option<Self> {
        let (head, rest) = value.split_at_checked(55)?;
        let mut parts = head.split(|byte| *byte == b'-');
        let (version, trace) = (hex(parts.next()?, 2)?, hex(parts.next()?, 32)?);
        let (parent, _flags) = (hex(parts.next()?, 16)?, hex(parts.next()?, 2)?);
        // Version ff is forbidden; 00 ends here, later ones may go on behind a dash.
        let ends_well = match version {
            b"ff" => false,
            b"00" => rest.is_empty(),
            _later => rest.first().is_none_or(|byte| *byte == b'-'),
        };
        let zero = |digits: &[u8]| digits.iter().all(|digit| *digit == b'0');
        if !ends_well || zero(trace) || zero(parent) || parts.next().is_some() {
            return None;
        }
        trace.try_into().ok().map(Self)
    }

    /// The 32 digits.
    pub fn as_str(&self) -> &str {
        // `parse` saw that they are ASCII.
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn hex(digits: &[u8], length: usize) -> Option<&[u8]> {
    let lower_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (digits.len() == length && digits.iter().all(lower_hex)).then_some(digits)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn read(values: &[&str]) -> Option<TraceId> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRACEPARENT, HeaderValue::from_str(value).unwrap());
        }
        TraceId::from_headers(&headers)
    }

    #[test]
    fn a_valid_traceparent_names_its_trace() {
        assert_eq!(read(&[GOOD]).unwrap().as_str(), TRACE);
        let later = format!("01{}-more", GOOD.strip_prefix("00").unwrap());
        assert_eq!(read(&[&later]).unwrap().as_str(), TRACE);
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
}
