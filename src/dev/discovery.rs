//! The documents that clients read before they ask for a token.
//!
//! OpenID discovery, instance discovery and user realm: pure, and always about the one tenant.

use http::StatusCode;
use serde_json::{Value, json};
use url::Url;

use crate::dev::answer::{Answer, json, shown};
use crate::dev::authority::Authority;
use crate::dev::directory::{DOMAIN, TENANT};
use crate::dev::grants::Tenant;

/// The discovery document (OpenID Connect Discovery §3). For `common` its issuer is a template.
pub(super) fn openid_configuration(authority: &Authority, tenant: Tenant, named: &str) -> Value {
    let base = authority.base_url();
    let (named, issuer) = match tenant {
        Tenant::Home => (TENANT, authority.issuer().to_owned()),
        Tenant::Shared => (named, format!("{base}/{{tenantid}}/v2.0")),
    };
    json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{base}/{named}/oauth2/v2.0/authorize"),
        "token_endpoint": format!("{base}/{named}/oauth2/v2.0/token"),
        "jwks_uri": format!("{base}/{named}/discovery/v2.0/keys"),
        "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
        "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
        "response_modes_supported": ["query", "fragment", "form_post"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "claims_supported": [
            "sub", "iss", "aud", "exp", "iat", "nbf", "azp", "name", "oid", "preferred_username", "tid", "ver",
        ],
        "request_uri_parameter_supported": false,
        "tenant_region_scope": null,
        "cloud_instance_name": "microsoftonline.com",
        "cloud_graph_host_name": "graph.windows.net",
        "msgraph_host": "graph.microsoft.com",
    })
}

/// How the user with this name signs in: a user of the tenant with a password, others not at all.
/// The name comes as it stands in the path, maybe percent-encoded.
pub(super) fn user_realm(name: &str) -> Value {
    let name = name.to_ascii_lowercase();
    let domain =
        name.rsplit_once('@').or_else(|| name.rsplit_once("%40")).map(|(_, domain)| domain);
    if domain == Some(DOMAIN) {
        json!({
            "ver": "1.0",
            "account_type": "Managed",
            "domain_name": DOMAIN,
            "cloud_instance_name": "microsoftonline.com",
            "cloud_audience_urn": "urn:federation:MicrosoftOnline",
        })
    } else {
        json!({ "ver": "1.0", "account_type": "Unknown", "cloud_instance_name": "microsoftonline.com" })
    }
}

/// Which hosts are one identity provider with the `authorization_endpoint` that a client found.
pub(super) fn instance(authority: &Authority, authorization_endpoint: Option<&str>) -> Answer {
    let base = Url::parse(authority.base_url()).ok();
    let asked = authorization_endpoint.and_then(|endpoint| Url::parse(endpoint).ok());
    let ours = |url: &Url| base.as_ref().is_some_and(|base| base.origin() == url.origin());
    let Some(asked) = asked.filter(ours) else {
        let endpoint = shown(authorization_endpoint.unwrap_or_default());
        return json(
            StatusCode::BAD_REQUEST,
            &json!({
                "error": "invalid_instance",
                "error_description": format!("AADSTS50049: `{endpoint}` is not an endpoint of this identity provider."),
                "error_codes": [50049],
            }),
        );
    };
    let host = asked.host_str().unwrap_or_default();
    let with_port = asked.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let document =
        format!("{}/{TENANT}/v2.0/.well-known/openid-configuration", authority.base_url());
    json(
        StatusCode::OK,
        &json!({
            "tenant_discovery_endpoint": document,
            "api-version": "1.1",
            "metadata": [{
                "preferred_network": with_port,
                "preferred_cache": with_port,
                "aliases": [with_port, host],
            }],
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::authority::tests::{BASE, authority};

    #[test]
    fn a_document_is_about_the_tenant_that_was_named() {
        let authority = authority();
        let home = openid_configuration(&authority, Tenant::Home, DOMAIN);
        assert_eq!(home["issuer"], format!("{BASE}/{TENANT}/v2.0"));
        assert_eq!(home["token_endpoint"], format!("{BASE}/{TENANT}/oauth2/v2.0/token"));
        assert_eq!(home["jwks_uri"], format!("{BASE}/{TENANT}/discovery/v2.0/keys"));
        let shared = openid_configuration(&authority, Tenant::Shared, "common");
        assert_eq!(shared["issuer"], format!("{BASE}/{{tenantid}}/v2.0"));
        assert_eq!(shared["token_endpoint"], format!("{BASE}/common/oauth2/v2.0/token"));
    }

    #[test]
    fn a_user_of_the_tenant_is_managed_and_others_are_unknown() {
        for name in ["alice@dev.local", "Alice@DEV.local", "alice%40dev.local"] {
            assert_eq!(user_realm(name)["account_type"], "Managed", "{name}");
        }
        for name in ["alice@example.com", "dev.local", "alice@x.dev.local", ""] {
            assert_eq!(user_realm(name)["account_type"], "Unknown", "{name}");
        }
    }

    #[test]
    fn only_its_own_endpoints_are_an_instance() {
        let authority = authority();
        let asked = |endpoint| instance(&authority, endpoint).status();
        assert_eq!(
            asked(Some("http://127.0.0.1:9010/common/oauth2/v2.0/authorize")),
            StatusCode::OK
        );
        for other in ["http://127.0.0.1:9011/common", "https://127.0.0.1:9010/common", "x", ""] {
            assert_eq!(asked(Some(other)), StatusCode::BAD_REQUEST, "{other}");
        }
        assert_eq!(asked(None), StatusCode::BAD_REQUEST);
    }
}
