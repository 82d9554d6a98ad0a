//! One check of a dry run: what was wanted, what came, and what came of it.

use serde::Serialize;

use crate::rejection::Rejection;

/// One check, for people and for programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    /// What is checked: a part of the token, or a key of `auth`.
    pub(crate) name: &'static str,
    /// What came of it.
    pub(crate) outcome: Outcome,
    /// What has to be there; values in backticks.
    pub(crate) wanted: String,
    /// What is there; values in backticks.
    pub(crate) came: String,
    /// Why it did not pass, in the words of the log.
    pub(crate) reason: Option<String>,
}

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It is as it has to be.
    Passed,
    /// It is not.
    Failed,
    /// That could not be found out.
    NotChecked,
}

impl Check {
    /// A check with this outcome.
    pub(crate) fn of(
        name: &'static str,
        wanted: impl Into<String>,
        came: impl Into<String>,
        outcome: Result<(), Rejection>,
    ) -> Self {
        let (wanted, came) = (wanted.into(), came.into());
        match outcome {
            Ok(()) => Self { name, outcome: Outcome::Passed, wanted, came, reason: None },
            Err(rejection) => {
                let reason = Some(rejection.reason());
                Self { name, outcome: Outcome::Failed, wanted, came, reason }
            }
        }
    }

    /// One that did not pass.
    pub(crate) fn failed(
        name: &'static str,
        wanted: &str,
        came: &str,
        reason: impl Into<String>,
    ) -> Self {
        let (wanted, came) = (wanted.to_owned(), came.to_owned());
        Self { name, outcome: Outcome::Failed, wanted, came, reason: Some(reason.into()) }
    }

    /// Whether it passed.
    pub(crate) fn has_passed(&self) -> bool {
        self.outcome == Outcome::Passed
    }

    /// One that passed.
    pub(crate) fn passed(name: &'static str, wanted: String, came: String) -> Self {
        Self::of(name, wanted, came, Ok(()))
    }

    /// One that could not be made.
    pub(crate) fn not_checked(
        name: &'static str,
        wanted: String,
        came: impl Into<String>,
        why: &str,
    ) -> Self {
        let reason = Some(why.to_owned());
        Self { name, outcome: Outcome::NotChecked, wanted, came: came.into(), reason }
    }
}
