//! A provider on a real socket, on loopback.

use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// Answers each connection with the body that belongs to the path, or 404, and closes it.
async fn serve(
    listener: tokio::net::TcpListener,
    pages: Vec<(String, Arc<std::sync::Mutex<String>>)>,
) {
    loop {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if socket.read_exact(&mut byte).await.is_err() {
                break;
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let path = head.split(' ').nth(1).unwrap_or_default();
        let page = pages.iter().find(|(known, _)| known == path);
        let answer = match page {
            None => "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                .to_owned(),
            Some((_, body)) => {
                let body = body.lock().unwrap();
                let length = body.len();
                format!(
                    "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
                )
            }
        };
        socket.write_all(answer.as_bytes()).await.unwrap();
    }
}

#[tokio::test]
async fn a_provider_on_a_socket_is_discovered_rotated_and_lost() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let (old, new, lost) = (Signer::p256("old"), Signer::p256("new"), Signer::p256("lost"));
    let metadata = json!({
        "issuer": base, "jwks_uri": format!("{base}/keys"),
        "token_endpoint": format!("{base}/token"),
        "authorization_endpoint": format!("{base}/authorize"),
    });
    let keys = Arc::new(std::sync::Mutex::new(json!({"keys": [old.jwk()]}).to_string()));
    let pages = vec![
        (
            "/.well-known/openid-configuration".to_owned(),
            Arc::new(std::sync::Mutex::new(metadata.to_string())),
        ),
        ("/keys".to_owned(), Arc::clone(&keys)),
    ];
    let server = tokio::spawn(serve(listener, pages));
    let clock = Arc::new(Hand(AtomicU64::new(NOW)));
    let kind = Issuing::Oidc { issuer: base.clone() };
    let settings = ProviderSettings::new("live", kind, vec!["orders".to_owned()]);
    let provider = provider(&clock, settings);
    let verified = VerifiedTokens::new(Arc::clone(&clock) as _, 10);
    let judge = async |signer: &Signer| {
        let claims = with(&sso(), json!({"iss": base}));
        let token = inbound(&signer.token(Algorithm::Es256, &claims));
        let verdict = verify(&token, std::slice::from_ref(&provider), &verified).await;
        verdict.map_err(|rejection| (rejection.code(), rejection.reason()))
    };
    let (code, reason) = judge(&old).await.unwrap_err();
    assert_eq!(code, Code::ProviderUnavailable, "{reason}");
    assert!(!provider.has_keys() && provider.endpoints().is_none());

    let keeper = tokio::spawn(Arc::clone(&provider).keep_keys());
    tokio::time::timeout(Duration::from_secs(10), async {
        while !provider.has_keys() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    judge(&old).await.unwrap();
    let endpoints = provider.endpoints().unwrap();
    assert_eq!(endpoints.token.as_deref(), Some(&*format!("{base}/token")));
    assert_eq!(endpoints.authorization.as_deref(), Some(&*format!("{base}/authorize")));
    assert_eq!(provider.status().keys, Some(1));

    let claims = with(&sso(), json!({"iss": base}));
    let remembered = inbound(&old.token(Algorithm::Es256, &claims));
    let providers = [Arc::clone(&provider)];
    verify(&remembered, &providers, &verified).await.unwrap();
    assert!(verified.find(&remembered.digest(), &providers).is_some());

    *keys.lock().unwrap() = json!({"keys": [new.jwk()]}).to_string();
    judge(&new).await.unwrap();
    let forgotten = verified.find(&remembered.digest(), &providers);
    assert!(forgotten.is_none(), "its key is no longer published");
    let (code, reason) = judge(&old).await.unwrap_err();
    assert_eq!(code, Code::TokenInvalid);
    assert!(reason.contains("`old`, which provider `live` does not publish (1 keys"), "{reason}");
    assert!(reason.contains("next fetch in"), "{reason}");
    server.abort();
    judge(&new).await.unwrap();
    assert_eq!(judge(&lost).await.unwrap_err().0, Code::TokenInvalid, "the last fetch was good");
    keeper.abort();
}

#[tokio::test]
async fn with_keys_from_a_file_there_is_nothing_to_fetch() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let issuer = format!("http://{}", listener.local_addr().unwrap());
    let clock = Arc::new(Hand(AtomicU64::new(NOW)));
    let keys = json!({"keys": [Signer::rsa("k").jwk()]});
    let kind = Issuing::Oidc { issuer: issuer.clone() };
    let oidc = ProviderSettings { kind, ..sso_settings(&keys) };
    let kind = Issuing::entra(TENANT, Cloud::Public, Some(&issuer));
    let entra = ProviderSettings { kind, ..entra_settings(&keys) };
    for settings in [oidc, entra] {
        let provider = provider(&clock, settings);
        let kept = Arc::clone(&provider).keep_keys().now_or_never();
        assert!(kept.is_some(), "it ends without waiting for anything, so for no network");
        assert_eq!(provider.status(), Status { keys: Some(1), age: None, failure: None });
    }
}

/// Waits until `done` says so, at most ten seconds.
async fn until(done: impl Fn() -> bool) {
    let waiting = async {
        while !done() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap();
}

#[tokio::test]
async fn endpoints_are_discovered_also_where_the_keys_come_from_a_file() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let metadata = Arc::new(std::sync::Mutex::new("<html>".to_owned()));
    let pages = vec![("/.well-known/openid-configuration".to_owned(), Arc::clone(&metadata))];
    let server = tokio::spawn(serve(listener, pages));
    let clock = Arc::new(Hand(AtomicU64::new(NOW)));
    let signer = Signer::p256("k");
    let kind = Issuing::Oidc { issuer: base.clone() };
    let settings = ProviderSettings {
        kind,
        exchanges: Exchanges::Asked,
        ..sso_settings(&json!({"keys": [signer.jwk()]}))
    };
    let provider = provider(&clock, settings);
    let keeper = tokio::spawn(Arc::clone(&provider).keep_keys());
    let lack = || provider.endpoints_for(None).err().map(|lack| lack.to_string());
    until(|| lack().is_some_and(|lack| lack.contains("(the metadata can't be read"))).await;
    // Tokens are judged meanwhile, and the gateway is ready.
    let verified = VerifiedTokens::new(Arc::clone(&clock) as _, 0);
    let token = inbound(&signer.token(Algorithm::Es256, &with(&sso(), json!({"iss": base}))));
    verify(&token, std::slice::from_ref(&provider), &verified).await.unwrap();
    assert_eq!(provider.status(), Status { keys: Some(1), age: None, failure: None });

    // Another issuer's endpoints would get the gateway's secret.
    let document = |issuer: &str| {
        json!({"issuer": issuer, "token_endpoint": format!("{base}/token"), "jwks_uri": format!("{base}/keys")})
            .to_string()
    };
    *metadata.lock().unwrap() = document("https://evil.example");
    until(|| lack().is_some_and(|lack| lack.contains("evil.example"))).await;
    *metadata.lock().unwrap() = document(&base);
    until(|| lack().is_none()).await;
    let endpoints = provider.endpoints_for(None).unwrap();
    assert_eq!(endpoints.token.as_deref(), Some(&*format!("{base}/token")));
    assert_eq!(provider.status().keys, Some(1), "the keys are those of the file");
    keeper.abort();
    server.abort();
}

#[tokio::test]
async fn with_keys_and_token_endpoint_configured_there_is_nothing_to_fetch() {
    let clock = Arc::new(Hand(AtomicU64::new(NOW)));
    let settings = ProviderSettings {
        exchanges: Exchanges::Asked,
        token_endpoint: Some("https://sso.example.com/token".to_owned()),
        ..sso_settings(&json!({"keys": [Signer::p256("k").jwk()]}))
    };
    let provider = provider(&clock, settings);
    assert!(Arc::clone(&provider).keep_keys().now_or_never().is_some());
    let endpoints = provider.endpoints_for(None).unwrap();
    assert_eq!(endpoints.token.as_deref(), Some("https://sso.example.com/token"));
}

#[tokio::test]
async fn metadata_of_another_issuer_gives_no_keys() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let metadata = json!({"issuer": "https://other.example", "jwks_uri": format!("{base}/keys")});
    let metadata = Arc::new(std::sync::Mutex::new(metadata.to_string()));
    let pages = vec![("/.well-known/openid-configuration".to_owned(), metadata)];
    let server = tokio::spawn(serve(listener, pages));
    let clock = Arc::new(Hand(AtomicU64::new(NOW)));
    let kind = Issuing::Oidc { issuer: base.clone() };
    let provider = provider(&clock, ProviderSettings::new("live", kind, vec!["orders".into()]));
    let keeper = tokio::spawn(Arc::clone(&provider).keep_keys());
    let failure = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            if let Some(failure) = provider.status().failure {
                return failure;
            }
            tokio::task::yield_now().await;
        }
    });
    let failure = failure.await.unwrap();
    assert!(failure.contains("https://other.example") && failure.contains(&base), "{failure}");
    assert!(!provider.has_keys());
    keeper.abort();
    server.abort();
}
