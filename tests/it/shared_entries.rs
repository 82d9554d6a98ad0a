//! The commands of the shared store, held against real servers: what one replica leaves another
//! finds, one of them makes an entry, and nothing that others wrote is believed.

use std::time::Duration;

use obo_gateway::observe::Metrics;
use obo_gateway::shared_store::{
    Claim, EncryptionKey, Entry, Failure, Lease, SharedStore, StoreAddress, StoreSettings,
};
use tokio::time::Instant;

use crate::support::redis::Redis;

const OLD: &str = "b2xkIG9sZCBvbGQgb2xkIG9sZCBvbGQgb2xkIG9sZCE";
const NEW: &str = "bmV3IG5ldyBuZXcgbmV3IG5ldyBuZXcgbmV3IG5ldyE";

const MINUTE: Duration = Duration::from_mins(1);

/// What the slowest machine needs: where nothing is to be late, nothing is.
const AMPLE: Duration = Duration::from_secs(10);

fn replica(redis: &Redis, keys: &[&str], timeout: Duration) -> std::sync::Arc<SharedStore> {
    let store = SharedStore::new(Metrics::default());
    let encryption_keys = keys.iter().map(|key| EncryptionKey::parse(key).unwrap()).collect();
    store.configure(Some(StoreSettings {
        address: StoreAddress::parse(&redis.url()).unwrap(),
        encryption_keys,
        key_prefix: "t:".to_owned(),
        timeout,
    }));
    store
}

fn entry(owner: &'static str) -> Entry<'static> {
    Entry { owner: owner.as_bytes(), maker: b"maker" }
}

async fn claim(store: &SharedStore, owner: &'static str) -> Claim {
    store.session().unwrap().claim(entry(owner), None).await.unwrap()
}

async fn lease(store: &SharedStore, owner: &'static str) -> Lease {
    match claim(store, owner).await {
        Claim::Yours(lease) => lease,
        Claim::Found(_) | Claim::Busy(_) => panic!("nobody has {owner}, and nobody makes it"),
    }
}

async fn plain(store: &SharedStore, owner: &'static str) -> Option<Vec<u8>> {
    let found = store.session().unwrap().find(entry(owner)).await.unwrap();
    found.into_iter().next().map(|value| value.plain)
}

async fn store(store: &SharedStore, owner: &'static str, plain: &[u8], lease: Option<Lease>) {
    store.session().unwrap().store(entry(owner), plain, MINUTE, lease).await.unwrap();
}

#[tokio::test]
async fn one_makes_an_entry_and_the_other_finds_it() {
    let redis = Redis::start();
    let [a, b] = [replica(&redis, &[NEW], AMPLE), replica(&redis, &[NEW], AMPLE)];
    let mine = lease(&a, "x").await;
    assert!(matches!(claim(&b, "x").await, Claim::Busy(_)));
    assert!(matches!(claim(&b, "y").await, Claim::Yours(_)), "that is another's");
    assert!(a.session().unwrap().hold(&mine).await.unwrap());
    store(&a, "x", b"in clear", Some(mine)).await;
    assert!(matches!(claim(&b, "x").await, Claim::Found(value) if value.plain == b"in clear"));
    for entry in redis.dump() {
        for piece in std::iter::once(&entry.key).chain(&entry.pieces) {
            assert!(!piece.windows(8).any(|bytes| bytes == b"in clear"), "{entry:?}");
        }
    }
    for life in redis.lives().values() {
        assert!((1..=60_000).contains(life), "everything ends: {life}");
    }
}

#[tokio::test]
async fn a_lease_that_is_given_back_or_ends_is_the_next_ones() {
    let redis = Redis::start();
    let [a, b] = [replica(&redis, &[NEW], AMPLE), replica(&redis, &[NEW], AMPLE)];
    let mine = lease(&a, "x").await;
    a.session().unwrap().release(mine).await;
    let lost = lease(&b, "x").await;
    // Nobody renews it: the replica died.
    for name in redis.lives().into_keys() {
        redis.ask(&[b"DEL", &name]);
    }
    let next = lease(&a, "x").await;
    assert!(!b.session().unwrap().hold(&lost).await.unwrap(), "it is another's now");
    b.session().unwrap().release(lost).await;
    assert!(matches!(claim(&b, "x").await, Claim::Busy(_)), "what is another's is not given back");
    assert!(a.session().unwrap().hold(&next).await.unwrap());
}

#[tokio::test]
async fn what_others_wrote_is_passed_over_and_replaced() {
    let redis = Redis::start();
    let [a, b] = [replica(&redis, &[NEW], AMPLE), replica(&redis, &[NEW], AMPLE)];
    store(&a, "x", b"of x", None).await;
    let of_x = redis.dump().swap_remove(0).value().to_vec();
    let x = redis.lives().into_keys().next().unwrap();
    store(&a, "y", b"of y", None).await;
    let y = redis.lives().into_keys().find(|name| *name != x).unwrap();
    let mut altered = of_x.clone();
    *altered.last_mut().unwrap() ^= 1;
    for (name, owner, value) in [(&y, "y", &of_x), (&x, "x", &altered), (&x, "x", &b"?".to_vec())] {
        redis.ask(&[b"SET", name, value]);
        assert_eq!(plain(&b, owner).await, None);
        let mine = lease(&b, owner).await;
        store(&b, owner, b"good", Some(mine)).await;
        assert_eq!(plain(&a, owner).await.as_deref(), Some(&b"good"[..]));
    }
}

#[tokio::test]
async fn only_what_was_seen_is_passed_over_or_deleted() {
    let redis = Redis::start();
    let a = replica(&redis, &[NEW], AMPLE);
    store(&a, "x", b"first", None).await;
    let Claim::Found(first) = claim(&a, "x").await else { panic!("it is there") };
    let mut session = a.session().unwrap();
    let Claim::Yours(mine) = session.claim(entry("x"), Some(&first.seen)).await.unwrap() else {
        panic!("what is of no use is nothing")
    };
    store(&a, "x", b"second", Some(mine)).await;
    session.delete(&first.seen).await.unwrap();
    let Claim::Found(second) = session.claim(entry("x"), Some(&first.seen)).await.unwrap() else {
        panic!("the other took its place")
    };
    assert_eq!(second.plain, b"second");
    session.delete(&second.seen).await.unwrap();
    assert_eq!(plain(&a, "x").await, None);
}

#[tokio::test]
async fn a_new_key_comes_before_the_old_one_goes() {
    let redis = Redis::start();
    let before = replica(&redis, &[OLD], AMPLE);
    let both = replica(&redis, &[NEW, OLD], AMPLE);
    let after = replica(&redis, &[NEW], AMPLE);
    store(&before, "x", b"token", None).await;
    assert!(matches!(claim(&both, "x").await, Claim::Found(value) if value.plain == b"token"));
    assert_eq!(plain(&after, "x").await, None);
    store(&both, "x", b"newer", None).await;
    assert_eq!(plain(&after, "x").await.as_deref(), Some(&b"newer"[..]));
    assert!(matches!(claim(&both, "x").await, Claim::Found(value) if value.plain == b"newer"));
}

#[tokio::test]
async fn a_server_that_stands_still_is_left_out_until_it_goes_on() {
    let redis = Redis::start();
    let timeout = Duration::from_millis(200);
    let a = replica(&redis, &[NEW], timeout);
    crate::support::within("the first answer", async {
        while a.session().unwrap().find(entry("x")).await.is_err() {}
    })
    .await;
    redis.pause();
    let began = Instant::now();
    let mut late = 0;
    loop {
        match a.session().unwrap().find(entry("x")).await {
            Err(Failure::Late) => late += 1,
            Err(Failure::Away) => break,
            other => panic!("it stands still: {:?}", other.err()),
        }
    }
    assert_eq!(late, obo_gateway::limits::SHARED_STORE_FAILURES);
    assert!(began.elapsed() >= timeout * late);
    redis.resume();
    crate::support::within("it is asked again", async {
        while a.session().unwrap().find(entry("x")).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn without_a_store_there_is_no_session() {
    let redis = Redis::start();
    let a = replica(&redis, &[NEW], AMPLE);
    assert!(a.is_configured());
    a.configure(None);
    assert!(a.session().is_none());
}
