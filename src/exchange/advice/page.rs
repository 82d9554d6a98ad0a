//! Holds the page of the book about refusals of providers to the tables beside this file:
//! `docs/src/troubleshooting/providers.md` is made of them, and of nothing else.
//! A test that fails leaves the page as it should be in `target/`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use super::{Class, Row, error, number, suberror};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/src/troubleshooting/providers.md");

/// Where it is left if the book says otherwise.
const MADE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/providers.md");

/// Entra's numbers have seven digits at most.
const NUMBERS: u64 = 10_000_000;

const HEAD: &str = "\
# When a provider refuses: AADSTS numbers and errors

<!-- Made of src/exchange/advice.rs by its test: `cargo test --lib the_book`. -->

What `reason` in the access log says of a token endpoint's answer, and what the caller gets. `exchange_failed` is yours
to mend, and concerns everybody; the others concern one user or one tenant. In these sentences CLIENT is the gateway's `client_id`,
PROVIDER the name in your file, TENANT the tenant that was asked, and SCOPES what the upstream's `token` asks for; the log
has their values. What each code is, and what to look at, is said [by code](codes.md).

A known number goes before a suberror, and both go before the bare `error`; so do words by which Keycloak and Auth0 say that they
refuse the gateway's own client (`exchange_failed`) while the `error` puts it down to the user. An answer with `claims` is
`claims_challenge`, whatever else it says. An answer that is in none of these tables is judged by its status and its `error`; the log has
both, and the provider's own words are left out, because they name people.
";

fn answers(class: Class) -> String {
    let answer = class.code().answer();
    format!("{} `{}`", answer.status.as_u16(), answer.name)
}

fn sentence(text: &str) -> String {
    let filled = [("{client}", "CLIENT"), ("{provider}", "PROVIDER"), ("{tenant}", "TENANT")]
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
    filled.replace("{scopes}", "SCOPES")
}

fn table(page: &mut String, what: &str, rows: impl IntoIterator<Item = (String, Row)>) {
    writeln!(page, "| {what} | the caller gets | the log says |\n| --- | --- | --- |").unwrap();
    for (name, (class, text)) in rows {
        writeln!(page, "| {name} | {} | {} |", answers(class), sentence(text)).unwrap();
    }
}

/// The texts in the patterns of a function of `advice.rs`: what could be looked up there.
fn words(function: &str) -> Vec<String> {
    let source = include_str!("../advice.rs");
    let (_, rest) = source.split_once(&format!("fn {function}(")).unwrap();
    let (body, _) = rest.split_once("\n}\n").unwrap();
    let mut words = Vec::new();
    for line in body.lines().map(str::trim).filter(|line| line.starts_with('"')) {
        let patterns = line.split("=>").next().unwrap();
        words.extend(patterns.split('"').skip(1).step_by(2).map(str::to_owned));
    }
    words
}

fn page() -> String {
    let mut page = HEAD.to_owned();

    page.push_str("\n## AADSTS numbers (Microsoft Entra)\n\n");
    let numbers = (0..NUMBERS).filter_map(|known| Some((known, number(known)?)));
    // As one looks them up: 50013 before 500131 before 50034.
    let sorted: BTreeMap<String, (u64, Row)> =
        numbers.map(|(known, row)| (known.to_string(), (known, row))).collect();
    let rows = sorted
        .into_values()
        .map(|(known, row)| (format!("<a id=\"aadsts{known}\"></a>AADSTS{known}"), row));
    table(&mut page, "number", rows);

    page.push_str("\n## Suberrors (Microsoft Entra)\n\n");
    let known = |word: String, row: Option<Row>| (format!("`{word}`"), row.unwrap());
    let rows = words("suberror").into_iter().map(|word| {
        let row = suberror(&word);
        known(word, row)
    });
    table(&mut page, "`suberror`", rows);

    page.push_str("\n## Errors (any provider)\n\n");
    let rows = words("error").into_iter().map(|word| {
        let row = error(&word);
        known(word, row)
    });
    table(&mut page, "`error`", rows);

    page.push_str("\n[Reading the log](codes.md#how-to-read-a-refusal) has the way from a complaint to one of these lines.\n");
    page
}

#[test]
fn the_book_says_what_the_tables_say() {
    let page = page();
    assert!(page.contains("AADSTS7000222"), "numbers were found");
    assert!(page.contains("`bad_token`") && page.contains("`slow_down`"), "words were found");
    if fs::read_to_string(PAGE).is_ok_and(|written| written == page) {
        return;
    }
    fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/target")).unwrap();
    fs::write(MADE, &page).unwrap();
    panic!("take it over: cp {MADE} {PAGE}");
}
