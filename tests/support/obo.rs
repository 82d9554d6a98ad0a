//! The token endpoint of the scriptable provider: the on-behalf-of grant as Entra judges it.
//!
//! Outbound tokens are opaque and each is new, so that a test can ask for whom it was issued
//! and how often. Whether an assertion is genuine is asked of the builder that made it.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};

use super::registry;
use super::token::{CLIENT_ID, CLIENT_SECRET, decode_claims, is_genuine};

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

impl Answer {
    /// A JSON document.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::text(status, "application/json; charset=utf-8", body.to_string())
    }

    /// Any text.
    pub fn text(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        let headers = vec![("content-type".to_owned(), content_type.to_owned())];
        Self { status, headers, body: body.into() }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A refusal as Entra writes it; `number` is that of the AADSTS code.
    pub fn aadsts(status: u16, error: &str, number: u32) -> Self {
        Self::json(status, &aadsts(error, number))
    }

    /// A refusal that names the claims that would help (a JSON text).
    pub fn claims_challenge(error: &str, number: u32, claims: &str) -> Self {
        let mut body = aadsts(error, number);
        body["claims"] = json!(claims);
        body["suberror"] = json!("basic_action");
        Self::json(400, &body)
    }
}

fn aadsts(error: &str, number: u32) -> Value {
    json!({
        "error": error,
        "error_description": format!("AADSTS{number}: as scripted. Trace ID: 0 Correlation ID: 0"),
        "error_codes": [number],
        "timestamp": "2026-01-01 00:00:00Z",
        "trace_id": "0",
        "correlation_id": "0",
    })
}

/// A form that came to the token endpoint.
#[derive(Clone, Debug)]
pub struct Form {
    pub path: String,
    pub headers: HeaderMap,
    pub fields: Vec<(String, String)>,
}

impl Form {
    /// The value of a field that is there exactly once.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(field, _)| field == name);
        let value = values.next().map(|(_, value)| value.as_str());
        value.filter(|_| values.next().is_none())
    }
}

/// What an outbound token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The caller's token that it was swapped for.
    pub assertion: String,
    /// `oid` of the assertion, else `sub`.
    pub user: String,
    /// As asked for.
    pub scope: String,
    /// The tenant whose endpoint was asked.
    pub tenant: String,
}

/// The endpoint's memory.
pub struct Obo {
    forms: Mutex<Vec<Form>>,
    issued: Mutex<HashMap<String, Issued>>,
    expires_in: Mutex<Option<u64>>,
}

impl Obo {
    pub fn new() -> Self {
        registry::secret(CLIENT_SECRET);
        Self {
            forms: Mutex::default(),
            issued: Mutex::default(),
            expires_in: Mutex::new(Some(3599)),
        }
    }

    pub fn set_expires_in(&self, seconds: Option<u64>) {
        *self.expires_in.lock().unwrap() = seconds;
    }

    pub fn forms(&self) -> Vec<Form> {
        self.forms.lock().unwrap().clone()
    }

    pub fn issued(&self, token: &str) -> Option<Issued> {
        self.issued.lock().unwrap().get(token).cloned()
    }

    pub fn issued_count(&self) -> usize {
        self.issued.lock().unwrap().len()
    }

    /// Keeps a form, whatever becomes of it.
    pub fn record(&self, head: &http::request::Parts, body: &[u8]) {
        let fields = url::form_urlencoded::parse(body).into_owned().collect();
        let form = Form { path: head.uri.path().to_owned(), headers: head.headers.clone(), fields };
        self.forms.lock().unwrap().push(form);
    }

    /// Judges a form, as section 2 of `identity.md` has it.
    pub fn token(&self, tenant: &str, headers: &HeaderMap, body: &[u8]) -> Answer {
        let fields = url::form_urlencoded::parse(body).into_owned().collect();
        let form = Form { path: String::new(), headers: headers.clone(), fields };
        match self.issue(tenant, &form) {
            Ok(answer) | Err(answer) => answer,
        }
    }

    fn issue(&self, tenant: &str, form: &Form) -> Result<Answer, Answer> {
        let refuse = |status, error, number| Err(Answer::aadsts(status, error, number));
        let content_type =
            form.headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if !content_type.is_some_and(|value| value.starts_with("application/x-www-form-urlencoded"))
        {
            return refuse(400, "invalid_request", 900_144);
        }
        if form.field("grant_type") != Some("urn:ietf:params:oauth:grant-type:jwt-bearer")
            || form.field("requested_token_use") != Some("on_behalf_of")
        {
            return refuse(400, "unsupported_grant_type", 70_003);
        }
        if form.field("client_id") != Some(CLIENT_ID) {
            return refuse(400, "unauthorized_client", 700_016);
        }
        if form.field("client_secret") != Some(CLIENT_SECRET) {
            return refuse(401, "invalid_client", 7_000_215);
        }
        let assertion = form.field("assertion").unwrap_or_default();
        let Some(claims) = decode_claims(assertion) else {
            return refuse(400, "invalid_grant", 50_027);
        };
        if !is_genuine(assertion) {
            return refuse(400, "invalid_grant", 50_013);
        }
        let own = [CLIENT_ID.to_owned(), format!("api://{CLIENT_ID}")];
        if !own.iter().any(|own| claims.get("aud").is_some_and(|aud| aud == own.as_str())) {
            return refuse(400, "invalid_grant", 500_131);
        }
        if claims.get("tid").is_none_or(|tid| tid != tenant) {
            return refuse(400, "invalid_request", 90_002);
        }
        let scope = form.field("scope").unwrap_or_default();
        if resources(scope).len() != 1 {
            return refuse(400, "invalid_scope", 70_011);
        }
        let user = claims
            .get("oid")
            .or_else(|| claims.get("sub"))
            .and_then(Value::as_str)
            .unwrap_or_default();
        Ok(self.remember(Issued {
            assertion: assertion.to_owned(),
            user: user.to_owned(),
            scope: scope.to_owned(),
            tenant: tenant.to_owned(),
        }))
    }

    fn remember(&self, issued: Issued) -> Answer {
        let token = format!("outbound-{:032x}", fastrand::u128(..));
        registry::outbound(&token);
        let mut body = json!({
            "token_type": "Bearer",
            "scope": issued.scope,
            "ext_expires_in": 3599,
            "access_token": token,
        });
        if let Some(seconds) = *self.expires_in.lock().unwrap() {
            body["expires_in"] = json!(seconds);
        }
        self.issued.lock().unwrap().insert(token, issued);
        Answer::json(200, &body)
    }
}

/// The resources that scopes belong to; OIDC's own belong to none.
fn resources(scope: &str) -> HashSet<&str> {
    let own = ["openid", "profile", "offline_access", "email"];
    let scopes = scope.split(' ').filter(|scope| !scope.is_empty() && !own.contains(scope));
    scopes.map(|scope| scope.rsplit_once('/').map_or("", |(resource, _)| resource)).collect()
}
