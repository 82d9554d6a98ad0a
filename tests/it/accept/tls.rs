//! A listener with TLS, with a certificate from files.

use std::time::Duration;

use http::Version;

use super::open_routes;
use crate::support::client::Client;
use crate::support::gateway::Gateway;
use crate::support::raw::Raw;
use crate::support::upstream::Upstream;

pub struct Certificate {
    files: tempfile::TempDir,
    pub pem: String,
}

impl Certificate {
    /// Makes a new one, in the same files.
    fn renew(&mut self) {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let file = |name: &str| self.files.path().join(name);
        std::fs::write(file("tls.crt"), made.cert.pem()).unwrap();
        std::fs::write(file("tls.key"), made.signing_key.serialize_pem()).unwrap();
        self.pem = made.cert.pem();
    }

    /// What stands behind the address of a listener.
    pub fn keys(&self) -> String {
        let path = self.files.path().display();
        format!(", tls: {{ cert_file: \"{path}/tls.crt\", key_file: \"{path}/tls.key\" }}")
    }
}

pub fn certificate() -> Certificate {
    let mut made = Certificate { files: tempfile::tempdir().unwrap(), pem: String::new() };
    made.renew();
    made
}

fn started(certificate: &Certificate, server: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&open_routes(&upstream, &certificate.keys(), server));
    (upstream, gateway)
}

#[tokio::test]
async fn a_certificate_is_renewed_also_where_other_listeners_come() {
    let mut certificate = certificate();
    let (upstream, gateway) = started(&certificate, "");
    let file = open_routes(&upstream, &certificate.keys(), "");
    let more = file.replacen("listeners: [", "listeners: [{ address: \"127.0.0.2:0\" }, ", 1);
    assert_ne!(file, more);
    for file in [&file, &more] {
        certificate.renew();
        gateway.write_file(file);
        gateway.reload();
        // It trusts just that certificate.
        let mut client = Client::tls(gateway.address(), &certificate.pem, None).await;
        assert_eq!(client.get("/open/x").await.status, 200);
    }
}

#[tokio::test]
async fn alpn_decides_which_http_is_spoken_and_the_upstream_hears_of_https() {
    let certificate = certificate();
    let (upstream, gateway) = started(&certificate, "");
    for (alpn, version) in [
        (Some("h2"), Version::HTTP_2),
        (Some("http/1.1"), Version::HTTP_11),
        (None, Version::HTTP_11),
    ] {
        let mut client = Client::tls(gateway.address(), &certificate.pem, alpn).await;
        let reply = client.get("/open/x").await;
        assert_eq!((reply.status.as_u16(), reply.version), (200, version), "{alpn:?}");
        let seen = upstream.last();
        assert_eq!(seen.value("x-forwarded-proto").as_deref(), Some("https"), "{alpn:?}");
        assert!(seen.value("forwarded").unwrap().contains("proto=https"), "{alpn:?}");
    }
    assert!(gateway.metrics().await.contains("obo_gateway_tls_certificate_expiry"));
}

#[tokio::test]
async fn what_is_no_tls_is_closed_and_served_by_nobody() {
    let certificate = certificate();
    let (upstream, gateway) = started(&certificate, "");
    let mut clear = Raw::connect(gateway.address()).await;
    clear.send(b"GET /open/x HTTP/1.1\r\nhost: gateway\r\n\r\n").await;
    // At most a TLS alert.
    let came = clear.rest().await;
    assert!(came.len() < 16 && !came.starts_with(b"HTTP"), "{}", came.escape_ascii());
    assert_eq!(upstream.count(), 0);
    let mut client = Client::tls(gateway.address(), &certificate.pem, Some("h2")).await;
    assert_eq!(client.get("/open/x").await.status, 200);
}

#[tokio::test]
async fn a_handshake_has_the_time_of_a_head() {
    let certificate = certificate();
    let (_upstream, gateway) = started(&certificate, "header_timeout: 200ms");
    let begun = std::time::Instant::now();
    let mut silent = Raw::connect(gateway.address()).await;
    assert!(silent.is_closed().await);
    assert!(begun.elapsed() >= Duration::from_millis(190), "{:?}", begun.elapsed());
}
