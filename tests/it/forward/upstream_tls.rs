//! TLS towards upstreams: certificates of the gateway's own for those that ask, and what the log
//! says where a handshake comes to nothing.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{event, open};
use crate::support::gateway::Gateway;
use crate::support::servers::Server;
use crate::support::tls_upstream::{self, Authority, Issued, Purpose, Settings, shown_of};
use crate::support::within;

/// A CA of upstreams, a CA of callers, and a folder with the files of both.
struct Pki {
    servers: Authority,
    callers: Authority,
    folder: tempfile::TempDir,
}

impl Pki {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (servers, callers) = (Authority::new(), Authority::new());
        std::fs::write(folder.path().join("ca.pem"), servers.pem()).unwrap();
        Self { servers, callers, folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn ca(&self) -> String {
        format!("ca_file: \"{}\"", self.path().join("ca.pem").display())
    }

    /// The keys for a certificate that stands in files of this name.
    fn pair(&self, name: &str) -> String {
        let folder = self.path().display();
        format!("cert_file: \"{folder}/{name}.pem\", key_file: \"{folder}/{name}.key\"")
    }

    fn server(&self) -> Issued {
        self.servers.issue(Purpose::Server, "localhost")
    }
}

fn url(server: &Server) -> String {
    format!("https://localhost:{}", server.address().port())
}

async fn text(gateway: &Gateway, path: &str) -> String {
    let reply = gateway.client().await.get(path).await;
    assert_eq!(reply.status, 200, "{:?}", reply.outcome());
    String::from_utf8(reply.body.to_vec()).unwrap()
}

/// The operator's sentence about a request that this gateway could not forward.
async fn reason(gateway: &Gateway) -> String {
    let reply = gateway.client().await.get("/refused").await;
    assert_eq!(reply.outcome(), (502, "upstream_unreachable".into()));
    let text = String::from_utf8(reply.body.to_vec()).unwrap();
    assert!(!text.contains("tls") && !text.contains("certificate"), "{text}");
    event(gateway, "/refused").await["reason"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_upstream_that_asks_is_shown_the_certificate() {
    let pki = Pki::new();
    let own = pki.callers.issue(Purpose::Client, "gateway");
    own.write(pki.path(), "own");
    for versions in [&[&TLS12][..], &[&TLS13]] {
        for (alpn, version) in [("h2", "HTTP/2.0"), ("http/1.1", "HTTP/1.1")] {
            let settings = Settings { versions, alpn: &[alpn], callers: Some(&pki.callers) };
            let upstream = tls_upstream::start(&pki.server(), &settings);
            let keys = format!("tls: {{ {}, {} }}", pki.ca(), pki.pair("own"));
            let gateway = Gateway::start(&open(&url(&upstream), &keys, ""));
            let expected = format!("{version} /x {}", shown_of(&own));
            assert_eq!(text(&gateway, "/x").await, expected);
            let metrics = gateway.metrics().await;
            let line = "obo_gateway_client_certificate_expiry_timestamp_seconds{upstream=\"up\"} 4070908800";
            assert!(metrics.contains(line), "{metrics}");
        }
    }
    // One that does not ask sees none.
    let upstream = tls_upstream::start(&pki.server(), &Settings::default());
    let keys = format!("tls: {{ {}, {} }}", pki.ca(), pki.pair("own"));
    let gateway = Gateway::start(&open(&url(&upstream), &keys, ""));
    assert_eq!(text(&gateway, "/x").await, "HTTP/2.0 /x nobody");
}

#[tokio::test]
async fn an_upstream_that_refuses_the_gateways_certificate_is_502_and_the_log_says_what_to_do() {
    let pki = Pki::new();
    let strangers = Authority::new();
    strangers.issue(Purpose::Client, "gateway").write(pki.path(), "strange");
    pki.callers.issue_in(Purpose::Client, "gateway", (2000, 2001)).write(pki.path(), "old");
    pki.callers.issue(Purpose::Server, "gateway").write(pki.path(), "server");
    for versions in [&[&TLS12][..], &[&TLS13]] {
        for alpn in ["h2", "http/1.1"] {
            let settings = Settings { versions, alpn: &[alpn], callers: Some(&pki.callers) };
            let upstream = tls_upstream::start(&pki.server(), &settings);
            let refused = "it must be of a CA that the upstream knows, for client authentication";
            for (pair, said) in [
                (None, "it asks the gateway for a certificate: set `tls.cert_file`"),
                (Some("strange"), refused),
                (Some("old"), refused),
                (Some("server"), refused),
            ] {
                let pair = pair.map(|name| pki.pair(name)).unwrap_or_default();
                let keys = format!("tls: {{ {}, {pair} }}", pki.ca());
                let gateway = Gateway::start(&open(&url(&upstream), &keys, ""));
                let reason = reason(&gateway).await;
                assert!(reason.contains(said), "{alpn} {pair}: {reason}");
            }
        }
    }
}

#[tokio::test]
async fn an_upstream_that_can_not_prove_itself_is_502_and_the_log_says_what_to_do() {
    let pki = Pki::new();
    let others = Authority::new();
    let of = |name: &str, years| pki.servers.issue_in(Purpose::Server, name, years);
    for (issued, keys, said) in [
        (others.issue(Purpose::Server, "localhost"), "", "set `tls.ca_file`"),
        (of("api.internal", (2020, 2099)), "", "set `tls.server_name`"),
        (of("localhost", (2020, 2099)), "server_name: api.internal", "set `tls.server_name`"),
        (of("localhost", (2020, 2099)), "server_name: 127.0.0.1", "set `tls.server_name`"),
        (of("localhost", (2000, 2001)), "", "has expired: it needs a new one"),
        (of("localhost", (2098, 2099)), "", "is not valid yet"),
        (pki.servers.issue(Purpose::Client, "localhost"), "", "is not for servers"),
    ] {
        let upstream = tls_upstream::start(&issued, &Settings::default());
        let keys = format!("tls: {{ {}, {keys} }}", pki.ca());
        let gateway = Gateway::start(&open(&url(&upstream), &keys, ""));
        let reason = reason(&gateway).await;
        assert!(reason.contains(said), "{said}: {reason}");
        assert!(reason.contains("`up` at localhost:"), "{reason}");
    }
    // The system's roots know none of these.
    let upstream = tls_upstream::start(&pki.server(), &Settings::default());
    let gateway = Gateway::start(&open(&url(&upstream), "", ""));
    assert!(reason(&gateway).await.contains("set `tls.ca_file`"));
}

#[tokio::test]
async fn the_name_of_the_certificate_may_be_an_address() {
    let pki = Pki::new();
    for (name, server_name) in [
        ("10.1.2.3", "10.1.2.3"),
        ("2001:db8::1", "2001:db8::1"),
        ("2001:db8::1", "[2001:db8::1]"),
        ("api.internal", "api.internal"),
    ] {
        let issued = pki.servers.issue(Purpose::Server, name);
        let upstream = tls_upstream::start(&issued, &Settings::default());
        let keys = format!("tls: {{ {}, server_name: \"{server_name}\" }}", pki.ca());
        let gateway = Gateway::start(&open(&url(&upstream), &keys, ""));
        assert_eq!(text(&gateway, "/x").await, "HTTP/2.0 /x nobody", "{server_name}");
    }
    // An address in the URL is the name, where no other is given.
    let issued = pki.servers.issue(Purpose::Server, "127.0.0.1");
    let upstream = tls_upstream::start(&issued, &Settings::default());
    let url = format!("https://{}", upstream.address());
    let gateway = Gateway::start(&open(&url, &format!("tls: {{ {} }}", pki.ca()), ""));
    assert_eq!(text(&gateway, "/x").await, "HTTP/2.0 /x nobody");
}

#[tokio::test]
async fn what_alpn_finds_is_spoken_and_nothing_else() {
    let pki = Pki::new();
    let issued = pki.server();
    for (alpn, protocol, outcome) in [
        (&["h2", "http/1.1"][..], "auto", Ok("HTTP/2.0")),
        (&["http/1.1"], "auto", Ok("HTTP/1.1")),
        (&[], "auto", Ok("HTTP/1.1")),
        (&["h2"], "http1", Err("speaks none of the HTTP versions that were offered")),
        (&["spdy/3"], "auto", Err("speaks none of the HTTP versions that were offered")),
        (&["http/1.1"], "http2", Err("speaks none of the HTTP versions that were offered")),
        (&[], "http1", Ok("HTTP/1.1")),
        (&[], "http2", Err("the upstream does not speak it")),
    ] {
        let upstream = tls_upstream::start(&issued, &Settings { alpn, ..Settings::default() });
        let keys = format!("protocol: {protocol}, tls: {{ {} }}", pki.ca());
        let gateway = Gateway::start(&open(&url(&upstream), &keys, ""));
        match outcome {
            Ok(version) => {
                assert_eq!(text(&gateway, "/x").await, format!("{version} /x nobody"));
            }
            Err(said) => {
                let reason = reason(&gateway).await;
                assert!(reason.contains(said), "{alpn:?} {protocol}: {reason}");
            }
        }
    }
}

/// A peer that says `bytes` to whoever connects, then ends; what it was told is kept.
fn babbler(bytes: &'static [u8]) -> Server {
    Server::start(Arc::new(move |mut stream| {
        Box::pin(async move {
            let mut hello = [0; 16];
            stream.read_exact(&mut hello).await.ok();
            stream.write_all(bytes).await.ok();
            stream.shutdown().await.ok();
            stream.read_to_end(&mut Vec::new()).await.ok();
        })
    }))
}

#[tokio::test]
async fn a_peer_that_speaks_no_tls_is_502_and_the_log_says_so() {
    let pki = Pki::new();
    for (bytes, said) in [
        (&b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"[..], "what it sends is not TLS"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "what it sends is not TLS"),
        // Alerts: protocol_version, unrecognized_name, internal_error.
        (&[21, 3, 3, 0, 2, 2, 70], "TLS 1.2 and 1.3"),
        (&[21, 3, 3, 0, 2, 2, 112], "set `tls.server_name`"),
        (&[21, 3, 3, 0, 2, 2, 80], "its own log may say why"),
        (b"", "the TLS handshake failed"),
    ] {
        let peer = babbler(bytes);
        let keys = format!("tls: {{ {} }}", pki.ca());
        let gateway = Gateway::start(&open(&url(&peer), &keys, ""));
        let reason = reason(&gateway).await;
        assert!(reason.contains(said), "{}: {reason}", bytes.escape_ascii());
    }
}

#[tokio::test]
async fn a_peer_that_never_ends_the_handshake_is_504_at_the_connect_timeout() {
    let pki = Pki::new();
    let held = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&held);
    let peer = Server::start(Arc::new(move |stream| {
        keep.lock().unwrap().push(stream);
        Box::pin(async {})
    }));
    let keys = format!("timeouts: {{ connect: 100ms }}, tls: {{ {} }}", pki.ca());
    let gateway = Gateway::start(&open(&url(&peer), &keys, ""));
    let reply = gateway.client().await.get("/x").await;
    assert_eq!(reply.outcome(), (504, "upstream_timeout".into()));
    drop(held);
}

#[tokio::test]
async fn a_pair_that_changes_is_shown_to_new_connections_and_a_bad_one_changes_nothing() {
    let pki = Pki::new();
    let first = pki.callers.issue(Purpose::Client, "gateway");
    first.write(pki.path(), "own");
    let settings = Settings { callers: Some(&pki.callers), ..Settings::default() };
    let upstream = tls_upstream::start(&pki.server(), &settings);
    let keys = format!("tls: {{ {}, {} }}", pki.ca(), pki.pair("own"));
    let gateway = Gateway::start(&open(&url(&upstream), &keys, ""));
    gateway.watch();
    assert_eq!(text(&gateway, "/x").await, format!("HTTP/2.0 /x {}", shown_of(&first)));

    // A certificate without its key: refused, said, and the one before goes on.
    let second = pki.callers.issue(Purpose::Client, "gateway");
    std::fs::write(pki.path().join("own.pem"), &second.chain).unwrap();
    gateway.metrics_when("config_reloads_total{outcome=\"failure\"} 1").await;
    assert_eq!(text(&gateway, "/x").await, format!("HTTP/2.0 /x {}", shown_of(&first)));
    said(&gateway, "does not belong to the first certificate in `cert_file`").await;

    // The key comes: both are in force, without a signal.
    std::fs::write(pki.path().join("own.key"), &second.key).unwrap();
    gateway.metrics_when("config_reloads_total{outcome=\"success\"} 1").await;
    assert_eq!(text(&gateway, "/x").await, format!("HTTP/2.0 /x {}", shown_of(&second)));

    // A file that goes away is no reason to go on without it.
    std::fs::remove_file(pki.path().join("own.key")).unwrap();
    gateway.metrics_when("config_reloads_total{outcome=\"failure\"} 2").await;
    assert_eq!(text(&gateway, "/x").await, format!("HTTP/2.0 /x {}", shown_of(&second)));

    // And one that stays the same costs nobody a connection.
    second.write(pki.path(), "own");
    gateway.metrics_when("config_reloads_total{outcome=\"success\"} 2").await;
    assert_eq!(text(&gateway, "/x").await, format!("HTTP/2.0 /x {}", shown_of(&second)));
}

#[tokio::test]
async fn the_end_of_the_certificate_is_said_as_it_comes_near() {
    let pki = Pki::new();
    // The clock of tests stands at the beginning of 2026.
    let own = pki.callers.issue_in(Purpose::Client, "gateway", (2020, 2027));
    own.write(pki.path(), "own");
    let upstream = tls_upstream::start(&pki.server(), &Settings::default());
    let keys = format!("tls: {{ {}, {} }}", pki.ca(), pki.pair("own"));
    let gateway = Gateway::start(&open(&url(&upstream), &keys, ""));
    said(&gateway, "the upstream is shown the certificate").await;
    gateway.clock().advance(Duration::from_hours(24 * 350));
    gateway.watch();
    said(&gateway, "that the upstream is shown expires in 15 days").await;
}

/// Waits until the gateway has logged `text`.
async fn said(gateway: &Gateway, text: &str) {
    let said = async {
        while !gateway.log().text().contains(text) {
            // The log tells of nothing; the interval only spares the processor.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(text, said).await;
}
