//! The constants that the docs of `file/` name as defaults and limits, by the names they have
//! there, so that a reader of the schema sees `30s` and not `Server::DEFAULT_SHUTDOWN_GRACE`.

use std::time::Duration;

use super::super::file::{
    Admin, Cache, Cors, HealthCheck, Listener, Otlp, OutlierEjection, ProviderCalls, RateLimit,
    Redis, Retry, Server, Timeouts, Upstream,
};
use super::super::value::{
    Attempts, ClockSkew, Count, HeadBytes, Pending, Percent, Period, PeriodOrZero, Share, Times,
    UpstreamConnections,
};
use crate::limits::MAX_HEADER_FIELDS;

/// The value of the constant that docs call `name`, as it is written in a routes file.
pub(super) fn constant(name: &str) -> Option<String> {
    macro_rules! find {
        ($($constant:path),+ $(,)?) => {
            [$((stringify!($constant), $constant.written())),+]
        };
    }
    let known = find![
        Admin::DEFAULT_ADDRESS,
        Cache::DEFAULT_MAX_ENTRIES,
        Cors::DEFAULT_HEADERS,
        Cors::DEFAULT_MAX_AGE,
        HealthCheck::DEFAULT_HEALTHY_AFTER,
        HealthCheck::DEFAULT_INTERVAL,
        HealthCheck::DEFAULT_TIMEOUT,
        HealthCheck::DEFAULT_UNHEALTHY_AFTER,
        HealthCheck::MIN_INTERVAL,
        Listener::DEFAULT_ADDRESS,
        MAX_HEADER_FIELDS,
        Otlp::DEFAULT_TIMEOUT,
        OutlierEjection::DEFAULT_BASE,
        OutlierEjection::DEFAULT_CONSECUTIVE_FAILURES,
        OutlierEjection::DEFAULT_MAX_PERCENT,
        ProviderCalls::DEFAULT_CLOCK_SKEW,
        ProviderCalls::DEFAULT_MAX_IN_FLIGHT,
        ProviderCalls::DEFAULT_METADATA_REFRESH,
        ProviderCalls::DEFAULT_TIMEOUT,
        RateLimit::DEFAULT_PER,
        Redis::DEFAULT_KEY_PREFIX,
        Redis::DEFAULT_TIMEOUT,
        Retry::DEFAULT_ATTEMPTS,
        Retry::DEFAULT_BUDGET,
        Server::DEFAULT_BODY_IDLE_TIMEOUT,
        Server::DEFAULT_HEADER_TIMEOUT,
        Server::DEFAULT_IDLE_TIMEOUT,
        Server::DEFAULT_MAX_CONCURRENT_STREAMS,
        Server::DEFAULT_MAX_CONNECTIONS,
        Server::DEFAULT_MAX_HEADER_BYTES,
        Server::DEFAULT_SHUTDOWN_GRACE,
        Timeouts::DEFAULT_CONNECT,
        Timeouts::DEFAULT_IDLE,
        Timeouts::DEFAULT_RESPONSE,
        Timeouts::DEFAULT_STREAM,
        Upstream::DEFAULT_MAX_CONNECTIONS,
        Upstream::DEFAULT_MAX_PENDING,
        Upstream::MAX_URLS,
    ];
    known.into_iter().find(|(known, _)| *known == name).map(|(_, written)| written)
}

/// A value as it is written in a routes file.
trait InFile {
    fn written(&self) -> String;
}

impl InFile for &str {
    fn written(&self) -> String {
        (*self).to_owned()
    }
}

impl<const N: usize> InFile for [&str; N] {
    fn written(&self) -> String {
        format!("[{}]", self.join(", "))
    }
}

impl InFile for usize {
    fn written(&self) -> String {
        self.to_string()
    }
}

impl InFile for Duration {
    fn written(&self) -> String {
        let (seconds, millis) = (self.as_secs(), self.subsec_millis());
        match seconds {
            _ if millis > 0 => format!("{}ms", self.as_millis()),
            3600.. if seconds % 3600 == 0 => format!("{}h", seconds / 3600),
            // `90s` and `60s` are what people say.
            120.. if seconds % 60 == 0 => format!("{}m", seconds / 60),
            _ => format!("{seconds}s"),
        }
    }
}

impl InFile for HeadBytes {
    fn written(&self) -> String {
        format!("{}KiB", self.0 / 1024)
    }
}

impl InFile for Share {
    fn written(&self) -> String {
        format!("{}%", self.0)
    }
}

macro_rules! as_their_content {
    ($($type:ty: $content:ident),+ $(,)?) => {$(
        impl InFile for $type {
            fn written(&self) -> String {
                self.0.$content()
            }
        }
    )+};
}

as_their_content!(
    Period: written,
    PeriodOrZero: written,
    ClockSkew: written,
    UpstreamConnections: written,
    Pending: written,
    Attempts: to_string,
    Count: to_string,
    Percent: to_string,
    Times: to_string,
);
