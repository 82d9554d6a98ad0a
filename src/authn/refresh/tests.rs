//! The fetching of keys in paused time, against a provider whose answers the test sets.

use super::*;
use crate::authn::algorithm::Algorithm;
use crate::authn::forge::Signer;
use serde_json::json;
use std::sync::Mutex;

/// A provider whose answer is set by the test, after `delay`; it counts the fetches.
#[derive(Default)]
struct Remote {
    answer: Mutex<Option<Vec<u8>>>,
    fetches: std::sync::atomic::AtomicUsize,
    delay: Mutex<Duration>,
    panics: std::sync::atomic::AtomicBool,
}

impl Remote {
    fn publishing(signers: &[&Signer]) -> Arc<Self> {
        let remote = Arc::new(Self::default());
        remote.publish(signers);
        remote
    }

    fn publish(&self, signers: &[&Signer]) {
        let keys: Vec<_> = signers.iter().map(|signer| signer.jwk()).collect();
        *self.answer.lock().unwrap() = Some(json!({ "keys": keys }).to_string().into_bytes());
        self.panics.store(false, std::sync::atomic::Ordering::SeqCst);
    }

    fn panics(&self) {
        self.panics.store(true, std::sync::atomic::Ordering::SeqCst);
    }

    fn fail(&self) {
        *self.answer.lock().unwrap() = None;
    }

    fn slow(&self, delay: Duration) {
        *self.delay.lock().unwrap() = delay;
    }

    fn fetches(&self) -> usize {
        self.fetches.load(std::sync::atomic::Ordering::SeqCst)
    }

    async fn fetch(&self) -> Result<KeySet, String> {
        self.fetches.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let answer = self.answer.lock().unwrap().clone();
        let delay = *self.delay.lock().unwrap();
        tokio::time::sleep(delay).await;
        assert!(!self.panics.load(std::sync::atomic::Ordering::SeqCst), "told to");
        let answer = answer.ok_or("it is down")?;
        let (keys, _) = KeySet::read(&answer, &Algorithm::ALL).map_err(|e| e.to_string())?;
        Ok(keys)
    }
}

const PATIENCE: Duration = Duration::from_secs(10);
const HOUR: Duration = Duration::from_hours(1);

fn start(remote: &Arc<Remote>) -> (Arc<KeyStore>, tokio::task::JoinHandle<()>) {
    let store = Arc::new(KeyStore::empty());
    let (task_store, remote) = (Arc::clone(&store), Arc::clone(remote));
    let task = tokio::spawn(async move {
        task_store.keep("test", HOUR, || remote.fetch()).await;
    });
    (store, task)
}

async fn loaded(store: &KeyStore) {
    let mut progress = store.progress.subscribe();
    progress.wait_for(|progress| progress.finished > 0).await.unwrap();
}

fn is_found(lookup: &Lookup) -> bool {
    matches!(lookup, Lookup::Found(..))
}

#[tokio::test(start_paused = true)]
async fn keys_are_loaded_with_back_off() {
    let key = Signer::ed25519("a");
    let remote = Remote::publishing(&[&key]);
    remote.fail();
    let (store, _task) = start(&remote);
    loaded(&store).await;
    let Lookup::Unavailable(outage) = store.find("a", PATIENCE).await else { panic!() };
    assert!(outage.why.contains("not been loaded") && outage.why.contains("down"));
    tokio::time::sleep(Duration::from_mins(10)).await;
    let fetches = remote.fetches();
    assert!((20..=60).contains(&fetches), "{fetches} in ten minutes");
    remote.publish(&[&key]);
    tokio::time::sleep(limits::LOAD_BACKOFF_MAX).await;
    assert!(is_found(&store.find("a", PATIENCE).await));
    assert_eq!(store.failure(), None);
}

#[tokio::test(start_paused = true)]
async fn keys_are_refreshed_in_the_background() {
    let (a, b) = (Signer::ed25519("a"), Signer::ed25519("b"));
    let remote = Remote::publishing(&[&a]);
    let (store, _task) = start(&remote);
    loaded(&store).await;
    remote.publish(&[&a, &b]);
    tokio::time::sleep(HOUR.mul_f64(0.89)).await;
    assert_eq!(remote.fetches(), 1);
    tokio::time::sleep(HOUR.mul_f64(0.22)).await;
    assert_eq!(remote.fetches(), 2);
    assert!(is_found(&store.find("b", PATIENCE).await));
    assert_eq!(remote.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_kid_refetches_at_once_and_then_only_after_the_floor() {
    let (a, b, c) = (Signer::ed25519("a"), Signer::ed25519("b"), Signer::ed25519("c"));
    let remote = Remote::publishing(&[&a]);
    let (store, _task) = start(&remote);
    loaded(&store).await;
    remote.publish(&[&a, &b]);
    assert!(is_found(&store.find("b", PATIENCE).await), "at once");
    assert_eq!(remote.fetches(), 2);
    remote.publish(&[&a, &b, &c]);
    for kid in 0..1000 {
        let lookup = store.find(&format!("random-{kid}"), PATIENCE).await;
        assert!(matches!(lookup, Lookup::Unknown(_)));
    }
    assert!(matches!(store.find("c", PATIENCE).await, Lookup::Unknown(_)));
    assert_eq!(remote.fetches(), 2, "not within the floor");
    assert_eq!(store.next_forced(), limits::FORCED_REFRESH_FLOOR);
    tokio::time::advance(limits::FORCED_REFRESH_FLOOR).await;
    assert!(is_found(&store.find("c", PATIENCE).await), "just after it");
    assert_eq!(remote.fetches(), 3);
}

#[tokio::test(start_paused = true)]
async fn many_who_miss_a_key_cause_one_fetch_and_readers_of_known_keys_go_on() {
    let (a, b) = (Signer::ed25519("a"), Signer::ed25519("b"));
    let remote = Remote::publishing(&[&a]);
    let (store, _task) = start(&remote);
    loaded(&store).await;
    remote.publish(&[&a, &b]);
    remote.slow(Duration::from_secs(5));
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { is_found(&store.find("b", PATIENCE).await) })
        })
        .collect();
    tokio::time::advance(Duration::from_secs(1)).await;
    let before = Instant::now();
    assert!(is_found(&store.find("a", PATIENCE).await));
    assert_eq!(before, Instant::now(), "a known key is found without waiting");
    for task in waiting {
        assert!(task.await.unwrap());
    }
    assert_eq!(remote.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_fetch_survives_the_request_that_caused_it() {
    let (a, b) = (Signer::ed25519("a"), Signer::ed25519("b"));
    let remote = Remote::publishing(&[&a]);
    let (store, _task) = start(&remote);
    loaded(&store).await;
    remote.publish(&[&b]);
    remote.slow(Duration::from_secs(5));
    let gone = tokio::time::timeout(Duration::from_secs(1), store.find("b", PATIENCE)).await;
    assert!(gone.is_err());
    assert!(is_found(&store.find("b", PATIENCE).await));
    assert_eq!(remote.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_began_too_early_is_repeated() {
    let (a, b) = (Signer::ed25519("a"), Signer::ed25519("b"));
    let remote = Remote::publishing(&[&a]);
    let (store, _task) = start(&remote);
    loaded(&store).await;
    remote.slow(Duration::from_secs(2));
    while remote.fetches() < 2 {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    // The second fetch is on its way, with the answer of before.
    remote.publish(&[&a, &b]);
    assert!(is_found(&store.find("b", PATIENCE).await));
    assert_eq!(remote.fetches(), 3);
}

#[tokio::test(start_paused = true)]
async fn while_the_fetch_fails_an_unknown_key_is_an_outage_and_a_known_one_is_served() {
    let a = Signer::ed25519("a");
    let remote = Remote::publishing(&[&a]);
    let (store, _task) = start(&remote);
    loaded(&store).await;
    remote.fail();
    let Lookup::Unavailable(outage) = store.find("b", PATIENCE).await else { panic!() };
    assert!(outage.why.contains("down"), "{}", outage.why);
    assert_eq!(outage.retry_after, limits::FORCED_REFRESH_FLOOR);
    assert!(is_found(&store.find("a", PATIENCE).await));
    remote.publish(&[&a]);
    tokio::time::sleep(limits::FORCED_REFRESH_FLOOR).await;
    assert!(matches!(store.find("b", PATIENCE).await, Lookup::Unknown(_)));
}

#[tokio::test(start_paused = true)]
async fn patience_ends() {
    let a = Signer::ed25519("a");
    let remote = Remote::publishing(&[&a]);
    let (store, _task) = start(&remote);
    loaded(&store).await;
    remote.slow(HOUR);
    let before = Instant::now();
    let lookup = store.find("b", PATIENCE).await;
    assert!(matches!(lookup, Lookup::Unavailable(_)));
    assert_eq!(before.elapsed(), PATIENCE);
}

#[tokio::test(start_paused = true)]
async fn keys_outlive_an_outage_of_24_hours_and_no_more() {
    let a = Signer::ed25519("a");
    let remote = Remote::publishing(&[&a]);
    let (store, _task) = start(&remote);
    loaded(&store).await;
    remote.fail();
    tokio::time::sleep(limits::KEYS_MAX_STALE.saturating_sub(Duration::from_secs(1))).await;
    assert!(is_found(&store.find("a", PATIENCE).await));
    assert!(store.generation().is_some());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let Lookup::Unavailable(outage) = store.find("a", PATIENCE).await else { panic!() };
    assert!(outage.why.contains("older than 24 h"), "{}", outage.why);
    assert_eq!(store.generation(), None);
    remote.publish(&[&a]);
    tokio::time::sleep(limits::LOAD_BACKOFF_MAX).await;
    assert!(is_found(&store.find("a", PATIENCE).await));
}

#[tokio::test(start_paused = true)]
async fn an_unusable_set_does_not_replace_a_good_one() {
    let a = Signer::ed25519("a");
    let remote = Remote::publishing(&[&a]);
    let (store, _task) = start(&remote);
    loaded(&store).await;
    for bad in [&br#"{"keys":[]}"#[..], b"{}", b"<html>"] {
        *remote.answer.lock().unwrap() = Some(bad.to_vec());
        tokio::time::sleep(HOUR.mul_f64(1.2)).await;
        assert!(is_found(&store.find("a", PATIENCE).await));
        assert!(store.failure().is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn the_generation_changes_when_a_key_goes_and_not_when_one_comes() {
    let (a, b) = (Signer::ed25519("a"), Signer::ed25519("b"));
    let remote = Remote::publishing(&[&a]);
    let (store, _task) = start(&remote);
    loaded(&store).await;
    let first = store.generation();
    remote.publish(&[&a, &b]);
    tokio::time::sleep(HOUR.mul_f64(1.11)).await;
    assert_eq!(store.generation(), first);
    remote.publish(&[&b]);
    tokio::time::sleep(HOUR.mul_f64(1.11)).await;
    assert_ne!(store.generation(), first);
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_are_told_when_the_fetching_stops() {
    let a = Signer::ed25519("a");
    let remote = Remote::publishing(&[&a]);
    let (store, task) = start(&remote);
    loaded(&store).await;
    remote.slow(HOUR);
    let waiting = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.find("b", PATIENCE).await })
    };
    tokio::time::advance(Duration::from_secs(1)).await;
    task.abort();
    let before = Instant::now();
    assert!(matches!(waiting.await.unwrap(), Lookup::Unavailable(_)));
    assert!(before.elapsed() < PATIENCE);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_panics_is_a_failed_fetch() {
    let (a, b) = (Signer::ed25519("a"), Signer::ed25519("b"));
    let remote = Remote::publishing(&[&a]);
    let (store, _task) = start(&remote);
    loaded(&store).await;
    remote.panics();
    let before = Instant::now();
    let Lookup::Unavailable(outage) = store.find("b", PATIENCE).await else { panic!() };
    assert!(outage.why.contains("panicked"), "{}", outage.why);
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert!(is_found(&store.find("a", PATIENCE).await));
    remote.publish(&[&a, &b]);
    tokio::time::sleep(limits::LOAD_BACKOFF_MAX).await;
    assert!(is_found(&store.find("b", PATIENCE).await), "the fetching goes on");
}

#[tokio::test(start_paused = true)]
async fn once_the_fetching_has_ended_nobody_waits_for_it() {
    let a = Signer::ed25519("a");
    for asked_before in [false, true] {
        let remote = Remote::publishing(&[&a]);
        let (store, task) = start(&remote);
        loaded(&store).await;
        if asked_before {
            // Asked for, and the task is gone before it has begun.
            assert_eq!(store.join_or_ask(), Some(1));
        }
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        for _ in 0..2 {
            let before = Instant::now();
            let Lookup::Unavailable(outage) = store.find("b", PATIENCE).await else { panic!() };
            assert!(outage.why.contains("has ended"), "{}", outage.why);
            assert_eq!(before.elapsed(), Duration::ZERO);
            tokio::time::advance(limits::FORCED_REFRESH_FLOOR).await;
        }
        assert!(is_found(&store.find("a", PATIENCE).await));
        assert_eq!(remote.fetches(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn keys_from_a_file_never_go_stale_and_are_never_fetched() {
    let keys = json!({ "keys": [Signer::ed25519("a").jwk()] }).to_string();
    let (keys, _) = KeySet::read(keys.as_bytes(), &Algorithm::ALL).unwrap();
    let store = KeyStore::fixed(keys);
    tokio::time::advance(limits::KEYS_MAX_STALE * 2).await;
    assert!(is_found(&store.find("a", PATIENCE).await));
    assert!(matches!(store.find("b", PATIENCE).await, Lookup::Unknown(_)));
}
