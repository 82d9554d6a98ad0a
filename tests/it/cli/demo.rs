//! `dev-idp` and `demo`: what they print is true. The `curl` lines are run by `tests/demo/run`.

use std::net::TcpListener;

use super::process::{Process, get, program, run};

#[test]
fn dev_idp_says_where_it_listens_and_gives_tokens() {
    let process = Process::start(program(&["dev-idp", "--address", "127.0.0.1:0"]));
    let base = process.stdout_line(|line| line.strip_prefix("listening on ").map(str::to_owned));
    let address = base.strip_prefix("http://").unwrap().parse().unwrap();
    let answer = get(address, "/dev/token?user=alice&scope=access_as_user");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(answer.rsplit("\r\n").next().unwrap().split('.').count(), 3, "{answer}");
    process.log_line("DEVELOPMENT identity provider");
    process.signal("TERM");
    assert_eq!(process.ended().code, Some(0));
}

#[test]
fn dev_idp_with_tls_writes_its_ca() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let process = Process::start(program(&[
        "dev-idp",
        "--address",
        "127.0.0.1:0",
        "--tls",
        "--ca-file",
        file.to_str().unwrap(),
    ]));
    process.stdout_line(|line| line.strip_prefix("listening on https://localhost:").map(drop));
    // It is there before the line is printed, so that a script may wait for the line.
    let pem = std::fs::read_to_string(&file).unwrap();
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----"), "{pem}");
    assert!(!pem.contains("PRIVATE KEY"));
    process.signal("INT");
    assert_eq!(process.ended().code, Some(0));
}

#[test]
fn what_keeps_a_development_server_from_starting_is_said_whole() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let ended = run(&["dev-idp", "--address", &address.to_string()]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
    let expected = format!("error: can't listen on `{address}`: Address already in use");
    assert!(ended.stderr.contains(&expected), "{ended:?}");

    let ended =
        run(&["dev-idp", "--address", "127.0.0.1:0", "--tls", "--ca-file", "/nonexistent/ca.pem"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("`/nonexistent/ca.pem`: No such file"), "{ended:?}");

    for base in ["0", "65535"] {
        let ended = run(&["demo", "--port-base", base]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains("choose a number from 1 to 65531"), "{ended:?}");
    }
}
