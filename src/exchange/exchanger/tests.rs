//! Single flight and cache together: counted calls, cancellations, faults, random clocks.

mod challenged;
mod resilience;

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use http::HeaderValue;
use proptest::prelude::*;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::super::advice::Class;
use super::super::cache::{Granted, Source};
use super::super::failure::Memory;
use super::super::terms::tests::terms;
use super::*;
use crate::clock::Clock;
use crate::rejection::Code;
use crate::secret::TokenDigest;

const START: u64 = 1_000_000;

#[derive(Debug)]
struct TestClock(AtomicU64);

impl TestClock {
    fn at(seconds: u64) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(seconds)))
    }
}

impl Clock for TestClock {
    fn now(&self) -> UnixTime {
        UnixTime(self.0.load(Ordering::Relaxed))
    }
}

fn exchanger(clock: &Arc<TestClock>) -> Arc<Exchanger> {
    Exchanger::new(100, Arc::clone(clock) as SharedClock, Metrics::default())
}

fn key(user: &str) -> Key {
    terms("client", &["scope"]).key(Some(TokenDigest::of(user.as_bytes())))
}

fn granted(text: &str, asked_at: UnixTime, life: Option<u64>) -> Granted {
    let header = HeaderValue::try_from(format!("Bearer {text}")).unwrap();
    let life = life.map(Duration::from_secs);
    Granted {
        header: SecretHeader::new(header),
        asked_at,
        life,
        refresh_in: None,
        source: Source::Provider,
    }
}

const LATER: UnixTime = UnixTime(START + 3600);

/// The token of `user`, who is nobody to be forgotten.
fn sought(user: &str) -> Sought {
    sought_by(key(user), LATER)
}

fn sought_by(key: Key, inbound_expires_at: UnixTime) -> Sought {
    let tags = Tagger::default().tags("u", None);
    Sought { key, flight: key, inbound_expires_at, tags, shared: Some(Waited::default()) }
}

#[tokio::test]
async fn a_thousand_first_requests_make_one_exchange() {
    let (exchanger, calls) = (exchanger(&TestClock::at(START)), Arc::new(AtomicUsize::new(0)));
    let (let_go, gate) = oneshot::channel::<()>();
    let gate = Arc::new(Mutex::new(Some(gate)));
    let boarded = Arc::new(AtomicUsize::new(0));
    let requests: Vec<JoinHandle<_>> = (0..1000)
        .map(|_| {
            let (exchanger, calls, gate) =
                (Arc::clone(&exchanger), Arc::clone(&calls), Arc::clone(&gate));
            let boarded = Arc::clone(&boarded);
            tokio::spawn(async move {
                let call = || async move {
                    calls.fetch_add(1, Ordering::Relaxed);
                    let gate = gate.lock().unwrap().take().expect("the first call");
                    gate.await.expect("let go");
                    Ok(granted("a", UnixTime(START), Some(3600)))
                };
                // On this one thread nothing runs between here and the wait for the outcome.
                boarded.fetch_add(1, Ordering::Relaxed);
                exchanger.fly(sought("alice"), call).await
            })
        })
        .collect();
    while boarded.load(Ordering::Relaxed) < 1000 {
        tokio::task::yield_now().await;
    }
    let_go.send(()).unwrap();
    let mut results = HashMap::new();
    for request in requests {
        let (result, outcome) = request.await.unwrap();
        assert_eq!(outcome.unwrap().header.expose(), "Bearer a");
        *results.entry(result).or_insert(0) += 1;
    }
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    assert_eq!(results[&CacheResult::Miss], 1);
    assert_eq!(results[&CacheResult::Coalesced], 999);
    assert_eq!(exchanger.flights.len(), 0);
    assert!(exchanger.cached(&key("alice"), LATER).is_some());
    assert!(exchanger.cached(&key("bob"), LATER).is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn threads_that_race_make_one_exchange() {
    for _ in 0..50 {
        let (exchanger, calls) = (exchanger(&TestClock::at(START)), Arc::new(AtomicUsize::new(0)));
        let requests: Vec<JoinHandle<_>> = (0..100)
            .map(|_| {
                let (exchanger, calls) = (Arc::clone(&exchanger), Arc::clone(&calls));
                tokio::spawn(async move {
                    if exchanger.cached(&key("alice"), LATER).is_some() {
                        return;
                    }
                    let call = || async move {
                        calls.fetch_add(1, Ordering::Relaxed);
                        Ok(granted("a", UnixTime(START), Some(3600)))
                    };
                    exchanger.fly(sought("alice"), call).await.1.unwrap();
                })
            })
            .collect();
        for request in requests {
            request.await.unwrap();
        }
        assert_eq!((calls.load(Ordering::Relaxed), exchanger.flights.len()), (1, 0));
    }
}

#[tokio::test]
async fn an_exchange_survives_the_request_that_started_it() {
    let exchanger = exchanger(&TestClock::at(START));
    let (let_go, gate) = oneshot::channel::<()>();
    let leader = tokio::spawn({
        let exchanger = Arc::clone(&exchanger);
        async move {
            let call = || async move {
                gate.await.expect("let go");
                Ok(granted("a", UnixTime(START), Some(3600)))
            };
            exchanger.fly(sought("alice"), call).await
        }
    });
    while exchanger.flights.len() == 0 {
        tokio::task::yield_now().await;
    }
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    assert_eq!(exchanger.flights.len(), 1, "it is still under way");

    let never = || async { panic!("one exchange is enough") };
    let second = exchanger.fly(sought("alice"), never);
    let_go.send(()).unwrap();
    let (result, outcome) = second.await;
    assert_eq!(result, CacheResult::Coalesced);
    assert_eq!(outcome.unwrap().header.expose(), "Bearer a");
    assert_eq!(exchanger.flights.len(), 0);
}

#[tokio::test]
async fn a_failure_is_shared_and_not_kept() {
    let exchanger = exchanger(&TestClock::at(START));
    let (let_go, gate) = oneshot::channel::<()>();
    let first = exchanger.fly(sought("alice"), || async move {
        gate.await.expect("let go");
        Err(Arc::new(ExchangeError::new(Class::Consent, "no consent".into())))
    });
    let second = exchanger.fly(sought("alice"), || async { panic!("one is enough") });
    let ((one, two), ()) =
        futures_util::future::join(futures_util::future::join(first, second), async move {
            let_go.send(()).unwrap();
        })
        .await;
    assert_eq!((one.0, two.0), (CacheResult::Miss, CacheResult::Coalesced));
    for outcome in [one.1, two.1] {
        assert_eq!(outcome.unwrap_err().rejection().code(), Code::ConsentRequired);
    }
    let again = || async { Ok(granted("a", UnixTime(START), Some(3600))) };
    let (result, outcome) = exchanger.fly(sought("alice"), again).await;
    assert_eq!(result, CacheResult::Miss);
    outcome.unwrap();
}

#[tokio::test]
async fn a_panic_costs_its_requests_and_no_more() {
    let exchanger = exchanger(&TestClock::at(START));
    let panics = || async { panic!("a bug, made by this test") };
    let (_, outcome) = exchanger.fly(sought("alice"), panics).await;
    assert_eq!(outcome.unwrap_err().rejection().code(), Code::Internal);
    assert_eq!(exchanger.flights.len(), 0);
    let works = || async { Ok(granted("a", UnixTime(START), Some(3600))) };
    exchanger.fly(sought("alice"), works).await.1.unwrap();
}

#[tokio::test]
async fn a_token_of_unknown_life_is_used_once() {
    let exchanger = exchanger(&TestClock::at(START));
    for round in ["first", "second"] {
        let call = move || async move { Ok(granted(round, UnixTime(START), None)) };
        let (result, outcome) = exchanger.fly(sought("alice"), call).await;
        assert_eq!(result, CacheResult::Miss);
        assert_eq!(outcome.unwrap().header.expose(), format!("Bearer {round}").as_str());
        assert!(exchanger.cached(&key("alice"), LATER).is_none());
    }
}

#[tokio::test]
async fn who_boards_after_a_landing_takes_what_landed() {
    let exchanger = exchanger(&TestClock::at(START));
    let call = || async { Ok(granted("a", UnixTime(START), Some(3600))) };
    exchanger.fly(sought("alice"), call).await.1.unwrap();
    // As a request that looked into the cache just before the first one landed.
    let never = || async { panic!("it is in the cache") };
    let (result, outcome) = exchanger.fly(sought("alice"), never).await;
    assert_eq!(result, CacheResult::Hit);
    assert_eq!(outcome.unwrap().header.expose(), "Bearer a");
    assert_eq!(exchanger.flights.len(), 0);
}

#[tokio::test]
async fn a_token_that_expired_on_its_way_is_not_used() {
    let clock = TestClock::at(START);
    let exchanger = exchanger(&clock);
    for (took, usable) in [(9, true), (10, false)] {
        let clock = Arc::clone(&clock);
        let call = move || async move {
            let asked_at = clock.now();
            clock.0.fetch_add(took, Ordering::Relaxed);
            Ok(granted("a", asked_at, Some(10)))
        };
        let (_, outcome) = exchanger.fly(sought("alice"), call).await;
        assert_eq!(outcome.is_ok(), usable);
    }
}

/// What happens to the gateway in the property test.
#[derive(Clone, Debug)]
enum Event {
    /// User × (scope and upstream), and the seconds that the inbound token still lives.
    Request(u8, u8),
    /// The n-th request under way is dropped by its caller.
    Cancel(usize),
    /// The clock moves.
    Pass(u64),
    /// The n-th call to the provider is answered: with a token of that life, or an error.
    Answer(usize, Fate),
}

#[derive(Clone, Debug)]
enum Fate {
    Token(Option<u64>),
    /// Not now.
    Outage,
    /// Not any more.
    Refusal,
    Panic,
}

fn event() -> impl Strategy<Value = Event> {
    let fate = prop_oneof![
        6 => (1_u64..200).prop_map(|life| Fate::Token(Some(life))),
        1 => Just(Fate::Token(None)),
        3 => Just(Fate::Outage),
        1 => Just(Fate::Refusal),
        1 => Just(Fate::Panic),
    ];
    prop_oneof![
        5 => (0_u8..2, 0_u8..2).prop_map(|(user, upstream)| Event::Request(user, upstream)),
        1 => any::<usize>().prop_map(Event::Cancel),
        2 => (1_u64..60).prop_map(Event::Pass),
        4 => (any::<usize>(), fate).prop_map(|(nth, fate)| Event::Answer(nth, fate)),
    ]
}

/// A call that waits at the provider.
type Waiting = Arc<Mutex<Vec<(Key, UnixTime, oneshot::Sender<Outcome>)>>>;

/// What a request saw: how it was answered, the token, and when.
type Seen = (CacheResult, Option<String>, UnixTime);

/// A request of the property test.
struct Asked {
    key: Key,
    owner: String,
    inbound_expires_at: UnixTime,
    /// How many calls had been answered before it.
    after: u64,
    task: JoinHandle<Seen>,
}

/// The provider of the property test: what waits there, and what it answered.
#[derive(Default)]
struct Desk {
    waiting: Waiting,
    answered: u64,
    /// By key, the number of the last answer that was a refusal.
    refused: HashMap<Key, u64>,
}

async fn play(events: Vec<Event>, max_entries: usize) {
    let clock = TestClock::at(START);
    let exchanger =
        Exchanger::new(max_entries, Arc::clone(&clock) as SharedClock, Metrics::default());
    let mut desk = Desk::default();
    let mut requests: Vec<Asked> = Vec::new();
    // Inbound tokens differ in life, so that either expiry may come first; a user whose token
    // is over signs in again, and gets another token.
    let inbound_life = [90, 45];

    for event in events {
        match event {
            Event::Request(user, upstream) => {
                let life = inbound_life[usize::from(user)];
                let since = (clock.now().0 - START) / life;
                let inbound_expires_at = UnixTime(START + (since + 1) * life);
                let inbound = format!("user {user}, sign-in {since}");
                let scope = format!("api://{upstream}/.default");
                let key = terms("client", &[&scope]).key(Some(TokenDigest::of(inbound.as_bytes())));
                let owner = format!("{user}/{since}/{upstream}");
                let asking =
                    asking(&exchanger, &desk.waiting, &clock, key, inbound_expires_at, &owner);
                let (after, task) = (desk.answered, tokio::spawn(asking));
                requests.push(Asked { key, owner, inbound_expires_at, after, task });
            }
            Event::Cancel(nth) if !requests.is_empty() => {
                let nth = nth % requests.len();
                requests[nth].task.abort();
            }
            Event::Answer(nth, fate) => desk.answer(nth, &fate),
            Event::Pass(seconds) => {
                clock.0.fetch_add(seconds, Ordering::Relaxed);
                tokio::time::advance(Duration::from_secs(seconds)).await;
            }
            Event::Cancel(_) => {}
        }
        settle().await;
        {
            let waiting = desk.waiting.lock().unwrap();
            let mut keys: Vec<Key> = waiting.iter().map(|(key, ..)| *key).collect();
            keys.sort_unstable();
            keys.dedup();
            assert_eq!(keys.len(), waiting.len(), "one call for each key at most");
        }
        assert!(exchanger.cache.len() <= max_entries);
    }
    while !desk.waiting.lock().unwrap().is_empty() {
        desk.answer(0, &Fate::Token(Some(100)));
        settle().await;
    }
    assert_eq!(exchanger.flights.len(), 0, "nothing is left under way");

    for asked in requests {
        let seen = match asked.task.await {
            Ok(seen) => seen,
            Err(error) => {
                assert!(error.is_cancelled(), "a request that was not cancelled has an end");
                continue;
            }
        };
        let (result, Some(token), at) = seen else { continue };
        let mut parts = token.strip_prefix("Bearer ").unwrap().splitn(3, ' ');
        let mut number = || parts.next().unwrap().parse::<u64>().unwrap();
        let (expires_at, issued) = (number(), number());
        let of = parts.next().unwrap();
        assert_eq!(of, asked.owner, "a token of somebody else, or for something else");
        assert!(at.0 < expires_at, "used at {at} and expired at {expires_at}");
        if let Some(refused) = desk.refused.get(&asked.key)
            && *refused < asked.after
        {
            assert!(issued > *refused, "a token from before the provider refused its caller");
        }
        match result {
            CacheResult::Hit => {
                assert!(at < asked.inbound_expires_at, "cached past the inbound token's expiry");
                assert!(at.0 < expires_at - 1, "cached and used without a margin");
            }
            CacheResult::Stale => {
                assert!(at < asked.inbound_expires_at, "stale past the inbound token's expiry");
            }
            CacheResult::Miss | CacheResult::SharedHit | CacheResult::Coalesced => {}
        }
    }
}

/// One request, from the cache or the provider.
fn asking(
    exchanger: &Arc<Exchanger>,
    waiting: &Waiting,
    clock: &Arc<TestClock>,
    key: Key,
    inbound_expires_at: UnixTime,
    owner: &str,
) -> impl Future<Output = Seen> + use<> {
    let (exchanger, waiting, clock) =
        (Arc::clone(exchanger), Arc::clone(waiting), Arc::clone(clock));
    let owner = owner.to_owned();
    async move {
        let call = {
            let clock = Arc::clone(&clock);
            move || async move {
                let asked_at = clock.now();
                let (sender, answer) = oneshot::channel();
                waiting.lock().unwrap().push((key, asked_at, sender));
                let mut granted =
                    answer.await.expect("each call is answered or the test panics on purpose")?;
                let text = granted.header.expose().to_str().unwrap();
                let header = HeaderValue::try_from(format!("{text} {owner}")).unwrap();
                granted.header = SecretHeader::new(header);
                Ok(granted)
            }
        };
        let provider = Arc::from("entra");
        let (result, outcome) =
            exchanger.obtain(sought_by(key, inbound_expires_at), &provider, call).await;
        let token = outcome.ok().map(|header| header.expose().to_str().unwrap().to_owned());
        (result, token, clock.now())
    }
}

impl Desk {
    /// Answers the `nth` call that waits; its token says when it expires, and which answer it is.
    fn answer(&mut self, nth: usize, fate: &Fate) {
        let mut waiting = self.waiting.lock().unwrap();
        if waiting.is_empty() {
            return;
        }
        let nth = nth % waiting.len();
        let (key, asked_at, sender) = waiting.remove(nth);
        let number = self.answered;
        self.answered += 1;
        let error = |class, memory| {
            Err(Arc::new(ExchangeError::new(class, "fault".into()).remembered(memory)))
        };
        let answer = match fate {
            Fate::Token(life) => {
                let expires_at = life.map_or(u64::MAX, |life| asked_at.0 + life);
                Ok(granted(&format!("{expires_at} {number}"), asked_at, *life))
            }
            Fate::Outage => error(Class::Unavailable, Memory::None),
            Fate::Refusal => {
                self.refused.insert(key, number);
                error(Class::Invalid, Memory::Token(Duration::from_secs(5)))
            }
            Fate::Panic => return, // The sender is dropped, and the exchange's task panics.
        };
        sender.send(answer).expect("an exchange goes on whoever goes away");
    }
}

/// Lets every task run until it waits for an event.
async fn settle() {
    for _ in 0..32 {
        tokio::task::yield_now().await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Invariant 3, under random clocks, faults and cancellations.
    #[test]
    fn nobody_gets_a_token_that_is_not_theirs_or_not_alive(
        events in proptest::collection::vec(event(), 1..120),
        max_entries in 0_usize..6,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(play(events, max_entries));
    }
}
