//! The provider: as much of Entra as an on-behalf-of exchange needs.
//!
//! It checks what a proxy sends, so that a proxy that exchanges wrongly fails in the warm-up
//! with a reason, and answers each assertion with the one outbound token of its user.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::serve::serve;
use crate::users::{self, CLIENT_ID, CLIENT_SECRET, TENANT, UPSTREAM_SCOPE, Users};

/// Longest form that is read, in bytes.
const MAX_FORM_BYTES: usize = 64 * 1024;

/// The provider and what it has seen.
pub(crate) struct Provider {
    users: Rc<Users>,
    authority: String,
    exchanges: Cell<usize>,
}

impl Provider {
    /// The provider at `authority`, scheme and address.
    pub(crate) fn new(users: Rc<Users>, authority: String) -> Self {
        Self { users, authority, exchanges: Cell::new(0) }
    }

    /// Serves on the current thread.
    pub(crate) fn serve(self: Rc<Self>, listener: TcpListener) {
        serve(listener, move |request| Rc::clone(&self).answer(request));
    }

    /// Calls of the token endpoint so far, refused ones included.
    pub(crate) fn exchanges(&self) -> usize {
        self.exchanges.get()
    }

    async fn answer(self: Rc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        let Some(path) = path.strip_prefix('/').and_then(|path| path.strip_prefix(TENANT)) else {
            return json_answer(StatusCode::NOT_FOUND, &json!({ "error": "no such tenant" }));
        };
        match (request.method(), path) {
            (&Method::GET, "/v2.0/.well-known/openid-configuration") => {
                json_answer(StatusCode::OK, &self.metadata())
            }
            (&Method::GET, "/discovery/v2.0/keys") => json_answer(StatusCode::OK, &self.users.jwks),
            (&Method::POST, "/oauth2/v2.0/token") => match self.exchange(request).await {
                Ok(token) => json_answer(StatusCode::OK, &token),
                Err(reason) => json_answer(
                    StatusCode::BAD_REQUEST,
                    &json!({ "error": "invalid_grant", "error_description": reason }),
                ),
            },
            _ => json_answer(StatusCode::NOT_FOUND, &json!({ "error": "no such endpoint" })),
        }
    }

    fn metadata(&self) -> Value {
        let base = format!("{}/{TENANT}", self.authority);
        json!({
            "issuer": users::issuer(&self.authority),
            "authorization_endpoint": format!("{base}/oauth2/v2.0/authorize"),
            "token_endpoint": format!("{base}/oauth2/v2.0/token"),
            "jwks_uri": format!("{base}/discovery/v2.0/keys"),
            "response_types_supported": ["code"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
        })
    }

    /// The token for the form's assertion, or what is wrong with the form.
    async fn exchange(&self, request: Request<Incoming>) -> Result<Value, String> {
        self.exchanges.set(self.exchanges.get() + 1);
        let form = Limited::new(request.into_body(), MAX_FORM_BYTES)
            .collect()
            .await
            .map_err(|error| format!("the form did not arrive: {error}"))?
            .to_bytes();
        let form: HashMap<_, _> = url::form_urlencoded::parse(&form).collect();
        let wanted = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
            ("requested_token_use", "on_behalf_of"),
            ("client_id", CLIENT_ID),
            ("client_secret", CLIENT_SECRET),
            ("scope", UPSTREAM_SCOPE),
        ];
        for (name, value) in wanted {
            if form.get(name).is_none_or(|given| given != value) {
                return Err(format!("bench provider: `{name}` is to be `{value}`"));
            }
        }
        let user = form
            .get("assertion")
            .and_then(|assertion| self.users.calling_with(assertion))
            .ok_or("bench provider: `assertion` is no user's token")?;
        Ok(json!({
            "token_type": "Bearer",
            "scope": UPSTREAM_SCOPE,
            "expires_in": 86_400,
            "ext_expires_in": 86_400,
            "access_token": user.outbound,
        }))
    }
}

fn json_answer(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(value.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
