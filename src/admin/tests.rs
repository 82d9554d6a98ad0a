use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};

use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const LOOPBACK: [u8; 4] = [127, 0, 0, 1];
const ANYWHERE: [u8; 4] = [0, 0, 0, 0];

fn admin(token: Option<&str>, address: impl Into<IpAddr>) -> Admin {
    Admin {
        gate: Gate::new(token.map(|token| Secret::new(token.to_owned())), address.into()),
        readiness: Arc::new(Readiness::new(Vec::new)),
        metrics: Metrics::default(),
    }
}

fn get(admin: &Admin, path: &str, authorization: &[&str]) -> Response<Body> {
    let mut headers = HeaderMap::new();
    for value in authorization {
        headers.append(header::AUTHORIZATION, value.parse().unwrap());
    }
    admin.answer(&Method::GET, path, &headers)
}

async fn body(response: Response<Body>) -> serde_json::Value {
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

#[test]
fn health_and_metrics_are_open_to_all() {
    for admin in [admin(Some("s3cret"), LOOPBACK), admin(None, ANYWHERE)] {
        for path in ["/livez", "/readyz", "/metrics"] {
            assert_eq!(get(&admin, path, &[]).status(), 200, "{path}");
            let post = admin.answer(&Method::POST, path, &HeaderMap::new());
            assert_eq!(post.status(), 405);
            assert_eq!(post.headers()[header::ALLOW], "GET, HEAD");
            assert_eq!(admin.answer(&Method::HEAD, path, &HeaderMap::new()).status(), 200);
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
        let response = get(&with_token, "/api/v1/routes", authorization);
        assert_eq!(response.status(), status, "{authorization:?}");
        assert_eq!(response.headers().contains_key(header::WWW_AUTHENTICATE), status == 401);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(body(response).await["code"], code);
    }
    assert_eq!(get(&admin(None, LOOPBACK), "/", &[]).status(), 404);
    assert_eq!(get(&admin(None, ANYWHERE), "/", &[]).status(), 403);
    assert_eq!(get(&admin(None, ANYWHERE), "/", &["Bearer "]).status(), 403);
}

#[tokio::test]
async fn readiness_comes_with_its_reasons() {
    let loaded = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&loaded);
    let missing = move || {
        let missing = !asked.load(Ordering::Relaxed);
        missing.then(|| "no keys of provider `entra` yet".to_owned()).into_iter().collect()
    };
    let readiness = Arc::new(Readiness::new(missing));
    let admin = Admin { readiness: Arc::clone(&readiness), ..admin(None, LOOPBACK) };

    let response = get(&admin, "/readyz", &[]);
    assert_eq!(response.status(), 503);
    let expected = json!({"status": "not_ready", "reasons": ["no keys of provider `entra` yet"]});
    assert_eq!(body(response).await, expected);

    loaded.store(true, Ordering::Relaxed);
    let response = get(&admin, "/readyz", &[]);
    assert_eq!(response.status(), 200);
    assert_eq!(body(response).await, json!({"status": "ready"}));

    readiness.end();
    let response = get(&admin, "/readyz", &[]);
    assert_eq!(response.status(), 503);
    assert_eq!(body(response).await["reasons"], json!(["the gateway is shutting down"]));
    assert_eq!(get(&admin, "/livez", &[]).status(), 200);
}

#[tokio::test]
async fn it_is_served_on_a_socket_of_its_own() {
    let listener = BoundListener::bind(SocketAddr::from((LOOPBACK, 0))).unwrap();
    let address = listener.address();
    let metrics = Metrics::default();
    metrics.token_cache_entries(3);
    let drain = Drain::default();
    let readiness = Arc::new(Readiness::new(Vec::new));
    let serving = tokio::spawn(serve(listener, None, readiness, metrics, drain.clone()));

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
