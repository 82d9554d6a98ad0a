//! Whole routes files whose form is good and whose meaning is not: what is said is held by the
//! text beside each in `tests/data/config/meaning/`. After a change run
//! `INSTA_UPDATE=always cargo test --lib config` and read what changed as an operator would.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::clock::SystemClock;
use crate::config::read;
use crate::config::tests::assert_can_be_mended;
use crate::forward::{HostPort, SystemResolver};
use crate::outline::Outline;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/config/meaning");

/// What must never be printed: a secret written in the file, and one from outside.
const SECRETS: [&str; 2] = ["hunter2-never-printed", "outside-never-printed"];

/// The folder that relative paths are relative to: keys and certificates are made, not kept.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let tls = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        write("tls.crt", &tls.cert.pem());
        write("ca.pem", &tls.cert.pem());
        write("tls.key", &tls.signing_key.serialize_pem());
        write("other.key", &rcgen::KeyPair::generate().unwrap().serialize_pem());
        let encrypted = tls.signing_key.serialize_pem();
        write("encrypted.key", &encrypted.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"));
        write("empty", "");
        let mut past = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        past.not_after = rcgen::date_time_ymd(2020, 1, 1);
        let past_key = rcgen::KeyPair::generate().unwrap();
        write("past.crt", &past.self_signed(&past_key).unwrap().pem());
        write("past.key", &past_key.serialize_pem());
        write("broken.pem", "-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n");
        // PEM, and no certificate inside.
        write(
            "no-certificate.pem",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        );
        write("object.json", "{}");
        write("oct.json", r#"{"keys":[{"kty":"oct","kid":"a","k":"outside-never-printed"}]}"#);
        write(
            "keys.json",
            r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#,
        );
        write("secret", "outside-never-printed\n");
        Self(folder)
    }

    /// The file resolved, as it is at start.
    fn resolve(&self, text: &str) -> Result<(Resolved, Problems), Problems> {
        let variables = [
            ("SECRET", "outside-never-printed"),
            ("EMPTY", ""),
            ("KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd/v8="),
            ("LINES", "outside-never\n-printed"),
        ];
        let environment = Environment::of(variables, self.0.path());
        let lasting =
            Lasting::new(Arc::new(SystemClock), Metrics::default(), Arc::new(SystemResolver));
        resolve(read(text, "routes.yaml", &environment), &environment, &lasting, None)
    }

    /// The problems as printed, free of what differs between two runs.
    fn shown(&self, problems: &Problems) -> String {
        let shown = problems.to_string();
        for secret in SECRETS.iter().chain(&["outside-never", "hunter2"]) {
            assert!(!shown.contains(secret), "{shown}");
        }
        let shown = shown.replace(self.0.path().to_str().unwrap(), "FOLDER");
        let is_number = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
        let words = shown.split(' ').collect::<Vec<_>>();
        let words = words.iter().enumerate().map(|(index, word)| match words.get(index + 1) {
            Some(&"hours") if is_number(word) => "SO-MANY",
            Some(_) | None => word,
        });
        words.collect::<Vec<_>>().join(" ")
    }
}

fn files(folder: &str) -> BTreeSet<PathBuf> {
    let files = fs::read_dir(Path::new(DATA).join(folder)).unwrap();
    let files = files.map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|it| it == "yaml")).collect()
}

/// Compares with the text beside the file.
fn assert_golden(folder: &str, path: &Path, shown: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(Path::new(DATA).join(folder));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(path.file_stem().unwrap().to_str().unwrap(), shown));
}

#[test]
fn what_makes_no_sense_is_explained() {
    let folder = Folder::new();
    let files = files("bad");
    assert!(files.len() >= 40, "{}", files.len());
    for path in files {
        let resolved = folder.resolve(&fs::read_to_string(&path).unwrap());
        let Err(problems) = resolved else { panic!("{} is taken", path.display()) };
        assert_can_be_mended(&path, &problems);
        assert_golden("bad", &path, &folder.shown(&problems));
    }
}

#[test]
fn what_makes_sense_is_served_with_its_warnings() {
    let folder = Folder::new();
    for path in files("ok") {
        let resolved = folder.resolve(&fs::read_to_string(&path).unwrap());
        let (resolved, warnings) = resolved.unwrap_or_else(|problems| panic!("{problems}"));
        assert_golden("ok", &path, &folder.shown(&warnings));
        let outline = serde_json::to_string(&Outline::of(&resolved.snapshot)).unwrap();
        let written = resolved.snapshot.written.redacted().to_string();
        for secret in SECRETS {
            assert!(!outline.contains(secret), "{outline}");
            assert!(!written.contains(secret), "{written}");
        }
    }
}

#[test]
fn what_the_file_says_is_shown_without_what_is_secret() {
    let text = r#"
admin: { token: "${SECRET}" }
providers:
  sso:
    type: oidc
    issuer: https://sso.example.com
    audiences: [orders]
    client_id: gateway
    credential: { client_secret: &again hunter2-never-printed }
    jwks_file: keys.json
upstreams:
  u: { url: "http://127.0.0.1:1", token: { header: { name: x-key, value: hunter2-never-printed } } }
  v: { url: "http://127.0.0.1:2", token: { on_behalf_of: { scopes: [read] } } }
routes:
  - match: { path: "/a/{*rest}", hosts: ["*.example.com"], methods: [GET], query: { sig: hunter2-never-printed-either } }
    auth: none
    upstream: u
    rewrite: { strip_prefix: /a }
    request_headers: { set: { x-team: "${SECRET}", x-note: "it is hunter2-never-printed", x-alias: *again, x-vendor: hunter2-never-printed-again } }
  - { name: b, match: { path: "/b/{id}" }, auth: { scopes: [read] }, upstream: v, rewrite: { path: "/x/{id}" } }
"#;
    let folder = Folder::new();
    let (resolved, _) = folder.resolve(text).unwrap_or_else(|problems| panic!("{problems}"));
    let shown = serde_json::json!({
        "outline": Outline::of(&resolved.snapshot),
        "written": resolved.snapshot.written.redacted(),
    });
    let shown = serde_json::to_string_pretty(&shown).unwrap();
    for secret in SECRETS {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert_golden("ok", Path::new("outline"), &shown);
}

#[test]
fn a_reload_knows_what_changed_secrets_too() {
    let folder = Folder::new();
    let written = |secret: &str, routes: &str| {
        let text = format!(
            "listeners: [{{ address: \"127.0.0.1:1\" }}]\nupstreams:\n  u: {{ url: \"http://127.0.0.1:1\", \
             token: {{ header: {{ name: x-key, value: {secret} }} }} }}\nroutes:\n{routes}"
        );
        let (resolved, _) = folder.resolve(&text).unwrap_or_else(|problems| panic!("{problems}"));
        resolved.snapshot.written
    };
    let a = "  - { match: { path: /a }, auth: none, upstream: u }\n";
    let b = "  - { match: { path: /b }, auth: none, upstream: u }\n";
    let before = written("hunter2-never-printed", a);
    let after = written("hunter2-never-printed-too", &format!("{b}{a}"));
    let changes = after.changes_since(&before);
    assert_eq!(changes.to_string(), "upstreams: changed u; routes: added b");
}

/// Where each preset leads in each cloud, and for which scope; the facts are Microsoft's.
#[test]
fn presets_lead_to_the_services_of_the_providers_cloud() {
    use std::fmt::Write;

    let folder = Folder::new();
    let mut shown = String::new();
    for tenant in [
        "tenant: 11111111-2222-3333-4444-555555555555",
        "tenant: organizations, allowed_tenants: [11111111-2222-3333-4444-555555555555]",
    ] {
        for cloud in ["public", "usgov", "china"] {
            for preset in ["graph", "arm"] {
                let text = format!(
                    "providers:\n  sso: {{ type: oidc, issuer: https://sso.example.com, audiences: [a], jwks_file: keys.json }}\n  \
                     entra: {{ type: entra, {tenant}, cloud: {cloud}, client_id: g, credential: {{ client_secret: \"${{SECRET}}\" }} }}\n\
                     upstreams:\n  u: {{ preset: {preset} }}\n\
                     routes:\n  - {{ match: {{ path: / }}, auth: {{ providers: [entra] }}, upstream: u }}\n"
                );
                let (resolved, warnings) =
                    folder.resolve(&text).unwrap_or_else(|problems| panic!("{problems}"));
                assert!(warnings.is_empty(), "{warnings}");
                let upstream = resolved.snapshot.upstreams.first().unwrap().settings();
                let scheme = if upstream.tls { "https" } else { "http" };
                let plans = format!("{:?}", resolved.snapshot.routes);
                let scope = plans.split('"').find(|text| text.ends_with("/.default")).unwrap();
                let HostPort { host, port } = upstream.places.first().unwrap();
                let base = &upstream.base_path;
                writeln!(shown, "{cloud} {preset}: {scheme}://{host}:{port}{base} scope {scope}")
                    .unwrap();
            }
        }
    }
    assert_golden("ok", Path::new("presets"), &shown);
}

#[test]
fn a_preset_turns_on_links_and_a_key_beside_it_decides() {
    let folder = Folder::new();
    for (keys, replaced) in [
        ("preset: graph", true),
        ("preset: arm, url: \"http://127.0.0.1:1\"", true),
        ("preset: graph, rewrite_links: false", false),
        ("url: \"http://127.0.0.1:1\"", false),
        ("url: \"http://127.0.0.1:1\", rewrite_links: true", true),
        ("url: \"http://127.0.0.1:1\", rewrite_links: false", false),
    ] {
        let text = format!(
            "upstreams:\n  u: {{ {keys}, token: {{ none: true }} }}\n\
             routes:\n  - {{ match: {{ path: / }}, auth: none, upstream: u }}\n"
        );
        let resolved = folder.resolve(&text);
        let (resolved, _) = resolved.unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(resolved.snapshot.links.is_some(), replaced, "{keys}");
    }
}
