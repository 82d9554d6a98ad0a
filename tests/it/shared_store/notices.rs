//! The stream of what all replicas are told: what others write there is not held, not believed, and
//! stands in nobody's way.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use obo_gateway::clock::{Clock as _, SystemClock};
use obo_gateway::limits;
use obo_gateway::observe::Metrics;
use obo_gateway::shared_store::{
    Audience, EncryptionKey, Heard, Position, SharedStore, StoreAddress, StoreSettings,
};

use crate::support::redis::Redis;
use crate::support::redis::resp::Value;
use crate::support::within;

const NOTICES: &[u8] = b"t:forgotten";

const LAST: &[u8] = b"18446744073709551615-18446744073709551615";

/// A replica, and what it heard.
struct Replica {
    store: Arc<SharedStore>,
    metrics: Metrics,
    heard: Arc<Ears>,
}

#[derive(Default)]
struct Ears(Mutex<Vec<Heard>>);

impl Audience for Ears {
    fn reached(&self) {}

    fn hear(&self, heard: Heard) {
        self.0.lock().unwrap().push(heard);
    }
}

impl Replica {
    /// One that has reached `redis`.
    async fn of(redis: &Redis) -> Self {
        let metrics = Metrics::default();
        let (store, heard) = (SharedStore::new(metrics.clone()), Arc::new(Ears::default()));
        let audience: Weak<dyn Audience> =
            Arc::downgrade(&(Arc::clone(&heard) as Arc<dyn Audience>));
        store.listen(audience);
        store.configure(Some(StoreSettings {
            address: StoreAddress::parse(&redis.url()).unwrap(),
            encryption_keys: vec![EncryptionKey::parse(&"k".repeat(43)).unwrap()],
            key_prefix: "t:".to_owned(),
            timeout: Duration::from_secs(10),
        }));
        let replica = Self { store, metrics, heard };
        replica.says("\nobo_gateway_shared_cache_up 1\n").await;
        replica
    }

    async fn says(&self, text: &str) {
        let said = async {
            while !self.metrics.encode().contains(text) {
                // Metrics tell nobody; the interval only spares the processor.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within(text, said).await;
    }

    async fn announce(&self, notice: &[u8]) -> Position {
        self.store.announce(notice).await.unwrap().unwrap()
    }

    async fn hears(&self, notice: &[u8]) {
        self.reads(notice, 1).await;
    }

    /// Waits until it has read `notice` so often.
    async fn reads(&self, notice: &[u8], count: usize) {
        let read = async {
            while self.all().iter().filter(|(_, plain)| plain == notice).count() < count {
                // What was heard is looked at; the interval only spares the processor.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within("the notice", read).await;
    }

    fn all(&self) -> Vec<(Position, Vec<u8>)> {
        let heard = self.heard.0.lock().unwrap();
        let notices = heard.iter().flat_map(|heard| &heard.notices);
        notices.map(|notice| (notice.position, notice.plain.clone())).collect()
    }

    /// How far it ever had heard.
    fn furthest(&self) -> Position {
        let heard = self.heard.0.lock().unwrap();
        heard.iter().map(|heard| heard.until).max().unwrap_or_default()
    }
}

fn sent(redis: &Redis) -> u64 {
    let told = redis.ask(&[b"INFO", b"stats"]).text();
    let line = told.lines().find_map(|line| line.strip_prefix("total_net_output_bytes:"));
    line.unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_notice_that_is_too_long_is_passed_over_and_not_held() {
    const SIZE: usize = 64 << 20;
    let redis = Redis::start();
    let (one, other) = (Replica::of(&redis).await, Replica::of(&redis).await);
    one.announce(b"before").await;
    other.hears(b"before").await;
    let before = sent(&redis);
    redis.ask(&[b"XADD", NOTICES, b"*", b"v", &vec![b'x'; SIZE]]);
    one.announce(b"after").await;
    for replica in [&one, &other] {
        replica.hears(b"after").await;
        replica
            .says("shared_cache_requests_total{operation=\"forget\",outcome=\"unreadable\"} 1\n")
            .await;
    }
    // The connection breaks with the first bytes; what the system took to send is no matter.
    let took = sent(&redis) - before;
    assert!(took < SIZE as u64, "{took} bytes for two replicas");
    // Who starts behind it is sent nothing of it, and hears all the others.
    let before = sent(&redis);
    let late = Replica::of(&redis).await;
    assert_eq!(late.all().len(), 2);
    assert!(sent(&redis) - before < 1 << 20, "{} bytes were sent", sent(&redis) - before);
}

#[tokio::test]
async fn all_notices_are_heard_however_many_pages_they_are() {
    let redis = Redis::start();
    let one = Replica::of(&redis).await;
    let mut last = Position::default();
    for number in 0..120_u32 {
        last = one.announce(&number.to_be_bytes()).await;
    }
    one.hears(&119_u32.to_be_bytes()).await;
    let late = Replica::of(&redis).await;
    for replica in [&one, &late] {
        let heard: Vec<_> = replica.all().into_iter().map(|(_, plain)| plain).collect();
        let expected: Vec<_> = (0..120_u32).map(|number| number.to_be_bytes().to_vec()).collect();
        assert_eq!(heard, expected);
        assert_eq!(replica.furthest(), last);
    }
}

#[tokio::test]
async fn a_stream_that_has_no_place_left_is_begun_anew_and_all_hear_what_comes() {
    let redis = Redis::start();
    let (one, other) = (Replica::of(&redis).await, Replica::of(&redis).await);
    one.announce(b"first").await;
    let sealed = {
        let entries = redis.ask(&[b"XRANGE", NOTICES, b"-", b"+"]).list();
        let Value::List(entry) = &entries[0] else { panic!("{entries:?}") };
        let Value::List(fields) = &entry[1] else { panic!("{entry:?}") };
        fields[1].clone().bytes()
    };
    let tomorrow = format!("{}-0", (SystemClock.now().0 + 86_400) * 1000);
    // Rubbish, and a copy of a good one, at the very last place and where the store has put none yet.
    let ends: [(&[u8], &[u8]); 4] = [
        (LAST, b"rubbish"),
        (LAST, &sealed),
        (tomorrow.as_bytes(), b"rubbish"),
        (tomorrow.as_bytes(), &sealed),
    ];
    let mut furthest = Position::default();
    for (number, (place, value)) in (0_u8..).zip(ends) {
        redis.ask(&[b"XADD", NOTICES, place, b"v", value]);
        // Rubbish is gone before it was read, as a rule; a copy is read by all.
        for replica in [&one, &other] {
            let copies = if value == b"rubbish" { 0 } else { 2 + usize::from(number / 2) };
            replica.reads(b"first", copies).await;
        }
        let position = one.announce(&[number]).await;
        assert!(position > furthest, "{number}: {position}");
        assert!(position.to_string().as_str() < tomorrow.as_str(), "{number}: {position}");
        furthest = position;
        for replica in [&one, &other] {
            replica.hears(&[number]).await;
        }
    }
    for replica in [&one, &other] {
        assert_eq!(replica.furthest(), furthest, "no copy says how far was heard");
    }
    let late = Replica::of(&redis).await;
    for notice in [b"first".as_slice(), &[0], &[1], &[2], &[3]] {
        late.hears(notice).await;
    }
}

#[tokio::test]
async fn a_store_that_does_not_say_what_is_forgotten_is_left_out_before_long() {
    let redis = Redis::start();
    let replica = Replica::of(&redis).await;
    replica.announce(b"first").await;
    redis.ask(&[b"ACL", b"SETUSER", b"default", b"-xrange", b"-xrevrange"]);
    // It has heard nothing for a quarter of a minute by then.
    let longest = 4 * limits::SHARED_NOTICES_MISSED;
    tokio::time::timeout(longest, async {
        while !replica.metrics.encode().contains("\nobo_gateway_shared_cache_up 0\n") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("it to be left out");
    redis.ask(&[b"ACL", b"SETUSER", b"default", b"+xrange", b"+xrevrange"]);
    replica.says("\nobo_gateway_shared_cache_up 1\n").await;
}

#[tokio::test]
async fn what_a_store_lost_is_put_up_again_by_who_read_it() {
    let redis = Redis::start();
    let (one, other) = (Replica::of(&redis).await, Replica::of(&redis).await);
    for notice in [b"first".as_slice(), b"second"] {
        one.announce(notice).await;
        other.hears(notice).await;
    }
    for loss in [[b"DEL".as_slice(), NOTICES].as_slice(), &[b"FLUSHALL"]] {
        redis.ask(loss);
        let again = async {
            while redis.ask(&[b"XLEN", NOTICES]).number() < 2 {
                // Redis tells nobody; the interval only spares the processor.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        within("both to be put up again", again).await;
        let late = Replica::of(&redis).await;
        late.hears(b"first").await;
        late.hears(b"second").await;
        // Each replica may have done it, and no more often.
        assert!(redis.ask(&[b"XLEN", NOTICES]).number() <= 6);
    }
}
