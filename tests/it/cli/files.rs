//! Routes files that users are given, in `examples/`, as `routes.yaml` and in README.md: each is
//! good, without a warning, with the environment that it asks for.

use std::fs;
use std::path::Path;

use super::process::{Ended, Process, program};

/// What the files take from the environment, and nothing else of ours.
const VARIABLES: [(&str, &str); 7] = [
    ("AZURE_TENANT_ID", "11111111-2222-3333-4444-555555555555"),
    ("AZURE_CLIENT_ID", "66666666-7777-8888-9999-000000000000"),
    ("AZURE_CLIENT_SECRET", "example-secret"),
    ("CLIENT_SECRET", "example-secret"),
    ("ADMIN_TOKEN", "example-admin-token"),
    ("LEGACY_API_KEY", "example-key"),
    ("API_KEY", "example-key"),
];

fn check(path: &Path) -> Ended {
    let mut command = program(&["check", "-c", path.to_str().unwrap()]);
    for name in ["AZURE_AUTHORITY_HOST", "GRAPH_URL", "ARM_URL"] {
        command.env_remove(name);
    }
    command.envs(VARIABLES);
    Process::start(command).ended()
}

#[test]
fn examples_are_good() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let examples = fs::read_dir(root.join("examples")).unwrap();
    let mut files: Vec<_> = examples.map(|file| file.unwrap().path()).collect();
    assert!(files.len() >= 2, "{files:?}");
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

/// A block that has `routes:` is a whole file; others show a part of one.
#[test]
fn whole_files_in_the_readme_are_good() {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let blocks = readme.split("\n```yaml\n").skip(1).filter_map(|rest| rest.split("\n```").next());
    for (number, block) in blocks.enumerate() {
        if !block.lines().any(|line| line.starts_with("routes:")) {
            continue;
        }
        let path = folder.path().join(format!("block-{number}.yaml"));
        fs::write(&path, block).unwrap();
        let checked = check(&path);
        assert_eq!(checked.code, Some(0), "{block}\n{}", checked.stderr);
    }
}
