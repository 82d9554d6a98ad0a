//! In which form a caller takes a refusal, found out before the request is taken apart.

use http::header::{CONNECTION, CONTENT_TYPE, EXPECT};
use http::{HeaderMap, HeaderValue, Method, Request, Version};
use hyper::body::{Body as _, Incoming};

use super::grpc;

/// In which form a caller takes a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    pub(super) version: Version,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A problem document.
    Problem,
    /// The same, and the connection ends behind it: the body that was announced is not asked for.
    LastWord,
    /// gRPC.
    Grpc,
}

impl Form {
    /// For whoever sent `request`. A request without a body costs a comparison or two.
    pub fn of(request: &Request<Incoming>) -> Self {
        let version = request.version();
        let headers = request.headers();
        let kind = match version {
            Version::HTTP_2 if *request.method() == Method::POST => {
                let grpc = headers.get(CONTENT_TYPE).is_some_and(grpc::is_grpc);
                if grpc { Kind::Grpc } else { Kind::Problem }
            }
            Version::HTTP_11 if !request.body().is_end_stream() && headers.contains_key(EXPECT) => {
                Kind::LastWord
            }
            _ => Kind::Problem,
        };
        Self { version, kind }
    }

    /// Says in an answer of the gateway's own that the connection ends behind it, where it does.
    pub fn say_last_word(self, headers: &mut HeaderMap) {
        if self.kind == Kind::LastWord {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

/// For a caller of whom nothing more is known.
impl From<Version> for Form {
    fn from(version: Version) -> Self {
        Self { version, kind: Kind::Problem }
    }
}
