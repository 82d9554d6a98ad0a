//! Which route a request takes.
//!
//! [`Target::parse`] brings a request to one spelling or refuses it; [`RouteTable::find`]
//! takes that spelling to the most specific route that fits. Nothing here knows what a
//! route does: its value is opaque.
//!
//! The rule behind the refusals: the gateway judges a request by its own reading of the path,
//! and the upstream acts on *its* reading. Where the two could differ so that another route's
//! rules should have been asked, the request is refused rather than interpreted.

mod authority;
mod canonical;
mod captures;
mod conditions;
mod framing;
mod host;
mod pattern;
mod ranking;
mod readings;
mod rewrite;
mod table;
mod target;
mod trie;

#[cfg(test)]
mod matching_tests;
#[cfg(test)]
mod gateway_api_tests;
#[cfg(test)]
mod proptests;
#[cfg(test)]
mod differential_tests;

pub use captures::Captures;
pub use conditions::method_fits as takes_method;
pub use framing::Condemned;
pub use host::HostPattern;
pub(crate) use pattern::ESCAPED_IN_SEGMENT;
pub use pattern::{PathPattern, PatternError};
pub use rewrite::{Known, Rewrite, RewriteError, StripPrefix, Template};
pub use table::{Ambiguity, Considered, EncodedSlashes, Found, Lack, RouteMatch, RouteTable};
pub use target::Target;
