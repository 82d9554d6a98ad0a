//! `run` and `healthcheck`: the life of a serving process, and the signals it is told with.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;

use serde_json::{Value, json};

use super::process::{Process, answer, get, program, run, send};

/// A routes file in a folder of its own.
struct File {
    folder: tempfile::TempDir,
}

impl File {
    fn new(text: &str) -> Self {
        let file = Self { folder: tempfile::tempdir().unwrap() };
        file.write(text);
        file
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("routes.yaml")
    }

    fn write(&self, text: &str) {
        fs::write(self.path(), text).unwrap();
    }
}

/// Two listeners, an admin port, and one route that answers with `body`.
fn answering(body: &str) -> String {
    format!(
        "listeners: [{{ address: \"127.0.0.1:0\" }}, {{ address: \"127.0.0.1:0\" }}]\n\
         admin: {{ address: \"127.0.0.1:0\" }}\n\
         routes:\n  - {{ match: {{ path: /a }}, auth: none, respond: {{ status: 200, body: {body} }} }}\n"
    )
}

fn forwarding(to: SocketAddr) -> String {
    format!(
        "listeners: [{{ address: \"127.0.0.1:0\" }}]\nadmin: {{ address: off }}\n\
         upstreams: {{ a: {{ url: \"http://{to}\" }} }}\n\
         routes: [{{ match: {{ path: \"/{{*rest}}\" }}, auth: none, upstream: a }}]\n"
    )
}

/// Takes the next request of an upstream, which stays without an answer.
fn next_request(upstream: &TcpListener) -> TcpStream {
    let (mut stream, _) = upstream.accept().unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    stream
}

#[test]
fn it_says_where_it_listens_serves_and_ends_with_sigterm() {
    let file = File::new(&answering("one"));
    // `run` is what it does without a command.
    let process = Process::start(program(&["-c", file.path().to_str().unwrap()]));
    let admin = process.address("admin port");
    assert!(get(admin, "/livez").starts_with("HTTP/1.1 200"));
    let stderr = process.stderr();
    let lines: Vec<_> =
        stderr.lines().filter(|line| line.contains("\"message\":\"listening\"")).collect();
    assert_eq!(lines.len(), 2, "{stderr}");
    assert!(get(process.address("listening"), "/a").ends_with("\r\n\r\none"));
    process.signal("TERM");
    let ended = process.ended();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""), "{ended:?}");
}

#[test]
fn sigint_ends_it_too() {
    let file = File::new(&answering("one"));
    let process = Process::serve(&file.path());
    process.address("admin port");
    process.signal("INT");
    assert_eq!(process.ended().code, Some(0));
}

#[test]
fn a_request_in_flight_is_finished() {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let file = File::new(&forwarding(upstream.local_addr().unwrap()));
    let process = Process::serve(&file.path());
    let mut caller = send(process.address("listening"), "/slow");
    let mut held = next_request(&upstream);
    process.signal("TERM");
    process.log_line("draining");
    held.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").unwrap();
    let answer = answer(&mut caller);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"), "{answer}");
    let ended = process.ended();
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let file = File::new(&forwarding(upstream.local_addr().unwrap()));
    let process = Process::serve(&file.path());
    let _caller = send(process.address("listening"), "/slow");
    let _held = next_request(&upstream);
    process.signal("TERM");
    process.log_line("draining");
    process.signal("INT");
    let ended = process.ended();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("second signal"), "{ended:?}");
}

#[test]
fn what_the_grace_cuts_off_is_counted_and_no_failure() {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let text = forwarding(upstream.local_addr().unwrap());
    let file = File::new(&format!("server: {{ shutdown_grace: 100ms }}\n{text}"));
    let process = Process::serve(&file.path());
    let _caller = send(process.address("listening"), "/slow");
    let _held = next_request(&upstream);
    process.signal("TERM");
    let ended = process.ended();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("\"requests\":1"), "{ended:?}");
}

#[test]
fn sighup_reads_the_file_again() {
    let file = File::new(&answering("one"));
    let process = Process::serve(&file.path());
    let (address, admin) = (process.address("listening"), process.address("admin port"));
    assert!(get(address, "/a").ends_with("one"));

    file.write(&answering("two"));
    process.signal("HUP");
    process.log_line("read again and is in force");
    assert!(get(address, "/a").ends_with("two"));

    // A bad file changes nothing, and the log says what is wrong with it.
    file.write(&answering("three").replace("auth: none", "auht: none"));
    process.signal("HUP");
    let line = process.log_line("refused");
    assert!(line.contains("unknown key `auht`") && line.contains("routes.yaml:4:"), "{line}");
    assert!(get(address, "/a").ends_with("two"));
    let metrics = get(admin, "/metrics");
    for outcome in ["success", "failure"] {
        let counted = format!("obo_gateway_config_reloads_total{{outcome=\"{outcome}\"}} 1");
        assert!(metrics.contains(&counted), "{metrics}");
    }
    process.signal("TERM");
    assert_eq!(process.ended().code, Some(0));
}

#[test]
fn files_are_read_again_without_a_signal() {
    let file = File::new(&answering("\"${file:words}\""));
    let words = file.path().with_file_name("words");
    fs::write(&words, "one").unwrap();
    let process = Process::serve(&file.path());
    let address = process.address("listening");
    assert!(get(address, "/a").ends_with("one"));
    fs::write(&words, "two").unwrap();
    let line = process.log_line("read again and is in force");
    assert!(line.contains("words` changed"), "{line}");
    assert!(get(address, "/a").ends_with("two"));
    // The routes file is one of them.
    file.write(&answering("three"));
    let line = process.log_line("routes.yaml` changed");
    assert!(line.contains("is in force"), "{line}");
    assert!(get(address, "/a").ends_with("three"));
    process.signal("TERM");
    assert_eq!(process.ended().code, Some(0));
}

#[test]
fn a_file_with_warnings_is_served_and_they_are_printed() {
    let warned = "upstreams: { unused: { url: https://a.example } }\n";
    let file = File::new(&format!("{}{warned}", answering("one")));
    let process = Process::serve(&file.path());
    assert!(get(process.address("listening"), "/a").ends_with("one"));
    process.log_line("warning: no route uses upstream `unused`");
    // And again, with a reload.
    file.write(&format!("{}{}", answering("two"), warned.replace("unused", "idle")));
    process.signal("HUP");
    process.log_line("no route uses upstream `idle`");
    process.signal("TERM");
    assert_eq!(process.ended().code, Some(0));
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for text in [
        answering("one").replacen("127.0.0.1:0", &address, 1),
        answering("one").replace(
            "admin: { address: \"127.0.0.1:0\"",
            &format!("admin: {{ address: \"{address}\""),
        ),
    ] {
        let file = File::new(&text);
        let ended = run(&["run", "-c", file.path().to_str().unwrap()]);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
        let expected = format!("error: can't listen on `{address}`: the port is in use");
        assert!(ended.stderr.contains(&expected), "{ended:?}");
    }
}

/// The events of a log, which is one of JSON.
fn events(stderr: &str) -> Vec<Value> {
    stderr.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

#[test]
fn a_start_that_fails_says_so_in_the_form_of_the_log() {
    let file = File::new(
        "upstreams: { a: { url: \"http://127.0.0.1:1\" } }\nroutes:\n  - { match: { path: /a }, auht: none, upstream: b }\nservr: {}\n",
    );
    let path = file.path().display().to_string();
    let place = format!("{path}:3:28: error: ");
    for arguments in [&["-c", &path][..], &["run", "-c", &path]] {
        let ended = run(&[arguments, &["--log-format", "json"]].concat());
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
        let events = events(&ended.stderr);
        assert!(events.len() >= 2, "{events:?}");
        let found = |it: &&Value| it["message"].as_str().unwrap().starts_with(&place);
        let event = events.iter().find(found).unwrap_or_else(|| panic!("{events:?}"));
        let at = (&event["level"], &event["line"], &event["column"]);
        assert_eq!(at, (&json!("ERROR"), &json!(3), &json!(28)));
        assert_eq!(event["file"], json!(path));
        assert!(event["hint"].as_str().unwrap().contains("`auth`"), "{event}");
    }
    // Also without a terminal: the log would be JSON then, and this is for who looks why there is none.
    for arguments in [&["-c", &path][..], &["-c", &path, "--log-format", "text"]] {
        let text = run(arguments);
        assert!(text.stderr.starts_with(&path) && text.stderr.contains("\nhint: "), "{text:?}");
    }
    let quiet = run(&["-c", &path, "--log-format", "json", "--log-level", "off"]);
    assert!(quiet.stderr.starts_with(&path), "{quiet:?}");
    let checked = run(&["check", "-c", &path, "--log-format", "json"]);
    assert!(checked.stderr.starts_with(&path), "{checked:?}");
}

#[test]
fn a_port_in_use_is_an_event_with_its_place() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let file = File::new(&answering("one").replacen("127.0.0.1:0", &address, 1));
    let path = file.path().display().to_string();
    let ended = run(&["-c", &path, "--log-format", "json"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let events = events(&ended.stderr);
    let event = events.iter().find(|it| it["level"] == "ERROR").unwrap();
    assert_eq!((&event["file"], &event["line"]), (&json!(path), &json!(1)));
    assert!(event["hint"].as_str().unwrap().contains("choose another port"), "{event}");
    let text = run(&["-c", &path, "--log-format", "text"]);
    let error = format!("error: can't listen on `{address}`");
    assert!(text.stderr.lines().any(|line| line.contains(&error)), "{text:?}");
}

#[test]
fn the_log_level_is_heeded() {
    let file = File::new(&answering("one"));
    let mut command = program(&["-c", file.path().to_str().unwrap()]);
    command.env("OBO_GATEWAY_LOG", "obo_gateway::launch=info");
    let process = Process::start(command);
    process.address("admin port");
    process.signal("TERM");
    process.ended();

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    file.write(&answering("one").replacen("127.0.0.1:0\" }]", &format!("{address}\" }}]"), 1));
    let quiet = run(&["-c", file.path().to_str().unwrap(), "--log-level", "error"]);
    assert!(!quiet.stderr.contains("INFO"), "{quiet:?}");
}

#[test]
fn the_log_is_text_when_asked_for() {
    let file = File::new(&answering("one"));
    let path = file.path();
    let process = Process::start(program(&["--log-format", "text", "-c", path.to_str().unwrap()]));
    let line = process.log_line("listening");
    assert!(line.contains(" INFO ") && !line.starts_with('{'), "{line}");
    process.signal("TERM");
    assert_eq!(process.ended().code, Some(0));
}

#[test]
fn healthcheck_asks_the_admin_port() {
    // The port is known to the system as free, and used right away.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = answering("one")
        .replace("admin: { address: \"127.0.0.1:0\"", &format!("admin: {{ address: \"{free}\""));
    let file = File::new(&text);
    let path = file.path();
    let check = ["healthcheck", "-c", path.to_str().unwrap()];
    let down = run(&check);
    assert_eq!(down.code, Some(1), "{down:?}");
    assert!(down.stderr.contains("can't be asked: Connection refused"), "{down:?}");

    let process = Process::serve(&file.path());
    assert_eq!(process.address("admin port"), free);
    let up = run(&check);
    assert_eq!(up.code, Some(0), "{up:?}");
    process.signal("TERM");
    process.ended();

    // Another program took the port, and finds everything good.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    let at_other = File::new(&text.replace(&free.to_string(), &address.to_string()));
    let stranger = std::thread::spawn(move || {
        let mut stream = next_request(&other);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
    });
    let strange = run(&["healthcheck", "-c", at_other.path().to_str().unwrap()]);
    stranger.join().unwrap();
    assert_eq!(strange.code, Some(1), "{strange:?}");
    assert!(strange.stderr.contains("another program listens there"), "{strange:?}");

    // A provider whose keys can't be had: up, and not ready.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    file.write(&format!(
        "{text}providers: {{ sso: {{ type: oidc, issuer: \"http://{nobody}\", audiences: [a] }} }}\n"
    ));
    let process = Process::serve(&file.path());
    process.address("admin port");
    let waiting = run(&check);
    assert_eq!(waiting.code, Some(1), "{waiting:?}");
    assert!(waiting.stdout.contains("provider `sso` has no keys yet"), "{waiting:?}");

    file.write("admin: { address: off }\nroutes: [{ match: { path: /a }, auth: none, respond: { status: 204 } }]\n");
    let off = run(&check);
    assert_eq!(off.code, Some(1));
    assert!(off.stderr.contains("no admin port"), "{off:?}");
}
