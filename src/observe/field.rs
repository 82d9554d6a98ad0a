//! The fields of the access log, and which of them a line has.

use schemars::JsonSchema;
use serde::Deserialize;

/// A field of the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(rename = "AccessLogField")]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// When the request came. A line of text begins with it in any case.
    Time,
    /// The request's id, which its answer and the upstream have too.
    RequestId,
    /// The trace that it belongs to.
    TraceId,
    /// Where it came from, through trusted proxies.
    ClientIp,
    /// Its method.
    Method,
    /// The host that it asked for.
    Host,
    /// Its path, without the query.
    Path,
    /// The answer's status; 499 for a caller who went away.
    Status,
    /// Why it was refused, as a word.
    Code,
    /// Why, for operators.
    Reason,
    /// The route's name.
    Route,
    /// The upstream's name.
    Upstream,
    /// Which of its endpoints.
    Endpoint,
    /// The caller's `oid` or `sub`.
    User,
    /// The caller's client.
    ClientId,
    /// The caller's tenant.
    Tenant,
    /// How the cache of outbound tokens answered.
    TokenCache,
    /// From the head of the request to the end of the answer.
    DurationMs,
    /// Of that, the upstream's time to the head of its answer.
    UpstreamMs,
    /// Of that, the wait for an exchange.
    ExchangeMs,
    /// Bytes of the request's body.
    BytesIn,
    /// Bytes of the answer's body.
    BytesOut,
}

macro_rules! names {
    ($($field:ident $name:literal,)*) => {
        impl Field {
            /// Its name.
            pub(super) fn name(self) -> &'static str {
                match self {
                    $(Self::$field => $name,)*
                }
            }

            /// Its name, as a key of JSON behind another one.
            pub(super) fn json_key(self) -> &'static str {
                match self {
                    $(Self::$field => concat!(",\"", $name, "\":"),)*
                }
            }

            /// The same, and what stands for a value that there is not.
            pub(super) fn json_null(self) -> &'static str {
                match self {
                    $(Self::$field => concat!(",\"", $name, "\":null"),)*
                }
            }
        }
    };
}

names! {
    Time "time",
    RequestId "request_id",
    TraceId "trace_id",
    ClientIp "client_ip",
    Method "method",
    Host "host",
    Path "path",
    Status "status",
    Code "code",
    Reason "reason",
    Route "route",
    Upstream "upstream",
    Endpoint "endpoint",
    User "user",
    ClientId "client_id",
    Tenant "tenant",
    TokenCache "token_cache",
    DurationMs "duration_ms",
    UpstreamMs "upstream_ms",
    ExchangeMs "exchange_ms",
    BytesIn "bytes_in",
    BytesOut "bytes_out",
}

/// Some of the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldSet(u32);

impl FieldSet {
    /// All fields.
    pub const ALL: Self = Self((1 << (Field::BytesOut as u32 + 1)) - 1);

    /// These fields.
    pub fn of(fields: impl IntoIterator<Item = Field>) -> Self {
        Self(fields.into_iter().fold(0, |set, field| set | 1 << field as u32))
    }

    pub(super) fn without(self, field: Field) -> Self {
        Self(self.0 & !(1 << field as u32))
    }

    pub(super) fn has(self, field: Field) -> bool {
        self.0 & 1 << field as u32 != 0
    }

    /// As a number that an atomic can hold; 0 has none.
    pub(super) fn bits(self) -> u32 {
        self.0
    }

    pub(super) fn of_bits(bits: u32) -> Self {
        Self(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_in() {
        let set = FieldSet::of([Field::Status, Field::BytesOut, Field::Status]);
        assert!(set.has(Field::Status) && set.has(Field::BytesOut) && !set.has(Field::Time));
        assert!(FieldSet::ALL.has(Field::Time) && FieldSet::ALL.has(Field::BytesOut));
        assert_eq!(FieldSet::ALL.bits().count_ones(), 22);
    }
}
