//! Names and values of header fields, and which of them a route may not touch.

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, FORWARDED, HOST, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{HeaderName, HeaderValue};

use super::super::file::HeaderChanges;
use super::super::problem::Place;
use super::super::spanned::Spanned;
use super::super::value::Text;
use super::Finding;
use crate::forward::headers::HeaderRules;
use crate::observe::request_id::X_REQUEST_ID;
use crate::secret::SecretHeader;

/// A field's name.
pub(super) fn name(text: &str, place: Place, finding: &mut Finding<'_>) -> Option<HeaderName> {
    let name = HeaderName::try_from(text).ok();
    if name.is_none() {
        finding.error(
            place,
            format!("`{text}` is not the name of a header"),
            "letters, digits and hyphens: `x-user-id`",
        );
    }
    name
}

/// A field's name that a route may give a value to.
pub(super) fn free_name(text: &str, place: Place, finding: &mut Finding<'_>) -> Option<HeaderName> {
    let name = name(text, place, finding)?;
    let Some(why) = why_not(&name) else { return Some(name) };
    finding.error(place, format!("a route can't change `{name}`"), why);
    None
}

/// A field's name that may carry an upstream's credential: `Authorization` too.
pub(super) fn credential_name(
    text: &str,
    place: Place,
    finding: &mut Finding<'_>,
) -> Option<HeaderName> {
    let name = name(text, place, finding)?;
    match why_not(&name) {
        Some(why) if name != AUTHORIZATION => {
            finding.error(place, format!("a credential can't be sent as `{name}`"), why);
            None
        }
        Some(_) | None => Some(name),
    }
}

/// Why a route may not change a field, if it may not.
fn why_not(name: &HeaderName) -> Option<&'static str> {
    let framing = [CONNECTION, CONTENT_LENGTH, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];
    let text = name.as_str();
    if framing.contains(name)
        || matches!(text, "keep-alive" | "proxy-connection" | "http2-settings")
    {
        Some("remove it: it belongs to the connection, and the gateway sets it")
    } else if *name == HOST {
        Some("remove it, and say by `host_header` of the upstream which host it is told")
    } else if *name == AUTHORIZATION {
        Some(
            "say which credential the upstream gets with `token:`, such as `token: { header: { name: authorization, value: … } }`",
        )
    } else if *name == FORWARDED || *name == X_REQUEST_ID || text.starts_with("x-forwarded-") {
        Some("remove it: the gateway sets it for every request")
    } else {
        None
    }
}

/// A field's value, which may be a secret: it is not repeated.
pub(super) fn value(text: &str, place: Place, finding: &mut Finding<'_>) -> Option<HeaderValue> {
    let value = HeaderValue::from_str(text).ok();
    if value.is_none() {
        finding.error(
            place,
            "the value can't stand in a header",
            "write visible ASCII characters and spaces, on one line",
        );
    }
    value
}

/// `request_headers` and `response_headers`.
pub(super) fn rules(changes: &HeaderChanges, finding: &mut Finding<'_>) -> HeaderRules {
    let mut rules = HeaderRules::default();
    for text in &changes.remove {
        rules.remove.extend(removable(text, finding));
    }
    for (key, secret) in &changes.set.0 {
        rules.set.extend(entry(key, secret, finding));
    }
    for (key, secrets) in &changes.add.0 {
        rules.add.extend(secrets.0.iter().filter_map(|secret| entry(key, secret, finding)));
    }
    rules
}

fn removable(text: &Spanned<Text>, finding: &mut Finding<'_>) -> Option<HeaderName> {
    free_name(&text.value, text.place, finding)
}

fn entry(
    key: &Spanned<String>,
    secret: &Spanned<crate::secret::Secret>,
    finding: &mut Finding<'_>,
) -> Option<(HeaderName, HeaderValue)> {
    let name = free_name(&key.value, key.place, finding)?;
    let value = value(secret.value.expose(), secret.place, finding)?;
    // Some are API keys: they are marked, so that nothing prints them.
    Some((name, SecretHeader::new(value).expose().clone()))
}
