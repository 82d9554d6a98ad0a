//! Reads a provider's metadata (OpenID Connect Discovery 1.0 §3, RFC 8414 §2) and decides
//! which of its URLs may be called. It fetches nothing itself.

use std::net::IpAddr;

use url::{Host, Url};

use super::issuing::{Issuing, TENANT_PLACEHOLDER, Version};
use super::json::{self, JsonError, Object};
use super::refusal::shown;
use super::tenants::Tenants;

/// Where a provider takes requests, from its discovery document or from the routes file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// The token endpoint (RFC 6749 §3.2).
    pub token: Option<String>,
    /// The authorization endpoint, for claims challenges.
    pub authorization: Option<String>,
}

/// What is used of a metadata document.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Metadata {
    pub(super) jwks_uri: Option<String>,
    pub(super) endpoints: Endpoints,
    /// The tenant whose metadata it is, where the file names it by a domain.
    pub(super) tenant: Option<String>,
}

/// Why a metadata document can't be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum MetadataError {
    /// Not JSON, or not an object.
    #[error("the metadata can't be read")]
    Json(#[source] JsonError),
    /// The document speaks of another issuer (RFC 8414 §3.3).
    #[error("the metadata names issuer {}, and `{wanted}` is configured", shown(.found))]
    Issuer {
        /// What it names.
        found: String,
        /// What is configured.
        wanted: String,
    },
    /// A domain is another tenant's than it was.
    #[error(
        "the metadata is that of tenant `{found}`, and the domain `{domain}` was tenant `{known}`; if that is meant, write the tenant's id or restart the gateway"
    )]
    Moved {
        /// The domain.
        domain: String,
        /// The tenant that it was when it was first asked.
        known: String,
        /// The tenant that it is now.
        found: String,
    },
    /// A member that is no text.
    #[error("`{0}` in the metadata is not a string")]
    NotText(&'static str),
    /// A URL that must not be called.
    #[error("`{member}` in the metadata is {}: only https is called, and http on loopback for an issuer there, with neither quotes nor backslashes in what is called", shown(.url))]
    Unsafe {
        /// Which URL.
        member: &'static str,
        /// What it is.
        url: String,
    },
}

/// Reads the metadata of `kind`.
pub(super) fn read(text: &[u8], kind: &Issuing) -> Result<Metadata, MetadataError> {
    let document = json::object_with_holes(text).map_err(MetadataError::Json)?;
    let found = text_member(&document, "issuer")?.unwrap_or_default();
    let tenant = judge_issuer(found, kind)?;
    Ok(Metadata {
        jwks_uri: url_member(&document, "jwks_uri", found)?,
        endpoints: Endpoints {
            token: url_member(&document, "token_endpoint", found)?,
            authorization: url_member(&document, "authorization_endpoint", found)?,
        },
        tenant,
    })
}

/// The issuer must be the configured one, byte for byte. Of several tenants Entra publishes a
/// template, and of a domain the issuer with that tenant's id, which it gives.
fn judge_issuer(found: &str, kind: &Issuing) -> Result<Option<String>, MetadataError> {
    let wanted = match kind {
        Issuing::Entra { tenants: Tenants::Domain(_), .. } => {
            return match kind.tenant_in(found) {
                Some((tenant, Version::V2)) => Ok(Some(tenant.to_owned())),
                Some((_, Version::V1)) | None => {
                    Err(other_issuer(found, kind.issuers_of("(the id of its tenant)")))
                }
            };
        }
        Issuing::Entra { tenants: Tenants::Several { .. }, .. } => {
            kind.issuers_of(TENANT_PLACEHOLDER)
        }
        Issuing::Entra { tenants: Tenants::One(_), .. } | Issuing::Oidc { .. } => {
            vec![kind.issuer()]
        }
    };
    if wanted.first().is_some_and(|wanted| wanted == found) {
        return Ok(None);
    }
    Err(other_issuer(found, wanted))
}

/// The first of `wanted` is the one that metadata names.
fn other_issuer(found: &str, wanted: Vec<String>) -> MetadataError {
    let wanted = wanted.into_iter().next().unwrap_or_default();
    MetadataError::Issuer { found: found.to_owned(), wanted }
}

/// Whether a URL of a provider may be called: https, or http to this machine.
///
/// What is fetched decides whom the gateway believes, and what is sent holds secrets.
pub fn may_be_called(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => return false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && loopback)
}

fn text_member<'a>(
    document: &'a Object<'_>,
    name: &'static str,
) -> Result<Option<&'a str>, MetadataError> {
    let member = document.get(name);
    member.map(|value| value.as_str().ok_or(MetadataError::NotText(name))).transpose()
}

fn url_member(
    document: &Object<'_>,
    member: &'static str,
    issuer: &str,
) -> Result<Option<String>, MetadataError> {
    let Some(url) = text_member(document, member)? else { return Ok(None) };
    let is_https = |url: &str| Url::parse(url).is_ok_and(|url| url.scheme() == "https");
    // As the parser spells it, which escapes nearly all that can't stand in a header's quotes;
    // it leaves a quote in a host and a backslash in a query.
    let spelled = Url::parse(url).map(String::from).unwrap_or_default();
    // A provider out there has no business with this machine's own ports.
    if !may_be_called(url) || (is_https(issuer) && !is_https(url)) || spelled.contains(['"', '\\'])
    {
        return Err(MetadataError::Unsafe { member, url: url.to_owned() });
    }
    Ok(Some(spelled))
}

#[cfg(test)]
mod tests {
    use super::super::issuing::Cloud;
    use super::super::tenants::Directory;
    use super::*;
    use serde_json::{Value, json};

    const ISSUER: &str = "https://sso.example.com/realms/main";

    fn kind() -> Issuing {
        Issuing::Oidc { issuer: ISSUER.to_owned() }
    }

    fn read(document: &Value) -> Result<Metadata, MetadataError> {
        super::read(document.to_string().as_bytes(), &kind())
    }

    #[test]
    fn what_entra_publishes_for_several_tenants_is_a_template_and_for_a_domain_an_id() {
        let id = "11111111-2222-3333-4444-55555555aaaa";
        let several =
            Tenants::Several { directory: Directory::Common, allowed: [id.to_owned()].into() };
        let domain = Tenants::Domain("contoso.onmicrosoft.com".to_owned());
        let one = Tenants::One(id.to_owned());
        let read = |tenants: &Tenants, issuer: &str| {
            let kind = Issuing::entra_of(tenants.clone(), Cloud::China, None);
            super::read(json!({ "issuer": issuer }).to_string().as_bytes(), &kind)
                .map(|metadata| metadata.tenant)
        };
        let at = |tenant: &str| format!("https://login.partner.microsoftonline.cn/{tenant}/v2.0");
        for (issuer, by_several, by_domain, by_one) in [
            (at("{tenantid}"), true, false, false),
            (at(id), false, true, true),
            (at("{tenantId}"), false, false, false),
            (at("common"), false, false, false),
            (at("contoso.onmicrosoft.com"), false, false, false),
            (at(&id.to_uppercase()), false, false, false),
            (format!("https://sts.chinacloudapi.cn/{id}/"), false, false, false),
            (format!("https://login.microsoftonline.com/{id}/v2.0"), false, false, false),
            ("https://login.microsoftonline.com/{tenantid}/v2.0".to_owned(), false, false, false),
            (String::new(), false, false, false),
        ] {
            assert_eq!(read(&several, &issuer).is_ok(), by_several, "{issuer}");
            assert_eq!(read(&one, &issuer).is_ok(), by_one, "{issuer}");
            let learned = read(&domain, &issuer);
            assert_eq!(learned.is_ok(), by_domain, "{issuer}");
            if let Ok(learned) = learned {
                assert_eq!(learned.as_deref(), Some(id));
            }
        }
    }

    #[test]
    fn the_urls_of_the_configured_issuer_are_taken() {
        let metadata = read(&json!({
            "issuer": ISSUER,
            "jwks_uri": "https://keys.example.com/jwks?v=1",
            "token_endpoint": "https://127.0.0.1:9010/token",
            "authorization_endpoint": "https://sso.example.com/authorize?x=\"y",
            "scopes_supported": ["openid"],
        }))
        .unwrap();
        assert_eq!(metadata.jwks_uri.as_deref(), Some("https://keys.example.com/jwks?v=1"));
        assert_eq!(metadata.endpoints.token.as_deref(), Some("https://127.0.0.1:9010/token"));
        let authorization = metadata.endpoints.authorization.unwrap();
        assert_eq!(authorization, "https://sso.example.com/authorize?x=%22y");
    }

    #[test]
    fn another_issuer_is_refused_and_named() {
        for found in ["https://sso.example.com/realms/main/", "https://evil.example", ""] {
            let error = read(&json!({"issuer": found, "jwks_uri": "https://a/"})).unwrap_err();
            assert!(error.to_string().contains(ISSUER), "{error}");
        }
        assert!(matches!(read(&json!({})), Err(MetadataError::Issuer { .. })));
        assert!(matches!(read(&json!({"issuer": [ISSUER]})), Err(MetadataError::NotText(_))));
        assert!(matches!(super::read(b"<html>", &kind()), Err(MetadataError::Json(_))));
    }

    #[test]
    fn plain_http_is_called_on_loopback_only() {
        for url in [
            "https://a.example/x",
            "http://127.0.0.1:9010/x",
            "http://127.9.9.9/x",
            "http://[::1]:1/x",
            "http://localhost/x",
        ] {
            assert!(may_be_called(url), "{url}");
        }
        for url in [
            "http://a.example/x",
            "http://localhost.evil.example/x",
            "http://127.0.0.1.evil.example/x",
            "http://10.0.0.1/x",
            "file:///etc/passwd",
            "ftp://127.0.0.1/x",
            "data:,x",
            "/relative",
            "",
        ] {
            assert!(!may_be_called(url), "{url}");
            let document = json!({"issuer": ISSUER, "jwks_uri": url});
            assert!(matches!(read(&document), Err(MetadataError::Unsafe { .. })), "{url}");
        }
    }
}
