//! Header fields: what stops at the gateway, what it sets, what passes, in both directions.

use http::Request;
use serde_json::json;

use super::{all, entra, file, open, up};
use crate::support::gateway::Gateway;
use crate::support::provider::{Endpoint, Provider};
use crate::support::raw::Raw;
use crate::support::raw_upstream::{RawUpstream, Then};
use crate::support::seen::Seen;
use crate::support::token::{Token, bearer};
use crate::support::upstream::{Answer, Upstream};

async fn seen_with(gateway: &Gateway, upstream: &Upstream, fields: &[(&str, &str)]) -> Seen {
    let mut request = Request::get("/x");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    assert_eq!(gateway.client().await.send(request, "").await.status, 200);
    upstream.last()
}

#[tokio::test]
async fn what_belongs_to_the_callers_hop_stops_here() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&open(&upstream.url(), "", ""));
    // hyper's client would not send some of these.
    let mut raw = Raw::connect(gateway.address()).await;
    raw.send(
        b"GET /x HTTP/1.1\r\nhost: api.example.com\r\n\
          connection: keep-alive, X-Drop, te, x-request-id, x-forwarded-for, host\r\n\
          connection: x-also , ,\r\nx-drop: 1\r\nx-also: 1\r\nx-keep: 1\r\nkeep-alive: timeout=5\r\n\
          proxy-connection: keep-alive\r\nproxy-authorization: Basic eDp5\r\n\
          proxy-authenticate: Basic\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\
          te: gzip, trailers;q=0.5\r\nx_user_id: root\r\nx-user_id: root\r\n\r\n",
    )
    .await;
    assert_eq!(raw.reply().await.unwrap().status, 200);
    let seen = upstream.last();
    let names: Vec<&str> = seen.headers.iter().map(|(name, _)| name.as_str()).collect();
    for gone in ["x-drop", "x-also", "x_user_id", "x-user_id", "upgrade", "connection"] {
        assert!(!names.contains(&gone), "{gone} in {names:?}");
    }
    assert_eq!(seen.value("x-keep").as_deref(), Some("1"));
    // Naming them in `Connection` takes away neither what frames the message nor what we set.
    assert_eq!(seen.value("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert_eq!(seen.values("x-request-id").len(), 1);
    assert_eq!(seen.authority, upstream.authority());
    assert_eq!(seen.value("te").as_deref(), Some("trailers"));
}

#[tokio::test]
async fn what_belongs_to_the_upstreams_hop_stops_here() {
    let upstream = RawUpstream::start();
    let gateway = Gateway::start(&open(&upstream.url(), "", ""));
    upstream.answer(
        "HTTP/1.1 200 OK\r\nconnection: X-Drop, keep-alive\r\nx-drop: 1\r\nkeep-alive: timeout=5\r\n\
         proxy-authenticate: Basic\r\nproxy-connection: close\r\nupgrade: h2c\r\nte: trailers\r\n\
         x-request-id: theirs\r\nx-request-id: theirs-too\r\nx-keep: 1\r\nset-cookie: a=1\r\n\
         set-cookie: b=2\r\nx_under: 1\r\ncontent-length: 2\r\n\r\nok",
        Then::KeepOpen,
    );
    let mut raw = Raw::connect(gateway.address()).await;
    raw.send(b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let reply = raw.reply().await.unwrap();
    let names: Vec<&str> = reply.headers.iter().map(|(name, _)| name.as_str()).collect();
    for gone in [
        "x-drop",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "upgrade",
        "te",
        "connection",
    ] {
        assert!(!names.contains(&gone), "{gone} in {names:?}");
    }
    assert_eq!((reply.status, reply.header("x-keep")), (200, Some("1")));
    assert_eq!(reply.header("x_under"), Some("1"), "only requests are read by CGI");
    let cookies = reply.headers.iter().filter(|(name, _)| name == "set-cookie");
    assert_eq!(cookies.map(|(_, value)| value.as_str()).collect::<Vec<_>>(), ["a=1", "b=2"]);
    let sent = String::from_utf8(upstream.heads().remove(0)).unwrap();
    let id = sent.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap();
    assert_eq!(reply.header("x-request-id"), Some(id), "one id on both sides");
}

#[tokio::test]
async fn forwarded_fields_are_set_anew() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&open(&upstream.url(), "", ""));
    let seen = seen_with(
        &gateway,
        &upstream,
        &[
            ("host", "api.example.com:8443"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil"),
            ("x-forwarded-user", "root"),
            ("x-forwarded-client-cert", "root"),
            ("forwarded", "for=6.6.6.6"),
            ("x-request-id", "theirs"),
        ],
    )
    .await;
    let forwarded: Vec<(String, String)> = seen
        .headers
        .iter()
        .filter(|(name, _)| name.contains("forwarded"))
        .map(|(name, value)| (name.clone(), String::from_utf8(value.clone()).unwrap()))
        .collect();
    for (name, value) in [
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "api.example.com:8443"),
        ("forwarded", "for=127.0.0.1;proto=http;host=\"api.example.com:8443\""),
    ] {
        assert!(forwarded.contains(&(name.into(), value.into())), "{name} in {forwarded:?}");
    }
    assert_eq!(forwarded.len(), 4, "{forwarded:?}");
    assert_ne!(seen.value("x-request-id").unwrap(), "theirs");
}

#[tokio::test]
async fn a_trusted_proxy_is_believed() {
    let upstream = Upstream::start();
    let yaml = file("trusted_proxies: [\"127.0.0.0/8\"]", &[&up(&upstream.url(), "")], &[&all("")]);
    let gateway = Gateway::start(&yaml);
    let fields = [
        ("host", "inner"),
        ("x-forwarded-for", "6.6.6.6, 10.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "api.example.com"),
        ("x-forwarded-user", "root"),
        ("forwarded", "for=6.6.6.6"),
        ("x-request-id", "from-the-proxy-1"),
    ];
    let seen = seen_with(&gateway, &upstream, &fields).await;
    for (name, value) in [
        ("x-forwarded-for", "6.6.6.6, 10.0.0.1, 127.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "api.example.com"),
        ("forwarded", "for=6.6.6.6, for=127.0.0.1;proto=http;host=\"inner\""),
        ("x-request-id", "from-the-proxy-1"),
    ] {
        assert_eq!(seen.value(name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(seen.value("x-forwarded-user"), None);
    let event = super::event(&gateway, "/x").await;
    assert_eq!(event["client_ip"], "10.0.0.1", "the first that no trusted proxy is");
    assert_eq!(event["request_id"], "from-the-proxy-1");

    // Neither is an id that would not stand in a log.
    let seen = seen_with(&gateway, &upstream, &[("x-request-id", "a b")]).await;
    assert_ne!(seen.value("x-request-id").as_deref(), Some("a b"));
}

#[tokio::test]
async fn claims_become_fields_and_nobody_else_sets_them() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let claims = "forward_claims: { oid: x-user-id, name: x-user-name, groups: x-groups, \
                  missing: x-missing, \"deep.claim\": x-deep, flag: x-flag }";
    let route = format!("{{ match: {{ path: /t }}, auth: any, upstream: up, {claims} }}");
    let yaml = entra(&provider) + &file("", &[&up(&upstream.url(), "")], &[&route]);
    let gateway = Gateway::start(&yaml);
    gateway.ready().await;
    let token = Token::entra_v2(&provider.entra_issuer())
        .claim("name", "Zoë, 100%\r\nx-admin: 1")
        .claim("groups", json!(["a,b", "c d"]))
        .claim("deep", json!({ "claim": 7 }))
        .claim("flag", true)
        .build();
    let forged = |path: &str| {
        Request::get(path)
            .header("x-user-id", "root")
            .header("X-Missing", "root")
            .header("x-deep", "1")
            .header("x-deep", "2")
    };
    for mut client in [gateway.client().await, gateway.client_http2().await] {
        client.send(forged("/t").header("authorization", bearer(&token)), "").await;
        let seen = upstream.last();
        for (name, value) in [
            ("x-user-id", Some(crate::support::token::ALICE)),
            ("x-user-name", Some("Zo%C3%AB%2C%20100%25%0D%0Ax-admin:%201")),
            ("x-groups", Some("a%2Cb,c%20d")),
            ("x-deep", Some("7")),
            ("x-flag", Some("true")),
            ("x-missing", None),
        ] {
            assert_eq!(seen.value(name).as_deref(), value, "{name}");
            assert!(seen.values(name).len() <= 1, "{name}");
        }
    }
}

#[tokio::test]
async fn routes_change_fields_in_both_directions() {
    let upstream = Upstream::start();
    upstream.answer(|_| {
        Answer::ok("ok")
            .header("server", "secret/1.0")
            .header("x-set", "theirs")
            .header("vary", "a")
    });
    let keys = "request_headers: { set: { x-set: ours }, add: { x-add: more }, remove: [x-gone] }, \
                response_headers: { set: { x-set: ours }, add: { vary: b }, remove: [server] }";
    let gateway = Gateway::start(&open(&upstream.url(), "", keys));
    let request = Request::get("/x")
        .header("x-set", "1")
        .header("x-set", "2")
        .header("x-add", "1")
        .header("x-gone", "1");
    let reply = gateway.client().await.send(request, "").await;
    let seen = upstream.last();
    assert_eq!(seen.values("x-set"), ["ours"]);
    assert_eq!(seen.values("x-add"), ["1", "more"]);
    assert_eq!(seen.values("x-gone"), [""; 0]);
    assert_eq!((reply.header("x-set"), reply.header("server")), (Some("ours"), None));
    let vary: Vec<_> = reply.headers.get_all("vary").iter().collect();
    assert_eq!(vary, ["a", "b"]);
}

#[tokio::test]
async fn the_callers_authorization_goes_on_only_with_passthrough() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let url = upstream.url();
    let names = ["none", "header", "own"];
    let mut upstreams = vec![
        format!("none: {{ url: \"{url}\" }}"),
        format!(
            "header: {{ url: \"{url}\", token: {{ header: {{ name: x-api-key, value: \"${{CLIENT_SECRET}}\" }} }} }}"
        ),
        format!(
            "own: {{ url: \"{url}\", token: {{ header: {{ name: authorization, value: Basic own }} }} }}"
        ),
    ];
    // A secret of the gateway goes to an upstream here, which the recording one would call a leak.
    upstreams[1] = upstreams[1].replace("${CLIENT_SECRET}", "${KEY:-key-1}");
    let mut routes: Vec<String> = names
        .iter()
        .flat_map(|name| {
            ["none", "any"].map(|auth| {
                format!("{{ match: {{ path: /{auth}/{name} }}, auth: {auth}, upstream: {name} }}")
            })
        })
        .collect();
    let through = Upstream::start();
    through.allow_passthrough();
    upstreams
        .push(format!("through: {{ url: \"{}\", token: {{ passthrough: true }} }}", through.url()));
    for auth in ["none", "any"] {
        routes.push(format!(
            "{{ match: {{ path: /{auth}/through }}, auth: {auth}, upstream: through }}"
        ));
    }
    let list = |of: &[String]| of.iter().map(String::as_str).map(str::to_owned).collect::<Vec<_>>();
    let (upstreams, routes) = (list(&upstreams), list(&routes));
    let yaml = entra(&provider)
        + &file(
            "",
            &upstreams.iter().map(String::as_str).collect::<Vec<_>>(),
            &routes.iter().map(String::as_str).collect::<Vec<_>>(),
        );
    let gateway = Gateway::start(&yaml);
    gateway.ready().await;
    let token = Token::entra_v2(&provider.entra_issuer()).build();
    let mut client = gateway.client().await;
    for auth in ["none", "any"] {
        for (name, authorization, key) in [
            ("none", None, None),
            ("header", None, Some("key-1")),
            ("own", Some("Basic own"), None),
        ] {
            let request = Request::get(format!("/{auth}/{name}"))
                .header("authorization", bearer(&token))
                .header("x-api-key", "theirs");
            assert_eq!(client.send(request, "").await.status, 200, "{auth} {name}");
            let seen = upstream.last();
            assert_eq!(seen.value("authorization").as_deref(), authorization, "{auth} {name}");
            let theirs = (name != "header").then_some("theirs");
            assert_eq!(seen.value("x-api-key").as_deref(), key.or(theirs), "{auth} {name}");
        }
    }
    client.get_with("/any/through", &token).await;
    assert_eq!(through.last().bearer().as_deref(), Some(token.as_str()));
    client.get_with("/none/through", &token).await;
    assert_eq!(through.last().value("authorization"), None, "an open route removes it unread");
}

#[tokio::test]
async fn a_token_that_the_upstream_refuses_is_dropped() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let obo = "token: { on_behalf_of: { scopes: [\"https://graph.microsoft.com/.default\"] } }";
    let routes = [
        "{ match: { path: \"/{*rest}\" }, auth: any, upstream: up }",
        "{ match: { path: /plain }, auth: any, upstream: up, token: { none: true } }",
    ];
    let yaml = entra(&provider) + &file("", &[&up(&upstream.url(), obo)], &routes);
    let gateway = Gateway::start(&yaml);
    gateway.ready().await;
    let token = Token::entra_v2(&provider.entra_issuer()).build();
    let mut client = gateway.client().await;
    assert_eq!(client.get_with("/a", &token).await.status, 200);
    let refuse = |_: &Seen| {
        Answer::status(401).header("www-authenticate", "Bearer realm=\"\", error=\"invalid_token\"")
    };
    upstream.answer(refuse);
    let reply = client.get_with("/a", &token).await;
    assert_eq!((reply.status.as_u16(), reply.headers.get("www-authenticate")), (401, None));
    assert_eq!(upstream.count(), 2, "nothing is repeated");
    let first = upstream.last().bearer();
    upstream.answer(|_| Answer::status(403));
    assert_eq!(client.get_with("/a", &token).await.status, 403);
    assert_ne!(upstream.last().bearer(), first, "a new one was asked for");
    assert_eq!(provider.count(Endpoint::Token), 2);
    assert_eq!(client.get_with("/a", &token).await.status, 403);
    assert_eq!(provider.count(Endpoint::Token), 2, "a 403 drops nothing");
    // Where no token was exchanged, the challenge is the caller's to answer.
    upstream.answer(refuse);
    let reply = client.get_with("/plain", &token).await;
    assert!(reply.headers.contains_key("www-authenticate"));
}

#[tokio::test]
async fn cookies_are_one_field_again() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&open(&upstream.url(), "", ""));
    let request = || Request::get("/x").header("cookie", "a=1").header("cookie", "b=2; c=3");
    gateway.client_http2().await.send(request(), "").await;
    assert_eq!(upstream.last().values("cookie"), ["a=1; b=2; c=3"]);
    gateway.client().await.send(request(), "").await;
    assert_eq!(upstream.last().values("cookie"), ["a=1; b=2; c=3"]);
}

#[tokio::test]
async fn the_upstream_is_told_the_host_that_the_file_says() {
    let upstream = Upstream::start();
    for protocol in ["http1", "http2"] {
        for (key, host) in
            [("upstream", upstream.authority()), ("client", "api.example.com".to_owned())]
        {
            let keys = format!("protocol: {protocol}, host_header: {key}");
            let gateway = Gateway::start(&open(&upstream.url(), &keys, ""));
            for mut client in [gateway.client().await, gateway.client_http2().await] {
                client.send(Request::get("/x").header("host", "api.example.com"), "").await;
                assert_eq!(upstream.last().authority, host, "{protocol} {key}");
            }
        }
    }
}

#[tokio::test]
async fn lengths_of_answers_without_a_body_pass() {
    let upstream = Upstream::start();
    for protocol in ["http1", "http2"] {
        let gateway = Gateway::start(&open(&upstream.url(), &format!("protocol: {protocol}"), ""));
        for mut client in [gateway.client().await, gateway.client_http2().await] {
            upstream.answer(|_| Answer::status(200).header("content-length", "5"));
            let reply = client.send(Request::head("/x"), "").await;
            assert_eq!((reply.header("content-length"), reply.body.len()), (Some("5"), 0));
            upstream.answer(|_| Answer::status(304).header("etag", "\"1\""));
            let reply = client.get("/x").await;
            assert_eq!((reply.status.as_u16(), reply.header("etag")), (304, Some("\"1\"")));
            upstream.answer(|_| Answer::status(204));
            let reply = client.get("/x").await;
            assert_eq!((reply.status.as_u16(), reply.header("content-length")), (204, None));
        }
    }
}

#[tokio::test]
async fn redirects_are_passed_on() {
    let upstream = Upstream::start();
    upstream.answer(|_| Answer::status(302).header("location", "http://127.0.0.1:1/elsewhere"));
    let gateway = Gateway::start(&open(&upstream.url(), "", ""));
    let reply = gateway.client().await.get("/x").await;
    assert_eq!(reply.header("location"), Some("http://127.0.0.1:1/elsewhere"));
    assert_eq!((reply.status.as_u16(), upstream.count()), (302, 1));
}
