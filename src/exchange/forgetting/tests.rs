//! Forgetting without a shared store, and hearing of it from one.

use std::time::Duration;

use http::HeaderValue;
use tokio::sync::oneshot;

use super::super::cache::{Granted, Source};
use super::super::forgotten::tests::{identity, of_tenant};
use super::super::shared::Sought;
use super::super::terms::tests::terms;
use super::*;
use crate::clock::{Clock as _, SystemClock};
use crate::observe::Metrics;
use crate::observe::metrics::CacheResult;
use crate::secret::{SecretHeader, TokenDigest};
use crate::shared_store::{Position, Waited};

fn exchanger() -> Arc<Exchanger> {
    Exchanger::new(100, Arc::new(SystemClock), Metrics::default())
}

fn sought(exchanger: &Exchanger, user: &str, upstream: &str) -> Sought {
    let digest = TokenDigest::of(format!("{user} {upstream}").as_bytes());
    let key = terms("client", &["scope"]).key(Some(digest));
    let tags = exchanger.tags(upstream, Some(&identity(Some("t"), user)));
    Sought {
        key,
        flight: key,
        inbound_expires_at: UnixTime(u64::MAX),
        tags,
        shared: Some(Waited::default()),
    }
}

fn granted() -> Granted {
    Granted {
        header: SecretHeader::new(HeaderValue::from_static("Bearer x")),
        asked_at: SystemClock.now(),
        life: Some(Duration::from_hours(1)),
        refresh_in: None,
        source: Source::Provider,
    }
}

/// Whether the token of `user` for `upstream` was in memory; then it is.
async fn was_there(exchanger: &Arc<Exchanger>, user: &str, upstream: &str) -> bool {
    let call = || async { Ok(granted()) };
    let (result, outcome) = exchanger.fly(sought(exchanger, user, upstream), call).await;
    outcome.unwrap();
    result == CacheResult::Hit
}

async fn fill(exchanger: &Arc<Exchanger>) {
    for user in ["alice", "bob"] {
        for upstream in ["a", "b"] {
            was_there(exchanger, user, upstream).await;
        }
    }
}

fn all_there(exchanger: &Arc<Exchanger>) -> [bool; 4] {
    [("alice", "a"), ("alice", "b"), ("bob", "a"), ("bob", "b")].map(|(user, upstream)| {
        let Sought { key, inbound_expires_at, .. } = sought(exchanger, user, upstream);
        exchanger.cached(&key, inbound_expires_at).is_some()
    })
}

fn notice(place: u128, told: &Told) -> Notice {
    Notice { position: Position::of_bytes(place.to_be_bytes()), plain: told.to_bytes() }
}

fn heard(place: u128, part: Part, told: &[Told]) -> Heard {
    let notices = told.iter().map(|told| notice(place, told)).collect();
    Heard { notices, until: Position::of_bytes(place.to_be_bytes()), part }
}

fn told(nonce: u8, forgetting: &Forgetting) -> Told {
    let (upstream, user) = forgetting.digests();
    Told { nonce: [nonce; 16], at: SystemClock.now(), upstream, user }
}

#[tokio::test]
async fn what_was_named_is_dropped_and_the_rest_stays() {
    let upstream = |name: &str| Forgetting { upstream: Some(name.into()), whose: None };
    let alice_at_a = Forgetting { upstream: Some("a".into()), ..of_tenant("t", "alice") };
    for (forgetting, dropped, left) in [
        (Forgetting::default(), 4, [false; 4]),
        (upstream("a"), 2, [false, true, false, true]),
        (of_tenant("t", "alice"), 2, [false, false, true, true]),
        (alice_at_a, 1, [false, true, true, true]),
        (of_tenant("other", "alice"), 0, [true; 4]),
    ] {
        let exchanger = exchanger();
        fill(&exchanger).await;
        let forgot = exchanger.forget_tokens(&forgetting).await;
        assert_eq!(forgot, Forgot { dropped, others: Others::ShareNothing }, "{forgetting:?}");
        assert_eq!(all_there(&exchanger), left, "{forgetting:?}");
        assert_eq!(exchanger.cache_usage().entries, 4 - dropped);
        fill(&exchanger).await;
        assert_eq!(all_there(&exchanger), [true; 4], "what is asked for behind it is kept");
    }
}

#[tokio::test]
async fn an_exchange_that_is_under_way_does_not_put_its_token_back() {
    let exchanger = exchanger();
    for (forgetting, is_kept) in [
        (of_tenant("t", "alice"), false),
        (Forgetting::default(), false),
        (of_tenant("t", "bob"), true),
    ] {
        let (let_go, gate) = oneshot::channel();
        let sought = sought(&exchanger, "alice", "a");
        let call = || async {
            gate.await.unwrap();
            Ok(granted())
        };
        let flight = exchanger.fly(sought, call);
        let meanwhile = async {
            exchanger.forget_tokens(&forgetting).await;
            let_go.send(()).unwrap();
        };
        let ((_, outcome), ()) = tokio::join!(flight, meanwhile);
        outcome.unwrap();
        assert_eq!(all_there(&exchanger)[0], is_kept, "{forgetting:?}");
    }
}

#[tokio::test]
async fn a_notice_is_heard_once() {
    let exchanger = exchanger();
    let alice = told(1, &of_tenant("t", "alice"));
    fill(&exchanger).await;
    exchanger.hear(heard(1, Part::Next, &[alice]));
    assert_eq!(all_there(&exchanger), [false, false, true, true]);
    fill(&exchanger).await;
    exchanger.hear(heard(1, Part::All, &[alice]));
    assert_eq!(all_there(&exchanger), [true; 4], "read again after a connection was lost");
    exchanger.hear(heard(2, Part::Newest, &[told(2, &of_tenant("t", "bob"))]));
    assert_eq!(all_there(&exchanger), [false; 4], "there were others that are not known");
}

#[tokio::test]
async fn the_replica_that_was_asked_drops_nothing_when_it_hears_of_itself() {
    let exchanger = exchanger();
    fill(&exchanger).await;
    let own = told(1, &Forgetting::default());
    let about = exchanger.tagger.about((None, None));
    let mark = Mark { nonce: own.nonce, at: own.at, position: None };
    assert_eq!(exchanger.drop_marked([(about, mark)]), 4);
    fill(&exchanger).await;
    exchanger.hear(heard(1, Part::Next, &[own]));
    assert_eq!(all_there(&exchanger), [true; 4]);
}

#[test]
fn notices_of_another_form_say_nothing() {
    let forgetting = Forgetting { upstream: Some("a".into()), ..of_tenant("t", "alice") };
    let good = told(1, &forgetting);
    let bytes = good.to_bytes();
    assert_eq!(Told::of_bytes(&bytes), Some(good));
    for length in 0..bytes.len() {
        assert_eq!(Told::of_bytes(&bytes[..length]), None, "cut to {length}");
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert_eq!(Told::of_bytes(&longer), None);
    for at in [0, 25, 58] {
        let mut other = bytes.clone();
        other[at] = 2;
        assert_eq!(Told::of_bytes(&other), None, "byte {at}");
    }
}
