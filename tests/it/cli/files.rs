//! Routes files that users are given, in `examples/`, as `routes.yaml`, in README.md and in the book: each is
//! good, and those of `examples/` without a warning, with the environment that it asks for.

use std::fs;
use std::path::{Path, PathBuf};

use super::process::{Ended, Process, program};
use crate::support::client_auth::Pair;

/// What the files take from the environment, and nothing else of ours.
const VARIABLES: [(&str, &str); 18] = [
    ("AZURE_TENANT_ID", "11111111-2222-3333-4444-555555555555"),
    ("AZURE_CLIENT_ID", "66666666-7777-8888-9999-000000000000"),
    ("AZURE_CLIENT_SECRET", "example-secret"),
    ("CLIENT_SECRET", "example-secret"),
    ("ADMIN_TOKEN", "example-admin-token"),
    ("LEGACY_API_KEY", "example-key"),
    ("API_KEY", "example-key"),
    ("OWN_TENANT_ID", "11111111-2222-3333-4444-555555555555"),
    ("CUSTOMER_TENANT_ID", "aaaaaaaa-2222-3333-4444-555555555555"),
    ("AZURE_FEDERATED_TOKEN_FILE", "/var/run/secrets/azure/tokens/azure-identity-token"),
    ("MANAGED_IDENTITY_CLIENT_ID", "99999999-7777-8888-9999-000000000000"),
    ("KEYCLOAK_CLIENT_ID", "obo-gateway"),
    ("KEYCLOAK_CLIENT_SECRET", "example-secret"),
    ("APP_ORIGIN", "https://app.example.com"),
    ("PUBLIC_URL", "https://mcp.example.com"),
    ("MCP_CLIENT_ID", "77777777-7777-8888-9999-000000000000"),
    ("REDIS_URL", "redis://gateway:example-secret@127.0.0.1:6379"),
    ("CACHE_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
];

/// What they may take from it, and is not set here: the defaults are what is tried.
const OPTIONAL: [&str; 12] = [
    "AZURE_AUTHORITY_HOST",
    "GRAPH_URL",
    "ARM_URL",
    "ORDERS_URL",
    "VAULT_URL",
    "BILLING_URL",
    "MCP_URL",
    "MCP_SCOPE",
    "KEYCLOAK_ISSUER",
    "SHUTDOWN_DELAY",
    "IDENTITY_ENDPOINT",
    "AZURE_POD_IDENTITY_AUTHORITY_HOST",
];

fn check(path: &Path) -> Ended {
    command("check", path)
}

fn command(name: &str, path: &Path) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    let certificate = folder.path().join("app.pem");
    let pair = Pair::rsa();
    fs::write(&certificate, format!("{}{}", pair.certificate_pem, pair.key_pem)).unwrap();
    let mut command = program(&[name, "-c", path.to_str().unwrap()]);
    for name in OPTIONAL {
        command.env_remove(name);
    }
    command.envs(VARIABLES).env("AZURE_CLIENT_CERTIFICATE_PATH", &certificate);
    Process::start(command).ended()
}

fn readme() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap()
}

/// Those that have tests hold to them, and the shipped file's leave nothing out.
#[test]
fn what_files_promise_in_their_tests_is_so() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let examples = fs::read_dir(root.join("examples")).unwrap();
    let mut files: Vec<_> = examples.map(|file| file.unwrap().path()).collect();
    files.push(root.join("routes.yaml"));
    let has_tests = |path: &&PathBuf| fs::read_to_string(path).unwrap().contains("\ntests:\n");
    let with_tests: Vec<_> = files.iter().filter(has_tests).collect();
    assert!(with_tests.len() >= 3, "{with_tests:?}");
    for path in with_tests {
        let tested = command("test", path);
        assert_eq!((tested.code, &*tested.stderr), (Some(0), ""), "{} {tested:?}", path.display());
        assert!(tested.stdout.contains(" passed, 0 failed\n"), "{tested:?}");
    }
    let shipped = command("test", &root.join("routes.yaml"));
    assert!(!shipped.stdout.contains("not reached"), "{}", shipped.stdout);
}

#[test]
fn examples_are_good() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let examples = fs::read_dir(root.join("examples")).unwrap();
    let mut files: Vec<_> = examples.map(|file| file.unwrap().path()).collect();
    assert!(files.len() >= 2, "{files:?}");
    let readme = readme();
    for path in &files {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(readme.contains(&format!("](examples/{name})")), "README.md leads to {name}");
    }
    files.push(root.join("routes.yaml"));
    for path in files {
        let checked = check(&path);
        let name = path.display();
        assert_eq!((checked.code, checked.stderr.as_str()), (Some(0), ""), "{name} {checked:?}");
    }
}

#[test]
fn what_an_example_needs_is_said() {
    let mut command =
        program(&["check", "-c", concat!(env!("CARGO_MANIFEST_DIR"), "/routes.yaml")]);
    for (name, _) in VARIABLES {
        command.env_remove(name);
    }
    let checked = Process::start(command).ended();
    assert_eq!(checked.code, Some(1), "{checked:?}");
    for name in ["AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"] {
        assert!(checked.stderr.contains(name), "{checked:?}");
    }
}

/// The README, and each page of the book.
fn documents() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut documents, mut folders) = (vec![root.join("README.md")], vec![root.join("docs/src")]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                documents.push(path);
            }
        }
    }
    let read = |path: PathBuf| (path.clone(), fs::read_to_string(path).unwrap());
    documents.into_iter().map(read).collect()
}

/// A block marked `yaml` is a routes file; other YAML is marked `yaml,part`. Those that include a file of
/// `examples/` are checked there.
#[test]
fn files_in_the_readme_and_the_book_are_good() {
    let folder = tempfile::tempdir().unwrap();
    let mut number = 0;
    for (document, text) in documents() {
        let blocks =
            text.split("\n```yaml\n").skip(1).filter_map(|rest| rest.split("\n```").next());
        for block in blocks.filter(|block| !block.starts_with("{{#include")) {
            number += 1;
            let path = folder.path().join(format!("block-{number}.yaml"));
            fs::write(&path, block).unwrap();
            let checked = check(&path);
            let document = document.display();
            assert_eq!(checked.code, Some(0), "{document}: {block}\n{}", checked.stderr);
        }
    }
    assert!(number > 5, "there are files in them");
}
