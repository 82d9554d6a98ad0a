//! How a token is asked for: each grant end to end, in the caller's name or the gateway's. The
//! provider checks every parameter of every form; see `support/grants.rs`.

use http::Request;
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::client::Client;
use crate::support::gateway::Gateway;
use crate::support::obo::{Answer, Issued};
use crate::support::provider::{Endpoint, Provider, Reply};
use crate::support::token::{
    ALICE, BOB, CLIENT_ID, OIDC_AUDIENCE, OIDC_CLIENT, TENANT, Token, bearer,
};
use crate::support::upstream::Upstream;

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const OWN: &str = "client_credentials";

struct World {
    provider: Provider,
    upstream: Upstream,
    gateway: Gateway,
}

impl World {
    /// An Entra tenant and an OIDC issuer that exchanges by `exchange`; upstream `api` with that
    /// `token`, and these routes.
    async fn start(exchange: &str, token: &str, routes: &str) -> Self {
        let (provider, upstream) = (Provider::start(), Upstream::start());
        let gateway = Gateway::start(&format!(
            r#"
listeners: [{{ address: "127.0.0.1:0" }}]
admin: {{ address: "127.0.0.1:0" }}
providers:
  entra:
    type: entra
    tenant: {TENANT}
    authority: {}
    client_id: {CLIENT_ID}
    credential: {{ client_secret: "${{CLIENT_SECRET}}" }}
  sso:
    type: oidc
    issuer: {}
    audiences: [{OIDC_AUDIENCE}, also-ours]
    client_id: {OIDC_CLIENT}
    credential: {{ client_secret_post: "${{CLIENT_SECRET}}" }}
    exchange: {exchange}
upstreams:
  api: {{ url: "{}", token: {{ {token} }} }}
routes:
{routes}
"#,
            provider.base(),
            provider.oidc_issuer(),
            upstream.url(),
        ));
        gateway.ready().await;
        Self { provider, upstream, gateway }
    }

    async fn client(&self) -> Client {
        self.gateway.client().await
    }

    /// What the last token that the upstream was shown stands for.
    fn issued(&self) -> Issued {
        let bearer = self.upstream.last().bearer().expect("a token");
        self.provider.issued(&bearer).expect("the provider issued it")
    }

    fn user(&self) -> Token {
        Token::entra_v2(&self.provider.entra_issuer())
    }

    fn daemon(&self) -> String {
        Token::entra_app(&self.provider.entra_issuer()).build()
    }

    fn sso_user(&self) -> Token {
        Token::oidc(&self.provider.oidc_issuer())
    }
}

const ONE_ROUTE: &str = "  - { match: { path: '/{*rest}' }, auth: any, upstream: api }";

#[tokio::test]
async fn a_token_is_exchanged_for_audiences_resources_and_scopes() {
    let token = "on_behalf_of: { provider: sso, scopes: [read, write], audience: [stock, bills], \
                 resource: 'https://stock.example/', extra_parameters: { organization: 'a&b=c' } }";
    let world = World::start("token_exchange", token, ONE_ROUTE).await;
    world.provider.expect_parameter("organization", "a&b=c");
    let inbound = world.sso_user().build();
    let mut client = world.client().await;
    for _ in 0..2 {
        assert_eq!(client.get_with("/x", &inbound).await.status, 200);
        assert_eq!(
            world.issued(),
            Issued {
                grant: EXCHANGE.into(),
                assertion: inbound.clone(),
                user: "alice".into(),
                scope: "read write".into(),
                audiences: vec!["stock".into(), "bills".into()],
                resources: vec!["https://stock.example/".into()],
                tenant: String::new(),
            }
        );
    }
    assert_eq!(world.provider.count(Endpoint::Token), 1);
}

#[tokio::test]
async fn what_a_caller_sends_changes_nothing_of_what_is_asked_for() {
    let token = "on_behalf_of: { audience: stock }";
    let routes = "  - { match: { path: '/{*rest}' }, auth: { providers: [sso] }, upstream: api }";
    let world = World::start("token_exchange", token, routes).await;
    let plain = world.sso_user().build();
    // The provider refuses a parameter that is unknown or repeated; the rest is compared.
    let loaded = world
        .sso_user()
        .claim("tid", "aaaaaaaa-2222-3333-4444-555555555555")
        .claim("resource", "https://elsewhere.example")
        .claim("requested_token_type", "x")
        .claim("may_act", json!({ "sub": "me" }))
        .build();
    let mut client = world.client().await;
    assert_eq!(client.get_with("/x", &plain).await.status, 200);
    let request = Request::post("/x?audience=elsewhere&scope=all&grant_type=password")
        .header("authorization", bearer(&loaded))
        .header("content-type", "application/x-www-form-urlencoded")
        .header("audience", "elsewhere");
    let reply = client.send(request, "audience=elsewhere&client_id=me&subject_token=x").await;
    assert_eq!(reply.status, 200);
    let forms = world.provider.forms();
    let [first, second] = &forms[..] else { panic!("{} forms", forms.len()) };
    assert_eq!(first.path, second.path);
    let but_the_token = |form: &crate::support::obo::Form| -> Vec<_> {
        form.fields.iter().filter(|(name, _)| name != "subject_token").cloned().collect()
    };
    assert_eq!(but_the_token(first), but_the_token(second));
    assert_eq!(second.field("subject_token"), Some(&*loaded));
}

#[tokio::test]
async fn a_callers_token_is_the_grant_where_the_provider_takes_it() {
    let token = "on_behalf_of: { provider: sso, scopes: [read] }";
    let world = World::start("jwt_bearer", token, ONE_ROUTE).await;
    let inbound = world.sso_user().build();
    assert_eq!(world.client().await.get_with("/x", &inbound).await.status, 200);
    let issued = world.issued();
    assert_eq!((issued.grant.as_str(), issued.scope.as_str()), (JWT_BEARER, "read"));
    assert_eq!((issued.assertion, issued.user.as_str()), (inbound, "alice"));
    assert_eq!(world.provider.forms()[0].field("requested_token_use"), None);
}

#[tokio::test]
async fn each_provider_exchanges_its_own_callers() {
    let token = "on_behalf_of: { scopes: ['api://x/read'] }";
    let world = World::start("token_exchange", token, ONE_ROUTE).await;
    let (entra, sso) = (world.user().build(), world.sso_user().build());
    let mut client = world.client().await;
    for _ in 0..2 {
        for (token, grant, user, tenant) in
            [(&entra, JWT_BEARER, ALICE, TENANT), (&sso, EXCHANGE, "alice", "")]
        {
            assert_eq!(client.get_with("/x", token).await.status, 200);
            let issued = world.issued();
            assert_eq!(
                (issued.grant.as_str(), issued.user.as_str(), issued.tenant.as_str()),
                (grant, user, tenant)
            );
        }
    }
    assert_eq!(world.provider.count(Endpoint::Token), 2);
}

#[tokio::test]
async fn a_hundred_users_share_one_token_of_the_gateways_own() {
    let token = "client_credentials: { scopes: ['api://x/.default'] }";
    let routes = "  - { match: { path: '/{*rest}' }, auth: { providers: [entra] }, upstream: api }";
    let world = World::start("token_exchange", token, routes).await;
    let mut calls = JoinSet::new();
    for number in 0..100 {
        let user = format!("a11ce000-0000-4000-8000-{number:012}");
        let inbound = world.user().user(&user).build();
        let address = world.gateway.address();
        calls.spawn(async move {
            let mut client = Client::http1(address).await;
            client.get_with("/x", &inbound).await.status.as_u16()
        });
    }
    let statuses = crate::support::within("all users", calls.join_all()).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    // And an application, and later ones.
    let mut client = world.client().await;
    assert_eq!(client.get_with("/x", &world.daemon()).await.status, 200);
    assert_eq!((world.provider.count(Endpoint::Token), world.provider.issued_count()), (1, 1));
    let issued = world.issued();
    assert!(issued.is_gateways_own(), "{issued:?}");
    assert_eq!((issued.scope.as_str(), issued.tenant.as_str()), ("api://x/.default", TENANT));
    assert_eq!(world.provider.forms()[0].field("grant_type"), Some(OWN));
}

#[tokio::test]
async fn an_open_route_may_use_the_gateways_own_token() {
    let token = "client_credentials: { provider: sso, audience: stock, scopes: [read] }";
    let routes = "  - { match: { path: '/{*rest}' }, auth: none, upstream: api }";
    let world = World::start("token_exchange", token, routes).await;
    let mut client = world.client().await;
    assert_eq!(client.get("/x").await.status, 200);
    // A token that comes along is neither read nor swapped.
    assert_eq!(client.get_with("/x", &world.sso_user().build()).await.status, 200);
    let issued = world.issued();
    assert!(issued.is_gateways_own(), "{issued:?}");
    assert_eq!((issued.audiences, issued.scope.as_str()), (vec!["stock".to_owned()], "read"));
    assert_eq!(world.provider.count(Endpoint::Token), 1);
}

#[tokio::test]
async fn an_application_is_refused_unless_the_file_says_otherwise() {
    let token = "on_behalf_of: { scopes: ['api://x/read'] }";
    let world = World::start("token_exchange", token, ONE_ROUTE).await;
    let mut client = world.client().await;
    let reply = client.get_with("/x", &world.daemon()).await;
    assert_eq!(reply.outcome(), (403, "caller_not_allowed".to_owned()));
    assert_eq!((world.provider.count(Endpoint::Token), world.upstream.count()), (0, 0));
}

const BOTH: &str =
    "on_behalf_of: { scopes: ['api://x/read', openid], app_callers: client_credentials }";

#[tokio::test]
async fn a_daemon_and_a_user_share_a_route_and_no_token() {
    let routes = "  - { match: { path: '/{*rest}' }, auth: { providers: [entra] }, upstream: api }";
    let world = World::start("token_exchange", BOTH, routes).await;
    let (daemon, user) = (world.daemon(), world.user().build());
    let mut client = world.client().await;
    for _ in 0..2 {
        assert_eq!(client.get_with("/x", &daemon).await.status, 200);
        let issued = world.issued();
        assert!(issued.is_gateways_own(), "{issued:?}");
        // Entra gives an application all it was granted at the resource, or nothing.
        assert_eq!(issued.scope, "api://x/.default");

        assert_eq!(client.get_with("/x", &user).await.status, 200);
        let issued = world.issued();
        assert_eq!((issued.grant.as_str(), issued.user.as_str()), (JWT_BEARER, ALICE));
        assert_eq!(
            (issued.scope.as_str(), issued.assertion),
            ("api://x/read openid", user.clone())
        );
    }
    assert_eq!(world.provider.count(Endpoint::Token), 2);
}

#[tokio::test]
async fn a_user_whose_exchange_fails_does_not_get_the_gateways_token() {
    let world = World::start("token_exchange", BOTH, ONE_ROUTE).await;
    let mut client = world.client().await;
    // It is there to be had.
    assert_eq!(client.get_with("/x", &world.daemon()).await.status, 200);
    for (number, (reply, outcome)) in [
        (Answer::aadsts(400, "invalid_grant", 65_001), (403, "consent_required")),
        (Answer::aadsts(400, "invalid_grant", 50_105), (403, "caller_not_allowed")),
        (Answer::aadsts(400, "invalid_grant", 50_076), (401, "claims_challenge")),
        (Answer::aadsts(400, "unauthorized_client", 7_000_114), (502, "exchange_failed")),
        (
            Answer::json(503, &json!({ "error": "temporarily_unavailable" }))
                .header("retry-after", "9"),
            (503, "provider_unavailable"),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        // A refusal is remembered until then, one of the client for all users.
        world.gateway.reload();
        world.provider.script(Endpoint::Token, Reply::Answer(reply));
        let user = world.user().claim("sid", number).build();
        let reply = client.get_with("/x", &user).await;
        assert_eq!(reply.outcome(), (outcome.0, outcome.1.to_owned()));
    }
    assert_eq!(world.upstream.count(), 1, "nothing of theirs was forwarded");
    // The user's throttling is none of the daemon's.
    assert_eq!(client.get_with("/x", &world.daemon()).await.status, 200);
}

#[tokio::test]
async fn what_is_refused_to_the_gateway_is_not_blamed_on_a_caller() {
    let token = "client_credentials: { provider: entra, scopes: ['api://x/.default'] }";
    let world = World::start("token_exchange", token, ONE_ROUTE).await;
    let mut client = world.client().await;
    for (error, number) in [
        ("invalid_grant", 50_013),
        ("invalid_grant", 65_001),
        ("invalid_grant", 53_003),
        ("interaction_required", 50_076),
        ("invalid_client", 7_000_222),
    ] {
        let answer = Answer::aadsts(400, error, number);
        world.gateway.reload();
        world.provider.script(Endpoint::Token, Reply::Answer(answer));
        let user = world.user().claim("sid", number).build();
        let reply = client.get_with("/x", &user).await;
        assert_eq!(reply.outcome(), (502, "exchange_failed".to_owned()), "{number}");
    }
    for event in world.gateway.log().access_events_when(5, |_| true).await {
        let reason = event["reason"].as_str().unwrap();
        assert!(reason.contains("in the gateway's own name"), "{reason}");
    }
}

#[tokio::test]
async fn a_route_has_a_token_of_its_own_in_place_of_the_upstreams() {
    let token = "on_behalf_of: { scopes: ['api://x/read'] }";
    let routes = "  - { match: { path: /upstreams }, auth: { providers: [entra] }, upstream: api }
  - { match: { path: /same }, auth: { providers: [entra] }, upstream: api, token: { on_behalf_of: { scopes: ['api://x/read'] } } }
  - { match: { path: /write }, auth: { providers: [entra] }, upstream: api, token: { on_behalf_of: { scopes: ['api://x/write'] } } }
  - { match: { path: /own }, auth: { providers: [entra] }, upstream: api, token: { client_credentials: { scopes: ['api://x/.default'] } } }
  - { match: { path: /none }, auth: { providers: [entra] }, upstream: api, token: { none: true } }";
    let world = World::start("token_exchange", token, routes).await;
    let mut client = world.client().await;
    for user in [ALICE, BOB] {
        let inbound = world.user().user(user).build();
        for _ in 0..2 {
            for (target, grant, owner, scope) in [
                ("/upstreams", JWT_BEARER, user, "api://x/read"),
                ("/write", JWT_BEARER, user, "api://x/write"),
                ("/own", OWN, "", "api://x/.default"),
                ("/same", JWT_BEARER, user, "api://x/read"),
            ] {
                assert_eq!(client.get_with(target, &inbound).await.status, 200);
                let issued = world.issued();
                assert_eq!(
                    (issued.grant.as_str(), issued.user.as_str(), issued.scope.as_str()),
                    (grant, owner, scope),
                    "{target}"
                );
            }
        }
        assert_eq!(client.get_with("/none", &inbound).await.status, 200);
        assert_eq!(world.upstream.last().bearer(), None);
    }
    // Two for each user, `/same` being the same, and one for the gateway.
    assert_eq!(world.provider.issued_count(), 5);
}

#[tokio::test]
async fn a_provider_refuses_who_is_not_in_the_audience() {
    let token = "on_behalf_of: { provider: sso, audience: stock }";
    let world = World::start("token_exchange", token, ONE_ROUTE).await;
    let mut client = world.client().await;
    let several = world.sso_user().claim("aud", json!(["web", OIDC_AUDIENCE])).build();
    assert_eq!(client.get_with("/x", &several).await.status, 200);
    let other = world.sso_user().claim("aud", "also-ours").build();
    let reply = client.get_with("/x", &other).await;
    assert_eq!(reply.outcome(), (403, "caller_not_allowed".to_owned()));
    assert_eq!(world.upstream.count(), 1);
}

#[tokio::test]
async fn what_is_exchanged_for_must_be_an_access_token() {
    let token = "on_behalf_of: { provider: sso, audience: stock }";
    let world = World::start("token_exchange", token, ONE_ROUTE).await;
    let mut client = world.client().await;
    let urn = |kind: &str| format!("urn:ietf:params:oauth:token-type:{kind}");
    for (number, (kind, issued, status)) in [
        ("N_A", json!(urn("saml2")), 502),
        ("N_A", json!(urn("access_token")), 502),
        ("Bearer", json!(urn("id_token")), 502),
        ("Bearer", json!(urn("refresh_token")), 502),
        ("Bearer", json!([urn("access_token")]), 502),
        ("Bearer", json!(""), 502),
        ("DPoP", json!(urn("access_token")), 502),
        ("bearer", json!(urn("jwt")), 200),
        ("Bearer", json!(urn("access_token")), 200),
        ("Bearer", json!(null), 200),
    ]
    .into_iter()
    .enumerate()
    {
        let outbound = format!("outbound-{number}-{:032x}", fastrand::u128(..));
        crate::support::registry::outbound(&outbound);
        let body = json!({ "access_token": outbound, "token_type": kind, "issued_token_type": issued, "expires_in": 60 });
        world.provider.script(Endpoint::Token, Reply::json(200, &body));
        let inbound = world.sso_user().claim("jti", number.to_string()).build();
        let reply = client.get_with("/x", &inbound).await;
        assert_eq!(reply.status, status, "{body}");
        if status == 200 {
            assert_eq!(world.upstream.last().bearer(), Some(outbound));
        } else {
            assert_eq!(reply.outcome(), (502, "exchange_failed".to_owned()));
        }
    }
    assert_eq!(world.upstream.count(), 3);
}
