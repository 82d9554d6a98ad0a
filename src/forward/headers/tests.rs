use super::*;

fn map(fields: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn cleaned(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut headers = map(fields);
    clean_request(&mut headers, &Asserted(vec![HeaderName::from_static("x-user-id")]));
    list(&headers)
}

fn list(headers: &HeaderMap) -> Vec<(String, String)> {
    headers.iter().map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned())).collect()
}

#[test]
fn what_never_passes() {
    for name in [
        "authorization",
        "proxy-authorization",
        "connection",
        "keep-alive",
        "te",
        "upgrade",
        "transfer-encoding",
        "x_user_id",
        "x-user-id",
        "x-original-url",
        "client-cert",
        "client-cert-chain",
        "x-arr-clientcert",
        "dpop",
        "x-http-method-override",
        "x-ms-client-principal-id",
        "x-ms-token-aad-access-token",
        "http2-settings",
        "expect",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-user",
    ] {
        assert_eq!(
            cleaned(&[(name, "x"), ("accept", "*/*")]),
            [("accept".into(), "*/*".into())],
            "{name}"
        );
    }
    assert_eq!(cleaned(&[("x-user", "1"), ("user_agent", "2")]), [("x-user".into(), "1".into())]);
}

#[test]
fn what_connection_names_is_removed_but_for_what_frames_the_message() {
    let kept = cleaned(&[
        ("connection", "close, x-a"),
        ("connection", "X-B"),
        ("x-a", "1"),
        ("x-b", "2"),
        ("x-c", "3"),
    ]);
    assert_eq!(kept, [("x-c".into(), "3".into())]);
    let kept = cleaned(&[("connection", "content-length"), ("content-length", "3")]);
    assert_eq!(kept, [("content-length".into(), "3".into())]);
}

#[test]
fn so_it_is_in_an_answer() {
    let mut headers = map(&[
        ("connection", "Keep-Alive, X-Hop"),
        ("connection", "close"),
        ("keep-alive", "timeout=5"),
        ("x-hop", "1"),
        ("close", "1"),
        ("x-request-id", "theirs"),
        ("content-type", "a/b"),
    ]);
    clean_response(&mut headers);
    assert_eq!(list(&headers), [("content-type".into(), "a/b".into())]);
}

#[test]
fn te_trailers_alone_passes() {
    assert_eq!(cleaned(&[("te", "gzip, Trailers;q=1")]), [("te".into(), "trailers".into())]);
    assert_eq!(cleaned(&[("te", "gzip")]), []);
}

#[test]
fn cookie_pieces_are_joined() {
    assert_eq!(
        cleaned(&[("cookie", "a=1"), ("cookie", "b=2")]),
        [("cookie".into(), "a=1; b=2".into())]
    );
}

fn asserted(trusted: &[&str], peer: &str, fields: &[(&str, &str)]) -> Vec<(String, String)> {
    let trusted = TrustedProxies::new(trusted.iter().map(|net| net.parse().unwrap()).collect());
    let peer = Peer { address: peer.parse().unwrap(), tls: true, certificate: None };
    let mut headers = map(fields);
    let request_id = HeaderValue::from_static("id");
    let authority = Some(HeaderValue::from_static("api.example.com:8443"));
    let told = Told::by(&peer, &trusted, &headers);
    clean_request(&mut headers, &Asserted::default());
    assert_caller(
        &mut headers,
        Downstream { peer: &peer, told, authority, request_id: &request_id },
    );
    headers.remove(X_REQUEST_ID).unwrap();
    list(&headers)
}

#[test]
fn forwarded_fields_are_set_anew() {
    let came = [
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-user", "root"),
        ("forwarded", "for=6.6.6.6"),
        ("x-forwarded-host", "evil"),
    ];
    assert_eq!(
        asserted(&[], "1.2.3.4:5", &came),
        [
            ("x-forwarded-for".into(), "1.2.3.4".into()),
            ("x-forwarded-proto".into(), "https".into()),
            ("x-forwarded-host".into(), "api.example.com:8443".into()),
            ("forwarded".into(), "for=1.2.3.4;proto=https;host=\"api.example.com:8443\"".into()),
        ]
    );
}

#[test]
fn an_address_of_ipv6_is_quoted_in_forwarded_alone() {
    let shown = |peer| asserted(&[], peer, &[]).swap_remove(0).1;
    assert_eq!(shown("[2001:db8::1]:5"), "2001:db8::1");
    assert_eq!(shown("[::ffff:1.2.3.4]:5"), "1.2.3.4");
    let forwarded = asserted(&[], "[2001:db8::1]:5", &[]).swap_remove(3).1;
    assert!(forwarded.starts_with("for=\"[2001:db8::1]\";proto=https;host="), "{forwarded}");
}

#[test]
fn a_trusted_proxy_is_appended_to() {
    let came = [
        ("x-forwarded-for", "1.2.3.4"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "front"),
        ("x-forwarded-user", "root"),
    ];
    assert_eq!(
        asserted(&["10.0.0.0/8"], "10.0.0.1:5", &came)[..3],
        [
            ("x-forwarded-for".into(), "1.2.3.4, 10.0.0.1".into()),
            ("x-forwarded-proto".into(), "http".into()),
            ("x-forwarded-host".into(), "front".into()),
        ]
    );
}

#[test]
fn a_callers_connection_does_not_take_away_what_a_trusted_proxy_told() {
    let came = [("connection", "x-forwarded-for, forwarded"), ("x-forwarded-for", "1.2.3.4")];
    let fields = asserted(&["10.0.0.0/8"], "10.0.0.1:5", &came);
    assert_eq!(fields[0], ("x-forwarded-for".into(), "1.2.3.4, 10.0.0.1".into()));
    assert_eq!(fields.len(), 4);
}

fn rules() -> HeaderRules {
    HeaderRules {
        remove: vec![HeaderName::from_static("x-gone")],
        set: vec![(HeaderName::from_static("x-set"), HeaderValue::from_static("ours"))],
        add: vec![],
    }
}

#[test]
fn trailers_carry_no_credentials_and_no_framing() {
    let mut trailers = map(&[
        ("authorization", "x"),
        ("content-length", "1"),
        ("content-encoding", "gzip"),
        ("x-forwarded-for", "x"),
        ("x-set", "theirs"),
        ("x-gone", "theirs"),
        ("range", "bytes=0-1"),
        ("if-match", "x"),
        ("if-none-match", "x"),
        ("origin", "x"),
        ("access-control-request-method", "PUT"),
        ("grpc-status", "0"),
    ]);
    clean_request_trailers(&mut trailers, &Asserted::default(), &rules());
    assert_eq!(list(&trailers), [("grpc-status".into(), "0".into())]);
}

#[test]
fn trailers_of_an_answer_are_about_its_content_alone() {
    let mut trailers = map(&[
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("keep-alive", "1"),
        ("transfer-encoding", "chunked"),
        ("content-length", "1"),
        ("content-type", "text/html"),
        ("trailer", "x"),
        ("set-cookie", "a=b"),
        ("www-authenticate", "Bearer"),
        ("x-request-id", "theirs"),
        ("x-set", "theirs"),
        ("x-gone", "theirs"),
        ("location", "https://evil.example"),
        ("content-location", "/evil"),
        ("cache-control", "public"),
        ("content-security-policy", "x"),
        ("access-control-allow-origin", "*"),
        ("access-control-expose-headers", "*"),
        ("grpc-status", "0"),
    ]);
    clean_response_trailers(&mut trailers, &rules());
    assert_eq!(list(&trailers), [("grpc-status".into(), "0".into())]);
}

#[test]
fn rules_remove_then_set_then_add() {
    let name = HeaderName::from_static("x-a");
    let rules = HeaderRules {
        remove: vec![name.clone()],
        set: vec![(HeaderName::from_static("x-b"), HeaderValue::from_static("new"))],
        add: vec![(name, HeaderValue::from_static("added"))],
    };
    let mut headers = map(&[("x-a", "1"), ("x-b", "2")]);
    rules.apply(&mut headers);
    assert_eq!(list(&headers), [("x-b".into(), "new".into()), ("x-a".into(), "added".into())]);
}
