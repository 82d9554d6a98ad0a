//! A policy test: a request, whose it is, and what is expected of it. Data, which the routes file's
//! `tests:` become; `run.rs` holds routes to it.

use std::fmt;
use std::sync::Arc;

use http::HeaderName;
use serde_json::{Map, Value};

use super::Asking;
use crate::authn::Provider;
use crate::rejection::Code;

/// An element of `tests:`.
#[derive(Debug)]
pub struct PolicyTest {
    /// What reports call it.
    pub name: String,
    /// Where it stands.
    pub at: At,
    /// The request.
    pub asking: Asking,
    /// Whose it is; `None`: of whoever its own fields name, which is nobody as a rule.
    pub token: Option<ClaimedToken>,
    /// What is expected, each at its place.
    pub expected: Vec<Expectation>,
}

/// Claims in place of a token.
#[derive(Debug)]
pub struct ClaimedToken {
    /// Whose token it would be.
    pub provider: Arc<Provider>,
    /// What it would say beside, and in place of, what each of that provider's tokens says.
    pub claims: Map<String, Value>,
}

/// A place in the routes file: line and column, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    /// The line.
    pub line: u32,
    /// The column, in characters.
    pub column: u32,
}

/// One thing that is expected.
#[derive(Clone, Debug)]
pub struct Expectation {
    /// Where that is said.
    pub at: At,
    /// What.
    pub what: Expected,
}

/// What can be expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// That this route takes it.
    Route(String),
    /// That it reaches the upstream.
    Forward,
    /// That the gateway answers it with this status.
    Status(u16),
    /// That it is refused with this code.
    Code(Code),
    /// Where the answer leads to.
    Location(String),
    /// The path at the upstream; the query too, where there is a `?` in it.
    UpstreamPath(String),
    /// A field at the upstream; several lines of it are joined with commas.
    UpstreamHeader(HeaderName, String),
    /// That the upstream does not get this field.
    UpstreamWithout(HeaderName),
    /// The credential at the upstream.
    Token(ExpectedToken),
}

/// The credential that an upstream is expected to get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExpectedToken {
    /// None.
    None,
    /// The caller's own.
    Passthrough,
    /// A header of this name.
    Header(HeaderName),
    /// A token in the caller's name for these scopes, audiences and resources, in any order.
    OnBehalfOf(Vec<String>),
    /// The same in the gateway's own name.
    ClientCredentials(Vec<String>),
    /// A token of the managed identity for this resource.
    ManagedIdentity(String),
}

impl Expected {
    /// Whether it is about what the upstream gets.
    pub(super) fn is_of_upstream(&self) -> bool {
        match self {
            Self::UpstreamPath(_)
            | Self::UpstreamHeader(..)
            | Self::UpstreamWithout(_)
            | Self::Token(_) => true,
            Self::Route(_)
            | Self::Forward
            | Self::Status(_)
            | Self::Code(_)
            | Self::Location(_) => false,
        }
    }

    /// The key of `expect` that says it.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Route(_) => "route",
            Self::Forward | Self::Status(_) => "status",
            Self::Code(_) => "code",
            Self::Location(_) => "location",
            Self::UpstreamPath(_) => "upstream_path",
            Self::UpstreamHeader(..) => "upstream_headers",
            Self::UpstreamWithout(_) => "upstream_without",
            Self::Token(_) => "token",
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forward => f.write_str("`forward`"),
            Self::Status(status) => write!(f, "`{status}`"),
            Self::Code(code) => write!(f, "`{}`", code.answer().name),
            Self::Route(text) | Self::Location(text) | Self::UpstreamPath(text) => {
                write!(f, "`{text}`")
            }
            Self::UpstreamHeader(name, value) => write!(f, "`{name}: {value}`"),
            Self::UpstreamWithout(name) => write!(f, "no `{name}`"),
            Self::Token(token) => token.fmt(f),
        }
    }
}

impl fmt::Display for ExpectedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("`none`"),
            Self::Passthrough => f.write_str("`passthrough`"),
            Self::Header(name) => write!(f, "`header: {name}`"),
            Self::OnBehalfOf(wanted) => write!(f, "`on_behalf_of: [{}]`", wanted.join(", ")),
            Self::ClientCredentials(wanted) => {
                write!(f, "`client_credentials: [{}]`", wanted.join(", "))
            }
            Self::ManagedIdentity(resource) => write!(f, "`managed_identity: {resource}`"),
        }
    }
}
