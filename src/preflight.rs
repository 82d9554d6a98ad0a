//! CORS preflights: what a browser asks before it sends a request of a page of another origin.
//!
//! The gateway answers them itself, without a token, and no upstream hears of one, where the route
//! that the request itself would take has `cors`; elsewhere they are requests like any other. A
//! preflight names the method and the header fields to come, but not their values. So where routes
//! are told apart by `headers`, each that the request might take has to have the same `cors`; else
//! nothing is granted.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN};
use http::{HeaderMap, HeaderName, Method, Response};

use crate::body::Body;
use crate::cors::{self, Asked, Cors};
use crate::limits::MAX_HEADER_FIELDS;
use crate::observe::access_log::AccessRecord;
use crate::route::Target;
use crate::snapshot::{Route, Snapshot};

/// The answer to a preflight.
#[derive(Debug)]
pub struct Preflight<'s> {
    route: &'s Route,
    response: Response<Body>,
    /// Why nothing was granted, for the operator.
    why_not: Option<&'static str>,
}

impl<'s> Preflight<'s> {
    /// The route that answers.
    pub fn route(&self) -> &'s Route {
        self.route
    }

    /// The answer.
    pub fn response(&self) -> &Response<Body> {
        &self.response
    }

    /// Why nothing was granted, for the operator; `None` if it was.
    pub fn why_not(&self) -> Option<&'static str> {
        self.why_not
    }

    /// The answer; the event in the log says whose it is, and why nothing was granted.
    pub fn told(self, record: &mut AccessRecord) -> Response<Body> {
        record.route = Some(Arc::clone(&self.route.metrics));
        record.reason = self.why_not.map(Cow::Borrowed);
        self.response
    }
}

/// The answer to a request that is a preflight (Fetch §3.3.2) and the gateway's to answer.
pub fn answer<'s>(
    snapshot: &'s Snapshot,
    target: &Target,
    headers: &HeaderMap,
) -> Option<Preflight<'s>> {
    let is_preflight = *target.method() == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    if !is_preflight {
        return None;
    }
    let named = named_headers(headers);
    let possible = |method: &Method| {
        snapshot.routes.possible(target, method, |name| may_send(name, named.as_deref()))
    };
    let not_granted = |route, why_not| {
        let why_not = Some(why_not);
        Some(Preflight { route, response: Cors::not_granted(), why_not })
    };
    let asked = asked_method(headers).and_then(|method| {
        let (route, cors) = possible(&method).into_iter().find_map(with_cors)?;
        Some((method, route, cors))
    });
    let Some((method, route, cors)) = asked else {
        // As a request like any other, it could come to a route that answers preflights itself.
        let (route, _) = possible(&Method::OPTIONS).into_iter().find_map(with_cors)?;
        return not_granted(route, "preflight not granted: no route with `cors` takes its method");
    };
    let agree = |method: &Method| {
        let routes = possible(method);
        let same = |route: &Route| {
            route.cors.as_ref().is_some_and(|other| other.policy() == cors.policy())
        };
        !routes.is_empty() && routes.into_iter().all(same)
    };
    let origin = cors::origin_of(headers);
    if !cors.allows(origin) {
        let why = "preflight not granted: its origin is not in `cors.origins` of the route";
        return not_granted(route, why);
    }
    if !agree(&method) {
        let why = "preflight not granted: a header's value decides between routes of different `cors`, and a preflight does not show it";
        return not_granted(route, why);
    }
    let asked = Asked { origin, method, headers: named.clone() };
    let methods: Vec<Method> =
        cors.methods(&asked).iter().filter(|it| agree(it)).cloned().collect();
    Some(Preflight { route, response: cors.granted(&asked, &methods), why_not: None })
}

fn with_cors(route: &Route) -> Option<(&Route, &Cors)> {
    Some((route, route.cors.as_deref()?))
}

/// The one method that is asked for, if pages may use it at all (Fetch §2.2.1).
fn asked_method(headers: &HeaderMap) -> Option<Method> {
    let mut lines = headers.get_all(ACCESS_CONTROL_REQUEST_METHOD).iter();
    let method = lines.next().filter(|_| lines.next().is_none())?;
    let method = Method::from_bytes(method.as_bytes()).ok()?;
    let forbidden = ["TRACE", "CONNECT", "TRACK"];
    let is_forbidden = forbidden.iter().any(|name| method.as_str().eq_ignore_ascii_case(name));
    (!is_forbidden).then_some(method)
}

/// The fields that are asked for; `None` if the list is not one, or longer than any head may be.
fn named_headers(headers: &HeaderMap) -> Option<Vec<HeaderName>> {
    let mut named = Vec::new();
    for line in headers.get_all(ACCESS_CONTROL_REQUEST_HEADERS) {
        let listed = line.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        for name in listed.filter(|name| !name.is_empty()) {
            if named.len() >= MAX_HEADER_FIELDS {
                return None;
            }
            named.push(HeaderName::from_bytes(name).ok()?);
        }
    }
    Some(named)
}

/// Whether the request to come may have this field: it was named, or it is one that needs no
/// leave, since every page may set it (Fetch §2.2.2) or the browser does.
fn may_send(name: &HeaderName, named: Option<&[HeaderName]>) -> bool {
    const WITHOUT_LEAVE: [&str; 20] = [
        "accept",
        "accept-charset",
        "accept-encoding",
        "accept-language",
        "cache-control",
        "connection",
        "content-language",
        "content-length",
        "content-type",
        "cookie",
        "dnt",
        "expect",
        "host",
        "origin",
        "pragma",
        "range",
        "referer",
        "save-data",
        "te",
        "user-agent",
    ];
    let text = name.as_str();
    named.is_none_or(|named| named.contains(name))
        || WITHOUT_LEAVE.contains(&text)
        || ["sec-", "proxy-", "x-forwarded-"].iter().any(|prefix| text.starts_with(prefix))
}
