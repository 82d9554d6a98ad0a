//! Fuzz target of the cleaning of a request's fields. In no product; see `src/fuzzing.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "to panic is how a target speaks"
)]

use http::HeaderMap;
use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, HeaderName, HeaderValue, TE};

use super::headers::{Asserted, clean_request};

/// What never passes, whoever sends it and however often.
const NEVER: [&str; 14] = [
    "authorization",
    "connection",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "host",
    "dpop",
    "x-http-method-override",
    "x-original-url",
    "client-cert",
    "x-user",
];

/// Fields, one a line, as `name: value`; lines that are none are left out.
pub(crate) fn fields(data: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
            && headers.try_append(name, value).is_err()
        {
            return;
        }
    }
    let came = headers.clone();
    let asserted = Asserted(vec![HeaderName::from_static("x-user")]);
    clean_request(&mut headers, &asserted);
    for name in NEVER {
        assert!(!headers.contains_key(name), "`{name}` passed");
    }
    let named: Vec<String> = came
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    for name in headers.keys() {
        let text = name.as_str();
        assert!(!text.contains('_'), "`{text}` passed");
        assert!(!text.starts_with("x-ms-client-principal"), "`{text}` passed");
        // `Connection` can't name what frames or says where to; `te` is the gateway's own by now.
        let keeps = [TE, COOKIE, CONTENT_LENGTH].contains(name);
        assert!(keeps || !named.iter().any(|named| named == text), "`{text}` is hop by hop");
        if *name == TE {
            assert_eq!(headers[TE], "trailers");
        } else if *name != COOKIE {
            // Nothing is made up, and what passes passes whole and in order.
            assert!(headers.get_all(name).iter().eq(came.get_all(name)), "`{text}` was changed");
        }
    }
    assert!(headers.get_all(COOKIE).iter().count() <= 1, "pieces of a cookie are joined");
    let once = headers.clone();
    clean_request(&mut headers, &asserted);
    assert_eq!(headers, once, "cleaned again it is another");
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_fields_pass_that_must_not(
            lines in vec((
                select(vec![
                    "connection", "Connection", "te", "cookie", "host", "authorization", "DPoP", "x-user",
                    "x_user", "x-a", "X-B", "upgrade", "trailer", "expect", "x-ms-client-principal-name",
                    "x-forwarded-for", "keep-alive", "client-cert",
                ]),
                select(vec![
                    "x-a", "x-b, te", "trailers", "gzip, trailers", "a=1", "host", "cookie", "", "close, X-A",
                    "connection", ",,x-a;",
                ]),
            ), 0..12),
        ) {
            let lines: Vec<String> =
                lines.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
            super::fields(lines.concat().as_bytes());
        }
    }
}
