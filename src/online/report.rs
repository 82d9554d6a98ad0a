//! What was found, as a table for people and as JSON for machines.
//!
//! It decides nothing of what is tried; it sees to it that no text from outside can make a line of its own.

use std::fmt::Write as _;

use serde::Serialize;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// All is well.
    Ok,
    /// It works, and should be looked at.
    Warn,
    /// It does not work.
    Fail,
}

/// What a check is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An entry of `providers`.
    Provider,
    /// An entry of `upstreams`.
    Upstream,
    /// An entry of `listeners`.
    Listener,
    /// `cache.redis`.
    Cache,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Upstream => "upstream",
            Self::Listener => "listener",
            Self::Cache => "cache",
        }
    }
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// How it ended.
    pub outcome: Outcome,
    /// What it is of.
    pub kind: Kind,
    /// The name in the routes file; of a listener its address, of the shared cache `redis`.
    pub name: String,
    /// What was tried; one of a fixed list, which `docs/src/operations/check-online.md` has.
    pub check: &'static str,
    /// What was found.
    pub detail: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// All that was found, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report(pub Vec<Check>);

/// How many checks ended in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Summary {
    ok: usize,
    warn: usize,
    fail: usize,
}

#[derive(Serialize)]
struct Document<'a> {
    /// Whether nothing failed.
    ok: bool,
    summary: Summary,
    checks: &'a [Check],
}

impl Report {
    /// Whether nothing failed.
    pub fn is_good(&self) -> bool {
        self.summary().fail == 0
    }

    fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        for check in &self.0 {
            match check.outcome {
                Outcome::Ok => summary.ok += 1,
                Outcome::Warn => summary.warn += 1,
                Outcome::Fail => summary.fail += 1,
            }
        }
        summary
    }

    /// The table: a line for each check, its hint below it, and the sums.
    pub fn text(&self) -> String {
        let subject = |check: &Check| format!("{} {}", check.kind.name(), plain(&check.name));
        let width = |of: &dyn Fn(&Check) -> usize| self.0.iter().map(of).max().unwrap_or_default();
        let subjects = width(&|check| subject(check).chars().count());
        let names = width(&|check| check.check.len());
        let mut text = String::new();
        for check in &self.0 {
            let outcome = match check.outcome {
                Outcome::Ok => "ok",
                Outcome::Warn => "warn",
                Outcome::Fail => "FAIL",
            };
            let (subject, name, detail) = (subject(check), check.check, plain(&check.detail));
            // Writing to a `String` does not fail.
            writeln!(text, "{outcome:<4}  {subject:<subjects$}  {name:<names$}  {detail}")
                .unwrap_or_default();
            if let Some(hint) = &check.hint {
                let indent = 4 + 2 + subjects + 2 + names + 2;
                writeln!(text, "{:indent$}hint: {}", "", plain(hint)).unwrap_or_default();
            }
        }
        let Summary { ok, warn, fail } = self.summary();
        let warnings = if warn == 1 { "warning" } else { "warnings" };
        writeln!(text, "{ok} ok, {warn} {warnings}, {fail} failed").unwrap_or_default();
        text
    }

    /// The same as one JSON document.
    ///
    /// # Errors
    ///
    /// None is expected: it is made of texts and numbers.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        let document = Document { ok: self.is_good(), summary: self.summary(), checks: &self.0 };
        serde_json::to_string_pretty(&document)
    }
}

/// The text on one line, with nothing in it that moves a cursor or turns the direction of letters.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, ' '..='~' | '…') || c.is_alphanumeric() {
            plain.push(c);
        } else {
            plain.extend(c.escape_unicode());
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(outcome: Outcome, name: &str, detail: &str, hint: Option<&str>) -> Check {
        let (name, detail) = (name.to_owned(), detail.to_owned());
        let hint = hint.map(str::to_owned);
        Check { outcome, kind: Kind::Provider, name, check: "keys", detail, hint }
    }

    fn report() -> Report {
        Report(vec![
            check(Outcome::Ok, "a", "3 keys", None),
            Check { kind: Kind::Upstream, ..check(Outcome::Warn, "longer", "slow", None) },
            check(Outcome::Fail, "ä", "line\nok  \u{202e}forged\u{1b}[2J", Some("mend it")),
        ])
    }

    #[test]
    fn the_table_has_a_line_for_each_check_and_none_forged() {
        assert_eq!(
            report().text(),
            "ok    provider a       keys  3 keys\n\
             warn  upstream longer  keys  slow\n\
             FAIL  provider ä       keys  line\\u{a}ok  \\u{202e}forged\\u{1b}[2J\n\
             \x20                            hint: mend it\n\
             1 ok, 1 warning, 1 failed\n"
        );
        assert_eq!(Report(Vec::new()).text(), "0 ok, 0 warnings, 0 failed\n");
    }

    #[test]
    fn the_json_says_the_same() {
        let json: serde_json::Value = serde_json::from_str(&report().json().unwrap()).unwrap();
        assert_eq!(json["ok"], false);
        assert_eq!(json["summary"], serde_json::json!({ "ok": 1, "warn": 1, "fail": 1 }));
        assert_eq!(
            json["checks"][1],
            serde_json::json!({
                "outcome": "warn", "kind": "upstream", "name": "longer", "check": "keys",
                "detail": "slow", "hint": null,
            })
        );
    }

    #[test]
    fn warnings_alone_are_no_failure() {
        let good = Report(report().0.into_iter().take(2).collect());
        assert!(good.is_good() && !report().is_good());
    }
}
