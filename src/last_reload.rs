//! What became of the last reload: plain data without a secret, for the log and the admin port.
//!
//! It decides how changes are told in a sentence. How a file is read again is not known here.

use std::fmt;

use serde::Serialize;

use crate::clock::UnixTime;

/// Most names that are told of each kind of change: a log line is for people.
const MAX_NAMES_TOLD: usize = 16;

/// One reload, good or bad.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LastReload {
    /// When it was, in seconds since 1970.
    pub at: u64,
    /// Why it was: `SIGHUP`, `the admin API`, or the files that changed.
    pub cause: String,
    /// What became of it.
    pub outcome: ReloadOutcome,
    /// What is wrong with the file, or only odd where the outcome is success: each with place and
    /// hint, as `check` prints it. Empty if there is nothing.
    pub problems: String,
    /// What is another now; of a failure nothing is.
    pub changes: Changes,
    /// Keys whose new values take effect with a restart.
    pub needs_restart: Vec<&'static str>,
}

/// What became of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReloadOutcome {
    /// The file is in force.
    Success,
    /// The one before stays in force.
    Failure,
}

/// The difference of two configurations, by names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// Of `routes`.
    pub routes: Named,
    /// Of `upstreams`.
    pub upstreams: Named,
    /// Of `providers`.
    pub providers: Named,
    /// Of `listeners`, by address.
    pub listeners: Named,
    /// Of the admin port, by address.
    pub admin: Named,
}

/// What is another, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Named {
    /// Only in the new one.
    pub added: Vec<String>,
    /// Only in the old one.
    pub removed: Vec<String>,
    /// In both, and not the same.
    pub changed: Vec<String>,
}

impl LastReload {
    /// When it was.
    pub fn time(&self) -> UnixTime {
        UnixTime(self.at)
    }
}

impl Changes {
    fn kinds(&self) -> [(&'static str, &Named); 5] {
        [
            ("routes", &self.routes),
            ("upstreams", &self.upstreams),
            ("providers", &self.providers),
            ("listeners", &self.listeners),
            ("admin port", &self.admin),
        ]
    }

    /// Whether no name is told.
    pub fn is_empty(&self) -> bool {
        self.kinds().iter().all(|(_, named)| named.is_empty())
    }
}

impl Named {
    /// Whether nothing is another.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

/// ``routes: added `a`, `b`; removed `c`. listeners: changed `0.0.0.0:8443` ``
impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for (kind, named) in self.kinds().into_iter().filter(|(_, named)| !named.is_empty()) {
            write!(f, "{between}{kind}: {named}")?;
            between = ". ";
        }
        if between.is_empty() { f.write_str("no name in it is another") } else { Ok(()) }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for (what, names) in
            [("added", &self.added), ("removed", &self.removed), ("changed", &self.changed)]
        {
            for (index, name) in names.iter().take(MAX_NAMES_TOLD).enumerate() {
                match index {
                    0 => write!(f, "{between}{what} `{name}`")?,
                    _ => write!(f, ", `{name}`")?,
                }
                between = "; ";
            }
            if let Some(more @ 1..) = names.len().checked_sub(MAX_NAMES_TOLD) {
                write!(f, " and {more} more")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn changes_are_told_in_a_sentence_of_bounded_length() {
        let mut changes = Changes::default();
        assert_eq!(changes.to_string(), "no name in it is another");
        changes.routes.added = names(&["a", "b"]);
        changes.routes.changed = names(&["c"]);
        changes.listeners.removed = names(&["127.0.0.1:80"]);
        assert_eq!(
            changes.to_string(),
            "routes: added `a`, `b`; changed `c`. listeners: removed `127.0.0.1:80`"
        );
        let many = |count: usize| Changes {
            routes: Named { removed: vec!["r".to_owned(); count], ..Named::default() },
            ..Changes::default()
        };
        assert!(many(16).to_string().ends_with(", `r`"));
        assert!(many(18).to_string().ends_with(", `r` and 2 more"));
    }
}
