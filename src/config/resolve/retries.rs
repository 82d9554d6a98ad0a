//! `retry` of an upstream: when a request is tried again.

use super::super::file;
use super::super::file::RetryOn as Word;
use super::super::spanned::{List, Spanned};
use super::Finding;
use crate::forward::{RetryOn, RetryPolicy};

pub(super) fn resolve(retry: &file::Retry, finding: &mut Finding<'_>) -> RetryPolicy {
    if let Some(words) = &retry.on {
        refuse_twice(words, finding);
    }
    policy(retry)
}

fn refuse_twice(words: &List<Spanned<Word>>, finding: &mut Finding<'_>) {
    for (number, word) in words.0.iter().enumerate() {
        if words.0.iter().take(number).any(|before| before.value == word.value) {
            finding.error(word.place, "it stands twice in `on` of `retry`", "remove one of them");
        }
    }
}

fn policy(retry: &file::Retry) -> RetryPolicy {
    RetryPolicy {
        attempts: retry.attempts.unwrap_or(file::Retry::DEFAULT_ATTEMPTS).0,
        on: match &retry.on {
            Some(words) => words.0.iter().fold(RetryOn::default(), |on, word| with(on, word.value)),
            None => RetryOn { connect_failure: true, refused_stream: true, ..RetryOn::default() },
        },
        budget_percent: retry.budget.unwrap_or(file::Retry::DEFAULT_BUDGET).0,
    }
}

fn with(on: RetryOn, word: Word) -> RetryOn {
    match word {
        Word::ConnectFailure => RetryOn { connect_failure: true, ..on },
        Word::RefusedStream => RetryOn { refused_stream: true, ..on },
        Word::BadGateway => RetryOn { bad_gateway: true, ..on },
        Word::Unavailable => RetryOn { unavailable: true, ..on },
        Word::GatewayTimeout => RetryOn { gateway_timeout: true, ..on },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_takes_the_place_of_the_default() {
        let default = policy(&file::Retry::default());
        assert_eq!((default.attempts, default.budget_percent), (2, 20));
        assert!(default.on.connect_failure && default.on.refused_stream);
        assert!(!default.on.bad_gateway && !default.on.unavailable && !default.on.gateway_timeout);

        let on =
            Some(List([Word::Unavailable, Word::RefusedStream].map(Spanned::default_of).into()));
        let set = policy(&file::Retry { on, ..file::Retry::default() });
        let expected = RetryOn { unavailable: true, refused_stream: true, ..RetryOn::default() };
        assert_eq!(set.on, expected);
    }
}
