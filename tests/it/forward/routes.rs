//! What of the path reaches the upstream, and routes that need none.

use http::Request;

use super::{file, open, up};
use crate::support::gateway::Gateway;
use crate::support::raw::Raw;
use crate::support::upstream::Upstream;

#[tokio::test]
async fn paths_are_rewritten_as_the_route_says() {
    let upstream = Upstream::start();
    let based = format!("based: {{ url: \"{}/base/v1/\" }}", upstream.url());
    let route = |path: &str, to: &str, rewrite: &str| {
        format!("{{ match: {{ path: \"{path}\" }}, auth: none, upstream: {to}, {rewrite} }}")
    };
    let routes = [
        route("/plain/{*rest}", "up", ""),
        route("/based/{*rest}", "based", "rewrite: { strip_prefix: /based }"),
        route("/strip/{*rest}", "up", "rewrite: { strip_prefix: /strip }"),
        route("/users/{id}/{*rest}", "up", "rewrite: { path: \"/v1.0/{rest}/of/{id}\" }"),
        route("/fixed", "based", "rewrite: { path: /there }"),
        route(
            "/slashes/{*rest}",
            "up",
            "encoded_slashes: keep, rewrite: { strip_prefix: /slashes }",
        ),
    ];
    let yaml =
        file("", &[&up(&upstream.url(), ""), &based], &routes.each_ref().map(String::as_str));
    let gateway = Gateway::start(&yaml);
    let mut raw = Raw::connect(gateway.address()).await;
    for (came, went) in [
        ("/plain/a/b?c=d", "/plain/a/b?c=d"),
        ("/plain", "/plain"),
        ("/plain/", "/plain/"),
        ("/plain/a?", "/plain/a?"),
        ("/plain/a??b?c", "/plain/a??b?c"),
        ("/plain/a?%2F../%zz&=&&x=%00", "/plain/a?%2F../%zz&=&&x=%00"),
        // Unreserved characters are decoded, dots resolved, empty segments merged; the rest stays.
        ("/plain/%7Eme/%41", "/plain/~me/A"),
        ("/plain/x/../y//z/./w", "/plain/y/z/w"),
        ("/plain/%C3%A9%20%25%3B;a=b", "/plain/%C3%A9%20%25%3B;a=b"),
        ("/plain/a:b@c!$&'()*+,=", "/plain/a:b@c!$&'()*+,="),
        ("/plain/%c3%a9", "/plain/%c3%a9"),
        ("/based/x?y", "/base/v1/x?y"),
        ("/based", "/base/v1/"),
        ("/based/", "/base/v1/"),
        ("/strip/a/b/", "/a/b/"),
        ("/strip", "/"),
        ("/strip?x", "/?x"),
        ("/users/7/mail/in?$top=1", "/v1.0/mail/in/of/7?$top=1"),
        ("/users/a%20b/x%25y", "/v1.0/x%25y/of/a%20b"),
        ("/fixed?q", "/base/v1/there?q"),
        ("/slashes/a%2Fb%5Cc%2f", "/a%2Fb%5Cc%2f"),
    ] {
        raw.send(format!("GET {came} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await;
        assert_eq!(raw.reply().await.unwrap().status, 200, "{came}");
        assert_eq!(upstream.last().target, went, "{came}");
    }
}

#[tokio::test]
async fn methods_pass_as_they_are() {
    let upstream = Upstream::start();
    for protocol in ["http1", "http2"] {
        let gateway = Gateway::start(&open(&upstream.url(), &format!("protocol: {protocol}"), ""));
        for mut client in [gateway.client().await, gateway.client_http2().await] {
            for method in ["GET", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "get"] {
                let request = Request::builder().method(method).uri("/x");
                assert_eq!(client.send(request, "").await.status, 200);
                assert_eq!(upstream.last().method, method, "{protocol}");
            }
        }
    }
}

#[tokio::test]
async fn a_route_may_answer_by_itself() {
    let upstream = Upstream::start();
    let yaml = file(
        "",
        &[&up(&upstream.url(), "")],
        &[
            "{ name: robots, match: { path: /robots.txt }, auth: none, respond: { status: 200, headers: { content-type: text/plain, cache-control: max-age=60 }, body: \"no: ${NAME:-one}\\n\" } }",
            "{ name: gone, match: { path: \"/gone/{*rest}\" }, auth: none, respond: { status: 410 } }",
            "{ name: empty, match: { path: /empty }, auth: none, respond: { status: 204 } }",
            "{ name: secret, match: { path: /x }, auth: none, upstream: up }",
        ],
    );
    let gateway = Gateway::start(&yaml);
    for mut client in [gateway.client().await, gateway.client_http2().await] {
        client.meets_configured_answers();
        let reply = client.send(Request::post("/robots.txt"), "ignored").await;
        assert_eq!((reply.status.as_u16(), &reply.body[..]), (200, &b"no: one\n"[..]));
        assert_eq!(reply.header("content-type"), Some("text/plain"));
        assert_eq!(reply.header("cache-control"), Some("max-age=60"));
        let reply = client.send(Request::head("/robots.txt"), "").await;
        assert_eq!((reply.header("content-length"), reply.body.len()), (Some("8"), 0));
        assert_eq!(client.get("/gone/x").await.status, 410);
        assert_eq!(client.get("/empty").await.status, 204);
    }
    assert_eq!(upstream.count(), 0);
    let event = super::event(&gateway, "/robots.txt").await;
    assert_eq!((&event["route"], &event["upstream"]), (&"robots".into(), &serde_json::Value::Null));
    assert_eq!((&event["status"], &event["bytes_out"]), (&200.into(), &8.into()));
}

#[tokio::test]
async fn a_route_may_redirect() {
    let redirect = |path: &str, to: &str, more: &str| {
        format!(
            "{{ match: {{ path: \"{path}\" }}, auth: none, redirect: {{ to: \"{to}\", {more} }} }}"
        )
    };
    let routes = [
        redirect("/old/{*rest}", "/new/{rest}", ""),
        redirect("/away/{id}", "https://example.com/by/{id}", "status: 302"),
        redirect("/query/{*rest}", "https://example.com/{rest}?own=1", "status: 307"),
        redirect("/here", "/there", "status: 303"),
    ];
    let gateway = Gateway::start(
        &file("", &[], &routes.each_ref().map(String::as_str)).replace("upstreams:\n", ""),
    );
    let mut raw = Raw::connect(gateway.address()).await;
    for (came, status, location) in [
        ("/old/a/b?c=d&e", 308, "/new/a/b?c=d&e"),
        ("/old", 308, "/new/"),
        ("/away/7?x=%20", 302, "https://example.com/by/7?x=%20"),
        ("/away/a%20b", 302, "https://example.com/by/a%20b"),
        ("/query/a?theirs=1", 307, "https://example.com/a?own=1"),
        ("/here", 303, "/there"),
        // A path can't become another host.
        ("/old//evil.example/x", 308, "/new/evil.example/x"),
    ] {
        raw.send(format!("GET {came} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await;
        let reply = raw.reply().await.unwrap();
        assert_eq!((reply.status, reply.header("location")), (status, Some(location)), "{came}");
    }
}
