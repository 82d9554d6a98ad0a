//! A client of the admin API that holds every answer to its schema, and to what no answer may show.

use std::net::SocketAddr;

use boon::{Compiler, Schemas};
use http::Request;
use http::request::Builder;
use serde_json::Value;

use super::client::{Client, Reply};
use super::gateway::Gateway;
use super::registry;

/// The schema as it is shipped.
///
/// # Panics
///
/// When there is none.
pub fn shipped_schema() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/admin-api.schema.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// One connection to an admin port.
pub struct Admin {
    client: Client,
    token: Option<String>,
}

impl Admin {
    /// Connects to the admin port of `gateway`.
    pub async fn of(gateway: &Gateway) -> Self {
        Self::at(gateway.admin_address()).await
    }

    /// Connects; HTTP/1.1.
    pub async fn at(address: SocketAddr) -> Self {
        let mut client = Client::http1(address).await;
        client.is_not_a_gateway();
        Self { client, token: None }
    }

    /// Shows `token` with each request from now on.
    #[must_use]
    pub fn with_token(self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self }
    }

    /// Sends, and looks at what holds for all answers.
    ///
    /// # Panics
    ///
    /// When the answer lacks a guard or shows what it must not.
    pub async fn send(&mut self, mut request: Builder, body: &str) -> Reply {
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let reply = self.client.send(request, body.to_owned()).await;
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        let policy = reply.header("content-security-policy");
        assert!(policy.is_some_and(|policy| policy.contains("default-src 'none'")));
        assert!(reply.header("x-request-id").is_some());
        assert!(!reply.headers.contains_key("access-control-allow-origin"));
        registry::assert_clean("an answer of the admin API", &reply.body);
        reply
    }

    /// GET, whatever comes of it.
    pub async fn try_get(&mut self, target: &str) -> Reply {
        self.send(Request::get(target), "").await
    }

    /// GET of `/api/v1/{target}`.
    ///
    /// # Panics
    ///
    /// When it is refused, or is not what its schema says.
    pub async fn get(&mut self, target: &str) -> Value {
        let reply = self.try_get(&format!("/api/v1/{target}")).await;
        assert_eq!(reply.status, 200, "{target}: {:?}", reply.body);
        assert_eq!(reply.header("content-type"), Some("application/json"));
        let answer = reply.json();
        let name = match target.split('?').next().unwrap() {
            "routes" => "Routes",
            "upstreams" => "Upstreams",
            "providers" => "Providers",
            "cache" => "Cache",
            "config" => "Config",
            "stats" => "Stats",
            "refusals" => "LastRefusals",
            other => panic!("`{other}` has no schema"),
        };
        assert_is(name, &answer);
        answer
    }

    /// POST of `/api/v1/reload`; an answer that is no other refusal is what its schema says.
    pub async fn reload(&mut self) -> Reply {
        let reply = self.send(Request::post("/api/v1/reload"), "").await;
        match reply.status.as_u16() {
            200 => assert_is("Reloaded", &reply.json()),
            422 => assert_is("ReloadRefused", &reply.json()),
            _ => {}
        }
        reply
    }
}

/// That `answer` has all that the shipped schema says of `name`, and nothing else.
///
/// # Panics
///
/// With what is different.
pub fn assert_is(name: &str, answer: &Value) {
    let mut schema = shipped_schema();
    close(&mut schema);
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.enable_format_assertions();
    compiler.add_resource("http://admin/api", schema).unwrap();
    let place = format!("http://admin/api#/$defs/{name}");
    let judge = compiler.compile(&place, &mut schemas).expect(name);
    if let Err(error) = schemas.validate(answer, judge) {
        panic!("an answer is no `{name}`:\n{error:#}\n{answer:#}");
    }
}

/// Clients are to expect members that they don't know; here each must be in the schema.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            members.values_mut().for_each(close);
            if members.get("type").is_some_and(|kind| kind == "object")
                && members.contains_key("properties")
                && !members.contains_key("additionalProperties")
            {
                members.insert("unevaluatedProperties".to_owned(), false.into());
            }
        }
        Value::Array(elements) => elements.iter_mut().for_each(close),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
