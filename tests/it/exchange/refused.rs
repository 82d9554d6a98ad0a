//! An upstream that refuses the token it was shown.

use crate::support::gateway::Gateway;
use crate::support::obo::file_before_routes;
use crate::support::provider::Provider;
use crate::support::token::{ALICE, Token};
use crate::support::upstream::{Answer, Upstream};

fn start(provider: &Provider, upstream: &Upstream) -> Gateway {
    Gateway::start(&format!(
        r#"{}
  - {{ match: {{ path: /me }}, auth: any, upstream: graph, token: {{ on_behalf_of: {{ scopes: ["api://x/.default"] }} }} }}
"#,
        file_before_routes(provider, upstream),
    ))
}

#[tokio::test]
async fn a_refused_token_is_exchanged_anew_by_the_next_request() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let gateway = start(&provider, &upstream);
    gateway.ready().await;
    let mut refuse = true;
    upstream.answer(move |_| Answer::status(if std::mem::take(&mut refuse) { 401 } else { 200 }));
    let token = Token::entra_v2(&provider.entra_issuer()).user(ALICE).build();
    let mut client = gateway.client().await;
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(client.get_with("/me", &token).await.status.as_u16());
    }
    assert_eq!((statuses, provider.issued_count()), (vec![401, 200, 200], 2));
    let seen: Vec<_> = upstream.seen().iter().map(crate::support::seen::Seen::bearer).collect();
    assert!(seen[0] != seen[1] && seen[1] == seen[2]);
}

#[tokio::test]
async fn an_upstream_that_always_refuses_does_not_storm_the_provider() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let gateway = start(&provider, &upstream);
    gateway.ready().await;
    upstream.answer(|_| Answer::status(401));
    let token = Token::entra_v2(&provider.entra_issuer()).user(ALICE).build();
    let mut client = gateway.client().await;
    for _ in 0..30 {
        assert_eq!(client.get_with("/me", &token).await.status, 401);
    }
    // The first one, and the one in its place; a third if the machine stood still for the floor.
    let issued = provider.issued_count();
    assert!((2..=3).contains(&issued), "{issued} exchanges for 30 requests");
}
