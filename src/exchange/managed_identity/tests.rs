use std::cell::{Cell, RefCell};
use std::path::Path;

use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use url::Url;

use super::*;
use crate::clock::SystemClock;
use crate::rejection::{Code, Extra, Rejection};
use crate::secret::SecretHeader;

const RESOURCE: &str = "https://management.azure.com";
const TOKEN: &str = r#"{"access_token":"outbound","token_type":"Bearer","expires_in":"3600"}"#;

fn identity(host: ManagedIdentityHost) -> ManagedIdentity {
    ManagedIdentity::new(
        Arc::new(MetadataService::new(host, Arc::new(SystemClock), Metrics::default()).unwrap()),
        None,
    )
}

fn imds() -> ManagedIdentity {
    identity(ManagedIdentityHost::imds(&Url::parse(ManagedIdentityHost::IMDS).unwrap()))
}

fn app_service() -> ManagedIdentity {
    identity(ManagedIdentityHost::AppService {
        endpoint: Url::parse("http://127.0.0.1:1/msi/token").unwrap(),
        header: SecretHeader::new(HeaderValue::from_static("hush")),
    })
}

fn fetched(status: u16, body: &str) -> Fetched {
    let status = StatusCode::from_u16(status).unwrap();
    Fetched { status, headers: HeaderMap::new(), body: body.as_bytes().to_vec() }
}

/// What comes of answers, the last of which is given for ever; and the seconds, counted from
/// the first call, at which each was asked for.
async fn scripted(
    identity: &ManagedIdentity,
    answers: Vec<Result<Fetched, AskError>>,
) -> (Result<Granted, Rejection>, Vec<u64>) {
    let started = Instant::now();
    let (answers, calls) = (RefCell::new(answers), RefCell::new(Vec::new()));
    let call = || {
        calls.borrow_mut().push(started.elapsed().as_secs());
        let mut answers = answers.borrow_mut();
        let next = match answers.len() {
            1 => match &answers[0] {
                Ok(fetched) => Ok(Fetched {
                    status: fetched.status,
                    headers: fetched.headers.clone(),
                    body: fetched.body.clone(),
                }),
                Err(_) => Err(AskError::Fetch(FetchError::Timeout)),
            },
            _ => answers.remove(0),
        };
        async { next }
    };
    let outcome = identity.persist(RESOURCE, "arm", call).await;
    let counted = identity.service.metrics.encode();
    assert!(
        counted.contains(r#"exchanges_total{provider="managed_identity",upstream="arm""#),
        "{counted}"
    );
    (outcome.map_err(|error| error.rejection()), calls.into_inner())
}

async fn always(identity: &ManagedIdentity, status: u16) -> Vec<u64> {
    let (outcome, calls) = scripted(identity, vec![Ok(fetched(status, "{}"))]).await;
    assert!(outcome.is_err());
    calls
}

#[tokio::test(start_paused = true)]
async fn imds_is_asked_again_as_its_table_says() {
    for status in [404, 408, 429, 500, 502, 503, 504, 599] {
        assert_eq!(always(&imds(), status).await, [0, 1, 3, 7], "{status}");
    }
    assert_eq!(always(&imds(), 410).await, [0, 10, 20, 30, 40, 50, 60, 70]);
    for status in [201, 302, 400, 401, 403, 405, 409, 411] {
        assert_eq!(always(&imds(), status).await, [0], "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn other_hosts_are_asked_again_as_theirs_says() {
    for status in [404, 408, 429, 500, 503, 504] {
        assert_eq!(always(&app_service(), status).await, [0, 1, 2, 3], "{status}");
    }
    for status in [400, 401, 403, 410, 501, 502] {
        assert_eq!(always(&app_service(), status).await, [0], "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_ends_the_tries() {
    let answers = vec![Ok(fetched(410, "")), Ok(fetched(503, "<html>")), Ok(fetched(200, TOKEN))];
    let (granted, calls) = scripted(&imds(), answers).await;
    let granted = granted.unwrap();
    assert_eq!(granted.header.expose(), "Bearer outbound");
    assert_eq!(granted.life, Some(Duration::from_hours(1)));
    assert_eq!(calls, [0, 10, 12]);
}

#[tokio::test(start_paused = true)]
async fn a_token_of_no_use_is_not_asked_for_again() {
    let answer = fetched(200, r#"{"access_token":"x","token_type":"pop"}"#);
    let (outcome, calls) = scripted(&imds(), vec![Ok(answer)]).await;
    let rejection = outcome.unwrap_err();
    assert_eq!(rejection.code(), Code::ExchangeFailed);
    assert!(rejection.reason().contains("not Bearer"), "{}", rejection.reason());
    assert_eq!(calls, [0]);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_the_service_asks_for_is_kept_by_all() {
    let identity = imds();
    let mut throttled = fetched(429, "");
    throttled.headers.insert("retry-after", HeaderValue::from_static("30"));
    let (outcome, calls) = scripted(&identity, vec![Ok(throttled)]).await;
    let rejection = outcome.unwrap_err();
    assert_eq!(rejection.code(), Code::ProviderUnavailable);
    assert_eq!(*rejection.extra(), Extra::RetryAfter(Duration::from_secs(30)));
    assert_eq!(calls, [0], "not again where `Retry-After` is given");

    tokio::time::advance(Duration::from_secs(29)).await;
    let asked = Cell::new(0);
    let call = || {
        asked.set(asked.get() + 1);
        async { Ok(fetched(200, TOKEN)) }
    };
    let other = ManagedIdentity::new(Arc::clone(&identity.service), Some("other".into()));
    let held = other.persist("https://r", "u", call).await;
    let rejection = held.unwrap_err().rejection();
    assert_eq!(*rejection.extra(), Extra::RetryAfter(Duration::from_secs(1)));
    assert_eq!(asked.get(), 0);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(other.persist("https://r", "u", call).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_remembered_for_a_while_and_an_outage_is_not() {
    let identity = imds();
    let asked = Cell::new(0);
    let answer = Cell::new(400);
    let call = || {
        asked.set(asked.get() + 1);
        async { Ok(fetched(answer.get(), TOKEN)) }
    };
    let ask = async |resource| identity.persist(resource, "arm", call).await.is_ok();
    assert!(!ask(RESOURCE).await && !ask(RESOURCE).await);
    assert_eq!(asked.get(), 1);
    answer.set(200);
    assert!(ask("https://another").await, "that was not refused");
    let most = limits::MANAGED_IDENTITY_REFUSAL_MEMORY;
    tokio::time::advance(most.checked_sub(Duration::from_millis(1)).unwrap()).await;
    assert!(!ask(RESOURCE).await);
    assert_eq!(asked.get(), 2);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(ask(RESOURCE).await);

    answer.set(500);
    assert!(!ask(RESOURCE).await);
    answer.set(200);
    assert!(ask(RESOURCE).await);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_holds_nobody_back() {
    let identity = imds();
    let mut refused = fetched(400, "{}");
    refused.headers.insert("retry-after", HeaderValue::from_static("30"));
    let (outcome, _) = scripted(&identity, vec![Ok(refused)]).await;
    assert_eq!(outcome.unwrap_err().code(), Code::ExchangeFailed);
    let other = ManagedIdentity::new(Arc::clone(&identity.service), Some("other".into()));
    let (outcome, _) = scripted(&other, vec![Ok(fetched(200, TOKEN))]).await;
    assert!(outcome.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_service_that_hangs_is_asked_once() {
    let hangs = vec![Err(AskError::Fetch(FetchError::Timeout))];
    let (outcome, calls) = scripted(&imds(), hangs).await;
    let rejection = outcome.unwrap_err();
    assert_eq!((rejection.code(), calls), (Code::ProviderUnavailable, vec![0]));
}

#[tokio::test]
async fn where_nothing_answers_the_reason_says_so() {
    // A port that was free a moment ago, and that nobody listens on.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let identity = identity(ManagedIdentityHost::imds(&Url::parse(&base).unwrap()));
    let rejection = identity.token(RESOURCE, "arm").await.unwrap_err().rejection();
    assert_eq!(rejection.code(), Code::ProviderUnavailable);
    let reason = rejection.reason();
    assert!(reason.starts_with("no token of the system-assigned identity for resource `https://management.azure.com` from IMDS: can't connect"), "{reason}");
    assert!(reason.contains("does the gateway run in Azure"), "{reason}");
}

#[tokio::test]
async fn no_more_calls_are_made_than_the_service_serves() {
    let identity = imds();
    let under_way = Cell::new(0);
    let most = Cell::new(0);
    let call = || async {
        under_way.set(under_way.get() + 1);
        most.set(most.get().max(under_way.get()));
        tokio::task::yield_now().await;
        under_way.set(under_way.get() - 1);
        Ok(fetched(200, TOKEN))
    };
    let ask = || identity.persist(RESOURCE, "arm", call);
    let all = futures_util::future::join_all((0..20).map(|_| ask())).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(most.get(), limits::MAX_MANAGED_IDENTITY_CALLS);
}

/// An agent on loopback that gives these answers to as many calls, each on a connection of its
/// own; gives back the heads of the calls.
async fn agent(answers: &[String], keys: &Path) -> (Result<Granted, Rejection>, Vec<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint =
        format!("http://{}/metadata/identity/oauth2/token", listener.local_addr().unwrap());
    let identity = identity(ManagedIdentityHost::AzureArc {
        endpoint: Url::parse(&endpoint).unwrap(),
        key_directory: keys.to_owned(),
    });
    let mut calls = Vec::new();
    let serve = async {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut call = Vec::new();
            while !call.ends_with(b"\r\n\r\n") {
                assert_ne!(stream.read_buf(&mut call).await.unwrap(), 0, "a head ends so");
            }
            calls.push(String::from_utf8(call).unwrap().to_ascii_lowercase());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        std::future::pending::<()>().await;
    };
    let asked = identity.token(RESOURCE, "arm");
    let outcome = tokio::select! {
        outcome = asked => outcome,
        () = serve => unreachable!("it never ends"),
    };
    (outcome.map_err(|error| error.rejection()), calls)
}

fn http(status: &str, header: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{header}\r\n{body}"
    )
}

fn challenge(file: &Path) -> String {
    let header = format!("www-authenticate: Basic realm={}\r\n", file.display());
    http("401 Unauthorized", &header, "")
}

#[tokio::test]
async fn azure_arc_is_shown_the_key_that_it_names() {
    let keys = tempfile::tempdir().unwrap();
    let file = keys.path().join("1.key");
    std::fs::write(&file, "c2VjcmV0").unwrap();
    let answers = [challenge(&file), http("200 OK", "", TOKEN)];
    let (granted, calls) = agent(&answers, keys.path()).await;
    assert_eq!(granted.unwrap().header.expose(), "Bearer outbound");
    for call in &calls {
        assert!(call.starts_with("get /metadata/identity/oauth2/token?api-version=2020-06-01&resource=https%3a%2f%2fmanagement.azure.com http/1.1\r\n"), "{call}");
        assert!(call.contains("\r\nmetadata: true\r\n"), "{call}");
    }
    assert!(!calls[0].contains("authorization"), "{}", calls[0]);
    assert!(calls[1].contains("\r\nauthorization: basic c2vjcmv0\r\n"), "{}", calls[1]);
}

#[tokio::test]
async fn an_agent_that_wants_another_file_gets_nothing() {
    let (keys, beside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let outside = beside.path().join("id.key");
    std::fs::write(&outside, "private").unwrap();
    std::os::unix::fs::symlink(&outside, keys.path().join("link.key")).unwrap();
    for file in [
        outside.clone(),
        keys.path().join("link.key"),
        keys.path().join("..").join(beside.path().file_name().unwrap()).join("id.key"),
    ] {
        let (outcome, calls) = agent(&[challenge(&file)], keys.path()).await;
        let rejection = outcome.unwrap_err();
        assert_eq!(rejection.code(), Code::ExchangeFailed);
        assert!(rejection.reason().contains("which is not read"), "{}", rejection.reason());
        assert!(!rejection.reason().contains("id.key"), "{}", rejection.reason());
        assert_eq!(calls.len(), 1);
    }
}

#[tokio::test]
async fn a_key_that_is_not_there_has_its_cause_before_the_remedy() {
    let keys = tempfile::tempdir().unwrap();
    let (outcome, calls) = agent(&[challenge(&keys.path().join("1.key"))], keys.path()).await;
    let reason = outcome.unwrap_err().reason();
    assert!(
        reason.ends_with(
            "can't be read: No such file or directory (os error 2); let the gateway's user be in the group `himds`"
        ),
        "{reason}"
    );
    assert_eq!(calls.len(), 1);
}

#[tokio::test]
async fn an_agent_that_does_not_ask_or_does_not_believe_is_none() {
    let keys = tempfile::tempdir().unwrap();
    let file = keys.path().join("1.key");
    std::fs::write(&file, "c2VjcmV0").unwrap();
    for (answers, sign) in [
        (vec![http("200 OK", "", TOKEN)], "without asking for the key"),
        (vec![http("401 Unauthorized", "", "")], "not exactly one"),
        (vec![challenge(&file), challenge(&file)], "the key that was shown is not accepted"),
    ] {
        let (outcome, calls) = agent(&answers, keys.path()).await;
        let rejection = outcome.unwrap_err();
        assert_eq!(rejection.code(), Code::ExchangeFailed);
        assert!(rejection.reason().contains(sign), "{}", rejection.reason());
        assert_eq!(calls.len(), answers.len());
    }
}

#[test]
fn identities_have_parts_of_their_own() {
    let service = imds().service;
    let other = ManagedIdentity::new(Arc::clone(&service), Some(String::new()));
    let system = ManagedIdentity::new(service, None);
    assert_ne!(system.parts(), other.parts());
    assert_ne!(system.parts(), app_service().parts());
    assert!(!format!("{:?}", app_service()).contains("hush"));
}
