//! How long the phases of a request took, where somebody wants to know: a span of a trace, or
//! `Server-Timing` (W3C Server Timing) for the caller.

use std::fmt::Write as _;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

/// The header that tells the caller.
pub const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// A phase of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Whose token it is, and whether they may.
    Auth,
    /// Getting the token for the upstream, from the cache or from a provider.
    Exchange,
    /// From sending the request to the head of the answer.
    Upstream,
}

impl Phase {
    /// Its name in `Server-Timing`.
    fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Exchange => "exchange",
            Self::Upstream => "upstream",
        }
    }
}

/// Whether the caller is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Caller,
    Nobody,
}

/// The phases that a request has been in.
#[derive(Debug)]
pub(super) struct Phases {
    pub(super) told: Told,
    pub(super) passed: Vec<Passed>,
}

/// A phase, and its time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passed {
    pub(super) phase: Phase,
    pub(super) began: Instant,
    /// `None`: the request is in it.
    pub(super) ended: Option<Instant>,
    /// The request was refused in it.
    pub(super) failed: bool,
}

impl Phases {
    pub(super) fn new(told: Told) -> Self {
        // All there are: a challenge of the upstream adds an exchange.
        Self { told, passed: Vec::with_capacity(4) }
    }

    /// The request comes into `phase`. It meets an upstream twice where that wanted another token:
    /// for the operator that is one call, with an exchange in it.
    pub(super) fn enter(&mut self, phase: Phase) {
        self.leave();
        let again =
            self.passed.iter_mut().find(|passed| passed.phase == phase && phase == Phase::Upstream);
        if let Some(again) = again {
            again.ended = None;
        } else {
            let began = Instant::now();
            self.passed.push(Passed { phase, began, ended: None, failed: false });
        }
    }

    /// The request comes out of the phase that it is in, if any.
    pub(super) fn leave(&mut self) {
        if let Some(open) = self.passed.iter_mut().find(|passed| passed.ended.is_none()) {
            open.ended = Some(Instant::now());
        }
    }

    /// The request is refused in the phase that it is in, if any.
    pub(super) fn fail(&mut self) {
        if let Some(open) = self.passed.iter_mut().find(|passed| passed.ended.is_none()) {
            open.ended = Some(Instant::now());
            open.failed = true;
        }
    }

    /// Whatever it was, nobody was asked for a token.
    pub(super) fn forget(&mut self, phase: Phase) {
        self.passed.retain(|passed| passed.phase != phase);
    }

    /// Adds `Server-Timing`, in milliseconds, beside one that the upstream may have written.
    pub(super) fn tell(&self, headers: &mut HeaderMap) {
        if self.told == Told::Nobody {
            return;
        }
        let mut text = String::with_capacity(64);
        for phase in [Phase::Auth, Phase::Exchange, Phase::Upstream] {
            let mut of = self.passed.iter().filter(|passed| passed.phase == phase).peekable();
            if of.peek().is_none() {
                continue;
            }
            let took: Duration = of.map(Passed::took).sum();
            let comma = if text.is_empty() { "" } else { ", " };
            let (name, micros) = (phase.name(), took.as_micros());
            let (millis, rest) = (micros / 1000, micros % 1000);
            // Writing to a `String` does not fail.
            write!(text, "{comma}{name};dur={millis}.{rest:03}").unwrap_or_default();
        }
        if let (false, Ok(value)) = (text.is_empty(), HeaderValue::try_from(text)) {
            headers.append(SERVER_TIMING, value);
        }
    }
}

impl Passed {
    fn took(&self) -> Duration {
        self.ended.unwrap_or_else(Instant::now).saturating_duration_since(self.began)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn after(millis: u64) {
        tokio::time::advance(Duration::from_micros(millis * 1000 + 7)).await;
    }

    fn told(phases: &Phases) -> Vec<String> {
        let mut headers = HeaderMap::new();
        headers.insert(SERVER_TIMING, HeaderValue::from_static("db;dur=1"));
        phases.tell(&mut headers);
        headers.get_all(SERVER_TIMING).iter().map(|it| it.to_str().unwrap().to_owned()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_caller_is_told_beside_what_the_upstream_says() {
        let mut phases = Phases::new(Told::Caller);
        assert_eq!(told(&phases), ["db;dur=1"]);
        phases.enter(Phase::Auth);
        after(1).await;
        phases.leave();
        phases.enter(Phase::Exchange);
        after(20).await;
        phases.enter(Phase::Upstream);
        after(300).await;
        assert_eq!(
            told(&phases),
            ["db;dur=1", "auth;dur=1.007, exchange;dur=20.007, upstream;dur=300.007"]
        );
        phases.told = Told::Nobody;
        assert_eq!(told(&phases), ["db;dur=1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_try_at_the_upstream_is_the_same_call() {
        let mut phases = Phases::new(Told::Caller);
        for phase in [Phase::Exchange, Phase::Upstream, Phase::Exchange, Phase::Upstream] {
            phases.enter(phase);
            after(10).await;
        }
        phases.leave();
        assert_eq!(told(&phases)[1], "exchange;dur=20.014, upstream;dur=30.021");
        phases.forget(Phase::Exchange);
        assert_eq!(told(&phases)[1], "upstream;dur=30.021");
    }
}
