//! `routes`, `schema` and `man`: what is said of the routes file and of the program itself.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::process::{run, run_with_input};

/// A route of each kind that deserves a second look, and one that does not.
const ROUTES: &str = "\
providers:
  sso: { type: oidc, issuer: https://sso.example, audiences: [api], jwks_file: KEYS, client_id: gw, credential: { client_secret: \"${file:SECRET}\" } }
upstreams:
  plain: { url: https://plain.example }
  swapped: { url: https://swapped.example, token: { on_behalf_of: { audience: swapped } } }
  own: { url: https://own.example, token: { client_credentials: { scopes: [all] } } }
routes:
  - { name: z-usual, match: { path: \"/usual/{*rest}\", methods: [GET, POST] }, auth: { scopes: [read], roles: [Admin] }, upstream: swapped }
  - { name: open, match: { path: /open }, auth: none, respond: { status: 204 } }
  - { name: any, match: { path: /any }, auth: any, upstream: swapped }
  - { name: through, match: { path: /through }, auth: { scopes: [read] }, upstream: plain, token: { passthrough: true } }
  - { name: own, match: { path: /own }, auth: { scopes: [read] }, upstream: own }
  - { name: apps, match: { path: /apps }, auth: { scopes: [read] }, upstream: plain, token: { on_behalf_of: { audience: a, app_callers: client_credentials } } }
  - { name: slashes, match: { path: /slashes }, auth: { scopes: [read] }, upstream: swapped, encoded_slashes: keep }
  - { name: outlives, match: { path: /outlives }, auth: { scopes: [read] }, upstream: swapped, outlive_token: true, upgrades: [websocket, tcp] }
  - { name: cookies, match: { path: /cookies }, auth: { scopes: [read] }, upstream: swapped, cors: { origins: [https://app.example], credentials: true } }
  - { name: pages, match: { path: /pages }, auth: { scopes: [read] }, upstream: swapped, cors: { origins: [\"*\"] } }
";

const KEYS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

/// The outline in `format` of the file, whose keys and secret are files.
fn outline(format: &str, text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let keys = write("keys.json", KEYS);
    let secret = write("secret", "hunter2-never-printed");
    let text = text.replace("KEYS", &keys).replace("SECRET", &secret);
    let ended = run_with_input(&["routes", "-c", "-", "--format", format], &text);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!format!("{ended:?}").contains("hunter2"), "{ended:?}");
    ended.stdout
}

#[test]
fn the_table_marks_open_and_unusual_routes() {
    let table = outline("text", ROUTES);
    let lines: Vec<_> = table.lines().collect();
    let of = |name: &str| {
        let at = lines
            .iter()
            .position(|line| !line.starts_with("        ") && line.contains(&format!(" {name} ")))
            .unwrap();
        let notes = lines[at + 1..]
            .iter()
            .take_while(|line| line.starts_with("  ") && line.trim_start().starts_with("! "));
        let notes: Vec<_> = notes.map(|line| line.trim().trim_start_matches("! ")).collect();
        (lines[at], notes)
    };
    assert!(lines[0].trim_start().starts_with("ROUTE "), "{table}");
    let (usual, notes) = of("z-usual");
    assert!(notes.is_empty() && !usual.contains('!'), "{table}");
    for part in [
        "GET,POST /usual/{*rest}",
        "scope read or role Admin of sso",
        "swapped",
        "on behalf of the caller: swapped",
    ] {
        assert!(usual.contains(part), "{part}: {usual}");
    }
    for (name, mark, expected) in [
        ("open", "open", vec!["open: everybody may call it"]),
        ("any", "!", vec!["any valid token will do"]),
        ("through", "!", vec!["the upstream gets the caller's own token"]),
        ("own", "!", vec!["callers use the gateway's own credential"]),
        ("apps", "!", vec!["applications get the gateway's own permissions"]),
        ("slashes", "!", vec!["encoded slashes are kept"]),
        (
            "outlives",
            "!",
            vec![
                "streams go on when the token has expired",
                "connections become other protocols, unread",
            ],
        ),
        ("cookies", "!", vec!["pages may send cookies and client certificates"]),
        ("pages", "!", vec!["pages of all origins may call it"]),
    ] {
        let (line, notes) = of(name);
        assert!(line.starts_with(mark), "{name}: {table}");
        assert_eq!(notes, expected, "{name}: {table}");
    }
    assert!(table.ends_with("\n10 routes: 1 open, 9 marked\n"), "{table}");
}

/// What is kept under review changes with what callers meet, and with nothing else.
#[test]
fn the_document_is_stable() {
    let document = outline("json", ROUTES);
    let moved = ROUTES.replace("routes:\n", "# a comment\n\nroutes:\n");
    assert_eq!(document, outline("json", &moved));
    let (head, routes) = ROUTES.split_once("routes:\n").unwrap();
    let mut lines: Vec<_> = routes.lines().collect();
    lines.reverse();
    assert_eq!(document, outline("json", &format!("{head}routes:\n{}\n", lines.join("\n"))));
    let value: Value = serde_json::from_str(&document).unwrap();
    let names: Vec<_> =
        value["routes"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert!(names.is_sorted() && names.len() == 10, "{names:?}");
    assert_eq!(value["routes"][8]["unusual"][0], "the upstream gets the caller's own token");
    assert_eq!(value["routes"][9]["unusual"], serde_json::json!([]));
    assert!(value["routes"][0].get("line").is_none());
}

#[test]
fn a_file_that_is_refused_has_no_table() {
    let ended = run_with_input(&["routes", "-c", "-"], "routes: []\n");
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
    assert!(ended.stderr.contains("hint: "), "{ended:?}");
}

#[test]
fn the_schema_is_the_shipped_one() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/");
    for (format, path) in
        [("json", "routes.schema.json"), ("markdown", "docs/src/reference/routes-file.md")]
    {
        let ended = run(&["schema", "--format", format]);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{format}");
        assert!(
            ended.stdout == std::fs::read_to_string(format!("{root}{path}")).unwrap(),
            "{path}"
        );
    }
    assert_eq!(run(&["schema"]).stdout, run(&["schema", "--format", "json"]).stdout);
}

/// The page has every command and option that `--help` knows, and what it has no room for.
#[test]
fn the_manual_page_is_whole() {
    let ended = run(&["man"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let page = ended.stdout.replace("\\-", "-").replace("\\ ", " ");
    let help = run(&["--help"]).stdout;
    let (_, commands) = help.split_once("Commands:\n").unwrap();
    let (commands, _) = commands.split_once("\n\n").unwrap();
    let commands: Vec<_> = commands
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(commands.len() >= 9, "{commands:?}");
    for command in commands {
        assert!(page.contains(&format!(".SS \"obo-gateway {command}")), "{command}: {page}");
        let help = run(&[command, "--help"]).stdout;
        for option in
            help.split_whitespace().filter(|word| word.starts_with("--") && word.len() > 3)
        {
            let option = option.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '-');
            assert!(page.contains(option), "{command} {option}");
        }
    }
    for word in [
        "OBO_GATEWAY_CONFIG",
        "OBO_GATEWAY_LOG",
        "AZURE_TENANT_ID",
        "EXIT STATUS",
        "SIGHUP",
        "routes.yaml",
    ] {
        assert!(page.contains(word), "{word}");
    }
}

/// Where groff is, it has nothing to say against the page.
#[test]
fn the_manual_page_is_good_roff() {
    let page = run(&["man"]).stdout;
    for line in page.lines().filter(|line| line.starts_with('.')) {
        let request = line.trim_start_matches('.').split_whitespace().next().unwrap_or_default();
        let known = ["TH", "SH", "SS", "TP", "RS", "RE", "IP", "br", "ie", "el", "ds", "PP"];
        assert!(known.contains(&request), "{line}");
    }
    let mut groff = Command::new("groff");
    groff.args(["-man", "-Tutf8", "-ww", "-z"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut groff) = groff.spawn() else { return };
    groff.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = groff.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
