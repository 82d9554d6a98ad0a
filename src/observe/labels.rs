//! The label sets of the metrics: names from the routes file, methods of a known list, codes.

use std::fmt;
use std::sync::Arc;

use http::{Method, StatusCode};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct RouteLabel {
    pub(crate) route: Arc<str>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    pub(crate) route: Arc<str>,
    pub(crate) method: &'static str,
    pub(crate) status: StatusLabel,
}

/// The method of a request: a caller can make up any number of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MethodLabel {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
    Trace,
    Connect,
    /// No common method, or none at all.
    Other,
}

impl MethodLabel {
    pub(crate) fn of(method: &Method) -> Self {
        match method.as_str() {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "PATCH" => Self::Patch,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            "TRACE" => Self::Trace,
            "CONNECT" => Self::Connect,
            _ => Self::Other,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
            Self::Connect => "CONNECT",
            Self::Other => "other",
        }
    }
}

/// The status of an answer. An upstream can make up any of 900 numbers: those without a name count by
/// their class.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(crate) enum StatusLabel {
    /// The caller went away before there was one.
    None,
    /// One that has a name.
    Known(u16),
    /// `2xx` and so on.
    Class(&'static str),
}

impl StatusLabel {
    pub(crate) fn of(status: Option<StatusCode>) -> Self {
        let Some(status) = status else { return Self::None };
        match (status.canonical_reason(), status.as_u16() / 100) {
            (Some(_), _) => Self::Known(status.as_u16()),
            (None, 1) => Self::Class("1xx"),
            (None, 2) => Self::Class("2xx"),
            (None, 3) => Self::Class("3xx"),
            (None, 4) => Self::Class("4xx"),
            (None, 5) => Self::Class("5xx"),
            (None, _) => Self::Class("other"),
        }
    }
}

impl StatusLabel {
    /// As a number; a class is the last one of it, which has no name.
    pub(crate) fn number(self) -> Option<u16> {
        match self {
            Self::None => None,
            Self::Known(status) => Some(status),
            Self::Class("1xx") => Some(199),
            Self::Class("2xx") => Some(299),
            Self::Class("3xx") => Some(399),
            Self::Class("4xx") => Some(499),
            Self::Class("5xx") => Some(599),
            Self::Class(_) => Some(999),
        }
    }
}

impl EncodeLabelValue for StatusLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        match self {
            Self::None => Ok(()),
            Self::Known(status) => status.encode(encoder),
            Self::Class(class) => class.encode(encoder),
        }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct AuthLabels {
    pub(crate) route: Arc<str>,
    pub(crate) code: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct UpstreamLabel {
    pub(crate) upstream: Arc<str>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct EndpointLabels {
    pub(crate) upstream: Arc<str>,
    /// `host[:port]`.
    pub(crate) endpoint: Arc<str>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct CacheLabels {
    pub(crate) upstream: Arc<str>,
    pub(crate) result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct ExchangeLabels {
    pub(crate) provider: Arc<str>,
    pub(crate) upstream: Arc<str>,
    pub(crate) outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct ProviderLabel {
    pub(crate) provider: Arc<str>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct RefreshLabels {
    pub(crate) provider: Arc<str>,
    pub(crate) outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct OutcomeLabel {
    pub(crate) outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct SharedCacheLabels {
    pub(crate) operation: &'static str,
    pub(crate) outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct ListenerLabel {
    pub(crate) listener: Arc<str>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct VersionLabel {
    pub(crate) version: &'static str,
}
