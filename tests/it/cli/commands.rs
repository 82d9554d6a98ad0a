//! Commands that end by themselves: exit codes, and what goes to which output.

use std::fs;

use super::process::{Process, program, run, run_with_input};

const GOOD: &str = "\
listeners: [{ address: \"127.0.0.1:0\" }]
admin: { address: off }
routes:
  - { match: { path: /a }, auth: none, respond: { status: 204 } }
";

/// Two problems of form and one of meaning, and the warning of a secret.
const BAD: &str = "\
admin: { token: hunter2-never-printed }
routes:
  - { match: { path: /a }, auth: none, upstream: grpah }
  - { match: { path: /b }, respond: { status: 204 } }
upstreams: { graph: { url: https://graph.example } }
cache: { max_entires: 5 }
";

#[test]
fn check_says_what_is_good_on_stdout() {
    let checked = run_with_input(&["check", "-c", "-"], GOOD);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert_eq!(checked.stdout, "<stdin>: good: 1 route, 0 upstreams, 0 providers, 1 listener\n");
    assert_eq!(checked.stderr, "");
}

#[test]
fn check_says_all_problems_by_place_on_stderr() {
    let checked = run_with_input(&["-c", "-", "check"], BAD);
    assert_eq!((checked.code, checked.stdout.as_str()), (Some(1), ""), "{checked:?}");
    let heads: Vec<_> =
        checked.stderr.lines().filter(|line| line.starts_with("<stdin>:")).collect();
    let expected = [
        "<stdin>:1:17: warning: `admin.token` is written in the file",
        "<stdin>:3:50: error: unknown upstream `grpah`",
        "<stdin>:4:5: error: an element of `routes` has no `auth`",
        "<stdin>:6:10: error: unknown key `max_entires`",
    ];
    assert_eq!(heads, expected, "{}", checked.stderr);
    assert!(!checked.stderr.contains("hunter2"), "{}", checked.stderr);
}

#[test]
fn check_prints_warnings_and_is_content() {
    let text = format!("upstreams: {{ unused: {{ url: https://a.example }} }}\n{GOOD}");
    let checked = run_with_input(&["check", "-c", "-"], &text);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.stderr.contains("warning: no route uses upstream `unused`"), "{checked:?}");
    assert!(checked.stdout.contains("good: 1 route, 1 upstream"), "{checked:?}");
}

#[test]
fn the_file_is_named_by_option_or_environment() {
    let folder = tempfile::tempdir().unwrap();
    let (good, bad) = (folder.path().join("good.yaml"), folder.path().join("bad.yaml"));
    fs::write(&good, GOOD).unwrap();
    fs::write(&bad, BAD).unwrap();
    let with_environment = |arguments: &[&str]| {
        let mut command = program(arguments);
        command.env("OBO_GATEWAY_CONFIG", &good).current_dir(folder.path());
        Process::start(command).ended().code
    };
    assert_eq!(with_environment(&["check"]), Some(0));
    // The option wins.
    assert_eq!(with_environment(&["check", "--config", bad.to_str().unwrap()]), Some(1));
    // Without either it is `routes.yaml` here.
    fs::copy(&good, folder.path().join("routes.yaml")).unwrap();
    let mut command = program(&["check"]);
    command.current_dir(folder.path());
    let checked = Process::start(command).ended();
    assert!(checked.stdout.starts_with("routes.yaml: good"), "{checked:?}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    for command in ["check", "run", "healthcheck"] {
        let ended = run(&[command, "-c", "/nonexistent/routes.yaml"]);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
        let expected = "/nonexistent/routes.yaml: error: can't read the routes file";
        assert!(ended.stderr.starts_with(expected), "{ended:?}");
    }
}

#[test]
fn wrong_usage_is_2() {
    for arguments in [
        &["frobnicate"][..],
        &["run", "--frobnicate"],
        &["check", "--log-format", "xml"],
        &["check", "--log-level", "a=b=c"],
        &["completions", "tcsh"],
        &["demo", "--port-base", "x"],
        &["demo", "--tls"],
        &["dev-idp", "--ca-file", "x"],
        &["dev-idp", "--address", "nowhere"],
    ] {
        let ended = run(arguments);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{arguments:?} {ended:?}");
        assert!(ended.stderr.starts_with("error: "), "{ended:?}");
    }
    let mut command = program(&["check"]);
    command.env("OBO_GATEWAY_LOG", "a=b=c");
    assert_eq!(Process::start(command).ended().code, Some(2));
}

#[test]
fn odd_arguments_move_no_cursor_and_give_no_password_away() {
    for (arguments, code, shown) in [
        (&["explain", "GET", "/a\u{1b}[2J"][..], 2, "error: `/a\\u{1b}[2J` is not a URL"),
        (&["explain", "G\u{202e}T", "/a"], 2, "error: `G\\u{202e}T` is not a method"),
        (&["check", "-c", "no\u{1b}[2J\u{2028}.yaml"], 1, "no\\u{1b}[2J\\u{2028}.yaml: error: "),
        (&["check", "-c", ""], 2, "error: `--config` (or `OBO_GATEWAY_CONFIG`) is empty"),
        (&["explain", "GET", "https://a:hunter2@b.example/"], 2, "error: the URL has a name or a"),
    ] {
        let ended = run(arguments);
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (Some(code), ""),
            "{arguments:?} {ended:?}"
        );
        assert!(ended.stderr.starts_with(shown), "{ended:?}");
        assert!(!ended.stderr.contains(['\u{1b}', '\u{202e}', '\u{2028}']), "{ended:?}");
        assert!(!ended.stderr.contains("hunter2"), "{ended:?}");
    }
    // What a container leaves empty is heeded by no command that reads no file.
    for (arguments, code) in [(&["check"][..], 2), (&["schema"], 0)] {
        let mut command = program(arguments);
        command.env("OBO_GATEWAY_CONFIG", "");
        let ended = Process::start(command).ended();
        assert_eq!(ended.code, Some(code), "{arguments:?} {ended:?}");
    }
}

#[test]
fn an_admin_port_that_is_chosen_at_each_start_can_not_be_asked() {
    let text = GOOD.replace("address: off", "address: \"127.0.0.1:0\"");
    let ended = run_with_input(&["healthcheck", "-c", "-"], &text);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
    assert!(ended.stderr.contains("`admin.address` has port 0"), "{ended:?}");
}

#[test]
fn help_and_version_go_to_stdout() {
    let version = run(&["--version"]);
    let (number, build) = version.stdout.trim_end().rsplit_once(" (").unwrap();
    assert_eq!(
        (version.code, number),
        (Some(0), concat!("obo-gateway ", env!("CARGO_PKG_VERSION")))
    );
    // Of a checkout the commit and its day; of a tarball that nobody was told the commit of, neither.
    let build = build.strip_suffix(')').unwrap();
    let (commit, day) = build.split_once(' ').unwrap_or((build, ""));
    let is_commit = commit.len() == 7 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(is_commit || commit == "unknown", "{build}");
    assert!(day.is_empty() || day.len() == 10 && day.starts_with("20"), "{build}");
    let help = run(&["--help"]);
    assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""));
    for word in [
        "run",
        "check",
        "routes",
        "demo",
        "dev-idp",
        "healthcheck",
        "schema",
        "man",
        "completions",
        "--config",
    ] {
        assert!(help.stdout.contains(word), "{word}: {}", help.stdout);
    }
}

#[test]
fn completions_are_there_for_all_shells() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ended = run(&["completions", shell]);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{shell}");
        assert!(ended.stdout.contains("healthcheck"), "{shell}");
    }
}

#[test]
fn the_development_provider_binds_loopback_only() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let ended = run(&["dev-idp", "--address", address]);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
        assert!(ended.stderr.contains("is not a loopback address"), "{ended:?}");
    }
}

#[test]
fn a_result_that_finds_no_room_is_a_failure() {
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    for command in [&["schema"][..], &["man"], &["completions", "bash"]] {
        let ended = program(command).stdout(full.try_clone().unwrap()).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(1), "{command:?}: {said}");
        assert!(said.contains("error: the result can't be written to stdout"), "{said}");
    }
}
