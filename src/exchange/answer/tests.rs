//! What providers answer, and what callers and operators are told. The golden table of Entra is
//! held end to end by `tests/it/exchange/answers.rs`; that of other providers is held here.

use std::fs;
use std::sync::Arc;

use super::super::failure::ExchangeError;
use super::super::grant::Grant as TokenGrant;
use super::super::terms::tests::terms;
use super::super::terms::{Parts, Requested, Terms};
use super::*;
use crate::rejection::Extra;

const GRAPH: &str = "https://graph.microsoft.com/.default";

/// Judges an answer and shows it as `STATUS code | reason`.
fn judged(status: u16, body: &str) -> (String, ExchangeError) {
    let terms = terms("66666666", &[GRAPH]);
    let status = StatusCode::from_u16(status).unwrap();
    match read(status, body.as_bytes()) {
        Ok(_) => ("token".into(), ExchangeError::internal("")),
        Err(refusal) => {
            let error = refusal.explain(&terms, None);
            let rejection = error.rejection();
            let answer = rejection.code().answer();
            (format!("{} {} | {}", answer.status.as_u16(), answer.name, rejection.reason()), error)
        }
    }
}

fn entra(error: &str, number: u64) -> String {
    format!(
        r#"{{"error":"{error}","error_description":"AADSTS{number}: SECRET for user alice@contoso.example","error_codes":[{number}],"timestamp":"2026-01-01 00:00:00Z","trace_id":"aaaa-1","correlation_id":"bbbb-2"}}"#
    )
}

#[rustfmt::skip] // A table is read by its rows.
const NUMBERS: &[(u16, &str, u64, &str, &str)] = &[
    (400, "invalid_grant", 50_013, "401 token_invalid", "not accepted as an assertion"),
    (400, "invalid_grant", 500_131, "502 exchange_failed", "`audiences` of provider `entra`"),
    (400, "invalid_grant", 500_133, "401 token_expired", "needs a fresh one"),
    (400, "invalid_request", 240_002, "401 token_invalid", "an ID token"),
    (400, "invalid_grant", 50_057, "401 token_invalid", "account is disabled"),
    (400, "invalid_grant", 50_173, "401 token_expired", "revoked"),
    (400, "invalid_grant", 70_008, "401 token_expired", "lapsed"),
    (400, "invalid_grant", 700_082, "401 token_expired", "inactivity"),
    (400, "invalid_grant", 70_043, "401 token_expired", "Conditional Access"),
    (400, "invalid_grant", 50_076, "401 claims_challenge", "multi-factor"),
    (400, "invalid_grant", 50_079, "401 claims_challenge", "enrol"),
    (400, "invalid_grant", 50_072, "401 claims_challenge", "enrol"),
    (400, "interaction_required", 50_074, "401 claims_challenge", "strong"),
    (400, "interaction_required", 50_078, "401 claims_challenge", "lapsed"),
    (400, "interaction_required", 50_158, "401 claims_challenge", "external"),
    (400, "interaction_required", 50_097, "401 claims_challenge", "device"),
    (400, "invalid_grant", 50_105, "403 caller_not_allowed", "assign the user"),
    (400, "interaction_required", 50_131, "403 caller_not_allowed", "blocks"),
    (400, "invalid_grant", 53_000, "403 caller_not_allowed", "not compliant"),
    (400, "invalid_grant", 53_001, "403 caller_not_allowed", "not joined"),
    (400, "invalid_grant", 53_003, "403 caller_not_allowed", "tenant t1 names it"),
    (400, "access_denied", 530_032, "403 caller_not_allowed", "security policy"),
    (400, "invalid_grant", 65_001, "403 consent_required", "consented to `https://graph"),
    (400, "invalid_grant", 65_004, "403 consent_required", "declined"),
    (400, "invalid_client", 90_094, "403 consent_required", "administrator"),
    (401, "invalid_client", 7_000_215, "502 exchange_failed", "the client secret is wrong"),
    (401, "invalid_client", 7_000_222, "502 exchange_failed", "the client secret expired"),
    (401, "invalid_client", 7_000_218, "502 exchange_failed", "set `credential`"),
    (401, "invalid_client", 700_024, "502 exchange_failed", "clock"),
    (401, "invalid_client", 700_025, "502 exchange_failed", "public client"),
    (401, "invalid_client", 700_027, "502 exchange_failed", "certificate"),
    (401, "invalid_client", 7_000_214, "502 exchange_failed", "revoked"),
    (401, "invalid_client", 1_000_502, "502 exchange_failed", "expired"),
    (401, "invalid_client", 7_000_274, "502 exchange_failed", "certificate"),
    (401, "invalid_client", 7_000_277, "502 exchange_failed", "certificate"),
    (400, "invalid_client", 700_229, "502 exchange_failed", "managed identity"),
    (400, "invalid_client", 650_056, "502 exchange_failed", "API permissions"),
    (400, "invalid_client", 650_057, "502 exchange_failed", "API permissions"),
    (400, "unauthorized_client", 700_016, "502 exchange_failed", "66666666 is unknown"),
    (400, "invalid_client", 700_011, "502 exchange_failed", "reply address"),
    (400, "invalid_request", 90_002, "502 exchange_failed", "tenant t1 is unknown"),
    (400, "invalid_resource", 500_011, "502 exchange_failed", "service principal"),
    (400, "unauthorized_client", 7_000_112, "502 exchange_failed", "disabled"),
    (400, "unauthorized_client", 7_000_114, "502 exchange_failed", "on-behalf-of"),
    (400, "invalid_scope", 70_011, "502 exchange_failed", "not valid as scopes"),
    (400, "invalid_scope", 700_022, "502 exchange_failed", "several resources"),
    (400, "invalid_request", 9_001_023, "502 exchange_failed", "authority"),
    (400, "invalid_request", 900_382, "502 exchange_failed", "clouds"),
    (400, "invalid_request", 900_432, "502 exchange_failed", "clouds"),
    (400, "invalid_request", 90_013, "502 exchange_failed", "not valid"),
    (400, "invalid_grant", 50_196, "503 provider_unavailable", "a loop"),
    (400, "invalid_request", 90_055, "503 provider_unavailable", "throttled"),
    (400, "server_error", 50_033, "503 provider_unavailable", "passing"),
    (400, "server_error", 50_087, "503 provider_unavailable", "passing"),
    (400, "server_error", 90_006, "503 provider_unavailable", "passing"),
    (400, "server_error", 90_012, "503 provider_unavailable", "passing"),
    (400, "server_error", 90_024, "503 provider_unavailable", "passing"),
    (400, "server_error", 90_033, "503 provider_unavailable", "passing"),
    (400, "server_error", 90_090, "503 provider_unavailable", "passing"),
];

#[test]
fn every_known_number_has_its_answer() {
    for (status, error, number, expected, snippet) in NUMBERS {
        let (shown, _) = judged(*status, &entra(error, *number));
        assert!(shown.starts_with(&format!("{expected} | ")), "{number}: {shown}");
        assert!(shown.contains(&format!("AADSTS{number}, ")), "{shown}");
        assert!(shown.contains(snippet), "{snippet}: {shown}");
        assert!(!shown.contains(['{', '}']), "everything is filled in: {shown}");
        assert!(!shown.contains("SECRET") && !shown.contains("alice"), "{shown}");
    }
}

#[rustfmt::skip] // A table is read by its rows.
const OTHERS: &[(u16, &str, &str, &str)] = &[
    // The bare `error`.
    (400, r#"{"error":"invalid_grant"}"#, "401 token_invalid", "error `invalid_grant`"),
    (400, r#"{"error":"invalid_token"}"#, "401 token_invalid", "fresh"),
    (400, r#"{"error":"interaction_required"}"#, "401 claims_challenge", "sign the user in"),
    (400, r#"{"error":"login_required"}"#, "401 claims_challenge", "sign the user in"),
    (400, r#"{"error":"consent_required"}"#, "403 consent_required", "consent to"),
    (400, r#"{"error":"access_denied"}"#, "403 caller_not_allowed", "denies"),
    (401, r#"{"error":"invalid_client"}"#, "502 exchange_failed", "`credential`"),
    (400, r#"{"error":"unauthorized_client"}"#, "502 exchange_failed", "registration"),
    (400, r#"{"error":"invalid_scope"}"#, "502 exchange_failed", "`scopes`"),
    (400, r#"{"error":"invalid_target"}"#, "502 exchange_failed", "unknown"),
    (400, r#"{"error":"invalid_request"}"#, "502 exchange_failed", "not valid"),
    (400, r#"{"error":"unsupported_grant_type"}"#, "502 exchange_failed", "kind of exchange"),
    (400, r#"{"error":"temporarily_unavailable"}"#, "503 provider_unavailable", "passing"),
    (200, r#"{"error":"invalid_grant"}"#, "401 token_invalid", "invalid_grant"),
    // A known suberror goes before it, and a known number before that.
    (400, r#"{"error":"invalid_grant","suberror":"basic_action"}"#, "401 claims_challenge", "act"),
    (400, r#"{"error":"invalid_grant","suberror":"additional_action"}"#, "401 claims_challenge", "act"),
    (400, r#"{"error":"invalid_grant","suberror":"message_only"}"#, "403 caller_not_allowed", "policy"),
    (400, r#"{"error":"invalid_grant","suberror":"consent_required"}"#, "403 consent_required", "missing"),
    (400, r#"{"error":"invalid_grant","suberror":"user_password_expired"}"#, "401 claims_challenge", "password"),
    (400, r#"{"error":"invalid_grant","suberror":"bad_token"}"#, "401 token_invalid", "bad_token"),
    (400, r#"{"error":"invalid_grant","suberror":"token_expired"}"#, "401 token_expired", "expired"),
    (400, r#"{"error":"invalid_grant","suberror":"client_mismatch"}"#, "502 exchange_failed", "family"),
    (400, r#"{"error":"invalid_grant","suberror":"protection_policy_required"}"#, "403 caller_not_allowed", "policy"),
    (400, r#"{"error":"invalid_grant","suberror":"never_heard_of"}"#, "401 token_invalid", "never_heard_of"),
    (400, r#"{"error":"invalid_grant","error_codes":[65001],"suberror":"bad_token"}"#, "403 consent_required", "AADSTS65001"),
    // Numbers in other forms and places.
    (400, r#"{"error":"invalid_grant","error_codes":["500133"]}"#, "401 token_expired", "AADSTS500133"),
    (400, r#"{"error":"invalid_grant","error_codes":[1,500133]}"#, "401 token_expired", "AADSTS500133"),
    (400, r#"{"error":"invalid_grant","error_codes":[12345]}"#, "401 token_invalid", "AADSTS12345"),
    (400, r#"{"error":"invalid_grant","error_description":"AADSTS50105: x"}"#, "403 caller_not_allowed", "AADSTS50105"),
    (400, r#"{"error":"invalid_grant","error_description":"see AADSTS50105"}"#, "401 token_invalid", "invalid_grant"),
    // Status alone.
    (429, "", "503 provider_unavailable", "throttles"),
    (429, r#"{"error":"invalid_request"}"#, "503 provider_unavailable", "throttles"),
    (408, "", "503 provider_unavailable", "status 408"),
    (500, "<html>oops</html>", "503 provider_unavailable", "status 500"),
    (503, r#"{"error":"invalid_client"}"#, "503 provider_unavailable", "passing"),
    (504, "", "503 provider_unavailable", "passing"),
    (404, "<html>no such page</html>", "502 exchange_failed", "token endpoint"),
    (401, "", "502 exchange_failed", "status 401"),
    (400, r#"{"error":"made_up"}"#, "502 exchange_failed", "error `made_up`"),
    (400, r#"["error"]"#, "502 exchange_failed", "status 400"),
    (302, r#"{"access_token":"t","token_type":"Bearer"}"#, "502 exchange_failed", "redirect"),
    (307, "", "502 exchange_failed", "redirect"),
    // 200 and no token.
    (200, "<html>sign in</html>", "502 exchange_failed", "not a JSON object"),
    (200, "", "502 exchange_failed", "not a JSON object"),
    (200, "[]", "502 exchange_failed", "not a JSON object"),
    (200, r#"["t","Bearer",3600]"#, "502 exchange_failed", "not a JSON object"),
    (200, "{}", "502 exchange_failed", "without `access_token`"),
    (200, r#"{"access_token":"","token_type":"Bearer"}"#, "502 exchange_failed", "without"),
    (200, r#"{"access_token":7,"token_type":"Bearer"}"#, "502 exchange_failed", "without"),
    (200, r#"{"access_token":"t"}"#, "502 exchange_failed", "not Bearer"),
    (200, r#"{"access_token":"t","token_type":"DPoP"}"#, "502 exchange_failed", "not Bearer"),
    (200, r#"{"access_token":"t u","token_type":"Bearer"}"#, "502 exchange_failed", "header"),
    (200, r#"{"access_token":"t\r\nx: y","token_type":"Bearer"}"#, "502 exchange_failed", "header"),
    (200, r#"{"access_token":"té","token_type":"Bearer"}"#, "502 exchange_failed", "header"),
    (200, r#"{"access_token":"a","access_token":"b","token_type":"Bearer"}"#, "502 exchange_failed", "not a JSON"),
    (200, r#"{"access_token":"a","token_type":"Bearer","x":1,"x":1}"#, "502 exchange_failed", "not a JSON"),
    (200, r#"{"access_token":"a","token_type":"Bearer","x":{"y":1,"y":2}}"#, "502 exchange_failed", "not a JSON"),
    (200, r#"{"access_token":"t","token_type":"Bearer","expires_in":0}"#, "502 exchange_failed", "already expired"),
    (200, r#"{"access_token":"t","token_type":"Bearer","expires_in":"-5"}"#, "502 exchange_failed", "already expired"),
    (201, r#"{"access_token":"t","token_type":"Bearer"}"#, "502 exchange_failed", "status 201"),
];

#[test]
fn answers_without_a_known_number_have_theirs() {
    for (status, body, expected, snippet) in OTHERS {
        let (shown, error) = judged(*status, body);
        assert!(shown.starts_with(&format!("{expected} | ")), "{status} {body}: {shown}");
        assert!(shown.contains(snippet), "{snippet}: {shown}");
        assert!(!shown.contains(['{', '}']), "everything is filled in: {shown}");
        let unavailable = expected.starts_with("503");
        let waits = matches!(error.rejection().extra(), Extra::RetryAfter(_));
        assert_eq!(waits, unavailable, "a 503 says when to come back: {shown}");
    }
}

#[test]
fn the_reason_is_a_sentence_that_says_what_to_do() {
    let (shown, _) = judged(401, &entra("invalid_client", 7_000_222));
    assert_eq!(
        shown,
        "502 exchange_failed | exchange refused by provider `entra`: AADSTS7000222, the client \
         secret expired; make a new one for application 66666666 and update \
         `credential.client_secret` (status 401, error invalid_client, code 7000222, \
         trace_id aaaa-1, correlation_id bbbb-2, at 2026-01-01 00:00:00Z)"
    );
    let (shown, _) = judged(400, &entra("invalid_grant", 65_001));
    assert!(
        shown.ends_with(
            "consents at https://login.example/t1/v2.0/adminconsent?client_id=66666666&scope=https%3A%2F%2Fgraph.microsoft.com%2F.default"
        ),
        "{shown}"
    );
}

#[test]
fn claims_go_before_everything_else() {
    let claims = r#"{"access_token":{"polids":{"essential":true,"values":["9"]}}}"#;
    let text = serde_json::Value::from(claims).to_string();
    let bodies = [
        format!(r#"{{"error":"interaction_required","claims":{text}}}"#),
        format!(r#"{{"error":"invalid_grant","error_codes":[50076],"claims":{text}}}"#),
        format!(r#"{{"error":"invalid_grant","error_codes":[53003],"claims":{text}}}"#),
        format!(r#"{{"error":"invalid_grant","suberror":"bad_token","claims":{text}}}"#),
        format!(r#"{{"error":"invalid_client","error_codes":[7000222],"claims":{text}}}"#),
        format!(r#"{{"error":"made_up","claims":{text}}}"#),
        format!(r#"{{"claims":{text}}}"#),
        // An object in place of its text.
        format!(r#"{{"error":"invalid_grant","claims":{claims}}}"#),
    ];
    for status in [200, 400, 401, 429, 500] {
        for body in &bodies {
            let (shown, error) = judged(status, body);
            assert!(shown.starts_with("401 claims_challenge | "), "{status} {body}: {shown}");
            let expected = Extra::Claims {
                authorization_uri: "https://login.example/t1/oauth2/v2.0/authorize".into(),
                client_id: "66666666".into(),
                claims: Some(claims.into()),
            };
            assert_eq!(*error.rejection().extra(), expected);
        }
    }
}

#[test]
fn claims_that_cant_be_passed_on_still_ask_for_interaction() {
    let at_limit = |length: usize| {
        let padding = "x".repeat(length - r#"{"a":""}"#.len());
        format!(r#"{{"a":"{padding}"}}"#)
    };
    let passed_on = |claims: &str| {
        let claims = serde_json::Value::from(claims);
        let body = format!(r#"{{"error":"invalid_grant","claims":{claims}}}"#);
        let (shown, error) = judged(400, &body);
        assert!(shown.starts_with("401 claims_challenge | "), "{shown}");
        matches!(error.rejection().extra(), Extra::Claims { claims: Some(_), .. })
    };
    assert!(passed_on(&at_limit(limits::MAX_CLAIMS_BYTES)));
    assert!(!passed_on(&at_limit(limits::MAX_CLAIMS_BYTES + 1)));
    assert!(!passed_on("not json"));
    assert!(!passed_on("[1]"));
    assert!(!passed_on(r#"{"a":1,"a":2}"#));
    // No claims at all are no challenge.
    for body in
        [r#"{"error":"invalid_grant","claims":""}"#, r#"{"error":"invalid_grant","claims":null}"#]
    {
        assert!(judged(400, body).0.starts_with("401 token_invalid | "));
    }
}

#[test]
fn a_token_is_taken_with_numbers_in_any_form() {
    let life = |expires_in: &str| {
        let body = format!(
            r#"{{"token_type":"bEARER","access_token":"aa.bb-_~+/=","scope":"x"{expires_in}}}"#
        );
        let grant = read(StatusCode::OK, body.as_bytes()).unwrap();
        assert_eq!(grant.header.expose(), "Bearer aa.bb-_~+/=");
        assert!(grant.header.expose().is_sensitive());
        grant.life.map(|life| life.as_secs())
    };
    assert_eq!(life(r#","expires_in":3599"#), Some(3599));
    assert_eq!(life(r#","expires_in":"3599""#), Some(3599));
    assert_eq!(life(r#","expires_in":3599.9"#), Some(3599));
    assert_eq!(life(r#","expires_in":" 3599.0 ""#), Some(3599));
    assert_eq!(life(r#","expires_in":1"#), Some(1));
    assert_eq!(life(""), None);
    assert_eq!(life(r#","expires_in":null"#), None);
    assert_eq!(life(r#","expires_in":"soon""#), None);
    assert_eq!(life(r#","expires_in":true"#), None);
    assert_eq!(life(r#","expires_in":[1]"#), None);
    assert_eq!(life(r#","expires_in":99999999999999999999999999"#), None);
}

#[test]
fn a_token_may_be_as_long_as_the_limit() {
    let taken = |length: usize| {
        let body = format!(r#"{{"access_token":"{}","token_type":"Bearer"}}"#, "x".repeat(length));
        read(StatusCode::OK, body.as_bytes()).is_ok()
    };
    assert!(taken(limits::MAX_OUTBOUND_TOKEN_BYTES));
    assert!(!taken(limits::MAX_OUTBOUND_TOKEN_BYTES + 1));
}

#[test]
fn answers_that_nest_too_deep_are_not_read() {
    let nested = |depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        let body = format!(
            r#"{{"access_token":"t","token_type":"Bearer","a":"[[[\"[[[","b":{open}{close}}}"#
        );
        read(StatusCode::OK, body.as_bytes()).is_ok()
    };
    // The object itself is one level.
    assert!(nested(limits::MAX_JSON_DEPTH - 1));
    assert!(!nested(limits::MAX_JSON_DEPTH));
}

#[test]
fn text_of_the_provider_does_not_reach_the_log() {
    let hostile = format!(
        r#"{{"error":"eyJhbGciOi.SECRET","suberror":"SECRET","trace_id":"SECRET","correlation_id":"{}","timestamp":"SECRET","error_description":"SECRET"}}"#,
        "a".repeat(65)
    );
    let (shown, _) = judged(400, &hostile);
    assert!(!shown.contains("SECRET") && !shown.contains("aaaa"), "{shown}");
}

/// Terms at a provider that is not Entra: there is no tenant.
fn keycloak() -> Terms {
    Terms::new(&Parts {
        provider: &Arc::from("keycloak"),
        grant: TokenGrant::TokenExchange,
        issuer: Some(&Arc::from("https://sso.example/realms/main")),
        tenant: None,
        client_id: "gateway",
        requested: &Arc::new(Requested {
            audiences: vec!["orders".to_owned()],
            ..Requested::default()
        }),
        upstream: "orders",
        token_endpoint: "https://sso.example/realms/main/protocol/openid-connect/token",
        authorization_endpoint: Some(
            "https://sso.example/realms/main/protocol/openid-connect/auth",
        ),
    })
}

#[test]
fn what_is_refused_to_the_gateway_in_its_own_name_is_no_callers_fault() {
    let own = |status: u16, body: &str| {
        let mut terms = terms("66666666", &[GRAPH]);
        terms.grant = TokenGrant::ClientCredentials;
        let refusal = read(StatusCode::from_u16(status).unwrap(), body.as_bytes()).unwrap_err();
        refusal.explain(&terms, None).rejection()
    };
    for body in [
        r#"{"error":"invalid_grant"}"#,
        r#"{"error":"invalid_grant","error_codes":[53003]}"#,
        r#"{"error":"invalid_grant","error_codes":[500133]}"#,
        r#"{"error":"interaction_required","claims":"more"}"#,
        r#"{"error":"invalid_grant","error_codes":[65001]}"#,
        r#"{"error":"invalid_client","error_codes":[7000222]}"#,
    ] {
        let rejection = own(400, body);
        assert_eq!(rejection.code(), crate::rejection::Code::ExchangeFailed, "{body}");
        let reason = rejection.reason();
        assert!(!reason.contains("user") && !reason.contains("inbound"), "{reason}");
        assert_eq!(*rejection.extra(), Extra::None);
    }
    assert!(own(400, r#"{"error":"consent_required"}"#).reason().contains("/adminconsent?"));
    assert_eq!(own(429, "").code(), crate::rejection::Code::ProviderUnavailable);
}

#[test]
fn answers_of_other_providers_come_to_what_the_table_says() {
    const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/answers/oidc.txt");
    let table = fs::read_to_string(PATH).unwrap();
    let mut text = String::new();
    let mut lines = table.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("=>") || line.starts_with("   ") {
            continue;
        }
        text.push_str(line);
        text.push('\n');
        if !line.starts_with("# ") {
            continue;
        }
        let answer = lines.next().expect("an answer behind a title");
        let (status, body) = answer.split_once(' ').unwrap();
        let outcome =
            match read(StatusCode::from_bytes(status.as_bytes()).unwrap(), body.as_bytes()) {
                Ok(_) => "=> a token\n".to_owned(),
                Err(refusal) => {
                    let rejection = refusal.explain(&keycloak(), None).rejection();
                    let (answer, log) = (rejection.code().answer(), rejection.reason());
                    for word in ["AADSTS", "tenant", "Conditional Access", "secret-of-the-provider"]
                    {
                        assert!(!log.contains(word), "{word} is of no use here: {log}");
                    }
                    assert!(!log.contains(['{', '}']), "everything is filled in: {log}");
                    format!("=> {} {}\n   log: {log}\n", answer.status.as_u16(), answer.name)
                }
            };
        text += answer;
        text.push('\n');
        text += &outcome;
    }
    if text != table {
        #[allow(clippy::disallowed_methods, reason = "as insta reads it")]
        let update = std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always");
        assert!(update, "{PATH} is not what happens; it would be:\n{text}");
        fs::write(PATH, text).unwrap();
    }
}
