//! Where requests are counted and logged, and whether they are logged at all.
//!
//! What was no whole request is counted and logged here; all others have a record
//! (`record.rs`), which comes here when it ends.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::observe::event::Event;
use crate::observe::field::FieldSet;
use crate::observe::metrics::Metrics;
use crate::observe::refusals::{Refusals, Refused};
use crate::observe::request_id::RequestId;
use crate::observe::sink::LogSink;
use crate::observe::timestamp::Timestamp;
use crate::peer::Peer;
use crate::rejection::Rejection;

/// Whether events are written; metrics are counted in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// One line per request, with these fields.
    On(FieldSet),
    /// None.
    Off,
}

impl AccessLog {
    fn bits(self) -> u32 {
        match self {
            Self::On(fields) => fields.bits(),
            Self::Off => 0,
        }
    }
}

/// Where requests are counted and logged.
#[derive(Debug)]
pub struct Observer {
    metrics: Metrics,
    sink: LogSink,
    /// The fields of an event, as bits; 0 is none, and no events.
    fields: AtomicU32,
    refusals: Refusals,
}

impl Observer {
    /// Counts in `metrics` and logs to `sink`.
    pub fn new(metrics: Metrics, sink: LogSink, access_log: AccessLog) -> Self {
        let fields = AtomicU32::new(access_log.bits());
        Self { metrics, sink, fields, refusals: Refusals::default() }
    }

    /// The last refusals.
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// The metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The way into the log.
    pub fn sink(&self) -> &LogSink {
        &self.sink
    }

    /// Changes which events there are, for requests that are not over yet too.
    pub fn set_access_log(&self, access_log: AccessLog) {
        self.fields.store(access_log.bits(), Ordering::Relaxed);
    }

    pub(super) fn wanted(&self) -> Option<FieldSet> {
        let bits = self.fields.load(Ordering::Relaxed);
        (bits != 0).then(|| FieldSet::of_bits(bits))
    }

    /// Counts and logs a refusal of what was no whole request: nothing is known of it but who sent it.
    pub fn refused_unread(&self, peer: &Peer, request_id: &RequestId, rejection: &Rejection) {
        let answer = rejection.code().answer();
        let metrics = &self.metrics;
        metrics.unmatched().refused_unread(answer.status);
        metrics.refused(metrics.unmatched().name(), rejection.code());
        self.refusals.note(&Refused {
            request_id: request_id.as_str(),
            client_ip: peer.address.ip().to_canonical(),
            method: None,
            path: None,
            route: None,
            code: rejection.code(),
            reason: &rejection.reason(),
            identity: None,
        });
        let Some(wanted) = self.wanted() else { return };
        let reason = rejection.reason();
        let event = Event {
            time: Timestamp::now(),
            request_id: request_id.as_bytes(),
            trace_id: None,
            client_ip: peer.address.ip().to_canonical(),
            method: None,
            host: None,
            path: None,
            status: answer.status.as_u16(),
            code: Some(answer.name),
            reason: Some(&reason),
            route: None,
            upstream: None,
            endpoint: None,
            user: None,
            client_id: None,
            tenant: None,
            token_cache: None,
            duration: Duration::ZERO,
            upstream_took: None,
            exchange_took: None,
            bytes_in: 0,
            bytes_out: 0,
        };
        write_line(&event, wanted, &self.sink);
    }

    /// Ends the log: everything is written, or [`crate::limits::LOG_CLOSE_TIMEOUT`] is over.
    pub fn close(&self) {
        self.sink.close();
    }
}

pub(super) fn write_line(event: &Event<'_>, wanted: FieldSet, sink: &LogSink) {
    thread_local! {
        /// Kept from line to line, so that a line allocates nothing.
        static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    LINE.with_borrow_mut(|line| {
        line.clear();
        event.write(sink.format(), wanted, line);
        sink.line(line);
    });
}
