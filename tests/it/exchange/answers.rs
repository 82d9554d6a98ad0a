//! The golden table of provider answers: what a token endpoint says, what the caller gets, and
//! what the operator reads. The table is `tests/data/answers/*.txt`, a block a row:
//!
//! ```text
//! # what the row shows
//! STATUS BODY                the provider's answer
//! HEADER: VALUE              of the provider's answer
//! => STATUS CODE             what the caller gets
//!    HEADER: VALUE           of the caller's answer, where it has one of interest
//!    calls: N                of the token endpoint, where it is not one
//!    log: SENTENCE
//! ```
//!
//! What stands behind `=>` is written by `INSTA_UPDATE=always cargo test --test it answers`; read
//! what changed as an operator would at night.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::support::client::Reply as Got;
use crate::support::gateway::Gateway;
use crate::support::obo::{Answer, file_before_routes};
use crate::support::provider::{Endpoint, Provider, Reply};
use crate::support::token::{CLIENT_SECRET, Token};
use crate::support::upstream::Upstream;

/// One row, as it is written in the table.
struct Row {
    title: String,
    answer: String,
    headers: Vec<(String, String)>,
}

/// The rows of a table with the text in front of each: headings and empty lines.
fn rows(table: &str) -> Vec<(String, Row)> {
    let mut rows = Vec::new();
    let mut before = String::new();
    let mut lines = table.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(title) = line.strip_prefix("# ") else {
            writeln!(before, "{line}").unwrap();
            continue;
        };
        let answer = lines.next().expect("an answer behind a title").to_owned();
        let mut headers = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.is_empty()) {
            if line.starts_with("=>") || line.starts_with("   ") {
                continue;
            }
            let (name, value) = line.split_once(": ").expect("`HEADER: VALUE`");
            headers.push((name.to_owned(), value.to_owned()));
        }
        let row = Row { title: title.to_owned(), answer, headers };
        rows.push((std::mem::take(&mut before), row));
    }
    rows
}

/// What the provider does: the words in `<>` stand for what can't be written on a line.
fn reply(row: &Row) -> Reply {
    let (status, body) = row.answer.split_once(' ').unwrap_or((&row.answer, ""));
    let status = status.parse().unwrap_or_else(|_| panic!("no status: {}", row.answer));
    let content_type = if body.starts_with('{') { "application/json" } else { "text/html" };
    let answer = |body: String| {
        let mut answer = Answer::text(status, content_type, body);
        answer.headers.extend(row.headers.iter().cloned());
        answer
    };
    if let Some(length) = body.strip_prefix("<claims of ").and_then(|it| it.split(' ').next()) {
        let length: usize = length.parse().unwrap();
        let padding = "x".repeat(length - r#"{"a":""}"#.len());
        let claims = serde_json::json!(format!(r#"{{"a":"{padding}"}}"#));
        return Reply::Answer(answer(format!(r#"{{"error":"invalid_grant","claims":{claims}}}"#)));
    }
    match body {
        "<reset>" => Reply::Reset,
        "<cut off>" => Reply::Cut(answer(r#"{"access_token":"cut","token_type":"Bearer"}"#.into())),
        "<2 MiB>" => Reply::Answer(answer(" ".repeat(2 << 20))),
        "<token of 33 KiB>" => Reply::Answer(answer(format!(
            r#"{{"token_type":"Bearer","access_token":"{}"}}"#,
            "x".repeat(33 * 1024)
        ))),
        _ => Reply::Answer(answer(body.to_owned())),
    }
}

/// A route for each row, and a scope for each that may hold others back.
fn routes_file(rows: &[(String, Row)], provider: &Provider, upstream: &Upstream) -> String {
    let mut file = file_before_routes(provider, upstream);
    for (index, (_, row)) in rows.iter().enumerate() {
        let held_back = row.headers.iter().any(|(name, _)| name == "retry-after");
        let scope = if held_back { format!("api://row-{index}") } else { "api://graph".to_owned() };
        writeln!(
            file,
            "  - {{ match: {{ path: /{index} }}, auth: any, upstream: graph, \
             token: {{ on_behalf_of: {{ scopes: [\"{scope}/.default\"] }} }} }}"
        )
        .unwrap();
    }
    file
}

/// A row as it turned out, in the form of the table.
fn shown(row: &Row, got: &Got, calls: usize, log: &str) -> String {
    let (status, code) = got.outcome();
    let mut text = format!("# {}\n{}\n", row.title, row.answer);
    for (name, value) in &row.headers {
        writeln!(text, "{name}: {value}").unwrap();
    }
    writeln!(text, "=> {status} {}", if status == 200 { "and a token" } else { &code }).unwrap();
    for name in ["www-authenticate", "retry-after"] {
        // Challenges with long claims: that they are there is enough.
        if let Some(value) = got.header(name) {
            let value =
                if value.len() > 1000 { format!("{}…", &value[..300]) } else { value.into() };
            writeln!(text, "   {name}: {value}").unwrap();
        }
    }
    if calls != 1 {
        writeln!(text, "   calls: {calls}").unwrap();
    }
    if !log.is_empty() {
        writeln!(text, "   log: {log}").unwrap();
    }
    text
}

async fn judge(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/answers").join(name);
    let table = fs::read_to_string(&path).unwrap();
    let rows = rows(&table);
    assert!(rows.len() >= 50, "{} rows", rows.len());
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let gateway = Gateway::start(&routes_file(&rows, &provider, &upstream));
    gateway.ready().await;
    let mut client = gateway.client().await;
    let mut text = String::new();
    for (index, (before, row)) in rows.iter().enumerate() {
        text.push_str(before);
        provider.always(Endpoint::Token, reply(row));
        // What the rows before were refused is forgotten: each stands for itself.
        gateway.reload();
        let token = Token::entra_v2(&provider.entra_issuer()).claim("row", index).build();
        let called = provider.count(Endpoint::Token);
        let target = format!("/{index}");
        let got = client.get_with(&target, &token).await;
        let event = gateway.log().event_when(&target).await;
        let log = event.get("reason").and_then(|reason| reason.as_str()).unwrap_or_default();
        // Which call to the system failed differs from run to run.
        let log = log.split_inclusive("the answer broke off").next().unwrap_or_default();
        let calls = provider.count(Endpoint::Token) - called;
        let row = shown(row, &got, calls, log);
        assert!(!row.contains(&token) && !row.contains(CLIENT_SECRET), "{row}");
        text.push_str(&row);
    }
    let text = text
        .replace(&provider.base(), "https://login.example")
        .replace(provider.base().trim_start_matches("http://"), "login.example");
    if text != table {
        #[allow(clippy::disallowed_methods, reason = "as insta reads it")]
        let update = std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always");
        assert!(
            update,
            "{} is not what happens; INSTA_UPDATE=always writes it. It would be:\n{text}",
            path.display()
        );
        fs::write(&path, text).unwrap();
    }
}

#[tokio::test]
async fn each_answer_of_entra_comes_to_what_the_table_says() {
    judge("entra.txt").await;
}
