//! The end of a request: the one place where it is counted, logged and leaves its spans.

use std::borrow::Cow;
use std::time::Duration;

use http::StatusCode;
use memchr::memrchr;

use super::byte_counter::ByteCounter;
use super::observer::write_line;
use super::record::{AccessRecord, Ending};
use crate::observe::cut_off;
use crate::observe::event::Event;
use crate::observe::field::FieldSet;
use crate::observe::metrics::{CacheResult, Metrics};
use crate::observe::refusals::Refused;
use crate::observe::trace::TraceId;
use crate::rejection::Code;

/// The status of a caller who went away, in the log only (nginx's number).
const CLIENT_CLOSED_REQUEST: u16 = 499;

impl Drop for AccessRecord {
    fn drop(&mut self) {
        // First, so that it goes last, after a panic too: whoever sees nothing in flight finds
        // everything counted.
        let _in_flight = InFlight(self.observer.metrics());
        let took = self.started.elapsed();
        let sent = self.answered.map(|answered| answered.status);
        let (counted, logged) = match (self.ending, sent) {
            (Ending::Whole | Ending::Broken, Some(status)) => (Some(status), status.as_u16()),
            (Ending::Open, None) if std::thread::panicking() => {
                self.refused = Some(Code::Internal);
                self.reason = Some(Cow::Borrowed("a panic while the request was answered"));
                (Some(StatusCode::INTERNAL_SERVER_ERROR), 500)
            }
            (Ending::Open, sent) if cut_off::is_cut() => {
                self.reason.get_or_insert(Cow::Borrowed(cut_off::REASON));
                // Where nobody was told any, the one that says whose end it is.
                let status = sent.unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
                (Some(status), status.as_u16())
            }
            (Ending::Whole | Ending::Broken | Ending::Open, sent) => {
                let why = match sent {
                    Some(_) => "the caller went away before the end of the answer",
                    None => "the caller went away before there was an answer",
                };
                self.reason.get_or_insert(Cow::Borrowed(why));
                (sent, CLIENT_CLOSED_REQUEST)
            }
        };
        // Whoever sees a refusal counted finds it among the last ones.
        if let Some(code) = self.refused {
            self.remember(code);
        }
        self.count(took, counted);
        self.leave_spans(took, counted);
        if let Some(wanted) = self.observer.wanted() {
            self.log(took, logged, wanted);
        }
    }
}

/// A request that is in flight until this goes.
struct InFlight<'a>(&'a Metrics);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.request_ended();
    }
}

impl AccessRecord {
    fn count(&self, took: Duration, status: Option<StatusCode>) {
        let metrics = self.observer.metrics();
        let route = self.route.as_ref().unwrap_or(metrics.unmatched());
        route.finished(&self.method, status, took);
        if let Some(answered) = self.answered {
            let elsewhere =
                self.upstream_took.unwrap_or_default() + self.exchange_took.unwrap_or_default();
            route.overhead(answered.after.saturating_sub(elsewhere));
        }
        // Only where a head came: an upstream that is down would look fast.
        if let (Some(upstream), Some(took), None) =
            (&self.upstream, self.upstream_took, self.refused)
        {
            upstream.answered(took);
        }
        if let Some(code) = self.refused {
            metrics.refused(route.name(), code);
        }
        if let Some(code) = self.refused
            && matches!(code.answer().status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
        {
            metrics.auth_failed(route.name(), code);
        }
    }

    /// Keeps the refusal for the admin port. What was not refused never comes here.
    fn remember(&self, code: Code) {
        self.observer.refusals().note(&Refused {
            request_id: self.request_id().as_str(),
            client_ip: self.client_ip,
            method: Some(self.method.as_str()),
            path: Some(self.uri.path()),
            route: self.route.as_ref().map(|route| route.name()),
            code,
            reason: self.reason.as_deref().unwrap_or_default(),
            identity: self.identity.as_deref(),
        });
    }

    fn log(&self, took: Duration, status: u16, wanted: FieldSet) {
        let host = self.host();
        let identity = self.identity.as_deref();
        let cut_short = self.bytes_in.as_ref().and_then(ByteCounter::why_cut_short);
        let code = self.refused.or(cut_short.map(|(code, _)| *code));
        let reason = cut_short.map(|(_, reason)| reason.as_str());
        let event = Event {
            time: self.time,
            request_id: self.request_id().as_bytes(),
            trace_id: self.trace_id.as_ref().map(TraceId::as_str),
            client_ip: self.client_ip,
            method: Some(self.method.as_str()),
            host: host.as_deref(),
            path: Some(self.uri.path()),
            status,
            code: code.map(|code| code.answer().name),
            reason: reason.or(self.reason.as_deref()),
            route: self.route.as_ref().map(|route| &**route.name()),
            upstream: self.upstream.as_ref().map(|upstream| &**upstream.name()),
            endpoint: self.endpoint.as_deref(),
            user: identity.and_then(|identity| identity.user.as_deref()),
            client_id: identity.and_then(|identity| identity.client_id.as_deref()),
            tenant: identity.and_then(|identity| identity.tenant.as_deref()),
            token_cache: self.token_cache.map(CacheResult::name),
            duration: took,
            upstream_took: self.upstream_took,
            exchange_took: self.exchange_took,
            bytes_in: self.bytes_in.as_ref().map_or(0, ByteCounter::total),
            bytes_out: self.bytes_out,
        };
        write_line(&event, wanted, self.observer.sink());
    }

    /// The host that the caller asked for, without what might be a password before it.
    pub(in crate::observe) fn host(&self) -> Option<Cow<'_, str>> {
        let host = match (self.uri.authority(), &self.host) {
            (Some(authority), _) => authority.as_str().as_bytes(),
            (None, Some(host)) => host.as_bytes(),
            (None, None) => return None,
        };
        let userinfo = memrchr(b'@', host).map_or(0, |at| at + 1);
        Some(String::from_utf8_lossy(host.get(userinfo..).unwrap_or_default()))
    }
}
