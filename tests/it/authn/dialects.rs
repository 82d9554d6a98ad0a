//! Tokens as known products make them, each against the example that is shipped for it, with only
//! the issuer and the upstream put in place of those of the example.
//!
//! The tokens have the claims that the product's documentation shows; each is changed in one thing.

use http::{Method, Request};
use serde_json::{Value, json};

use crate::support::gateway::Gateway;
use crate::support::keys;
use crate::support::provider::Provider;
use crate::support::token::{Token, bearer};
use crate::support::upstream::Upstream;

struct World {
    provider: Provider,
    upstream: Upstream,
    gateway: Gateway,
}

/// The gateway of `examples/{name}.yaml`, whose issuer is `issuer`.
async fn world(name: &str, issuer: &str) -> World {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    provider.publish(&[keys::rsa()]);
    let path = format!("{}/examples/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    let example = std::fs::read_to_string(path).unwrap();
    assert_eq!(example.matches(&format!("issuer: {issuer}")).count(), 1, "{issuer}");
    assert_eq!(example.matches("url: http://127.0.0.1:3000").count(), 1);
    let file = example
        .replace(&format!("issuer: {issuer}"), &format!("issuer: {}", provider.oidc_issuer()))
        .replace("url: http://127.0.0.1:3000", &format!("url: {}", upstream.url()));
    let gateway = Gateway::start(&format!(
        "listeners: [{{ address: \"127.0.0.1:0\" }}]\nadmin: {{ address: \"127.0.0.1:0\" }}\n{file}"
    ));
    gateway.ready().await;
    World { provider, upstream, gateway }
}

impl World {
    /// A token with just these claims, and times; `typ` of its header is `JWT`.
    fn token(&self, claims: &Value) -> Token {
        let mut token = Token::oidc(&self.provider.oidc_issuer()).header("typ", "JWT");
        for claim in ["aud", "sub", "client_id", "scope", "jti", "nbf"] {
            token = token.without(claim);
        }
        for (name, value) in claims.as_object().unwrap() {
            token = token.claim(name, value.clone());
        }
        token
    }

    /// Holds each token to its status at `path`.
    async fn judge(&self, method: Method, path: &str, rows: Vec<(&str, Token, u16)>) {
        let mut client = self.gateway.client().await;
        for (what, token, wanted) in rows {
            let request = Request::builder()
                .method(&method)
                .uri(path)
                .header("authorization", bearer(&token.build()));
            let reply = client.send(request, "").await;
            assert_eq!(reply.status, wanted, "{what}: {reply:?}\n{}", self.gateway.log().text());
        }
    }

    /// What the upstream was told last, in the header `name`.
    fn told(&self, name: &str) -> Option<String> {
        self.upstream.last().value(name)
    }
}

#[tokio::test]
async fn keycloak() {
    let world = world("keycloak-api", "https://sso.example.com/realms/main").await;
    let token = world.token(&json!({
        "jti": "onrtac:8a1f", "aud": ["orders", "account"], "sub": "f81d4fae-7dec", "typ": "Bearer",
        "azp": "web", "sid": "1c2d", "acr": "1", "allowed-origins": ["https://app.example.com"],
        "realm_access": {"roles": ["offline_access", "orders-clerk", "uma_authorization"]},
        "resource_access": {"account": {"roles": ["manage-account", "orders-reader"]}},
        "scope": "openid profile email", "email_verified": true, "name": "Alice",
        "preferred_username": "alice",
    }));
    let roles = |roles: Value| json!({ "roles": roles });
    let reader = token.clone().claim("realm_access", roles(json!(["orders-reader"])));
    world
        .judge(
            Method::GET,
            "/orders/1",
            vec![
                ("a clerk", token.clone(), 200),
                ("a reader", reader.clone(), 200),
                (
                    "a service account",
                    reader.clone().claim("client_id", "job").claim("azp", "job"),
                    200,
                ),
                ("an ID token", token.clone().claim("typ", "ID"), 401),
                ("a refresh token", token.clone().claim("typ", "Refresh"), 401),
                ("an offline token", token.clone().claim("typ", "Offline"), 401),
                ("a logout token", token.clone().claim("typ", "Logout"), 401),
                ("no audience mapper", token.clone().claim("aud", "account"), 401),
                ("no audience at all", token.clone().without("aud"), 401),
                (
                    "another realm",
                    token
                        .clone()
                        .claim("iss", world.provider.oidc_issuer().replace("main", "master")),
                    401,
                ),
                ("a role of a client", token.clone().claim("realm_access", roles(json!([]))), 403),
                ("no realm roles", token.clone().without("realm_access"), 403),
                (
                    "roles are a word",
                    token.clone().claim("realm_access", roles(json!("orders-clerk"))),
                    200,
                ),
                (
                    "roles of a wrong type",
                    token.clone().claim("realm_access", roles(json!([1]))),
                    401,
                ),
                (
                    "a role by a dotted name",
                    token
                        .clone()
                        .without("realm_access")
                        .claim("realm_access.roles", json!(["orders-clerk"])),
                    200,
                ),
                (
                    "a role in another place",
                    token.clone().without("realm_access").claim("roles", json!(["orders-clerk"])),
                    403,
                ),
                (
                    "other case",
                    token.clone().claim("realm_access", roles(json!(["Orders-Clerk"]))),
                    403,
                ),
            ],
        )
        .await;
    world
        .judge(
            Method::POST,
            "/orders/1",
            vec![
                ("another client", token.clone().claim("azp", "cli"), 403),
                ("no client", token.clone().without("azp"), 403),
                ("only a reader", reader, 403),
                ("a clerk", token, 200),
            ],
        )
        .await;
    assert_eq!(world.told("x-user-id").as_deref(), Some("f81d4fae-7dec"));
    assert_eq!(world.told("x-user-name").as_deref(), Some("alice"));
}

#[tokio::test]
async fn okta() {
    let world = world("okta", "https://example.okta.com/oauth2/default").await;
    let token = world
        .token(&json!({
            "ver": 1, "jti": "AT.0mP4JKAZX1iACIT4vbEDF7LpvDVjxypPMf0D7uX39RE", "aud": "api://default",
            "cid": "0oabv6kx4qq6h1U5l0h7", "uid": "00ujmkLgagxeRrAg20g3", "scp": ["openid", "orders.read"],
            "auth_time": 1_467_143_000, "sub": "alice@example.com", "groups": ["Everyone", "Clerks"],
        }))
        .without_header("typ");
    world
        .judge(
            Method::GET,
            "/orders/1",
            vec![
                ("an array of scopes", token.clone(), 200),
                (
                    "a service",
                    token
                        .clone()
                        .claim("sub", "0oabv6kx4qq6h1U5l0h7")
                        .without("uid")
                        .without("groups"),
                    200,
                ),
                ("another scope", token.clone().claim("scp", json!(["openid"])), 403),
                (
                    "two scopes in one element",
                    token.clone().claim("scp", json!(["openid orders.read"])),
                    403,
                ),
                (
                    "a scope of a wrong type",
                    token.clone().claim("scp", json!([{"orders.read": true}])),
                    401,
                ),
                ("no scope", token.clone().without("scp"), 403),
                (
                    "scopes where Okta has none",
                    token.clone().without("scp").claim("scope", "orders.read"),
                    403,
                ),
                ("of the org server", token.clone().claim("aud", "https://example.okta.com"), 401),
                (
                    "an ID token",
                    token.clone().claim("nonce", "n").claim("aud", "0oabv6kx4qq6h1U5l0h7"),
                    401,
                ),
                ("an ID token for the API", token.clone().claim("at_hash", "h"), 401),
            ],
        )
        .await;
    world
        .judge(
            Method::POST,
            "/orders/1",
            vec![
                ("in another group", token.clone().claim("groups", json!(["Everyone"])), 403),
                ("in no group", token.clone().without("groups"), 403),
                ("in the group", token, 200),
            ],
        )
        .await;
    assert_eq!(world.told("x-user-id").as_deref(), Some("00ujmkLgagxeRrAg20g3"));
    let event = world.gateway.log().event_when("/orders/1").await;
    assert_eq!(event["client_id"], "0oabv6kx4qq6h1U5l0h7");
}

#[tokio::test]
async fn auth0() {
    let world = world("auth0", "https://example.eu.auth0.com/").await;
    let token = world.token(&json!({
        "sub": "auth0|5f7c8ec7c33c6c004bbafe82", "azp": "my_client_id",
        "aud": ["https://api.example.com", "https://example.eu.auth0.com/userinfo"],
        "scope": "openid profile read:orders", "permissions": ["read:orders"],
    }));
    let machine = token
        .clone()
        .claim("sub", "my_machine@clients")
        .claim("gty", "client-credentials")
        .claim("aud", "https://api.example.com")
        .without("scope");
    let profile = token
        .clone()
        .header("typ", "at+jwt")
        .without("azp")
        .claim("client_id", "my_client_id")
        .claim("jti", "1");
    world
        .judge(
            Method::GET,
            "/orders/1",
            vec![
                ("a user", token.clone(), 200),
                ("a service", machine, 200),
                ("the profile of RFC 9068", profile, 200),
                ("asked for, and not given", token.clone().claim("permissions", json!([])), 403),
                ("RBAC is off", token.clone().without("permissions"), 403),
                (
                    "for userinfo only",
                    token.clone().claim("aud", "https://example.eu.auth0.com/userinfo"),
                    401,
                ),
                ("for the client: an ID token", token.clone().claim("aud", "my_client_id"), 401),
                ("permissions of a wrong type", token.clone().claim("permissions", 1), 401),
            ],
        )
        .await;
    let writes = json!(["read:orders", "write:orders"]);
    world
        .judge(
            Method::POST,
            "/orders/1",
            vec![
                ("may only read", token.clone(), 403),
                ("a scope is no permission", token.clone().claim("scope", "write:orders"), 403),
                ("may write", token.claim("permissions", writes), 200),
            ],
        )
        .await;
    assert_eq!(world.told("x-user-id").as_deref(), Some("auth0|5f7c8ec7c33c6c004bbafe82"));
}

/// The slash at the end of Auth0's issuers counts, here as there.
#[tokio::test]
async fn an_issuers_last_slash_counts() {
    let world = world("auth0", "https://example.eu.auth0.com/").await;
    let token = world.token(&json!({
        "aud": "https://api.example.com", "permissions": ["read:orders"], "sub": "x", "azp": "y",
    }));
    let slash = format!("{}/", world.provider.oidc_issuer());
    let rows =
        vec![("as it is", token.clone(), 200), ("with a slash", token.claim("iss", slash), 401)];
    world.judge(Method::GET, "/orders/1", rows).await;
}

#[tokio::test]
async fn zitadel() {
    const ROLES: &str = "urn:zitadel:iam:org:project:roles";
    let world = world("zitadel", "https://example.zitadel.cloud").await;
    let project = "287400000000000001";
    let organisation = json!({"287300000000000001": "acme.example.zitadel.cloud"});
    let token = world.token(&json!({
        "sub": "287500000000000001", "client_id": "287600000000000001@orders", "jti": "1",
        "aud": ["287600000000000001@orders", project],
        ROLES: {"reader": organisation},
        "urn:zitadel:iam:user:resourceowner:id": "287300000000000001",
    }));
    let roles = |roles: Value| token.clone().claim(ROLES, roles);
    world
        .judge(
            Method::GET,
            "/orders/1",
            vec![
                ("a reader", token.clone(), 200),
                ("two roles", roles(json!({"x": organisation, "clerk": organisation})), 200),
                ("another role", roles(json!({"visitor": organisation})), 403),
                ("no role", roles(json!({})), 403),
                ("no roles", token.clone().without(ROLES), 403),
                ("a role as a value", roles(json!({"x": {"reader": "reader"}})), 403),
                (
                    "roles of another project",
                    token.clone().without(ROLES).claim(
                        "urn:zitadel:iam:org:project:1:roles",
                        json!({"reader": organisation}),
                    ),
                    403,
                ),
                ("a role that says no", roles(json!({"reader": false})), 401),
                ("a role that is a text", roles(json!({"reader": "acme"})), 401),
                ("roles are a number", roles(json!(1)), 401),
                ("another project", token.clone().claim("aud", json!(["287400000000000002"])), 401),
                (
                    "the project's id is a number",
                    token.clone().claim("aud", 287_400_000_000_000_001_u64),
                    401,
                ),
            ],
        )
        .await;
    world
        .judge(
            Method::POST,
            "/orders/1",
            vec![
                ("a reader", token.clone(), 403),
                ("a clerk", roles(json!({"clerk": organisation})), 200),
            ],
        )
        .await;
    assert_eq!(world.told("x-user-id").as_deref(), Some("287500000000000001"));
}

#[tokio::test]
async fn rfc9068() {
    let world = world("rfc9068", "https://sso.example.com").await;
    let token = world
        .token(&json!({
            "aud": "https://api.example.com", "sub": "5ba552d67", "client_id": "s6BhdRkqt3",
            "jti": "dbe39bf3a3ba4238a513f51d6e1691c4", "scope": "openid orders.read",
            "auth_time": 1_639_528_912, "acr": "1",
        }))
        .header("typ", "at+jwt");
    let typ = |typ: &str| token.clone().header("typ", typ);
    world
        .judge(
            Method::GET,
            "/orders/1",
            vec![
                ("as the RFC has it", token.clone(), 200),
                ("with its prefix", typ("application/at+jwt"), 200),
                ("in other case", typ("Application/AT+JWT"), 200),
                ("any JWT", typ("JWT"), 401),
                ("no `typ`", token.clone().without_header("typ"), 401),
                ("a logout token", typ("logout+jwt"), 401),
                ("a DPoP proof", typ("dpop+jwt"), 401),
                ("`typ` is a list", token.clone().header("typ", json!(["at+jwt"])), 401),
                ("another scope", token.clone().claim("scope", "openid"), 403),
                ("no scope", token.clone().without("scope"), 403),
                ("another API", token.clone().claim("aud", "https://other.example.com"), 401),
            ],
        )
        .await;
    assert_eq!(world.told("x-client-id").as_deref(), Some("s6BhdRkqt3"));
    let service = token.clone().without("scope").claim("sub", "s6BhdRkqt3");
    world
        .judge(
            Method::GET,
            "/orders/export",
            vec![
                ("a user", token.clone().claim("roles", json!(["export"])), 403),
                ("a service with no role", service.clone(), 403),
                ("by its groups", service.clone().claim("groups", json!(["export"])), 200),
                (
                    "by its entitlements",
                    service.clone().claim("entitlements", json!(["export"])),
                    200,
                ),
                ("by its roles", service.claim("roles", json!(["x", "export"])), 200),
            ],
        )
        .await;
}

/// A token that lacks the required `typ` has no keys fetched for it.
#[tokio::test]
async fn a_wrong_type_fetches_no_keys() {
    use crate::support::provider::Endpoint;

    let world = world("rfc9068", "https://sso.example.com").await;
    let token = world.token(&json!({"aud": "https://api.example.com", "sub": "x"}));
    let rows = vec![("unknown key", token.signed_by(&keys::rsa_other()), 401)];
    world.judge(Method::GET, "/orders/1", rows).await;
    assert_eq!(world.provider.count(Endpoint::Keys), 1, "only at the start");
}
