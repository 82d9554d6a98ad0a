//! Retries and waits under paused time; whole calls over a loopback socket are in `calls.rs`.

mod calls;

use std::cell::{Cell, RefCell};

use futures_util::future::join_all;
use http::{HeaderMap, StatusCode};
use tokio::net::TcpListener;

use super::super::terms::Terms;
use super::super::terms::tests::terms;
use super::*;
use crate::authn::{Issuing, Provider, ProviderSettings};
use crate::clock::{SystemClock, UnixTime};
use crate::rejection::{Code, Extra, Rejection};
use crate::trust::Roots;

const TOKEN: &str = r#"{"token_type":"Bearer","access_token":"outbound","expires_in":3600}"#;

#[derive(Debug)]
struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> UnixTime {
        UnixTime(784_111_777) // Sun, 06 Nov 1994 08:49:37 GMT
    }
}

#[allow(clippy::unnecessary_wraps, reason = "stands in tables beside errors")]
fn answer(status: u16, retry_after: Option<&str>, body: &str) -> Result<Fetched, FetchError> {
    let mut headers = HeaderMap::new();
    if let Some(text) = retry_after {
        headers.insert("retry-after", text.parse().unwrap());
    }
    let status = StatusCode::from_u16(status).unwrap();
    Ok(Fetched { status, headers, body: body.as_bytes().to_vec() })
}

/// What an office works with, all of it new.
#[derive(Default)]
struct World {
    throttles: Throttles,
    lanes: Lanes,
    breakers: Breakers,
    metrics: Metrics,
}

impl World {
    fn office(&self) -> Office<'_> {
        let Self { throttles, lanes, breakers, metrics } = self;
        Office { throttles, lanes, breakers, clock: &Fixed, metrics }
    }
}

/// For calls that need nothing.
#[allow(clippy::unused_async, reason = "stands in for what waits")]
async fn nothing() -> Result<(), Arc<ExchangeError>> {
    Ok(())
}

/// An exchange on `terms` in nobody's name.
fn whoever(terms: &Terms) -> Asking<'_> {
    Asking { terms, whose: None, upstream: "graph" }
}

/// Asks a provider that gives these answers in turn; says how many were not asked for.
async fn ask_scripted(
    throttles: &Throttles,
    terms: &Terms,
    answers: Vec<Result<Fetched, FetchError>>,
) -> (Result<Granted, Rejection>, usize) {
    let answers = RefCell::new(answers.into_iter());
    let world = World::default();
    let office = Office { throttles, ..world.office() };
    let result = ask(&whoever(terms), &office, nothing, |()| {
        let answer = answers.borrow_mut().next().expect("no more calls than answers");
        async { answer.map_err(NotAsked::Fetch) }
    })
    .await;
    (result.map_err(|error| error.rejection()), answers.into_inner().count())
}

fn provider(timeout: Duration) -> Arc<Provider> {
    let ca = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let issuing = Issuing::Oidc { issuer: "https://login.example".to_owned() };
    let mut settings = ProviderSettings::new("entra", issuing, Vec::new());
    settings.roots = Roots::from_pem(ca.cert.pem().as_bytes()).unwrap();
    settings.timeout = timeout;
    Provider::new(settings, Arc::new(SystemClock), Metrics::default()).unwrap()
}

/// The error of a connection that nobody takes.
async fn refused() -> FetchError {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    provider(Duration::from_secs(10)).fetcher().json(&url).await.unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn a_5xx_is_tried_once_more_after_a_second() {
    let (throttles, terms) = (Throttles::default(), terms("c", &["s"]));
    let started = Instant::now();
    let script = vec![answer(500, None, ""), answer(200, None, TOKEN)];
    let (result, left) = ask_scripted(&throttles, &terms, script).await;
    assert_eq!(result.unwrap().header.expose(), "Bearer outbound");
    assert_eq!((left, started.elapsed()), (0, limits::EXCHANGE_RETRY_PAUSE));

    let script = vec![answer(500, None, ""), answer(502, None, ""), answer(200, None, TOKEN)];
    let (result, left) = ask_scripted(&throttles, &terms, script).await;
    assert_eq!(result.unwrap_err().code(), Code::ProviderUnavailable);
    assert_eq!(left, 1, "once");
}

#[tokio::test]
async fn a_failed_connection_is_tried_once_more() {
    let errors = (refused().await, refused().await, refused().await);
    assert!(matches!(errors.0, FetchError::Connect(_)));
    tokio::time::pause();
    let (throttles, terms) = (Throttles::default(), terms("c", &["s"]));
    let script = vec![Err(errors.0), answer(200, None, TOKEN)];
    assert!(ask_scripted(&throttles, &terms, script).await.0.is_ok());

    let script = vec![Err(errors.1), Err(errors.2), answer(200, None, TOKEN)];
    let (result, left) = ask_scripted(&throttles, &terms, script).await;
    let rejection = result.unwrap_err();
    assert_eq!((rejection.code(), left), (Code::ProviderUnavailable, 1));
    assert!(rejection.reason().contains("provider `entra` failed: can't connect"));
}

#[tokio::test(start_paused = true)]
async fn nothing_else_is_tried_again() {
    let (throttles, started) = (Throttles::default(), Instant::now());
    let terms = terms("c", &["s"]);
    let rows = [
        (answer(400, None, r#"{"error":"invalid_grant"}"#), Code::TokenInvalid),
        (answer(400, None, r#"{"error":"temporarily_unavailable"}"#), Code::ProviderUnavailable),
        (answer(429, None, ""), Code::ProviderUnavailable),
        (answer(401, None, r#"{"error":"invalid_client"}"#), Code::ExchangeFailed),
        (answer(302, None, ""), Code::ExchangeFailed),
        (answer(200, None, "<html>"), Code::ExchangeFailed),
        (answer(500, None, r#"{"error":"e","claims":"{}"}"#), Code::ClaimsChallenge),
        (answer(500, Some("0"), ""), Code::ProviderUnavailable),
        (Err(FetchError::Timeout), Code::ProviderUnavailable),
        (Err(FetchError::TooLarge), Code::ExchangeFailed),
    ];
    for (first, code) in rows {
        let script = vec![first, answer(200, None, TOKEN)];
        let (result, left) = ask_scripted(&throttles, &terms, script).await;
        assert_eq!((result.unwrap_err().code(), left), (code, 1));
    }
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn retry_after_holds_back_the_like_and_only_them() {
    for (status, header) in [(429, "10"), (503, "10"), (503, "Sun, 06 Nov 1994 08:49:47 GMT")] {
        let (throttles, terms_a) = (Throttles::default(), terms("c", &["a"]));
        let told = Extra::RetryAfter(Duration::from_secs(10));
        let (result, _) =
            ask_scripted(&throttles, &terms_a, vec![answer(status, Some(header), "")]).await;
        assert_eq!(*result.unwrap_err().extra(), told);

        // No answer is scripted: the provider must not be asked.
        let (result, _) = ask_scripted(&throttles, &terms_a, vec![]).await;
        let rejection = result.unwrap_err();
        assert_eq!((rejection.code(), rejection.extra()), (Code::ProviderUnavailable, &told));
        assert!(rejection.reason().contains("`Retry-After`"), "{}", rejection.reason());

        let other = terms("c", &["b"]);
        let script = vec![answer(200, None, TOKEN)];
        assert!(ask_scripted(&throttles, &other, script).await.0.is_ok());

        tokio::time::advance(Duration::from_secs(10)).await;
        let script = vec![answer(200, None, TOKEN)];
        assert!(ask_scripted(&throttles, &terms_a, script).await.0.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn what_one_user_may_not_do_holds_nobody_back() {
    let (throttles, terms) = (Throttles::default(), terms("c", &["a"]));
    let refused = answer(400, Some("60"), r#"{"error":"invalid_grant"}"#);
    assert!(ask_scripted(&throttles, &terms, vec![refused]).await.0.is_err());
    let script = vec![answer(200, None, TOKEN)];
    assert!(ask_scripted(&throttles, &terms, script).await.0.is_ok());
}

#[tokio::test(start_paused = true)]
async fn no_more_calls_are_under_way_than_the_limit() {
    let world = World::default();
    let office = world.office();
    let terms = terms("c", &["a"]);
    let terms = whoever(&terms);
    let (under_way, most) = (Cell::new(0), Cell::new(0));
    // A provider that takes `takes` for an answer.
    let exchange = |takes: Duration| {
        let (office, terms, under_way, most) = (&office, &terms, &under_way, &most);
        ask(terms, office, nothing, move |()| async move {
            under_way.set(under_way.get() + 1);
            most.set(most.get().max(under_way.get()));
            sleep(takes).await;
            under_way.set(under_way.get() - 1);
            answer(200, None, TOKEN).map_err(NotAsked::Fetch)
        })
    };
    let few = ProviderSettings::DEFAULT_MAX_IN_FLIGHT + 1;
    let all = join_all((0..few).map(|_| exchange(limits::EXCHANGE_QUEUE_WAIT / 2))).await;
    assert!(all.iter().all(Result::is_ok), "the one too many has waited");
    assert_eq!(most.get(), ProviderSettings::DEFAULT_MAX_IN_FLIGHT);

    let all = join_all((0..few).map(|_| exchange(limits::EXCHANGE_QUEUE_WAIT * 2))).await;
    let refused: Vec<_> = all.into_iter().filter_map(Result::err).collect();
    let [refused] = &refused[..] else { panic!("one too many: {}", refused.len()) };
    let rejection = refused.rejection();
    assert_eq!(rejection.code(), Code::ProviderUnavailable);
    assert_eq!(*rejection.extra(), Extra::RetryAfter(limits::DEFAULT_RETRY_AFTER));
    assert!(rejection.reason().starts_with("64 exchanges with provider `entra` are under way"));
}

#[tokio::test(start_paused = true)]
async fn what_a_proof_waits_for_takes_nobodys_lane() {
    let world = World::default();
    let office = world.office();
    world.lanes.set(&Arc::from("entra"), 1);
    let terms = terms("c", &["a"]);
    let asking = whoever(&terms);
    let post = |()| async { answer(200, None, TOKEN).map_err(NotAsked::Fetch) };
    let started = Instant::now();
    let slow = || async {
        sleep(limits::MANAGED_IDENTITY_WAIT).await;
        Err(Arc::new(ExchangeError::unavailable("no token".into(), None)))
    };
    let waiting = join_all((0..100).map(|_| ask(&asking, &office, slow, post)));
    let quick = async {
        let outcome = ask(&asking, &office, nothing, post).await;
        (outcome.is_ok(), started.elapsed())
    };
    let (waited, quick) = futures_util::future::join(waiting, quick).await;
    assert!(waited.iter().all(Result::is_err));
    assert_eq!(quick, (true, Duration::ZERO));
    assert_eq!(started.elapsed(), limits::MANAGED_IDENTITY_WAIT, "side by side");
    assert!(!world.metrics.encode().contains("provider_unavailable"), "nobody was asked");
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_fails_sustainedly_is_left_alone_and_tried_by_one() {
    let world = World::default();
    let office = world.office();
    let (terms, calls, status) = (terms("c", &["a"]), Cell::new(0), Cell::new(503));
    let asking = whoever(&terms);
    let exchange = || {
        ask(&asking, &office, nothing, |()| async {
            calls.set(calls.get() + 1);
            answer(status.get(), None, TOKEN).map_err(NotAsked::Fetch)
        })
    };
    for _ in 0..limits::BREAKER_MIN_CALLS / 2 {
        assert!(exchange().await.is_err());
    }
    // Ten exchanges of two tries in ten seconds: those of the last ten seconds are just too few.
    assert_eq!(calls.get(), limits::BREAKER_MIN_CALLS);
    assert!(join_all((0..10).map(|_| exchange())).await.iter().all(Result::is_err));
    let asked = calls.get();
    let started = Instant::now();
    let rejection = exchange().await.unwrap_err().rejection();
    assert_eq!((rejection.code(), calls.get()), (Code::ProviderUnavailable, asked));
    assert!(rejection.reason().starts_with("provider `entra` is not asked for another "));
    assert!(rejection.reason().contains("status 503"), "{}", rejection.reason());
    assert!(matches!(rejection.extra(), Extra::RetryAfter(wait) if *wait <= limits::BREAKER_PAUSE));
    assert_eq!(started.elapsed(), Duration::ZERO, "nobody waits");

    tokio::time::advance(limits::BREAKER_PAUSE).await;
    assert!(join_all((0..100).map(|_| exchange())).await.iter().all(Result::is_err));
    assert_eq!(calls.get(), asked + 1, "one probes");
    tokio::time::advance(limits::BREAKER_PAUSE).await;
    status.set(200);
    assert!(exchange().await.is_ok());
    assert!(join_all((0..100).map(|_| exchange())).await.iter().all(Result::is_ok));
}

#[tokio::test(start_paused = true)]
async fn one_caller_whose_exchange_always_fails_locks_out_nobody() {
    let world = World::default();
    let office = world.office();
    let (theirs, others) = (terms("c", &["a"]), terms("c", &["b"]));
    let of = |terms, user: u8, status| {
        let whose = Some(TokenDigest::of(&[user]));
        let office = &office;
        async move {
            let asking = Asking { terms, whose, upstream: "graph" };
            let post = |()| async { answer(status, None, TOKEN).map_err(NotAsked::Fetch) };
            ask(&asking, office, nothing, post).await
        }
    };
    let bad = join_all((0..100).map(|_| of(&theirs, 0, 500))).await;
    assert!(bad.iter().all(Result::is_err));
    assert!(of(&theirs, 1, 200).await.is_ok());

    // Twenty of them do show that it is not them; those who ask for something else don't care.
    assert!(join_all((0..20).map(|user| of(&theirs, user, 500))).await.iter().all(Result::is_err));
    let refused = of(&theirs, 21, 200).await.unwrap_err();
    assert!(refused.reason().starts_with("provider `entra` is not asked"), "{}", refused.reason());
    assert!(of(&others, 21, 200).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn refusals_and_throttling_do_not_speak_against_the_provider() {
    let world = World::default();
    let office = world.office();
    let terms = terms("c", &["a"]);
    for status in [400, 401, 403, 404, 429, 302] {
        for _ in 0..limits::BREAKER_MIN_CALLS {
            let post = |()| async { answer(status, None, "").map_err(NotAsked::Fetch) };
            assert!(ask(&whoever(&terms), &office, nothing, post).await.is_err());
        }
    }
    let no_proof = |()| async {
        let reason = "the file is not there".to_owned();
        Err(NotAsked::NoProof(Arc::new(ExchangeError::new(Class::Gateway, reason))))
    };
    for _ in 0..limits::BREAKER_MIN_CALLS {
        assert!(ask(&whoever(&terms), &office, nothing, no_proof).await.is_err());
    }
    assert_eq!(world.breakers.open(&terms), None);
    let counted = world.metrics.encode();
    let counted = counted.lines().filter(|line| line.contains("exchanges_total{"));
    let counted = counted.map(|line| line.rsplit(' ').next().unwrap().parse::<u32>().unwrap());
    assert_eq!(counted.sum::<u32>(), 6 * limits::BREAKER_MIN_CALLS, "those that were asked");
}

#[tokio::test(start_paused = true)]
async fn failures_say_for_whom_they_hold_a_while_longer() {
    let (throttles, terms) = (Throttles::default(), terms("c", &["s"]));
    let (minute, half) = (limits::REFUSAL_MEMORY, limits::SHORT_REFUSAL_MEMORY);
    let rows = [
        (400, r#"{"error":"invalid_grant","claims":"{\"a\":1}"}"#, Memory::Token(minute)),
        (400, r#"{"error":"interaction_required"}"#, Memory::Token(minute)),
        (400, r#"{"error":"invalid_grant","error_codes":[50105]}"#, Memory::Token(minute)),
        (400, r#"{"error":"invalid_grant","error_codes":[500133]}"#, Memory::Token(minute)),
        (400, r#"{"error":"invalid_grant"}"#, Memory::Token(minute)),
        (400, r#"{"error":"invalid_grant","error_codes":[65001]}"#, Memory::Token(half)),
        (401, r#"{"error":"invalid_client","error_codes":[7000222]}"#, Memory::Client(half)),
        (400, r#"{"error":"unauthorized_client"}"#, Memory::Client(half)),
        // A caller's token may be why; that must not lock out the others.
        (400, r#"{"error":"invalid_grant","error_codes":[500131]}"#, Memory::Token(half)),
        (400, r#"{"error":"invalid_request"}"#, Memory::Token(half)),
        (200, "<html>", Memory::Token(half)),
        (400, r#"{"error":"invalid_grant","error_codes":[50196]}"#, Memory::Token(minute)),
        (400, r#"{"error":"temporarily_unavailable"}"#, Memory::None),
        (429, "", Memory::None),
    ];
    for (status, body, memory) in rows {
        let world = World::default();
        let office = Office { throttles: &throttles, ..world.office() };
        let post = |()| async { answer(status, None, body).map_err(NotAsked::Fetch) };
        let error = ask(&whoever(&terms), &office, nothing, post).await.unwrap_err();
        assert_eq!(error.memory(), memory, "{body}");
    }
}
