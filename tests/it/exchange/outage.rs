//! A provider that goes away for a while, throttles or hangs, on virtual time.

use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet};

use crate::support::client::{Client, Reply};
use crate::support::clock::START;
use crate::support::gate::Gate;
use crate::support::gateway::Gateway;
use crate::support::obo::Answer;
use crate::support::provider::{Endpoint, Provider, Reply as Scripted};
use crate::support::token::{ALICE, BOB, CLIENT_ID, TENANT, Token};
use crate::support::upstream::Upstream;
use crate::support::within;

fn routes_file(provider: &Provider, upstream: &Upstream) -> String {
    format!(
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
    timeout: {CALL_TIMEOUT}s
upstreams:
  graph: {{ url: "{}" }}
routes:
  - {{ match: {{ path: /me }}, auth: any, upstream: graph, token: {{ on_behalf_of: {{ scopes: ["api://x/.default"] }} }} }}
  - {{ match: {{ path: /plain }}, auth: any, upstream: graph }}
"#,
        provider.base(),
        upstream.url(),
    )
}

/// Outbound tokens live this long, and are due for renewal from 1150 s to 1504 s.
const LIFE: u64 = 1800;

/// Time of one call, in seconds: longer than time is made to jump, as a call that is on its way
/// over a real socket would be over at once.
const CALL_TIMEOUT: u64 = 20;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A gateway in virtual time, its provider and its upstream.
struct World {
    provider: Provider,
    upstream: Upstream,
    gateway: Gateway,
}

impl World {
    async fn start() -> Self {
        let (provider, upstream) = (Provider::start(), Upstream::start());
        provider.set_expires_in(Some(LIFE));
        let gateway = Gateway::start_in_virtual_time(&routes_file(&provider, &upstream));
        gateway.ready().await;
        Self { provider, upstream, gateway }
    }

    fn token(&self, user: &str) -> String {
        Token::entra_v2(&self.provider.entra_issuer())
            .user(user)
            .claim("exp", START.0 + 7200)
            .build()
    }

    async fn pass(&self, by: u64) {
        self.gateway.pass(seconds(by)).await;
    }

    /// One request for each of `tokens`, side by side.
    async fn all_ask(&self, tokens: &[String]) -> Vec<(u16, String)> {
        let connection = self.gateway.client_http2().await;
        let mut calls = JoinSet::new();
        for token in tokens {
            let (mut client, token) = (connection.beside(), token.clone());
            calls.spawn(async move { client.get_with("/me", &token).await.outcome() });
        }
        within("all answers", calls.join_all()).await
    }

    /// Begins a request: when this is over it waits at the gateway, or has its answer.
    async fn begin(&self, token: &str) -> JoinHandle<Reply> {
        self.gateway.metrics_when("\nobo_gateway_requests_in_flight 0\n").await;
        let (address, token) = (self.gateway.address(), token.to_owned());
        let request =
            tokio::spawn(async move { Client::http1(address).await.get_with("/me", &token).await });
        let arrived = async { while !request.is_finished() && !self.is_being_answered().await {} };
        within("a request that arrives", arrived).await;
        request
    }

    /// Whether a request is being answered, once all has happened for which time has come: the
    /// gateway's one thread does that before it comes round to tell.
    async fn is_being_answered(&self) -> bool {
        !self.gateway.metrics().await.contains("\nobo_gateway_requests_in_flight 0\n")
    }

    /// A request that waits at a provider's mercy: time passes in quarter seconds until it is
    /// answered.
    async fn ask_patiently(&self, token: &str) -> Reply {
        let request = self.begin(token).await;
        let mut quarters = 0;
        while self.is_being_answered().await {
            assert!(quarters < 400, "there is no answer");
            self.gateway.pass(Duration::from_millis(250)).await;
            quarters += 1;
        }
        within("the answer", request).await.unwrap()
    }

    async fn failed_exchanges(&self) -> u64 {
        let metrics = self.gateway.metrics().await;
        let line = metrics.lines().find(|line| {
            line.starts_with("obo_gateway_exchanges_total") && line.contains("provider_unavailable")
        });
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }
}

fn all_served(outcomes: &[(u16, String)]) -> bool {
    outcomes.iter().all(|outcome| *outcome == (200, String::new()))
}

#[tokio::test]
async fn ten_minutes_without_a_provider_cost_nobody_with_a_token_anything() {
    const USERS: usize = 60;
    let world = World::start().await;
    let users = (0..USERS).map(|n| format!("{n:08x}-0000-4000-8000-000000000001"));
    let tokens: Vec<String> = users.map(|user| world.token(&user)).collect();
    assert!(all_served(&world.all_ask(&tokens).await));
    assert_eq!(world.provider.issued_count(), USERS);

    world.pass(1000).await;
    world.provider.stop().await;
    for step in 0..60 {
        assert!(all_served(&world.all_ask(&tokens).await), "{} s into the outage", step * 10);
        world.pass(10).await;
    }
    // Everybody's token was due all the while and was asked for twice a minute; without the
    // breaker that would be some thousand calls.
    let failed = world.failed_exchanges().await;
    assert!((40..=400).contains(&failed), "{failed} calls");

    // The keys are still there: new callers are known, but can't be given a new token.
    let carol = world.token("ca401000-0000-4000-8000-000000000001");
    let mut client = world.gateway.client().await;
    assert_eq!(client.get_with("/plain", &carol).await.status, 200);
    let refused = world.ask_patiently(&carol).await;
    assert_eq!(refused.outcome(), (503, "provider_unavailable".to_owned()));
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=5).contains(&wait), "{wait}");

    world.provider.start_again();
    let calls = world.provider.count(Endpoint::Token);
    for _ in 0..14 {
        let issued = world.provider.issued_count();
        assert!(all_served(&world.all_ask(&tokens).await));
        world.pass(10).await;
        assert!(world.provider.issued_count() - issued <= 48, "more than renewals may take");
    }
    assert_eq!(world.provider.issued_count(), 2 * USERS, "one new token for everybody");
    assert_eq!(world.provider.count(Endpoint::Token) - calls, USERS, "and one call for each");
    let mut client = world.gateway.client().await;
    assert_eq!(client.get_with("/me", &carol).await.status, 200);
    let log = world.gateway.log().text();
    assert_eq!(log.matches("calls to the token endpoint").count(), 1, "one line says so");
    assert_eq!(log.matches("answers again").count(), 1, "and one that it is over");
}

#[tokio::test]
async fn a_provider_that_hangs_holds_up_nobody_with_a_token_to_its_very_end() {
    let world = World::start().await;
    let alice = world.token(ALICE);
    let mut client = world.gateway.client().await;
    assert_eq!(client.get_with("/me", &alice).await.status, 200);
    world.provider.always(Endpoint::Token, Scripted::Hang);
    world.pass(LIFE - 31).await;
    // Due, and fresh: at once.
    let mut client = world.gateway.client().await;
    assert_eq!(client.get_with("/me", &alice).await.status, 200);
    world.provider.called(Endpoint::Token, 2).await;
    // Stale: after a second.
    world.pass(1).await;
    let request = world.begin(&alice).await;
    world.gateway.pass(Duration::from_millis(900)).await;
    assert!(world.is_being_answered().await, "it waits for the provider, for a second");
    assert_eq!(world.upstream.count(), 2);
    world.gateway.pass(Duration::from_millis(200)).await;
    assert_eq!(within("an answer before the call's end", request).await.unwrap().status, 200);
    assert!(world.gateway.metrics().await.contains(r#"upstream="graph",result="stale"} 1"#));
    // And over.
    world.pass(30).await;
    let refused = world.ask_patiently(&alice).await;
    assert_eq!(refused.outcome(), (503, "provider_unavailable".to_owned()));
    assert_eq!(world.upstream.count(), 3);
    let seen = world.upstream.seen();
    assert!(seen.iter().all(|other| other.bearer() == seen[0].bearer()));
}

#[tokio::test]
async fn a_provider_that_throttles_is_left_alone_and_its_tokens_are_served() {
    let world = World::start().await;
    let tokens = [world.token(ALICE), world.token(BOB)];
    assert!(all_served(&world.all_ask(&tokens).await));
    world.pass(1510).await;
    let throttled = Answer::json(429, &serde_json::json!({})).header("retry-after", "100");
    world.provider.always(Endpoint::Token, Scripted::Answer(throttled));
    for _ in 0..9 {
        assert!(all_served(&world.all_ask(&tokens).await));
        world.pass(10).await;
    }
    // Both may have been on their way when the first was told to wait.
    let calls = world.provider.count(Endpoint::Token) - tokens.len();
    assert!((1..=2).contains(&calls), "{calls}");
    world.provider.always(Endpoint::Token, Scripted::Usual);
    for _ in 0..12 {
        world.pass(10).await;
        assert!(all_served(&world.all_ask(&tokens).await));
    }
    assert_eq!(world.provider.issued_count(), 2 * tokens.len());
}

#[tokio::test]
async fn a_user_who_is_blocked_is_out_with_the_next_renewal() {
    let world = World::start().await;
    let alice = world.token(ALICE);
    assert_eq!(world.gateway.client().await.get_with("/me", &alice).await.status, 200);
    world.pass(1600).await;
    let blocked = Answer::aadsts(400, "invalid_grant", 50_057);
    world.provider.always(Endpoint::Token, Scripted::Answer(blocked));
    let mut client = world.gateway.client().await;
    assert_eq!(client.get_with("/me", &alice).await.status, 200);
    world.gateway.metrics_when("outcome=\"token_invalid\"").await;
    for _ in 0..20 {
        let reply = client.get_with("/me", &alice).await;
        if reply.status == 200 {
            continue; // The refusal was counted, and is being written down.
        }
        assert_eq!(reply.outcome(), (401, "token_invalid".to_owned()));
    }
    assert_eq!(client.get_with("/me", &alice).await.outcome().0, 401);
    assert_eq!(world.provider.count(Endpoint::Token), 2, "it is remembered");
    let refused = |event: &serde_json::Map<_, _>| event["status"] == 401;
    let events = world.gateway.log().access_events_when(1, refused).await;
    assert!(events[0]["reason"].as_str().unwrap().contains("the provider was not asked again"));
}

#[tokio::test]
async fn a_refusal_of_the_gateway_is_given_again_until_a_reload() {
    let world = World::start().await;
    let refused = Answer::aadsts(401, "invalid_client", 7_000_222);
    world.provider.script(Endpoint::Token, Scripted::Answer(refused));
    let mut client = world.gateway.client().await;
    for user in [ALICE, BOB, ALICE] {
        let reply = client.get_with("/me", &world.token(user)).await;
        assert_eq!(reply.outcome(), (502, "exchange_failed".to_owned()));
    }
    assert_eq!(world.provider.count(Endpoint::Token), 1);
    world.gateway.reload();
    for user in [ALICE, BOB] {
        assert_eq!(client.get_with("/me", &world.token(user)).await.status, 200);
    }
    assert_eq!(world.upstream.count(), 2);
}

#[tokio::test]
async fn no_more_exchanges_go_at_once_than_the_file_says() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let file = routes_file(&provider, &upstream);
    let narrow = file.replace("type: entra\n", "type: entra\n    max_in_flight: 2\n");
    let gateway = Gateway::start_in_virtual_time(&narrow);
    gateway.ready().await;
    let world = World { provider, upstream, gateway };
    let gate = Gate::new();
    let held = Scripted::Held(gate.clone(), Box::new(Scripted::Usual));
    world.provider.always(Endpoint::Token, held);
    let users = (0..8).map(|n| format!("{n:08x}-0000-4000-8000-000000000001"));
    let tokens: Vec<String> = users.map(|user| world.token(&user)).collect();
    let all = async {
        gate.arrived(2).await;
        // Time stands still: nobody who waits gives up. A third would come at any moment.
        for _ in 0..20 {
            assert_eq!(world.gateway.client().await.get("/me").await.status, 401);
        }
        assert_eq!(world.provider.count(Endpoint::Token), 2);
        // The file is read again, and two more may go.
        world
            .gateway
            .write_file(&file.replace("type: entra\n", "type: entra\n    max_in_flight: 4\n"));
        world.gateway.reload();
        gate.arrived(4).await;
        assert_eq!(world.provider.count(Endpoint::Token), 4);
        gate.open();
    };
    let (outcomes, ()) = futures_util::future::join(world.all_ask(&tokens), all).await;
    assert!(all_served(&outcomes), "{outcomes:?}");
}
