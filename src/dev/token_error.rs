//! What the token endpoint refuses, and how it says so: Entra's error bodies.
//!
//! One row per refusal: the OAuth `error`, the AADSTS number, and for some a `suberror` and
//! `claims`. The sentences are our own; clients must not read them, and should not read the numbers.

use http::StatusCode;
use http::header::HeaderName;
use serde_json::{Map, Value, json};

use crate::clock::UnixTime;
use crate::dev::answer::{Answer, json, shown, with};
use crate::dev::authority::random_uuid;
use crate::dev::timestamp;

/// The policy that asks a user for another factor.
pub(super) const FACTOR_POLICY: &str = "50000000-0000-4000-8000-000000000001";
/// What Conditional Access wants of the user who needs another factor: JSON, as a string. It
/// names [`FACTOR_POLICY`].
pub(super) const WANTED_CLAIMS: &str = r#"{"access_token":{"polids":{"essential":true,"values":["50000000-0000-4000-8000-000000000001"]}}}"#;

/// The grant that other providers have in place of Entra's on-behalf-of.
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    MissingParameter(&'static str),
    DuplicateParameter(String),
    InvalidParameter(&'static str),
    UnsupportedGrant(String),
    UnknownTenant(String),
    TenantNeeded,
    UnknownApplication(String),
    NoClientCredential,
    WrongSecret,
    PublicClientWithCredential,
    UnregisteredKey,
    InvalidScope(String),
    SeveralResources(String),
    UnknownResource(String),
    NotDefaultScope(String),
    UnknownUser,
    WrongPassword,
    AssertionMalformed,
    AssertionSignature,
    AssertionExpired,
    AssertionIsIdToken,
    AssertionAppOnly,
    AssertionAudience,
    RefreshInvalid,
    RefreshExpired,
    WantsClaims,
    NeedsConsent,
    Blocked,
    /// Our own fault: the crypto library failed.
    Fault,
}

/// What a refusal looks like on the wire.
struct Row {
    error: &'static str,
    code: u32,
    suberror: Option<&'static str>,
    claims: Option<&'static str>,
    sentence: String,
}

/// What a client said about its request that is said back.
#[derive(Clone, Debug, Default)]
pub(super) struct Correlation {
    /// `client-request-id`, if it is a GUID.
    pub(super) id: Option<String>,
}

impl Refusal {
    /// The AADSTS number.
    #[cfg(test)]
    pub(super) fn code(&self) -> u32 {
        self.row().code
    }

    /// The answer of the token endpoint.
    pub(super) fn answer(&self, now: UnixTime, correlation: &Correlation) -> Answer {
        let row = self.row();
        let status = match row.error {
            "invalid_client" => StatusCode::UNAUTHORIZED,
            "server_error" => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        };
        let trace = random_uuid().to_string();
        let correlation = correlation.id.clone().unwrap_or_else(|| random_uuid().to_string());
        let timestamp = timestamp::entra(now);
        let description = format!(
            "AADSTS{}: {} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {timestamp}",
            row.code, row.sentence
        );
        let mut body = Map::from_iter([
            ("error".to_owned(), json!(row.error)),
            ("error_description".to_owned(), json!(description)),
            ("error_codes".to_owned(), json!([row.code])),
            ("timestamp".to_owned(), json!(timestamp)),
            ("trace_id".to_owned(), json!(trace)),
            ("correlation_id".to_owned(), json!(correlation)),
        ]);
        if let Some(suberror) = row.suberror {
            body.insert("suberror".to_owned(), json!(suberror));
        }
        if let Some(claims) = row.claims {
            body.insert("claims".to_owned(), json!(claims));
        }
        let answer = json(status, &Value::Object(body));
        with(answer, HeaderName::from_static("x-ms-request-id"), &trace)
    }

    #[allow(clippy::too_many_lines, reason = "a table: one row per refusal, and no logic")]
    fn row(&self) -> Row {
        match self {
            Self::MissingParameter(name) => {
                row("invalid_request", 900_144, format!("The form lacks `{name}`."))
            }
            Self::DuplicateParameter(name) => row(
                "invalid_request",
                9_000_411,
                format!("The form has `{}` more than once.", shown(name)),
            ),
            Self::InvalidParameter(name) => {
                row("invalid_request", 90013, format!("The value of `{name}` makes no sense here."))
            }
            Self::UnsupportedGrant(grant) if grant == TOKEN_EXCHANGE => row(
                "unsupported_grant_type",
                70003,
                "This provider plays Entra, which has no token exchange (RFC 8693) but `urn:ietf:params:oauth:grant-type:jwt-bearer` with `requested_token_use=on_behalf_of`. In a routes file it is a provider of `type: entra`.",
            ),
            Self::UnsupportedGrant(grant) => row(
                "unsupported_grant_type",
                70003,
                format!("`{}` is no grant type that is known here.", shown(grant)),
            ),
            Self::UnknownTenant(tenant) => row(
                "invalid_request",
                90002,
                format!("There is no tenant `{}` here.", shown(tenant)),
            ),
            Self::TenantNeeded => row(
                "invalid_request",
                50059,
                "An application by itself must name its tenant in the path.",
            ),
            Self::UnknownApplication(id) => row(
                "unauthorized_client",
                700_016,
                format!("No application `{}` is registered in the tenant.", shown(id)),
            ),
            Self::NoClientCredential => row(
                "invalid_client",
                7_000_218,
                "The client must authenticate with `client_secret` or `client_assertion`.",
            ),
            Self::WrongSecret => {
                row("invalid_client", 7_000_215, "That is not a secret of the client.")
            }
            Self::PublicClientWithCredential => row(
                "invalid_client",
                700_025,
                "The client is public; it must not present a secret or an assertion.",
            ),
            Self::UnregisteredKey => row(
                "invalid_client",
                700_027,
                "The client has no certificate registered that could have signed its assertion.",
            ),
            Self::InvalidScope(scope) => {
                row("invalid_scope", 70011, format!("The scope `{}` is not valid.", shown(scope)))
            }
            Self::SeveralResources(scope) => row(
                "invalid_request",
                28000,
                format!("The scope `{}` names more than one resource.", shown(scope)),
            ),
            Self::UnknownResource(resource) => row(
                "invalid_resource",
                500_011,
                format!("No resource `{}` is known in the tenant.", shown(resource)),
            ),
            Self::NotDefaultScope(scope) => row(
                "invalid_scope",
                1_002_012,
                format!("An application by itself asks for `/.default`, not `{}`.", shown(scope)),
            ),
            Self::UnknownUser => {
                row("invalid_grant", 50034, "There is no such user in the tenant.")
            }
            Self::WrongPassword => {
                row("invalid_grant", 50126, "The user name and the password do not fit.")
            }
            Self::AssertionMalformed => {
                row("invalid_request", 50027, "The assertion is not a JWT that can be read.")
            }
            Self::AssertionSignature => row(
                "invalid_grant",
                50013,
                "The assertion was not signed by this tenant's issuer with a key it has now.",
            ),
            Self::AssertionExpired => {
                row("invalid_grant", 500_133, "The assertion is outside its time of validity.")
            }
            Self::AssertionIsIdToken => row(
                "invalid_grant",
                240_002,
                "The assertion is an ID token; only an access token can be exchanged.",
            ),
            Self::AssertionAppOnly => row(
                "invalid_grant",
                7_000_114,
                "The assertion belongs to an application by itself; there is no user to act for.",
            ),
            Self::AssertionAudience => row(
                "invalid_grant",
                500_131,
                "The assertion's audience is not the client that presents it.",
            ),
            Self::RefreshInvalid => {
                row("invalid_grant", 70000, "The refresh token is not one of this client.")
            }
            Self::RefreshExpired => row("invalid_grant", 700_082, "The refresh token has expired."),
            Self::WantsClaims => Row {
                suberror: Some("basic_action"),
                claims: Some(WANTED_CLAIMS),
                ..row("interaction_required", 50076, "A policy asks the user for another factor.")
            },
            Self::NeedsConsent => Row {
                suberror: Some("consent_required"),
                ..row(
                    "invalid_grant",
                    65001,
                    "Neither the user nor an administrator has consented to the client's request.",
                )
            },
            Self::Blocked => Row {
                suberror: Some("message_only"),
                ..row("invalid_grant", 53003, "Conditional Access forbids this user the resource.")
            },
            Self::Fault => row("server_error", 90033, "The token could not be made."),
        }
    }
}

fn row(error: &'static str, code: u32, sentence: impl Into<String>) -> Row {
    Row { error, code, suberror: None, claims: None, sentence: sentence.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(refusal: &Refusal) -> (StatusCode, Value) {
        let correlation = Correlation { id: Some("c".into()) };
        let answer = refusal.answer(UnixTime(1_767_225_600), &correlation);
        (answer.status(), serde_json::from_slice(answer.body()).unwrap())
    }

    #[test]
    fn an_error_body_has_the_members_of_entras() {
        let (status, body) = body(&Refusal::WantsClaims);
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert_eq!(body["error"], "interaction_required");
        assert_eq!(body["error_codes"], json!([50076]));
        assert_eq!(body["suberror"], "basic_action");
        assert_eq!(body["timestamp"], "2026-01-01 00:00:00Z");
        assert_eq!(body["correlation_id"], "c");
        assert!(body["error_description"].as_str().unwrap().starts_with("AADSTS50076: "));
        let claims = body["claims"].as_str().unwrap();
        assert!(serde_json::from_str::<Value>(claims).unwrap()["access_token"].is_object());
    }

    #[test]
    fn only_who_needs_to_act_is_given_claims() {
        for refusal in [Refusal::NeedsConsent, Refusal::Blocked, Refusal::AssertionExpired] {
            assert!(body(&refusal).1.get("claims").is_none(), "{refusal:?}");
        }
    }

    #[test]
    fn a_refused_client_is_401_and_our_own_fault_500() {
        assert_eq!(body(&Refusal::WrongSecret).0, StatusCode::UNAUTHORIZED);
        assert_eq!(body(&Refusal::Fault).0, StatusCode::INTERNAL_SERVER_ERROR);
    }
}
