//! Documents as clients would read them, and which one a path gets.

use serde_json::{Value, json};
use url::Url;

use super::*;
use crate::authn::Cloud;
use crate::clock::SystemClock;
use crate::observe::Metrics;
use crate::trust::Roots;

const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const ENTRA: &str = "https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/v2.0";
const SSO: &str = "https://sso.example.com/realms/main/";

fn provider(kind: Issuing, audiences: &[&str]) -> Arc<Provider> {
    let audiences = audiences.iter().map(|&audience| audience.to_owned()).collect();
    let settings = ProviderSettings::new("p", kind, audiences);
    let settings = ProviderSettings { roots: Roots::Only(Vec::new()), ..settings };
    Provider::new(settings, Arc::new(SystemClock), Metrics::default()).unwrap()
}

fn entra(audiences: &[&str]) -> Arc<Provider> {
    provider(Issuing::entra(TENANT, Cloud::Public, None), audiences)
}

fn sso() -> Arc<Provider> {
    provider(Issuing::Oidc { issuer: SSO.to_owned() }, &["orders"])
}

fn public_url(text: &str) -> Arc<PublicUrl> {
    Arc::new(PublicUrl::new(&Url::parse(text).unwrap()).unwrap())
}

/// A route that asks for a token: its path, providers and scopes.
type Asking<'a> = (&'a str, &'a [Arc<Provider>], &'a [&'a str]);

/// The resources of `routes`, for callers of the URL `at`.
fn described(at: &str, routes: &[Asking<'_>]) -> Resources {
    let mut describing = Describing::default();
    for (path, providers, scopes) in routes {
        let scopes: Vec<String> = scopes.iter().map(|&scope| scope.to_owned()).collect();
        describing.add(&PathPattern::parse(path).unwrap(), providers, &scopes);
    }
    describing.finish(&public_url(at))
}

fn read(resource: &ProtectedResource) -> Value {
    serde_json::from_slice(&resource.document).unwrap()
}

fn target(method: Method, path: &str) -> Target {
    let request = Request::builder().method(method).uri(path).header(HOST, "evil.example");
    Target::parse(&request.body(()).unwrap()).unwrap()
}

/// The path that is met for a document, if the answer depends on it.
fn met(resources: &Resources, path: &str) -> Option<String> {
    let mut met = None;
    resources
        .answer(&target(Method::GET, path), |target| {
            met = Some(format!("{}{}", target.host().unwrap(), target.path()));
            None
        })
        .ok();
    met
}

#[test]
fn a_document_names_the_resource_its_issuers_and_scopes_that_can_be_asked_for() {
    let entra = entra(&["66666666-7777-8888-9999-000000000000", "api://orders"]);
    let scopes = &["read", "write"][..];
    let resources =
        described("https://api.example.com/", &[("/orders/{*rest}", &[entra, sso()], scopes)]);
    let resource = resources.at("/orders").unwrap();
    assert_eq!(
        resource.metadata_url(),
        "https://api.example.com/.well-known/oauth-protected-resource/orders"
    );
    assert_eq!(
        read(resource),
        json!({
            "resource": "https://api.example.com/orders",
            "authorization_servers": [ENTRA, SSO],
            "scopes_supported": ["api://orders/read", "api://orders/write", "read", "write"],
            "bearer_methods_supported": ["header"],
            "dpop_signing_alg_values_supported":
                ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"],
        })
    );
}

#[test]
fn scopes_are_asked_for_as_the_provider_wants_them() {
    let scopes = |provider: Arc<Provider>, scopes: &[&str]| {
        let resources = described("https://a.example", &[("/", &[provider], scopes)]);
        read(resources.at("").unwrap())["scopes_supported"].clone()
    };
    assert_eq!(scopes(entra(&["guid", "api://guid"]), &["s"]), json!(["api://guid/s"]));
    assert_eq!(scopes(entra(&["https://a.example/x"]), &["s"]), json!(["https://a.example/x/s"]));
    assert_eq!(scopes(entra(&["guid"]), &["s"]), json!(["guid/s"]));
    // Entra gives nothing where nothing is asked for; others do.
    assert_eq!(scopes(entra(&["api://guid"]), &[]), json!(["api://guid/.default"]));
    assert_eq!(scopes(sso(), &[]), Value::Null);
}

#[test]
fn routes_of_one_literal_path_are_one_resource() {
    let resources = described(
        "https://a.example",
        &[
            ("/a/{*rest}", &[sso()], &["read"]),
            ("/a/{id}/x", &[sso()], &["write", "read"]),
            ("/a/b", &[entra(&["api://x"])], &["s"]),
            ("/{tenant}/a", &[sso()], &["t"]),
            ("/café/{id}", &[sso()], &["c"]),
        ],
    );
    let scopes = |path: &str| read(resources.at(path).unwrap())["scopes_supported"].clone();
    assert_eq!(scopes("/a"), json!(["read", "write"]));
    assert_eq!(scopes("/a/b"), json!(["api://x/s"]));
    assert_eq!(scopes(""), json!(["t"]));
    assert_eq!(scopes("/caf%C3%A9"), json!(["c"]));
    assert_eq!(resources.at("/a/c"), None);
}

#[test]
fn below_a_path_of_a_proxy_in_front_the_document_stands_before_that_path() {
    let resources = described("https://a.example:8443/gw", &[("/x/{*rest}", &[sso()], &[])]);
    let resource = resources.at("/x").unwrap();
    assert_eq!(read(resource)["resource"], "https://a.example:8443/gw/x");
    let path = "/.well-known/oauth-protected-resource/gw/x";
    assert_eq!(resource.metadata_url(), format!("https://a.example:8443{path}"));
    assert!(resources.answer(&target(Method::GET, path), |_| None).is_ok());
    for other in ["/.well-known/oauth-protected-resource/x", &path.replace("gw", "gwx")] {
        let refused = resources.answer(&target(Method::GET, other), |_| panic!("{other}"));
        assert_eq!(refused.unwrap_err().code(), Code::RouteNotFound, "{other}");
    }
}

#[test]
fn what_is_no_resources_path_is_met_as_a_request_at_the_public_host() {
    let resources = described("https://a.example", &[("/x/{*rest}", &[sso()], &[])]);
    for (asked, path) in [
        ("", "/"),
        ("/", "/"),
        ("/x/y", "/x/y"),
        ("/x/y/", "/x/y/"),
        ("/x/%41?q=1", "/x/A"),
        ("/y/../z", "/z"),
    ] {
        let asked = format!("{WELL_KNOWN}{asked}");
        assert_eq!(met(&resources, &asked).unwrap(), format!("a.example{path}"), "{asked}");
    }
    // The path that challenges name needs no looking up, with or without a slash.
    for asked in ["/x", "/x/"] {
        assert_eq!(met(&resources, &format!("{WELL_KNOWN}{asked}")), None, "{asked}");
    }
    // Another well-known path that begins alike is none of ours.
    assert_eq!(met(&resources, &format!("{WELL_KNOWN}x")), None);
}

#[test]
fn a_document_is_read_by_anybody_and_only_read() {
    let resources = described("https://a.example", &[("/x", &[sso()], &[])]);
    let path = format!("{WELL_KNOWN}/x");
    let answer = |method| resources.answer(&target(method, &path), |_| None);
    for method in [Method::GET, Method::HEAD] {
        let response = answer(method).unwrap();
        let headers = response.headers();
        assert_eq!(headers[CONTENT_TYPE], "application/json");
        assert_eq!(headers[CACHE_CONTROL], "public, max-age=300");
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
    }
    let response = answer(Method::OPTIONS).unwrap();
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    assert_eq!(response.headers()[ACCESS_CONTROL_ALLOW_HEADERS], "*");
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
        let refused = answer(method).unwrap_err();
        assert_eq!(refused.code(), Code::MethodNotAllowed);
        let allow = vec![Method::GET, Method::HEAD, Method::OPTIONS];
        assert_eq!(refused.extra(), &Extra::Allow(allow));
    }
}
