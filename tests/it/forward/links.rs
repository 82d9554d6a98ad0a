//! `rewrite_links`, between real sockets: links of heads and bodies, in pieces, and back again when
//! they are called; and what hostile upstreams and callers make of it. Compressed ones are in
//! `coded.rs`.

mod coded;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};

use super::{all, file, up};
use crate::support::client::{Client, Reply};
use crate::support::gateway::Gateway;
use crate::support::raw::Raw;
use crate::support::upstream::{Answer, Upstream};

const JSON: &str = "application/json; charset=utf-8";

/// A gateway in front of `url`, at `/g/{*rest}` and below `/v1.0` at `/t/{tenant}/{*rest}`.
fn linked(url: &str, server: &str) -> Gateway {
    let strip = "{ name: strip, match: { path: \"/g/{*rest}\" }, auth: none, upstream: up, \
                 rewrite: { strip_prefix: /g } }";
    let template = "{ name: template, match: { path: \"/t/{tenant}/{*rest}\" }, auth: none, \
                    upstream: up, rewrite: { path: \"/v1.0/{rest}\" } }";
    Gateway::start(&file(server, &[&up(url, "rewrite_links: true")], &[strip, template]))
}

async fn get(client: &mut Client, target: &str, fields: &[(&str, &str)]) -> Reply {
    let mut request = Request::get(target).header("host", "gw.example:8080");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    client.send(request, "").await
}

#[tokio::test]
async fn links_of_a_head_lead_to_the_gateway_and_back() {
    let upstream = Upstream::start();
    let url = upstream.url();
    let gateway = linked(&url, "");
    for name in ["location", "content-location", "azure-asyncoperation", "operation-location"] {
        for (target, link, expected) in [
            (
                "/g/a",
                format!("{url}/v1.0/x?a=%2F&b#f"),
                "http://gw.example:8080/g/v1.0/x?a=%2F&b#f",
            ),
            ("/g/a", format!("{url}/"), "http://gw.example:8080/g/"),
            ("/t/acme/a", format!("{url}/v1.0/x/"), "http://gw.example:8080/t/acme/x/"),
            // The template makes no such path; the other route leads there.
            ("/t/acme/a", format!("{url}/beta/x"), "http://gw.example:8080/g/beta/x"),
            ("/g/a", "/v1.0/x".to_owned(), "/v1.0/x"),
            ("/g/a", "https://elsewhere.example/x".to_owned(), "https://elsewhere.example/x"),
        ] {
            let sent = link.clone();
            upstream.answer(move |_| Answer::status(202).header(name, &sent));
            let mut client = gateway.client().await;
            let reply = get(&mut client, target, &[]).await;
            assert_eq!(reply.header(name), Some(expected), "{name}: {link}");
            if let Some(called) = expected.strip_prefix("http://gw.example:8080") {
                let called = called.split('#').next().unwrap();
                get(&mut client, called, &[]).await;
                let asked = link.strip_prefix(&url).unwrap().split('#').next().unwrap();
                assert_eq!(upstream.last().target, asked);
            }
        }
    }
}

#[tokio::test]
async fn without_the_key_nothing_changes() {
    let upstream = Upstream::start();
    let url = upstream.url();
    let body = format!("{{\"nextLink\":\"{url}/a\"}}");
    let sent = body.clone();
    upstream.answer(move |seen| {
        let answer = Answer::ok(sent.clone()).header("content-type", JSON).header("etag", "\"1\"");
        answer.header("location", &format!("{}/a", seen.value("x-url").unwrap()))
    });
    let gateway = Gateway::start(&file("", &[&up(&url, "")], &[&all("")]));
    let mut client = gateway.client().await;
    let reply = get(&mut client, "/a", &[("x-url", &url), ("accept-encoding", "zstd")]).await;
    assert_eq!(reply.body, body);
    assert_eq!(reply.header("content-length"), Some(&*body.len().to_string()));
    assert_eq!(reply.header("location"), Some(&*format!("{url}/a")));
    assert_eq!(reply.header("etag"), Some("\"1\""));
    assert_eq!(upstream.last().value("accept-encoding").as_deref(), Some("zstd"));
}

/// What the upstream sends and the caller gets for it.
fn page(url: &str, base: &str) -> (String, String) {
    let escaped = |text: &str| text.replace('/', "\\/");
    let page = |link: &str, escaped: &str| {
        format!(
            "\u{feff}{{ \"@odata.context\":\"{url}/v1.0/$metadata#users\", \"value\" : [1.0E+2,\
             {{\"nextLink\":null}},[\"nextLink\",\"{url}/a\"]],\"nextLink\":\"{link}/a?x=1\\u0026y\",\
             \r\n\t\"@odata.nextLink\" :\"{escaped}\\/b\",\"@odata.deltaLink\":\"{link}/c\",\
             \"uploadUrl\":\"{url}/d\",\"nextLink\":\"/relative\",\"é\":\"\\ud83d\\ude00\"}} "
        )
    };
    let sent = page(url, &escaped(url));
    (sent, page(&format!("{base}/g"), &escaped(&format!("{base}/g"))))
}

#[tokio::test]
async fn links_of_a_body_are_replaced_however_it_is_cut() {
    let upstream = Upstream::start();
    let gateway = linked(&upstream.url(), "");
    let (sent, expected) = page(&upstream.url(), "http://gw.example:8080");
    // The client of HTTP/2 names the address that it is connected to.
    let (_, expected_2) = page(&upstream.url(), &format!("http://{}", gateway.address()));
    for content_type in [JSON, "Application/JSON", "application/vnd.api+json;odata=x"] {
        let body = sent.clone();
        upstream.answer(move |_| Answer::ok(body.clone()).header("content-type", content_type));
        let mut client = gateway.client().await;
        assert_eq!(get(&mut client, "/g/x", &[]).await.body, expected, "{content_type}");
        let mut client = gateway.client_http2().await;
        assert_eq!(client.get("/g/x").await.body, expected_2, "{content_type}");
    }
    for content_type in ["text/html", "application/jsonp", "text/json", "application/json-seq"] {
        let body = sent.clone();
        upstream.answer(move |_| Answer::ok(body.clone()).header("content-type", content_type));
        let mut client = gateway.client().await;
        let reply = get(&mut client, "/g/x", &[]).await;
        assert_eq!(reply.body, sent, "{content_type}");
        assert!(reply.header("content-length").is_some());
    }
    for size in [1, 7, 100] {
        let (answer, down) = Answer::stream();
        let mut answer = Some(answer.header("content-type", JSON));
        upstream.answer(move |_| answer.take().unwrap());
        let pieces: Vec<Bytes> = sent.as_bytes().chunks(size).map(Bytes::copy_from_slice).collect();
        let sending = async move {
            for piece in pieces {
                down.send(Ok(piece)).await.unwrap();
            }
        };
        let mut client = gateway.client().await;
        let (reply, ()) = tokio::join!(get(&mut client, "/g/x", &[]), sending);
        assert_eq!(reply.body, expected, "pieces of {size}");
    }
}

#[tokio::test]
async fn the_head_says_what_holds_either_way() {
    let upstream = Upstream::start();
    let url = upstream.url();
    let gateway = linked(&url, "");
    let headers = [
        ("etag", "\"v1\""),
        ("content-md5", "x"),
        ("digest", "x"),
        ("repr-digest", "x"),
        ("content-digest", "x"),
        ("accept-ranges", "bytes"),
        ("cache-control", "max-age=1"),
    ];
    let answer = move |status: u16, body: &'static str, content_type: &str, encoding: &str| {
        let mut answer = Answer { status: status.try_into().unwrap(), ..Answer::ok(body) };
        for (name, value) in headers {
            answer = answer.header(name, value);
        }
        if !encoding.is_empty() {
            answer = answer.header("content-encoding", encoding);
        }
        answer.header("content-type", content_type)
    };
    let kept: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    for (method, status, content_type, encoding, read) in [
        ("GET", 200, JSON, "", true),
        ("GET", 200, JSON, "identity", true),
        ("GET", 404, JSON, "", true),
        ("HEAD", 200, JSON, "", true),
        ("HEAD", 200, JSON, "gzip", true),
        ("GET", 206, JSON, "", false),
        ("GET", 200, JSON, "zstd", false),
        ("GET", 200, JSON, "gzip, br", false),
        ("GET", 200, "text/plain", "", false),
        ("HEAD", 200, "text/plain", "", false),
    ] {
        let content_type = content_type.to_owned();
        upstream.answer(move |_| answer(status, "{\"a\":1}", &content_type, encoding));
        let mut client = gateway.client().await;
        let request = Request::builder().method(method).uri("/g/x").header("host", "gw.example");
        let reply = client.send(request, "").await;
        let case = format!("{method} {status} {encoding}");
        if method == "GET" {
            assert_eq!(reply.body, "{\"a\":1}", "{case}");
        }
        let has: Vec<&str> =
            kept.iter().copied().filter(|name| reply.header(name).is_some()).collect();
        if read {
            assert_eq!(has, ["etag", "cache-control"], "{case}");
            assert_eq!(reply.header("etag"), Some("W/\"v1;links\""), "{case}");
            assert_eq!(reply.header("content-length"), None, "{case}");
        } else {
            assert_eq!(has, kept, "{case}");
            assert_eq!(reply.header("etag"), Some("\"v1\""), "{case}");
            assert!(reply.header("content-length").is_some(), "{case}");
        }
    }
}

#[tokio::test]
async fn the_upstream_gets_its_own_entity_tags_back() {
    let upstream = Upstream::start();
    let gateway = linked(&upstream.url(), "");
    let mut client = gateway.client().await;
    for (name, sent, came) in [
        ("if-match", "W/\"v1;links\"", "\"v1\""),
        ("if-match", "W/\"v1\"", "W/\"v1\""),
        ("if-match", "*", "*"),
        ("if-none-match", "\"a\", W/\"b;links\",W/\"c\"", "\"a\", \"b\",W/\"c\""),
        ("if-none-match", "W/\"b;links", "W/\"b;links"),
        ("if-range", "W/\"v1;links\"", "W/\"v1;links\""),
    ] {
        upstream.answer(|_| Answer::status(304).header("etag", "\"b\""));
        let reply = get(&mut client, "/g/x", &[(name, sent)]).await;
        assert_eq!(upstream.last().value(name).as_deref(), Some(came), "{sent}");
        let marked = sent.contains(";links\"") && name != "if-range";
        let tag = if marked { "W/\"b;links\"" } else { "\"b\"" };
        assert_eq!(reply.header("etag"), Some(tag), "{sent}");
    }
}

#[tokio::test]
async fn trailers_pass_but_for_digests() {
    let upstream = Upstream::start();
    let gateway = linked(&upstream.url(), "");
    let (sent, expected) = page(&upstream.url(), &format!("http://{}", gateway.address()));
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("1"));
    trailers.insert("repr-digest", HeaderValue::from_static("x"));
    upstream.answer(move |_| {
        let answer = Answer::ok(sent.clone()).header("content-type", JSON);
        Answer { trailers: Some(trailers.clone()), ..answer }
    });
    let mut client = gateway.client_http2().await;
    let reply = client.send(Request::get("/g/x").header("te", "trailers"), "").await;
    assert_eq!(reply.body, expected);
    let trailers = reply.trailers.unwrap();
    assert_eq!((trailers.len(), trailers["x-sum"].as_bytes()), (1, &b"1"[..]));
}

#[tokio::test]
async fn where_links_lead() {
    let upstream = Upstream::start();
    let url = upstream.url();
    let link = format!("{url}/a");
    upstream.answer(move |_| Answer::status(202).header("location", &link));
    let untouched = format!("{url}/a");
    let trusting = "trusted_proxies: [127.0.0.0/8]";
    let public = "public_url: \"https://api.example.com/gw\"";
    for (server, fields, expected) in [
        ("", &[("host", "GW.example")][..], "http://GW.example/g/a"),
        ("", &[("host", "[::1]:80")], "http://[::1]:80/g/a"),
        (
            "",
            &[("host", "a"), ("x-forwarded-host", "evil"), ("x-forwarded-proto", "https")],
            "http://a/g/a",
        ),
        (
            trusting,
            &[("host", "a"), ("x-forwarded-host", "b:1, c"), ("x-forwarded-proto", "HTTPS")],
            "https://b:1/g/a",
        ),
        (trusting, &[("host", "a"), ("x-forwarded-host", "b\"/c")], &untouched),
        (trusting, &[("host", "a"), ("x-forwarded-proto", "javascript")], &untouched),
        (public, &[("host", "evil.example")], "https://api.example.com/gw/g/a"),
    ] {
        let gateway = linked(&url, server);
        let mut client = gateway.client().await;
        let mut request = Request::get("/g/x");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let reply = client.send(request, "").await;
        assert_eq!(reply.header("location"), Some(expected), "{server} {fields:?}");
    }
    // A route of another host than the public one: its own.
    let route = "{ name: r, match: { path: \"/g/{*rest}\", hosts: [own.example] }, auth: none, \
                 upstream: up, rewrite: { strip_prefix: /g } }";
    let text = file(public, &[&up(&url, "rewrite_links: true")], &[route]);
    let gateway = Gateway::start(&text);
    let mut client = gateway.client().await;
    let reply = client.send(Request::get("/g/x").header("host", "own.example"), "").await;
    assert_eq!(reply.header("location"), Some("https://own.example/g/a"));
}

#[tokio::test]
async fn a_link_that_no_route_leads_to_is_left_alone() {
    let upstream = Upstream::start();
    let url = upstream.url();
    let routes = [
        "{ name: g, match: { path: \"/g/{*rest}\", methods: [GET] }, auth: none, upstream: up, \
         rewrite: { strip_prefix: /g } }",
        // A stricter route in the same place.
        "{ name: own, match: { path: /g/own }, auth: none, respond: { status: 204 } }",
        "{ name: q, match: { path: /g/q, query: { v: \"1\" } }, auth: none, respond: { status: 204 } }",
    ];
    let based = format!("{url}/base");
    let text = file("", &[&up(&based, "rewrite_links: true")], &routes);
    let gateway = Gateway::start(&text);
    let mut client = gateway.client().await;
    let authority = url.strip_prefix("http://").unwrap();
    for (link, expected) in [
        (format!("{url}/base/a"), Some("/g/a")),
        (format!("HTTP://{authority}/base/"), Some("/g/")),
        (format!("{url}/base/q?v=2"), Some("/g/q?v=2")),
        (format!("{url}/base/%C3%A9%20'(x)'?$skip=%2f"), Some("/g/%C3%A9%20'(x)'?$skip=%2f")),
        (format!("{url}/base/q?v=1"), None),
        (format!("{url}/base/own"), None),
        (format!("{url}/base"), None),
        (format!("{url}/"), None),
        (format!("{url}/based/a"), None),
        (format!("{url}/base/../a"), None),
        (format!("{url}/base/%2e%2e/a"), None),
        (format!("{url}/base//a"), None),
        (format!("{url}/base/a%2Fb"), None),
        (format!("{url}/base/%61"), None),
        (format!("{url}/base/a\\b"), None),
        (format!("https://{authority}/base/a"), None),
        (format!("http://user@{authority}/base/a"), None),
        (format!("{url}@evil.example/base/a"), None),
        (format!("{url}.evil.example/base/a"), None),
        (format!("{url}1/base/a"), None),
        (format!("http:\\\\{authority}\\base\\a"), None),
        (format!("//{authority}/base/a"), None),
        ("http://127.0.0.1/base/a".to_owned(), None),
    ] {
        let sent = link.clone();
        upstream.answer(move |_| Answer::status(201).header("location", &sent));
        let reply = get(&mut client, "/g/x", &[]).await;
        let expected = expected.map(|path| format!("http://gw.example:8080{path}"));
        assert_eq!(reply.header("location"), Some(expected.as_deref().unwrap_or(&link)));
    }
}

#[tokio::test]
async fn hostile_hosts_get_no_links() {
    let upstream = Upstream::start();
    let link = format!("{}/a", upstream.url());
    upstream.answer(move |_| Answer::status(202).header("location", &link));
    let gateway = linked(&upstream.url(), "");
    for host in ["a\"b", "a/b", "a@b", "a b", "a\\b", "", "a%22b", "a'b", "a<b"] {
        let mut raw = Raw::connect(gateway.address()).await;
        raw.send(format!("GET /g/x HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).await;
        let reply = raw.reply().await.unwrap();
        let location = reply.header("location");
        assert!(
            reply.status == 400 || location == Some(&*format!("{}/a", upstream.url())),
            "{host}"
        );
    }
}
