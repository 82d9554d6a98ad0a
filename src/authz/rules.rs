//! The rules of a policy, one function each, pure.
//!
//! The caller is told the code only; the rule and both sides of the comparison are for the
//! operator's log.

use serde_json::Value;

use crate::authn::is_guid;
use crate::authn::refusal::{shown, shown_all};
use crate::identity::{CallerKind, Identity};
use crate::rejection::{Code, Extra, Rejection};

use super::{Callers, Policy};

/// Whether `identity` meets every rule of `policy`.
///
/// Who may come at all goes before what was granted, so that an app on a route for users is
/// not told to ask for scopes.
pub(super) fn check(policy: &Policy, identity: &Identity) -> Result<(), Rejection> {
    check_tenant(policy, identity)?;
    check_client(policy, identity)?;
    check_kind(policy, identity)?;
    check_claims(policy, identity)?;
    check_grant(policy, identity)
}

fn check_tenant(policy: &Policy, identity: &Identity) -> Result<(), Rejection> {
    one_of("tenants", &policy.tenants, "tenant", identity.tenant.as_deref())
}

fn check_client(policy: &Policy, identity: &Identity) -> Result<(), Rejection> {
    one_of("clients", &policy.clients, "client", identity.client_id.as_deref())
}

fn check_kind(policy: &Policy, identity: &Identity) -> Result<(), Rejection> {
    match (policy.callers, identity.kind) {
        (Callers::Any, _)
        | (Callers::Users, CallerKind::User)
        | (Callers::Apps, CallerKind::App) => Ok(()),
        (Callers::Users, CallerKind::App) => {
            Err(not_allowed("the caller is an app, and the route's `callers` is `users`"))
        }
        (Callers::Apps, CallerKind::User) => {
            Err(not_allowed("the caller is a user, and the route's `callers` is `apps`"))
        }
    }
}

fn check_claims(policy: &Policy, identity: &Identity) -> Result<(), Rejection> {
    for (name, wanted) in &policy.claims {
        let found = identity.claim(name);
        if !found.as_ref().is_some_and(|value| claim_meets(value, wanted)) {
            let wanted = shown_all(wanted.iter().map(String::as_str));
            let found = found.map_or_else(
                || "is missing".to_owned(),
                |value| format!("is {}", shown(&value.to_string())),
            );
            return Err(not_allowed(format!(
                "claim {} {found}, and the route's `claims` asks for one of {wanted}",
                shown(name)
            )));
        }
    }
    Ok(())
}

/// Whether a claim has one of the `wanted` values; an array, whether one of its elements does.
fn claim_meets(value: &Value, wanted: &[String]) -> bool {
    match value {
        Value::Array(elements) => elements.iter().any(|element| scalar_meets(element, wanted)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            scalar_meets(value, wanted)
        }
    }
}

/// Strings as they are, numbers and booleans as JSON writes them; null and what is nested
/// deeper has no value to compare.
fn scalar_meets(value: &Value, wanted: &[String]) -> bool {
    match value {
        Value::String(text) => wanted.iter().any(|wanted| wanted == text),
        Value::Number(number) => {
            let text = number.to_string();
            wanted.contains(&text)
        }
        Value::Bool(flag) => {
            let text = if *flag { "true" } else { "false" };
            wanted.iter().any(|wanted| wanted == text)
        }
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

fn check_grant(policy: &Policy, identity: &Identity) -> Result<(), Rejection> {
    if policy.scopes.is_empty() && policy.roles.is_empty() {
        return Ok(());
    }
    let meets = |granted: &[String], wanted: &[String]| wanted.iter().any(|w| granted.contains(w));
    if meets(&identity.scopes, &policy.scopes) || meets(&identity.roles, &policy.roles) {
        return Ok(());
    }
    let listed = |values: &[String]| shown_all(values.iter().map(String::as_str));
    let mut sides = Vec::new();
    if !policy.scopes.is_empty() {
        sides.push(format!(
            "the token has scopes {}, and the route's `scopes` asks for one of {}",
            listed(&identity.scopes),
            listed(&policy.scopes)
        ));
    }
    if !policy.roles.is_empty() {
        sides.push(format!(
            "the token has roles {}, and the route's `roles` asks for one of {}",
            listed(&identity.roles),
            listed(&policy.roles)
        ));
    }
    let reason = format!("not authorised: {}", sides.join("; or else "));
    Err(Rejection::new(
        Code::InsufficientScope,
        "The token has neither a scope nor a role that this resource needs",
        reason,
    )
    .with(Extra::Scopes(policy.scopes.clone())))
}

/// The rule called `rule`: nothing is asked for, or the token's value is listed.
fn one_of(rule: &str, listed: &[String], what: &str, own: Option<&str>) -> Result<(), Rejection> {
    if listed.is_empty() || own.is_some_and(|own| listed.iter().any(|one| same_id(one, own))) {
        return Ok(());
    }
    let own = own.map_or_else(|| "none".to_owned(), shown);
    let listed = shown_all(listed.iter().map(String::as_str));
    Err(not_allowed(format!("the token's {what} is {own}, and the route's `{rule}` are {listed}")))
}

/// GUIDs are the same whatever their case; everything else byte for byte.
fn same_id(one: &str, other: &str) -> bool {
    one == other || (is_guid(one) && one.eq_ignore_ascii_case(other))
}

fn not_allowed(why: impl AsRef<str>) -> Rejection {
    let reason = format!("not authorised: {}", why.as_ref());
    Rejection::new(
        Code::CallerNotAllowed,
        "This caller is not allowed to use this resource",
        reason,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixTime;
    use serde_json::json;
    use std::sync::Arc;

    const GUID: &str = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee";
    const OTHER: &str = "aaaaaaaa-bbbb-4ccc-8ddd-ffffffffffff";

    fn identity() -> Identity {
        let claims = json!({
            "department": "finance",
            "groups": ["a", "b", 7],
            "level": 3,
            "ratio": 0.5,
            "admin": true,
            "nothing": null,
            "empty": [],
            "realm": {"team": ["red", "blue"], "deep": {"er": "x"}},
            "https://example.com/plan": "gold",
        });
        Identity {
            provider: Arc::from("test"),
            issuer: Arc::from("https://issuer.example"),
            tenant: Some(GUID.to_owned()),
            user: Some("u1".to_owned()),
            client_id: Some(GUID.to_owned()),
            kind: CallerKind::User,
            scopes: vec!["read".to_owned(), "write".to_owned()],
            roles: vec!["Admin".to_owned()],
            claims: claims.as_object().unwrap().clone().into(),
            expires_at: UnixTime(1),
        }
    }

    fn code(policy: &Policy, identity: &Identity) -> Option<Code> {
        check(policy, identity).err().map(|rejection| rejection.code())
    }

    fn strings(values: &[&str]) -> Vec<String> {
        values.iter().map(|&value| value.to_owned()).collect()
    }

    #[test]
    fn an_empty_policy_takes_any_token() {
        assert_eq!(code(&Policy::default(), &identity()), None);
    }

    #[test]
    fn scopes_or_roles() {
        const LACKS: Option<Code> = Some(Code::InsufficientScope);
        for (scopes, roles, wanted) in [
            (&["read"][..], &[][..], None),
            (&["none", "write"], &[], None),
            (&["Read"], &[], LACKS),
            (&["rea"], &[], LACKS),
            (&["read write"], &[], LACKS),
            (&[], &["Admin"], None),
            (&[], &["admin"], LACKS),
            (&[], &["read"], LACKS),
            (&["Admin"], &[], LACKS),
            (&["none"], &["Admin"], None),
            (&["read"], &["none"], None),
            (&["none"], &["none"], LACKS),
        ] {
            let policy =
                Policy { scopes: strings(scopes), roles: strings(roles), ..Policy::default() };
            assert_eq!(code(&policy, &identity()), wanted, "{scopes:?} {roles:?}");
        }
    }

    #[test]
    fn a_missing_scope_says_to_the_caller_which_would_do_and_to_the_operator_why() {
        let policy =
            Policy { scopes: strings(&["x", "y"]), roles: strings(&["R"]), ..Policy::default() };
        let rejection = check(&policy, &identity()).unwrap_err();
        assert_eq!(rejection.extra(), &Extra::Scopes(strings(&["x", "y"])));
        let reason = rejection.reason();
        for part in ["`read`, `write`", "`x`, `y`", "`Admin`", "`R`"] {
            assert!(reason.contains(part), "{reason}");
            assert!(!rejection.detail().contains(part.trim_matches('`')));
        }
    }

    #[test]
    fn kinds_of_caller() {
        const NOT: Option<Code> = Some(Code::CallerNotAllowed);
        for (callers, kind, wanted) in [
            (Callers::Any, CallerKind::User, None),
            (Callers::Any, CallerKind::App, None),
            (Callers::Users, CallerKind::User, None),
            (Callers::Users, CallerKind::App, NOT),
            (Callers::Apps, CallerKind::App, None),
            (Callers::Apps, CallerKind::User, NOT),
        ] {
            let policy = Policy { callers, ..Policy::default() };
            let identity = Identity { kind, ..identity() };
            assert_eq!(code(&policy, &identity), wanted, "{callers:?} {kind:?}");
        }
    }

    #[test]
    fn clients_and_tenants() {
        const NOT: Option<Code> = Some(Code::CallerNotAllowed);
        for (listed, own, wanted) in [
            (&[GUID][..], Some(GUID), None),
            (&[OTHER, GUID], Some(GUID), None),
            (&[&GUID.to_uppercase()], Some(GUID), None),
            (&[GUID], Some(&*GUID.to_uppercase()), None),
            (&[OTHER], Some(GUID), NOT),
            (&[GUID], None, NOT),
            (&[""], None, NOT),
            (&["portal"], Some("portal"), None),
            (&["portal"], Some("Portal"), NOT),
        ] {
            let own = own.map(str::to_owned);
            let by_client = Policy { clients: strings(listed), ..Policy::default() };
            let by_tenant = Policy { tenants: strings(listed), ..Policy::default() };
            let caller =
                Identity { client_id: own.clone(), tenant: Some(OTHER.into()), ..identity() };
            assert_eq!(code(&by_client, &caller), wanted, "{listed:?} {own:?}");
            let caller = Identity { tenant: own.clone(), client_id: None, ..identity() };
            assert_eq!(code(&by_tenant, &caller), wanted, "{listed:?} {own:?}");
        }
    }

    #[test]
    fn claims() {
        for (name, values, passes) in [
            ("department", &["audit", "finance"][..], true),
            ("department", &["Finance"], false),
            ("department", &[], false),
            ("groups", &["b"], true),
            ("groups", &["7"], true),
            ("groups", &["c"], false),
            ("groups", &["[\"a\",\"b\"]"], false),
            ("level", &["3"], true),
            ("level", &["3.0", "03"], false),
            ("ratio", &["0.5"], true),
            ("admin", &["true"], true),
            ("admin", &["1", "True", "false"], false),
            ("nothing", &["null", ""], false),
            ("empty", &["", "[]"], false),
            ("missing", &[""], false),
            ("realm", &["team"], false),
            ("realm.team", &["blue"], true),
            ("realm.deep.er", &["x"], true),
            ("realm.deep", &["er"], false),
            ("department.finance", &["finance"], false),
            ("https://example.com/plan", &["gold"], true),
        ] {
            let claims = BTreeMap::from([(name.to_owned(), strings(values))]);
            let policy = Policy { claims, ..Policy::default() };
            let wanted = (!passes).then_some(Code::CallerNotAllowed);
            assert_eq!(code(&policy, &identity()), wanted, "{name} {values:?}");
        }
    }

    #[test]
    fn every_claim_has_to_be_met() {
        let both = |admin: &str| Policy {
            claims: BTreeMap::from([
                ("department".to_owned(), strings(&["finance"])),
                ("admin".to_owned(), strings(&[admin])),
            ]),
            ..Policy::default()
        };
        assert_eq!(code(&both("true"), &identity()), None);
        assert_eq!(code(&both("false"), &identity()), Some(Code::CallerNotAllowed));
    }

    #[test]
    fn a_claim_can_not_forge_a_line_of_the_log() {
        let mut identity = identity();
        let long = ("department".to_owned(), json!("x\ny".repeat(500)));
        identity.claims = serde_json::Map::from_iter([long]).into();
        let claims = BTreeMap::from([("department".to_owned(), strings(&["finance"]))]);
        let policy = Policy { claims, ..Policy::default() };
        let reason = check(&policy, &identity).unwrap_err().reason();
        assert!(!reason.contains('\n') && reason.len() < 400, "{reason}");
    }

    use std::collections::BTreeMap;
}
