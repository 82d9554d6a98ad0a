//! The fields of the access log, and which of them a line has.

/// A field of section 5 of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// `time`
    Time,
    /// `request_id`
    RequestId,
    /// `trace_id`
    TraceId,
    /// `client_ip`
    ClientIp,
    /// `method`
    Method,
    /// `host`
    Host,
    /// `path`
    Path,
    /// `status`
    Status,
    /// `code`
    Code,
    /// `reason`
    Reason,
    /// `route`
    Route,
    /// `upstream`
    Upstream,
    /// `endpoint`
    Endpoint,
    /// `user`
    User,
    /// `client_id`
    ClientId,
    /// `tenant`
    Tenant,
    /// `token_cache`
    TokenCache,
    /// `duration_ms`
    DurationMs,
    /// `upstream_ms`
    UpstreamMs,
    /// `exchange_ms`
    ExchangeMs,
    /// `bytes_in`
    BytesIn,
    /// `bytes_out`
    BytesOut,
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
