//! Why an exchange gave no token, in a form that everybody who waited for it can share.
//!
//! Each of them turns it into a [`Rejection`] of their own.

use std::time::Duration;

use super::advice::Class;
use crate::limits;
use crate::rejection::{Code, Extra, Rejection};

/// A failed exchange. Holds no token, no secret and no text of a provider's own making.
#[derive(Debug)]
pub(super) struct ExchangeError {
    code: Code,
    detail: &'static str,
    reason: String,
    extra: Extra,
}

impl ExchangeError {
    /// A failure of `class`; `reason` is the sentence for the operator.
    pub(super) fn new(class: Class, reason: String) -> Self {
        Self { code: class.code(), detail: class.detail(), reason, extra: Extra::None }
    }

    /// The provider can't be used for `wait`, or nobody knows how long.
    pub(super) fn unavailable(reason: String, wait: Option<Duration>) -> Self {
        // "Try again in 0 s" would be a loop.
        let wait = wait.unwrap_or(limits::DEFAULT_RETRY_AFTER).max(Duration::from_secs(1));
        Self::new(Class::Unavailable, reason).with(Extra::RetryAfter(wait))
    }

    /// An invariant of ours is broken.
    pub(super) fn internal(reason: &str) -> Self {
        Self {
            code: Code::Internal,
            detail: "Something went wrong in the gateway.",
            reason: reason.to_owned(),
            extra: Extra::None,
        }
    }

    /// Adds headers to the answer.
    pub(super) fn with(mut self, extra: Extra) -> Self {
        self.extra = extra;
        self
    }

    /// The outcome as `exchanges_total` counts it.
    pub(super) fn outcome(&self) -> &'static str {
        self.code.answer().name
    }

    /// The refusal of one request.
    pub(super) fn rejection(&self) -> Rejection {
        Rejection::new(self.code, self.detail, self.reason.clone()).with(self.extra.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_never_nothing() {
        let wait = |wait| ExchangeError::unavailable(String::new(), wait).rejection();
        let seconds = |n| Extra::RetryAfter(Duration::from_secs(n));
        assert_eq!(*wait(Some(Duration::ZERO)).extra(), seconds(1));
        assert_eq!(*wait(Some(Duration::from_secs(9))).extra(), seconds(9));
        assert_eq!(*wait(None).extra(), Extra::RetryAfter(limits::DEFAULT_RETRY_AFTER));
    }
}
