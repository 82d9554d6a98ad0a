//! The checks of one entry of the file, as they are found.

use super::report::{Check, Kind, Outcome};

/// The checks of one entry; what was found stays, whatever becomes of the rest.
#[derive(Debug)]
pub(super) struct Found {
    kind: Kind,
    name: String,
    checks: Vec<Check>,
}

impl Found {
    pub(super) fn of(kind: Kind, name: &str) -> Self {
        Self { kind, name: name.to_owned(), checks: Vec::new() }
    }

    pub(super) fn ok(&mut self, check: &'static str, detail: impl Into<String>) {
        self.add(Outcome::Ok, check, detail, None);
    }

    pub(super) fn warn(
        &mut self,
        check: &'static str,
        detail: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.add(Outcome::Warn, check, detail, Some(hint.into()));
    }

    /// What does not work, always with what to do about it.
    pub(super) fn fail(
        &mut self,
        check: &'static str,
        detail: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.add(Outcome::Fail, check, detail, Some(hint.into()));
    }

    pub(super) fn add(
        &mut self,
        outcome: Outcome,
        check: &'static str,
        detail: impl Into<String>,
        hint: Option<String>,
    ) {
        let (kind, name, detail) = (self.kind, self.name.clone(), detail.into());
        self.checks.push(Check { outcome, kind, name, check, detail, hint });
    }

    pub(super) fn into_checks(self) -> Vec<Check> {
        self.checks
    }
}
