//! What is sent to a token endpoint: form bodies and headers, and nothing of how.
//!
//! Pure. On-behalf-of at Entra, as `identity.md` 2.1 gathers it from Microsoft's documents:
//! RFC 7523's grant type with `requested_token_use`. No `offline_access` (a refresh token
//! would outlive the caller's).

use http::{HeaderMap, HeaderName, HeaderValue};
use url::form_urlencoded::Serializer;

use super::credential::Proof;
use super::terms::Terms;
use crate::authn::is_guid;
use crate::secret::InboundToken;

/// Which kind of request asks for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// On behalf of a user, at Entra.
    EntraOnBehalfOf,
    /// In exchange for the caller's token (RFC 8693).
    TokenExchange,
    /// By the caller's token as an authorization grant (RFC 7523 §2.1).
    JwtBearer,
    /// In the gateway's own name (RFC 6749 §4.4).
    ClientCredentials,
}

impl Grant {
    /// Names it in cache keys: grants never share a token.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::EntraOnBehalfOf => "entra/on_behalf_of",
            Self::TokenExchange => "rfc8693/token_exchange",
            Self::JwtBearer => "rfc7523/jwt_bearer",
            Self::ClientCredentials => "rfc6749/client_credentials",
        }
    }
}

/// The form of a token request: `application/x-www-form-urlencoded`, and as secret as what is
/// in it. `subject` is the caller's token, which every grant but `client_credentials` has;
/// `claims` is made by `claims.rs`.
pub(super) fn form(
    terms: &Terms,
    proof: &Proof,
    subject: Option<&InboundToken>,
    claims: Option<&str>,
) -> String {
    let mut form = Serializer::new(String::new());
    form.append_pair("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer");
    form.append_pair("client_id", &terms.client_id);
    for (name, value) in &proof.fields {
        form.append_pair(name, value.expose());
    }
    if let Some(subject) = subject {
        form.append_pair("assertion", subject.expose());
    }
    form.append_pair("scope", &terms.scope());
    if let Some(claims) = claims {
        form.append_pair("claims", claims);
    }
    form.append_pair("requested_token_use", "on_behalf_of");
    form.finish()
}

/// The headers of a token request: an id that Entra's logs show (`correlation_id` of
/// its errors), who we are, that we heed `Retry-After`, and where the user's data is kept.
pub(super) fn headers(anchor: Option<HeaderValue>) -> HeaderMap {
    const REQUEST_ID: HeaderName = HeaderName::from_static("client-request-id");
    const SKU: HeaderName = HeaderName::from_static("x-client-sku");
    const VERSION: HeaderName = HeaderName::from_static("x-client-ver");
    const CAPABILITY: HeaderName = HeaderName::from_static("x-ms-lib-capability");
    const ANCHOR: HeaderName = HeaderName::from_static("x-anchormailbox");

    let mut headers = HeaderMap::with_capacity(5);
    let mut random = [0; 16];
    // Names one call in two logs; nothing depends on its not being guessed.
    fastrand::fill(&mut random);
    let id = uuid::Builder::from_random_bytes(random).into_uuid().to_string();
    if let Ok(id) = HeaderValue::try_from(id) {
        headers.insert(REQUEST_ID, id);
    }
    headers.insert(SKU, HeaderValue::from_static("obo-gateway"));
    headers.insert(VERSION, HeaderValue::from_static(env!("CARGO_PKG_VERSION")));
    headers.insert(CAPABILITY, HeaderValue::from_static("retry-after, h429"));
    if let Some(anchor) = anchor {
        headers.insert(ANCHOR, anchor);
    }
    headers
}

/// The routing hint `Oid:{oid}@{tid}`; only for two GUIDs, as a claim must
/// not be able to shape a header.
pub(super) fn anchor(oid: Option<&str>, tenant: Option<&str>) -> Option<HeaderValue> {
    let guid = |text: &&str| is_guid(text);
    let (oid, tenant) = (oid.filter(guid)?, tenant.filter(guid)?);
    HeaderValue::try_from(format!("Oid:{oid}@{tenant}")).ok()
}

#[cfg(test)]
mod tests {
    use super::super::terms::tests::terms;
    use super::*;
    use crate::secret::Secret;

    fn token() -> InboundToken {
        InboundToken::new(HeaderValue::from_static("Bearer aaa.bbb-_.ccc"), 7).unwrap()
    }

    fn proof(secret: &str) -> Proof {
        Proof { fields: vec![("client_secret", Secret::new(secret.into()))], authorization: None }
    }

    #[test]
    fn the_form_is_entras_on_behalf_of_request() {
        let terms = terms("66666666-7777", &["https://graph.microsoft.com/.default"]);
        assert_eq!(
            form(&terms, &proof("p~s=w&d +%é"), Some(&token()), Some("{}")),
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer\
             &client_id=66666666-7777\
             &client_secret=p%7Es%3Dw%26d+%2B%25%C3%A9\
             &assertion=aaa.bbb-_.ccc\
             &scope=https%3A%2F%2Fgraph.microsoft.com%2F.default&claims=%7B%7D\
             &requested_token_use=on_behalf_of"
        );
    }

    #[test]
    fn scopes_are_joined_by_a_space_as_they_stand_in_the_file() {
        let terms = terms("c", &["api://x/b", "api://x/a"]);
        let form = form(&terms, &proof("s"), Some(&token()), None);
        assert!(form.contains("&scope=api%3A%2F%2Fx%2Fb+api%3A%2F%2Fx%2Fa&"), "{form}");
        assert!(!form.contains("offline_access") && !form.contains("claims"), "{form}");
    }

    #[test]
    fn the_headers_say_who_asks() {
        let (oid, tid) =
            ("10000000-0000-4000-8000-00000000000a", "10000000-0000-4000-8000-000000000001");
        let sent = headers(anchor(Some(oid), Some(tid)));
        assert_eq!(sent["x-anchormailbox"], format!("Oid:{oid}@{tid}").as_str());
        assert_eq!(sent["x-ms-lib-capability"], "retry-after, h429");
        assert_eq!(sent["x-client-sku"], "obo-gateway");
        assert_eq!(sent["x-client-ver"], env!("CARGO_PKG_VERSION"));
        assert_eq!(sent["client-request-id"].len(), 36);
        assert_ne!(sent["client-request-id"], headers(None)["client-request-id"]);
        assert!(!headers(None).contains_key("x-anchormailbox"));
    }

    #[test]
    fn only_guids_make_an_anchor() {
        let guid = "10000000-0000-4000-8000-00000000000a";
        assert!(anchor(Some(guid), Some(guid)).is_some());
        assert_eq!(anchor(Some("alice\r\nx: y"), Some(guid)), None);
        assert_eq!(anchor(Some(guid), Some("contoso.example")), None);
        assert_eq!(anchor(Some(&"-".repeat(36)), Some(guid)), None);
        assert_eq!(anchor(None, Some(guid)), None);
    }
}
