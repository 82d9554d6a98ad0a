//! Each check of each grant: just allowed, just refused.

use bytes::Bytes;
use http::header::CONTENT_TYPE;

use super::*;
use crate::dev::authority::tests::{NOW, authority};
use crate::dev::directory::{
    DAEMON, DAEMON_CLIENT_ID, DAEMON_SECRET, GATEWAY, GATEWAY_ROLE, GATEWAY_SECRET, PUBLIC_CLIENT,
    PUBLIC_CLIENT_ID,
};
use crate::dev::token_error::Correlation;

const GRAPH: &str = "https://graph.microsoft.com/.default";

/// Parameters that a case changes: a new value, or `None` to leave it out.
type Changes<'a> = &'a [(&'static str, Option<&'a str>)];

fn ask(
    authority: &Authority,
    tenant: Tenant,
    usual: &[(&'static str, &str)],
    changes: Changes<'_>,
) -> Result<Value, Refusal> {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in usual {
        if !changes.iter().any(|(changed, _)| changed == name) {
            form.append_pair(name, value);
        }
    }
    for (name, value) in changes {
        if let Some(value) = value {
            form.append_pair(name, value);
        }
    }
    let request = http::Request::post("/")
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Bytes::from(form.finish()))
        .unwrap();
    token(authority, tenant, &request)
}

fn alice_for(authority: &Authority, client: &App, audience: &str) -> Claims {
    let scopes = ["access_as_user".to_owned()];
    let of = Delegated { user: user("alice").unwrap(), client, audience, scopes: &scopes };
    authority.delegated(of, authority.ending_in(1))
}

fn assertion_of(authority: &Authority, name: &str) -> Claims {
    let mut claims = alice_for(authority, &PUBLIC_CLIENT, GATEWAY_CLIENT_ID);
    claims["oid"] = user(name).unwrap().oid.into();
    claims
}

fn exchange(
    authority: &Authority,
    claims: &Claims,
    changes: Changes<'_>,
) -> Result<Value, Refusal> {
    let assertion = authority.sign(claims).unwrap();
    let usual = [
        ("grant_type", ON_BEHALF_OF),
        ("client_id", GATEWAY_CLIENT_ID),
        ("client_secret", GATEWAY_SECRET),
        ("assertion", &*assertion),
        ("scope", GRAPH),
        ("requested_token_use", "on_behalf_of"),
    ];
    ask(authority, Tenant::Home, &usual, changes)
}

fn claims_of(authority: &Authority, response: &Value) -> Claims {
    authority.verify(response["access_token"].as_str().unwrap()).unwrap()
}

#[test]
fn an_exchange_gives_a_token_of_the_same_user_for_the_resource() {
    let authority = authority();
    let answer = exchange(&authority, &assertion_of(&authority, "alice"), &[]).unwrap();
    assert_eq!(answer["token_type"], "Bearer");
    assert_eq!(answer["expires_in"], 3599);
    for unasked in ["refresh_token", "id_token", "client_info"] {
        assert!(answer.get(unasked).is_none(), "{unasked}");
    }
    let claims = claims_of(&authority, &answer);
    assert_eq!(claims["aud"], "https://graph.microsoft.com");
    assert_eq!(claims["scp"], "User.Read Mail.Read");
    assert_eq!(claims["oid"], user("alice").unwrap().oid);
    assert_eq!(claims["upn"], "alice@dev.local");
    assert_eq!(claims["azp"], GATEWAY_CLIENT_ID);
    assert_eq!(claims["exp"], NOW + 3600);
    assert!(!claims.contains_key("xms_cc"));

    let arm = [("scope", Some("https://management.azure.com/.default"))];
    let answer = exchange(&authority, &assertion_of(&authority, "bob"), &arm).unwrap();
    let claims = claims_of(&authority, &answer);
    assert_eq!(claims["aud"], "https://management.azure.com");
    assert_eq!(claims["scp"], "user_impersonation");
    assert_eq!(claims["upn"], "bob@dev.local");
}

#[test]
fn a_client_that_can_handle_challenges_finds_it_in_its_token() {
    let authority = authority();
    let cp1 = r#"{"access_token":{"xms_cc":{"values":["cp1"]}}}"#;
    let changes = [("claims", Some(cp1))];
    let answer = exchange(&authority, &assertion_of(&authority, "alice"), &changes).unwrap();
    assert_eq!(claims_of(&authority, &answer)["xms_cc"], json!(["cp1"]));
}

#[test]
fn each_parameter_of_an_exchange_is_checked() {
    let authority = authority();
    let alice = assertion_of(&authority, "alice");
    let two =
        "https://graph.microsoft.com/User.Read https://management.azure.com/user_impersonation";
    let rfc_8693 = "urn:ietf:params:oauth:grant-type:token-exchange";
    let cases: [(Changes<'_>, u32); 16] = [
        (&[("grant_type", None)], 900_144),
        (&[("grant_type", Some("implicit"))], 70003),
        (&[("grant_type", Some(rfc_8693))], 70003),
        (&[("client_id", Some("20000000-0000-4000-8000-00000000000f"))], 700_016),
        (&[("client_secret", Some("wrong"))], 7_000_215),
        (&[("client_secret", None)], 7_000_218),
        (&[("client_id", Some(PUBLIC_CLIENT_ID)), ("client_secret", None)], 7_000_218),
        (&[("requested_token_use", None)], 900_144),
        (&[("requested_token_use", Some("logon_cert"))], 90013),
        (&[("requested_token_type", Some("urn:ietf:params:oauth:token-type:saml2"))], 90013),
        (&[("scope", None)], 900_144),
        (&[("scope", Some(two))], 28000),
        (&[("scope", Some("https://graph.microsoft.com/Nope"))], 70011),
        (&[("scope", Some("https://example.com/.default"))], 500_011),
        (&[("assertion", None)], 900_144),
        (&[("assertion", Some("not a token"))], 50027),
    ];
    for (changes, code) in cases {
        let refused = exchange(&authority, &alice, changes).unwrap_err();
        assert_eq!(refused.code(), code, "{changes:?}");
    }
}

#[test]
fn who_asks_for_a_token_exchange_is_told_what_to_ask_for() {
    let grant = "urn:ietf:params:oauth:grant-type:token-exchange";
    for (grant, says) in [(grant, true), ("implicit", false)] {
        let answer = Refusal::UnsupportedGrant(grant.into())
            .answer(crate::clock::UnixTime(NOW), &Correlation::default());
        let body = String::from_utf8(answer.body().to_vec()).unwrap();
        assert_eq!(body.contains("requested_token_use=on_behalf_of"), says, "{body}");
        assert!(body.contains("unsupported_grant_type"), "{body}");
    }
}

#[test]
fn each_claim_of_the_assertion_is_checked() {
    let authority = authority();
    let alice = || assertion_of(&authority, "alice");
    let judged =
        |claims: &Claims| exchange(&authority, claims, &[]).map(|_| ()).map_err(|r| r.code());
    assert_eq!(judged(&alice()), Ok(()));

    // The App ID URI is the gateway too; another application is not.
    let mut claims = alice();
    claims["aud"] = GATEWAY_URI.into();
    assert_eq!(judged(&claims), Ok(()));
    claims["aud"] = DAEMON_CLIENT_ID.into();
    assert_eq!(judged(&claims), Err(500_131));
    claims["aud"] = json!([GATEWAY_CLIENT_ID]);
    assert_eq!(judged(&claims), Err(500_131));

    let mut claims = alice();
    claims["exp"] = json!(NOW + 1);
    assert_eq!(judged(&claims), Ok(()));
    claims["exp"] = json!(NOW);
    assert_eq!(judged(&claims), Err(500_133));

    let mut claims = alice();
    claims["iss"] = format!("https://login.microsoftonline.com/{TENANT}/v2.0").into();
    assert_eq!(judged(&claims), Err(50013));

    let mut claims = alice();
    claims["oid"] = "30000000-0000-4000-8000-00000000000f".into();
    assert_eq!(judged(&claims), Err(50034));

    let mut claims = alice();
    claims.remove("azp");
    assert_eq!(judged(&claims), Err(240_002));

    let mut claims = alice();
    claims.remove("scp");
    assert_eq!(judged(&claims), Err(7_000_114));
    let daemon = authority.app_only(&DAEMON, GATEWAY_CLIENT_ID, &[GATEWAY_ROLE], authority.usual());
    assert_eq!(judged(&daemon), Err(7_000_114));
}

#[test]
fn an_assertion_that_somebody_else_signed_is_refused() {
    let (ours, other) = (authority(), authority());
    let forged = other.sign(&assertion_of(&ours, "alice")).unwrap();
    let changes = [("assertion", Some(&*forged))];
    let refused = exchange(&ours, &assertion_of(&ours, "alice"), &changes).unwrap_err();
    assert_eq!(refused, Refusal::AssertionSignature);
}

#[test]
fn only_the_client_that_the_assertion_is_for_may_exchange_it() {
    let authority = authority();
    let daemon = [("client_id", Some(DAEMON_CLIENT_ID)), ("client_secret", Some(DAEMON_SECRET))];
    let refused = exchange(&authority, &assertion_of(&authority, "alice"), &daemon).unwrap_err();
    assert_eq!(refused, Refusal::AssertionAudience);
    let own = alice_for(&authority, &PUBLIC_CLIENT, DAEMON_CLIENT_ID);
    assert!(exchange(&authority, &own, &daemon).is_ok());
}

#[test]
fn each_user_has_its_own_outcome() {
    let authority = authority();
    let outcome = |name| exchange(&authority, &assertion_of(&authority, name), &[]).err();
    assert_eq!(outcome("alice"), None);
    assert_eq!(outcome("bob"), None);
    assert_eq!(outcome("mfa"), Some(Refusal::WantsClaims));
    assert_eq!(outcome("noconsent"), Some(Refusal::NeedsConsent));
    assert_eq!(outcome("blocked"), Some(Refusal::Blocked));
}

#[test]
fn an_application_gets_its_roles_and_no_more() {
    let authority = authority();
    let ask = |tenant, changes: Changes<'_>| {
        let usual = [
            ("grant_type", "client_credentials"),
            ("client_id", DAEMON_CLIENT_ID),
            ("client_secret", DAEMON_SECRET),
            ("scope", "api://obo-gateway-demo/.default"),
        ];
        ask(&authority, tenant, &usual, changes)
    };
    let claims = claims_of(&authority, &ask(Tenant::Home, &[]).unwrap());
    assert_eq!(claims["aud"], GATEWAY_CLIENT_ID);
    assert_eq!(claims["roles"], json!([GATEWAY_ROLE]));
    assert_eq!(claims["idtyp"], "app");
    assert_eq!(claims["azp"], DAEMON_CLIENT_ID);
    assert_eq!(claims["oid"], claims["sub"]);
    assert!(!claims.contains_key("scp"));

    let other = [("client_id", Some(GATEWAY_CLIENT_ID)), ("client_secret", Some(GATEWAY_SECRET))];
    let claims = claims_of(&authority, &ask(Tenant::Home, &other).unwrap());
    assert!(!claims.contains_key("roles"));

    let named = [("scope", Some("api://obo-gateway-demo/access_as_user"))];
    assert_eq!(ask(Tenant::Home, &named).unwrap_err().code(), 1_002_012);
    let with_openid = [("scope", Some("openid api://obo-gateway-demo/.default"))];
    assert_eq!(ask(Tenant::Home, &with_openid).unwrap_err().code(), 1_002_012);
    let public = [("client_id", Some(PUBLIC_CLIENT_ID)), ("client_secret", None)];
    assert_eq!(ask(Tenant::Home, &public).unwrap_err().code(), 7_000_218);
    assert_eq!(ask(Tenant::Home, &[("client_secret", Some("x"))]).unwrap_err().code(), 7_000_215);
    assert_eq!(ask(Tenant::Shared, &[]).unwrap_err().code(), 50059);
}

fn sign_in(authority: &Authority, changes: Changes<'_>) -> Result<Value, Refusal> {
    let usual = [
        ("grant_type", "password"),
        ("client_id", PUBLIC_CLIENT_ID),
        ("username", "alice@dev.local"),
        ("password", "dev"),
        ("scope", "openid profile offline_access api://obo-gateway-demo/access_as_user"),
        ("client_info", "1"),
    ];
    ask(authority, Tenant::Shared, &usual, changes)
}

#[test]
fn a_user_signs_in_with_name_and_password() {
    let authority = authority();
    let answer = sign_in(&authority, &[]).unwrap();
    let claims = claims_of(&authority, &answer);
    assert_eq!(claims["aud"], GATEWAY_CLIENT_ID);
    assert_eq!(claims["azp"], PUBLIC_CLIENT_ID);
    assert_eq!(claims["scp"], "access_as_user");
    assert!(exchange(&authority, &claims, &[]).is_ok());

    let id_token = authority.verify(answer["id_token"].as_str().unwrap()).unwrap();
    assert_eq!(id_token["aud"], PUBLIC_CLIENT_ID);
    assert_eq!(exchange(&authority, &id_token, &[]), Err(Refusal::AssertionIsIdToken));

    let info = URL_SAFE_NO_PAD.decode(answer["client_info"].as_str().unwrap()).unwrap();
    let info: Value = serde_json::from_slice(&info).unwrap();
    assert_eq!(info, json!({ "uid": user("alice").unwrap().oid, "utid": TENANT }));

    for (changes, code) in [
        (&[("password", Some("Dev"))], 50126),
        (&[("password", None)], 900_144),
        (&[("username", Some("carol@dev.local"))], 50034),
        (&[("username", Some("alice"))], 50034),
    ] {
        assert_eq!(sign_in(&authority, changes).unwrap_err().code(), code, "{changes:?}");
    }
    // Who is stopped is stopped at the exchange, not at the door.
    for name in ["mfa@dev.local", "noconsent@dev.local", "blocked@dev.local"] {
        assert!(sign_in(&authority, &[("username", Some(name))]).is_ok(), "{name}");
    }
}

#[test]
fn who_asks_with_the_claims_of_the_challenge_gets_a_token_that_can_be_exchanged() {
    use crate::dev::token_error::WANTED_CLAIMS;

    let authority = authority();
    let exchanged = |name: &str, claims| {
        let username = format!("{name}@dev.local");
        let changes = [("username", Some(&*username)), ("claims", claims)];
        let token = claims_of(&authority, &sign_in(&authority, &changes).unwrap());
        exchange(&authority, &token, &[]).map(|answer| claims_of(&authority, &answer))
    };
    let amr = exchanged("mfa", Some(WANTED_CLAIMS)).unwrap()["amr"].clone();
    assert_eq!(amr, json!(["pwd", "mfa"]));
    // Other claims, and those in other places, are not what was asked for.
    for claims in [
        None,
        Some(r#"{"access_token":{"xms_cc":{"values":["cp1"]}}}"#),
        Some(r#"{"access_token":{"polids":{"essential":true,"values":["x"]}}}"#),
        Some(r#"{"access_token":{"polids":{"essential":true}}}"#),
        Some(
            r#"{"id_token":{"polids":{"essential":true,"values":["50000000-0000-4000-8000-000000000001"]}}}"#,
        ),
    ] {
        assert_eq!(exchanged("mfa", claims), Err(Refusal::WantsClaims), "{claims:?}");
    }
    assert!(!exchanged("alice", None).unwrap().contains_key("amr"));
    // Nothing else that stops a user is lifted.
    assert_eq!(exchanged("blocked", Some(WANTED_CLAIMS)), Err(Refusal::Blocked));
    assert_eq!(exchanged("noconsent", Some(WANTED_CLAIMS)), Err(Refusal::NeedsConsent));
    // The claims of the exchange itself are no sign-in.
    let plain = assertion_of(&authority, "mfa");
    let changes = [("claims", Some(WANTED_CLAIMS))];
    assert_eq!(exchange(&authority, &plain, &changes), Err(Refusal::WantsClaims));
}

#[test]
fn a_refresh_token_is_good_for_its_own_client_and_for_nothing_else() {
    let authority = authority();
    let answer = sign_in(&authority, &[]).unwrap();
    let refresh = answer["refresh_token"].as_str().unwrap();
    let again = |changes: Changes<'_>| {
        let usual = [
            ("grant_type", "refresh_token"),
            ("client_id", PUBLIC_CLIENT_ID),
            ("refresh_token", refresh),
            ("scope", "api://obo-gateway-demo/access_as_user"),
        ];
        ask(&authority, Tenant::Home, &usual, changes)
    };
    let claims = claims_of(&authority, &again(&[]).unwrap());
    assert_eq!(claims["oid"], user("alice").unwrap().oid);

    let other = [("client_id", Some(GATEWAY_CLIENT_ID)), ("client_secret", Some(GATEWAY_SECRET))];
    assert_eq!(again(&other), Err(Refusal::RefreshInvalid));
    let access = authority.sign(&alice_for(&authority, &GATEWAY, GATEWAY_CLIENT_ID)).unwrap();
    assert_eq!(again(&[("refresh_token", Some(&access))]), Err(Refusal::RefreshInvalid));
    let presented = [("assertion", Some(refresh))];
    let refused = exchange(&authority, &assertion_of(&authority, "alice"), &presented);
    assert_eq!(refused, Err(Refusal::AssertionAudience));
}
