//! Whole routes files: good ones give no problem, bad ones the text beside them in
//! `tests/data/config/bad/`, which is the operator's interface. After a change run
//! `INSTA_UPDATE=always cargo test --lib config` and read what changed as an operator would.

use std::collections::BTreeSet;
use std::fmt::Write;

use proptest::prelude::*;

use super::file::{Auth, Provider, TokenSource};
use super::*;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/config");

/// Written as a literal secret in bad files; must never be printed.
const LITERAL_SECRET: &str = "hunter2-never-printed";

fn environment() -> Environment {
    let variables = [
        ("TENANT", "11111111-2222-3333-4444-555555555555"),
        ("SECRET", "outside-never-printed"),
        ("PORT", "8080"),
        ("LIMIT", "100"),
        ("EMPTY", ""),
        ("YAML", "a\nlisteners: [evil]"),
        ("YES", "true"),
        ("WAIT", "30s"),
    ];
    Environment::of(variables, DATA)
}

fn files(folder: &str) -> BTreeSet<PathBuf> {
    let files = fs::read_dir(Path::new(DATA).join(folder)).unwrap();
    let files = files.map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|it| it == "yaml")).collect()
}

fn read_text(text: &str) -> Reading {
    read(text, "routes.yaml", &environment())
}

/// A file with one route whose text is `route`, indented by four.
fn with_route(route: &str) -> String {
    format!("routes:\n  - match: {{ path: / }}\n    respond: {{ status: 204 }}\n{route}\n")
}

#[test]
fn good_files_are_read_whole() {
    let files = files("ok");
    assert!(files.len() >= 3, "{files:?}");
    for path in files {
        let reading = read_text(&fs::read_to_string(&path).unwrap());
        assert!(reading.problems.is_empty(), "{}\n{}", path.display(), reading.problems);
        assert!(reading.file.is_some());
    }
}

#[test]
fn bad_files_are_explained() {
    let files = files("bad");
    assert!(files.len() >= 75, "{}", files.len());
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(Path::new(DATA).join("bad"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for path in files {
            let reading = read_text(&fs::read_to_string(&path).unwrap());
            let shown = reading.problems.to_string().replace(DATA, "DATA");
            assert!(reading.problems.refuse(), "{}", path.display());
            assert_can_be_mended(&path, &reading.problems);
            for secret in [LITERAL_SECRET, "outside-never-printed"] {
                assert!(!shown.contains(secret), "{}\n{shown}", path.display());
            }
            insta::assert_snapshot!(path.file_stem().unwrap().to_str().unwrap(), shown);
        }
    });
}

/// Whoever meets a problem knows where it is and what to do about it.
pub(in super::super) fn assert_can_be_mended(path: &Path, problems: &Problems) {
    for problem in problems.sorted() {
        let place = problem.place.unwrap_or_default();
        let is_known = place.line > 0 && place.column > 0;
        assert!(is_known, "{}: no line and column: {problem:?}", path.display());
        let hint = problem.hint.as_deref().unwrap_or_default();
        assert!(hint.len() > 8, "{}: no hint: {problem:?}", path.display());
    }
}

#[test]
fn every_key_of_the_contract_is_known() {
    let text = fs::read_to_string(Path::new(DATA).join("bad/contract-keys.yaml")).unwrap();
    let shown = read_text(&text).problems.to_string();
    for word in ["unknown key", "can't be", " takes ", " has no ", "not supported"] {
        assert!(!shown.contains(word), "{word}: {shown}");
    }
}

#[test]
fn what_is_left_of_a_bad_file_can_be_checked_further() {
    let reading = read_text(
        "upstreams:\n  a: { url: https://a.example }\n  b: { ulr: https://b.example }\n\
         routes:\n  - match: { path: /a }\n    auth: any\n    upstream: a\n  - match: { path: /b }\n    upstream: b\n",
    );
    assert_eq!(reading.upstream_names, ["a", "b"]);
    let file = reading.file.unwrap();
    assert_eq!(file.upstreams.names().collect::<Vec<_>>(), ["a"]);
    assert_eq!(file.routes.0.len(), 1);
    assert!(reading.problems.refuse());
}

#[test]
fn values_know_their_places_and_where_they_came_from() {
    let reading = read_text(
        "admin:\n  token: ${SECRET}\nproviders:\n  entra:\n    type: entra\n    tenant: ${TENANT}\n    \
         client_id: literal\n    credential: { client_secret: literal }\nroutes:\n  - match: { path: / }\n    \
         auth: any\n    respond: { status: 204 }\n",
    );
    let file = reading.file.unwrap();
    let token = file.admin.token.unwrap();
    assert_eq!(token.place, Place { line: 2, column: 10, length: 9 });
    assert_eq!(token.key, Some(Place { line: 2, column: 3, length: 5 }));
    assert!(token.from_outside);
    assert_eq!(token.expose(), "outside-never-printed");
    let (name, provider) = &file.providers.0[0];
    assert_eq!(name.place, Place { line: 4, column: 3, length: 5 });
    let Provider::Entra(entra) = &provider.value else { panic!("{provider:?}") };
    assert!(entra.tenant.from_outside);
    let credential = entra.credential.as_ref().unwrap();
    let file::EntraCredential::ClientSecret(secret) = &credential.value else { panic!() };
    assert!(!secret.from_outside);
    assert_eq!(secret.place.line, 8);
    assert!(!format!("{entra:?}").contains("literal\", place: Place { line: 8"));
}

#[test]
fn replaced_values_are_values_of_any_form_and_never_yaml() {
    let reading = read_text(&with_route(
        "    auth: any\n    name: ${YAML}\n    timeout: ${WAIT}\nserver: { max_connections: \"${LIMIT}\" }\n\
         telemetry: { access_log: \"${YES}\" }\nlisteners: [{ address: \"127.0.0.1:${PORT}\" }]",
    ));
    assert!(reading.problems.is_empty(), "{}", reading.problems);
    let file = reading.file.unwrap();
    assert_eq!(&*file.routes.0[0].name.as_ref().unwrap().0, "a\nlisteners: [evil]");
    assert_eq!(file.server.max_connections.0.get(), 100);
    assert_eq!(file.listeners.unwrap().0[0].address.value.0.port(), 8080);
}

#[test]
fn files_that_were_read_are_known() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("key"), "k\n").unwrap();
    let environment = Environment::of([("", ""); 0], folder.path());
    let text = "upstreams: { a: { url: https://a.example, token: { header: { name: x, value: \"${file:key}\" } } } }\n\
                routes: [{ match: { path: / }, auth: none, upstream: a }]";
    let reading = read(text, "routes.yaml", &environment);
    assert!(reading.problems.is_empty(), "{}", reading.problems);
    assert_eq!(reading.files_read, [PathBuf::from("key")]);
    let file = reading.file.unwrap();
    let token = file.upstreams.find("a").unwrap().token.as_ref().unwrap();
    let TokenSource::Header(header) = &token.value else { panic!("{token:?}") };
    assert_eq!(header.value.expose(), "k");
}

/// Texts that YAML 1.1 or a parser with types would turn into something else.
#[test]
fn text_counts_as_written() {
    for text in
        ["NO", "0777", "1e3", "1_000", "12:30:45", "0x1F", "true", "2001-01-01", "3.0", "=", ".inf"]
    {
        let reading = read_text(&with_route(&format!(
            "    name: {text}\n    auth: {{ claims: {{ a: {text} }} }}"
        )));
        assert!(reading.problems.is_empty(), "{text}: {}", reading.problems);
        let file = reading.file.unwrap();
        let route = &file.routes.0[0];
        assert_eq!(&*route.name.as_ref().unwrap().0, text);
        let Auth::Rules(rules) = &route.auth.value else { panic!("{:?}", route.auth) };
        assert_eq!(rules.claims.as_ref().unwrap().find("a").unwrap().0[0].0, text);
    }
}

#[test]
fn forms_of_yaml_that_are_fine() {
    let plain = with_route("    auth: any");
    for text in [
        format!("\u{feff}{plain}"),
        plain.replace('\n', "\r\n"),
        format!("---\n{plain}...\n"),
        format!("# a comment\n{plain}# and another"),
        with_route("    auth: !!str any"),
        with_route("    name: &name text\n    auth: any\n    response_headers: { set: { x: *name } }"),
        "{\"routes\": [{\"match\": {\"path\": \"/\"}, \"auth\": \"any\", \"respond\": {\"status\": 204}}]}".to_owned(),
    ] {
        let reading = read_text(&text);
        assert!(reading.problems.is_empty(), "{text}\n{}", reading.problems);
        assert_eq!(reading.file.unwrap().routes.0.len(), 1);
    }
}

#[test]
fn bombs_are_refused_quickly() {
    let mut aliases = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..40 {
        let below = vec![format!("*a{}", level - 1); 10].join(", ");
        writeln!(aliases, "a{level}: &a{level} [{below}]").unwrap();
    }
    for text in [
        aliases,
        "[".repeat(100_000),
        "- ".repeat(100_000),
        "{a: ".repeat(100_000),
        "? ".repeat(10_000),
    ] {
        let reading = read_text(&text);
        assert!(reading.problems.refuse() && reading.file.is_none());
    }
    // Anchors that are never used are no bomb, nor is a long list.
    let many = format!(
        "routes:\n{}",
        "  - { match: { path: /x }, auth: any, respond: { status: 204 } }\n".repeat(2000)
    );
    assert!(read_text(&many).problems.is_empty());
}

#[test]
fn many_mistakes_are_cut_off() {
    let reading = read_text(&format!("routes:\n{}", "  - { path: /x }\n".repeat(5000)));
    let shown = reading.problems.to_string();
    assert!(shown.ends_with("there may be more; only 100 are shown\n"), "{shown}");
}

#[test]
fn a_file_that_is_not_there_says_how_to_name_one() {
    let problems = Source::open(Path::new("/nonexistent/routes.yaml")).err().unwrap().to_string();
    assert!(problems.starts_with("/nonexistent/routes.yaml: error: can't read"), "{problems}");
    assert!(problems.contains("--config FILE"), "{problems}");
}

#[test]
fn a_file_is_read_with_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.yaml");
    fs::write(&path, "a: \u{e4}\n").unwrap();
    let source = Source::open(&path).unwrap();
    assert_eq!((source.text.as_str(), source.base.as_path()), ("a: \u{e4}\n", folder.path()));
    fs::write(&path, b"a: 1\nb: \xff\n").unwrap();
    let problems = Source::open(&path).err().unwrap().to_string();
    assert!(problems.contains("r.yaml:2:1: error: this line is not UTF-8"), "{problems}");
    assert!(Source::open(folder.path()).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,200}") {
        let _shown = read_text(&text).problems.to_string();
    }

    #[test]
    fn no_yaml_makes_the_reader_panic(text in "[-a-c:{}\\[\\],&*!|>'\"%@$ \\t\n?#~.<]{0,120}") {
        let _shown = read_text(&text).problems.to_string();
    }

    /// A good file with a piece cut out or put in: read, or refused with a place that exists.
    #[test]
    fn no_mutation_makes_the_reader_panic(at in 0..3000_usize, cut in 0..40_usize, piece in "[-a-z:{}\\[\\]\"'$&*!| \n\t]{0,6}") {
        let whole = fs::read_to_string(Path::new(DATA).join("ok/everything.yaml")).unwrap();
        let characters: Vec<_> = whole.chars().collect();
        let at = at.min(characters.len());
        let mutated: String = characters[..at].iter().copied().chain(piece.chars())
            .chain(characters[(at + cut).min(characters.len())..].iter().copied()).collect();
        let reading = read_text(&mutated);
        prop_assert!(reading.file.is_some() || reading.problems.refuse());
        let shown = reading.problems.to_string();
        prop_assert!(!shown.contains("outside-never-printed"));
        for problem in reading.problems.sorted() {
            let lines = u32::try_from(mutated.split('\n').count()).unwrap();
            prop_assert!(problem.place.is_none_or(|it| it.line >= 1 && it.line <= lines + 1), "{problem:?}");
        }
    }
}
