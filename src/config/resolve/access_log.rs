//! `telemetry.access_log`: which fields a line of the log has.

use super::super::file::{self, AccessLogField};
use crate::observe::access_log::AccessLog;
use crate::observe::field::{Field, FieldSet};

pub(super) fn access_log(file: &file::AccessLog) -> AccessLog {
    match file {
        file::AccessLog::On => AccessLog::On(FieldSet::ALL),
        file::AccessLog::Off => AccessLog::Off,
        file::AccessLog::Some(some) => {
            AccessLog::On(FieldSet::of(some.fields.0.iter().map(|name| field(name.value))))
        }
    }
}

fn field(name: AccessLogField) -> Field {
    match name {
        AccessLogField::Time => Field::Time,
        AccessLogField::RequestId => Field::RequestId,
        AccessLogField::TraceId => Field::TraceId,
        AccessLogField::ClientIp => Field::ClientIp,
        AccessLogField::Method => Field::Method,
        AccessLogField::Host => Field::Host,
        AccessLogField::Path => Field::Path,
        AccessLogField::Status => Field::Status,
        AccessLogField::Code => Field::Code,
        AccessLogField::Reason => Field::Reason,
        AccessLogField::Route => Field::Route,
        AccessLogField::Upstream => Field::Upstream,
        AccessLogField::Endpoint => Field::Endpoint,
        AccessLogField::User => Field::User,
        AccessLogField::ClientId => Field::ClientId,
        AccessLogField::Tenant => Field::Tenant,
        AccessLogField::TokenCache => Field::TokenCache,
        AccessLogField::DurationMs => Field::DurationMs,
        AccessLogField::UpstreamMs => Field::UpstreamMs,
        AccessLogField::ExchangeMs => Field::ExchangeMs,
        AccessLogField::BytesIn => Field::BytesIn,
        AccessLogField::BytesOut => Field::BytesOut,
    }
}
