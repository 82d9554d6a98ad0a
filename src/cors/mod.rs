//! Which pages of other origins may call a route from a browser, and read what it answers
//! (`cors`; the CORS protocol of the Fetch standard, §3.3).
//!
//! Decides what an origin is told. It guards nothing on this side: who may have an answer is for
//! `auth` to say, and the browser keeps from pages what they were not given here. Which route a
//! preflight is about is decided in `preflight.rs`.
//!
//! An upgraded connection is outside of all this: browsers ask nobody before they open a
//! WebSocket, and send no `Authorization` with it that a foreign page could use.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ORIGIN,
    VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

use crate::body::Body;

mod origin;

pub use self::origin::{Origin, OriginError};

/// What every page may read of an answer, so that it can tell why it was refused and until when.
const ALWAYS_EXPOSED: [&str; 3] = ["www-authenticate", "x-request-id", "retry-after"];

/// What the answer to a preflight depends on (Fetch §3.3.5).
const PREFLIGHT_VARY: &str =
    "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whose pages.
    pub origins: Origins,
    /// With which methods.
    pub methods: Methods,
    /// With which header fields.
    pub headers: Names,
    /// Which fields of an answer they may read beside [`ALWAYS_EXPOSED`].
    pub expose: Names,
    /// How long a browser may remember this, in seconds.
    pub max_age: u64,
    /// Whether pages may send cookies and client certificates, and read the answer.
    pub credentials: bool,
}

/// Whose pages may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// Everybody's. Never with credentials.
    Any,
    /// Those of one of these.
    Listed(Vec<Origin>),
}

impl Origins {
    /// As the file writes them.
    pub fn texts(&self) -> Vec<String> {
        match self {
            Self::Any => vec!["*".to_owned()],
            Self::Listed(origins) => origins.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Which methods pages may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Methods {
    /// All that the route takes.
    OfRoute,
    /// These.
    Listed(Vec<Method>),
}

/// Header fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// All of them.
    Any,
    /// These.
    Listed(Vec<HeaderName>),
}

/// A route's policy, ready to be said.
#[derive(Debug)]
pub struct Cors {
    policy: Policy,
    exposed: HeaderValue,
}

/// What a page asks leave for, in a preflight.
#[derive(Debug)]
pub struct Asked<'r> {
    /// Who asks; `None` for one who can't be told.
    pub origin: Option<&'r HeaderValue>,
    /// The method that the request would have.
    pub method: Method,
    /// The fields it would have, beyond those that every page may send; `None` for a list that
    /// is none.
    pub headers: Option<Vec<HeaderName>>,
}

impl Cors {
    /// A route with this policy.
    pub fn new(policy: Policy) -> Self {
        let exposed = match &policy.expose {
            Names::Any => "*".to_owned(),
            Names::Listed(more) => {
                let more = more.iter().map(HeaderName::as_str);
                let more = more.filter(|name| !ALWAYS_EXPOSED.contains(name));
                ALWAYS_EXPOSED.into_iter().chain(more).collect::<Vec<_>>().join(", ")
            }
        };
        let exposed = text(exposed);
        Self { policy, exposed }
    }

    /// What the file says.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Whether pages of `origin` may call.
    pub fn allows(&self, origin: Option<&HeaderValue>) -> bool {
        match (&self.policy.origins, origin) {
            (Origins::Any, _) => true,
            (Origins::Listed(listed), Some(origin)) => {
                listed.iter().any(|one| one.is(origin.as_bytes()))
            }
            (Origins::Listed(_), None) => false,
        }
    }

    /// Makes an answer of the route readable for a page of `origin`, if it may call, and for no
    /// other: what the upstream said of this is removed. Refusals are answers too.
    pub fn apply(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        let theirs: Vec<HeaderName> =
            headers.keys().filter(|name| is_access_control(name)).cloned().collect();
        for name in &theirs {
            headers.remove(name);
        }
        let allowed = match &self.policy.origins {
            Origins::Any => Some(HeaderValue::from_static("*")),
            Origins::Listed(_) => {
                vary_by_origin(headers);
                origin.filter(|origin| self.allows(Some(origin))).cloned()
            }
        };
        let Some(allowed) = allowed else { return };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, self.exposed.clone());
        self.say_credentials(headers);
    }

    /// The answer to a preflight that nothing is granted by: the browser then tells its page that
    /// the request failed, and its console why.
    pub fn not_granted() -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response.headers_mut().insert(VARY, HeaderValue::from_static(PREFLIGHT_VARY));
        response
    }

    /// The answer to a preflight: which of `methods` and of the route's headers the page may use.
    /// The network of this machine is never said to be open to pages of the public one.
    pub fn granted(&self, asked: &Asked<'_>, methods: &[Method]) -> Response<Body> {
        let mut response = Self::not_granted();
        let headers = response.headers_mut();
        match (&self.policy.origins, asked.origin) {
            (Origins::Any, _) => {
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            }
            (Origins::Listed(_), Some(origin)) => {
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            }
            (Origins::Listed(_), None) => return response,
        }
        let methods: Vec<&str> = methods.iter().map(Method::as_str).collect();
        if !methods.is_empty() {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, text(methods.join(", ")));
        }
        // By name, never `*`: that one does not mean `authorization`.
        let names: Vec<&str> = match (&self.policy.headers, &asked.headers) {
            (Names::Listed(names), _) => names.iter().map(HeaderName::as_str).collect(),
            (Names::Any, Some(asked)) => asked.iter().map(HeaderName::as_str).collect(),
            (Names::Any, None) => Vec::new(),
        };
        if !names.is_empty() {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, text(names.join(", ")));
        }
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(self.policy.max_age));
        self.say_credentials(headers);
        response
    }

    /// The methods that pages may use at most; of a route that names none, the one asked for.
    pub fn methods<'a>(&'a self, asked: &'a Asked<'_>) -> &'a [Method] {
        match &self.policy.methods {
            Methods::OfRoute => std::slice::from_ref(&asked.method),
            Methods::Listed(listed) => listed,
        }
    }

    fn say_credentials(&self, headers: &mut HeaderMap) {
        if self.policy.credentials {
            let yes = HeaderValue::from_static("true");
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        }
    }
}

/// Whether a field is one of the protocol's answers: only the gateway gives these where a route
/// has a policy.
pub fn is_access_control(name: &HeaderName) -> bool {
    name.as_str().starts_with("access-control-")
}

/// Whose page sent a request: its `Origin`, if there is just one.
pub fn origin_of(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut origins = headers.get_all(ORIGIN).iter();
    origins.next().filter(|_| origins.next().is_none())
}

/// Adds `Origin` to what the answer depends on, unless it is there (or `*` is).
fn vary_by_origin(headers: &mut HeaderMap) {
    let mut joined = Vec::new();
    for line in headers.get_all(VARY) {
        let bytes = line.as_bytes();
        let names = bytes.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        if names.into_iter().any(|name| name == b"*" || name.eq_ignore_ascii_case(b"origin")) {
            return;
        }
        joined.extend_from_slice(bytes);
        joined.extend_from_slice(b", ");
    }
    joined.extend_from_slice(b"Origin");
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        headers.insert(VARY, joined);
    }
}

/// Names of fields and methods are visible ASCII.
fn text(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests;
