//! Renewals, tokens at their end, and refusals that are remembered, under paused time.

use super::*;
use crate::authn::ProviderSettings;
use crate::rejection::Extra;

/// An exchanger whose clock goes with the paused time, and a scripted provider.
struct World {
    clock: Arc<TestClock>,
    exchanger: Arc<Exchanger>,
    provider: Arc<str>,
    calls: Arc<AtomicUsize>,
}

/// What the provider of a [`World`] does with a call.
#[derive(Clone)]
enum Script {
    /// A token of an hour.
    Token(&'static str),
    /// The same, after a while.
    After(Duration, &'static str),
    /// A failure.
    Error(Class, Memory),
}

impl World {
    fn new() -> Self {
        let clock = TestClock::at(START);
        Self {
            exchanger: Exchanger::new(
                10_000,
                Arc::clone(&clock) as SharedClock,
                Metrics::default(),
            ),
            clock,
            provider: Arc::from("entra"),
            calls: Arc::default(),
        }
    }

    async fn pass(&self, by: Duration) {
        self.clock.0.fetch_add(by.as_secs(), Ordering::Relaxed);
        tokio::time::advance(by).await;
        settle().await;
    }

    async fn pass_seconds(&self, by: u64) {
        self.pass(Duration::from_secs(by)).await;
    }

    /// A request of `user`; the token it got, or the refusal.
    async fn ask(
        &self,
        user: &str,
        inbound_expires_at: UnixTime,
        script: Script,
    ) -> (CacheResult, Result<String, Rejection>) {
        let (calls, clock) = (Arc::clone(&self.calls), Arc::clone(&self.clock));
        let call = || async move {
            calls.fetch_add(1, Ordering::Relaxed);
            let asked_at = clock.now();
            match script {
                Script::Token(text) => Ok(granted(text, asked_at, Some(3600))),
                Script::After(wait, text) => {
                    tokio::time::sleep(wait).await;
                    Ok(granted(text, asked_at, Some(3600)))
                }
                Script::Error(class, memory) => {
                    let error = ExchangeError::new(class, "no".into()).remembered(memory);
                    Err(Arc::new(error))
                }
            }
        };
        let asked = self
            .exchanger
            .obtain(sought_by(key(user), inbound_expires_at), &self.provider, call)
            .await;
        settle().await;
        let text = |header: SecretHeader| {
            let header = header.expose().to_str().unwrap();
            header.strip_prefix("Bearer ").unwrap().to_owned()
        };
        (asked.0, asked.1.map(text).map_err(|error| error.rejection()))
    }

    /// A request that must find `token`.
    async fn hit(&self, user: &str, token: &str, script: Script) {
        let (result, outcome) = self.ask(user, FAR, script).await;
        assert_eq!((result, outcome.unwrap().as_str()), (CacheResult::Hit, token));
    }

    async fn exchanged(&self, user: &str) {
        self.ask(user, FAR, Script::Token("old")).await.1.unwrap();
        self.calls.store(0, Ordering::Relaxed);
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

const FAR: UnixTime = UnixTime(START + 1_000_000);
const NEVER: Script = Script::Error(Class::Gateway, Memory::None);
const DOWN: Script = Script::Error(Class::Unavailable, Memory::None);
/// A token of an hour is due in any case, and still fresh.
const DUE: u64 = 3000;
/// It is in its last seconds.
const AT_ITS_END: u64 = 3571;

#[tokio::test(start_paused = true)]
async fn a_token_in_use_is_renewed_behind_its_users_backs() {
    let world = World::new();
    world.exchanged("alice").await;
    world.pass_seconds(2300).await;
    world.hit("alice", "old", NEVER).await;
    assert_eq!(world.calls(), 0, "it is not time");

    world.pass_seconds(DUE - 2300).await;
    let slow = Script::After(Duration::from_secs(9), "new");
    let started = Instant::now();
    for _ in 0..100 {
        world.hit("alice", "old", slow.clone()).await;
    }
    assert_eq!((world.calls(), started.elapsed()), (1, Duration::ZERO));
    world.pass_seconds(9).await;
    world.hit("alice", "new", NEVER).await;
    world.pass_seconds(2000).await;
    world.hit("alice", "new", NEVER).await;
    assert_eq!((world.calls(), world.exchanger.cache.len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_uses_is_not_renewed() {
    let world = World::new();
    world.exchanged("alice").await;
    world.pass_seconds(DUE).await;
    world.pass_seconds(100).await;
    assert_eq!(world.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_not_renewed_for_a_caller_whose_own_ends_first() {
    let world = World::new();
    let inbound = UnixTime(START + 3570);
    world.ask("alice", inbound, Script::Token("old")).await.1.unwrap();
    world.pass_seconds(3569).await;
    assert_eq!(world.ask("alice", inbound, NEVER).await.0, CacheResult::Hit);
    assert_eq!(world.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_failed_is_not_tried_again_at_once() {
    let world = World::new();
    world.exchanged("alice").await;
    world.pass_seconds(DUE).await;
    for seconds in 0..15 {
        world.hit("alice", "old", DOWN).await;
        assert_eq!(world.calls(), 1, "after {seconds} s");
        world.pass_seconds(1).await;
    }
    world.pass_seconds(30).await;
    world.hit("alice", "old", Script::Token("new")).await;
    assert_eq!(world.calls(), 2);
    world.hit("alice", "new", NEVER).await;
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_a_renewal_loses_the_token() {
    for class in
        [Class::Interaction, Class::Consent, Class::NotAllowed, Class::Expired, Class::Invalid]
    {
        let world = World::new();
        world.exchanged("alice").await;
        world.exchanged("bob").await;
        world.pass_seconds(DUE).await;
        let memory = Memory::Token(limits::REFUSAL_MEMORY);
        world.hit("alice", "old", Script::Error(class, memory)).await;
        for _ in 0..10 {
            let (result, outcome) = world.ask("alice", FAR, Script::Token("new")).await;
            assert_eq!((result, outcome.unwrap_err().code()), (CacheResult::Miss, class.code()));
        }
        assert_eq!(world.calls(), 1, "the provider is not asked again");
        world.hit("bob", "old", DOWN).await;
        world.pass(limits::REFUSAL_MEMORY).await;
        let (_, outcome) = world.ask("alice", FAR, Script::Token("new")).await;
        assert_eq!(outcome.unwrap(), "new");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_gateway_itself_costs_nobody_a_token() {
    let world = World::new();
    world.exchanged("alice").await;
    world.exchanged("bob").await;
    world.pass_seconds(DUE).await;
    let refused = Script::Error(Class::Gateway, Memory::Client(limits::SHORT_REFUSAL_MEMORY));
    for _ in 0..10 {
        world.hit("alice", "old", refused.clone()).await;
        world.hit("bob", "old", refused.clone()).await;
    }
    assert_eq!(world.calls(), 1, "and it is not asked again for anybody");
    let (_, carol) = world.ask("carol", FAR, NEVER).await;
    assert_eq!((carol.unwrap_err().code(), world.calls()), (Code::ExchangeFailed, 1));
    // The operator mended the credential.
    world.exchanger.forget_refusals();
    let (_, carol) = world.ask("carol", FAR, Script::Token("new")).await;
    assert_eq!(carol.unwrap(), "new");
}

#[tokio::test(start_paused = true)]
async fn a_token_at_its_end_is_replaced_if_that_can_be() {
    let world = World::new();
    world.exchanged("alice").await;
    world.pass_seconds(AT_ITS_END).await;
    let (result, outcome) = world.ask("alice", FAR, Script::Token("new")).await;
    assert_eq!((result, outcome.unwrap().as_str()), (CacheResult::Miss, "new"));
}

#[tokio::test(start_paused = true)]
async fn a_token_at_its_end_is_served_while_the_provider_is_down_and_not_after() {
    let world = World::new();
    world.exchanged("alice").await;
    world.pass_seconds(AT_ITS_END).await;
    for second in AT_ITS_END..3600 {
        let (result, outcome) = world.ask("alice", FAR, DOWN).await;
        let stale = (CacheResult::Stale, "old");
        assert_eq!((result, outcome.unwrap().as_str()), stale, "at {second}");
        world.pass_seconds(1).await;
    }
    let (result, outcome) = world.ask("alice", FAR, DOWN).await;
    let code = outcome.unwrap_err().code();
    assert_eq!((result, code), (CacheResult::Miss, Code::ProviderUnavailable));
}

#[tokio::test(start_paused = true)]
async fn a_token_at_its_end_is_not_served_past_the_inbound_tokens_end() {
    let world = World::new();
    let inbound = UnixTime(START + 3590);
    world.ask("alice", inbound, Script::Token("old")).await.1.unwrap();
    world.pass_seconds(3589).await;
    assert_eq!(world.ask("alice", inbound, DOWN).await.0, CacheResult::Stale);
    world.pass_seconds(1).await;
    assert!(world.ask("alice", inbound, DOWN).await.1.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_token_at_its_end_is_not_served_after_a_refusal() {
    for class in [Class::Invalid, Class::Gateway] {
        let world = World::new();
        world.exchanged("alice").await;
        world.pass_seconds(AT_ITS_END).await;
        let (result, outcome) = world.ask("alice", FAR, Script::Error(class, Memory::None)).await;
        assert_eq!((result, outcome.unwrap_err().code()), (CacheResult::Miss, class.code()));
    }
}

#[tokio::test(start_paused = true)]
async fn with_a_token_at_its_end_nobody_waits_long() {
    let world = World::new();
    world.exchanged("alice").await;
    world.pass_seconds(AT_ITS_END).await;
    let started = Instant::now();
    let slow = Script::After(Duration::from_secs(5), "new");
    let (result, outcome) = world.ask("alice", FAR, slow).await;
    assert_eq!((result, outcome.unwrap().as_str()), (CacheResult::Stale, "old"));
    assert_eq!(started.elapsed(), limits::STALE_PATIENCE);
    // The exchange went on.
    world.pass_seconds(5).await;
    world.hit("alice", "new", NEVER).await;
    assert_eq!(world.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_waits_beyond_the_tokens_end_gets_the_new_one() {
    let world = World::new();
    world.exchanged("alice").await;
    world.pass_seconds(3599).await;
    let slow = Script::After(Duration::from_secs(5), "new");
    let waiting = world.ask("alice", FAR, slow);
    let ends = async {
        settle().await;
        world.clock.0.fetch_add(1, Ordering::Relaxed);
    };
    let ((result, outcome), ()) = futures_util::future::join(waiting, ends).await;
    assert_eq!((result, outcome.unwrap().as_str()), (CacheResult::Miss, "new"));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_tokens_that_are_due_do_not_storm_the_provider() {
    let world = World::new();
    let users: Vec<String> = (0..1000).map(|n| format!("user {n}")).collect();
    for user in &users {
        world.exchanged(user).await;
    }
    world.pass_seconds(DUE).await;
    let slow = Script::After(Duration::from_secs(2), "new");
    let lanes = ProviderSettings::DEFAULT_MAX_IN_FLIGHT;
    let started = Instant::now();
    for user in &users {
        world.hit(user, "old", slow.clone()).await;
    }
    assert_eq!(started.elapsed(), Duration::ZERO, "nobody waits");
    assert_eq!(world.calls(), lanes - lanes / 4, "the rest is left to requests");

    // As they are used they are all renewed, never more at a time.
    let mut seconds = 0;
    loop {
        let before = world.calls();
        world.pass_seconds(2).await;
        for user in &users {
            let (result, _) = world.ask(user, FAR, slow.clone()).await;
            assert_eq!(result, CacheResult::Hit);
        }
        assert!(world.calls() - before <= lanes - lanes / 4);
        if world.calls() == users.len() {
            break;
        }
        seconds += 2;
        assert!(seconds < 500, "{} of them after {seconds} s", world.calls());
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_in_a_loop_does_not_reach_the_provider() {
    let world = World::new();
    let refused = Script::Error(Class::Consent, Memory::Token(limits::SHORT_REFUSAL_MEMORY));
    for second in 0..30 {
        let (result, outcome) = world.ask("alice", FAR, refused.clone()).await;
        let code = outcome.unwrap_err().code();
        assert_eq!((result, code), (CacheResult::Miss, Code::ConsentRequired));
        assert_eq!(world.calls(), 1, "after {second} s");
        world.pass_seconds(1).await;
    }
    // Who consented waits no longer than that, and who signed in again not at all.
    let (_, outcome) = world.ask("alice", FAR, Script::Token("new")).await;
    assert_eq!(outcome.unwrap(), "new");
    let (_, outcome) = world.ask("alice's other token", FAR, Script::Token("new")).await;
    assert_eq!(outcome.unwrap(), "new");
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_the_provider_detects_ends_for_its_caller_alone() {
    let world = World::new();
    let looping = Script::Error(Class::Unavailable, Memory::Token(limits::REFUSAL_MEMORY));
    world.ask("alice", FAR, looping).await.1.unwrap_err();
    world.pass_seconds(20).await;
    let (_, outcome) = world.ask("alice", FAR, Script::Token("new")).await;
    assert_eq!(outcome.unwrap_err().code(), Code::ProviderUnavailable);
    assert_eq!(world.calls(), 1);
    let (_, outcome) = world.ask("bob", FAR, Script::Token("new")).await;
    assert_eq!(outcome.unwrap(), "new");

    // And it does not cost the caller a token that is still good.
    world.exchanged("carol").await;
    world.pass_seconds(AT_ITS_END).await;
    let held = ExchangeError::unavailable("loop".into(), None);
    let held = held.remembered(Memory::Token(limits::REFUSAL_MEMORY));
    let refusals = &world.exchanger.refusals;
    refusals.remember(key("carol"), &Arc::new(held), refusals.era());
    assert_eq!(world.ask("carol", FAR, NEVER).await.0, CacheResult::Stale);
    world.pass_seconds(29).await;
    let rejection = world.ask("carol", FAR, NEVER).await.1.unwrap_err();
    assert_eq!(*rejection.extra(), Extra::RetryAfter(Duration::from_secs(32)));
}
