//! `check --online` and `dev-idp token` as programs: exit codes, and what goes to which output.

use std::path::Path;

use serde_json::Value;

use super::process::{Process, program, run, run_with_input};
use crate::support::client_auth::Proof;
use crate::support::provider::Provider;
use crate::support::registry;
use crate::support::token::{CLIENT_ID, CLIENT_SECRET, TENANT};

fn file(provider: &Provider) -> String {
    format!(
        "listeners: [{{ address: \"127.0.0.1:0\" }}]\nadmin: {{ address: off }}\n\
         providers:\n  entra:\n    type: entra\n    tenant: {TENANT}\n    authority: {}\n    client_id: {CLIENT_ID}\n    \
         credential: {{ client_secret: {CLIENT_SECRET} }}\n\
         routes:\n  - {{ match: {{ path: /a }}, auth: any, respond: {{ status: 204 }} }}\n",
        provider.base()
    )
}

#[test]
fn what_was_tried_is_printed_and_decides_on_the_exit_code() {
    let provider = Provider::start();
    let file = file(&provider);
    let good = run_with_input(&["check", "--online", "-c", "-"], &file);
    assert_eq!(good.code, Some(0), "{good:?}");
    let lines: Vec<_> = good.stdout.lines().collect();
    assert_eq!(lines[0], "<stdin>: good: 1 route, 0 upstreams, 1 provider, 1 listener");
    assert!(lines[1].starts_with("ok    provider entra  discovery "), "{good:?}");
    assert_eq!(lines.last(), Some(&"4 ok, 0 warnings, 0 failed"));

    provider.expect_proof(Proof::Post("another-secret-91b7c2aa".to_owned()));
    let bad = run_with_input(&["check", "--online", "-c", "-"], &file);
    assert_eq!(bad.code, Some(1), "{bad:?}");
    assert!(bad.stdout.contains("\nFAIL  provider entra  credential "), "{bad:?}");
    assert!(
        bad.stdout.contains("\n                                  hint: put the value"),
        "{bad:?}"
    );
    assert!(bad.stdout.ends_with("3 ok, 0 warnings, 1 failed\n"), "{bad:?}");

    let json = run_with_input(&["check", "--online", "--format", "json", "-c", "-"], &file);
    assert_eq!(json.code, Some(1), "{json:?}");
    let report: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((&report["ok"], &report["summary"]["fail"]), (&false.into(), &1.into()));
    let check = &report["checks"][3];
    assert_eq!((&check["check"], &check["outcome"]), (&"credential".into(), &"fail".into()));
    for ended in [&good, &bad, &json] {
        registry::assert_clean("stdout", ended.stdout.as_bytes());
    }
}

#[test]
fn a_bad_file_is_not_tried() {
    let provider = Provider::start();
    let bad = file(&provider).replace("auth: any", "auth: any, upstream: nowhere");
    let ended = run_with_input(&["check", "--online", "-c", "-"], &bad);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
    assert!(ended.stderr.contains("error: "), "{ended:?}");
    assert!(provider.forms().is_empty());
}

#[test]
fn a_format_without_a_report_is_wrong_usage() {
    for arguments in [
        &["check", "--format", "json"][..],
        &["check", "--online", "--format", "xml"],
        &["dev-idp", "token"],
        &["dev-idp", "token", "--user", "alice", "--client", "daemon"],
        &["demo", "--config", "routes.yaml"],
        &["-c", "-", "demo"],
        &["dev-idp", "token", "--user", "alice", "--expires-in", "soon"],
        &["dev-idp", "token", "--user", "alice", "--tls"],
        &["dev-idp", "token", "--user", "alice", "--ca-file", "x"],
    ] {
        let ended = run(arguments);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{arguments:?} {ended:?}");
        assert!(ended.stderr.starts_with("error: "), "{ended:?}");
    }
    let whose = run(&["dev-idp", "token"]);
    assert!(whose.stderr.contains("<--user <NAME>|--client <NAME>>"), "{whose:?}");
    let demo = run(&["demo", "-c", "routes.yaml"]);
    assert!(demo.stderr.contains("the routes file that is built in"), "{demo:?}");
}

#[test]
fn a_file_is_refused_where_it_would_not_be_read() {
    for (arguments, name) in [
        (&["dev-idp", "--config", "routes.yaml"][..], "dev-idp"),
        (&["dev-idp", "token", "--user", "alice", "-c", "routes.yaml"], "dev-idp"),
        (&["schema", "-c", "routes.yaml"], "schema"),
        (&["-c", "-", "man"], "man"),
        (&["completions", "bash", "-c", "routes.yaml"], "completions"),
    ] {
        let ended = run(arguments);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{arguments:?} {ended:?}");
        let said = format!("error: `{name}` reads no routes file: leave `--config` out\n");
        assert_eq!(ended.stderr, said);
    }
    // The environment is for other commands, too.
    let mut schema = program(&["schema"]);
    schema.env("OBO_GATEWAY_CONFIG", "routes.yaml");
    let schema = Process::start(schema).ended();
    assert_eq!(schema.code, Some(0), "{schema:?}");
}

/// A running development provider, and where it is.
fn dev_idp(tls: Option<&Path>) -> (Process, String) {
    let mut command = program(&["dev-idp", "--address", "127.0.0.1:0"]);
    if let Some(file) = tls {
        command.args(["--tls", "--ca-file"]).arg(file);
    }
    let process = Process::start(command);
    let port = process.stdout_line(|line| {
        line.strip_prefix("listening on ")?.rsplit_once(':').map(|(_, port)| port.to_owned())
    });
    (process, format!("127.0.0.1:{port}"))
}

fn claims(token: &str) -> Value {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    let part = token.trim_end().split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[test]
fn a_running_development_provider_mints_a_token() {
    let (_running, address) = dev_idp(None);
    let minted = |arguments: &[&str]| {
        let all = [&["dev-idp", "--address", &address, "token"], arguments].concat();
        let ended = run(&all);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
        assert!(ended.stdout.ends_with('\n') && ended.stdout.lines().count() == 1, "{ended:?}");
        claims(&ended.stdout)
    };
    let of_alice = minted(&["--user", "alice"]);
    assert_eq!((&of_alice["scp"], &of_alice["iss"]), (&"access_as_user".into(), &of_alice["iss"]));
    assert_eq!(minted(&["--user", "alice", "--scope", "a b"])["scp"], "a b");
    assert_eq!(minted(&["--client", "daemon"])["roles"][0], "Demo.Read.All");
    let expired = minted(&["--user", "bob", "--expires-in", "-60"]);
    assert!(expired["exp"].as_u64().unwrap() < of_alice["exp"].as_u64().unwrap() - 3600);
    let changed = minted(&["--user", "alice", "--claims", r#"{"department":"finance"}"#]);
    assert_eq!(changed["department"], "finance");

    // Its own words for what it does not know, wherever the address stands.
    let ended = run(&["dev-idp", "token", "--user", "eve", "--address", &address]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
    assert!(ended.stderr.contains("there is no user `eve`; try alice"), "{ended:?}");
}

#[test]
fn a_token_comes_over_tls_by_the_ca_that_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let (ca, other) = (folder.path().join("ca.pem"), folder.path().join("other.pem"));
    let (_running, address) = dev_idp(Some(&ca));
    let (_another, _) = dev_idp(Some(&other));
    let minted = |file: &Path| {
        let file = file.to_str().unwrap();
        run(&[
            "dev-idp",
            "token",
            "--user",
            "alice",
            "--address",
            &address,
            "--tls",
            "--ca-file",
            file,
        ])
    };
    let good = minted(&ca);
    assert_eq!(good.code, Some(0), "{good:?}");
    assert_eq!(claims(&good.stdout)["ver"], "2.0");
    for (file, words) in
        [(&other, "name the file that it wrote"), (&folder.path().join("none"), "can't read")]
    {
        let refused = minted(file);
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{refused:?}");
        assert!(refused.stderr.contains(words), "{refused:?}");
    }
    // Without `--tls` it is not understood, and says what may be missing.
    let clear = run(&["dev-idp", "token", "--user", "alice", "--address", &address]);
    assert_eq!(clear.code, Some(1), "{clear:?}");
    assert!(clear.stderr.contains("--tls --ca-file FILE"), "{clear:?}");
}

#[test]
fn without_a_development_provider_it_is_said_what_to_start() {
    // Held, and served by nobody: who connects hears nothing.
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap().to_string();
    let ended = run(&["dev-idp", "token", "--user", "alice", "--address", &address]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
    let hint = format!("hint: start one with `obo-gateway dev-idp --address {address}`");
    assert!(ended.stderr.contains("no development provider answers"), "{ended:?}");
    assert!(ended.stderr.contains(&hint), "{ended:?}");

    let provider = Provider::start();
    let elsewhere = provider.base().replace("http://", "");
    let ended = run(&["dev-idp", "token", "--user", "alice", "--address", &elsewhere]);
    assert!(ended.stderr.contains("is no development provider (status 404)"), "{ended:?}");

    let ended = run(&["dev-idp", "token", "--user", "alice", "--address", "192.0.2.1:9010"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("is not a loopback address"), "{ended:?}");
}
