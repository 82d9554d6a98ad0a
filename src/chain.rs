//! An error in one line: its own text, then those of all that caused it.
//!
//! `Display` of our errors prints one level, and `source` the rest; operators read them all.

use std::error::Error;

/// `error` and its sources, with `: ` between; a source that the text ends with already is not
/// said again, since some libraries print theirs with their own.
pub fn with_sources(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let cause = source.to_string();
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the outer one")]
    struct Outer(#[source] std::fmt::Error);

    #[test]
    fn sources_follow_in_order() {
        let inner = std::fmt::Error;
        assert_eq!(with_sources(&Outer(inner)), format!("the outer one: {inner}"));
    }

    #[derive(Debug, thiserror::Error)]
    #[error("both: {0}")]
    struct Both(#[source] std::fmt::Error);

    #[test]
    fn a_source_is_not_said_twice() {
        let inner = std::fmt::Error;
        assert_eq!(with_sources(&Both(inner)), format!("both: {inner}"));
    }
}
