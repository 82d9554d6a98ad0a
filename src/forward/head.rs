//! The head of a request to an upstream, and the two forms that it takes: that of HTTP/1.1 and
//! that of HTTP/2, and back from them where a request was not sent. What stands in it is decided in
//! `request.rs`.

use std::sync::Arc;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, TRAILER, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use hyper::body::Body as _;

use super::endpoint::Endpoint;
use super::interim::Listener;
use crate::body::Body;
use crate::exchange::UpstreamCredential;
use crate::limits;

/// As the lengths of bodies are counted.
const REPLAY_BUFFER_BYTES: u64 = limits::REPLAY_BUFFER_BYTES as u64;

/// The head of a request, before it is known which HTTP it will be sent over.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) method: Method,
    pub(super) scheme: Scheme,
    /// The host that the upstream is told; `None` is the endpoint's own.
    pub(super) authority: Option<HeaderValue>,
    pub(super) path: PathAndQuery,
    pub(super) headers: HeaderMap,
    /// Who hears of informational answers, if anybody.
    pub(super) listener: Option<Arc<Listener>>,
}

/// A copy of a [`Head`] for a further try. Most are never used, so its fields stand in a list: that costs
/// an allocation less than a map, and less time.
#[derive(Debug)]
pub(super) struct Spare {
    method: Method,
    path: PathAndQuery,
    fields: Vec<(HeaderName, HeaderValue)>,
    unsaid: Unsaid,
}

impl Spare {
    /// The head that it is a copy of.
    pub(super) fn into_head(self) -> Head {
        let Self { method, path, fields, unsaid } = self;
        let Unsaid { scheme, authority, listener } = unsaid;
        let mut headers = HeaderMap::with_capacity(fields.len());
        for (name, value) in fields {
            headers.append(name, value);
        }
        Head { method, scheme, authority, path, headers, listener }
    }
}

/// What of a [`Head`] goes into a request in a form that can't be read back from it.
#[derive(Debug)]
pub(super) struct Unsaid {
    scheme: Scheme,
    authority: Option<HeaderValue>,
    listener: Option<Arc<Listener>>,
}

impl Head {
    /// Puts another credential in place of the one that the upstream refused.
    pub(super) fn set_credential(&mut self, credential: &UpstreamCredential) {
        if let Some((name, value)) = credential.header() {
            self.headers.insert(name, value.clone());
        }
    }

    pub(super) fn content_type(&self) -> Option<&HeaderValue> {
        self.headers.get(CONTENT_TYPE)
    }

    pub(super) fn is_idempotent(&self) -> bool {
        // RFC 9110 §9.2.2.
        self.method.is_idempotent()
    }

    /// A copy for a further try.
    pub(super) fn spare(&self) -> Spare {
        let fields = self.headers.iter().map(|(name, value)| (name.clone(), value.clone()));
        Spare {
            method: self.method.clone(),
            path: self.path.clone(),
            fields: fields.collect(),
            unsaid: self.unsaid(),
        }
    }

    /// The body, if the caller has it still: nobody has asked for it.
    pub(super) fn unread_body(&self) -> Option<Body> {
        let (unread, _progress) = self.listener.as_ref()?.held()?.body_again()?;
        Some(Body::stream(unread))
    }

    /// Whether the body is not declared larger than what is kept of one.
    pub(super) fn body_may_be_kept(&self) -> bool {
        declared_length(&self.headers).is_none_or(|length| length <= REPLAY_BUFFER_BYTES)
    }

    /// What of the head is not found in a request that was made of it.
    pub(super) fn unsaid(&self) -> Unsaid {
        Unsaid {
            scheme: self.scheme.clone(),
            authority: self.authority.clone(),
            listener: self.listener.clone(),
        }
    }

    /// The head and body of a request that was made of them and not sent: the inverse of
    /// [`Self::into_http1`] and [`Self::into_http2`].
    pub(super) fn of_unsent(request: Request<Body>, unsaid: Unsaid) -> (Self, Body) {
        let (mut parts, body) = request.into_parts();
        // None of these is the caller's: they are set for each connection.
        parts.headers.remove(HOST);
        parts.headers.remove(TRANSFER_ENCODING);
        parts.headers.remove(EXPECT);
        let Unsaid { scheme, authority, listener } = unsaid;
        let path = parts.uri.into_parts().path_and_query;
        let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
        let (method, headers) = (parts.method, parts.headers);
        (Self { method, scheme, authority, path, headers, listener }, body)
    }

    /// The request as HTTP/1.1 has it: path alone, and a `Host` field.
    pub(super) fn into_http1(mut self, endpoint: &Endpoint, body: Body) -> Request<Body> {
        if !body.is_end_stream() && self.headers.contains_key(TRAILER) {
            // HTTP/2 has trailers behind a body of known length; HTTP/1.1 only behind chunks.
            self.headers.remove(CONTENT_LENGTH);
        }
        if !body.is_end_stream() && !self.headers.contains_key(CONTENT_LENGTH) {
            // hyper sends no body with GET and the like, unless it is told that there is one.
            self.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        let mut request = Request::new(body);
        let authority = self.authority.unwrap_or_else(|| endpoint.origin.authority.clone());
        self.headers.insert(HOST, authority);
        *request.method_mut() = self.method;
        *request.uri_mut() = Uri::from(self.path);
        *request.headers_mut() = self.headers;
        if let Some(listener) = self.listener {
            listener.listen(&mut request);
        }
        request
    }

    /// The request as HTTP/2 has it: an absolute URI, and no `Host` field.
    pub(super) fn into_http2(
        self,
        endpoint: &Endpoint,
        body: Body,
    ) -> Result<Request<Body>, http::Error> {
        let authority = self.authority.as_ref().unwrap_or(&endpoint.origin.authority);
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(self.scheme);
        uri.authority = Some(Authority::try_from(authority.as_bytes())?);
        uri.path_and_query = Some(self.path);
        let mut request = Request::new(body);
        *request.method_mut() = self.method;
        *request.uri_mut() = Uri::from_parts(uri)?;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = self.headers;
        if let Some(listener) = self.listener {
            listener.let_through(&mut request);
        }
        Ok(request)
    }
}

/// The length that the head gives its body.
pub(super) fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use http::header::ACCEPT;

    use super::*;

    #[test]
    fn a_spare_is_the_same_head() {
        let mut headers = HeaderMap::new();
        for (name, value) in [(ACCEPT, "a"), (CONTENT_TYPE, "b"), (ACCEPT, "c")] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let head = Head {
            method: Method::PUT,
            scheme: Scheme::HTTPS,
            authority: Some(HeaderValue::from_static("a.x:81")),
            path: PathAndQuery::from_static("/a?b"),
            headers,
            listener: None,
        };
        let spare = head.spare().into_head();
        assert_eq!(spare.headers, head.headers);
        assert_eq!((&spare.method, &spare.scheme), (&head.method, &head.scheme));
        assert_eq!((&spare.authority, &spare.path), (&head.authority, &head.path));
    }
}
