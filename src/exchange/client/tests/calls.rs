//! Whole calls, over a loopback socket.

use http::HeaderValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::super::super::terms::{Parts, Requested, Terms};
use super::super::*;
use super::{TOKEN, World, provider};
use crate::clock::SystemClock;
use crate::exchange::{ClientCredential, Grant, UserGrant};
use crate::rejection::{Code, Rejection};
use crate::secret::Secret;

fn client(timeout: Duration) -> OAuthClient {
    OAuthClient {
        provider: provider(timeout),
        client_id: "client".to_owned(),
        credential: ClientCredential::ClientSecret(Secret::new("hush".into())),
        user_grant: UserGrant::EntraOnBehalfOf,
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
    let world = World::default();
    let office = Office { clock: &SystemClock, ..world.office() };
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
