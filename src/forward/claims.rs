//! `forward_claims`: what a verified token says, as header fields for the upstream.

use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::Value;

use crate::identity::Identity;

/// What is percent-encoded beside all that is not ASCII: no value can end a field, split a
/// list or pretend to be encoded.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b',');

/// One entry of `forward_claims`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardedClaim {
    /// The claim: as it stands, else a dotted path.
    pub claim: String,
    /// The field it becomes.
    pub header: HeaderName,
}

/// Adds a field for each claim that the identity has. The fields are known to be absent:
/// [`super::headers::clean_request`] removed what the caller sent under these names.
pub(super) fn add(headers: &mut HeaderMap, claims: &[ForwardedClaim], identity: &Identity) {
    for entry in claims {
        let value = identity.claim(&entry.claim).as_ref().and_then(text);
        if let Some(value) = value.and_then(|text| HeaderValue::try_from(text).ok()) {
            headers.insert(&entry.header, value);
        }
    }
}

/// Strings, numbers and booleans as text, arrays of them joined by commas. Objects and
/// `null` have no text.
fn text(claim: &Value) -> Option<String> {
    let mut out = String::new();
    match claim {
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.extend(utf8_percent_encode(&scalar(element)?, ENCODED));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            out.extend(utf8_percent_encode(&scalar(claim)?, ENCODED));
        }
    }
    Some(out)
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn forms_of_claims() {
        for (claim, expected) in [
            (json!("alice"), Some("alice")),
            (json!("Zoë, 100%"), Some("Zo%C3%AB%2C%20100%25")),
            (json!("a\r\nx-admin: 1"), Some("a%0D%0Ax-admin:%201")),
            (json!(7), Some("7")),
            (json!(true), Some("true")),
            (json!(["a", "b,c", 1]), Some("a,b%2Cc,1")),
            (json!([]), Some("")),
            (json!(null), None),
            (json!({"a": 1}), None),
            (json!([{"a": 1}]), None),
        ] {
            assert_eq!(text(&claim).as_deref(), expected, "{claim}");
        }
    }
}
