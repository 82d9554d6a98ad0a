//! The development servers on real sockets: started, asked as their users would, and stopped.

use std::net::SocketAddr;
use std::sync::Arc;

use http::StatusCode;
use obo_gateway::clock::SystemClock;
use obo_gateway::dev::directory::{GATEWAY_CLIENT_ID, GATEWAY_SECRET, TENANT};
use obo_gateway::dev::{
    ArmStandIn, Bound, DevError, DevServer, DevTls, GraphStandIn, IdentityProvider,
};
use obo_gateway::trust::Roots;
use serde_json::{Value, json};

const LOOPBACK: &str = "127.0.0.1:0";

async fn bind(tls: Option<&DevTls>) -> Bound {
    Bound::bind(LOOPBACK.parse().unwrap(), tls).await.unwrap()
}

async fn provider(tls: Option<&DevTls>) -> (IdentityProvider, DevServer) {
    let bound = bind(tls).await;
    let provider = IdentityProvider::new(bound.base_url(), Arc::new(SystemClock)).unwrap();
    let server = provider.serve(bound);
    assert_eq!(provider.base_url(), server.base_url());
    (provider, server)
}

fn client(ca_pem: Option<&str>) -> reqwest::Client {
    let roots =
        ca_pem.map_or(Roots::Only(Vec::new()), |pem| Roots::from_pem(pem.as_bytes()).unwrap());
    let builder = reqwest::Client::builder().no_proxy();
    builder.tls_backend_preconfigured(roots.client_config().unwrap()).build().unwrap()
}

async fn text(request: reqwest::RequestBuilder) -> (StatusCode, String) {
    let response = request.send().await.unwrap();
    (response.status(), response.text().await.unwrap())
}

async fn json(request: reqwest::RequestBuilder) -> (StatusCode, Value) {
    let (status, text) = text(request).await;
    (status, serde_json::from_str(&text).unwrap())
}

/// An on-behalf-of token of alice for `scope`.
async fn exchanged(client: &reqwest::Client, base: &str, scope: &str) -> String {
    let (_, assertion) = text(client.get(format!("{base}/dev/token?user=alice"))).await;
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer")
        .append_pair("client_id", GATEWAY_CLIENT_ID)
        .append_pair("client_secret", GATEWAY_SECRET)
        .append_pair("requested_token_use", "on_behalf_of")
        .append_pair("scope", scope)
        .append_pair("assertion", &assertion)
        .finish();
    let request = client
        .post(format!("{base}/{TENANT}/oauth2/v2.0/token"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form);
    let (status, body) = json(request).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn each_stand_in_takes_the_token_that_was_exchanged_for_it() {
    let (provider, server) = provider(None).await;
    let graph = GraphStandIn::new(&provider).serve(bind(None).await);
    let arm = ArmStandIn::new(&provider).serve(bind(None).await);
    let client = client(None);
    let for_graph =
        exchanged(&client, server.base_url(), "https://graph.microsoft.com/.default").await;
    let for_arm =
        exchanged(&client, server.base_url(), "https://management.azure.com/.default").await;
    let me = format!("{}/v1.0/me", graph.base_url());
    let subscriptions = format!("{}/subscriptions?api-version=2022-12-01", arm.base_url());

    for (url, token, audience) in [
        (&me, &for_graph, "https://graph.microsoft.com"),
        (&subscriptions, &for_arm, "https://management.azure.com"),
    ] {
        let (status, body) = json(client.get(url).bearer_auth(token)).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        assert_eq!(body["tokenFor"]["audience"], audience);
        assert_eq!(body["tokenFor"]["user"], "alice@dev.local");
        assert_eq!(body["tokenFor"]["appid"], json!(GATEWAY_CLIENT_ID));
    }
    for (url, token) in [(&me, &for_arm), (&subscriptions, &for_graph)] {
        let (status, _) = json(client.get(url).bearer_auth(token)).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn with_tls_it_is_localhost_and_trusted_by_its_own_ca_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let tls = DevTls::generate().unwrap();
    tls.write_ca_file(&file).await.unwrap();
    let (_provider, server) = provider(Some(&tls)).await;
    assert_eq!(server.base_url(), format!("https://localhost:{}", server.address().port()));

    let document = format!("{}/{TENANT}/v2.0/.well-known/openid-configuration", server.base_url());
    let ca_pem = std::fs::read_to_string(&file).unwrap();
    let (status, body) = json(client(Some(&ca_pem)).get(&document)).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body["issuer"], format!("{}/{TENANT}/v2.0", server.base_url()));
    let (status, keys) = json(client(Some(&ca_pem)).get(body["jwks_uri"].as_str().unwrap())).await;
    assert_eq!((status, keys["keys"].as_array().unwrap().len()), (StatusCode::OK, 1));

    let other = DevTls::generate().unwrap();
    assert!(client(Some(other.ca_pem())).get(&document).send().await.unwrap_err().is_connect());

    let nowhere = folder.path().join("no/such/folder.pem");
    let error = tls.write_ca_file(&nowhere).await.unwrap_err();
    assert!(error.to_string().contains("folder.pem"), "{error}");
}

#[tokio::test]
async fn a_dropped_server_gives_its_port_back() {
    let (provider, server) = provider(None).await;
    let address: SocketAddr = server.address();
    let taken = Bound::bind(address, None).await.unwrap_err();
    assert!(matches!(taken, DevError::Bind { .. }), "{taken}");

    let document = format!("{}/dev/token?user=bob", server.base_url());
    assert_eq!(text(client(None).get(&document)).await.0, StatusCode::OK);
    drop(server);
    // The task ends at its next turn.
    let bound = loop {
        match Bound::bind(address, None).await {
            Ok(bound) => break bound,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let _server = provider.serve(bound);
    assert_eq!(text(client(None).get(&document)).await.0, StatusCode::OK);
}
