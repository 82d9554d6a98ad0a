//! The schema is whole and current, takes what the reader takes, and refuses what it is for.
//! After a change of a key run `UPDATE_SCHEMA=1 cargo test --lib config::schema`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use boon::{Compiler, Draft, SchemaIndex, Schemas};
use serde_json::{Value, json};

use super::super::file::RULES;
use super::super::rule::Needs;
use super::super::{Environment, read};
use super::*;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A schema that values are held to.
struct Judge {
    schemas: Schemas,
    index: SchemaIndex,
}

impl Judge {
    fn of(schema: Value) -> Self {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.set_default_draft(Draft::V7);
        compiler.add_resource("schema.json", schema).unwrap();
        let index = compiler.compile("schema.json", &mut schemas).unwrap();
        Self { schemas, index }
    }

    fn refuses(&self, value: &Value) -> Option<String> {
        self.schemas.validate(value, self.index).err().map(|error| format!("{error:#}"))
    }
}

/// The YAML as an editor sees it: with the types of YAML 1.2, `${…}` as it stands.
fn yaml(text: &str) -> Result<Value, String> {
    let options = serde_yaml::options! { strict_booleans: true };
    serde_yaml::from_str_with_options(text, options).map_err(|error| error.to_string())
}

fn files(folder: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(Path::new(ROOT).join(folder)).unwrap();
    let files = files.map(|file| file.unwrap().path());
    let files: BTreeSet<_> =
        files.filter(|path| path.extension().is_some_and(|it| it == "yaml")).collect();
    assert!(!files.is_empty(), "{folder}");
    files.into_iter().collect()
}

/// Each key with the path to it, and what is said of it.
fn keys(schema: &Value, path: &str, each: &mut impl FnMut(&str, &Value, bool)) {
    match schema {
        Value::Object(members) => {
            let required = members.get("required").and_then(Value::as_array);
            let properties = members.get("properties").and_then(Value::as_object);
            for (key, value) in properties.into_iter().flatten().filter(|(_, it)| it.is_object()) {
                let path = format!("{path}.{key}");
                if key == "type" && value.get("description").is_none() {
                    continue; // of an `if`
                }
                each(&path, value, required.is_some_and(|it| it.contains(&json!(key))));
                keys(value, &path, each);
            }
            for (_, value) in members.iter().filter(|(name, _)| *name != "properties") {
                keys(value, path, each);
            }
        }
        Value::Array(elements) => elements.iter().for_each(|it| keys(it, path, each)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Holds a generated file to its shipped copy, or writes it.
fn assert_current(path: &str, text: &str) {
    let path = Path::new(ROOT).join(path);
    #[allow(clippy::disallowed_methods, reason = "it is asked for by whoever changes a key")]
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }
    let shipped = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        shipped == text,
        "{} is not current: run `UPDATE_SCHEMA=1 cargo test --lib config::schema`",
        path.display()
    );
}

#[test]
fn the_shipped_copies_are_current() {
    assert_current(SHIPPED, &text());
    assert_current("docs/src/reference/routes-file.md", &markdown());
}

#[test]
fn it_is_a_schema_of_draft_07() {
    let mut schemas = Schemas::new();
    let meta = "http://json-schema.org/draft-07/schema";
    let index = Compiler::new().compile(meta, &mut schemas).unwrap();
    let schema = schema();
    assert_eq!(schema.get("$schema"), Some(&json!(format!("{meta}#"))));
    schemas.validate(&schema, index).unwrap_or_else(|error| panic!("{error:#}"));
    let text = text();
    for left in ["$ref", "$defs", "$beside", "$mapping", "\"null\"", "OneOf_"] {
        assert!(!text.contains(left), "{left} is left in the schema");
    }
}

/// What each key's docs lack, for all keys.
fn lacking(of: impl Fn(&str, &Value, bool) -> Option<&'static str>) -> Vec<String> {
    let mut lacking = Vec::new();
    keys(&schema(), "", &mut |path, key, is_required| {
        lacking.extend(of(path, key, is_required).map(|what| {
            format!("{path}: {what}: {}", key.get("description").unwrap_or(&Value::Null))
        }));
    });
    lacking
}

fn docs(key: &Value) -> &str {
    key.get("description").and_then(Value::as_str).unwrap_or_default()
}

/// Whether there is more than a default, that it is required, and its words.
fn says_what_it_is(docs: &str) -> bool {
    let first = docs.split("\n\n").next().unwrap_or_default();
    !first.is_empty() && !["Default:", "Required", "-"].iter().any(|it| first.starts_with(it))
}

#[test]
fn every_key_is_explained() {
    let lacking = lacking(|_, key, is_required| match docs(key) {
        docs if !says_what_it_is(docs) => Some("its doc comment does not say what it is"),
        docs if ["[`", "`]", "::"].iter().any(|link| docs.contains(link)) => {
            Some("is the constant of its docs in `config/schema/constants.rs`?")
        }
        docs if is_required && !docs.contains("Required") => Some("its docs don't say `Required.`"),
        _ => None,
    });
    assert!(lacking.is_empty(), "{lacking:#?}");
    let mut count = 0;
    keys(&schema(), "", &mut |_, _, _| count += 1);
    assert!(count > 150, "{count}");
}

/// Whoever leaves a switch, a number or a choice of words out has to know what then holds.
#[test]
fn every_key_with_one_value_states_its_default() {
    let lacking = lacking(|path, key, is_required| {
        let text = key.to_string();
        let has = |what: &str| text.contains(&format!("\"{what}\""));
        let is_one_value = ["boolean", "integer", "pattern", "enum"].into_iter().any(has)
            && !["properties", "additionalProperties", "items"].into_iter().any(has);
        // One key of its mapping is given in any case.
        let is_a_kind = [".token.passthrough", ".token.none"].iter().any(|it| path.ends_with(it));
        let is_said = ["efault: ", "Either this"].iter().any(|it| docs(key).contains(it));
        (is_one_value && !is_required && !is_a_kind && !is_said).then_some("no `Default: …`")
    });
    assert!(lacking.is_empty(), "{lacking:#?}");
}

#[test]
fn defaults_are_values_that_the_key_takes() {
    let mut stated = Vec::new();
    keys(&schema(), "", &mut |path, key, _| {
        if let Some(default) = key.get("default") {
            let refused = Judge::of(key.clone()).refuses(default);
            assert!(refused.is_none(), "{path}: {default} {}", refused.unwrap_or_default());
            stated.push(format!("{path}: {default}"));
        }
    });
    assert!(stated.len() > 50, "{stated:#?}");
    for known in [
        ".server.header_timeout: \"10s\"",
        ".server.max_connections: 10000",
        ".admin.address: \"127.0.0.1:9901\"",
        ".routes.encoded_slashes: \"reject\"",
        ".upstreams.retry.on: [\"connect_failure\",\"refused_stream\"]",
        ".telemetry.access_log: true",
    ] {
        assert!(stated.iter().any(|it| it == known), "{known}: {stated:#?}");
    }
    assert!(!stated.iter().any(|it| it.contains("burst")), "{stated:#?}");
}

/// The keys of a struct, as serde knows them: what the reader takes is what the schema has.
#[test]
fn the_reader_knows_every_key_of_the_schema() {
    let problems_of = |text: &str| {
        let environment = Environment::of([("", ""); 0], ROOT);
        read(text, "routes.yaml", &environment).problems.to_string()
    };
    keys(&schema(), "", &mut |path, _, _| {
        let parts: Vec<_> = path.trim_start_matches('.').split('.').collect();
        if let [section, key] = *parts
            && matches!(section, "admin" | "server" | "cache" | "telemetry")
        {
            let shown = problems_of(&format!("{section}: {{ {key}: [] }}\nroutes: []\n"));
            assert!(!shown.contains("unknown key"), "{path}: {shown}");
        }
    });
    let shown = problems_of("server: { no_such_key: 1 }\n");
    let (_, known) = shown.split_once("keys here: ").unwrap();
    let known: BTreeSet<_> = known.lines().next().unwrap().split(", ").collect();
    let schema = schema();
    let server = schema.pointer("/properties/server/properties").unwrap().as_object().unwrap();
    assert_eq!(known, server.keys().map(String::as_str).collect());
}

#[test]
fn good_files_pass() {
    let judge = Judge::of(schema());
    let mut paths = files("examples");
    paths.extend(files("tests/data/config/ok"));
    paths.push(Path::new(ROOT).join("routes.yaml"));
    paths.extend(files("tests/data/config/meaning/ok"));
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        let refused = judge.refuses(&yaml(&text).unwrap());
        assert!(refused.is_none(), "{}: {}", path.display(), refused.unwrap_or_default());
    }
}

/// What is no mistake of form, but of text that only the reader sees: places of variables,
/// YAML that editors' parsers take, values that a pattern says too little of.
const ONLY_THE_READER: [&str; 7] = [
    "bad-expressions",
    "empty-variable",
    "file-is-a-folder",
    "heads-too-small",
    "missing-variables",
    "odd-upstreams",
    "replaced-value-is-named-not-shown",
];

#[test]
fn bad_files_are_refused() {
    let judge = Judge::of(schema());
    let mut taken = Vec::new();
    for path in files("tests/data/config/bad") {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        // What is no YAML for an editor either is underlined by its parser.
        let Ok(value) = yaml(&fs::read_to_string(&path).unwrap()) else { continue };
        if judge.refuses(&value).is_none() {
            taken.push(name);
        }
    }
    assert_eq!(taken, ONLY_THE_READER);
}

#[test]
fn variables_may_stand_for_any_text() {
    let judge = Judge::of(schema());
    let text = "listeners: [{ address: \"${HOST}:${PORT}\", proxy_protocol: \"${PROXY}\" }]\n\
        server: { max_connections: \"${LIMIT}\", header_timeout: \"${WAIT:-10s}\", workers: \"${N}\" }\n\
        upstreams: { a: { url: \"${URL}\", protocol: \"${P}\", retry: { on: [\"${ON}\", 502] } } }\n\
        routes: [{ match: { path: /, query: { beta: true } }, auth: \"${AUTH}\", upstream: a }]\n";
    assert_eq!(judge.refuses(&yaml(text).unwrap()), None);
}

/// Each form of value: just taken, just refused.
#[test]
fn values_have_their_forms() {
    let judge = Judge::of(schema());
    let route = |key: &str| {
        format!(
            "routes: [{{ match: {{ path: / }}, auth: any, respond: {{ status: 204 }}, {key} }}]"
        )
    };
    let file = |section: &str| format!("{section}\n{}", route("name: a"));
    for (good, bad) in [
        (route("timeout: 30s"), route("timeout: 30")),
        (route("timeout: off"), route("timeout: 30 s")),
        (route("max_body_bytes: 10MiB"), route("max_body_bytes: 10MB")),
        (route("max_body_bytes: 0"), route("max_body_bytes: 10")),
        (route("outlive_token: true"), route("outlive_token: yes")),
        (route("encoded_slashes: keep"), route("encoded_slashes: kept")),
        (route("rewrite: { path: /a }"), route("rewrite: { path: /a, strip_prefix: /b }")),
        (route("token: { none: true }"), route("token: { none: false }")),
        (route("forward_claims: { oid: x-user }"), route("forward_claims: [oid]")),
        (route("rate_limit: { requests: 1 }"), route("rate_limit: { requests: 0 }")),
        (route("cors: { origins: [\"*\"] }"), route("cors: { origins: [] }")),
        (route("name: b"), route("nmae: b")),
        (file("server: { workers: auto }"), file("server: { workers: some }")),
        (
            file("server: { trusted_proxies: [10.0.0.0/8] }"),
            file("server: { trusted_proxies: 10.0.0.0/8 }"),
        ),
        (file("admin: { address: off }"), file("admin: { address: on }")),
        (file("listeners: [{ address: 0.0.0.0:80 }]"), file("listeners: [{ address: 80 }]")),
        (file("providers: { a: { type: entra } }"), file("providers: { a: { type: oidc } }")),
        (
            file("providers: { a: { type: entra, cloud: china } }"),
            file(
                "providers: { a: { type: oidc, cloud: china, issuer: https://a.example, audiences: [a] } }",
            ),
        ),
        (
            file("upstreams: { a: { url: https://a.example } }"),
            file("upstreams: { a: { url: a.example } }"),
        ),
        (file("upstreams: { a: { preset: arm } }"), file("upstreams: { a: { protocol: auto } }")),
        (
            file("upstreams: { a: { url: https://a.example, retry: { budget: 20% } } }"),
            file("upstreams: { a: { url: https://a.example, retry: { budget: 20 } } }"),
        ),
        (
            file("upstreams: { a: { urls: [https://a.example] } }"),
            file("upstreams: { a: { urls: [https://a.example], url: https://a.example } }"),
        ),
        (file("telemetry: { access_log: false }"), file("telemetry: { access_log: 0 }")),
    ] {
        assert_eq!(judge.refuses(&yaml(&good).unwrap()), None, "{good}");
        assert!(judge.refuses(&yaml(&bad).unwrap()).is_some(), "{bad}");
    }
}

/// A rule of a struct that is not there, or of a key that it does not have, would say nothing.
#[test]
fn rules_name_structs_and_keys_of_the_file() {
    let raw = raw();
    for rule in RULES {
        let keys: Vec<&str> = match rule.needs {
            Needs::Key(key) => vec![key],
            Needs::OneOf(keys) | Needs::AnyOf(keys) | Needs::AtMostOneOf(keys) => keys.to_vec(),
            Needs::With { key, needs } => vec![key, needs],
        };
        let found = if rule.of == "RoutesFile" { Some(&raw) } else { raw["$defs"].get(rule.of) };
        let found = found.unwrap_or_else(|| panic!("a rule of `{}`, which is no struct", rule.of));
        for key in keys {
            assert!(found["properties"].get(key).is_some(), "`{}` has no key `{key}`", rule.of);
        }
    }
}

/// Enums of one name would be taken for one type: see the names in `shape.rs`.
#[test]
fn enums_that_serde_has_no_words_for_have_a_name_of_their_own() {
    for name in raw()["$defs"].as_object().unwrap().keys() {
        assert!(!name.starts_with('$'), "an enum `{name}` lacks its `#[schemars(rename = …)]`");
    }
}
