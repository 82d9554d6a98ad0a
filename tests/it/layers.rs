//! Holds `src/` to its layers: a module uses only those declared above it in `lib.rs`, and
//! each guarded dependency has its owners and no other user.
//!
//! It reads text, not types: comments, literals and `#[cfg(test)]` modules are blanked, then
//! every path that starts at the crate's root is looked at, `super::` chains that reach it included.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Dependencies that only some files may name (architecture page, "Layers").
const OWNERS: &[(&str, &[&str])] = &[
    ("clap", &["cli/"]),
    ("clap_complete", &["cli/"]),
    ("serde_yaml", &["config/"]),
    ("governor", &["rate_limit/"]),
    ("prost", &["observe/otlp/"]),
    ("listenfd", &["launch/supervisor.rs"]),
    ("sd_notify", &["launch/supervisor.rs"]),
    ("jsonwebtoken", &["dev/"]),
    ("reqwest", &["authn/fetch.rs"]),
    ("redis", &["shared_store/"]),
];

#[test]
fn a_module_uses_only_modules_above_it() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let order = declared(&fs::read_to_string(source.join("lib.rs")).unwrap());
    assert!(order.len() > 10, "lib.rs declares {order:?}");
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    let files: Vec<(String, String)> = files
        .iter()
        .map(|file| {
            let name = file.strip_prefix(&source).unwrap().to_str().unwrap();
            (name.to_owned(), fs::read_to_string(file).unwrap())
        })
        .collect();
    let tests: HashSet<String> =
        files.iter().flat_map(|(name, text)| test_files(name, text)).collect();
    let mut wrong = String::new();
    for (name, text) in files.iter().filter(|(name, _)| !tests.contains(name)) {
        for complaint in judge(name, text, &order) {
            writeln!(wrong, "src/{name}:{complaint}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "the layers of src/lib.rs are broken:\n{wrong}");
}

/// What is wrong with the file called `name` (relative to `src/`): `LINE: what, and what to do`.
fn judge(name: &str, text: &str, order: &[String]) -> Vec<String> {
    let text = without_tests(&without_literals(text));
    let mut wrong = Vec::new();
    for (krate, owners) in OWNERS {
        if owners
            .iter()
            .any(|owner| name == *owner || (owner.ends_with('/') && name.starts_with(owner)))
        {
            continue;
        }
        for at in paths_from(&text, krate) {
            wrong.push(format!(
                "{}: `{krate}` is used only in {}; move this there, or give the owner a function for it",
                line(&text, at),
                owners.join(", "),
            ));
        }
    }
    if name == "lib.rs" || name == "main.rs" {
        return wrong;
    }
    let module = name.split(['/', '.']).next().unwrap();
    let Some(rank) = order.iter().position(|other| other == module) else {
        wrong.push(format!(
            "1: module `{module}` is not declared in src/lib.rs; give it its place in the layers"
        ));
        return wrong;
    };
    for (at, used) in root_paths(&text, depth(name)) {
        if order.iter().position(|other| *other == used).is_some_and(|other| other > rank) {
            wrong.push(format!(
                "{}: `{module}` uses `{used}`, which src/lib.rs declares below it; \
                 move what is shared up, or hand it in from above",
                line(&text, at),
            ));
        }
    }
    wrong
}

/// The names of `pub mod` and `mod` lines, in order.
fn declared(lib: &str) -> Vec<String> {
    let lines = lib.lines().map(str::trim);
    let names = lines.filter_map(|line| {
        line.strip_prefix("pub mod ").or_else(|| line.strip_prefix("mod "))?.strip_suffix(';')
    });
    names.map(str::to_owned).collect()
}

fn rust_files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
    into.sort();
}

/// The files that the file called `name` pulls in for tests only: `#[cfg(test)] mod x;`.
fn test_files(name: &str, text: &str) -> Vec<String> {
    let folder = match name.strip_suffix("mod.rs") {
        Some(folder) => folder.to_owned(),
        None if name == "lib.rs" || name == "main.rs" => String::new(),
        None => format!("{}/", name.strip_suffix(".rs").unwrap()),
    };
    let text = without_literals(text);
    let items = text.split("#[cfg(test)]").skip(1).map(str::trim_start);
    let modules = items.filter_map(|item| {
        let item = item.strip_prefix("pub(crate) ").unwrap_or(item);
        item.strip_prefix("mod ")?.split_once(';').map(|(module, _)| module)
    });
    let modules = modules.filter(|module| module.bytes().all(is_word));
    modules.map(|module| format!("{folder}{module}.rs")).collect()
}

/// How many `super::` lead from the file to the crate's root.
fn depth(name: &str) -> usize {
    let steps = name.split('/').count();
    if name.ends_with("/mod.rs") { steps - 1 } else { steps }
}

fn line(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// `text` with comments and the contents of string and character literals blanked; every byte keeps its line.
fn without_literals(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let end = if rest.starts_with(b"//") {
            at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())
        } else if rest.starts_with(b"/*") {
            block_comment_end(bytes, at)
        } else if let Some(hashes) = raw_string(bytes, at) {
            let close = format!("\"{}", "#".repeat(hashes));
            let from = at + 2 + hashes;
            text.as_bytes()[from..]
                .windows(close.len())
                .position(|window| window == close.as_bytes())
                .map_or(bytes.len(), |found| from + found + close.len())
        } else if rest[0] == b'"' || rest[0] == b'\'' && char_literal(rest) {
            quoted_end(bytes, at)
        } else {
            at += 1;
            continue;
        };
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8(out).unwrap()
}

fn block_comment_end(bytes: &[u8], mut at: usize) -> usize {
    let mut nested = 0;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            nested += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            nested -= 1;
            at += 2;
            if nested == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// The number of `#` if a raw string begins at the `r` at `at`.
fn raw_string(bytes: &[u8], at: usize) -> Option<usize> {
    let before = at.checked_sub(1).map(|before| bytes[before]);
    if bytes[at] != b'r' || before.is_some_and(|byte| is_word(byte) && byte != b'b') {
        return None;
    }
    let hashes = bytes[at + 1..].iter().take_while(|byte| **byte == b'#').count();
    (bytes.get(at + 1 + hashes) == Some(&b'"')).then_some(hashes)
}

/// `'x'` or `'\…'`, not a lifetime.
fn char_literal(rest: &[u8]) -> bool {
    // A character is at most 4 bytes.
    let text = String::from_utf8_lossy(&rest[1..rest.len().min(6)]);
    text.starts_with('\\') || text.chars().nth(1) == Some('\'')
}

fn quoted_end(bytes: &[u8], at: usize) -> usize {
    let quote = bytes[at];
    let mut end = at + 1;
    while end < bytes.len() && bytes[end] != quote {
        end += if bytes[end] == b'\\' { 2 } else { 1 };
    }
    (end + 1).min(bytes.len())
}

/// `text` with the bodies of `#[cfg(test)]` items blanked.
fn without_tests(text: &str) -> String {
    let mut out = text.to_owned();
    while let Some(start) = out.find("#[cfg(test)]") {
        let body = out[start..].find(['{', ';']).map_or(out.len(), |found| start + found);
        let mut end = body + 1;
        if out.as_bytes().get(body) == Some(&b'{') {
            let mut open = 1;
            while open > 0 && end < out.len() {
                match out.as_bytes()[end] {
                    b'{' => open += 1,
                    b'}' => open -= 1,
                    _ => {}
                }
                end += 1;
            }
        }
        let end = end.min(out.len());
        let blank: String =
            out[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        out.replace_range(start..end, &blank);
    }
    out
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Where `word` stands as a whole word that is not a step of a longer path.
fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let (before, after) = (&text[..*at], &text[at + word.len()..]);
        !before.ends_with(|c: char| c == '_' || c == '.' || c.is_ascii_alphanumeric())
            && !before.ends_with("::")
            && !after.starts_with(|c: char| c == '_' || c.is_ascii_alphanumeric())
    })
}

/// Where a path begins with the crate `krate`: `krate::…`, `::krate::…`, `use krate;`.
fn paths_from(text: &str, krate: &str) -> Vec<usize> {
    let absolute = format!("::{krate}");
    let own = words(text, krate).filter(|at| {
        let after = text[at + krate.len()..].trim_start();
        let used = text[..*at].trim_end().ends_with("use");
        after.starts_with("::") || used
    });
    let rooted = text.match_indices(&absolute).map(|(at, _)| at).filter(|at| {
        !text[..*at].ends_with(|c: char| c == '_' || c == '>' || c.is_ascii_alphanumeric())
            && text[at + absolute.len()..].starts_with("::")
    });
    own.chain(rooted).collect()
}

/// The first steps of all paths that begin at the crate's root, with their places.
fn root_paths(text: &str, depth: usize) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for at in words(text, "crate") {
        if let Some(rest) = text[at + "crate".len()..].strip_prefix("::") {
            found.extend(first_steps(rest).into_iter().map(|step| (at, step)));
        }
    }
    let chain = "super::".repeat(depth);
    let chains = text.match_indices(&chain).map(|(at, _)| at).filter(|at| {
        let before = &text[..*at];
        !before.ends_with("::")
            && !before.ends_with(|c: char| c == '_' || c.is_ascii_alphanumeric())
    });
    for at in chains {
        found.extend(first_steps(&text[at + chain.len()..]).into_iter().map(|step| (at, step)));
    }
    found
}

/// `a::b` → `a`; `{a::{b, c}, d}` → `a`, `d`.
fn first_steps(rest: &str) -> Vec<String> {
    let step = |text: &str| -> Option<String> {
        let step: String = text
            .trim_start()
            .chars()
            .take_while(|c| *c == '_' || c.is_ascii_alphanumeric())
            .collect();
        (!step.is_empty()).then_some(step)
    };
    let Some(group) = rest.trim_start().strip_prefix('{') else {
        return step(rest).into_iter().collect();
    };
    let mut steps = Vec::new();
    let mut open = 0;
    let mut start = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => open += 1,
            '}' if open > 0 => open -= 1,
            ',' if open == 0 => {
                steps.extend(step(&group[start..at]));
                start = at + 1;
            }
            '}' => {
                steps.extend(step(&group[start..at]));
                break;
            }
            _ => {}
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::{judge, test_files};

    fn complaints(name: &str, text: &str) -> usize {
        let order = ["clock", "authn", "gateway", "config"].map(str::to_owned);
        judge(name, text, &order).len()
    }

    #[test]
    fn a_use_of_what_is_above_passes_and_of_what_is_below_does_not() {
        assert_eq!(complaints("authn/keys.rs", "use crate::clock::Clock;"), 0);
        assert_eq!(complaints("authn/keys.rs", "use crate::authn::token;"), 0);
        assert_eq!(complaints("authn/keys.rs", "use crate::gateway::Gateway;"), 1);
        assert_eq!(complaints("authn/keys.rs", "fn f(x: &crate::config::File) {}"), 1);
        assert_eq!(
            complaints("authn/keys.rs", "use crate::{clock::{Clock, X}, config, gateway::G};"),
            2
        );
    }

    #[test]
    fn a_chain_of_super_that_reaches_the_root_counts() {
        assert_eq!(complaints("authn/keys.rs", "use super::gateway;"), 0);
        assert_eq!(complaints("authn/keys.rs", "use super::super::gateway;"), 1);
        assert_eq!(complaints("authn/mod.rs", "use super::gateway;"), 1);
        assert_eq!(complaints("authn/mod.rs", "use super::clock;"), 0);
        assert_eq!(complaints("clock.rs", "use super::{authn, gateway};"), 2);
    }

    #[test]
    fn comments_literals_and_tests_do_not_count() {
        assert_eq!(
            complaints("clock.rs", "// crate::config\n/* crate::config /* */ crate::config */"),
            0
        );
        assert_eq!(
            complaints("clock.rs", "const X: &str = \"\\\"crate::config\"; const C: char = '\"';"),
            0
        );
        assert_eq!(
            complaints("clock.rs", "const X: &str = r#\"\"crate::config\"#; use crate::config;"),
            1
        );
        assert_eq!(
            complaints("clock.rs", "#[cfg(test)]\nmod tests { use crate::config; fn f() {} }"),
            0
        );
        assert_eq!(complaints("clock.rs", "#[cfg(test)]\nmod tests {}\nuse crate::config;"), 1);
        assert_eq!(
            complaints(
                "clock.rs",
                "fn f<'a>(x: &'a str) {} use crate::config; const C: char = 'x';"
            ),
            1
        );
    }

    #[test]
    fn a_dependency_has_its_owner() {
        assert_eq!(complaints("config/file.rs", "use serde_yaml::Value;"), 0);
        assert_eq!(complaints("clock.rs", "use serde_yaml::Value;"), 1);
        assert_eq!(complaints("clock.rs", "#[derive(clap::Parser)] struct A;"), 1);
        assert_eq!(
            complaints("clock.rs", "fn reqwest() {} fn f() { reqwest(); x.reqwest::<u8>(); }"),
            0
        );
        assert_eq!(complaints("authn/fetch.rs", "use reqwest::Client;"), 0);
        assert_eq!(complaints("authn/keys.rs", "use ::reqwest::Client;"), 1);
        assert_eq!(complaints("authn/claims.rs", "use jsonwebtoken::jwk;"), 1);
        assert_eq!(complaints("main.rs", "use clap::Parser;"), 1);
    }

    #[test]
    fn files_for_tests_only_are_known_by_their_declaration() {
        let text = "#[cfg(test)]\nmod a;\n#[cfg(test)]\nmod b { mod c; }\nmod d;";
        assert_eq!(test_files("accept/mod.rs", text), ["accept/a.rs"]);
        assert_eq!(test_files("gateway.rs", text), ["gateway/a.rs"]);
        assert_eq!(test_files("lib.rs", text), ["a.rs"]);
    }

    #[test]
    fn a_module_must_have_its_place() {
        assert_eq!(complaints("stray.rs", ""), 1);
    }
}
