//! The commands of the shared store, held against real servers: what one replica leaves another
//! finds, one of them makes an entry, and nothing that others wrote is believed.

use std::time::Duration;

use obo_gateway::observe::Metrics;
use obo_gateway::shared_store::{
    Claim, EncryptionKey, Entry, Failure, Lease, SharedStore, StoreAddress, StoreSettings,
};
use tokio::time::Instant;

use crate::support::redis::Redis;
use crate::support::redis::cluster::Cluster;

const OLD: &str = "b2xkIG9sZCBvbGQgb2xkIG9sZCBvbGQgb2xkIG9sZCE";
const NEW: &str = "bmV3IG5ldyBuZXcgbmV3IG5ldyBuZXcgbmV3IG5ldyE";

const MINUTE: Duration = Duration::from_mins(1);

/// What the slowest machine needs: where nothing is to be late, nothing is.
const AMPLE: Duration = Duration::from_secs(10);

/// Some whose names are spread over a cluster.
const OWNERS: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];

/// How many of these have their name, by the key [`NEW`], at the second of three servers.
const WITH_THE_SECOND: usize = 4;

fn replica(redis: &Redis, keys: &[&str], timeout: Duration) -> std::sync::Arc<SharedStore> {
    replica_of(&redis.url(), keys, timeout)
}

/// The same at any store.
fn replica_of(url: &str, keys: &[&str], timeout: Duration) -> std::sync::Arc<SharedStore> {
    let store = SharedStore::new(Metrics::default());
    let encryption_keys = keys.iter().map(|key| EncryptionKey::parse(key).unwrap()).collect();
    store.configure(Some(StoreSettings {
        address: StoreAddress::parse(url).unwrap(),
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
    let (found, heard) = store.session().unwrap().find(entry(owner)).await;
    heard.unwrap();
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
        while a.session().unwrap().find(entry("x")).await.1.is_err() {}
    })
    .await;
    redis.pause();
    let began = Instant::now();
    let mut late = 0;
    loop {
        match a.session().unwrap().find(entry("x")).await.1 {
            Err(Failure::Late) => late += 1,
            Err(Failure::Away) => break,
            other => panic!("it stands still: {:?}", other.err()),
        }
    }
    assert_eq!(late, obo_gateway::limits::SHARED_STORE_FAILURES);
    assert!(began.elapsed() >= timeout * late);
    redis.resume();
    crate::support::within("it is asked again", async {
        while a.session().unwrap().find(entry("x")).await.1.is_err() {
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

#[tokio::test]
async fn what_is_too_long_is_never_sent_and_is_replaced() {
    let redis = Redis::start();
    let (old, both) = (replica(&redis, &[OLD], AMPLE), replica(&redis, &[NEW, OLD], AMPLE));
    // A value under either name, and a lease.
    store(&old, "a", b"old", None).await;
    store(&both, "b", b"new", None).await;
    let kept = lease(&both, "c").await;
    for name in redis.lives().into_keys() {
        // 64 MiB.
        redis.ask(&[b"SETRANGE", &name, b"67108863", b"x"]);
    }
    let sent = || {
        let told = redis.ask(&[b"INFO", b"stats"]).text();
        let line = told.lines().find_map(|line| line.strip_prefix("total_net_output_bytes:"));
        line.unwrap().parse::<u64>().unwrap()
    };
    let before = sent();
    for owner in ["a", "b", "c"] {
        assert_eq!(plain(&both, owner).await, None, "{owner}");
        let mine = lease(&both, owner).await;
        store(&both, owner, b"good", Some(mine)).await;
        assert_eq!(plain(&both, owner).await.as_deref(), Some(&b"good"[..]));
    }
    assert!(!both.session().unwrap().hold(&kept).await.unwrap());
    assert!(sent() - before < 1 << 20, "{} bytes were sent", sent() - before);
}

#[tokio::test]
async fn what_a_weaker_maker_made_does_not_replace_what_came_meanwhile() {
    let redis = Redis::start();
    let [a, b] = [replica(&redis, &[NEW], AMPLE), replica(&redis, &[NEW], AMPLE)];
    let weak = Entry { owner: b"x", maker: b"x" };
    let claim_weak = async |seen: Option<&_>| a.session().unwrap().claim(weak, seen).await.unwrap();
    let Claim::Yours(mine) = claim_weak(None).await else { panic!("nobody has it") };
    store(&b, "x", b"stronger", None).await;
    a.session().unwrap().store(weak, b"weak", MINUTE, Some(mine)).await.unwrap();
    assert_eq!(plain(&b, "x").await.as_deref(), Some(&b"stronger"[..]));
    // It has no more to say without a lease, and gave that one back.
    a.session().unwrap().store(weak, b"weak", MINUTE, None).await.unwrap();
    assert_eq!(plain(&b, "x").await.as_deref(), Some(&b"stronger"[..]));
    assert_eq!(redis.dump().len(), 1);
    // What it is to replace, it does.
    let Claim::Found(found) = claim_weak(None).await else { panic!("it is there") };
    let Claim::Yours(mine) = claim_weak(Some(&found.seen)).await else { panic!("of no use") };
    a.session().unwrap().store(weak, b"weak", MINUTE, Some(mine)).await.unwrap();
    assert_eq!(plain(&b, "x").await.as_deref(), Some(&b"weak"[..]));
    // And what is no value at all.
    let name = redis.lives().into_keys().next().unwrap();
    redis.ask(&[b"SET", &name, b"garbage"]);
    let Claim::Yours(mine) = claim_weak(None).await else { panic!("it is no value") };
    a.session().unwrap().store(weak, b"again", MINUTE, Some(mine)).await.unwrap();
    assert_eq!(plain(&b, "x").await.as_deref(), Some(&b"again"[..]));
    store(&b, "x", b"stronger", None).await;
    assert_eq!(plain(&a, "x").await.as_deref(), Some(&b"stronger"[..]));
}

#[tokio::test]
async fn what_has_not_the_form_of_a_lease_is_none_however_soon_it_ends() {
    let redis = Redis::start();
    let a = replica(&redis, &[NEW], AMPLE);
    for value in ["garbage", "", "twenty-two characters!"] {
        drop(lease(&a, "x").await);
        let name = redis.lives().into_keys().next().unwrap();
        redis.ask(&[b"SET", &name, value.as_bytes(), b"PX", b"2000"]);
        drop(lease(&a, "x").await);
        assert!(matches!(claim(&a, "x").await, Claim::Busy(_)));
        redis.ask(&[b"DEL", &name]);
    }
}

#[tokio::test]
async fn who_did_not_hear_whether_the_lease_is_its_own_gives_it_back() {
    let redis = Redis::start();
    let a = replica(&redis, &[NEW], Duration::from_millis(500));
    let evaluated = || {
        let told = redis.ask(&[b"INFO", b"commandstats"]).text();
        let line = told.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
        line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or(0)
    };
    crate::support::within("the scripts to be known", async {
        loop {
            if let Ok(Claim::Yours(mine)) = a.session().unwrap().claim(entry("x"), None).await {
                a.session().unwrap().release(mine).await;
                return;
            }
        }
    })
    .await;
    let before: u64 = evaluated();
    // Whatever writes is held back; what tells of it is not.
    redis.ask(&[b"CLIENT", b"PAUSE", b"60000", b"WRITE"]);
    let claimed = a.session().unwrap().claim(entry("x"), None).await;
    assert_eq!(claimed.err(), Some(Failure::Late));
    redis.ask(&[b"CLIENT", b"UNPAUSE"]);
    crate::support::within("both to be done", async {
        while evaluated() < before + 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(redis.dump(), []);
}

#[tokio::test]
async fn what_is_to_be_dropped_is_found_under_the_names_of_all_keys() {
    let redis = Redis::start();
    let (old, new) = (replica(&redis, &[OLD], AMPLE), replica(&redis, &[NEW], AMPLE));
    let both = replica(&redis, &[NEW, OLD], AMPLE);
    store(&old, "x", b"before", None).await;
    store(&new, "x", b"after", None).await;
    let mut session = both.session().unwrap();
    let (found, heard) = session.find(entry("x")).await;
    heard.unwrap();
    let mut plain: Vec<_> = found.iter().map(|value| value.plain.clone()).collect();
    plain.sort();
    assert_eq!(plain, [b"after".to_vec(), b"before".to_vec()]);
    for value in found {
        session.delete(&value.seen).await.unwrap();
    }
    assert_eq!(redis.dump(), []);
}

#[tokio::test]
async fn a_server_of_a_former_name_that_stands_still_costs_no_claim_and_no_lease() {
    let cluster = Cluster::start_of_independent_nodes();
    let both = replica_of(&cluster.url(), &[NEW, OLD], Duration::from_secs(1));
    crate::support::within("the servers to be reached", async {
        for owner in OWNERS {
            while both.session().unwrap().find(entry(owner)).await.1.is_err() {}
        }
    })
    .await;
    cluster.pause(1);
    // Each has two names, which are with any two of the three servers.
    let (mut mine, mut failed) = (0, 0);
    for owner in OWNERS {
        match both.session().unwrap().claim(entry(owner), None).await {
            Ok(Claim::Yours(_)) => mine += 1,
            Ok(Claim::Found(_) | Claim::Busy(_)) => panic!("nobody has {owner}"),
            Err(_) => failed += 1,
        }
    }
    let leases = cluster.dump_of(0).len() + cluster.dump_of(2).len();
    assert!(mine > 0 && failed > 0, "{mine}, {failed}");
    assert!(leases <= mine, "{leases} for {mine}");
    assert_eq!(
        failed, WITH_THE_SECOND,
        "a name of the first key is with the one that stands still"
    );
    let mut unsure = 0;
    for owner in OWNERS {
        unsure += usize::from(both.session().unwrap().find(entry(owner)).await.1.is_err());
    }
    assert!(unsure > failed, "what is to be dropped is sought under all names: {unsure}");
}
