//! An error in one line: its own text, then those of all that caused it.
//!
//! `Display` of our errors prints one level, and `source` the rest; operators read them all.

use std::error::Error;

/// `error` and its sources, with `: ` between.
pub fn with_sources(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
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
}
