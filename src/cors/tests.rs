use super::*;

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap()
}

fn policy(origins: &[&str]) -> Policy {
    let listed = origins.iter().map(|origin| Origin::parse(origin).unwrap()).collect();
    Policy {
        origins: if origins.is_empty() { Origins::Any } else { Origins::Listed(listed) },
        methods: Methods::OfRoute,
        headers: Names::Listed(vec![http::header::AUTHORIZATION]),
        expose: Names::Listed(vec![HeaderName::from_static("x-total")]),
        max_age: 600,
        credentials: false,
    }
}

const APP: &str = "https://app.example.com";

fn applied(policy: Policy, origin: Option<&str>, before: &[(&'static str, &str)]) -> String {
    let mut headers = HeaderMap::new();
    for (name, text) in before {
        headers.append(*name, value(text));
    }
    let origin = origin.map(value);
    Cors::new(policy).apply(origin.as_ref(), &mut headers);
    let mut shown: Vec<String> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    shown.sort();
    shown.join("\n")
}

const READABLE: &str = "access-control-allow-origin: https://app.example.com\n\
     access-control-expose-headers: www-authenticate, x-request-id, retry-after, x-total\n\
     vary: Origin";

#[test]
fn an_answer_is_readable_for_origins_of_the_file() {
    assert_eq!(applied(policy(&[APP]), Some(APP), &[]), READABLE);
    assert_eq!(applied(policy(&[APP]), Some("https://evil.example"), &[]), "vary: Origin");
    assert_eq!(applied(policy(&[APP]), None, &[]), "vary: Origin");
    let with = Policy { credentials: true, ..policy(&[APP]) };
    assert!(applied(with.clone(), Some(APP), &[]).contains("allow-credentials: true"));
    assert!(!applied(with, Some("null"), &[]).contains("credentials"));
}

#[test]
fn an_answer_for_all_does_not_depend_on_who_asks() {
    let shown = "access-control-allow-origin: *\n\
         access-control-expose-headers: www-authenticate, x-request-id, retry-after, x-total";
    for origin in [None, Some(APP), Some("null"), Some("https://evil.example")] {
        assert_eq!(applied(policy(&[]), origin, &[]), shown);
    }
}

#[test]
fn what_the_upstream_said_is_removed_for_everybody() {
    let theirs = [
        ("access-control-allow-origin", "https://evil.example"),
        ("access-control-allow-origin", "*"),
        ("access-control-allow-credentials", "true"),
        ("access-control-expose-headers", "set-cookie"),
        ("access-control-allow-private-network", "true"),
        ("access-control-something-new", "1"),
    ];
    assert_eq!(applied(policy(&[APP]), Some(APP), &theirs), READABLE);
    assert_eq!(applied(policy(&[APP]), Some("https://evil.example"), &theirs), "vary: Origin");
}

#[test]
fn what_an_answer_depends_on_is_added_to() {
    for (before, after) in [
        (&["Accept-Encoding"][..], "Accept-Encoding, Origin"),
        (&["Accept-Encoding", "Accept"], "Accept-Encoding, Accept, Origin"),
        (&["accept, ORIGIN"], "accept, ORIGIN"),
        (&["*"], "*"),
        (&["X-Origin"], "X-Origin, Origin"),
    ] {
        let before: Vec<_> = before.iter().map(|text| ("vary", *text)).collect();
        let shown = applied(policy(&[APP]), None, &before);
        assert_eq!(shown, format!("vary: {after}"));
    }
}

fn granted(policy: Policy, headers: Option<&[&'static str]>) -> HeaderMap {
    let origin = value(APP);
    let names = |names: &[&'static str]| {
        names.iter().copied().map(HeaderName::from_static).collect::<Vec<_>>()
    };
    let asked = Asked { origin: Some(&origin), method: Method::PUT, headers: headers.map(names) };
    let cors = Cors::new(policy);
    let response = cors.granted(&asked, cors.methods(&asked));
    assert_eq!(response.status(), 204);
    assert_eq!(response.headers()[VARY], PREFLIGHT_VARY);
    response.headers().clone()
}

#[test]
fn a_preflight_is_told_what_the_file_allows() {
    let answer = granted(policy(&[APP]), Some(&["x-a"]));
    assert_eq!(answer[ACCESS_CONTROL_ALLOW_ORIGIN], APP);
    assert_eq!(answer[ACCESS_CONTROL_ALLOW_METHODS], "PUT");
    assert_eq!(answer[ACCESS_CONTROL_ALLOW_HEADERS], "authorization");
    assert_eq!(answer[ACCESS_CONTROL_MAX_AGE], "600");
    assert!(!answer.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS));
    assert!(!answer.contains_key(ACCESS_CONTROL_EXPOSE_HEADERS));
    let listed = Methods::Listed(vec![Method::GET, Method::POST]);
    let answer = granted(Policy { methods: listed, ..policy(&[]) }, None);
    assert_eq!(answer[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
    assert_eq!(answer[ACCESS_CONTROL_ALLOW_METHODS], "GET, POST");
}

#[test]
fn any_header_means_those_that_are_asked_for_by_name() {
    let any = Policy { headers: Names::Any, ..policy(&[APP]) };
    let answer = granted(any.clone(), Some(&["authorization", "x-a"]));
    assert_eq!(answer[ACCESS_CONTROL_ALLOW_HEADERS], "authorization, x-a");
    for none in [None, Some(&[][..])] {
        assert!(!granted(any.clone(), none).contains_key(ACCESS_CONTROL_ALLOW_HEADERS));
    }
}

#[test]
fn an_origin_that_comes_twice_is_nobodys() {
    let mut headers = HeaderMap::new();
    assert_eq!(origin_of(&headers), None);
    headers.append(ORIGIN, value(APP));
    assert_eq!(origin_of(&headers), Some(&value(APP)));
    headers.append(ORIGIN, value(APP));
    assert_eq!(origin_of(&headers), None);
}
