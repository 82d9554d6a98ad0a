//! Claims challenges of upstreams (continuous access evaluation): what their `WWW-Authenticate`
//! says, where it asks for a token with more claims.
//!
//! Pure. Reads the list of challenges of RFC 9110 §11.6.1, which holds several schemes, quoted
//! strings and commas in either; each byte is looked at once. Only a `Bearer` challenge counts
//! that gives `error` and `claims` once each. What is asked for goes to the provider and to the
//! caller as data; it is never logged.

use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;
use serde_json::{Map, Value};

use crate::authn::json;
use crate::limits;

/// A claims request (OpenID Connect Core §5.5): a JSON object, at most
/// [`limits::MAX_CLAIMS_BYTES`] of text.
#[derive(Clone, PartialEq, Eq)]
pub struct Claims {
    text: String,
    members: Map<String, Value>,
}

impl Claims {
    /// Takes JSON text; `None` if it is too long, or no object that reads in one way only.
    pub fn from_json(text: &str) -> Option<Self> {
        if text.len() > limits::MAX_CLAIMS_BYTES {
            return None;
        }
        let members = json::object(text.as_bytes()).ok()?.to_map();
        Some(Self { text: text.to_owned(), members })
    }

    /// Takes the parameter of a challenge: base64, with or without padding and in either
    /// alphabet, or JSON as it is.
    fn from_parameter(value: &str) -> Option<Self> {
        if value.trim_start().starts_with('{') {
            return Self::from_json(value);
        }
        let bytes = STANDARD.decode(value).or_else(|_| URL_SAFE.decode(value)).ok()?;
        Self::from_json(std::str::from_utf8(&bytes).ok()?)
    }

    /// The JSON text as it came.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The members of the object.
    pub(super) fn members(&self) -> &Map<String, Value> {
        &self.members
    }
}

impl fmt::Debug for Claims {
    // An upstream may have put anything there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Claims({} bytes)", self.text.len())
    }
}

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// The claims that the first challenge of its kind in `headers` asks for; `None` if none does.
pub fn claims_wanted(headers: &HeaderMap) -> Option<Claims> {
    let fields = headers.get_all(WWW_AUTHENTICATE).iter();
    let fields = fields.filter(|field| field.len() <= limits::MAX_CHALLENGE_BYTES);
    fields.filter_map(|field| field.to_str().ok()).find_map(claims_in)
}

/// The same for one field.
pub fn claims_in(field: &str) -> Option<Claims> {
    Challenges { rest: field }.find_map(Challenge::claims)
}

/// One challenge: a scheme, and those of its parameters that matter here.
#[derive(Default)]
struct Challenge {
    is_bearer: bool,
    error: Parameter,
    claims: Parameter,
}

/// A parameter that may stand in a challenge once.
#[derive(Default)]
enum Parameter {
    #[default]
    Missing,
    Given(String),
    Repeated,
}

impl Parameter {
    fn give(&mut self, value: String) {
        *self = match self {
            Self::Missing => Self::Given(value),
            Self::Given(_) | Self::Repeated => Self::Repeated,
        };
    }
}

impl Challenge {
    fn claims(self) -> Option<Claims> {
        let (Parameter::Given(error), Parameter::Given(claims)) = (self.error, self.claims) else {
            return None;
        };
        // Graph says the second where a session was revoked.
        let wanted = ["insufficient_claims", "invalid_token"];
        (self.is_bearer && wanted.contains(&&*error)).then(|| Claims::from_parameter(&claims))?
    }

    fn parameter(&mut self, name: &str, value: String) {
        if name.eq_ignore_ascii_case("error") {
            self.error.give(value);
        } else if name.eq_ignore_ascii_case("claims") {
            self.claims.give(value);
        }
    }
}

/// The challenges of one field, in order.
struct Challenges<'a> {
    rest: &'a str,
}

impl Iterator for Challenges<'_> {
    type Item = Challenge;

    fn next(&mut self) -> Option<Challenge> {
        let scheme = loop {
            self.skip(|byte| byte == b',' || is_space(byte));
            if self.rest.is_empty() {
                return None;
            }
            match self.token() {
                // A parameter of no challenge.
                Some(_) if self.is_at_value() => self.skip_element(),
                Some(scheme) => break scheme,
                None => self.skip_element(),
            }
        };
        let is_bearer = scheme.eq_ignore_ascii_case("bearer");
        let mut challenge = Challenge { is_bearer, ..Challenge::default() };
        self.parameters(&mut challenge);
        Some(challenge)
    }
}

impl<'a> Challenges<'a> {
    /// Reads what belongs to a scheme: a token68, or parameters up to the next scheme.
    fn parameters(&mut self, challenge: &mut Challenge) {
        loop {
            self.skip(|byte| byte == b',' || is_space(byte));
            let before = self.rest;
            let Some(name) = self.token() else {
                if self.rest.is_empty() {
                    return;
                }
                // Neither parameter nor scheme, a token68 with a slash in it, say.
                self.skip_element();
                continue;
            };
            if !self.is_at_value() {
                let begins_element = before.len() == self.rest.len() + name.len();
                if begins_element && self.is_at_end_of_element() {
                    // A token68, or a scheme without parameters: neither has anything for us.
                    continue;
                }
                // The next scheme.
                self.rest = before;
                return;
            }
            match self.value() {
                Some(value) => challenge.parameter(name, value),
                None => self.skip_element(),
            }
        }
    }

    /// Takes a token (RFC 9110 §5.6.2); `None` if there is none.
    fn token(&mut self) -> Option<&'a str> {
        let end = self.rest.bytes().position(|byte| !is_token(byte)).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        (!token.is_empty()).then_some(token)
    }

    /// Whether `=` and a value come next; spaces around it are bad, and read (§11.2).
    fn is_at_value(&self) -> bool {
        let Some(value) = self.rest.trim_start_matches([' ', '\t']).strip_prefix('=') else {
            return false;
        };
        let first = value.trim_start_matches([' ', '\t']).bytes().next();
        first.is_some_and(|byte| byte == b'"' || is_token(byte))
    }

    fn is_at_end_of_element(&self) -> bool {
        let next = self.rest.trim_start_matches([' ', '\t', '=']).bytes().next();
        next.is_none_or(|byte| byte == b',')
    }

    /// Takes `=` and the value behind it; `None` if its quotes don't end.
    fn value(&mut self) -> Option<String> {
        self.skip(|byte| byte == b'=' || is_space(byte));
        let Some(quoted) = self.rest.strip_prefix('"') else {
            return self.token().map(str::to_owned);
        };
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    self.rest = quoted.get(at + 1..).unwrap_or_default();
                    return Some(value);
                }
                '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
                other => value.push(other),
            }
        }
        self.rest = "";
        None
    }

    /// Skips to behind the next comma, one within quotes excepted.
    fn skip_element(&mut self) {
        let mut quoted = false;
        let mut escaped = false;
        let end = self.rest.bytes().position(|byte| {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                b',' if !quoted => return true,
                _ => {}
            }
            false
        });
        self.rest = end.and_then(|end| self.rest.get(end + 1..)).unwrap_or_default();
    }

    fn skip(&mut self, skipped: impl Fn(u8) -> bool) {
        let end = self.rest.bytes().position(|byte| !skipped(byte)).unwrap_or(self.rest.len());
        self.rest = self.rest.get(end..).unwrap_or_default();
    }
}

fn is_space(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// Of Microsoft.Identity.Web's tests.
    const CAE: &str =
        "eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7ImVzc2VudGlhbCI6dHJ1ZSwgInZhbHVlIjoiMTcwMjY4MjE4MSJ9fX0=";
    const CAE_JSON: &str = r#"{"access_token":{"nbf":{"essential":true, "value":"1702682181"}}}"#;
    /// Of MSAL's tests.
    const ACR: &str = "eyJpZF90b2tlbiI6eyJhdXRoX3RpbWUiOnsiZXNzZW50aWFsIjp0cnVlfSwiYWNyIjp7InZhbHVlcyI6WyJ1cm46bWFjZTppbmNvbW1vbjppYXA6c2lsdmVyIl19fX0=";
    const ACR_JSON: &str = r#"{"id_token":{"auth_time":{"essential":true},"acr":{"values":["urn:mace:incommon:iap:silver"]}}}"#;

    fn wanted(field: &str) -> Option<String> {
        claims_in(field).map(|claims| claims.text)
    }

    fn bearer(claims: &str) -> String {
        format!("Bearer error=\"insufficient_claims\", claims=\"{claims}\"")
    }

    #[test]
    fn the_challenges_of_graph_and_arm_are_read() {
        let graph = format!(
            "Bearer realm=\"\", authorization_uri=\"https://login.microsoftonline.com/common/oauth2/authorize\", client_id=\"00000003-0000-0000-c000-000000000000\", errorDescription=\"Continuous access evaluation resulted in challenge with result: InteractionRequired and code: TokenIssuedBeforeRevocationTimestamp\", error=\"insufficient_claims\", claims=\"{CAE}\""
        );
        assert_eq!(wanted(&graph).as_deref(), Some(CAE_JSON));
        let arm = format!(
            "Bearer authorization_uri=\"https://login.windows.net/\", error=\"invalid_token\", error_description=\"User session has been revoked\", claims=\"{ACR}\""
        );
        assert_eq!(wanted(&arm).as_deref(), Some(ACR_JSON));
    }

    #[test]
    fn the_forms_of_a_list_of_challenges() {
        let own = format!("error=\"insufficient_claims\", claims=\"{CAE}\"");
        for field in [
            format!("bEARER {own}"),
            format!("Bearer  {own}"),
            format!("Bearer\t{own}"),
            format!("Bearer ,, {own} ,"),
            format!("Bearer claims = \"{CAE}\" , error\t=\t\"insufficient_claims\""),
            format!("Bearer error=insufficient_claims,claims=\"{CAE}\""),
            format!("BEARER ERROR=\"insufficient_claims\", Claims=\"{CAE}\""),
            format!("Basic realm=\"a, Bearer error=\\\"x\\\"\", Bearer {own}"),
            format!("Negotiate, Bearer {own}"),
            format!("Negotiate YII/x+y==, Bearer {own}"),
            format!("NTLM abc, Bearer {own}"),
            format!("Bearer {own}, Basic realm=\"x\""),
            format!("Bearer {own}, Negotiate"),
            format!("Bearer realm=\"a\\\"b, claims=\\\"x\\\"\", {own}"),
            format!("Bearer, Bearer {own}"),
            format!("stray=1, Bearer {own}"),
            format!("@@@, Bearer {own}"),
        ] {
            assert_eq!(wanted(&field).as_deref(), Some(CAE_JSON), "{field}");
        }
        for field in [
            String::new(),
            "Bearer".to_owned(),
            "Bearer error=\"insufficient_claims\"".to_owned(),
            format!("Bearer claims=\"{CAE}\""),
            format!("Bearer error=\"insufficient_scope\", claims=\"{CAE}\""),
            format!("PoP {own}"),
            format!("Bearer error=\"insufficient_claims\", PoP claims=\"{CAE}\""),
            format!("Bearer {own}, claims=\"{CAE}\""),
            format!("Bearer error=\"invalid_token\", {own}"),
            format!("Bearer error=\"insufficient_claims\", claims=\"{CAE}"),
            format!("Basic realm=\"Bearer {own}\""),
            bearer(""),
            bearer("%%%"),
            bearer("W10="),
            bearer("bm90IGpzb24="),
            bearer("eyJhIjoxLCJhIjoyfQ=="),
        ] {
            assert_eq!(wanted(&field), None, "{field}");
        }
    }

    #[test]
    fn claims_are_base64_in_any_form_or_json() {
        assert_eq!(wanted(&bearer(CAE.trim_end_matches('='))).as_deref(), Some(CAE_JSON));
        // `{"a":"??>"}`, with the letters in which the alphabets differ.
        assert_eq!(wanted(&bearer("eyJhIjoiPz8+In0=")).as_deref(), Some(r#"{"a":"??>"}"#));
        assert_eq!(wanted(&bearer("eyJhIjoiPz8-In0")).as_deref(), Some(r#"{"a":"??>"}"#));
        let raw = CAE_JSON.replace('"', "\\\"");
        assert_eq!(wanted(&bearer(&raw)).as_deref(), Some(CAE_JSON));
    }

    #[test]
    fn claims_are_bounded() {
        let json = |size: usize| {
            let frame = r#"{"a":""}"#.len();
            format!(r#"{{"a":"{}"}}"#, "x".repeat(size - frame))
        };
        let most = limits::MAX_CLAIMS_BYTES;
        assert!(Claims::from_json(&json(most)).is_some());
        assert!(Claims::from_json(&json(most + 1)).is_none());
    }

    #[test]
    fn the_first_field_that_asks_counts() {
        let mut headers = HeaderMap::new();
        assert_eq!(claims_wanted(&headers), None);
        let mut add = |value: String| {
            headers.append(WWW_AUTHENTICATE, HeaderValue::try_from(value).unwrap());
        };
        add("Basic realm=\"x\"".to_owned());
        add(format!("{}, x=\"{}\"", bearer(ACR), "y".repeat(limits::MAX_CHALLENGE_BYTES)));
        add(bearer(CAE));
        add(bearer(ACR));
        assert_eq!(claims_wanted(&headers).unwrap().text(), CAE_JSON);
    }

    #[test]
    fn claims_are_not_shown() {
        let shown = format!("{:?}", claims_in(&bearer(CAE)));
        assert!(!shown.contains("nbf") && !shown.contains("170268"), "{shown}");
    }
}
