//! What is refused while Redis is away: it vanishes from there once Redis is back, by itself, and no
//! replica takes it until then.

use std::time::Duration;

use crate::support::obo::Answer as TokenAnswer;
use crate::support::provider::{Endpoint, Reply};
use crate::support::redis::Redis;
use crate::support::replicas::{Fleet, JOINED};
use crate::support::upstream::Answer;
use crate::support::within;

/// `{"access_token":{"nbf":{"essential":true}}}`.
const CHALLENGE: &str = "Bearer error=\"insufficient_claims\", claims=\"eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7ImVzc2VudGlhbCI6dHJ1ZX19fQ==\"";

#[tokio::test]
async fn what_is_refused_while_redis_stands_still_vanishes_when_it_goes_on() {
    for challenge in [None, Some(CHALLENGE)] {
        let redis = Redis::start();
        let fleet = Fleet::sharing(&redis.url()).timeout(Duration::from_millis(300));
        let (first, second) = (fleet.gateway().await, fleet.gateway().await);
        let alice = fleet.user(0);
        assert_eq!(alice.ask(first.address(), 0).await.0, 200);
        let refused = fleet.upstreams[0].last().bearer().unwrap();
        let entry = redis.dump().swap_remove(0).key;
        redis.pause();
        fleet.upstreams[0].answer({
            let refused = refused.clone();
            move |seen| match challenge {
                _ if seen.bearer().as_ref() != Some(&refused) => Answer::ok("served"),
                Some(challenge) => Answer::status(401).header("www-authenticate", challenge),
                None => Answer::status(401),
            }
        });
        // Where the upstream asks for claims, the provider does not give them.
        if challenge.is_some() {
            let refusal = Reply::Answer(TokenAnswer::aadsts(400, "invalid_grant", 50_013));
            fleet.provider.script(Endpoint::Token, refusal);
        }
        assert_eq!(alice.ask(first.address(), 0).await.0, 401);
        // It is tried again, and so often that Redis is left out.
        first.metrics_when("\nobo_gateway_shared_cache_up 0\n").await;
        redis.resume();
        // Nobody asks for anything: it is dropped all the same.
        let dropped = async {
            while redis.lives().contains_key(&entry) {
                // Redis is asked, as it tells nobody; the interval only spares the processor.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within("the refused token to be dropped", dropped).await;
        for gateway in [&first, &second] {
            gateway.metrics_when(JOINED).await;
        }
        assert_eq!(alice.ask(second.address(), 0).await.0, 200);
        let other = fleet.upstreams[0].last().bearer().unwrap();
        assert_ne!(other, refused);
        fleet.assert_tokens_are_the_users();
    }
}
