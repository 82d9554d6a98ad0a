//! The `claims` of a token request: what an upstream asked for, together with what the gateway
//! says of itself.
//!
//! `cp1` tells Entra that its client handles claims challenges; tokens for resources that can
//! revoke them live up to a day then, because a challenge ends them at once.

use serde_json::{Map, Value};

use super::challenge::Claims;

/// What the gateway says of itself to Entra, where no upstream asked for anything.
pub(super) const CAPABILITIES: &str = r#"{"access_token":{"xms_cc":{"values":["cp1"]}}}"#;

/// The same, to be put together with what an upstream asked for.
pub(super) fn capabilities() -> Map<String, Value> {
    // It is an object as it stands above.
    serde_json::from_str(CAPABILITIES).unwrap_or_default()
}

/// The text of the `claims` parameter; `None` if there is nothing to say.
pub(super) fn parameter(
    capabilities: Map<String, Value>,
    wanted: Option<&Claims>,
) -> Option<String> {
    let mut claims = capabilities;
    if let Some(wanted) = wanted {
        merge(&mut claims, wanted.members());
    }
    (!claims.is_empty()).then(|| Value::Object(claims).to_string())
}

/// Adds `wanted` to `own`: objects are merged member by member, of lists of `values` the union is
/// taken; what else stands in both stays as it is. The strict reader bounded the depth.
fn merge(own: &mut Map<String, Value>, wanted: &Map<String, Value>) {
    for (name, value) in wanted {
        match (own.get_mut(name), value) {
            (Some(Value::Object(mine)), Value::Object(theirs)) => merge(mine, theirs),
            (Some(Value::Array(mine)), Value::Array(theirs)) => {
                for one in theirs {
                    if !mine.contains(one) {
                        mine.push(one.clone());
                    }
                }
            }
            // Our own is what makes the answer to a challenge work; nothing takes it away.
            (Some(_), _) => {}
            (None, _) => {
                own.insert(name.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(wanted: &str) -> Value {
        let text = parameter(capabilities(), Claims::from_json(wanted).as_ref()).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn nothing_to_say_is_no_parameter() {
        assert_eq!(parameter(Map::new(), None), None);
        let wanted = Claims::from_json(r#"{"access_token":{"acrs":null}}"#);
        let text = parameter(Map::new(), wanted.as_ref()).unwrap();
        assert_eq!(text, r#"{"access_token":{"acrs":null}}"#);
        assert_eq!(
            parameter(capabilities(), None).unwrap(),
            r#"{"access_token":{"xms_cc":{"values":["cp1"]}}}"#
        );
    }

    #[test]
    fn a_challenge_is_merged_with_the_capability() {
        assert_eq!(
            merged(r#"{"access_token":{"nbf":{"essential":true,"value":"1"}}}"#),
            json!({"access_token": {"xms_cc": {"values": ["cp1"]}, "nbf": {"essential": true, "value": "1"}}})
        );
        assert_eq!(
            merged(
                r#"{"id_token":{"acr":null},"access_token":{"xms_cc":{"values":["cp2","cp1"],"x":1}}}"#
            ),
            json!({"access_token": {"xms_cc": {"values": ["cp1", "cp2"], "x": 1}}, "id_token": {"acr": null}})
        );
    }

    #[test]
    fn no_challenge_takes_the_capability_away() {
        for wanted in [
            r#"{"access_token":null}"#,
            r#"{"access_token":{"xms_cc":null}}"#,
            r#"{"access_token":"x"}"#,
            r#"{"access_token":{"xms_cc":{"values":"x"}}}"#,
            r#"{"access_token":{"xms_cc":{"values":[]}}}"#,
        ] {
            assert_eq!(merged(wanted), json!({"access_token": {"xms_cc": {"values": ["cp1"]}}}));
        }
    }
}
