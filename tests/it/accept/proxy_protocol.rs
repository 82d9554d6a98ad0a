//! A listener behind a load balancer: `proxy_protocol: true`.

use std::net::SocketAddr;

use super::open_routes;
use super::tls::certificate;
use crate::support::client::Client;
use crate::support::gateway::Gateway;
use crate::support::raw::Raw;
use crate::support::upstream::Upstream;

const GET: &[u8] = b"GET /open/x HTTP/1.1\r\nhost: gateway\r\n\r\n";
const LINE: &str = "PROXY TCP4 203.0.113.7 10.0.0.1 51000 443\r\n";

fn started(listener: &str, server: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::start();
    let listener = format!(", proxy_protocol: true{listener}");
    let gateway = Gateway::start(&open_routes(&upstream, &listener, server));
    (upstream, gateway)
}

/// A header of version 2: `command` (0x20 LOCAL, 0x21 PROXY), family, addresses and extensions.
fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &length, block].concat()
}

fn ipv6_block() -> Vec<u8> {
    let address = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
    [&address("2001:db8::7")[..], &address("::1"), &[0xc7, 0x38, 1, 0xbb]].concat()
}

async fn behind(address: SocketAddr, header: &[u8]) -> Raw {
    let mut raw = Raw::connect(address).await;
    raw.send(header).await;
    raw
}

#[tokio::test]
async fn the_address_of_the_header_is_the_callers() {
    let (upstream, gateway) = started("", "");
    let ipv4 = [203, 0, 113, 7, 10, 0, 0, 1, 0xc7, 0x38, 1, 0xbb];
    let extensions = [0xea, 0, 2, 1, 2, 0x04, 0, 0];
    for (header, caller) in [
        (LINE.as_bytes().to_vec(), "203.0.113.7"),
        (b"PROXY TCP6 2001:db8::7 ::1 51000 443\r\n".to_vec(), "2001:db8::7"),
        (b"PROXY TCP6 ::ffff:203.0.113.7 ::1 51000 443\r\n".to_vec(), "203.0.113.7"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (b"PROXY UNKNOWN whatever it may say\r\n".to_vec(), "127.0.0.1"),
        (v2(0x21, 0x11, &ipv4), "203.0.113.7"),
        (v2(0x21, 0x11, &[&ipv4[..], &extensions].concat()), "203.0.113.7"),
        (v2(0x21, 0x21, &ipv6_block()), "2001:db8::7"),
        (v2(0x20, 0x00, &[]), "127.0.0.1"),
        (v2(0x20, 0x11, &ipv4), "127.0.0.1"),
        (v2(0x21, 0x00, &extensions), "127.0.0.1"),
        (v2(0x21, 0x31, &[b'/'; 216]), "127.0.0.1"),
    ] {
        let mut raw = behind(gateway.address(), &[&header[..], GET].concat()).await;
        // The address is the connection's: the second request has it too.
        for _ in 0..2 {
            assert_eq!(raw.reply().await.expect("an answer").status, 200);
            let seen = upstream.last();
            let name = header.escape_ascii().to_string();
            assert_eq!(seen.value("x-forwarded-for").as_deref(), Some(caller), "{name}");
            raw.send(GET).await;
        }
        raw.reply().await.expect("an answer");
    }
    let of_caller = |event: &serde_json::Map<_, _>| event["client_ip"] == "2001:db8::7";
    gateway.log().access_events_when(6, of_caller).await;
}

#[tokio::test]
async fn it_may_come_byte_by_byte_and_http2_behind_it() {
    let (upstream, gateway) = started("", "");
    for header in [LINE.as_bytes().to_vec(), v2(0x21, 0x21, &ipv6_block())] {
        let mut raw = Raw::connect(gateway.address()).await;
        for byte in header.iter().chain(GET) {
            raw.send(&[*byte]).await;
        }
        assert_eq!(raw.reply().await.expect("an answer").status, 200);
    }
    let mut client = Client::http2_behind(gateway.address(), LINE.as_bytes().to_vec()).await;
    assert_eq!(client.get("/open/x").await.status, 200);
    assert_eq!(upstream.last().value("x-forwarded-for").as_deref(), Some("203.0.113.7"));
    assert_eq!(upstream.count(), 3);
}

#[tokio::test]
async fn tls_begins_behind_it() {
    let certificate = certificate();
    let (upstream, gateway) = started(&certificate.keys(), "");
    for alpn in ["h2", "http/1.1"] {
        let header = v2(0x21, 0x21, &ipv6_block());
        let pem = &certificate.pem;
        let mut client = Client::tls_behind(gateway.address(), header, pem, Some(alpn)).await;
        assert_eq!(client.get("/open/x").await.status, 200, "{alpn}");
        let seen = upstream.last();
        assert_eq!(seen.value("x-forwarded-for").as_deref(), Some("2001:db8::7"));
        assert_eq!(seen.value("x-forwarded-proto").as_deref(), Some("https"));
    }
    // Not within it.
    let mut early =
        behind(gateway.address(), b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await;
    assert!(early.is_closed().await);
}

#[tokio::test]
async fn who_does_not_begin_with_it_is_closed() {
    let (upstream, gateway) = started("", "");
    let mut good = behind(gateway.address(), LINE.as_bytes()).await;
    for bytes in [
        GET.to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"\r\n\r\nGET /open/x HTTP/1.1\r\nhost: gateway\r\n\r\n".to_vec(),
        b"PROXY TCP4 203.0.113.7 10.0.0.1 51000\r\n".to_vec(),
        b"PROXY TCP4 203.0.113.7 10.0.0.1 51000 443\n".to_vec(),
        format!("PROXY UNKNOWN {}\r\n", "x".repeat(100)).into_bytes(),
        v2(0x21, 0x12, &[0; 12]),
        v2(0x31, 0x11, &[0; 12]),
        v2(0x21, 0x11, &[0; 11]),
        v2(0x21, 0x11, &vec![0; 60_000]),
    ] {
        let mut raw = behind(gateway.address(), &[&bytes[..], GET].concat()).await;
        assert!(raw.is_closed().await, "{}", bytes.escape_ascii());
        good.send(GET).await;
        assert_eq!(good.reply().await.expect("an answer").status, 200);
    }
    // One header, and not another one in its name.
    let twice = [LINE.as_bytes(), b"PROXY TCP4 198.51.100.1 10.0.0.1 1 1\r\n", GET].concat();
    let came = behind(gateway.address(), &twice).await.rest().await;
    assert!(came.is_empty() || came.starts_with(b"HTTP/1.1 400 "), "{}", came.escape_ascii());
    assert_eq!(upstream.count(), 10);
    // The operator is told whose load balancer it is, and why; who says nothing is passed over.
    let mut silent = behind(gateway.address(), b"").await;
    silent.finish().await;
    assert!(silent.is_closed().await);
    let of_peer = |event: &serde_json::Map<_, _>| {
        event["client_ip"] == "127.0.0.1" && event["code"] == "bad_request"
    };
    let told = gateway.log().access_events_when(10, of_peer).await;
    assert_eq!(told.len(), 10);
    for event in &told {
        let reason = event["reason"].as_str().unwrap();
        assert!(reason.contains("PROXY") && reason.contains("proxy_protocol"), "{reason}");
    }
}

#[tokio::test]
async fn it_has_the_time_of_a_head() {
    let (_upstream, gateway) = started("", "header_timeout: 200ms");
    for beginning in [&b""[..], b"PROXY TCP4 203.0.113.7", &v2(0x21, 0x11, &[0; 12])[..20]] {
        let mut slow = behind(gateway.address(), beginning).await;
        let mut other = behind(gateway.address(), &[LINE.as_bytes(), GET].concat()).await;
        assert_eq!(other.reply().await.expect("an answer").status, 200);
        assert!(slow.is_closed().await);
    }
}

#[tokio::test]
async fn trusted_proxies_are_asked_about_the_address_in_it() {
    let (upstream, gateway) = started("", "trusted_proxies: [127.0.0.0/8, 203.0.113.0/24]");
    let forwarded = b"GET /open/x HTTP/1.1\r\nhost: gateway\r\nx-forwarded-for: 192.0.2.1\r\n\r\n";
    for (header, seen_for) in [
        // A proxy that the file trusts, behind the load balancer.
        (LINE, "192.0.2.1, 203.0.113.7"),
        // A stranger behind it: that the load balancer itself is trusted counts for nothing.
        ("PROXY TCP4 198.51.100.1 10.0.0.1 51000 443\r\n", "198.51.100.1"),
    ] {
        let mut raw = behind(gateway.address(), &[header.as_bytes(), forwarded].concat()).await;
        assert_eq!(raw.reply().await.expect("an answer").status, 200);
        let value = upstream.last().value("x-forwarded-for");
        assert_eq!(value.as_deref(), Some(seen_for), "{header}");
    }
}

#[tokio::test]
async fn a_listener_without_it_takes_no_header() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&open_routes(&upstream, "", ""));
    for header in [LINE.as_bytes().to_vec(), v2(0x21, 0x21, &ipv6_block())] {
        let came = behind(gateway.address(), &[&header[..], GET].concat()).await.rest().await;
        assert!(came.is_empty() || came.starts_with(b"HTTP/1.1 400 "), "{}", came.escape_ascii());
    }
    assert_eq!(upstream.count(), 0);
}
