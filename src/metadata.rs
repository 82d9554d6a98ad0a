//! The metadata of protected resources (RFC 9728): where a client that was refused, or that was
//! never here, finds out who issues the tokens that are taken here, and which scopes to ask for.
//!
//! A *protected resource* is all routes that ask for a token and whose paths begin with the same
//! literal segments: `/graph/{*rest}` and `/graph/{id}/x` are `{public_url}/graph`. Its document is
//! made once per configuration, from the routes file alone: nothing of a request gets into it, the
//! host it names least of all. It is public, as the file's `auth` is: names of issuers and scopes,
//! and no roles, clients, tenants or claims.
//!
//! Left out of the document: `resource_signing_alg_values_supported`, which is about responses that
//! are signed, and none is; `jwks_uri`, for the same reason;
//! `tls_client_certificate_bound_access_tokens`, which is a matter of listeners, not of routes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST,
};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use percent_encoding::{AsciiSet, utf8_percent_encode};
use serde::Serialize;

use crate::authn::{Algorithm, Issuing, PROOF_ALGORITHMS, Provider, ProviderSettings};
use crate::body::Body;
use crate::public_url::PublicUrl;
use crate::rejection::{Code, Extra, Rejection};
use crate::route::{ESCAPED_IN_SEGMENT, PathPattern, Target};

/// Where the documents are: this, put between host and path of the resource (RFC 9728 §3.1).
pub const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// What is escaped in a segment of a path, so that a document is named as callers spell the path; and
/// `;`, so that a reader who drops the parameters of paths finds no other document.
const IN_SEGMENT: &AsciiSet = &ESCAPED_IN_SEGMENT.add(b';');

/// A protected resource, as its clients see it.
#[derive(PartialEq, Eq)]
pub struct ProtectedResource {
    metadata_url: String,
    document: Bytes,
}

impl ProtectedResource {
    /// Where its document is, for `resource_metadata` of a challenge (RFC 9728 §5.1).
    pub fn metadata_url(&self) -> &str {
        &self.metadata_url
    }
}

impl fmt::Debug for ProtectedResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProtectedResource({})", self.metadata_url)
    }
}

/// The members of a document (RFC 9728 §2).
#[derive(Default, Serialize)]
struct Document {
    resource: String,
    authorization_servers: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scopes_supported: Vec<String>,
    bearer_methods_supported: [&'static str; 1],
    /// Wherever a token is taken, one that is bound to a DPoP key is.
    dpop_signing_alg_values_supported: Vec<&'static str>,
}

/// What routes say of the resources they are part of, put together path by path.
#[derive(Default)]
pub struct Describing(BTreeMap<String, Document>);

impl Describing {
    /// Adds a route that asks for a token of one of `providers` with one of `scopes`, and gives
    /// the path of the resource that it is part of: two routes of one path are one resource.
    pub fn add(
        &mut self,
        pattern: &PathPattern,
        providers: &[Arc<Provider>],
        scopes: &[String],
    ) -> String {
        let path = path_of(pattern.literal_prefix());
        let document = self.0.entry(path.clone()).or_default();
        for settings in providers.iter().map(|provider| provider.settings()) {
            // Below it clients find the provider's own metadata (RFC 8414 §3, OpenID Discovery §4).
            add(&mut document.authorization_servers, settings.kind.issuer());
            for scope in requested(settings, scopes) {
                add(&mut document.scopes_supported, scope);
            }
        }
        path
    }

    /// All resources, as callers of `public_url` see them.
    pub fn finish(self, public_url: &Arc<PublicUrl>) -> Resources {
        let described = self.0.into_iter().map(|(path, document)| {
            let (origin, base) = (public_url.origin(), public_url.base_path());
            let metadata_url = format!("{origin}{WELL_KNOWN}{base}{path}");
            let resource = public_url.of_path(&path);
            let document = Document {
                resource,
                bearer_methods_supported: ["header"],
                dpop_signing_alg_values_supported: PROOF_ALGORITHMS.map(Algorithm::name).to_vec(),
                ..document
            };
            // Strings and lists of them always serialise.
            let document = Bytes::from(serde_json::to_vec(&document).unwrap_or_default());
            (path, Arc::new(ProtectedResource { metadata_url, document }))
        });
        Resources { by_path: described.collect(), public_url: Arc::clone(public_url) }
    }
}

/// The protected resources of one configuration.
#[derive(Debug)]
pub struct Resources {
    public_url: Arc<PublicUrl>,
    by_path: BTreeMap<String, Arc<ProtectedResource>>,
}

impl Resources {
    /// The resource of this path, as [`Describing::add`] gave it.
    pub fn at(&self, path: &str) -> Option<&Arc<ProtectedResource>> {
        self.by_path.get(path)
    }

    /// Answers a request for a document: that of the resource at the path behind the well-known
    /// one, else of the resource that a request for that path would `meet`.
    ///
    /// Browsers may read it from any origin: it is public, and no credential is looked at.
    ///
    /// # Errors
    ///
    /// `route_not_found` where no route asks for a token, `method_not_allowed` for what is
    /// neither GET, HEAD nor OPTIONS.
    pub fn answer<'a>(
        &'a self,
        target: &Target,
        meet: impl FnOnce(&Target) -> Option<&'a Arc<ProtectedResource>>,
    ) -> Result<Response<Body>, Rejection> {
        let mut response = match *target.method() {
            Method::GET | Method::HEAD => {
                let path = self.asked_path(target).ok_or_else(|| not_found(target))?;
                let found = self.at(path.trim_end_matches('/'));
                let found = found.or_else(|| self.target_of(path).and_then(|asked| meet(&asked)));
                document(found.ok_or_else(|| not_found(target))?)
            }
            Method::OPTIONS => preflight(),
            _ => return Err(not_allowed(target.method())),
        };
        set(&mut response, ACCESS_CONTROL_ALLOW_ORIGIN, "*");
        Ok(response)
    }

    /// The path that a request to the gateway would have, out of the path of one for its
    /// document: without what stands before it, and without the base path, which a proxy in
    /// front strips from other requests.
    fn asked_path<'t>(&self, target: &'t Target) -> Option<&'t str> {
        let path =
            target.path().strip_prefix(WELL_KNOWN)?.strip_prefix(self.public_url.base_path())?;
        match path {
            "" => Some("/"),
            path => path.starts_with('/').then_some(path),
        }
    }

    /// A request for `path`, as a caller of the public URL would send it.
    fn target_of(&self, path: &str) -> Option<Target> {
        let request = Request::get(path).header(HOST, self.public_url.host()).body(()).ok()?;
        Target::parse(&request).ok()
    }
}

/// Five minutes: a changed file is seen soon, and a client that was refused ten times a second
/// asks once.
const CACHED: &str = "public, max-age=300";

const METHODS: &str = "GET, HEAD, OPTIONS";

fn document(resource: &ProtectedResource) -> Response<Body> {
    let mut response = Response::new(Body::full(resource.document.clone()));
    set(&mut response, CONTENT_TYPE, "application/json");
    set(&mut response, CACHE_CONTROL, CACHED);
    response
}

/// Clients send fields of their own with it (`MCP-Protocol-Version`), which browsers ask leave for.
fn preflight() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    set(&mut response, ALLOW, METHODS);
    set(&mut response, ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    set(&mut response, ACCESS_CONTROL_ALLOW_HEADERS, "*");
    set(&mut response, ACCESS_CONTROL_MAX_AGE, "600");
    response
}

fn set(response: &mut Response<Body>, name: HeaderName, value: &'static str) {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
}

fn not_found(target: &Target) -> Rejection {
    let reason = format!(
        "no metadata at `{}`: no route that asks for a token takes the path behind `{WELL_KNOWN}` \
         at the host of `server.public_url`",
        target.path()
    );
    Rejection::new(Code::RouteNotFound, "No protected resource has this path.", reason)
}

fn not_allowed(method: &Method) -> Rejection {
    let reason = format!("method {method} refused: metadata of resources is only read");
    Rejection::new(Code::MethodNotAllowed, "This path does not take this method.", reason)
        .with(Extra::Allow(vec![Method::GET, Method::HEAD, Method::OPTIONS]))
}

/// The path of a resource in the spelling of callers; empty for that of the whole gateway.
fn path_of<'s>(segments: impl Iterator<Item = &'s str>) -> String {
    let mut path = String::new();
    for segment in segments {
        path.push('/');
        path.extend(utf8_percent_encode(segment, IN_SEGMENT));
    }
    path
}

/// What a client writes into `scope` of its request to the provider to get a token with one of
/// `scopes`.
///
/// Entra wants the application in front (`api://orders/access_as_user`), takes a bare name for a
/// scope of Microsoft Graph, and gives no token at all without a scope: where the route asks for
/// none, that is the application's `.default`.
fn requested(settings: &ProviderSettings, scopes: &[String]) -> Vec<String> {
    match settings.kind {
        Issuing::Oidc { .. } => scopes.to_vec(),
        Issuing::Entra { .. } => {
            let uri = settings.audiences.iter().find(|audience| audience.contains("://"));
            let Some(application) = uri.or(settings.audiences.first()) else { return Vec::new() };
            let qualified = |scope: &str| format!("{application}/{scope}");
            match scopes {
                [] => vec![qualified(".default")],
                scopes => scopes.iter().map(|scope| qualified(scope)).collect(),
            }
        }
    }
}

fn add(list: &mut Vec<String>, text: String) {
    if !list.contains(&text) {
        list.push(text);
    }
}

#[cfg(test)]
mod tests;
