//! Takes the token out of the `Authorization` header (RFC 6750 §2.1; RFC 9449 §7.1 for the scheme
//! `DPoP`), and nowhere else: never from the query or a form.
//!
//! It decides the form of the header only; what is in the token is for `token.rs`.

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

use crate::limits;
use crate::rejection::Rejection;
use crate::secret::InboundToken;

use super::refusal;

/// How a token was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    /// As it is worth the same in any hand, or bound to a certificate.
    Bearer,
    /// With a proof that the caller holds a key.
    Dpop,
}

impl Scheme {
    /// The scheme called so, in any case of letters.
    fn named(name: &[u8]) -> Option<Self> {
        if name.eq_ignore_ascii_case(b"bearer") {
            Some(Self::Bearer)
        } else if name.eq_ignore_ascii_case(b"dpop") {
            Some(Self::Dpop)
        } else {
            None
        }
    }
}

/// The one `Authorization` value; `None` if there is none.
///
/// # Errors
///
/// 400 if there are several: we would judge one and a server behind us might read another.
pub(super) fn single(headers: &HeaderMap) -> Result<Option<&HeaderValue>, Rejection> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let first = values.next();
    match values.count() {
        0 => Ok(first),
        more => Err(refusal::malformed(format!(
            "the request has {} Authorization headers; a client, or a proxy in front, adds its own",
            more + 1
        ))),
    }
}

/// The token of a route that asks for one, and how it was sent.
///
/// # Errors
///
/// 400 for `Bearer` or `DPoP` without spaces and text behind it, or with so much that it is not
/// looked at again and is not one token; 401 `token_missing` without a
/// header or with another scheme; 401 `token_invalid` for one longer than
/// [`limits::MAX_TOKEN_BYTES`]. That it is one `b64token` is seen by [`check_alphabet`].
pub(super) fn token(headers: &HeaderMap) -> Result<(Scheme, InboundToken), Rejection> {
    let Some(value) = single(headers)? else {
        return Err(refusal::missing("no Authorization header"));
    };
    let (name, rest) = split_scheme(value.as_bytes());
    let Some(scheme) = Scheme::named(name) else {
        return Err(refusal::missing(format!(
            "the Authorization header has {}, and not the scheme `Bearer`",
            shown_scheme(name)
        )));
    };
    let token = rest.trim_ascii_start();
    // One space or more (RFC 6750 §2.1), and no tab, which trimming would also take.
    let gap = rest.get(..rest.len() - token.len()).unwrap_or_default();
    if gap.is_empty() || gap.iter().any(|byte| *byte != b' ') {
        return Err(not_one_token());
    }
    if let Err(too_long) = check_length(token.len()) {
        // What is not one token is that, however long.
        return Err(if is_b64token(token) { too_long } else { not_one_token() });
    }
    InboundToken::new(value.clone(), value.len() - token.len())
        .map(|token| (scheme, token))
        .ok_or_else(not_one_token)
}

/// Whether `token` is one `b64token`. To be asked before anything is read in it, and not of one
/// that was verified before: it is the same to the byte, and tokens are long.
///
/// # Errors
///
/// 400 if it is not: two tokens in one line, quotes, a parameter.
pub(super) fn check_alphabet(token: &InboundToken) -> Result<(), Rejection> {
    if is_b64token(token.expose().as_bytes()) { Ok(()) } else { Err(not_one_token()) }
}

fn not_one_token() -> Rejection {
    refusal::malformed(
        "what follows the scheme in the Authorization header is not one token (RFC 6750 §2.1)",
    )
}

/// Refuses a token of more bytes than are read.
pub(super) fn check_length(bytes: usize) -> Result<(), Rejection> {
    if bytes <= limits::MAX_TOKEN_BYTES {
        return Ok(());
    }
    Err(refusal::invalid(format!(
        "it has {bytes} bytes, and {} is the most that is read",
        limits::MAX_TOKEN_BYTES
    )))
}

/// The scheme for the log, if it is one: clients that forget the scheme put the token itself in
/// its place, and no character tells the two apart.
fn shown_scheme(scheme: &[u8]) -> String {
    const KNOWN: [&str; 10] = [
        "ApiKey",
        "AWS4-HMAC-SHA256",
        "Basic",
        "Digest",
        "GNAP",
        "HOBA",
        "Mutual",
        "Negotiate",
        "NTLM",
        "Token",
    ];
    match KNOWN.iter().find(|known| scheme.eq_ignore_ascii_case(known.as_bytes())) {
        Some(known) => format!("the scheme `{known}`"),
        None => "a scheme that is not known here, or a token without a scheme".to_owned(),
    }
}

/// The scheme (a `token` of RFC 9110 §5.6.2) and what follows it.
fn split_scheme(value: &[u8]) -> (&[u8], &[u8]) {
    let end = value.iter().position(|byte| !is_tchar(*byte)).unwrap_or(value.len());
    value.split_at(end)
}

fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// `1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`
fn is_b64token(text: &[u8]) -> bool {
    let end = text.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
    let Some(body) = text.get(..end) else { return false };
    // No early end and no branch, so that many bytes are compared at once: tokens are long, and
    // nearly all of them are well formed.
    !body.is_empty() && body.iter().fold(0, |strange, byte| strange | strangeness(*byte)) == 0
}

/// 0 for a letter, a digit and `-._~+/`: how far off the nearest of them is, in two stretches (the
/// letters, whose case is one bit; `-`, `.`, `/` and the digits, which stand in a row) and three
/// places.
fn strangeness(byte: u8) -> u8 {
    let from_letters = (byte | 0x20).wrapping_sub(b'a').saturating_sub(b'z' - b'a');
    let from_row = byte.wrapping_sub(b'-').saturating_sub(b'9' - b'-');
    from_letters.min(from_row).min(byte ^ b'+').min(byte ^ b'_').min(byte ^ b'~')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rejection::Code;

    /// What [`token`] takes and [`check_alphabet`] lets pass.
    fn well_formed(headers: &HeaderMap) -> Result<(Scheme, InboundToken), Rejection> {
        let (scheme, token) = token(headers)?;
        check_alphabet(&token).map(|()| (scheme, token))
    }

    fn headers(values: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    #[test]
    fn one_token_behind_its_scheme_is_taken_as_it_came() {
        for (value, wanted) in [
            ("DPoP a.b.c", "a.b.c"),
            ("dpop  a.b.c", "a.b.c"),
            ("Bearer a.b.c", "a.b.c"),
            ("bearer a.b.c", "a.b.c"),
            ("BEARER abc==", "abc=="),
            ("bEaReR -._~+/", "-._~+/"),
            ("Bearer  a", "a"),
        ] {
            let (scheme, taken) = well_formed(&headers(&[value.as_bytes()])).unwrap();
            assert_eq!(taken.expose(), wanted, "{value}");
            let sent = if value.starts_with(['d', 'D']) { Scheme::Dpop } else { Scheme::Bearer };
            assert_eq!(scheme, sent, "{value}");
        }
    }

    #[test]
    fn the_alphabet_is_that_of_the_rfc() {
        for byte in 0..=u8::MAX {
            let is_one = byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
            assert_eq!(strangeness(byte) == 0, is_one, "{byte}");
        }
    }

    #[test]
    fn other_forms_are_refused() {
        let rows: &[(&[&[u8]], Code)] = &[
            (&[], Code::TokenMissing),
            (&[b""], Code::TokenMissing),
            (&[b"Basic dXNlcjpwdw=="], Code::TokenMissing),
            (&[b"DPoPX a.b.c"], Code::TokenMissing),
            (&[b"DPoP"], Code::BadRequest),
            (&[b"DPoP a b"], Code::BadRequest),
            (&[b"DPoP a, DPoP b"], Code::BadRequest),
            (&[b"DPoP a", b"Bearer a"], Code::BadRequest),
            (&[b"BearerX a.b.c"], Code::TokenMissing),
            (&[b"XBearer a.b.c"], Code::TokenMissing),
            (&[b"Negotiate"], Code::TokenMissing),
            (&[b"\"Bearer\" a"], Code::TokenMissing),
            (&[b"Bearer"], Code::BadRequest),
            (&[b"bearer "], Code::BadRequest),
            (&[b"Bearer =="], Code::BadRequest),
            (&[b"Bearer a b"], Code::BadRequest),
            (&[b"Bearer a,b"], Code::BadRequest),
            (&[b"Bearer a, Bearer b"], Code::BadRequest),
            (&[b"Bearer a=b"], Code::BadRequest),
            (&[b"Bearer a "], Code::BadRequest),
            (&[b"Bearer\ta"], Code::BadRequest),
            (&[b"Bearer \ta"], Code::BadRequest),
            (&[b"Bearer:a"], Code::BadRequest),
            (&[b"Bearer,a"], Code::BadRequest),
            (&[b"Bearer \"a\""], Code::BadRequest),
            (&[b"Bearer token=\"a\""], Code::BadRequest),
            (&[b"Bearer a\xc3\xa4"], Code::BadRequest),
            (&[b"Bearer a", b"Bearer a"], Code::BadRequest),
            (&[b"Basic a", b"Bearer a"], Code::BadRequest),
            (&[b"", b""], Code::BadRequest),
        ];
        for (values, code) in rows {
            let rejection = well_formed(&headers(values)).unwrap_err();
            assert_eq!(rejection.code(), *code, "{values:?}: {rejection}");
        }
    }

    #[test]
    fn the_longest_token_is_just_taken() {
        let longest = format!("Bearer {}", "a".repeat(limits::MAX_TOKEN_BYTES));
        assert!(well_formed(&headers(&[longest.as_bytes()])).is_ok());
        let longer = format!("{longest}a");
        let rejection = well_formed(&headers(&[longer.as_bytes()])).unwrap_err();
        assert_eq!(rejection.code(), Code::TokenInvalid);
        assert!(!rejection.reason().contains("aaaa"));
        let two = format!("{longest} {longest}");
        let rejection = well_formed(&headers(&[two.as_bytes()])).unwrap_err();
        assert_eq!(rejection.code(), Code::BadRequest);
    }

    #[test]
    fn a_token_in_place_of_the_scheme_is_not_repeated() {
        let reason = |value: &[u8]| well_formed(&headers(&[value])).unwrap_err().reason();
        assert!(reason(b"gnap a.b.c").contains("the scheme `GNAP`"));
        for value in [&b"eyJhbGciOiJSUzI1NiJ9.e30.c2ln"[..], b"BearereyJhbGci", b"hunter2 x"] {
            let reason = reason(value);
            assert!(!reason.contains("eyJ") && !reason.contains("hunter2"), "{reason}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_header_panics_and_only_a_b64token_is_taken(value in "[ -~\t]{0,40}") {
            let Ok(value) = HeaderValue::from_str(&value) else { return Ok(()) };
            let mut headers = HeaderMap::new();
            headers.append(AUTHORIZATION, value);
            if let Ok((_, taken)) = well_formed(&headers) {
                proptest::prop_assert!(is_b64token(taken.expose().as_bytes()));
            }
        }
    }
}
