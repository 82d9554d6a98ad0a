//! The files of `examples/`, as they are shipped: each is started with the environment that it asks
//! for, one caller is served and others are refused, and the upstream says what it was shown.
//!
//! (Those of products, `okta.yaml` and its kin, are held to their tokens in `authn/dialects.rs`.)

use std::path::Path;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::BodyExt as _;
use serde_json::json;

use crate::support::client::{Reply, fetch, full};
use crate::support::client_auth::{Pair, Proof};
use crate::support::gateway::Gateway;
use crate::support::keys;
use crate::support::managed_identity::{Asked, MetadataHost};
use crate::support::obo::{Answer as TokenAnswer, Issued};
use crate::support::provider::{Endpoint, Provider};
use crate::support::raw::Raw;
use crate::support::token::{
    ALICE, BOB, CALLER_CLIENT, CLIENT_ID, CLIENT_SECRET, OIDC_CLIENT, OTHER_TENANT, TENANT, Token,
    bearer,
};
use crate::support::upstream::{Answer, Upstream};
use crate::support::websocket::{WebSocketUpstream, handshake, text};
use crate::support::{registry, within};

const GRAPH: &str = "https://graph.microsoft.com/.default";
const ARM: &str = "https://management.azure.com/.default";
const PUBLIC_URL: &str = "https://mcp.example.com";

/// One that nobody listed.
const STRANGER: &str = "bbbbbbbb-2222-3333-4444-555555555555";

struct World {
    provider: Provider,
    upstream: Upstream,
    gateway: Gateway,
}

impl World {
    /// The gateway of `examples/{name}.yaml`: all that it takes from the environment leads to
    /// `provider` and to one upstream.
    async fn start(name: &str, provider: Provider, more: &[(&str, &str)]) -> Self {
        let path = format!("{}/examples/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
        let example = std::fs::read_to_string(path).unwrap();
        let upstream = Upstream::start();
        let (base, url) = (provider.base(), upstream.url());
        let variables = [
            ("LISTEN_ADDRESS", "127.0.0.1:0"),
            ("ADMIN_ADDRESS", "127.0.0.1:0"),
            ("AZURE_TENANT_ID", TENANT),
            ("AZURE_CLIENT_ID", CLIENT_ID),
            ("AZURE_AUTHORITY_HOST", &base),
            ("GRAPH_URL", &url),
            ("ARM_URL", &url),
        ];
        // Services of the example's own.
        let own = ["ORDERS_URL", "VAULT_URL", "BILLING_URL", "MCP_URL"].map(|name| (name, &*url));
        let variables: Vec<_> = variables
            .into_iter()
            .chain(own)
            .chain(more.iter().copied())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let gateway = Gateway::start_in(&variables, &example);
        gateway.ready().await;
        Self { provider, upstream, gateway }
    }

    /// Alice's token of Entra.
    fn user(&self) -> Token {
        Token::entra_v2(&self.provider.entra_issuer())
    }

    /// A daemon's, with this role.
    fn app(&self, role: &str) -> Token {
        Token::entra_app(&self.provider.entra_issuer()).claim("roles", json!([role]))
    }

    async fn call(&self, method: Method, target: &str, token: &Token) -> Reply {
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header("authorization", bearer(&token.build()));
        self.gateway.client().await.send(request, "").await
    }

    /// GET; the request reached the upstream.
    async fn served(&self, target: &str, token: &Token) {
        let before = self.upstream.count();
        let reply = self.call(Method::GET, target, token).await;
        assert_eq!(reply.status, 200, "{target}: {reply:?}\n{}", self.gateway.log().text());
        assert_eq!(self.upstream.count(), before + 1, "{target}");
    }

    /// The answer is this one, and nobody else heard of the request.
    async fn refused(
        &self,
        method: Method,
        target: &str,
        token: &Token,
        (status, code): (u16, &str),
    ) -> Reply {
        let before = (self.upstream.count(), self.provider.count(Endpoint::Token));
        let reply = self.call(method, target, token).await;
        let log = self.gateway.log().text();
        assert_eq!(reply.outcome(), (status, code.to_owned()), "{target}\n{log}");
        let after = (self.upstream.count(), self.provider.count(Endpoint::Token));
        assert_eq!(after, before, "{target}");
        reply
    }

    /// What the upstream was shown last: a token of the provider, issued for that.
    fn shown(&self) -> Issued {
        let token = self.upstream.last().bearer().expect("it was shown a token");
        self.provider.issued(&token).expect("the provider issued it")
    }

    /// Who stands behind what the upstream was shown last, and for what.
    fn shown_for(&self) -> (String, String) {
        let issued = self.shown();
        (issued.user, issued.scope)
    }
}

fn of(user: &str, scope: &str) -> (String, String) {
    (user.to_owned(), scope.to_owned())
}

#[tokio::test]
async fn graph_and_arm() {
    let folder = tempfile::tempdir().unwrap();
    let pem = folder.path().join("app.pem");
    let pair = Pair::rsa();
    std::fs::write(&pem, format!("{}{}", pair.certificate_pem, pair.key_pem)).unwrap();
    let provider = Provider::start();
    provider.expect_proof(pair.as_certificate());
    let pem = pem.to_str().unwrap();
    let world =
        World::start("graph-and-arm", provider, &[("AZURE_CLIENT_CERTIFICATE_PATH", pem)]).await;

    let alice = world.user();
    world.served("/graph/v1.0/me?$select=id", &alice).await;
    assert_eq!(world.upstream.last().target, "/v1.0/me?$select=id");
    assert_eq!(world.shown_for(), of(ALICE, GRAPH));
    world.served("/arm/subscriptions?api-version=2022-12-01", &alice).await;
    assert_eq!(world.upstream.last().target, "/subscriptions?api-version=2022-12-01");
    assert_eq!(world.shown_for(), of(ALICE, ARM));
    let changer = alice.clone().user(BOB).claim("scp", "access_as_user change_as_user");
    let reply = world.call(Method::PATCH, "/graph/v1.0/me", &changer).await;
    assert_eq!((reply.status.as_u16(), world.shown_for()), (200, of(BOB, GRAPH)));

    // The nightly job has the gateway's own token, and only where that is written.
    let job = world.app("Reports.Read");
    world.served("/graph/v1.0/reports/getEmailActivityCounts", &job).await;
    assert!(world.shown().is_gateways_own(), "{:?}", world.shown());
    assert_eq!(world.shown().scope, GRAPH);

    let not_allowed = (403, "caller_not_allowed");
    let no_scope = (403, "insufficient_scope");
    let stranger = alice.clone().claim("tid", OTHER_TENANT);
    world.refused(Method::PATCH, "/graph/v1.0/me", &alice, no_scope).await;
    world.refused(Method::GET, "/graph/v1.0/me", &job, not_allowed).await;
    world.refused(Method::GET, "/arm/subscriptions", &job, not_allowed).await;
    world.refused(Method::GET, "/graph/v1.0/reports/x", &alice, not_allowed).await;
    world.refused(Method::GET, "/graph/v1.0/reports/x", &world.app("Other"), no_scope).await;
    world.refused(Method::GET, "/graph/v1.0/me", &stranger, (401, "token_invalid")).await;
    world.refused(Method::PUT, "/arm/subscriptions", &changer, (405, "method_not_allowed")).await;
}

#[tokio::test]
async fn browser() {
    let app = "https://app.example.com";
    let world = World::start(
        "browser",
        Provider::start(),
        &[("AZURE_CLIENT_SECRET", CLIENT_SECRET), ("APP_ORIGIN", app)],
    )
    .await;
    let alice = world.user();
    for _ in 0..30 {
        world.served("/graph/v1.0/me", &alice).await;
    }
    assert_eq!(world.shown_for(), of(ALICE, GRAPH));
    let reply = world.refused(Method::GET, "/graph/v1.0/me", &alice, (429, "rate_limited")).await;
    assert_eq!(reply.header("retry-after"), Some("1"));
    world.served("/graph/v1.0/me", &world.user().user(BOB)).await;

    let before = world.upstream.count();
    let mut client = world.gateway.client().await;
    let preflight = |origin: &'static str| {
        let preflight = Request::options("/graph/v1.0/me").header("origin", origin);
        let preflight = preflight.header("access-control-request-method", "PATCH");
        preflight.header("access-control-request-headers", "authorization,prefer")
    };
    let reply = client.send(preflight(app), "").await;
    assert_eq!(reply.header("access-control-allow-origin"), Some(app));
    assert_eq!(reply.header("access-control-allow-methods"), Some("PATCH"));
    let reply = client.send(preflight("https://evil.example"), "").await;
    assert_eq!(reply.header("access-control-allow-origin"), None);
    let reply = client.send(Request::get("/graph/v1.0/me").header("origin", app), "").await;
    assert_eq!(reply.outcome(), (401, "token_missing".to_owned()));
    assert_eq!(reply.header("access-control-allow-origin"), Some(app));
    assert_eq!(
        reply.header("access-control-expose-headers"),
        Some("www-authenticate, x-request-id, retry-after, etag")
    );
    for _ in 0..10 {
        let reply = client.send(Request::get("/status").header("origin", "null"), "").await;
        assert_eq!(
            (reply.status.as_u16(), reply.header("access-control-allow-origin")),
            (200, Some("*"))
        );
    }
    assert_eq!(client.get("/status").await.outcome(), (429, "rate_limited".to_owned()));
    assert_eq!(world.upstream.count(), before);
}

#[tokio::test]
async fn multi_tenant() {
    let provider = Provider::start();
    provider.publish_for_all(&[keys::rsa()]);
    let world = World::start(
        "multi-tenant",
        provider,
        &[
            ("AZURE_CLIENT_SECRET", CLIENT_SECRET),
            ("OWN_TENANT_ID", TENANT),
            ("CUSTOMER_TENANT_ID", OTHER_TENANT),
        ],
    )
    .await;
    let own = world.user();
    let customer = world.user().of_tenant(OTHER_TENANT).user(BOB);
    for (token, tenant, user) in [(&own, TENANT, ALICE), (&customer, OTHER_TENANT, BOB)] {
        world.served("/graph/v1.0/me", token).await;
        let shown = world.shown();
        assert_eq!((&*shown.tenant, &*shown.user, &*shown.scope), (tenant, user, GRAPH));

        // The service has no token; it is told whom it serves, whatever the caller says.
        let request = Request::get("/orders/1")
            .header("authorization", bearer(&token.build()))
            .header("x-tenant-id", STRANGER);
        let reply = world.gateway.client().await.send(request, "").await;
        let seen = world.upstream.last();
        assert_eq!((reply.status.as_u16(), seen.bearer()), (200, None));
        assert_eq!(seen.value("x-tenant-id").as_deref(), Some(tenant));
        assert_eq!(seen.value("x-user-id").as_deref(), Some(user));
    }
    world.served("/orders/admin/settings", &own).await;

    let stranger = world.user().of_tenant(STRANGER);
    world.refused(Method::GET, "/graph/v1.0/me", &stranger, (401, "token_invalid")).await;
    let not_allowed = (403, "caller_not_allowed");
    world.refused(Method::GET, "/orders/admin/settings", &customer, not_allowed).await;
}

/// A token of a cluster's service account.
fn service_account(number: u32) -> String {
    let token = Token::entra_v2("https://cluster.example").claim("number", number).build();
    registry::secret(&token);
    token
}

#[tokio::test]
async fn aks_workload_identity() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("azure-identity-token");
    let (first, next) = (service_account(1), service_account(2));
    std::fs::write(&file, &first).unwrap();
    let provider = Provider::start();
    provider.expect_proof(Proof::Federated(first.clone()));
    let path = file.to_str().unwrap();
    let world = World::start(
        "aks-workload-identity",
        provider,
        &[("AZURE_FEDERATED_TOKEN_FILE", path), ("SHUTDOWN_DELAY", "0s")],
    )
    .await;

    world.served("/graph/v1.0/me", &world.user()).await;
    assert_eq!(world.shown_for(), of(ALICE, GRAPH));

    // The cluster rotates its token; from now on Entra takes the new one alone.
    rotate(&file, &next);
    world.provider.expect_proof(Proof::Federated(next));
    world.served("/graph/v1.0/me", &world.user().user(BOB)).await;
    assert_eq!(world.shown_for(), of(BOB, GRAPH));

    let not_allowed = (403, "caller_not_allowed");
    world.refused(Method::GET, "/graph/v1.0/me", &world.app("Any"), not_allowed).await;
    // A token that Entra does not know is the gateway's trouble, not the caller's.
    rotate(&file, &first);
    let carol = world.user().user("ca401000-0000-4000-8000-000000000003");
    let reply = world.call(Method::GET, "/graph/v1.0/me", &carol).await;
    assert_eq!(reply.outcome(), (502, "exchange_failed".to_owned()));
    assert_eq!(world.upstream.count(), 2);
}

/// Puts `token` in the place of the file, as the kubelet does.
fn rotate(file: &Path, token: &str) {
    let beside = file.with_extension("new");
    std::fs::write(&beside, token).unwrap();
    std::fs::rename(beside, file).unwrap();
}

#[tokio::test]
async fn managed_identity() {
    const IDENTITY: &str = "99999999-7777-8888-9999-000000000000";
    let (host, provider) = (MetadataHost::imds(), Provider::start());
    let assertion = "eyJ-it-examples-managed-identity-assertion";
    host.script(TokenAnswer::json(
        200,
        &json!({"access_token": assertion, "expires_in": "3599", "token_type": "Bearer"}),
    ));
    provider.expect_proof(Proof::Federated(assertion.to_owned()));
    let platform = host.variables();
    let mut variables = vec![("MANAGED_IDENTITY_CLIENT_ID", IDENTITY)];
    variables.extend(platform.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let world = World::start("managed-identity", provider, &variables).await;

    // The identity proves who the gateway is; the token is the caller's.
    world.served("/graph/v1.0/me", &world.user()).await;
    assert_eq!(world.shown_for(), of(ALICE, GRAPH));
    assert_eq!(host.asked(), [Asked::user("api://AzureADTokenExchange", IDENTITY)]);

    // The vault is shown the identity's own token, whoever calls.
    world.served("/vault/secrets/signing-key?api-version=7.4", &world.app("Vault.Read")).await;
    let seen = world.upstream.last();
    assert_eq!(seen.target, "/secrets/signing-key?api-version=7.4");
    let shown = host.issued(&seen.bearer().unwrap());
    assert_eq!(shown, Some(Asked::user("https://vault.azure.net", IDENTITY)));

    let asked = host.asked().len();
    let no_role = (403, "insufficient_scope");
    let key = "/vault/secrets/signing-key";
    world.refused(Method::GET, key, &world.user(), no_role).await;
    world.refused(Method::GET, key, &world.app("Other"), no_role).await;
    let reader = world.app("Vault.Read");
    let no_route = (404, "route_not_found");
    world.refused(Method::GET, "/vault/secrets/other", &reader, no_route).await;
    world.refused(Method::PUT, key, &reader, (405, "method_not_allowed")).await;
    assert_eq!(host.asked().len(), asked, "who is refused costs the host nothing");
}

#[tokio::test]
async fn keycloak_token_exchange() {
    let provider = Provider::start();
    provider.expect_proof(Proof::Basic(CLIENT_SECRET.to_owned()));
    let issuer = provider.oidc_issuer();
    let world = World::start(
        "keycloak-token-exchange",
        provider,
        &[
            ("KEYCLOAK_ISSUER", &issuer),
            ("KEYCLOAK_CLIENT_ID", OIDC_CLIENT),
            ("KEYCLOAK_CLIENT_SECRET", CLIENT_SECRET),
        ],
    )
    .await;
    let alice = Token::oidc(&issuer)
        .header("typ", "JWT")
        .without("client_id")
        .claim("typ", "Bearer")
        .claim("azp", "web")
        .claim("aud", json!([OIDC_CLIENT, "account"]))
        .claim("sub", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6")
        .claim("realm_access", json!({"roles": ["offline_access", "billing-user"]}))
        .claim("scope", "openid profile email");
    world.served("/billing/invoices/1", &alice).await;
    assert_eq!(world.upstream.last().target, "/invoices/1");
    let shown = world.shown();
    assert_eq!(shown.grant, "urn:ietf:params:oauth:grant-type:token-exchange");
    assert_eq!(shown.user, "f81d4fae-7dec-11d0-a765-00a0c91e6bf6");
    assert_eq!((shown.audiences, &*shown.scope), (vec!["billing".to_owned()], ""));

    let get = Method::GET;
    let roleless = alice.clone().claim("realm_access", json!({"roles": ["offline_access"]}));
    world.refused(get.clone(), "/billing/1", &roleless, (403, "insufficient_scope")).await;
    let invalid = (401, "token_invalid");
    let not_ours = alice.clone().claim("aud", "account");
    world.refused(get.clone(), "/billing/1", &not_ours, invalid).await;
    world.refused(get, "/billing/1", &alice.claim("typ", "ID"), invalid).await;
}

#[tokio::test]
async fn mcp_server() {
    let world = World::start(
        "mcp-server",
        Provider::start(),
        &[
            ("AZURE_CLIENT_SECRET", CLIENT_SECRET),
            ("PUBLIC_URL", PUBLIC_URL),
            ("MCP_CLIENT_ID", CALLER_CLIENT),
        ],
    )
    .await;
    let message = r#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"#;

    // A client that knows the URL alone is told where to ask …
    let mut client = world.gateway.client().await;
    let reply = client.send(Request::post("/mcp"), message).await;
    assert_eq!(reply.outcome(), (401, "token_missing".to_owned()));
    let metadata = format!("{PUBLIC_URL}/.well-known/oauth-protected-resource/mcp");
    let named = format!("resource_metadata=\"{metadata}\"");
    let challenge = reply.header("www-authenticate").unwrap();
    assert!(challenge.ends_with(&named), "{challenge}");

    // … and there, whom and for what.
    let reply = client.get(metadata.strip_prefix(PUBLIC_URL).unwrap()).await;
    assert_eq!(reply.status, 200);
    let document = reply.json();
    let resource = format!("{PUBLIC_URL}/mcp");
    assert_eq!(document["resource"], resource);
    // Entra takes `resource` only beside a scope that begins with it.
    assert_eq!(document["scopes_supported"], json!([format!("{resource}/access_as_user")]));
    let issuer = document["authorization_servers"][0].as_str().unwrap();
    let server = fetch(&format!("{issuer}/.well-known/openid-configuration")).await.unwrap();
    assert_eq!(server.json()["issuer"], issuer);

    // With a token it reaches the server, whose events arrive as they are sent.
    let (answer, events) = Answer::stream();
    let mut answer = Some(
        answer.header("content-type", "text/event-stream").header("mcp-session-id", "session-1"),
    );
    world.upstream.answer(move |_| answer.take().unwrap_or_else(|| Answer::ok("ok")));
    let token = Token::entra_v2(issuer);
    let request = Request::post("/mcp")
        .header("authorization", bearer(&token.build()))
        .header("accept", "application/json, text/event-stream")
        .header("content-type", "application/json")
        .header("mcp-protocol-version", "2025-06-18");
    let answer = client.start(request.body(full(message)).unwrap()).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["mcp-session-id"]),
        (200, &"session-1".parse().unwrap())
    );
    let mut body = answer.into_body();
    for event in ["data: {\"progress\":1}\n\n", "data: {\"result\":{}}\n\n"] {
        events.send(Ok(Bytes::from(event))).await.unwrap();
        let frame = within("the event", body.frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), event);
    }
    drop(events);
    within("the end of the stream", body.collect()).await.unwrap();
    let seen = world.upstream.last();
    assert_eq!((seen.target.as_str(), &*seen.body.start), ("/mcp", message.as_bytes()));
    assert_eq!(seen.value("mcp-protocol-version").as_deref(), Some("2025-06-18"));
    assert_eq!(world.shown_for(), of(ALICE, "api://mcp-server/.default"));

    // The stream of the server's own, and the end of the session.
    world.served("/mcp", &token).await;
    assert_eq!(world.call(Method::DELETE, "/mcp", &token).await.status, 200);

    let foreign = token.clone().claim("azp", STRANGER);
    world.refused(Method::POST, "/mcp", &foreign, (403, "caller_not_allowed")).await;
    let app = Token::entra_app(issuer);
    world.refused(Method::POST, "/mcp", &app, (403, "caller_not_allowed")).await;
    let invalid = token.claim("aud", "https://mcp.example.com");
    let reply = world.refused(Method::POST, "/mcp", &invalid, (401, "token_invalid")).await;
    assert!(reply.header("www-authenticate").unwrap().ends_with(&named), "{reply:?}");
}

#[tokio::test]
async fn websockets() {
    let provider = Provider::start();
    let sockets = WebSocketUpstream::start();
    let url = sockets.url();
    let world = World::start("websocket", provider, &[("ORDERS_URL", &url)]).await;
    let token = world.user().build();
    for (path, token, status) in [
        ("/feed", Some(&token), 101),
        ("/jobs/1/log", Some(&token), 101),
        ("/orders/1", Some(&token), 400),
        ("/feed", None, 401),
    ] {
        let mut caller = Raw::connect(world.gateway.address()).await;
        let fields = token.map(|token| format!("authorization: {}\r\n", bearer(token)));
        caller.send(handshake(path, &fields.unwrap_or_default()).as_bytes()).await;
        assert_eq!(caller.reply().await.unwrap().status, status, "{path}");
        if status == 101 {
            caller.send(&text("hello")).await;
            assert_eq!(caller.exactly(11).await, text("hello"));
        }
    }
    let heads = sockets.heads();
    assert_eq!(heads.len(), 2);
    assert!(heads[0].contains(&format!("x-user-id: {ALICE}\r\n")), "{}", heads[0]);
}

#[tokio::test]
async fn one_service_on_three_machines() {
    let provider = Provider::start();
    let path = format!("{}/examples/balanced.yaml", env!("CARGO_MANIFEST_DIR"));
    let example = std::fs::read_to_string(path).unwrap();
    let machines = [(); 3].map(|()| Upstream::start());
    let (base, urls) = (provider.base(), [0, 1, 2].map(|index: usize| machines[index].url()));
    let variables = [
        ("LISTEN_ADDRESS", "127.0.0.1:0"),
        ("ADMIN_ADDRESS", "127.0.0.1:0"),
        ("AZURE_TENANT_ID", TENANT),
        ("AZURE_CLIENT_ID", CLIENT_ID),
        ("AZURE_CLIENT_SECRET", CLIENT_SECRET),
        ("AZURE_AUTHORITY_HOST", &base),
        ("ORDERS_1_URL", &urls[0]),
        ("ORDERS_2_URL", &urls[1]),
        ("ORDERS_3_URL", &urls[2]),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let gateway = Gateway::start_in(&variables, &example);
    gateway.ready().await;
    machines[1].stop().await;
    let token = bearer(&Token::entra_v2(&provider.entra_issuer()).build());
    let mut client = gateway.client().await;
    for _ in 0..20 {
        let request = Request::get("/orders/1").header("authorization", token.clone());
        assert_eq!(client.send(request, "").await.status, 200);
    }
    let request = Request::get("/orders/1");
    assert_eq!(client.send(request, "").await.outcome(), (401, "token_missing".into()));
    let served = |index: usize| {
        let seen = machines[index].seen();
        seen.iter().filter(|seen| seen.target == "/orders/1").count()
    };
    assert_eq!((served(0) + served(2), served(1)), (20, 0));
}
