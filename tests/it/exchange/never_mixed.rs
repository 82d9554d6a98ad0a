//! Users, scopes and upstreams under a storm: callers who hang up, a provider that fails and a
//! clock that jumps. Whatever happens, a token is used on behalf of only the user and for only
//! the scope that it was issued for, and what one upstream was shown no other ever is, though
//! both are asked for with the same scopes. The provider issues no token twice, so tokens are
//! compared by their bytes.
//!
//! The storm is drawn from a seed; a failure names it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use http::Request;
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::client::Client;
use crate::support::clock::START;
use crate::support::gateway::Gateway;
use crate::support::obo::Answer;
use crate::support::provider::{Endpoint, Provider, Reply};
use crate::support::token::{ALICE, BOB, CLIENT_ID, TENANT, Token, bearer};
use crate::support::upstream::Upstream;
use obo_gateway::clock::UnixTime;

const SCOPES: [(&str, &str); 2] = [
    ("graph", "https://graph.microsoft.com/.default"),
    ("arm", "https://management.azure.com/.default"),
];
const WAVES: usize = 8;
const CALLERS: usize = 40;

/// Two upstreams, and at each of them both scopes: `/{upstream}/{scope}/{user}`.
fn routes_file(provider: &Provider, upstreams: &[(&str, Upstream); 2]) -> String {
    let mut file = format!(
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
    timeout: 300ms
upstreams:
"#,
        provider.base()
    );
    for (name, upstream) in upstreams {
        writeln!(file, "  {name}: {{ url: \"{}\" }}", upstream.url()).unwrap();
    }
    file += "routes:\n";
    for (name, _) in upstreams {
        for (label, scope) in SCOPES {
            writeln!(
                file,
                "  - {{ match: {{ path: \"/{name}/{label}/{{user}}\" }}, auth: any, upstream: {name}, \
                 token: {{ on_behalf_of: {{ scopes: [\"{scope}\"] }} }} }}"
            )
            .unwrap();
        }
    }
    file
}

/// What the provider does to some of the next exchanges.
fn fault(random: &mut fastrand::Rng) -> Reply {
    match random.u8(..7) {
        0 => Reply::json(503, &json!({ "error": "temporarily_unavailable" })),
        1 => Reply::Answer(Answer::json(429, &json!({})).header("retry-after", "2")),
        2 => Reply::Hang,
        3 => Reply::Reset,
        4 => Reply::Cut(Answer::json(200, &json!({ "access_token": "cut" }))),
        5 => Reply::Answer(Answer::text(200, "text/html", "<html>")),
        _ => Reply::Answer(Answer::aadsts(400, "invalid_grant", 50_013)),
    }
}

async fn storm(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let provider = Provider::start();
    let upstreams = [("east", Upstream::start()), ("west", Upstream::start())];
    let gateway = Gateway::start(&routes_file(&provider, &upstreams));
    gateway.ready().await;
    let mut answered = 0;
    for wave in 0..WAVES {
        // Every other wave has weather; tokens outlive some of the jumps and not others.
        if wave % 2 == 1 {
            for _ in 0..random.usize(1..4) {
                provider.script(Endpoint::Token, fault(&mut random));
            }
        }
        gateway.clock().set(UnixTime(START.0 + random.u64(..10_000)));
        let now = obo_gateway::clock::Clock::now(gateway.clock());
        let mut calls = JoinSet::new();
        for _ in 0..CALLERS {
            let user = if random.bool() { ALICE } else { BOB };
            let (upstream, _) = upstreams[random.usize(..2)];
            let (label, _) = SCOPES[random.usize(..2)];
            // A user has several tokens at a time, and one of them is not always the newest.
            let issued = UnixTime(now.0 - random.u64(..3) * 60);
            let token = Token::entra_v2(&provider.entra_issuer()).user(user).issued_at(issued);
            let token = token.claim("sid", random.u8(..3)).build();
            let target = format!("/{upstream}/{label}/{user}");
            let patience = random.bool().then(|| Duration::from_micros(random.u64(..8_000)));
            let address = gateway.address();
            calls.spawn(async move {
                let call = async {
                    let mut client = Client::http1(address).await;
                    let request = Request::get(target).header("authorization", bearer(&token));
                    client.send(request, "").await.status.as_u16()
                };
                match patience {
                    // The connection goes with the call: the caller hangs up.
                    Some(patience) => tokio::time::timeout(patience, call).await.ok(),
                    None => Some(call.await),
                }
            });
        }
        for status in crate::support::within("a wave", calls.join_all()).await.into_iter().flatten()
        {
            let known = [200, 401, 502, 503].contains(&status);
            assert!(known, "seed {seed}, wave {wave}: {status}");
            answered += u32::from(status == 200);
        }
    }
    assert!(answered > 50, "seed {seed}: only {answered} were served");

    // The sun comes out, and nobody is left behind.
    provider.always(Endpoint::Token, Reply::Usual);
    gateway.clock().set(UnixTime(START.0 + 50_000));
    let fresh = Token::entra_v2(&provider.entra_issuer()).issued_at(UnixTime(START.0 + 50_000));
    let mut client = gateway.client().await;
    for (name, _) in &upstreams {
        for (label, _) in SCOPES {
            for user in [ALICE, BOB] {
                let token = fresh.clone().user(user).build();
                let target = format!("/{name}/{label}/{user}");
                let served = async {
                    while client.get_with(&target, &token).await.status != 200 {
                        // A `Retry-After` runs by the real clock; the interval only spares the
                        // processor.
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                };
                crate::support::within(&format!("seed {seed}: {target}"), served).await;
            }
        }
    }
    let mut shown_to: HashMap<String, &str> = HashMap::new();
    for (name, upstream) in &upstreams {
        for seen in upstream.seen() {
            let steps: Vec<_> = seen.target.trim_start_matches('/').split('/').collect();
            let bearer = seen.bearer().expect("a token");
            let issued = provider.issued(&bearer).expect("the provider issued it");
            let scope = SCOPES.iter().find(|(label, _)| *label == steps[1]).unwrap().1;
            assert_eq!(
                (steps[0], issued.user.as_str(), issued.scope.as_str()),
                (*name, steps[2], scope),
                "seed {seed}: {}",
                seen.target
            );
            let first = *shown_to.entry(bearer).or_insert(name);
            assert_eq!(first, *name, "seed {seed}: shown to both upstreams: {}", seen.target);
        }
    }
}

#[tokio::test]
async fn a_token_reaches_only_what_it_was_issued_for() {
    let mut storms = JoinSet::new();
    for seed in [1, 7, 42] {
        storms.spawn(storm(seed));
    }
    storms.join_all().await;
}
