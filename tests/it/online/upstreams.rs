//! Names, addresses, TLS and health of upstreams; certificates of listeners.

use std::net::TcpListener;
use std::sync::Arc;

use obo_gateway::dev::DevTls;
use obo_gateway::online::Outcome::{Fail, Ok, Warn};
use obo_gateway::online::{Kind, Report};
use rustls::version::TLS13;
use tokio::io::AsyncReadExt as _;
use tokio_rustls::TlsAcceptor;

use super::{all, one, says, tried, tried_in};
use crate::support::names::Names;
use crate::support::servers::Server;
use crate::support::tls_upstream::{self, Authority, Issued, Purpose, Settings};
use crate::support::upstream::{Answer, Upstream};
use crate::support::within;

/// One route to this upstream; `keys` are more of its keys.
fn file(url: &str, keys: &str) -> String {
    format!(
        "listeners: [{{ address: \"127.0.0.1:0\" }}]\nadmin: {{ address: off }}\n\
         upstreams: {{ up: {{ url: \"{url}\"{keys} }} }}\n\
         routes:\n  - {{ match: {{ path: /a }}, auth: none, upstream: up }}\n"
    )
}

/// `localhost` is 127.0.0.1, whatever the machine says.
fn names() -> Names {
    let names = Names::default();
    names.set("localhost", &["127.0.0.1"]);
    names
}

async fn tried_at(url: &str, keys: &str) -> Report {
    tried_in(&[], &names(), &file(url, keys)).await
}

#[tokio::test]
async fn a_name_is_looked_up_and_each_address_connected_to() {
    let upstream = Upstream::start();
    let names = names();
    let url = format!("http://service.internal:{}", upstream.port());
    let file = file(&url, "");
    let report = tried_in(&[], &names, &file).await;
    says(&report, "name", Fail, &["`service.internal:", "no such name, says the test", "`url`"]);
    assert!(all(&report, "connect").is_empty(), "{}", report.text());

    // Nothing listens there but at 127.0.0.1.
    names.set("service.internal", &["127.0.0.1", "127.0.0.77"]);
    let report = tried_in(&[], &names, &file).await;
    assert_eq!(one(&report, "name").outcome, Ok);
    assert!(one(&report, "name").detail.ends_with("is 127.0.0.1, 127.0.0.77"), "{}", report.text());
    let connects: Vec<_> = all(&report, "connect").iter().map(|check| check.outcome).collect();
    assert_eq!(connects, [Ok, Fail], "{}", report.text());
    let refused = all(&report, "connect")[1];
    assert!(refused.detail.contains("Connection refused"), "{}", report.text());
    assert!(refused.hint.as_deref().unwrap().contains("see that it runs"));
    assert_eq!(upstream.count(), 0, "no request");
}

struct Pki {
    authority: Authority,
    folder: tempfile::TempDir,
}

impl Pki {
    fn new() -> Self {
        let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        Self { authority, folder }
    }

    /// `tls:` with its CA, and more.
    fn keys(&self, more: &str) -> String {
        format!(", tls: {{ ca_file: \"{}/ca.pem\"{more} }}", self.folder.path().display())
    }
}

fn url(server: &Server) -> String {
    format!("https://localhost:{}", server.address().port())
}

fn server(issued: &Issued) -> Server {
    tls_upstream::start(issued, &Settings::default())
}

#[tokio::test]
async fn a_handshake_is_verified_and_what_is_wrong_with_it_told() {
    let pki = Pki::new();
    let issue = |name: &str, years| pki.authority.issue_in(Purpose::Server, name, years);
    let good = server(&issue("localhost", (2020, 2099)));
    let report = tried_at(&url(&good), &pki.keys("")).await;
    says(&report, "tls", Ok, &["TLS 1.3, `h2` by ALPN", "is for `localhost`, and expires in"]);
    let http1 = format!("{}, protocol: http1", pki.keys(""));
    says(&tried_at(&url(&good), &http1).await, "tls", Ok, &["`http/1.1` by ALPN"]);

    let other = Pki::new();
    for (issued, keys, words) in [
        (issue("localhost", (2020, 2021)), pki.keys(""), "certificate has expired"),
        (issue("other.internal", (2020, 2099)), pki.keys(""), "set `tls.server_name`"),
        (issue("localhost", (2020, 2099)), other.keys(""), "of no CA that is believed"),
    ] {
        let report = tried_at(&url(&server(&issued)), &keys).await;
        says(&report, "tls", Fail, &["the TLS handshake failed", words]);
        assert_eq!(one(&report, "connect").outcome, Ok, "{}", report.text());
    }
    let named = issue("other.internal", (2020, 2099));
    let keys = pki.keys(", server_name: other.internal");
    says(&tried_at(&url(&server(&named)), &keys).await, "tls", Ok, &["is for `other.internal`"]);

    let clear = Upstream::start();
    let report = tried_at(&format!("https://localhost:{}", clear.port()), &pki.keys("")).await;
    says(&report, "tls", Fail, &["what it sends is not TLS"]);
}

#[tokio::test]
async fn an_upstream_that_asks_for_a_certificate_says_whether_it_takes_ours() {
    let (pki, callers) = (Pki::new(), Authority::new());
    let settings = Settings { versions: &[&TLS13], callers: Some(&callers), ..Settings::default() };
    let server = tls_upstream::start(&pki.authority.issue(Purpose::Server, "localhost"), &settings);
    // It comes behind the handshake, with TLS 1.3.
    let report = tried_at(&url(&server), &pki.keys("")).await;
    says(&report, "tls", Fail, &["it asks the gateway for a certificate", "`tls.cert_file`"]);

    let folder = pki.folder.path();
    let pair = |name: &str| {
        let folder = folder.display();
        format!(", cert_file: \"{folder}/{name}.pem\", key_file: \"{folder}/{name}.key\"")
    };
    callers.issue(Purpose::Client, "gateway").write(folder, "good");
    let report = tried_at(&url(&server), &pki.keys(&pair("good"))).await;
    says(&report, "tls", Ok, &["it asks for a client certificate"]);
    says(&report, "certificate", Ok, &["good.pem", "expires in"]);

    Authority::new().issue(Purpose::Client, "gateway").write(folder, "stranger");
    let report = tried_at(&url(&server), &pki.keys(&pair("stranger"))).await;
    says(&report, "tls", Fail, &["it refuses the certificate in `tls.cert_file`"]);
    callers.issue_in(Purpose::Client, "gateway", (2020, 2021)).write(folder, "old");
    let report = tried_at(&url(&server), &pki.keys(&pair("old"))).await;
    assert_eq!(one(&report, "certificate").outcome, Fail, "{}", report.text());
    assert!(one(&report, "certificate").detail.contains("expired"), "{}", report.text());
}

#[tokio::test]
async fn http2_that_is_asked_for_must_be_spoken() {
    let pki = Pki::new();
    let issued = pki.authority.issue(Purpose::Server, "localhost");
    let settings = Settings { alpn: &[], ..Settings::default() };
    let server = tls_upstream::start(&issued, &settings);
    says(&tried_at(&url(&server), &pki.keys("")).await, "tls", Ok, &["no ALPN, so HTTP/1.1"]);
    let keys = format!("{}, protocol: http2", pki.keys(""));
    says(&tried_at(&url(&server), &keys).await, "tls", Fail, &["does not speak it"]);
}

#[tokio::test]
async fn health_is_checked_where_the_file_asks_for_it() {
    let upstream = Upstream::start();
    let check = ", health_check: { path: /healthz, interval: 10s, timeout: 20s }";
    let url = upstream.url();
    says(&tried_at(&url, check).await, "health", Ok, &["`/healthz` answered 200"]);
    assert_eq!((upstream.count(), &*upstream.last().target), (1, "/healthz"));
    upstream.answer(|_| Answer::status(503));
    says(&tried_at(&url, check).await, "health", Fail, &["answered 503", "takes no requests"]);
    assert!(all(&tried_at(&url, "").await, "health").is_empty());
    assert_eq!(upstream.count(), 2);
}

#[tokio::test]
async fn the_gateway_itself_is_no_upstream() {
    // Bound by nobody but us, so that nobody else is met there.
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap();
    let names = names();
    names.set("gateway.internal", &["127.0.0.1"]);
    for (url, listener, admin) in [
        (format!("http://{address}"), address.to_string(), "off".to_owned()),
        (
            format!("http://gateway.internal:{}", address.port()),
            address.to_string(),
            "off".to_owned(),
        ),
        (format!("http://{address}"), format!("0.0.0.0:{}", address.port()), "off".to_owned()),
        (format!("http://{address}"), "127.0.0.1:0".to_owned(), address.to_string()),
    ] {
        let file = file(&url, "")
            .replace("address: \"127.0.0.1:0\"", &format!("address: \"{listener}\""))
            .replace("address: off", &format!("address: \"{admin}\""));
        let report = tried_in(&[], &names, &file).await;
        says(&report, "loop", Fail, &["where the gateway itself listens", "correct its `url`"]);
        assert!(all(&report, "connect").is_empty(), "{}", report.text());
    }
    let report = tried_at(&format!("http://{address}"), "").await;
    assert!(all(&report, "loop").is_empty() && report.is_good(), "{}", report.text());
}

/// What comes over the next connection.
async fn received(listener: &tokio::net::TcpListener, tls: Option<&TlsAcceptor>) -> Vec<u8> {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut received = Vec::new();
    match tls {
        None => stream.read_to_end(&mut received).await.map(drop).unwrap(),
        // It ends without a farewell, or with one.
        Some(tls) => {
            let mut stream = tls.accept(stream).await.unwrap();
            stream.read_to_end(&mut received).await.map(drop).unwrap_or_default();
        }
    }
    received
}

#[tokio::test]
async fn nothing_is_sent_to_upstreams() {
    let tls = DevTls::generate().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    tls.write_ca_file(&ca_file).await.unwrap();
    let acceptor = TlsAcceptor::from(Arc::clone(&tls.server_config()));
    for (scheme, acceptor, keys) in [
        ("http", None, String::new()),
        ("https", Some(&acceptor), format!(", tls: {{ ca_file: \"{}\" }}", ca_file.display())),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{scheme}://localhost:{}", listener.local_addr().unwrap().port());
        let tries = async { tokio::join!(tried_at(&url, &keys), received(&listener, acceptor)) };
        let (report, received) = within("a try", tries).await;
        assert!(report.is_good() && received.is_empty(), "{received:?} {}", report.text());
    }
}

#[tokio::test]
async fn the_end_of_a_listeners_certificate_is_told() {
    let pki = Pki::new();
    let folder = pki.folder.path();
    for (until, outcome, words) in [(2099, Ok, "expires in"), (2021, Fail, "expired")] {
        pki.authority.issue_in(Purpose::Server, "localhost", (2020, until)).write(folder, "own");
        let listener = format!(
            "listeners: [{{ address: \"127.0.0.1:0\", tls: {{ cert_file: \"{0}/own.pem\", key_file: \"{0}/own.key\" }} }}]\n",
            folder.display()
        );
        let file =
            super::file("").replace("listeners: [{ address: \"127.0.0.1:0\" }]\n", &listener);
        let report = tried(&file).await;
        says(&report, "certificate", outcome, &[words]);
        assert_eq!(one(&report, "certificate").kind, Kind::Listener);
    }
}

#[tokio::test]
async fn an_upstreams_certificate_that_ends_soon_is_warned_of() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
    let soon =
        authority.issue_for(Purpose::Server, "localhost", std::time::Duration::from_hours(60));
    let keys = format!(", tls: {{ ca_file: \"{}/ca.pem\" }}", folder.path().display());
    let report = tried_at(&url(&server(&soon)), &keys).await;
    says(&report, "tls", Warn, &["expires in 2 days", "ends soon"]);
}
