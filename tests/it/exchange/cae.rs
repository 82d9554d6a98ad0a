//! Continuous access evaluation: an upstream that asks for a token with more claims.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::Request;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use serde_json::{Value, json};

use crate::support::client::Reply;
use crate::support::clock::START;
use crate::support::gate::Gate;
use crate::support::gateway::Gateway;
use crate::support::obo::{Answer as TokenAnswer, file_before_routes};
use crate::support::provider::{Endpoint, Provider, Reply as Scripted};
use crate::support::token::{ALICE, BOB, CLIENT_ID, TENANT, Token, bearer};
use crate::support::upstream::{Answer, Reading, Upstream};

/// `{"access_token":{"nbf":{"essential":true, "value":"1702682181"}}}`, of Microsoft's own tests.
const CLAIMS: &str =
    "eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7ImVzc2VudGlhbCI6dHJ1ZSwgInZhbHVlIjoiMTcwMjY4MjE4MSJ9fX0=";

struct World {
    provider: Provider,
    upstream: Upstream,
    gateway: Gateway,
}

impl World {
    async fn start() -> Self {
        Self::of(Gateway::start).await
    }

    /// One in virtual time, where the next request of `user` has the token renewed that the first one got.
    async fn with_token_due(user: &str) -> Self {
        let world = Self::of(Gateway::start_in_virtual_time).await;
        world.provider.set_expires_in(Some(1800));
        assert_eq!(world.get(&world.token(user)).await.status, 200);
        world.gateway.pass(Duration::from_secs(1510)).await;
        world
    }

    async fn of(start: fn(&str) -> Gateway) -> Self {
        let (provider, upstream) = (Provider::start(), Upstream::start());
        let gateway = start(&format!(
            r#"{}
  - {{ match: {{ path: /me }}, auth: any, upstream: graph, token: {{ on_behalf_of: {{ scopes: ["api://x/.default"] }} }} }}
  - {{ match: {{ path: /plain }}, auth: any, upstream: graph, token: {{ passthrough: true }} }}
"#,
            file_before_routes(&provider, &upstream),
        ));
        gateway.ready().await;
        Self { provider, upstream, gateway }
    }

    fn token(&self, user: &str) -> String {
        let token = Token::entra_v2(&self.provider.entra_issuer()).user(user);
        token.claim("exp", START.0 + 7200).build()
    }

    /// The upstream challenges the tokens of the first `exchanges`, and no later ones.
    fn challenge_first(&self, exchanges: usize, challenge: &'static str) {
        let gate = Gate::new();
        gate.open();
        self.challenge_first_at(&gate, exchanges, challenge);
    }

    /// The same, with challenges that wait for the gate.
    fn challenge_first_at(&self, gate: &Gate, exchanges: usize, challenge: &'static str) {
        let gate = gate.clone();
        let mut known: Vec<String> = Vec::new();
        self.upstream.answer(move |seen| {
            let bearer = seen.bearer().expect("a token");
            if !known.contains(&bearer) {
                known.push(bearer.clone());
            }
            if known.iter().take(exchanges).any(|old| *old == bearer) {
                challenge_of(challenge).held_by(&gate)
            } else {
                Answer::ok("served")
            }
        });
    }

    /// Waits until the gateway has had so many tokens of its provider, and keeps the last.
    async fn exchanged(&self, count: usize) {
        let counted = format!("upstream=\"graph\",outcome=\"success\"}} {count}\n");
        self.gateway.metrics_when(&counted).await;
    }

    async fn get(&self, token: &str) -> Reply {
        self.gateway.client().await.get_with("/me", token).await
    }

    /// A request was refused for this reason.
    async fn logged(&self, why: &str) {
        let refused = |event: &serde_json::Map<_, _>| {
            event["status"] == 401 && event["reason"].as_str().unwrap_or_default().contains(why)
        };
        self.gateway.log().access_events_when(1, refused).await;
    }

    fn bearers(&self) -> Vec<String> {
        self.upstream.seen().iter().map(|seen| seen.bearer().unwrap()).collect()
    }

    /// The `claims` of the n-th token request.
    fn claims_asked(&self, number: usize) -> Value {
        serde_json::from_str(self.provider.forms()[number].field("claims").unwrap()).unwrap()
    }
}

fn challenge_of(challenge: &str) -> Answer {
    Answer::status(401).header("www-authenticate", challenge)
}

const CHALLENGE: &str = "Bearer realm=\"\", authorization_uri=\"https://login.microsoftonline.com/common/oauth2/authorize\", client_id=\"00000003-0000-0000-c000-000000000000\", error=\"insufficient_claims\", claims=\"eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7ImVzc2VudGlhbCI6dHJ1ZSwgInZhbHVlIjoiMTcwMjY4MjE4MSJ9fX0=\"";

#[tokio::test]
async fn a_challenged_request_is_repeated_once_with_a_token_that_has_the_claims() {
    let world = World::start().await;
    world.challenge_first(1, CHALLENGE);
    let token = world.token(ALICE);
    let reply = world.get(&token).await;
    assert_eq!((reply.status.as_u16(), &reply.body[..]), (200, &b"served"[..]));
    let bearers = world.bearers();
    assert_eq!((bearers.len(), world.provider.issued_count()), (2, 2));
    assert_ne!(bearers[0], bearers[1], "the refused token is not sent again");

    let capability = json!({"access_token": {"xms_cc": {"values": ["cp1"]}}});
    assert_eq!(world.claims_asked(0), capability);
    let mut merged = capability;
    merged["access_token"]["nbf"] = json!({"essential": true, "value": "1702682181"});
    assert_eq!(world.claims_asked(1), merged);

    // The new token has taken the old one's place.
    assert_eq!(world.get(&token).await.status, 200);
    assert_eq!(world.bearers()[2], bearers[1]);
    assert_eq!(world.provider.issued_count(), 2);
}

#[tokio::test]
async fn bodies_that_fit_are_sent_again() {
    for (size, chunked, status) in [
        (10, false, 200),
        (10, true, 200),
        (64 * 1024, false, 200),
        (64 * 1024, true, 200),
        (64 * 1024 + 1, false, 401),
        (64 * 1024 + 1, true, 401),
    ] {
        for http2 in [false, true] {
            let world = World::start().await;
            world.challenge_first(1, CHALLENGE);
            let token = world.token(ALICE);
            let body: Bytes = (0..=250_u8).cycle().take(size).collect();
            let request = Request::post("/me").header("authorization", bearer(&token));
            let mut client = if http2 {
                world.gateway.client_http2().await
            } else {
                world.gateway.client().await
            };
            let case = format!("{size} bytes, chunked {chunked}, http2 {http2}");
            let reply = if chunked {
                let pieces = body.chunks(1000).map(Bytes::copy_from_slice).collect::<Vec<_>>();
                client.send_in_pieces(request, pieces).await
            } else {
                client.send(request, body.clone()).await
            };
            assert_eq!(reply.status, status, "{case}");
            let all_read =
                |seen: &[crate::support::seen::Seen]| seen.iter().all(|seen| seen.body.complete);
            world.upstream.seen_when("whole bodies", all_read).await;
            let seen = world.upstream.seen();
            if status == 200 {
                assert_eq!(seen.len(), 2, "{case}");
                assert_eq!(seen[0].body, seen[1].body, "{case}");
                assert_eq!(seen[1].body.length, size as u64, "{case}");
                assert_eq!(seen[0].value("content-length"), seen[1].value("content-length"));
            } else {
                assert_eq!(reply.outcome(), (401, "claims_challenge".to_owned()), "{case}");
                assert_eq!(seen.len(), 1, "{case}");
                world.logged("the body was not kept (over 64 KiB").await;
                // The next request has the token that was asked for.
                assert_eq!(world.get(&token).await.status, 200);
                assert_eq!(world.provider.issued_count(), 2);
            }
        }
    }
}

#[tokio::test]
async fn a_challenge_that_stands_reaches_the_caller_in_our_form() {
    let world = World::start().await;
    world.challenge_first(usize::MAX, CHALLENGE);
    let token = world.token(ALICE);
    let reply = world.get(&token).await;
    assert_eq!(reply.outcome(), (401, "claims_challenge".to_owned()));
    let authorize = format!("{}/{TENANT}/oauth2/v2.0/authorize", world.provider.base());
    assert_eq!(
        reply.header("www-authenticate").unwrap(),
        format!(
            "Bearer realm=\"\", authorization_uri=\"{authorize}\", client_id=\"{CLIENT_ID}\", error=\"insufficient_claims\", claims=\"{CLAIMS}\""
        )
    );
    assert_eq!((world.upstream.count(), world.provider.issued_count()), (2, 2));
    world.logged("the one from provider `entra` does not satisfy it").await;
    // And a client that asks again and again does not bring us to storm the provider.
    for _ in 0..20 {
        assert_eq!(world.get(&token).await.outcome(), (401, "claims_challenge".to_owned()));
    }
    let issued = world.provider.issued_count();
    assert!((2..=3).contains(&issued), "{issued} exchanges");
    world.logged("so it was not asked again").await;
    // Nobody else pays for it.
    world.upstream.answer(|_| Answer::ok("served"));
    assert_eq!(world.get(&world.token(BOB)).await.status, 200);
}

#[tokio::test]
async fn what_the_provider_wants_goes_before_what_the_upstream_wanted() {
    let world = World::start().await;
    world.challenge_first(1, CHALLENGE);
    let wanted = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#;
    let refusal = TokenAnswer::claims_challenge("interaction_required", 50_076, wanted);
    world.provider.script(Endpoint::Token, Scripted::Usual);
    world.provider.script(Endpoint::Token, Scripted::Answer(refusal));
    let reply = world.get(&world.token(ALICE)).await;
    assert_eq!(reply.outcome(), (401, "claims_challenge".to_owned()));
    let challenge = reply.header("www-authenticate").unwrap();
    let claims = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, wanted);
    assert!(challenge.contains(&format!("claims=\"{claims}\"")), "{challenge}");
    assert_eq!(world.upstream.count(), 1);
}

#[tokio::test]
async fn a_provider_that_is_down_meanwhile_is_an_outage() {
    let world = World::start().await;
    world.challenge_first(1, CHALLENGE);
    world.provider.script(Endpoint::Token, Scripted::Usual);
    let busy = TokenAnswer::json(503, &json!({})).header("retry-after", "1");
    world.provider.script(Endpoint::Token, Scripted::Answer(busy));
    let reply = world.get(&world.token(ALICE)).await;
    assert_eq!(reply.outcome(), (503, "provider_unavailable".to_owned()));
}

#[tokio::test]
async fn other_401s_are_no_challenges() {
    let world = World::start().await;
    let token = world.token(ALICE);
    for field in [
        "Bearer error=\"invalid_token\"",
        "Bearer error=\"insufficient_claims\", claims=\"%%%\"",
        "Bearer error=\"insufficient_scope\", claims=\"e30=\"",
        "Basic realm=\"x\"",
    ] {
        world.upstream.answer(move |_| challenge_of(field));
        let reply = world.get(&token).await;
        assert_eq!((reply.status.as_u16(), reply.header("www-authenticate")), (401, None));
        assert_eq!(reply.outcome().1, "", "the upstream's own answer: {field}");
    }
    assert_eq!(world.upstream.count(), 4, "nothing was repeated");

    // To a caller whose own token goes on, the upstream speaks for itself.
    world.upstream.allow_passthrough();
    world.upstream.answer(|_| challenge_of(CHALLENGE));
    let mut client = world.gateway.client().await;
    client.is_not_a_gateway();
    let reply = client.get_with("/plain", &token).await;
    assert_eq!(reply.header("www-authenticate"), Some(CHALLENGE));
    assert_eq!(world.upstream.count(), 5);
}

#[tokio::test]
async fn requests_that_are_challenged_together_share_one_exchange() {
    let world = World::start().await;
    let token = world.token(ALICE);
    assert_eq!(world.get(&token).await.status, 200);
    world.challenge_first(1, CHALLENGE);
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (address, token) = (world.gateway.address(), token.clone());
        requests.spawn(async move {
            let mut client = crate::support::client::Client::http1(address).await;
            client.get_with("/me", &token).await.status.as_u16()
        });
    }
    let statuses = requests.join_all().await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(world.provider.issued_count(), 2);
}

#[tokio::test]
async fn a_token_that_was_merely_renewed_meanwhile_is_no_answer() {
    let world = World::with_token_due(ALICE).await;
    let gate = Gate::new();
    world.challenge_first_at(&gate, 1, CHALLENGE);
    let token = world.token(ALICE);
    let renewed = async {
        gate.arrived(1).await;
        world.exchanged(2).await;
        gate.open();
    };
    let (reply, ()) = futures_util::future::join(world.get(&token), renewed).await;
    assert_eq!(reply.status, 200);
    assert_eq!(world.provider.issued_count(), 3);
    assert_eq!(world.claims_asked(1)["access_token"].get("nbf"), None, "the renewal");
    assert_eq!(world.claims_asked(2)["access_token"]["nbf"]["value"], "1702682181");
    // And the renewed one is not used any more.
    assert_eq!(world.get(&token).await.status, 200);
    let bearers = world.bearers();
    assert_eq!((bearers.len(), &bearers[0]), (4, &bearers[1]));
    assert_eq!(bearers[2], bearers[3]);
}

#[tokio::test]
async fn a_renewal_that_comes_late_does_not_take_the_claims_away() {
    let world = World::with_token_due(ALICE).await;
    let (challenge, renewal) = (Gate::new(), Gate::new());
    world.challenge_first_at(&challenge, 1, CHALLENGE);
    let held = Scripted::Held(renewal.clone(), Box::new(Scripted::Usual));
    world.provider.script(Endpoint::Token, held);
    let token = world.token(ALICE);
    let renewing = async {
        renewal.arrived(1).await;
        challenge.open();
    };
    let (reply, ()) = futures_util::future::join(world.get(&token), renewing).await;
    assert_eq!(reply.status, 200);
    renewal.open();
    world.exchanged(3).await;
    assert_eq!(world.get(&token).await.status, 200);
    let bearers = world.bearers();
    assert_eq!((bearers.len(), world.provider.issued_count()), (4, 3));
    assert_ne!(bearers[1], bearers[2]);
    assert_eq!(bearers[2], bearers[3], "the one with the claims is kept");
}

#[tokio::test]
async fn a_challenge_before_the_body_has_been_read_is_answered_all_the_same() {
    let world = World::start().await;
    let mut first = true;
    world.upstream.answer(move |_| {
        let answer =
            if std::mem::take(&mut first) { challenge_of(CHALLENGE) } else { Answer::ok("served") };
        Answer { reading: Reading::Beside, ..answer }
    });
    let token = world.token(ALICE);
    let request = Request::post("/me").header("authorization", bearer(&token));
    let mut client = world.gateway.client().await;
    assert_eq!(client.send(request, vec![7; 40_000]).await.status, 200);

    // A body that never ends makes nobody wait for long.
    world.upstream.answer(|_| Answer { reading: Reading::Beside, ..challenge_of(CHALLENGE) });
    let piece = futures_util::stream::iter([Ok(Frame::data(Bytes::from_static(b"begun")))]);
    let body = StreamBody::new(piece.chain(futures_util::stream::pending())).boxed_unsync();
    let request = Request::post("/me").header("authorization", bearer(&world.token(BOB)));
    let mut client = world.gateway.client().await;
    let response = client.start(request.body(body).unwrap()).await.unwrap();
    assert_eq!(response.status(), 401);
    assert!(response.headers()["www-authenticate"].to_str().unwrap().contains(CLAIMS));
    let reply = response.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&reply).contains("too large or too slow to be repeated"));
    world.logged("or not all of it came within 1 s").await;
}
