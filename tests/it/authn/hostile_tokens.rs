//! Section 3.1 of the interface as a table: what a caller may present, and what it comes to.
//!
//! Each row changes one thing of a good request, so that the one thing is what is judged. In
//! pairs, where there is an edge: just allowed, just refused.

mod claims;
mod signatures;
mod spellings;

use std::net::SocketAddr;

use http::{HeaderMap, HeaderValue, Request};
use serde_json::{Value, json};

use self::claims::{kinds, policies, registered_claims};
use self::signatures::{algorithms, header_members};
use self::spellings::{header_forms, token_forms};
use crate::support::client::{Client, Reply};
use crate::support::keys::{self, Key};
use crate::support::provider::Provider;
use crate::support::token::{
    self, CALLER_CLIENT, CLIENT_ID, OIDC_AUDIENCE, OTHER_TENANT, TENANT, Token, bearer,
};
use crate::support::upstream::Upstream;

/// What a request with hostile credentials must come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// It reaches the upstream.
    Forwarded,
    /// It does not; status and code.
    Refused(u16, &'static str),
}

use Expect::{Forwarded, Refused};

const INVALID: Expect = Refused(401, "token_invalid");
const EXPIRED: Expect = Refused(401, "token_expired");
const MISSING: Expect = Refused(401, "token_missing");
const MALFORMED: Expect = Refused(400, "bad_request");
const SCOPE: Expect = Refused(403, "insufficient_scope");
const NOT_ALLOWED: Expect = Refused(403, "caller_not_allowed");

/// One row.
pub struct Row {
    pub name: &'static str,
    pub present: fn(&Issuers) -> Presented,
    pub expect: Expect,
}

/// What a row presents.
pub struct Presented {
    /// Path and query; without a scheme, a row's path is under a route of [`routes_file`].
    pub target: String,
    pub headers: HeaderMap,
    /// The form that is posted; empty for GET.
    pub form: String,
}

/// The good tokens that rows start from.
pub struct Issuers {
    entra: String,
    oidc: String,
}

impl Issuers {
    /// Of a provider that [`publish`] was called for.
    pub fn of(provider: &Provider) -> Self {
        Self { entra: provider.entra_issuer(), oidc: provider.oidc_issuer() }
    }

    fn v2(&self) -> Token {
        Token::entra_v2(&self.entra)
    }

    fn app(&self) -> Token {
        Token::entra_app(&self.entra)
    }

    fn oidc(&self) -> Token {
        Token::oidc(&self.oidc)
    }
}

/// The routes file that the table is about. Its secret comes from `CLIENT_SECRET`.
pub fn routes_file(provider: &Provider, upstream: &Upstream) -> String {
    let (authority, issuer, url) = (provider.base(), provider.oidc_issuer(), upstream.url());
    format!(
        r#"
listeners: [{{ address: "127.0.0.1:0" }}]
admin: {{ address: "127.0.0.1:0" }}
providers:
  entra:
    type: entra
    tenant: {TENANT}
    authority: {authority}
    client_id: {CLIENT_ID}
    credential: {{ client_secret: "${{CLIENT_SECRET}}" }}
  sso:
    type: oidc
    issuer: {issuer}
    audiences: [{OIDC_AUDIENCE}]
upstreams:
  plain: {{ url: "{url}" }}
  swapped:
    url: "{url}"
    token: {{ on_behalf_of: {{ scopes: ["https://graph.microsoft.com/.default"] }} }}
routes:
  - {{ match: {{ path: "/any/{{*rest}}" }}, auth: any, upstream: plain }}
  - {{ match: {{ path: "/open/{{*rest}}" }}, auth: none, upstream: plain }}
  - {{ match: {{ path: "/swap/{{*rest}}" }}, auth: {{ providers: [entra], scopes: [access_as_user] }}, upstream: swapped }}
  - {{ match: {{ path: "/scopes/{{*rest}}" }}, auth: {{ scopes: [Orders.Write, access_as_user] }}, upstream: plain }}
  - {{ match: {{ path: "/roles/{{*rest}}" }}, auth: {{ roles: [Orders.Read.All] }}, upstream: plain }}
  - {{ match: {{ path: "/either/{{*rest}}" }}, auth: {{ scopes: [access_as_user], roles: [Orders.Read.All] }}, upstream: plain }}
  - {{ match: {{ path: "/users/{{*rest}}" }}, auth: {{ callers: users }}, upstream: plain }}
  - {{ match: {{ path: "/apps/{{*rest}}" }}, auth: {{ callers: apps }}, upstream: plain }}
  - {{ match: {{ path: "/clients/{{*rest}}" }}, auth: {{ clients: [{CALLER_CLIENT}] }}, upstream: plain }}
  - {{ match: {{ path: "/tenants/{{*rest}}" }}, auth: {{ tenants: [{OTHER_TENANT}] }}, upstream: plain }}
  - {{ match: {{ path: "/claims/{{*rest}}" }}, auth: {{ claims: {{ department: [finance, audit], "org.unit": [eu] }} }}, upstream: plain }}
  - {{ match: {{ path: "/entra/{{*rest}}" }}, auth: {{ providers: [entra] }}, upstream: plain }}
  - {{ match: {{ path: "/sso/{{*rest}}" }}, auth: {{ providers: [sso] }}, upstream: plain }}
"#
    )
}

/// Publishes the keys that the rows sign with, good and bad ones in one set: bad keys must not
/// spoil the others.
pub fn publish(provider: &Provider) {
    let with = |key: Key, member: &str, value: Value| {
        let mut jwk = provider.entra_jwk(&key);
        jwk[member] = value;
        jwk
    };
    let mut anonymous = provider.entra_jwk(&keys::rsa_other());
    anonymous.as_object_mut().unwrap().remove("kid");
    provider.publish_jwks(&[
        json!({"kty": "nonsense"}),
        json!("no key at all"),
        anonymous,
        provider.entra_jwk(&keys::rsa()),
        provider.entra_jwk(&keys::rsa3072()),
        provider.entra_jwk(&keys::p256()),
        provider.entra_jwk(&keys::p384()),
        provider.entra_jwk(&keys::ed25519()),
        provider.entra_jwk(&keys::weak_rsa1024()),
        provider.entra_jwk(&keys::exponent_one()),
        provider.entra_jwk(&shared_secret()),
        provider.entra_jwk(&keys::rsa().named("twin")),
        provider.entra_jwk(&keys::rsa_other().named("twin")),
        provider.entra_jwk(&keys::rsa_other().named("same")),
        provider.entra_jwk(&keys::rsa_other().named("same")),
        with(keys::rsa_other().named("encrypts"), "use", json!("enc")),
        with(keys::rsa_other().named("signs"), "key_ops", json!(["sign"])),
        with(keys::rsa_other().named("verifies"), "key_ops", json!(["sign", "verify"])),
        with(keys::rsa_other().named("rs512"), "alg", json!("RS512")),
        with(keys::rsa_other().named("rs256"), "alg", json!("RS256")),
        with(keys::rsa_other().named("ps256"), "alg", json!("PS256")),
        with(
            keys::rsa_other().named("elsewhere"),
            "issuer",
            json!(format!("{}/{OTHER_TENANT}/v2.0", provider.base())),
        ),
        with(
            keys::rsa_other().named("template"),
            "issuer",
            json!(format!("{}/{{tenantid}}/v2.0", provider.base())),
        ),
    ]);
}

fn shared_secret() -> Key {
    Key::symmetric("kid-oct", b"it-symmetric-secret-0123456789abcdef")
}

/// Presents every row to the gateway at `address`, and after each a good request.
///
/// # Panics
///
/// With all rows that came to something else than the table says.
pub async fn run(address: SocketAddr, provider: &Provider, upstream: &Upstream) {
    let issuers = Issuers::of(provider);
    let mut client = Client::http1(address).await;
    let good = issuers.v2().build();
    let mut wrong = Vec::new();
    for row in rows() {
        let before = upstream.count();
        let reply = present(&mut client, (row.present)(&issuers)).await;
        let reached = upstream.count() - before;
        let as_expected = match row.expect {
            Forwarded => reply.status == 200 && reached == 1,
            Refused(status, code) => reply.outcome() == (status, code.to_owned()) && reached == 0,
        };
        if !as_expected {
            let outcome = reply.outcome();
            wrong.push(format!(
                "{}: {:?}, not {outcome:?} ({reached} forwarded)",
                row.name, row.expect
            ));
        }
        let after = client.get_with("/any/after", &good).await;
        assert_eq!(after.status, 200, "the good request after `{}`", row.name);
    }
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
}

async fn present(client: &mut Client, presented: Presented) -> Reply {
    let method = if presented.form.is_empty() { "GET" } else { "POST" };
    let mut request = Request::builder().method(method).uri(presented.target);
    request.headers_mut().unwrap().extend(presented.headers);
    client.send(request, presented.form).await
}

// How rows are written.

/// These `Authorization` fields, on a route that takes any valid token.
fn fields(values: &[&[u8]]) -> Presented {
    fields_at("/any/x", values)
}

fn fields_at(target: &str, values: &[&[u8]]) -> Presented {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append("authorization", HeaderValue::from_bytes(value).unwrap());
    }
    Presented { target: target.to_owned(), headers, form: String::new() }
}

/// This text behind `Bearer `.
fn text(token: &str) -> Presented {
    fields(&[bearer(token).as_bytes()])
}

/// This token, on a route that takes any valid one.
fn any(token: &Token) -> Presented {
    text(&token.build())
}

/// This token, on that route.
fn at(target: &str, token: &Token) -> Presented {
    fields_at(target, &[bearer(&token.build()).as_bytes()])
}

const fn row(name: &'static str, expect: Expect, present: fn(&Issuers) -> Presented) -> Row {
    Row { name, present, expect }
}

/// The table.
pub fn rows() -> Vec<Row> {
    let parts: [fn() -> Vec<Row>; 7] =
        [header_forms, token_forms, algorithms, header_members, registered_claims, kinds, policies];
    parts.iter().flat_map(|part| part()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_table_is_whole() {
        let rows = rows();
        let names: HashSet<_> = rows.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), rows.len(), "two rows have one name");
        assert!(rows.len() >= 200, "{} rows", rows.len());
        let provider = Provider::start();
        publish(&provider);
        let issuers = Issuers::of(&provider);
        for row in &rows {
            let presented = (row.present)(&issuers);
            let authorizations: Vec<_> =
                presented.headers.get_all("authorization").iter().collect();
            if row.expect == Forwarded && !presented.target.starts_with("/open/") {
                let value = authorizations[0].to_str().unwrap();
                assert!(
                    token::is_genuine(value.split(' ').nth(1).unwrap()),
                    "{}: not as signed",
                    row.name
                );
            }
        }
    }
}
