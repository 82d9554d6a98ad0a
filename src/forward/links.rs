//! Links to an upstream, and the links to this gateway that lead to the same place
//! (`rewrite_links`).
//!
//! A link of an upstream begins with its scheme, host and port; which path of the gateway leads to
//! it is read backwards from the `rewrite` of a route, and then tried: the link is looked up in
//! the table of routes as if a caller had sent it, and unless that forwards the same path to the
//! same upstream, it is left alone. So nothing that a route guards can be reached by a link that
//! could not be reached without, and whoever calls a link asks the upstream for what it offered,
//! byte for byte.
//!
//! The place that links lead to is `server.public_url` where the file sets it, else the scheme and
//! the host of the caller's own request, as the upstream is told them: a caller who lies about its
//! host is lied to, and nobody else, as no cache may serve the answer to a request for another host.

mod answer;
mod body;
mod coding;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod json;

use std::collections::HashMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, Method, Request, Uri, Version};

pub(super) use body::Damaged;

use super::headers::{X_FORWARDED_HOST, X_FORWARDED_PROTO};
use crate::authn::CalledAt;
use crate::limits::MAX_LINK_ROUTES;
use crate::public_url::PublicUrl;
use crate::route::{Captures, Known, PathPattern, Rewrite, RouteMatch, RouteTable, Target};

/// Where an upstream is, as its links have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Whether its scheme is `https`.
    pub tls: bool,
    /// A DNS name or an address; IPv6 without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// The path of its URL, without a slash at its end.
    pub base_path: String,
}

/// A way through the gateway to an upstream whose links are replaced.
#[derive(Debug)]
pub struct Way {
    /// The upstream's name.
    pub upstream: Arc<str>,
    /// Where it is: one or more places.
    pub origins: Arc<[Origin]>,
    /// The path of the route.
    pub pattern: PathPattern,
    /// What becomes of it.
    pub rewrite: Rewrite,
    /// What callers call the route's host.
    pub called_at: CalledAt,
}

/// All ways, and the table that says where a link leads.
#[derive(Debug)]
pub struct Links {
    /// Of all routes, also of those that are no way.
    table: RouteTable<Option<Arc<Way>>>,
    /// By upstream.
    ways: HashMap<Arc<str>, Vec<Arc<Way>>>,
    /// The fields that some route asks for.
    conditions: Vec<HeaderName>,
    public_url: Option<Arc<PublicUrl>>,
}

impl Links {
    /// Takes all routes of a file; `None` if no links are replaced.
    pub fn new(
        entries: Vec<(RouteMatch, Option<Arc<Way>>)>,
        public_url: Option<Arc<PublicUrl>>,
    ) -> Option<Arc<Self>> {
        let mut ways: HashMap<Arc<str>, Vec<Arc<Way>>> = HashMap::new();
        for way in entries.iter().filter_map(|(_, way)| way.as_ref()) {
            ways.entry(Arc::clone(&way.upstream)).or_default().push(Arc::clone(way));
        }
        if ways.is_empty() {
            return None;
        }
        let fields = entries.iter().flat_map(|(matching, _)| &matching.headers);
        let conditions = fields.map(|(name, _)| name.clone()).collect();
        // Routes that can't be told apart were refused when the file was read.
        let table = RouteTable::build(entries).ok()?;
        Some(Arc::new(Self { table, ways, conditions, public_url }))
    }
}

/// What it takes to replace the links of one answer.
#[derive(Debug)]
pub(super) struct Linking {
    links: Arc<Links>,
    /// The way that the request came by.
    way: Arc<Way>,
    /// What a link begins with: scheme, host, port, and the path of the public URL.
    base: String,
    /// The host by which its routes are found.
    host: String,
    method: Method,
    /// What the request has of the fields that routes ask for.
    headers: HeaderMap,
    /// The path of the request, and what it had for the names.
    path: Box<str>,
    captures: Captures,
    /// The request has an entity tag that the gateway had marked.
    marked: bool,
}

impl Linking {
    /// For a request that came by `way`; makes it ask for nothing that can't be read. `headers` are
    /// those that the upstream gets. `None` if the request names no host that a link could have.
    pub(super) fn begin(
        links: &Arc<Links>,
        way: &Arc<Way>,
        target: &Target,
        captures: &Captures,
        headers: &mut HeaderMap,
    ) -> Option<Box<Self>> {
        let (base, host) = place(links.public_url.as_deref(), way.called_at, target, headers)?;
        let mut conditions = HeaderMap::new();
        for name in &links.conditions {
            for value in headers.get_all(name) {
                conditions.append(name, value.clone());
            }
        }
        let marked = answer::adapt_request(headers);
        Some(Box::new(Self {
            links: Arc::clone(links),
            way: Arc::clone(way),
            base,
            host,
            method: target.method().clone(),
            headers: conditions,
            path: target.path().into(),
            captures: *captures,
            marked,
        }))
    }

    /// What takes the place of a link up to its query or fragment, `tail`, for a client that will
    /// read it with GET; `None` if it stays as it is.
    pub(super) fn relink(&self, link: &str, tail: &str) -> Option<String> {
        self.relink_for(&Method::GET, link, tail)
    }

    fn relink_for(&self, method: &Method, link: &str, tail: &str) -> Option<String> {
        let mut places = self.way.origins.iter().filter_map(|origin| origin.path_of(link));
        let query = tail.split('#').next().unwrap_or_default();
        let ways = self.links.ways.get(&self.way.upstream)?;
        places.find_map(|wanted| {
            let others = ways.iter().filter(|way| !Arc::ptr_eq(way, &self.way));
            let others = others.filter(|way| way.called_at == self.way.called_at);
            let others = others.map(|way| (way, None)).take(MAX_LINK_ROUTES - 1);
            let known = Known { path: &self.path, captures: &self.captures };
            std::iter::once((&self.way, Some(known))).chain(others).find_map(|(way, known)| {
                let path = way.rewrite.invert(wanted, &way.pattern, known)?;
                self.leads_to(method, &path, query, wanted).then(|| format!("{}{path}", self.base))
            })
        })
    }

    /// Whether a request for this path and query, sent to where this one was sent, is forwarded to
    /// the same upstream as a request for `wanted`.
    fn leads_to(&self, method: &Method, path: &str, query: &str, wanted: &str) -> bool {
        let uri = format!("http://{}{path}{query}", self.host);
        let Ok(uri) = uri.parse::<Uri>() else { return false };
        // As an HTTP/2 request it needs no field for its host.
        let request = Request::builder().version(Version::HTTP_2).method(method).uri(uri);
        let Ok(Ok(target)) = request.body(()).map(|request| Target::parse(&request)) else {
            return false;
        };
        let Ok(found) = self.links.table.find(&target, &self.headers) else { return false };
        found.route.as_ref().is_some_and(|way| {
            way.upstream == self.way.upstream && {
                way.rewrite.apply(target.path(), &found.captures) == wanted
                    && target.query() == query.strip_prefix('?')
            }
        })
    }
}

impl Origin {
    /// The path behind the base path that an absolute link to here names, with its first slash.
    fn path_of<'l>(&self, link: &'l str) -> Option<&'l str> {
        let (scheme, rest) = link.split_once("://")?;
        if !scheme.eq_ignore_ascii_case(if self.tls { "https" } else { "http" }) {
            return None;
        }
        let (authority, path) = rest.split_at_checked(rest.find('/').unwrap_or(rest.len()))?;
        let is_plain = path.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_plain || !self.is_at(authority) {
            return None;
        }
        let behind = path.strip_prefix(self.base_path.as_str())?;
        match behind {
            // Nothing is the path `/` (RFC 3986 §6.2.3), but not behind another path.
            "" if self.base_path.is_empty() => Some("/"),
            _ => behind.starts_with('/').then_some(behind),
        }
    }

    fn is_at(&self, authority: &str) -> bool {
        // The colons of an IPv6 address stand before the bracket.
        let port_at = authority.rfind(']').unwrap_or(0);
        let colon = authority.get(port_at..).and_then(|text| text.find(':'));
        let (host, port) = match colon.and_then(|at| authority.split_at_checked(port_at + at)) {
            None => (authority, None),
            Some((host, port)) => (host, port.get(1..)),
        };
        let is_port = match port {
            None => self.port == if self.tls { 443 } else { 80 },
            Some(port) => port == self.port.to_string(),
        };
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match bracketed {
            Some(address) => address.contains(':').then_some(address),
            None => (!host.contains(':')).then_some(host),
        };
        is_port && host.is_some_and(|host| host.eq_ignore_ascii_case(&self.host))
    }
}

/// What links of an answer begin with, and the host by which their routes are found.
fn place(
    public_url: Option<&PublicUrl>,
    called_at: CalledAt,
    target: &Target,
    headers: &HeaderMap,
) -> Option<(String, String)> {
    if let (Some(url), CalledAt::PublicUrl) = (public_url, called_at) {
        // The host alone: routes know no ports.
        return Some((url.url().to_owned(), url.host().to_owned()));
    }
    let first = |name| {
        let value = headers.get(name)?.to_str().ok()?;
        value.split(',').next().map(str::trim)
    };
    let secured_in_front = public_url.is_some_and(|url| url.origin().starts_with("https:"));
    let scheme = match first(X_FORWARDED_PROTO)? {
        _ if secured_in_front => "https",
        text if text.eq_ignore_ascii_case("https") => "https",
        text if text.eq_ignore_ascii_case("http") => "http",
        _ => return None,
    };
    let host = first(X_FORWARDED_HOST)?;
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    if host.is_empty() || !host.bytes().all(is_host) {
        return None;
    }
    Some((format!("{scheme}://{host}"), target.authority()?.to_owned()))
}

#[cfg(test)]
mod tests;
