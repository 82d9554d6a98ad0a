//! What is kept, how old it is when it is found, and what goes first.

use std::time::Duration;

use http::HeaderValue;

use super::super::forgotten::Tagger;
use super::super::terms::tests::terms;
use super::*;
use crate::secret::TokenDigest;

impl TokenCache {
    /// Keeps the token of an exchange without claims that took no time.
    fn put_plain(&self, key: Key, granted: &Granted, inbound_expires_at: UnixTime, now: UnixTime) {
        self.put(key, self.departure(key, tags()), granted, inbound_expires_at, now);
    }

    fn text(&self, key: &Key) -> String {
        match self.find(key, FAR, NOW) {
            Some(Found::Fresh(header)) => header.expose().to_str().unwrap().to_owned(),
            other => age(other.as_ref()).to_owned(),
        }
    }
}

const NOW: UnixTime = UnixTime(1_000_000);
const FAR: UnixTime = UnixTime(9_000_000);

fn key(name: &str) -> Key {
    terms("client", &["scope"]).key(Some(TokenDigest::of(name.as_bytes())))
}

fn tags() -> Tags {
    Tagger::default().tags("u", None)
}

fn granted(token: &str, life: Option<u64>) -> Granted {
    let header = HeaderValue::try_from(format!("Bearer {token}")).unwrap();
    let life = life.map(Duration::from_secs);
    Granted {
        header: SecretHeader::new(header),
        asked_at: NOW,
        life,
        refresh_in: None,
        source: Source::Provider,
    }
}

fn cache() -> TokenCache {
    TokenCache::new(100, limits::MAX_CACHED_TOKEN_BYTES)
}

fn at(offset: u64) -> UnixTime {
    UnixTime(NOW.0 + offset)
}

fn age(found: Option<&Found>) -> &'static str {
    match found {
        Some(Found::Fresh(_)) => "fresh",
        Some(Found::Due(_)) => "due",
        Some(Found::Stale(_)) => "stale",
        None => "gone",
    }
}

#[test]
fn a_token_is_stale_in_its_last_seconds_and_never_used_after() {
    // (life, last second before it is stale)
    for (life, last) in [(3600, 3569), (61, 30), (60, 29), (59, 28), (10, 4), (3, 0)] {
        let cache = cache();
        cache.put_plain(key("a"), &granted("a", Some(life)), FAR, NOW);
        let age = |offset| age(cache.find(&key("a"), FAR, at(offset)).as_ref());
        assert_ne!(age(last), "stale", "{life} at {last}");
        assert_eq!((age(last + 1), age(life - 1)), ("stale", "stale"), "{life}");
        assert_eq!((age(life), age(life + 1)), ("gone", "gone"), "{life}");
    }
}

#[test]
fn a_token_is_due_in_its_last_quarter_once_for_whoever_claims_it() {
    let cache = cache();
    cache.put_plain(key("a"), &granted("a", Some(3600)), FAR, NOW);
    let age_at = |offset| age(cache.find(&key("a"), FAR, at(offset)).as_ref());
    assert_eq!((age_at(2300), age_at(3000)), ("fresh", "due"));
    assert!(!cache.claim_renewal(&key("a"), at(2300), at(2330)), "it is not due");
    assert!(!cache.claim_renewal(&key("b"), at(3000), at(3030)), "it is not there");
    assert!(cache.claim_renewal(&key("a"), at(3000), at(3030)));
    assert!(!cache.claim_renewal(&key("a"), at(3000), at(3030)), "once");
    assert_eq!((age_at(3029), age_at(3030)), ("fresh", "due"));
    let renewed = Granted { asked_at: at(3031), ..granted("b", Some(3600)) };
    cache.put_plain(key("a"), &renewed, FAR, at(3031));
    assert_eq!((age_at(3600), cache.len()), ("fresh", 1));
}

#[test]
fn a_token_that_outlives_the_inbound_one_is_not_due() {
    for (inbound_life, due) in [(3570, "fresh"), (3571, "due")] {
        let (cache, inbound) = (cache(), at(inbound_life));
        cache.put_plain(key("a"), &granted("a", Some(3600)), inbound, NOW);
        assert_eq!(age(cache.find(&key("a"), inbound, at(3569)).as_ref()), due);
        // Nor is it ever stale past the inbound token's end.
        assert_eq!(age(cache.find(&key("a"), inbound, inbound).as_ref()), "gone");
    }
}

#[test]
fn another_token_asked_for_later_is_of_use_where_both_end_with_the_inbound_one() {
    let (cache, inbound) = (cache(), at(3600));
    cache.put_plain(key("a"), &granted("a", Some(3600)), inbound, NOW);
    let held = cache.held(&key("a"));
    let is_of_use = |token: &str, asked_at: u64, life, now| {
        let other = Granted { asked_at: at(asked_at), ..granted(token, Some(life)) };
        other.is_of_use(inbound, held.as_ref(), at(now))
    };
    // All of these end at 3600, as the inbound token and what is held do.
    assert!(is_of_use("b", 3000, 600, 3000));
    assert!(is_of_use("b", 1, 3599, 3000));
    assert!(!is_of_use("b", 0, 3600, 3000), "it is as old");
    assert!(!is_of_use("a", 3000, 600, 3000), "it is the same");
    assert!(is_of_use("b", 3000, 600, 3569));
    assert!(!is_of_use("b", 3000, 600, 3570), "it is stale");
    // An older one that is held ends sooner than one that was asked for with it.
    assert!(!is_of_use("b", 0, 3599, 3000));
    assert!(granted("a", Some(3600)).is_of_use(inbound, None, at(3000)), "nothing is held");
    let short = cache.held(&key("b"));
    assert!(short.is_none());
}

#[test]
fn what_the_provider_refuses_is_dropped() {
    let cache = cache();
    cache.put_plain(key("a"), &granted("a", Some(3600)), FAR, NOW);
    cache.drop_token(&key("b"));
    assert_eq!(cache.len(), 1);
    cache.drop_token(&key("a"));
    assert_eq!((cache.len(), cache.tokens.len(), cache.lock().bytes), (0, 0, 0));
}

#[test]
fn a_token_is_not_used_past_the_inbound_tokens_expiry() {
    let cache = cache();
    cache.put_plain(key("a"), &granted("a", Some(3600)), at(100), NOW);
    assert!(cache.find(&key("a"), at(100), at(99)).is_some());
    assert!(cache.find(&key("a"), at(100), at(100)).is_none());
    // Whoever asks with an earlier expiry is judged by that one.
    assert!(cache.find(&key("a"), at(50), at(49)).is_some());
    assert!(cache.find(&key("a"), at(50), at(50)).is_none());
    // And nobody gets more than was put in.
    assert!(cache.find(&key("a"), FAR, at(100)).is_none());
}

#[test]
fn what_is_of_no_use_later_is_not_kept() {
    let cache = cache();
    cache.put_plain(key("no life"), &granted("a", None), FAR, NOW);
    cache.put_plain(key("a second"), &granted("a", Some(1)), FAR, NOW);
    cache.put_plain(key("inbound over"), &granted("a", Some(3600)), NOW, NOW);
    cache.put_plain(key("came late"), &granted("a", Some(3600)), FAR, at(3570));
    assert_eq!(cache.len(), 0);
    cache.put_plain(key("inbound not over"), &granted("a", Some(3600)), at(1), NOW);
    cache.put_plain(key("came in time"), &granted("a", Some(3600)), FAR, at(3569));
    assert!(cache.find(&key("came in time"), FAR, at(3569)).is_some());
}

#[test]
fn a_key_is_found_by_itself_only() {
    let cache = cache();
    cache.put_plain(key("alice"), &granted("a", Some(3600)), FAR, NOW);
    assert!(cache.find(&key("bob"), FAR, NOW).is_none());
    let Some(Found::Fresh(found)) = cache.find(&key("alice"), FAR, NOW) else {
        panic!("it is there")
    };
    assert_eq!(found.expose(), "Bearer a");
    assert!(found.expose().is_sensitive());
}

#[test]
fn entries_are_bounded_and_the_oldest_go_first() {
    let cache = TokenCache::new(2, limits::MAX_CACHED_TOKEN_BYTES);
    for (name, life) in [("first", 1000), ("second", 3600), ("third", 100)] {
        cache.put_plain(key(name), &granted(name, Some(life)), FAR, NOW);
    }
    assert_eq!(cache.len(), 2);
    assert!(cache.find(&key("first"), FAR, NOW).is_none());
    assert!(cache.find(&key("second"), FAR, NOW).is_some());
    cache.set_max_entries(1, NOW);
    assert!(cache.find(&key("second"), FAR, NOW).is_none());
    assert!(cache.find(&key("third"), FAR, NOW).is_some());
    cache.set_max_entries(0, NOW);
    assert_eq!((cache.len(), cache.lock().bytes, cache.tokens.len()), (0, 0, 0));
}

#[test]
fn a_new_token_is_kept_however_long_the_others_live() {
    let cache = TokenCache::new(3, limits::MAX_CACHED_TOKEN_BYTES);
    for name in ["a", "b", "c"] {
        cache.put_plain(key(name), &granted(name, Some(86_400)), FAR, NOW);
    }
    // Put in again it is a new one, and `b` is the oldest.
    cache.put_plain(key("a"), &granted("again", Some(86_400)), FAR, NOW);
    cache.put_plain(key("new"), &granted("new", Some(3600)), FAR, NOW);
    assert!(cache.find(&key("new"), FAR, NOW).is_some());
    assert!(cache.find(&key("a"), FAR, NOW).is_some());
    assert!(cache.find(&key("b"), FAR, NOW).is_none());
    assert_eq!((cache.len(), cache.lock().by_expiry.len()), (3, 3));
}

#[test]
fn fewer_entries_cost_the_expired_first() {
    let cache = cache();
    cache.put_plain(key("old"), &granted("a", Some(1000)), FAR, NOW);
    cache.put_plain(key("dead"), &granted("a", Some(100)), FAR, NOW);
    cache.set_max_entries(1, at(100));
    assert!(cache.find(&key("old"), FAR, at(100)).is_some());
}

#[test]
fn the_expired_go_before_the_living() {
    let cache = TokenCache::new(2, limits::MAX_CACHED_TOKEN_BYTES);
    cache.put_plain(key("dead"), &granted("a", Some(100)), FAR, NOW);
    cache.put_plain(key("old"), &granted("a", Some(1000)), FAR, NOW);
    cache.put_plain(key("new"), &granted("a", Some(500)), FAR, at(100));
    assert_eq!(cache.len(), 2);
    assert!(cache.find(&key("old"), FAR, at(100)).is_some());
    assert!(cache.find(&key("new"), FAR, at(100)).is_some());
}

#[test]
fn bytes_are_bounded() {
    let token = "x".repeat(1000);
    let header = granted(&token, None).header;
    let one = header.expose().len() + ENTRY_OVERHEAD;
    for (room, kept) in [(3 * one, 3), (3 * one - 1, 2)] {
        let cache = TokenCache::new(100, room);
        for name in 1..=5 {
            let name = name.to_string();
            cache.put_plain(key(&name), &granted(&token, Some(1000)), FAR, NOW);
        }
        assert_eq!(cache.len(), kept);
        assert_eq!(cache.lock().bytes, kept * one);
        assert!(cache.find(&key("5"), FAR, NOW).is_some());
    }
}

#[test]
fn a_token_replaces_the_one_before_it_and_is_counted_once() {
    let cache = cache();
    for (token, life) in [("first", 3600), ("second", 3600), ("third", 1000)] {
        cache.put_plain(key("a"), &granted(token, Some(life)), FAR, NOW);
    }
    let Some(Found::Fresh(found)) = cache.find(&key("a"), FAR, NOW) else { panic!("it is there") };
    assert_eq!(found.expose(), "Bearer third");
    assert_eq!(cache.lock().by_expiry.len(), 1);
    assert_eq!((cache.len(), cache.tokens.len()), (1, 1));
    assert_eq!(cache.lock().bytes, "Bearer third".len() + ENTRY_OVERHEAD);
}

#[test]
fn only_the_token_that_was_refused_is_forgotten() {
    let cache = cache();
    cache.put_plain(key("a"), &granted("new", Some(3600)), FAR, NOW);
    cache.forget(&key("a"), &granted("old", None).header);
    assert_eq!(cache.len(), 1);
    cache.forget(&key("a"), &granted("new", None).header);
    assert_eq!((cache.len(), cache.tokens.len(), cache.lock().bytes), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_token_in_place_of_a_refused_one_stays_a_while() {
    let cache = cache();
    let (first, second) = (granted("first", Some(3600)), granted("second", Some(3600)));
    cache.put_plain(key("a"), &first, FAR, NOW);
    cache.forget(&key("a"), &first.header);
    cache.put_plain(key("a"), &second, FAR, NOW);
    cache.forget(&key("a"), &second.header);
    assert!(cache.find(&key("a"), FAR, NOW).is_some());
    tokio::time::advance(limits::REFUSED_TOKEN_FLOOR).await;
    cache.forget(&key("a"), &second.header);
    assert!(cache.find(&key("a"), FAR, NOW).is_none());
}

#[test]
fn a_token_with_claims_gives_way_only_to_one_asked_for_after_it_came() {
    let (cache, key) = (cache(), key("a"));
    let with_claims = key.with_claims("{}");
    let hour = |token| granted(token, Some(3600));
    let (before, asked) = (cache.departure(key, tags()), cache.departure(with_claims, tags()));
    let beside = cache.departure(key, tags());
    cache.put(key, before, &hour("plain"), FAR, NOW);
    cache.put(key, asked, &hour("claims"), FAR, NOW);
    assert_eq!(cache.text(&key), "Bearer claims", "it takes the place of one without");
    cache.put(key, beside, &hour("late"), FAR, NOW);
    assert_eq!(cache.text(&key), "Bearer claims");
    assert_eq!((cache.len(), cache.lock().by_expiry.len()), (1, 1));

    // Past its use it stands in nobody's way.
    let late = Granted { asked_at: at(3570), ..hour("late") };
    cache.put(key, beside, &late, FAR, at(3569));
    assert!(cache.find_by(&with_claims, &key, FAR, at(3569)).is_some());
    cache.put(key, beside, &late, FAR, at(3570));
    assert!(cache.find_by(&with_claims, &key, FAR, at(3570)).is_none());

    // Nor is it held on to against other claims, or its own renewal.
    let again = cache.departure(key.with_claims("{\"a\":1}"), tags());
    cache.put(key, asked, &hour("claims"), FAR, NOW);
    cache.put(key, again, &hour("other claims"), FAR, NOW);
    assert_eq!(cache.text(&key), "Bearer other claims");
    cache.put_plain(key, &hour("renewed"), FAR, NOW);
    assert_eq!(cache.text(&key), "Bearer renewed");
}

#[test]
fn a_token_answers_the_claims_that_it_was_asked_with_and_no_others() {
    let (cache, key) = (cache(), key("a"));
    let (own, other) = (key.with_claims("{}"), key.with_claims("{\"a\":1}"));
    cache.put_plain(key, &granted("a", Some(3600)), FAR, NOW);
    assert!(cache.find_by(&own, &key, FAR, NOW).is_none());
    cache.put(key, cache.departure(own, tags()), &granted("b", Some(3600)), FAR, NOW);
    assert!(cache.find_by(&own, &key, FAR, NOW).is_some());
    assert!(cache.find_by(&other, &key, FAR, NOW).is_none());
    assert!(cache.find_by(&key, &key, FAR, NOW).is_some());
}
