//! The token endpoint of the scriptable provider; what a form must be is in [`super::grants`].
//!
//! Outbound tokens are opaque and each is new, so that a test can ask for whom it was issued
//! and how often. Whether an assertion is genuine is asked of the builder that made it.

use std::collections::HashMap;
use std::sync::Mutex;

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};

use super::client_auth::{ClientAuth, Proof};
use super::grants::{self, Desk, Fault};
use super::provider::Provider;
use super::registry;
use super::token::{CLIENT_ID, TENANT};
use super::upstream::Upstream;

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

    /// All values of a field, in order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let values = self.fields.iter().filter(|(field, _)| field == name);
        values.map(|(_, value)| value.as_str()).collect()
    }
}

/// The beginning of a routes file: the Entra side of `provider`, with the gateway's credential there,
/// and `upstream` as `graph`. The routes go behind it.
pub fn file_before_routes(provider: &Provider, upstream: &Upstream) -> String {
    format!(
        r#"
listeners: [{{ address: "127.0.0.1:0" }}]
admin: {{ address: "127.0.0.1:0" }}
providers:
  entra:
    type: entra
    tenant: {TENANT}
    authority: {}
    client_id: {CLIENT_ID}
    credential: {{ client_secret: "${{CLIENT_SECRET}}" }}
upstreams:
  graph: {{ url: "{}" }}
routes:
"#,
        provider.base(),
        upstream.url(),
    )
}

/// What an outbound token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// `grant_type` of the form.
    pub grant: String,
    /// The caller's token that it was swapped for; empty for the gateway's own.
    pub assertion: String,
    /// `oid` of the assertion, else `sub`; empty for the gateway's own.
    pub user: String,
    /// As asked for.
    pub scope: String,
    /// As asked for.
    pub audiences: Vec<String>,
    /// As asked for.
    pub resources: Vec<String>,
    /// The tenant whose endpoint was asked; empty for the generic OIDC issuer.
    pub tenant: String,
}

impl Issued {
    /// Whether it says what the gateway's application may, and nobody else.
    pub fn is_gateways_own(&self) -> bool {
        self.grant == "client_credentials" && self.assertion.is_empty() && self.user.is_empty()
    }
}

/// The endpoint's memory.
pub struct Obo {
    forms: Mutex<Vec<Form>>,
    issued: Mutex<HashMap<String, Issued>>,
    expires_in: Mutex<Option<u64>>,
    extra: Mutex<Vec<(String, String)>>,
    mistakes: Mutex<Vec<String>>,
    client: ClientAuth,
}

impl Obo {
    pub fn new() -> Self {
        Self {
            forms: Mutex::default(),
            issued: Mutex::default(),
            expires_in: Mutex::new(Some(3599)),
            extra: Mutex::default(),
            mistakes: Mutex::default(),
            client: ClientAuth::new(),
        }
    }

    /// From now on every form has this parameter.
    pub fn expect_parameter(&self, name: &str, value: &str) {
        self.extra.lock().unwrap().push((name.to_owned(), value.to_owned()));
    }

    /// From now on the gateway has to prove this way that it is its client.
    pub fn expect_proof(&self, proof: Proof) {
        self.client.expect(proof);
    }

    /// What no right gateway sends, so far; they are then forgiven.
    pub fn take_mistakes(&self) -> Vec<String> {
        std::mem::take(&mut self.mistakes.lock().unwrap())
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

    pub fn issued_tokens(&self) -> Vec<String> {
        self.issued.lock().unwrap().keys().cloned().collect()
    }

    pub fn issued_count(&self) -> usize {
        self.issued.lock().unwrap().len()
    }

    /// Keeps a form, whatever becomes of it.
    pub fn record(&self, head: &http::request::Parts, body: &[u8]) {
        let fields = url::form_urlencoded::parse(body).into_owned().collect();
        let form = Form { path: head.uri.path().to_owned(), headers: head.headers.clone(), fields };
        if let Err(Fault::Mistake(what)) = self.client.record(&form) {
            self.mistakes.lock().unwrap().push(what);
        }
        self.forms.lock().unwrap().push(form);
    }

    /// Judges a form, and gives a token for a good one.
    pub fn token(&self, desk: Desk<'_>, headers: &HeaderMap, body: &[u8]) -> Answer {
        let fields = url::form_urlencoded::parse(body).into_owned().collect();
        let form = Form { path: String::new(), headers: headers.clone(), fields };
        let extra = self.extra.lock().unwrap().clone();
        match grants::judge(desk, &form, &extra, &self.client) {
            Ok(issued) => self.remember(desk, issued),
            Err(Fault::Refusal(answer)) => answer,
            Err(Fault::Mistake(what)) => {
                self.mistakes.lock().unwrap().push(format!("{desk:?}: {what}"));
                Answer::aadsts(400, "invalid_request", 900_144)
            }
        }
    }

    fn remember(&self, desk: Desk<'_>, issued: Issued) -> Answer {
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
        if desk == Desk::Realm && issued.grant.ends_with(":token-exchange") {
            body["issued_token_type"] = json!("urn:ietf:params:oauth:token-type:access_token");
        }
        self.issued.lock().unwrap().insert(token, issued);
        Answer::json(200, &body)
    }
}
