//! Fuzz target of what a token endpoint answers. In no product; see `src/fuzzing.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "to panic is how a target speaks"
)]

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde_json::Value;

use crate::authn::json;
use crate::limits;
use crate::rejection::{Code, Extra};

use super::challenge::Claims;
use super::grant::Grant;
use super::terms::{Parts, Requested, Terms};
use super::{answer, claims};

const STATUSES: [u16; 12] = [200, 400, 401, 403, 404, 408, 429, 500, 503, 201, 302, 204];

/// An answer: the first byte chooses the status, the rest is the body.
pub(crate) fn answer(data: &[u8]) {
    let Some((status, body)) = data.split_first() else { return };
    let status = STATUSES[usize::from(*status) % STATUSES.len()];
    let read = || answer::read(StatusCode::from_u16(status).unwrap(), body);
    let refusal = match read() {
        Ok(grant) => {
            assert_eq!(status, 200);
            let header = grant.header.expose();
            let token = header.to_str().unwrap().strip_prefix("Bearer ").unwrap();
            assert!((1..=limits::MAX_OUTBOUND_TOKEN_BYTES).contains(&token.len()));
            assert!(token.bytes().all(|byte| byte.is_ascii_graphic()) && header.is_sensitive());
            assert!(grant.life.is_none_or(|life| !life.is_zero()));
            let said: Value = serde_json::from_slice(body).unwrap();
            assert_eq!(said["access_token"], token);
            assert!(said["token_type"].as_str().unwrap().eq_ignore_ascii_case("bearer"));
            assert!(said["error"].is_null());
            return;
        }
        Err(refusal) => refusal,
    };
    let terms = terms();
    let class = refusal.class();
    let rejection = refusal.explain(&terms, Some(Duration::from_secs(3))).rejection();
    let again = read().unwrap_err().explain(&terms, Some(Duration::from_secs(3))).rejection();
    assert_eq!(rejection.reason(), again.reason());

    assert_eq!(rejection.code(), class.code());
    let reason = rejection.reason();
    assert!(reason.starts_with("exchange refused by provider `entra`: "), "{reason}");
    assert!(reason.bytes().all(|byte| matches!(byte, b' '..=b'~')) || reason.contains('…'));
    assert!(!reason.chars().any(char::is_control) && reason.len() < 2048, "{reason}");
    assert!(!reason.contains(['{', '}']), "everything is filled in: {reason}");
    if let Ok(said) = serde_json::from_slice::<Value>(body) {
        for member in ["access_token", "error_description", "refresh_token", "id_token"] {
            let text = said[member].as_str().filter(|text| text.len() > 64);
            assert!(text.is_none_or(|text| !reason.contains(text)), "{member} is in the log");
        }
        let asked = said["claims"].as_str().is_some_and(|claims| !claims.trim().is_empty());
        if asked && said["error"].is_string() && status != 302 && is_plain(body) {
            assert_eq!(rejection.code(), Code::ClaimsChallenge, "claims go before all else");
        }
    }
    match rejection.extra() {
        Extra::Claims { claims, .. } => {
            assert_eq!(rejection.code(), Code::ClaimsChallenge);
            if let Some(claims) = claims {
                assert!(claims.len() <= limits::MAX_CLAIMS_BYTES);
                assert!(is_plain(claims.as_bytes()), "{claims}");
            }
        }
        Extra::RetryAfter(wait) => {
            assert_eq!(rejection.code(), Code::ProviderUnavailable);
            assert_eq!(*wait, Duration::from_secs(3));
        }
        Extra::None
        | Extra::Allow(_)
        | Extra::Scopes(_)
        | Extra::Dpop(_)
        | Extra::WebSocketVersion => {
            assert!(
                ![Code::ClaimsChallenge, Code::ProviderUnavailable].contains(&rejection.code())
            );
        }
    }
}

/// Whether it is one JSON object that reads in one way.
fn is_plain(text: &[u8]) -> bool {
    json::object(text).is_ok()
}

/// What an upstream's claims become in a token request: whatever they are, `cp1` stays.
pub(crate) fn merged(wanted: &Claims) {
    let text = claims::parameter(claims::capabilities(), Some(wanted)).expect("there is `cp1`");
    let merged: Value = serde_json::from_str(&text).unwrap();
    let declared = merged["access_token"]["xms_cc"]["values"].as_array().unwrap();
    assert!(declared.iter().any(|value| value == "cp1"), "{merged}");
    let again =
        Claims::from_json(&text).map(|all| claims::parameter(claims::capabilities(), Some(&all)));
    assert!(again.is_none_or(|again| again.as_ref() == Some(&text)), "merged twice is merged once");
}

fn terms() -> Terms {
    Terms::new(&Parts {
        provider: &Arc::from("entra"),
        grant: Grant::EntraOnBehalfOf,
        issuer: Some(&Arc::from("https://login.example/t1/v2.0")),
        tenant: Some("t1"),
        client_id: "66666666",
        requested: &Arc::new(Requested::scopes(vec!["api://x/.default".to_owned()])),
        upstream: "x",
        token_endpoint: "https://login.example/t1/oauth2/v2.0/token",
        authorization_endpoint: Some("https://login.example/t1/oauth2/v2.0/authorize"),
    })
}
