//! When it opens and for whom, on virtual time.

use super::super::grant::Grant;
use super::super::terms::tests::terms;
use super::super::terms::{Parts, Requested};
use super::*;

fn like() -> Terms {
    terms("c", &["a"])
}

/// The token of the `nth` caller.
fn token(nth: u32) -> TokenDigest {
    TokenDigest::of(&nth.to_be_bytes())
}

fn failing() -> Health {
    Health::Failing("reset".to_owned())
}

fn admitted(breakers: &Breakers, terms: &Terms, whose: Option<TokenDigest>) -> Pass {
    breakers.admit(terms, whose).ok().unwrap()
}

/// A call in nobody's name.
fn call(breakers: &Breakers, health: Health) {
    admitted(breakers, &like(), None).report(health);
}

fn opened() -> Breakers {
    let breakers = Breakers::default();
    for _ in 0..limits::BREAKER_MIN_CALLS {
        call(&breakers, failing());
    }
    breakers
}

#[tokio::test(start_paused = true)]
async fn what_is_not_asked_for_can_be_told() {
    let provider = Arc::clone(&like().provider);
    let none = Breakers::default();
    call(&none, failing());
    assert_eq!(none.not_closed(&provider, 9), (Vec::new(), 0));

    let breakers = opened();
    tokio::time::advance(Duration::from_secs(2)).await;
    let (told, count) = breakers.not_closed(&provider, 9);
    assert_eq!((told.len(), count), (1, 1));
    assert_eq!(told[0].since, Duration::from_secs(2));
    assert_eq!(told[0].left, limits::BREAKER_PAUSE.checked_sub(Duration::from_secs(2)));
    assert_eq!(told[0].why, "reset");
    assert!(told[0].which.contains("client c"), "{}", told[0].which);
    assert_eq!(breakers.not_closed(&provider, 0), (Vec::new(), 1));
    assert_eq!(breakers.not_closed("another", 9), (Vec::new(), 0));

    tokio::time::advance(limits::BREAKER_PAUSE).await;
    let probe = admitted(&breakers, &like(), None);
    assert_eq!(breakers.not_closed(&provider, 9).0[0].left, None);
    probe.report(Health::Alive);
    assert_eq!(breakers.not_closed(&provider, 9), (Vec::new(), 0));
}

#[tokio::test(start_paused = true)]
async fn it_opens_when_half_of_enough_calls_fail() {
    // (answered, failed, opens)
    for (answered, failed, opens) in
        [(0, 19, false), (0, 20, true), (10, 10, true), (11, 10, false), (50, 50, true)]
    {
        for callers in [false, true] {
            let whose = |nth| callers.then(|| token(nth));
            let breakers = Breakers::default();
            let call = |nth, health| admitted(&breakers, &like(), whose(nth)).report(health);
            (0..answered).for_each(|nth| call(nth, Health::Alive));
            (0..failed).for_each(|nth| call(nth, failing()));
            assert_eq!(breakers.open(&like()).is_some(), opens, "{answered} and {failed}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_always_fails_never_opens_it() {
    let breakers = Breakers::default();
    for _ in 0..60 {
        for _ in 0..5 {
            admitted(&breakers, &like(), Some(token(0))).report(failing());
        }
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    // Nineteen callers, each over and over.
    for nth in (0..19).cycle().take(1000) {
        admitted(&breakers, &like(), Some(token(nth))).report(failing());
    }
    assert_eq!(breakers.open(&like()), None);
    admitted(&breakers, &like(), Some(token(19))).report(failing());
    assert!(breakers.open(&like()).is_some(), "the twentieth");
}

#[tokio::test(start_paused = true)]
async fn a_token_counts_again_when_its_failure_is_long_ago() {
    let breakers = Breakers::default();
    (0..19).for_each(|nth| admitted(&breakers, &like(), Some(token(nth))).report(failing()));
    tokio::time::advance(limits::BREAKER_WINDOW).await;
    (0..19).for_each(|nth| admitted(&breakers, &like(), Some(token(nth))).report(failing()));
    assert_eq!(breakers.open(&like()), None);
    admitted(&breakers, &like(), Some(token(19))).report(failing());
    assert!(breakers.open(&like()).is_some());
}

#[tokio::test(start_paused = true)]
async fn another_tenant_client_or_scope_set_is_not_affected() {
    let breakers = opened();
    let other_tenant = Terms::new(&Parts {
        provider: &Arc::from("entra"),
        grant: Grant::EntraOnBehalfOf,
        issuer: None,
        tenant: Some("t2"),
        client_id: "c",
        requested: &Arc::new(Requested::scopes(vec!["a".to_owned()])),
        upstream: "u",
        token_endpoint: &like().token_endpoint,
        authorization_endpoint: None,
    });
    for other in [terms("c", &["b"]), terms("d", &["a"]), other_tenant] {
        assert_eq!(breakers.open(&other), None);
        admitted(&breakers, &other, None).report(Health::Alive);
    }
    assert!(breakers.open(&like()).is_some());
}

#[tokio::test(start_paused = true)]
async fn what_is_long_ago_and_what_is_unknown_does_not_count() {
    let breakers = Breakers::default();
    (0..19).for_each(|_| call(&breakers, failing()));
    (0..50).for_each(|_| call(&breakers, Health::Unknown));
    tokio::time::advance(limits::BREAKER_WINDOW).await;
    call(&breakers, failing());
    assert_eq!(breakers.open(&like()), None);
    (0..18).for_each(|_| call(&breakers, failing()));
    assert_eq!(breakers.open(&like()), None);
    call(&breakers, failing());
    assert!(breakers.open(&like()).is_some());
}

#[tokio::test(start_paused = true)]
async fn one_call_probes_and_closes_it() {
    let breakers = opened();
    let open = breakers.admit(&like(), None).err().unwrap();
    assert_eq!(open, Open { left: limits::BREAKER_PAUSE, why: "reset".to_owned() });
    let last = Duration::from_millis(1);
    tokio::time::advance(limits::BREAKER_PAUSE.saturating_sub(last)).await;
    assert_eq!(breakers.admit(&like(), None).err().map(|open| open.left), Some(last));
    tokio::time::advance(last).await;

    assert_eq!(breakers.open(&like()), None);
    let probe = admitted(&breakers, &like(), Some(token(1)));
    let second = breakers.admit(&like(), Some(token(2))).err().unwrap();
    assert_eq!(second.left, Duration::from_secs(1));
    probe.report(failing());
    assert_eq!(breakers.open(&like()).map(|open| open.left), Some(limits::BREAKER_PAUSE));

    tokio::time::advance(limits::BREAKER_PAUSE).await;
    call(&breakers, Health::Alive);
    (0..19).for_each(|_| call(&breakers, failing()));
    assert_eq!(breakers.open(&like()), None, "it starts anew");
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_lost_leaves_the_next_one_to_probe() {
    let breakers = opened();
    tokio::time::advance(limits::BREAKER_PAUSE).await;
    drop(admitted(&breakers, &like(), None));
    call(&breakers, Health::Alive);
    call(&breakers, Health::Alive);
}

#[tokio::test(start_paused = true)]
async fn a_call_from_before_it_opened_changes_nothing() {
    let breakers = Breakers::default();
    let slow = admitted(&breakers, &like(), None);
    (0..limits::BREAKER_MIN_CALLS).for_each(|_| call(&breakers, failing()));
    slow.report(Health::Alive);
    assert!(breakers.open(&like()).is_some());
}

#[tokio::test(start_paused = true)]
async fn idle_ones_make_room_and_those_in_use_stay() {
    let breakers = opened();
    let held = admitted(&breakers, &terms("c", &["held"]), None);
    let fill = |name: &str| {
        for nth in 0..limits::MAX_BREAKERS {
            admitted(&breakers, &terms(&format!("{name}{nth}"), &["a"]), None).report(failing());
        }
    };
    fill("early");
    assert_eq!(breakers.of.len(), limits::MAX_BREAKERS);
    assert!(breakers.open(&like()).is_some(), "nobody pushed it out");

    // One too many is let go, and not counted.
    let beyond = terms("beyond", &["a"]);
    for _ in 0..limits::BREAKER_MIN_CALLS {
        admitted(&breakers, &beyond, None).report(failing());
    }
    assert_eq!(breakers.open(&beyond), None);

    tokio::time::advance(limits::BREAKER_PAUSE + limits::BREAKER_WINDOW).await;
    admitted(&breakers, &beyond, None).report(failing());
    assert_eq!(breakers.of.len(), 2, "the one that is held, and the new one");
    for _ in 1..limits::BREAKER_MIN_CALLS {
        admitted(&breakers, &terms("c", &["held"]), None).report(failing());
    }
    held.report(failing());
    assert!(breakers.open(&terms("c", &["held"])).is_some(), "its outcome was heard");
}

#[tokio::test(start_paused = true)]
async fn the_memory_of_failed_tokens_is_bounded() {
    let breakers = Breakers::default();
    let many = u32::try_from(limits::MAX_BREAKER_TOKENS).unwrap() + 100;
    (0..2 * many).for_each(|_| call(&breakers, Health::Alive));
    (0..many).for_each(|nth| admitted(&breakers, &like(), Some(token(nth))).report(failing()));
    let breaker = breakers.breaker(&like());
    let known: usize = breaker.lock().seconds.iter().map(|second| second.of.len()).sum();
    assert_eq!(known, limits::MAX_BREAKER_TOKENS);
}
