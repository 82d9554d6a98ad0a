//! The real program as systemd starts it: what it tells, and the sockets that it takes.

use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::cli::process::{Process, get, program};

const FILE: &str = "admin: { address: \"127.0.0.1:0\" }\nroutes: [{ match: { path: /a }, auth: none, respond: { status: 200, body: one } }]\n";

/// A routes file with one listener at `address`.
fn file(folder: &Path, address: &str) -> String {
    let path = folder.join("routes.yaml");
    std::fs::write(&path, format!("listeners: [{{ address: \"{address}\" }}]\n{FILE}")).unwrap();
    path.to_str().unwrap().to_owned()
}

fn heard(supervisor: &UnixDatagram) -> String {
    let mut message = [0; 1024];
    supervisor.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    let length = supervisor.recv(&mut message).unwrap();
    String::from_utf8(message[..length].to_vec()).unwrap()
}

/// The program behind `socket`, passed in as systemd does it.
fn with_socket(arguments: &[&str], socket: OwnedFd) -> Command {
    let inner = program(arguments);
    let mut command = Command::new("sh");
    // `$$` is the process that the program then is.
    command.args([
        "-c",
        "export LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDNAMES=web; exec \"$0\" \"$@\" 3<&0 </dev/null",
    ]);
    command.arg(inner.get_program()).args(inner.get_args());
    command.stdin(Stdio::from(socket));
    command
}

#[test]
fn it_hears_of_the_start_of_reloads_and_of_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let name = format!("obo-gateway-test-{}", std::process::id());
    let unnamed = SocketAddr::from_abstract_name(&name).unwrap();
    for (supervisor, at) in [
        (UnixDatagram::bind(&path).unwrap(), path.to_str().unwrap().to_owned()),
        (UnixDatagram::bind_addr(&unnamed).unwrap(), format!("@{name}")),
    ] {
        let file = file(folder.path(), "127.0.0.1:0");
        let mut command = program(&["run", "-c", &file]);
        command.env("NOTIFY_SOCKET", &at);
        let process = Process::start(command);
        let ready = heard(&supervisor);
        // By then it serves.
        let address = process.address("listening");
        assert!(get(address, "/a").ends_with("one"));
        assert_eq!(ready, format!("READY=1\nSTATUS=serving at {address}"));

        process.signal("HUP");
        let reloading = heard(&supervisor);
        let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(time.parse::<u64>().unwrap() > 0);
        assert!(heard(&supervisor).starts_with("READY=1\nSTATUS=serving at"));
        std::fs::write(&file, "routes: [").unwrap();
        process.signal("HUP");
        assert!(heard(&supervisor).starts_with("RELOADING=1\n"));
        let refused = heard(&supervisor);
        assert!(refused.starts_with("READY=1\nSTATUS=the routes file was refused"), "{refused}");

        process.signal("TERM");
        // A look at the files may have come between.
        let mut end = heard(&supervisor);
        while !end.starts_with("STOPPING=1\n") {
            end = heard(&supervisor);
        }
        assert_eq!(process.ended().code, Some(0));
    }
}

#[test]
fn a_watchdog_hears_that_it_lives() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let supervisor = UnixDatagram::bind(&path).unwrap();
    let mut command = program(&["run", "-c", &file(folder.path(), "127.0.0.1:0")]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "100000");
    let process = Process::start(command);
    assert!(heard(&supervisor).starts_with("READY=1"));
    for _ in 0..3 {
        assert_eq!(heard(&supervisor), "WATCHDOG=1");
    }
    process.signal("KILL");
}

#[test]
fn nobody_at_the_other_end_is_warned_of_and_callers_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = folder.path().join("nobody");
    let mut command = program(&["run", "-c", &file(folder.path(), "127.0.0.1:0")]);
    command.env("NOTIFY_SOCKET", &nobody);
    let process = Process::start(command);
    let line = process.log_line("and nobody can be told there");
    assert!(line.contains("\"warn\"") || line.contains("WARN"), "{line}");
    assert!(line.contains(nobody.to_str().unwrap()), "{line}");
    assert!(get(process.address("listening"), "/a").ends_with("one"));
    process.signal("TERM");
    let ended = process.ended();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!ended.stderr.contains("the supervisor can't be told"), "said once: {ended:?}");
}

#[test]
fn more_sockets_than_anybody_passes_in_are_refused_before_they_are_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = file(folder.path(), "127.0.0.1:0");
    for (count, told) in [
        ("1024", "the socket 3 (``) that was passed in with `LISTEN_FDS` is no TCP socket"),
        ("1025", "`LISTEN_FDS` is 1025, and at most 1024 sockets can be passed in"),
        ("2147483647", "`LISTEN_FDS` is 2147483647, and at most 1024"),
    ] {
        let mut command = program(&["run", "-c", &file]);
        command.env("LISTEN_FDS", count);
        let ended = Process::start(command).ended();
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(told), "{ended:?}");
    }
    // It was meant for another process, and is nothing to us.
    let mut command = program(&["run", "-c", &file]);
    command.env("LISTEN_FDS", "2147483647").env("LISTEN_PID", "1");
    let process = Process::start(command);
    assert!(get(process.address("listening"), "/a").ends_with("one"));
    process.signal("TERM");
    assert_eq!(process.ended().code, Some(0));
}

#[test]
fn a_socket_that_is_passed_in_is_served_and_stays_over_a_reload() {
    let folder = tempfile::tempdir().unwrap();
    let passed = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = passed.local_addr().unwrap();
    let file = file(folder.path(), &address.to_string());
    // Ours stays open, as systemd's does: a second socket there could not be bound.
    let command = with_socket(&["run", "-c", &file], passed.try_clone().unwrap().into());
    let process = Process::start(command);
    process.log_line("the socket was passed in");
    assert_eq!(process.address("listening"), address);
    assert!(get(address, "/a").ends_with("one"));
    process.signal("HUP");
    process.log_line("read again and is in force");
    assert!(get(address, "/a").ends_with("one"));
    process.signal("TERM");
    assert_eq!(process.ended().code, Some(0));
}

#[test]
fn a_socket_that_no_listener_wants_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let passed = TcpListener::bind("127.0.0.1:0").unwrap();
    let path = file(folder.path(), "127.0.0.1:0");
    let process =
        Process::start(with_socket(&["run", "-c", &path], passed.try_clone().unwrap().into()));
    let line = process.log_line("a socket was passed in whose address no listener has");
    let address = passed.local_addr().unwrap().to_string();
    assert!(line.contains(&address) && line.contains("\"name\":\"web\""), "{line}");
    // A reload may want it.
    file(folder.path(), &address);
    process.signal("HUP");
    process.log_line("the socket was passed in");
    process.log_line("read again and is in force");
    assert!(get(passed.local_addr().unwrap(), "/a").ends_with("one"));
    // It goes and comes back, although we have it open all the time.
    for (at, told) in [("127.0.0.1:0", "removed"), (&*address, "added")] {
        file(folder.path(), at);
        process.signal("HUP");
        process.log_line(&format!("{told} {address}"));
    }
    assert!(get(passed.local_addr().unwrap(), "/a").ends_with("one"));
    process.signal("TERM");
    assert_eq!(process.ended().code, Some(0));
}

#[test]
fn a_socket_of_another_kind_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), "127.0.0.1:0");
    for socket in [
        OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap()),
        std::fs::File::open("/dev/null").unwrap().into(),
    ] {
        let ended = Process::start(with_socket(&["run", "-c", &path], socket)).ended();
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let told = "the socket 3 (`web`) that was passed in with `LISTEN_FDS` is no TCP socket";
        assert!(ended.stderr.contains(told), "{ended:?}");
    }
}
