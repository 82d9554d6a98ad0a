//! From a refusal to the answer that the caller gets: problem+json (RFC 9457) and, where a
//! token is at fault, `WWW-Authenticate` (RFC 6750 §3). What is said was decided with the
//! [`Rejection`]; this file only writes it down. For gRPC it is a status of gRPC's own.

mod form;
mod grpc;

pub use form::Form;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, Version};
use serde::Serialize;

use crate::authn::PROOF_ALGORITHMS;
use crate::body::Body;
use crate::rejection::{Code, Extra, Rejection};
use form::Kind;

/// The protection space of RFC 9110 §11.5: one gateway is one.
const REALM: &str = "obo-gateway";

/// The members of the problem document.
#[derive(Serialize)]
struct ProblemDocument<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    request_id: &'a str,
}

/// The answer to a refused request. hyper leaves the body out where the method is HEAD.
///
/// `resource_metadata` is where the metadata of the route's protected resource is, if it has any;
/// every challenge names it (RFC 9728 §5.1).
pub fn refusal(
    rejection: &Rejection,
    request_id: &str,
    form: impl Into<Form>,
    resource_metadata: Option<&str>,
) -> Response<Body> {
    let Form { version, kind } = form.into();
    let answer = rejection.code().answer();
    let mut response = Response::new(Body::full(document(rejection, request_id)));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(mut challenge) = challenge(rejection) {
        // Behind all else: the form that Microsoft's libraries parse stands in front.
        if let Some(url) = resource_metadata {
            parameter(&mut challenge, "resource_metadata", url);
        }
        insert(headers, WWW_AUTHENTICATE, challenge);
    }
    match rejection.extra() {
        Extra::Allow(methods) => {
            let names: Vec<&str> = methods.iter().map(Method::as_str).collect();
            insert(headers, ALLOW, names.join(", "));
        }
        Extra::RetryAfter(wait) => {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            insert(headers, RETRY_AFTER, seconds.max(1).to_string());
        }
        Extra::WebSocketVersion => {
            let name = HeaderName::from_static("sec-websocket-version");
            headers.insert(name, HeaderValue::from_static("13"));
        }
        Extra::None | Extra::Scopes(_) | Extra::Dpop(_) | Extra::Claims { .. } => {}
    }
    let closes = rejection.closes() || kind == Kind::LastWord;
    if closes && version < Version::HTTP_2 {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if kind == Kind::Grpc {
        grpc::trailers_only(&mut response, rejection);
    }
    response
}

/// The problem document of a refusal.
pub fn document(rejection: &Rejection, request_id: &str) -> Vec<u8> {
    let answer = rejection.code().answer();
    let document = ProblemDocument {
        r#type: format!("urn:obo-gateway:problem:{}", answer.name),
        title: answer.title,
        status: answer.status.as_u16(),
        // A detail that says no more than the title is left to the title.
        detail: if rejection.detail().is_empty() { answer.title } else { rejection.detail() },
        code: answer.name,
        request_id,
    };
    // Strings and a number always serialise.
    serde_json::to_vec(&document).unwrap_or_default()
}

fn challenge(rejection: &Rejection) -> Option<String> {
    let error = match rejection.code() {
        Code::TokenMissing => None,
        Code::TokenInvalid | Code::TokenExpired => Some("invalid_token"),
        Code::ClaimsChallenge => Some("interaction_required"),
        Code::InsufficientScope => Some("insufficient_scope"),
        Code::BadRequest
        | Code::CallerNotAllowed
        | Code::ConsentRequired
        | Code::RouteNotFound
        | Code::MethodNotAllowed
        | Code::RequestTimeout
        | Code::BodyTooLarge
        | Code::RateLimited
        | Code::HeadersTooLarge
        | Code::Internal
        | Code::UpstreamUnreachable
        | Code::ExchangeFailed
        | Code::ProviderUnavailable
        | Code::UpstreamOverloaded
        | Code::UpstreamTimeout => return None,
    };
    Some(match rejection.extra() {
        Extra::Claims { authorization_uri, client_id, claims } => {
            claims_challenge(authorization_uri, client_id, claims.as_deref())
        }
        Extra::Dpop(error) => dpop(error, rejection.detail()),
        Extra::Scopes(scopes) if !scopes.is_empty() => {
            bearer(error, &[("scope", &scopes.join(" "))])
        }
        Extra::None
        | Extra::Scopes(_)
        | Extra::Allow(_)
        | Extra::RetryAfter(_)
        | Extra::WebSocketVersion => match error {
            Some("invalid_token") => bearer(error, &[("error_description", rejection.detail())]),
            Some(_) | None => bearer(error, &[]),
        },
    })
}

/// The form that Microsoft's client libraries parse; `claims` is base64 with padding.
fn claims_challenge(authorization_uri: &str, client_id: &str, claims: Option<&str>) -> String {
    let mut text = String::from("Bearer realm=\"\"");
    // A provider that publishes none can still be asked by who knows it.
    if !authorization_uri.is_empty() {
        parameter(&mut text, "authorization_uri", authorization_uri);
    }
    parameter(&mut text, "client_id", client_id);
    if let Some(claims) = claims {
        parameter(&mut text, "error", "insufficient_claims");
        parameter(&mut text, "claims", &STANDARD.encode(claims));
    } else {
        parameter(&mut text, "error", "interaction_required");
    }
    text
}

fn bearer(error: Option<&str>, more: &[(&str, &str)]) -> String {
    let mut text = format!("Bearer realm=\"{REALM}\"");
    for (name, value) in error.map(|error| ("error", error)).iter().chain(more) {
        parameter(&mut text, name, value);
    }
    text
}

/// A challenge of DPoP (RFC 9449 §7.1), which names what proofs may be signed with.
fn dpop(error: &str, description: &str) -> String {
    let algorithms: Vec<&str> = PROOF_ALGORITHMS.iter().map(|algorithm| algorithm.name()).collect();
    let mut text = format!("DPoP realm=\"{REALM}\"");
    parameter(&mut text, "error", error);
    parameter(&mut text, "error_description", description);
    parameter(&mut text, "algs", &algorithms.join(" "));
    text
}

/// Adds `, name="value"`; of the value only what RFC 6750 §3 allows there, so that nothing in
/// it can end the quotes.
fn parameter(text: &mut String, name: &str, value: &str) {
    text.push_str(", ");
    text.push_str(name);
    text.push_str("=\"");
    text.extend(value.chars().filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\')));
    text.push('"');
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: String) {
    // Only visible ASCII was put in.
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn authenticate(rejection: &Rejection) -> Option<String> {
        let response = refusal(rejection, "id", Version::HTTP_11, None);
        response.headers().get(WWW_AUTHENTICATE).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn challenges() {
        let missing = Rejection::new(Code::TokenMissing, "x", "");
        assert_eq!(authenticate(&missing).unwrap(), r#"Bearer realm="obo-gateway""#);
        let invalid = Rejection::new(Code::TokenInvalid, "The \"token\" is bad.", "");
        assert_eq!(
            authenticate(&invalid).unwrap(),
            r#"Bearer realm="obo-gateway", error="invalid_token", error_description="The token is bad.""#
        );
        let proof = invalid.with(Extra::Dpop("invalid_dpop_proof"));
        assert_eq!(
            authenticate(&proof).unwrap(),
            "DPoP realm=\"obo-gateway\", error=\"invalid_dpop_proof\", error_description=\"The token is bad.\", \
             algs=\"RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 EdDSA\""
        );
        let scope = Rejection::new(Code::InsufficientScope, "x", "")
            .with(Extra::Scopes(vec!["a".into(), "b".into()]));
        assert_eq!(
            authenticate(&scope).unwrap(),
            r#"Bearer realm="obo-gateway", error="insufficient_scope", scope="a b""#
        );
        assert_eq!(authenticate(&Rejection::new(Code::CallerNotAllowed, "x", "")), None);
    }

    #[test]
    fn a_claims_challenge_has_the_form_that_client_libraries_parse() {
        let claims = r#"{"access_token":{"nbf":{"essential":true, "value":"1702682181"}}}"#;
        let mut extra = Extra::Claims {
            authorization_uri: "https://login.example/authorize".into(),
            client_id: "id".into(),
            claims: Some(claims.into()),
        };
        let challenge = Rejection::new(Code::ClaimsChallenge, "x", "");
        assert_eq!(
            authenticate(&challenge.with(extra.clone())).unwrap(),
            "Bearer realm=\"\", authorization_uri=\"https://login.example/authorize\", client_id=\"id\", \
             error=\"insufficient_claims\", claims=\"eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7ImVzc2VudGlhbCI6dHJ1ZSwgInZhbHVlIjoiMTcwMjY4MjE4MSJ9fX0=\""
        );
        if let Extra::Claims { claims, .. } = &mut extra {
            *claims = None;
        }
        let text =
            authenticate(&Rejection::new(Code::ClaimsChallenge, "x", "").with(extra)).unwrap();
        assert!(text.ends_with(r#"error="interaction_required""#), "{text}");
    }

    #[test]
    fn every_challenge_ends_with_where_the_metadata_is() {
        let named = |rejection: &Rejection, url| {
            let response = refusal(rejection, "id", Version::HTTP_2, Some(url));
            let value = response.headers().get(WWW_AUTHENTICATE);
            value.map(|value| value.to_str().unwrap().to_owned())
        };
        let url = "https://a.example/.well-known/oauth-protected-resource/x";
        let end = format!(", resource_metadata=\"{url}\"");
        for code in [
            Code::TokenMissing,
            Code::TokenInvalid,
            Code::TokenExpired,
            Code::ClaimsChallenge,
            Code::InsufficientScope,
        ] {
            let text = named(&Rejection::new(code, "x", ""), url).unwrap();
            assert!(text.ends_with(&end), "{text}");
        }
        let missing = named(&Rejection::new(Code::TokenMissing, "x", ""), url).unwrap();
        assert!(!missing.contains("error"), "{missing}");
        for code in [Code::RouteNotFound, Code::CallerNotAllowed, Code::ProviderUnavailable] {
            assert_eq!(named(&Rejection::new(code, "x", ""), url), None);
        }
        // Nothing in it could end the quotes, whatever made the URL.
        let odd =
            named(&Rejection::new(Code::TokenMissing, "x", ""), "https://a\", x=\"\\").unwrap();
        assert_eq!(odd.matches('"').count(), 4, "{odd}");
    }

    #[test]
    fn a_challenge_names_no_place_that_is_not_known() {
        let extra = Extra::Claims {
            authorization_uri: String::new(),
            client_id: "id".into(),
            claims: Some("{}".into()),
        };
        let text = authenticate(&Rejection::new(Code::ClaimsChallenge, "x", "").with(extra));
        assert_eq!(
            text.unwrap(),
            r#"Bearer realm="", client_id="id", error="insufficient_claims", claims="e30=""#
        );
    }

    #[test]
    fn headers_of_refusals() {
        let throttled = Rejection::new(Code::ProviderUnavailable, "x", "")
            .with(Extra::RetryAfter(Duration::from_millis(1500)));
        assert_eq!(refusal(&throttled, "id", Version::HTTP_11, None).headers()[RETRY_AFTER], "2");
        let methods = Rejection::new(Code::MethodNotAllowed, "x", "")
            .with(Extra::Allow(vec![Method::GET, Method::HEAD]));
        assert_eq!(refusal(&methods, "id", Version::HTTP_11, None).headers()[ALLOW], "GET, HEAD");
        let broken = Rejection::new(Code::BadRequest, "x", "").closing();
        assert_eq!(refusal(&broken, "id", Version::HTTP_11, None).headers()[CONNECTION], "close");
        assert!(!refusal(&broken, "id", Version::HTTP_2, None).headers().contains_key(CONNECTION));
    }
}
