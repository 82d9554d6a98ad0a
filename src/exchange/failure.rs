//! Why an exchange gave no token, in a form that everybody who waited for it can share.
//!
//! Each of them turns it into a [`Rejection`] of their own.

use std::borrow::Cow;
use std::time::Duration;

use super::advice::Class;
use crate::limits;
use crate::rejection::{Code, Extra, Rejection};

/// A failed exchange. Holds no token, no secret and no text of a provider's own making.
#[derive(Clone, Debug)]
pub(super) struct ExchangeError {
    /// Who has to act; `None` if it is us.
    class: Option<Class>,
    said: Box<Said>,
    extra: Extra,
    memory: Memory,
}

/// The texts for the operator. Beside the rest, as results with an error are moved about a lot.
#[derive(Clone, Debug)]
struct Said {
    /// What happened.
    what: Box<str>,
    /// What there is to do about it, where that is known and not said with what happened.
    remedy: Option<Box<str>>,
}

/// For whom a failure holds a while longer, so that the provider need not be asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Memory {
    /// For nobody.
    None,
    /// For the inbound token that was refused, and what was asked for.
    Token(Duration),
    /// For everybody: the provider refused the gateway itself on these terms.
    Client(Duration),
}

impl ExchangeError {
    /// A failure of `class`; `what` happened, for the operator.
    pub(super) fn new(class: Class, what: String) -> Self {
        Self::of(Some(class), what.into())
    }

    /// The provider can't be used for `wait`, or nobody knows how long.
    pub(super) fn unavailable(what: String, wait: Option<Duration>) -> Self {
        // "Try again in 0 s" would be a loop.
        let wait = wait.unwrap_or(limits::DEFAULT_RETRY_AFTER).max(Duration::from_secs(1));
        Self::new(Class::Unavailable, what).with(Extra::RetryAfter(wait))
    }

    /// An invariant of ours is broken.
    pub(super) fn internal(what: &str) -> Self {
        Self::of(None, what.into())
    }

    fn of(class: Option<Class>, what: Box<str>) -> Self {
        let said = Box::new(Said { what, remedy: None });
        Self { class, said, extra: Extra::None, memory: Memory::None }
    }

    /// Says what there is to do about it.
    pub(super) fn with_remedy(mut self, remedy: impl Into<Box<str>>) -> Self {
        self.said.remedy = Some(remedy.into());
        self
    }

    /// Adds headers to the answer.
    pub(super) fn with(mut self, extra: Extra) -> Self {
        self.extra = extra;
        self
    }

    /// Sets for whom it holds a while longer.
    pub(super) fn remembered(mut self, memory: Memory) -> Self {
        self.memory = memory;
        self
    }

    /// For whom it holds a while longer.
    pub(super) fn memory(&self) -> Memory {
        self.memory
    }

    /// The same failure for one who asks again, `left` before it may change.
    pub(super) fn again(&self, left: Duration) -> Self {
        let seconds = left.as_secs() + 1;
        let mut again = self.clone();
        again.memory = Memory::None;
        again.said.remedy = None;
        again.said.what = format!(
            "{}; remembered for {seconds} s more, the provider was not asked again",
            self.reason()
        )
        .into();
        if matches!(self.extra, Extra::RetryAfter(_)) {
            again.extra = Extra::RetryAfter(Duration::from_secs(seconds));
        }
        again
    }

    /// Whether the provider may well give the token a little later, so that one from before
    /// can be used meanwhile.
    pub(super) fn is_passing(&self) -> bool {
        self.class == Some(Class::Unavailable)
    }

    /// Whether the provider does not let this caller in any more, so that a token from before
    /// must not be used either.
    pub(super) fn ends_access(&self) -> bool {
        match self.class {
            Some(
                Class::Interaction
                | Class::Consent
                | Class::NotAllowed
                | Class::Expired
                | Class::Invalid,
            ) => true,
            // Our own secret says nothing about the caller.
            Some(Class::Gateway | Class::Unavailable) | None => false,
        }
    }

    /// What happened.
    pub(super) fn what(&self) -> &str {
        &self.said.what
    }

    /// What there is to do about it, where that is known.
    pub(super) fn remedy(&self) -> Option<&str> {
        self.said.remedy.as_deref()
    }

    /// The sentence for the operator: both.
    pub(super) fn reason(&self) -> Cow<'_, str> {
        match &self.said.remedy {
            Some(remedy) => format!("{}; {remedy}", self.said.what).into(),
            None => (&*self.said.what).into(),
        }
    }

    /// The outcome as `exchanges_total` counts it.
    pub(super) fn outcome(&self) -> &'static str {
        self.code().answer().name
    }

    /// The refusal of one request.
    pub(super) fn rejection(&self) -> Rejection {
        let detail = self.class.map_or("Something went wrong in the gateway.", Class::detail);
        Rejection::new(self.code(), detail, self.reason().into_owned()).with(self.extra.clone())
    }

    /// The code of the refusal.
    pub(super) fn code(&self) -> Code {
        self.class.map_or(Code::Internal, Class::code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_ends_the_sentence_and_stands_alone() {
        let bare = ExchangeError::new(Class::Gateway, "no; not at all".to_owned());
        assert_eq!((&*bare.reason(), bare.remedy()), ("no; not at all", None));
        let error = bare.with_remedy("mend it; or leave it");
        assert_eq!(error.rejection().reason(), "no; not at all; mend it; or leave it");
        assert_eq!(error.what(), "no; not at all");
        assert_eq!(error.remedy(), Some("mend it; or leave it"));
        let again = error.again(Duration::ZERO);
        assert!(again.reason().starts_with("no; not at all; mend it; or leave it; remembered "));
        assert_eq!(again.remedy(), None);
    }

    #[test]
    fn a_wait_is_never_nothing() {
        let wait = |wait| ExchangeError::unavailable(String::new(), wait).rejection();
        let seconds = |n| Extra::RetryAfter(Duration::from_secs(n));
        assert_eq!(*wait(Some(Duration::ZERO)).extra(), seconds(1));
        assert_eq!(*wait(Some(Duration::from_secs(9))).extra(), seconds(9));
        assert_eq!(*wait(None).extra(), Extra::RetryAfter(limits::DEFAULT_RETRY_AFTER));
    }
}
