//! Retries and waits under paused time, and a whole call over a loopback socket.

use std::cell::{Cell, RefCell};

use futures_util::future::join_all;
use http::{HeaderMap, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::super::terms::tests::terms;
use super::super::terms::{Parts, Requested, Terms};
use super::*;
use crate::authn::{Issuing, Provider, ProviderSettings};
use crate::clock::{SystemClock, UnixTime};
use crate::exchange::{ClientCredential, Grant, UserGrant};
use crate::rejection::{Code, Extra, Rejection};
use crate::secret::Secret;
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
    let metrics = Metrics::default();
    let (lanes, breakers) = (Lanes::default(), Breakers::default());
    let office =
        Office { throttles, lanes: &lanes, breakers: &breakers, clock: &Fixed, metrics: &metrics };
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

fn client(timeout: Duration) -> OAuthClient {
    OAuthClient {
        provider: provider(timeout),
        client_id: "client".to_owned(),
        credential: ClientCredential::ClientSecret(Secret::new("hush".into())),
        user_grant: UserGrant::EntraOnBehalfOf,
    }
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
    let (throttles, lanes, metrics) = (Throttles::default(), Lanes::default(), Metrics::default());
    let office = Office {
        throttles: &throttles,
        lanes: &lanes,
        breakers: &Breakers::default(),
        clock: &Fixed,
        metrics: &metrics,
    };
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
    let (throttles, lanes, breakers) =
        (Throttles::default(), Lanes::default(), Breakers::default());
    let metrics = Metrics::default();
    let office = Office {
        throttles: &throttles,
        lanes: &lanes,
        breakers: &breakers,
        clock: &Fixed,
        metrics: &metrics,
    };
    lanes.set(&Arc::from("entra"), 1);
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
    assert!(!metrics.encode().contains("provider_unavailable"), "nobody was asked");
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_fails_sustainedly_is_left_alone_and_tried_by_one() {
    let (throttles, lanes, breakers) =
        (Throttles::default(), Lanes::default(), Breakers::default());
    let metrics = Metrics::default();
    let office = Office {
        throttles: &throttles,
        lanes: &lanes,
        breakers: &breakers,
        clock: &Fixed,
        metrics: &metrics,
    };
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
    let (throttles, lanes, breakers) =
        (Throttles::default(), Lanes::default(), Breakers::default());
    let metrics = Metrics::default();
    let office = Office {
        throttles: &throttles,
        lanes: &lanes,
        breakers: &breakers,
        clock: &Fixed,
        metrics: &metrics,
    };
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
    let (throttles, lanes, breakers) =
        (Throttles::default(), Lanes::default(), Breakers::default());
    let metrics = Metrics::default();
    let office = Office {
        throttles: &throttles,
        lanes: &lanes,
        breakers: &breakers,
        clock: &Fixed,
        metrics: &metrics,
    };
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
    assert_eq!(breakers.open(&terms), None);
    let counted = metrics.encode();
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
        let lanes = Lanes::default();
        let (breakers, metrics) = (Breakers::default(), Metrics::default());
        let office = Office {
            throttles: &throttles,
            lanes: &lanes,
            breakers: &breakers,
            clock: &Fixed,
            metrics: &metrics,
        };
        let post = |()| async { answer(status, None, body).map_err(NotAsked::Fetch) };
        let error = ask(&whoever(&terms), &office, nothing, post).await.unwrap_err();
        assert_eq!(error.memory(), memory, "{body}");
    }
}

/// A provider on loopback that gives one `answer` to one call; gives back the call.
async fn one_call(answer: String, timeout: Duration) -> (Result<Granted, Rejection>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/t1/token", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut call = Vec::new();
        while !call.ends_with(b"on_behalf_of") {
            assert_ne!(stream.read_buf(&mut call).await.unwrap(), 0, "the form ends so");
        }
        // A client that has seen enough closes before all is written.
        stream.write_all(answer.as_bytes()).await.unwrap_or_default();
        (String::from_utf8(call).unwrap(), stream)
    });
    let terms = Terms::new(&Parts {
        provider: &Arc::from("entra"),
        grant: Grant::EntraOnBehalfOf,
        issuer: Some(&Arc::from("https://login.example/t1/v2.0")),
        tenant: Some("10000000-0000-4000-8000-000000000001"),
        client_id: "client",
        requested: &Arc::new(Requested::scopes(vec!["api://x/.default".to_owned()])),
        upstream: "graph",
        token_endpoint: &endpoint,
        authorization_endpoint: None,
    });
    let oid = "10000000-0000-4000-8000-00000000000a";
    let call = Call {
        anchor: grant::anchor(Some(oid), terms.tenant.as_deref()),
        terms: Arc::new(terms),
        client: Arc::new(client(timeout)),
        subject: InboundToken::new(HeaderValue::from_static("Bearer in.bound.token"), 7),
        claims: None,
        upstream: Arc::from("graph"),
    };
    let (throttles, metrics) = (Throttles::default(), Metrics::default());
    let office = Office {
        throttles: &throttles,
        lanes: &Lanes::default(),
        breakers: &Breakers::default(),
        clock: &SystemClock,
        metrics: &metrics,
    };
    let result = call.make(office).await.map_err(|error| error.rejection());
    // The stream lives until the result is there: a hanging provider does not hang up.
    let (seen, _stream) = server.await.unwrap();
    (result, seen)
}

fn http(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\nlocation: /t1/token\r\n\r\n{body}",
        body.len()
    )
}

const LONG: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_call_is_a_form_post_and_gives_a_token() {
    let (result, seen) = one_call(http("200 OK", TOKEN), LONG).await;
    let granted = result.unwrap();
    assert_eq!(granted.header.expose(), "Bearer outbound");
    assert_eq!(granted.life, Some(Duration::from_hours(1)));

    let (head, body) = seen.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /t1/token HTTP/1.1\r\n"), "{head}");
    let head = head.to_ascii_lowercase();
    for line in [
        "content-type: application/x-www-form-urlencoded",
        "accept: application/json",
        "x-ms-lib-capability: retry-after, h429",
        "x-anchormailbox: oid:10000000-0000-4000-8000-00000000000a@10000000-0000-4000-8000-000000000001",
        "x-client-sku: obo-gateway",
        "client-request-id: ",
    ] {
        assert!(head.contains(&format!("\r\n{line}")), "{line} in {head}");
    }
    assert!(!head.contains("authorization"), "{head}");
    assert_eq!(
        body,
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&client_id=client\
         &client_secret=hush&assertion=in.bound.token&scope=api%3A%2F%2Fx%2F.default\
         &requested_token_use=on_behalf_of"
    );
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    // The one-call provider would not answer a second call.
    let (result, _) = one_call(http("307 Temporary Redirect", ""), LONG).await;
    let rejection = result.unwrap_err();
    assert_eq!(rejection.code(), Code::ExchangeFailed);
    assert!(rejection.reason().contains("redirect"), "{}", rejection.reason());
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let body = "x".repeat(limits::MAX_PROVIDER_ANSWER_BYTES + 1);
    let (result, _) = one_call(http("200 OK", &body), LONG).await;
    let rejection = result.unwrap_err();
    assert_eq!(rejection.code(), Code::ExchangeFailed);
    assert!(rejection.reason().contains("larger than"), "{}", rejection.reason());
}

#[tokio::test]
async fn a_provider_that_hangs_is_unavailable() {
    let (result, _) = one_call(String::new(), Duration::from_millis(250)).await;
    let rejection = result.unwrap_err();
    assert_eq!(rejection.code(), Code::ProviderUnavailable);
    assert!(rejection.reason().contains("no answer in time"), "{}", rejection.reason());
    assert!(!rejection.reason().contains("hush") && !rejection.reason().contains("in.bound"));
}
