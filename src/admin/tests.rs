use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::clock::SystemClock;
use crate::last_reload::{LastReload, ReloadOutcome};
use crate::observe::access_log::AccessLog;
use crate::observe::sink::{LogFormat, LogSink};
use crate::written::Changes;

const LOOPBACK: [u8; 4] = [127, 0, 0, 1];
const ANYWHERE: [u8; 4] = [0, 0, 0, 0];

/// What is shown of a gateway that is no more.
fn shown(readiness: Readiness) -> Arc<Shown> {
    let metrics = Metrics::default();
    let sink = LogSink::start(Box::new(std::io::sink()), LogFormat::Json, metrics.clone()).unwrap();
    Arc::new(Shown {
        readiness: Arc::new(readiness),
        gateway: Weak::new(),
        exchanger: Exchanger::new(1, Arc::new(SystemClock), metrics.clone()),
        observer: Arc::new(Observer::new(metrics.clone(), sink, AccessLog::Off)),
        metrics,
        reloads: Arc::new(Reloads::default()),
        started: Instant::now(),
        started_at: Timestamp(0),
        making: making(),
        scrapes: Arc::default(),
    })
}

fn admin(token: Option<&str>, address: impl Into<IpAddr>) -> Admin {
    Admin {
        gate: Gate::new(token.map(|token| Secret::new(token.to_owned())), address.into()),
        shown: shown(Readiness::new(Vec::new)),
    }
}

async fn ask(admin: &Admin, method: &str, path: &str, headers: &[(&str, &str)]) -> Response<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    admin.answer(request.body(Body::empty()).unwrap()).await
}

async fn body(response: Response<Body>) -> serde_json::Value {
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

#[tokio::test]
async fn health_and_metrics_are_open_to_all() {
    for admin in [admin(Some("s3cret"), LOOPBACK), admin(None, ANYWHERE)] {
        for path in ["/livez", "/readyz", "/metrics"] {
            let host = [("host", "any.example")];
            assert_eq!(ask(&admin, "GET", path, &host).await.status(), 200, "{path}");
            let post = ask(&admin, "POST", path, &[]).await;
            assert_eq!(post.status(), 405);
            assert_eq!(post.headers()[header::ALLOW], "GET, HEAD");
            assert_eq!(ask(&admin, "HEAD", path, &[]).await.status(), 200);
        }
    }
}

#[tokio::test]
async fn all_else_asks_for_the_token() {
    let with_token = admin(Some("s3cret"), LOOPBACK);
    for (authorization, status, code) in [
        (&["Bearer s3cret"][..], 404, "route_not_found"),
        (&["bearer s3cret"], 404, "route_not_found"),
        (&["Bearer s3cre"], 401, "token_invalid"),
        (&["Bearer s3cret "], 401, "token_invalid"),
        (&["Bearer "], 401, "token_invalid"),
        (&["Basic s3cret"], 401, "token_missing"),
        (&["Bearer s3cret", "Bearer s3cret"], 401, "token_missing"),
        (&[], 401, "token_missing"),
    ] {
        let headers: Vec<_> = authorization.iter().map(|it| ("authorization", *it)).collect();
        let response = ask(&with_token, "GET", "/api/v1/secrets", &headers).await;
        assert_eq!(response.status(), status, "{authorization:?}");
        assert_eq!(response.headers().contains_key(header::WWW_AUTHENTICATE), status == 401);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        assert_eq!(body(response).await["code"], code);
    }
    let host = ("host", "127.0.0.1");
    assert_eq!(ask(&admin(None, LOOPBACK), "GET", "/api/v1/x", &[host]).await.status(), 404);
    let authorization = ("authorization", "Bearer ");
    let empty = admin(Some(""), LOOPBACK);
    let reply = ask(&empty, "GET", "/api/v1/x", &[host, authorization]).await;
    assert_eq!(reply.status(), 401, "an empty token lets nobody in");
    for headers in [&[host][..], &[host, authorization]] {
        assert_eq!(ask(&admin(None, ANYWHERE), "GET", "/api/v1/x", headers).await.status(), 403);
    }
}

#[tokio::test]
async fn readiness_comes_with_its_reasons() {
    let loaded = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&loaded);
    let missing = move || {
        let missing = !asked.load(Ordering::Relaxed);
        missing.then(|| "no keys of provider `entra` yet".to_owned()).into_iter().collect()
    };
    let admin = Admin { shown: shown(Readiness::new(missing)), ..admin(None, LOOPBACK) };

    let response = ask(&admin, "GET", "/readyz", &[]).await;
    assert_eq!(response.status(), 503);
    let expected = json!({"status": "not_ready", "reasons": ["no keys of provider `entra` yet"]});
    assert_eq!(body(response).await, expected);

    loaded.store(true, Ordering::Relaxed);
    let response = ask(&admin, "GET", "/readyz", &[]).await;
    assert_eq!(response.status(), 200);
    assert_eq!(body(response).await, json!({"status": "ready"}));

    admin.shown.readiness.end();
    let response = ask(&admin, "GET", "/readyz", &[]).await;
    assert_eq!(response.status(), 503);
    assert_eq!(body(response).await["reasons"], json!(["the gateway is shutting down"]));
    assert_eq!(ask(&admin, "GET", "/livez", &[]).await.status(), 200);
    let reload = ask(&admin, "POST", "/api/v1/reload", &[("host", "localhost")]).await;
    assert_eq!(reload.status(), 503, "what ends is not changed any more");
    assert!(reload.headers().contains_key(header::RETRY_AFTER));
}

#[tokio::test]
async fn nothing_is_shown_of_a_gateway_that_is_no_more() {
    let admin = admin(None, LOOPBACK);
    for path in ["/api/v1/routes", "/api/v1/config", "/api/v1/stats"] {
        let response = ask(&admin, "GET", path, &[("host", "localhost")]).await;
        assert_eq!(response.status(), 503, "{path}");
    }
}

#[tokio::test]
async fn it_is_served_on_a_socket_of_its_own() {
    let listener = BoundListener::bind(SocketAddr::from((LOOPBACK, 0))).unwrap();
    let address = listener.address();
    let shown = shown(Readiness::new(Vec::new));
    shown.metrics.token_cache_entries(3);
    let drain = Drain::default();
    let serving = tokio::spawn(serve(listener, None, shown, drain.clone()));

    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    assert!(answer.contains("\nobo_gateway_token_cache_entries 3\n"), "{answer}");

    drain.finish(std::time::Duration::from_secs(5)).await;
    serving.await.unwrap();
}

#[tokio::test]
async fn the_page_is_open_and_says_what_browsers_may_do_with_it() {
    for admin in [admin(Some("s3cret"), LOOPBACK), admin(None, ANYWHERE)] {
        for (path, media_type) in [
            ("/", "text/html; charset=utf-8"),
            ("/page/page.css", "text/css; charset=utf-8"),
            ("/page/main.js", "text/javascript; charset=utf-8"),
        ] {
            let answer = ask(&admin, "GET", path, &[]).await;
            assert_eq!(answer.status(), 200, "{path}");
            assert_eq!(answer.headers()[header::CONTENT_TYPE], media_type);
            let policy = answer.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
            assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
            assert!(!policy.contains("unsafe"), "{policy}");
            for (name, value) in GUARDS {
                let said = &answer.headers()[&name];
                assert!(name == header::CONTENT_SECURITY_POLICY || said == value, "{name}");
            }
            assert_eq!(ask(&admin, "POST", path, &[]).await.status(), 405, "{path}");
        }
        for path in ["/page/", "/page/page.html", "/page/../main.js", "/index.html"] {
            let status = ask(&admin, "GET", path, &[]).await.status().as_u16();
            assert!([401, 403].contains(&status), "{path}");
        }
    }
}

#[tokio::test]
async fn a_flood_of_scrapes_is_refused_and_nobody_else_waits_for_it() {
    let admin = admin(None, LOOPBACK);
    let held = admin.shown.scrapes.hold().await;
    let mut waiting = Vec::new();
    for _ in 0..limits::MAX_SCRAPES {
        let mut scrape = Box::pin(ask(&admin, "GET", "/metrics", &[]));
        assert!(futures_util::poll!(&mut scrape).is_pending());
        waiting.push(scrape);
    }
    for path in ["/livez", "/readyz"] {
        assert_eq!(ask(&admin, "GET", path, &[]).await.status(), 200, "{path}");
    }
    let refused = ask(&admin, "GET", "/metrics", &[]).await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()[header::RETRY_AFTER], "1");
    assert_eq!(body(refused).await["code"], "too_many_scrapes");
    drop(held);
    for scraped in futures_util::future::join_all(waiting).await {
        assert_eq!(scraped.status(), 200);
    }
    assert_eq!(ask(&admin, "GET", "/metrics", &[]).await.status(), 200);
}

/// A reload that ends when it is told to.
struct Hangs(tokio::sync::watch::Receiver<bool>);

impl Reload for Hangs {
    fn reload(
        self: Arc<Self>,
    ) -> std::pin::Pin<Box<dyn Future<Output = Option<Arc<LastReload>>> + Send>> {
        Box::pin(async move {
            self.0.clone().wait_for(|ends| *ends).await.unwrap();
            Some(Arc::new(LastReload {
                at: String::new(),
                cause: String::new(),
                outcome: ReloadOutcome::Success,
                problems: Vec::new(),
                text: String::new(),
                changes: Changes::default(),
                needs_restart: Vec::new(),
            }))
        })
    }

    fn last_reload(&self) -> Option<Arc<LastReload>> {
        None
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_reload_that_hangs_is_told_so() {
    let (end, ended) = tokio::sync::watch::channel(false);
    let control: Arc<dyn Reload> = Arc::new(Hangs(ended));
    let admin = admin(None, LOOPBACK);
    admin.shown.reloads.attend(Arc::downgrade(&control));
    let reload = || Box::pin(ask(&admin, "POST", "/api/v1/reload", &[("host", "localhost")]));
    let (mut first, mut second) = (reload(), reload());
    assert!(futures_util::poll!(&mut first).is_pending());
    assert!(futures_util::poll!(&mut second).is_pending());
    tokio::time::advance(limits::RELOAD_PATIENCE + std::time::Duration::from_millis(1)).await;
    for answer in [first.await, second.await] {
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.headers()[header::RETRY_AFTER], "30");
        assert_eq!(body(answer).await["code"], "reload_hangs");
    }
    end.send_replace(true);
    assert_eq!(reload().await.status(), 200, "it ended, and nobody waits for it any more");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let admin = admin(None, LOOPBACK);
    let never = futures_util::stream::pending::<Result<http_body::Frame<bytes::Bytes>, BoxError>>();
    let request = Request::post("/api/v1/reload").header("host", "localhost");
    let request = request.body(http_body_util::StreamBody::new(never)).unwrap();
    let answer = admin.answer(request).await;
    assert_eq!(answer.status(), 408);
    assert_eq!(answer.headers()[header::CONNECTION], "close");
}

#[tokio::test]
async fn tunnels_and_heads_that_can_be_read_in_two_ways_are_refused() {
    let with_token = admin(Some("s3cret"), LOOPBACK);
    for target in ["localhost:1", "/livez", "/api/v1/reload"] {
        let answer = ask(&with_token, "CONNECT", target, &[]).await;
        assert_eq!(answer.status(), 405, "{target}");
        assert_eq!(answer.headers()[header::ALLOW], "GET, HEAD");
    }
    let mut extended = Request::get("/livez").body(Body::empty()).unwrap();
    extended.extensions_mut().insert(Protocol::from_static("websocket"));
    assert_eq!(with_token.answer(extended).await.status(), 405);

    let listener = BoundListener::bind(SocketAddr::from((LOOPBACK, 0))).unwrap();
    let address = listener.address();
    let drain = Drain::default();
    let shown = shown(Readiness::new(Vec::new));
    let serving = tokio::spawn(serve(listener, None, shown, drain.clone()));
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = b"GET /livez HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\
        transfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    drain.finish(std::time::Duration::from_secs(5)).await;
    serving.await.unwrap();
}
