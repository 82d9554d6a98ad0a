//! A token endpoint's answer: a token, or why there is none, which `refusal.rs` words.
//!
//! Strict about what is a token (RFC 6749 §5.1): anything in doubt is none. Lenient about
//! the form of numbers, which providers send as text, too. Of an error, `claims` speak before
//! a known number or suberror, those before the status, and the bare `error` last. Text that
//! the provider made up (`error_description`) is never kept: it names users.

use std::time::Duration;

use http::{HeaderValue, StatusCode};

use super::advice::{self, Class, Row};
use super::failure::Memory;
use super::grant;
use super::refusal::{Marks, Refusal};
use crate::authn::json::{self, Object, Value};
use crate::limits;
use crate::secret::SecretHeader;

/// A token, ready to be sent to an upstream.
#[derive(Debug)]
pub(super) struct Grant {
    /// `Bearer …`.
    pub(super) header: SecretHeader,
    /// `expires_in`, in whole seconds; `None` if the provider did not say.
    pub(super) life: Option<Duration>,
    /// `refresh_in`: when the provider would have it renewed; `None` if it did not say.
    pub(super) refresh_in: Option<Duration>,
}

/// The members of an answer that are looked at; a repeated one of any name makes it invalid.
#[derive(Default)]
pub(super) struct Members<'b>(Object<'b>);

/// Judges an answer by its status and body.
pub(super) fn read(status: StatusCode, body: &[u8]) -> Result<Grant, Refusal> {
    let members = Members::read(body);
    match members {
        _ if status.is_redirection() => Err(no_token(
            status,
            "a redirect, which is never followed; correct the token endpoint of provider `{provider}`",
        )),
        Some(members) if status == StatusCode::OK && !members.is_error() => token(status, &members),
        Some(members) => Err(refusal(status, &members)),
        None if status == StatusCode::OK => Err(no_token(
            status,
            "not a JSON object that reads in one way only; is the token endpoint of provider `{provider}` the right one?",
        )),
        None => Err(refusal(status, &Members::default())),
    }
}

/// What the error in an answer shows, for `trial.rs`, to which it matters who was refused.
pub(super) struct Signs {
    /// `error`, where it is a plain word.
    pub(super) error: Option<String>,
    /// The `AADSTS` numbers.
    pub(super) numbers: Vec<u64>,
    /// `error_description`: compared, and never shown.
    pub(super) description: Option<String>,
}

/// The signs of the error in `body`; empty ones if it is none.
pub(super) fn signs(body: &[u8]) -> Signs {
    let members = Members::read(body).unwrap_or_default();
    Signs {
        error: plain(members.get("error"), is_of_error).map(str::to_owned),
        numbers: members.numbers(),
        description: members.get("error_description").as_str().map(str::to_owned),
    }
}

/// Whether `error` and `suberror` are made of such bytes.
fn is_of_error(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte == b'_'
}

impl<'b> Members<'b> {
    /// Takes a body; `None` if it is no JSON object that reads in one way only.
    pub(super) fn read(body: &'b [u8]) -> Option<Self> {
        json::object(body).ok().map(Self)
    }

    /// What it has under `name`: null where there is nothing.
    pub(super) fn get(&self, name: &str) -> &Value<'b> {
        self.0.get(name).unwrap_or(&Value::Null)
    }

    /// Whether this is an error, whatever the status: an `error`, or `claims` in place of a token.
    fn is_error(&self) -> bool {
        let has = |name| *self.get(name) != Value::Null;
        has("error") || (!has("access_token") && self.claims().is_some())
    }

    /// `claims` as JSON text; `None` if there are none.
    fn claims(&self) -> Option<String> {
        match self.get("claims") {
            Value::String(text) if !text.trim().is_empty() => Some(text.to_string()),
            Value::Object(members) if members.iter().len() > 0 => {
                Some(serde_json::Value::Object(members.to_map()).to_string())
            }
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)
            | Value::Object(_) => None,
        }
    }

    /// The `AADSTS` numbers: of `error_codes`, else the one that the description begins with.
    fn numbers(&self) -> Vec<u64> {
        let of_value = |value: &Value<'_>| match value {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.trim().parse().ok(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        let codes = self.get("error_codes").as_array().unwrap_or_default();
        let codes: Vec<u64> = codes.iter().filter_map(of_value).take(8).collect();
        if !codes.is_empty() {
            return codes;
        }
        let described = self.get("error_description").as_str().and_then(|text| {
            let digits = text.trim_start().strip_prefix("AADSTS")?;
            digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        });
        described.into_iter().collect()
    }
}

const NO_HEADER: &str =
    "a token with bytes that can't stand in a header; only the provider can mend that";

fn token(status: StatusCode, members: &Members<'_>) -> Result<Grant, Refusal> {
    let refused = |advice| no_token(status, advice);
    let header = bearer(members.get("access_token"), members.get("token_type")).map_err(refused)?;
    // RFC 8693 §2.2.1 asks for it, and not every provider sends it; other grants have none.
    let kind = members.get("issued_token_type").as_str();
    if *members.get("issued_token_type") != Value::Null
        && ![Some(grant::ACCESS_TOKEN), Some(grant::JWT)].contains(&kind)
    {
        return Err(refused(
            "a token whose `issued_token_type` is no access token; correct `requested_token_type` in `extra_parameters`, or what provider `{provider}` issues to {client}",
        ));
    }
    let life = match life(members.get("expires_in")) {
        Life::Unknown => None,
        Life::Seconds(seconds) => Some(Duration::from_secs(seconds)),
        Life::Over => {
            return Err(refused(
                "a token that has already expired (`expires_in` of 0 or less); correct the lifetime of tokens for {scopes} at the provider",
            ));
        }
    };
    let refresh_in = match self::life(members.get("refresh_in")) {
        Life::Seconds(seconds) => Some(Duration::from_secs(seconds)),
        Life::Unknown | Life::Over => None,
    };
    Ok(Grant { header, life, refresh_in })
}

/// `access_token` as the value of `Authorization`, or why it is none.
pub(super) fn bearer(token: &Value<'_>, kind: &Value<'_>) -> Result<SecretHeader, &'static str> {
    let token = match token {
        Value::String(token) if !token.is_empty() => token,
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => {
            return Err("an answer without `access_token`; is the endpoint the right one?");
        }
    };
    if !kind.as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("bearer")) {
        return Err(
            "a token whose `token_type` is not Bearer, which no upstream would take; turn binding (DPoP, mTLS) off for the gateway's application, and ask for an access token",
        );
    }
    if token.len() > limits::MAX_OUTBOUND_TOKEN_BYTES {
        return Err("a token of more than 32 KiB; ask for fewer groups or claims in it");
    }
    // No early end, so that many bytes of a long token are compared at once.
    if token.bytes().fold(0, |strange, byte| strange | u8::from(!byte.is_ascii_graphic())) != 0 {
        return Err(NO_HEADER);
    }
    // The error would hold nothing, but the token is gone with it all the same.
    let header = HeaderValue::try_from(["Bearer ", token].concat());
    header.map(SecretHeader::new).ok().ok_or(NO_HEADER)
}

/// A length of time, or a point in time, as providers write them.
pub(super) enum Life {
    /// Not said, or not as a number.
    Unknown,
    Seconds(u64),
    Over,
}

/// Reads `expires_in` and the like: a number or its text, fractions cut off.
pub(super) fn life(value: &Value<'_>) -> Life {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.trim().to_owned(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return Life::Unknown,
    };
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.as_str()),
    };
    let whole = digits.split_once('.').map_or(digits, |(whole, _)| whole);
    match whole.parse::<u64>() {
        Ok(_) if negative => Life::Over,
        Ok(0) => Life::Over,
        Ok(seconds) => Life::Seconds(seconds),
        Err(_) => Life::Unknown,
    }
}

fn no_token(status: StatusCode, advice: &'static str) -> Refusal {
    let sign = format!("status {}", status.as_u16()).into_boxed_str();
    Refusal {
        class: Class::Gateway,
        sign,
        cause: None,
        advice,
        marks: Box::default(),
        claims: None,
        memory: Memory::Token(limits::SHORT_REFUSAL_MEMORY),
    }
}

fn refusal(status: StatusCode, members: &Members<'_>) -> Refusal {
    let numbers = members.numbers();
    let error = plain(members.get("error"), is_of_error);
    let suberror = plain(members.get("suberror"), is_of_error);

    let known = numbers.iter().find_map(|&n| advice::number(n).map(|row| (n, row)));
    let by_status = || format!("status {}", status.as_u16());
    let sign = match (known.map(|(n, _)| n).or_else(|| numbers.first().copied()), error) {
        (Some(number), _) => format!("AADSTS{number}"),
        (None, Some(error)) => format!("error `{error}`"),
        (None, None) => by_status(),
    };
    let marks = marks(status, members, &numbers, error, suberror).to_string().into_boxed_str();

    if let Some(claims) = members.claims() {
        let usable =
            claims.len() <= limits::MAX_CLAIMS_BYTES && json::object(claims.as_bytes()).is_ok();
        let (advice, claims) = if usable {
            (
                "more claims are asked for; the client has to sign the user in again with the `claims` of our answer",
                Some(claims),
            )
        } else {
            (
                "claims are asked for that are not a JSON object of at most 8 KiB and can't be passed on; the client has to sign the user in again",
                None,
            )
        };
        // What there is to do, the challenge says; that of the row without claims is left out.
        let cause = known.map(|(_, (_, advice))| advice::parts(advice).0);
        let class = Class::Interaction;
        let memory = memory(class, &numbers, error);
        return Refusal {
            class,
            sign: sign.into_boxed_str(),
            cause,
            advice,
            marks,
            claims,
            memory,
        };
    }

    let told = known.map(|(_, row)| row).or_else(|| suberror.and_then(advice::suberror));
    if let (None, Some((class, advice))) = (told, passing(status)) {
        let (sign, memory) = (by_status().into_boxed_str(), memory(class, &numbers, error));
        return Refusal { class, sign, cause: None, advice, marks, claims: None, memory };
    }
    let (class, advice) = told
        .or_else(|| advice::described(error?, members.get("error_description").as_str()?))
        .or_else(|| error.and_then(advice::error))
        .unwrap_or((
            Class::Gateway,
            "which is not an answer of a token endpoint that we know; is the token endpoint of provider `{provider}` the right one, and is `client_id` {client} registered there?",
        ));
    let memory = memory(class, &numbers, error);
    Refusal { class, sign: sign.into_boxed_str(), cause: None, advice, marks, claims: None, memory }
}

/// "Loop detected".
const LOOP_DETECTED: u64 = 50_196;

/// For whom a refusal holds a while longer. It is for everybody only where the provider names the
/// client itself (RFC 6749 §5.2): else one caller's odd token would lock out all others.
fn memory(class: Class, numbers: &[u64], error: Option<&str>) -> Memory {
    match class {
        Class::Interaction | Class::NotAllowed | Class::Expired | Class::Invalid => {
            Memory::Token(limits::REFUSAL_MEMORY)
        }
        Class::Gateway if matches!(error, Some("invalid_client" | "unauthorized_client")) => {
            Memory::Client(limits::SHORT_REFUSAL_MEMORY)
        }
        Class::Consent | Class::Gateway => Memory::Token(limits::SHORT_REFUSAL_MEMORY),
        // The loop is this caller's: it waits, and nobody else.
        Class::Unavailable if numbers.contains(&LOOP_DETECTED) => {
            Memory::Token(limits::REFUSAL_MEMORY)
        }
        Class::Unavailable => Memory::None,
    }
}

/// A status that says by itself that trying later may help.
fn passing(status: StatusCode) -> Option<Row> {
    if status == StatusCode::TOO_MANY_REQUESTS {
        Some((Class::Unavailable, "the provider throttles us; lower the number of exchanges"))
    } else if status == StatusCode::REQUEST_TIMEOUT || status.is_server_error() {
        Some((
            Class::Unavailable,
            "the provider has a passing error; nothing to do unless it stays",
        ))
    } else {
        None
    }
}

/// A short text of `value` in which only `allowed` bytes occur, so that no token or name can
/// come into the log by way of an error.
pub(super) fn plain<'v>(value: &'v Value<'_>, allowed: fn(u8) -> bool) -> Option<&'v str> {
    value.as_str().filter(|text| (1..=64).contains(&text.len()) && text.bytes().all(allowed))
}

fn marks<'a>(
    status: StatusCode,
    members: &'a Members<'_>,
    numbers: &'a [u64],
    error: Option<&'a str>,
    suberror: Option<&'a str>,
) -> Marks<'a> {
    let of_id = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
    let of_time = |byte: u8| byte.is_ascii_digit() || b"-:. TZ".contains(&byte);
    Marks {
        status,
        error,
        suberror,
        numbers,
        trace_id: plain(members.get("trace_id"), of_id),
        correlation_id: plain(members.get("correlation_id"), of_id),
        timestamp: plain(members.get("timestamp"), of_time),
    }
}

#[cfg(test)]
mod tests;
