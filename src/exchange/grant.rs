//! What is sent to a token endpoint: form bodies and headers, and nothing of how.
//!
//! Pure. On-behalf-of at Entra, as `identity.md` 2.1 gathers it from Microsoft's documents:
//! RFC 7523's grant type with `requested_token_use`. Elsewhere a token exchange (RFC 8693) or
//! the caller's token as a grant (RFC 7523 §2.1), and client credentials (RFC 6749 §4.4)
//! anywhere. No `offline_access` (a refresh token would outlive the caller's).

use http::{HeaderMap, HeaderName, HeaderValue};
use url::form_urlencoded::byte_serialize;
use uuid::Uuid;

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

/// Which kind of request swaps a caller's token, at one provider: never one in the gateway's
/// own name, which would give a user the gateway's powers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserGrant {
    /// [`Grant::EntraOnBehalfOf`].
    EntraOnBehalfOf,
    /// [`Grant::TokenExchange`].
    TokenExchange,
    /// [`Grant::JwtBearer`].
    JwtBearer,
}

impl From<UserGrant> for Grant {
    fn from(grant: UserGrant) -> Self {
        match grant {
            UserGrant::EntraOnBehalfOf => Self::EntraOnBehalfOf,
            UserGrant::TokenExchange => Self::TokenExchange,
            UserGrant::JwtBearer => Self::JwtBearer,
        }
    }
}

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const CLIENT_CREDENTIALS: &str = "client_credentials";

/// The type of an access token (RFC 8693 §3).
pub(super) const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
/// The type of a JWT, whatever it is for (RFC 8693 §3).
pub(super) const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// What kind of token an exchange gives (RFC 8693 §2.1); the one that the file may change.
const REQUESTED_TYPE: &str = "requested_token_type";

/// Parameters that say who asks, by what right and for whom: the gateway alone writes them, or
/// the file by keys of their own.
const RESERVED: [&str; 24] = [
    "grant_type",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "assertion",
    "subject_token",
    "subject_token_type",
    "subject_issuer",
    "actor_token",
    "actor_token_type",
    "requested_subject",
    "requested_token_use",
    "scope",
    "audience",
    "resource",
    "claims",
    "code",
    "code_verifier",
    "device_code",
    "redirect_uri",
    "refresh_token",
    "username",
    "password",
];

/// Why the form of a token request can't have a parameter that the file adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnfitParameter {
    /// It is the gateway's own, or has a key of its own.
    Reserved,
    /// Its name is none (RFC 6749 Appendix A: letters, digits, `-`, `.` and `_`).
    Name,
    /// It asks for another type than a token that goes into a header.
    TokenType,
}

/// Whether the file may add this parameter to the form of a token request.
///
/// # Errors
///
/// Why not.
pub fn may_be_added(name: &str, value: &str) -> Result<(), UnfitParameter> {
    let is_name_char = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_name_char) {
        return Err(UnfitParameter::Name);
    }
    // Names are case-sensitive (RFC 6749 §3.2), but not every server that reads them knows.
    if RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(name)) {
        return Err(UnfitParameter::Reserved);
    }
    if name.eq_ignore_ascii_case(REQUESTED_TYPE)
        && (name != REQUESTED_TYPE || ![ACCESS_TOKEN, JWT].contains(&value))
    {
        return Err(UnfitParameter::TokenType);
    }
    Ok(())
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

    /// `grant_type` of the form.
    pub(super) fn grant_type(self) -> &'static str {
        match self {
            Self::EntraOnBehalfOf | Self::JwtBearer => JWT_BEARER,
            Self::TokenExchange => TOKEN_EXCHANGE,
            Self::ClientCredentials => CLIENT_CREDENTIALS,
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
    let requested = &terms.requested;
    let subject = subject.map(InboundToken::expose);
    let mut form = Form(String::with_capacity(subject.map_or(0, str::len) + 512));
    form.add("grant_type", terms.grant.grant_type());
    // Named in one place: `Authorization: Basic` says it too (RFC 6749 §2.3).
    if proof.authorization.is_none() {
        form.add("client_id", &terms.client_id);
    }
    for (name, value) in &proof.fields {
        form.add(name, value.expose());
    }
    match (terms.grant, subject) {
        (Grant::EntraOnBehalfOf | Grant::JwtBearer, Some(subject)) => {
            form.add("assertion", subject);
        }
        (Grant::TokenExchange, Some(subject)) => {
            form.add("subject_token", subject);
            form.add("subject_token_type", ACCESS_TOKEN);
            let mut extra = requested.extra_parameters.iter();
            if !extra.any(|(name, _)| name == REQUESTED_TYPE) {
                form.add(REQUESTED_TYPE, ACCESS_TOKEN);
            }
        }
        // Without the token that they are for, providers refuse these; and the gateway's own
        // request shows nobody's.
        (Grant::EntraOnBehalfOf | Grant::JwtBearer | Grant::TokenExchange, None)
        | (Grant::ClientCredentials, _) => {}
    }
    for audience in &requested.audiences {
        form.add("audience", audience);
    }
    for resource in &requested.resources {
        form.add("resource", resource);
    }
    if !requested.scopes.is_empty() {
        form.add("scope", &terms.scope());
    }
    if let Some(claims) = claims {
        form.add("claims", claims);
    }
    if terms.grant == Grant::EntraOnBehalfOf {
        form.add("requested_token_use", "on_behalf_of");
    }
    for (name, value) in &requested.extra_parameters {
        form.add(name, value);
    }
    form.0
}

/// A form as it is written (`application/x-www-form-urlencoded`).
struct Form(String);

impl Form {
    fn add(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.write(name);
        self.0.push('=');
        self.write(value);
    }

    /// A token is long, and stands there as it is. No early end and no branch, so that many of its
    /// bytes are compared at once.
    fn write(&mut self, text: &str) {
        if text.bytes().fold(0, |strange, byte| strange | u8::from(!is_plain(byte))) == 0 {
            self.0.push_str(text);
        } else {
            self.0.extend(byte_serialize(text.as_bytes()));
        }
    }
}

/// Whether a form has this byte as it is.
fn is_plain(byte: u8) -> bool {
    let is_letter = (byte | 0x20).wrapping_sub(b'a') < 26;
    let is_digit = byte.wrapping_sub(b'0') < 10;
    is_letter || is_digit || byte == b'-' || byte == b'.' || byte == b'_'
}

/// The headers of a token request, which has an id of its own; see [`headers_of`].
pub(super) fn headers(anchor: Option<HeaderValue>) -> HeaderMap {
    headers_of(request_id(), anchor)
}

/// Names one call in two logs; nothing depends on its not being guessed.
pub(super) fn request_id() -> Option<HeaderValue> {
    let mut random = [0; 16];
    fastrand::fill(&mut random);
    let mut text = Uuid::encode_buffer();
    let id = uuid::Builder::from_random_bytes(random).into_uuid();
    HeaderValue::from_str(id.hyphenated().encode_lower(&mut text)).ok()
}

/// The headers of a token request: an id that Entra's logs show (`correlation_id` of
/// its errors), who we are, that we heed `Retry-After`, and where the user's data is kept.
pub(super) fn headers_of(id: Option<HeaderValue>, anchor: Option<HeaderValue>) -> HeaderMap {
    const REQUEST_ID: HeaderName = HeaderName::from_static("client-request-id");
    const SKU: HeaderName = HeaderName::from_static("x-client-sku");
    const VERSION: HeaderName = HeaderName::from_static("x-client-ver");
    const CAPABILITY: HeaderName = HeaderName::from_static("x-ms-lib-capability");
    const ANCHOR: HeaderName = HeaderName::from_static("x-anchormailbox");

    // With room for what the call itself adds.
    let mut headers = HeaderMap::with_capacity(10);
    if let Some(id) = id {
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
    HeaderValue::try_from(["Oid:", oid, "@", tenant].concat()).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::terms::tests::terms;
    use super::super::terms::{Parts, Requested};
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
    fn what_stands_in_a_form_as_it_is_is_what_the_library_leaves_alone() {
        for byte in 0..=u8::MAX {
            let as_it_is =
                byte_serialize(&[byte]).eq([str::from_utf8(&[byte]).unwrap_or_default()]);
            // A star, too, which no token has.
            assert_eq!(is_plain(byte), as_it_is && byte != b'*', "{byte}");
        }
    }

    #[test]
    fn scopes_are_joined_by_a_space_as_they_stand_in_the_file() {
        let terms = terms("c", &["api://x/b", "api://x/a"]);
        let form = form(&terms, &proof("s"), Some(&token()), None);
        assert!(form.contains("&scope=api%3A%2F%2Fx%2Fb+api%3A%2F%2Fx%2Fa&"), "{form}");
        assert!(!form.contains("offline_access") && !form.contains("claims"), "{form}");
    }

    fn terms_of(grant: Grant, requested: Requested) -> Terms {
        Terms::new(&Parts {
            provider: &Arc::from("sso"),
            grant,
            issuer: None,
            tenant: None,
            client_id: "c",
            requested: &Arc::new(requested),
            upstream: "u",
            token_endpoint: "https://sso.example/token",
            authorization_endpoint: None,
        })
    }

    fn fields(grant: Grant, requested: Requested, subject: Option<&InboundToken>) -> String {
        let form = form(&terms_of(grant, requested), &proof("s"), subject, None);
        let pairs = url::form_urlencoded::parse(form.as_bytes());
        let pairs = pairs.map(|(name, value)| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join("\n")
    }

    fn everything() -> Requested {
        let text = str::to_owned;
        Requested {
            scopes: vec![text("read"), text("write")],
            audiences: vec![text("orders"), text("stock")],
            resources: vec![text("https://orders.example/"), text("urn:stock")],
            extra_parameters: vec![(text("organization"), text("a&b=c"))],
        }
    }

    #[test]
    fn a_token_exchange_is_that_of_rfc_8693() {
        assert_eq!(
            fields(Grant::TokenExchange, everything(), Some(&token())),
            "grant_type=urn:ietf:params:oauth:grant-type:token-exchange\nclient_id=c\nclient_secret=s\n\
             subject_token=aaa.bbb-_.ccc\n\
             subject_token_type=urn:ietf:params:oauth:token-type:access_token\n\
             requested_token_type=urn:ietf:params:oauth:token-type:access_token\n\
             audience=orders\naudience=stock\n\
             resource=https://orders.example/\nresource=urn:stock\n\
             scope=read write\norganization=a&b=c"
        );
    }

    #[test]
    fn the_type_of_an_exchanged_token_is_asked_for_once() {
        let mut requested = everything();
        requested.extra_parameters = vec![(REQUESTED_TYPE.to_owned(), JWT.to_owned())];
        let form = fields(Grant::TokenExchange, requested, Some(&token()));
        assert_eq!(form.matches(REQUESTED_TYPE).count(), 1, "{form}");
        assert!(form.ends_with(&format!("{REQUESTED_TYPE}={JWT}")), "{form}");
    }

    #[test]
    fn a_callers_token_as_a_grant_is_that_of_rfc_7523() {
        let requested = Requested::scopes(vec!["read".into()]);
        assert_eq!(
            fields(Grant::JwtBearer, requested, Some(&token())),
            "grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer\nclient_id=c\nclient_secret=s\n\
             assertion=aaa.bbb-_.ccc\nscope=read"
        );
    }

    #[test]
    fn in_its_own_name_the_gateway_shows_nobodys_token() {
        let expected = "grant_type=client_credentials\nclient_id=c\nclient_secret=s\nscope=read";
        for subject in [None, Some(&token())] {
            let requested = Requested::scopes(vec!["read".into()]);
            assert_eq!(fields(Grant::ClientCredentials, requested, subject), expected);
        }
        // Nor is an empty scope sent, which RFC 6749 §3.3 has no form for.
        let requested = Requested { audiences: vec!["a".into()], ..Requested::default() };
        assert!(!fields(Grant::ClientCredentials, requested, None).contains("scope"));
    }

    #[test]
    fn the_file_adds_no_parameter_that_says_who_asks_for_whom() {
        for name in RESERVED.iter().chain(&["Grant_Type", "CLIENT_ID", "Scope"]) {
            assert_eq!(may_be_added(name, "x"), Err(UnfitParameter::Reserved), "{name}");
        }
        for name in ["", "a b", "a&b", "a=b", "a[]", "ä", "a\0"] {
            assert_eq!(may_be_added(name, "x"), Err(UnfitParameter::Name), "{name}");
        }
        let saml = "urn:ietf:params:oauth:token-type:saml2";
        for (name, value) in [(REQUESTED_TYPE, saml), ("Requested_Token_Type", JWT)] {
            assert_eq!(may_be_added(name, value), Err(UnfitParameter::TokenType), "{name}");
        }
        for (name, value) in [
            ("organization", "x"),
            ("connection-id", "x"),
            ("x.y_z", ""),
            (REQUESTED_TYPE, JWT),
            (REQUESTED_TYPE, ACCESS_TOKEN),
        ] {
            assert_eq!(may_be_added(name, value), Ok(()), "{name}");
        }
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
