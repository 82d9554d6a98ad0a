//! The commands as processes: exit codes, and what goes to which output.

use std::fs;

use crate::cli::process::{run, run_with_input};
use crate::support::registry;

const ROUTES: &str = r"
providers:
  sso: { type: oidc, issuer: https://sso.example, audiences: [x], jwks_file: keys.json }
upstreams: { a: { url: https://a.example } }
routes:
  - { name: open, match: { path: /open }, auth: none, upstream: a }
  - { name: closed, match: { path: /closed }, auth: any, upstream: a }
  - { name: pong, match: { path: /ping }, auth: none, respond: { status: 204 } }
tests:
  - { request: { path: /open }, expect: { status: forward } }
";

/// An Ed25519 key whose private half nobody here has (RFC 8037, Appendix A.2).
const KEYS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

/// `{"alg":"EdDSA","kid":"a"}`, claims of `https://sso.example`, and a signature that is none.
const TOKEN: &str = concat!(
    "eyJhbGciOiJFZERTQSIsImtpZCI6ImEifQ",
    ".eyJpc3MiOiJodHRwczovL3Nzby5leGFtcGxlIiwiYXVkIjoieCIsImV4cCI6NDEwMjQ0NDgwMCwic3ViIjoidTEifQ",
    ".c2lnbmF0dXJlLW9mLW5vYm9keS1hbmQtbm8tb25lLWF0LWFsbC1zaXh0eS1mb3VyLWJ5dGVzLS0tLS0tLS0tLQ"
);

fn folder(routes: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("keys.json"), KEYS).unwrap();
    let path = folder.path().join("routes.yaml");
    fs::write(&path, routes).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

#[test]
fn explain_exits_by_what_would_become_of_the_request() {
    let (_folder, path) = folder(ROUTES);
    for (arguments, code, said) in [
        (&["GET", "/open"][..], 0, "it is forwarded"),
        (&["GET", "https://x.example/open", "-H", "x-a: b"], 0, "x-a: b"),
        (&["GET", "/ping"], 0, "it is answered with 204"),
        (&["GET", "/closed"], 1, "401 token_missing"),
        (&["GET", "/nothing"], 1, "404 route_not_found"),
        (&["TRACE", "/open"], 1, "405 method_not_allowed"),
        (&["GET", "/open", "--format", "json"], 0, "\"kind\": \"forward\""),
    ] {
        let ended = run(&[&["explain", "-c", &path], arguments].concat());
        assert_eq!((ended.code, &*ended.stderr), (Some(code), ""), "{arguments:?} {ended:?}");
        assert!(ended.stdout.contains(said), "{arguments:?} {ended:?}");
    }
}

#[test]
fn wrong_usage_is_2_and_repeats_no_secret() {
    let (folder, path) = folder(ROUTES);
    let token = folder.path().join("token");
    fs::write(&token, "\n").unwrap();
    let token = token.to_str().unwrap();
    for arguments in [
        &["GET"][..],
        &["GE T", "/open"],
        &["GET", "open"],
        &["GET", "/open#x"],
        &["GET", "/open", "-H", "hunter2"],
        &["GET", "/open", "-H", "Authorization Bearer hunter2"],
        &["GET", "/open", "-H", "Authorization Bearer hunter2:"],
        &["GET", "/open", "-H", "a b: hunter2"],
        &["GET", "/open", "-H", "x-v : hunter2"],
        &["GET", "/open", "-H", " x-v: hunter2"],
        &["GET", "/open", "--format", "yaml"],
        &["GET", "/open", "--token-file", "/nonexistent"],
        &["GET", "/open", "--token-file", token],
        &["GET", "/open", "--token-file", token, "-H", "Authorization: Bearer hunter2"],
    ] {
        let ended = run(&[&["explain", "-c", &path], arguments].concat());
        assert_eq!((ended.code, &*ended.stdout), (Some(2), ""), "{arguments:?} {ended:?}");
        assert!(!ended.stderr.contains("hunter2"), "{arguments:?} {ended:?}");
    }
    let both = run_with_input(&["explain", "-c", "-", "GET", "/", "--token-file", "-"], ROUTES);
    assert_eq!(both.code, Some(2), "{both:?}");
}

#[test]
fn a_token_is_judged_from_stdin_and_never_printed() {
    registry::secret(TOKEN);
    let (_folder, path) = folder(ROUTES);
    let explain = ["explain", "-c", &path, "GET", "/closed", "--token-file", "-"];
    for format in ["text", "json"] {
        let arguments = [&explain[..], &["--format", format]].concat();
        let ended = run_with_input(&arguments, &format!("{TOKEN}\n"));
        assert_eq!((ended.code, &*ended.stderr), (Some(1), ""), "{ended:?}");
        assert!(ended.stdout.contains("its signature is not one of key `a`"), "{ended:?}");
        assert!(ended.stdout.contains("u1"), "its claims are shown: {ended:?}");
        registry::assert_clean("explain", ended.stdout.as_bytes());
        for part in TOKEN.split('.') {
            assert!(!ended.stdout.contains(part), "{ended:?}");
        }
    }
}

#[test]
fn test_exits_1_if_a_test_fails_and_for_a_bad_file() {
    let (_folder, path) = folder(ROUTES);
    let ended = run(&["test", "-c", &path]);
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{ended:?}");
    assert!(ended.stdout.contains("1 passed, 0 failed\nnot reached by any test:\n"), "{ended:?}");
    let ended = run(&["test", "-c", &path, "--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(json["tests"][0]["line"], 10, "{json:#}");

    let (_folder, path) = folder(&ROUTES.replace("status: forward", "status: 404"));
    let ended = run(&["test", "-c", &path]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let place = format!("{path}:10:51: `status`: expected `404`, came `forward`");
    assert!(ended.stdout.contains(&place), "{ended:?}");

    let (_folder, path) = folder("routes: [{}]");
    let ended = run(&["test", "-c", &path]);
    assert_eq!((ended.code, &*ended.stdout), (Some(1), ""), "{ended:?}");
    let (_folder, path) = folder(ROUTES.split("tests:").next().unwrap());
    let ended = run(&["test", "-c", &path]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("there are no `tests:` in it"), "{ended:?}");
}
