//! Section 3.1 of the interface as a table: what a caller may present, and what it comes to.
//!
//! Each row changes one thing of a good request, so that the one thing is what is judged. In
//! pairs, where there is an edge: just allowed, just refused.

use std::net::SocketAddr;

use http::{HeaderMap, HeaderValue, Request};
use serde_json::{Value, json};

use crate::support::client::{Client, Reply};
use crate::support::keys::{self, Alg, Key, encode};
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

/// How the token is presented.
fn header_forms() -> Vec<Row> {
    vec![
        row("no header", MISSING, |_| fields(&[])),
        row("no header on an open route", Forwarded, |_| fields_at("/open/x", &[])),
        row("a token on an open route is removed unread", Forwarded, |i| {
            fields_at("/open/x", &[bearer(&i.v2().build()).as_bytes()])
        }),
        row("nonsense on an open route is removed unread", Forwarded, |_| {
            fields_at("/open/x", &[b"Bearer not one token"])
        }),
        row("two fields on an open route", MALFORMED, |_| {
            fields_at("/open/x", &[b"Basic eDp5", b"Basic eDp5"])
        }),
        row("the scheme in lower case", Forwarded, |i| {
            fields(&[bearer(&i.v2().build()).replace("Bearer", "bearer").as_bytes()])
        }),
        row("the scheme in upper case", Forwarded, |i| {
            fields(&[bearer(&i.v2().build()).replace("Bearer", "BEARER").as_bytes()])
        }),
        row("scheme Basic", MISSING, |_| fields(&[b"Basic eDp5"])),
        row("scheme Negotiate with a token", MISSING, |i| {
            fields(&[bearer(&i.v2().build()).replace("Bearer", "Negotiate").as_bytes()])
        }),
        row("scheme DPoP with a plain token", INVALID, |i| {
            fields(&[bearer(&i.v2().build()).replace("Bearer", "DPoP").as_bytes()])
        }),
        row("the scheme alone", MALFORMED, |_| fields(&[b"Bearer"])),
        row("the scheme and no space", MISSING, |i| {
            fields(&[bearer(&i.v2().build()).replace("Bearer ", "Bearer").as_bytes()])
        }),
        row("a token without a scheme", MISSING, |i| fields(&[i.v2().build().as_bytes()])),
        row("two tokens", MALFORMED, |i| text(&[i.v2().build(), i.v2().build()].join(" "))),
        row("two tokens with a comma", MALFORMED, |i| {
            text(&[i.v2().build(), i.v2().build()].join(", "))
        }),
        row("a comma and another scheme", MALFORMED, |i| text(&(i.v2().build() + ", Basic eDp5"))),
        row("a parameter behind the token", MALFORMED, |i| text(&(i.v2().build() + "; x=y"))),
        row("a tab for the space", MALFORMED, |i| {
            fields(&[bearer(&i.v2().build()).replace(' ', "\t").as_bytes()])
        }),
        row("quotes around the token", MALFORMED, |i| text(&format!("\"{}\"", i.v2().build()))),
        row("a byte beyond ASCII in the token", MALFORMED, |_| {
            fields(&[b"Bearer abc\xff.def.ghi"])
        }),
        row("two fields, the same", MALFORMED, |i| {
            let value = bearer(&i.v2().build());
            fields(&[value.as_bytes(), value.as_bytes()])
        }),
        row("two fields, the good one first", MALFORMED, |i| {
            fields(&[bearer(&i.v2().build()).as_bytes(), b"Bearer x"])
        }),
        row("two fields, the good one last", MALFORMED, |i| {
            fields(&[b"Basic eDp5", bearer(&i.v2().build()).as_bytes()])
        }),
        row("in the query", MISSING, |_| Presented {
            target: "/any/x?access_token=abc.def.ghi".to_owned(),
            ..fields(&[])
        }),
        row("in the form", MISSING, |i| {
            let mut presented = fields(&[]);
            presented.form = format!("access_token={}", i.v2().build());
            presented.headers.insert(
                "content-type",
                HeaderValue::from_static("application/x-www-form-urlencoded"),
            );
            presented
        }),
        row("in the cookie", MISSING, |_| {
            let mut presented = fields(&[]);
            presented
                .headers
                .insert("cookie", HeaderValue::from_static("access_token=abc.def.ghi"));
            presented
        }),
        row("in `Proxy-Authorization`", MISSING, |_| {
            let mut presented = fields(&[]);
            presented
                .headers
                .insert("proxy-authorization", HeaderValue::from_static("Bearer abc.def.ghi"));
            presented
        }),
    ]
}

/// What is no signed token at all, and signatures that don't hold.
fn token_forms() -> Vec<Row> {
    vec![
        row("a good v2 token", Forwarded, |i| any(&i.v2())),
        row("a good v2 token, swapped", Forwarded, |i| at("/swap/x", &i.v2())),
        row("a good v1 token", Forwarded, |_| any(&Token::entra_v1())),
        row("a good v1 token, swapped", Forwarded, |_| at("/swap/x", &Token::entra_v1())),
        row("a good OIDC token", Forwarded, |i| any(&i.oidc())),
        row("an opaque token", INVALID, |_| text("mF_9.B5f-4.1JqM-opaque")),
        row("one part", INVALID, |_| text("abcdef")),
        row("two parts", INVALID, |i| text(i.v2().build().rsplit_once('.').unwrap().0)),
        row("four parts", INVALID, |i| text(&(i.v2().build() + ".abcd"))),
        row("five parts: an encrypted token", INVALID, |_| {
            let header =
                encode(json!({"alg": "RSA-OAEP", "enc": "A256GCM", "kid": "kid-rsa"}).to_string());
            text(&format!("{header}.abcd.abcd.abcd.abcd"))
        }),
        row("three empty parts", INVALID, |_| text("..")),
        row("no payload", INVALID, |i| {
            text(&token::with_part(&i.v2().build(), 1, |_| String::new()))
        }),
        row("padding", INVALID, |i| text(&(i.v2().build() + "="))),
        row("base64, not base64url", INVALID, |i| {
            text(&token::with_part(&i.v2().build(), 2, |part| format!("+/{}", &part[2..])))
        }),
        row("a tilde in the payload", INVALID, |i| {
            text(&token::with_part(&i.v2().build(), 1, |part| format!("{part}~")))
        }),
        row("bits beyond the signature's end", INVALID, |i| {
            text(&token::with_part(&i.v2().build(), 2, nonzero_tail))
        }),
        row("a flipped bit in the signature", INVALID, |i| {
            text(&token::with_flipped_bit(&i.v2().build()))
        }),
        row("half a signature", INVALID, |i| {
            text(&token::with_part(&i.v2().build(), 2, |part| part[..part.len() / 2].to_owned()))
        }),
        row("the signature gone", INVALID, |i| {
            text(&token::with_part(&i.v2().build(), 2, |_| String::new()))
        }),
        row("the signature of another token", INVALID, |i| {
            let other = i.v2().user("somebody-else").build();
            let signature = other.rsplit_once('.').unwrap().1.to_owned();
            text(&token::with_part(&i.v2().build(), 2, |_| signature))
        }),
        row("another payload under a good signature", INVALID, |i| {
            let other = i.v2().claim("roles", json!(["Admin"])).build();
            let payload = other.split('.').nth(1).unwrap().to_owned();
            text(&token::with_part(&i.v2().build(), 1, |_| payload))
        }),
        row("signed by a key that is not published, under a published name", INVALID, |i| {
            any(&i.v2().forged_by(&keys::rsa_other()))
        }),
        row("the header is no JSON", INVALID, |i| any(&i.v2().raw_header("nonsense"))),
        row("the header is an array", INVALID, |i| any(&i.v2().raw_header(r#"["RS256"]"#))),
        row("the payload is no JSON", INVALID, |i| any(&i.v2().raw_claims("nonsense"))),
        row("the payload is an array", INVALID, |i| any(&i.v2().raw_claims("[]"))),
        row("the payload is null", INVALID, |i| any(&i.v2().raw_claims("null"))),
        row("something behind the payload's object", INVALID, |i| {
            let claims = serde_json::to_string(i.v2().claims()).unwrap();
            any(&i.v2().raw_claims(claims + "{}"))
        }),
        row("invalid UTF-8 in the payload", INVALID, |i| {
            let header = json!({"typ": "JWT", "alg": "RS256", "kid": "kid-rsa"}).to_string();
            let claims = serde_json::to_string(&i.v2().claim("name", "#").claims()).unwrap();
            let claims: Vec<u8> =
                claims.bytes().map(|byte| if byte == b'#' { 0xff } else { byte }).collect();
            text(&i.v2().build_parts(header.as_bytes(), &claims))
        }),
        row("JSON a hundred deep", INVALID, |i| {
            any(&i.v2().also_claims(&format!(r#""x":{}{}"#, "[".repeat(100), "]".repeat(100))))
        }),
        row("16 KiB, just allowed", Forwarded, |i| text(&i.v2().build_sized(16 * 1024))),
        row("more than 16 KiB", INVALID, |i| text(&i.v2().build_sized(16 * 1024 + 4))),
    ]
}

/// `part` with the bits set that base64url of 256 bytes leaves over.
fn nonzero_tail(part: &str) -> String {
    let (start, last) = part.split_at(part.len() - 1);
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let index = alphabet.find(last).unwrap();
    format!("{start}{}", &alphabet[index + 1..index + 2])
}

/// `alg` and the key behind it.
fn algorithms() -> Vec<Row> {
    vec![
        row("alg none, no signature", INVALID, |i| any(&i.v2().alg(Alg::None))),
        row("alg None", INVALID, |i| any(&i.v2().alg(Alg::None).header("alg", "None"))),
        row("alg nOnE", INVALID, |i| any(&i.v2().alg(Alg::None).header("alg", "nOnE"))),
        row("alg none over a good signature", INVALID, |i| any(&i.v2().header("alg", "none"))),
        row("alg none at the OIDC provider", INVALID, |i| any(&i.oidc().alg(Alg::None))),
        row("HS256 with the public key as PEM", INVALID, |i| {
            any(&confused(i.v2(), keys::rsa().public_pem().as_bytes()))
        }),
        row("HS256 with the public key as DER", INVALID, |i| {
            any(&confused(i.v2(), &keys::rsa().public_der()))
        }),
        row("HS256 with the public key at the OIDC provider", INVALID, |i| {
            any(&confused(i.oidc(), keys::rsa().public_pem().as_bytes()))
        }),
        row("HS256 with an `oct` key that is published", INVALID, |i| {
            any(&i.v2().signed_by(&shared_secret()))
        }),
        row("HS512 with an `oct` key that is published", INVALID, |i| {
            any(&i.oidc().signed_by(&shared_secret()).alg(Alg::Hs512))
        }),
        row("no alg", INVALID, |i| any(&i.v2().without_header("alg"))),
        row("alg is a number", INVALID, |i| any(&i.v2().header("alg", 256))),
        row("alg is an array", INVALID, |i| any(&i.v2().header("alg", json!(["RS256"])))),
        row("alg is empty", INVALID, |i| any(&i.v2().header("alg", ""))),
        row("alg in lower case", INVALID, |i| any(&i.v2().header("alg", "rs256"))),
        row("RS384 at Entra", INVALID, |i| any(&i.v2().alg(Alg::Rs384))),
        row("PS256 at Entra", INVALID, |i| any(&i.v2().alg(Alg::Ps256))),
        row("ES256 at Entra", INVALID, |i| any(&i.v2().signed_by(&keys::p256()))),
        row("RS256 with 3,072 bits", Forwarded, |i| any(&i.v2().signed_by(&keys::rsa3072()))),
        row("PS256 at the OIDC provider", Forwarded, |i| any(&i.oidc().alg(Alg::Ps256))),
        row("ES256 at the OIDC provider", Forwarded, |i| any(&i.oidc().signed_by(&keys::p256()))),
        row("EdDSA at the OIDC provider", Forwarded, |i| {
            any(&i.oidc().signed_by(&keys::ed25519()))
        }),
        row("RS512 at the OIDC provider", INVALID, |i| any(&i.oidc().alg(Alg::Rs512))),
        row("ES384 at the OIDC provider", INVALID, |i| any(&i.oidc().signed_by(&keys::p384()))),
        row("ES256 with a P-384 key", INVALID, |i| {
            any(&i.oidc().signed_by(&keys::p384()).header("alg", "ES256"))
        }),
        row("ES256 with an RSA key", INVALID, |i| any(&i.oidc().header("alg", "ES256"))),
        row("RS256 with an EC key", INVALID, |i| {
            any(&i.oidc().signed_by(&keys::p256()).header("alg", "RS256"))
        }),
        row("EdDSA with an EC key", INVALID, |i| {
            any(&i.oidc().signed_by(&keys::p256()).header("alg", "EdDSA"))
        }),
        row("PS256 that says RS256", INVALID, |i| {
            any(&i.oidc().alg(Alg::Ps256).header("alg", "RS256"))
        }),
        row("an ES256 signature of zeros", INVALID, |i| {
            text(&token::with_part(&i.oidc().signed_by(&keys::p256()).build(), 2, |_| {
                encode([0; 64])
            }))
        }),
        row("an ES256 signature in DER", INVALID, |i| {
            text(&token::with_part(&i.oidc().signed_by(&keys::p256()).build(), 2, |_| {
                encode([&[0x30, 0x44, 0x02, 0x20][..], &[1; 32], &[0x02, 0x20], &[1; 32]].concat())
            }))
        }),
        row("an RSA key of 1,024 bits", INVALID, |i| any(&i.v2().signed_by(&keys::weak_rsa1024()))),
        row("an RSA key with the exponent 1", INVALID, |i| {
            any(&i.v2().signed_by(&keys::exponent_one()))
        }),
        row("a key for encryption", INVALID, |i| {
            any(&i.v2().signed_by(&keys::rsa_other().named("encrypts")))
        }),
        row("a key that may not verify", INVALID, |i| {
            any(&i.v2().signed_by(&keys::rsa_other().named("signs")))
        }),
        row("a key that may verify", Forwarded, |i| {
            any(&i.v2().signed_by(&keys::rsa_other().named("verifies")))
        }),
        row("a key whose alg is not allowed", INVALID, |i| {
            any(&i.v2().signed_by(&keys::rsa_other().named("rs512")))
        }),
        row("a key whose alg is allowed", Forwarded, |i| {
            any(&i.v2().signed_by(&keys::rsa_other().named("rs256")))
        }),
        row("a key whose alg is another than the token's", INVALID, |i| {
            any(&i.oidc().signed_by(&keys::rsa_other().named("ps256")))
        }),
        row("two different keys of one name", INVALID, |i| {
            any(&i.v2().signed_by(&keys::rsa().named("twin")))
        }),
        row("one key published twice", Forwarded, |i| {
            any(&i.v2().signed_by(&keys::rsa_other().named("same")))
        }),
        row("a key of another tenant", INVALID, |i| {
            any(&i.v2().signed_by(&keys::rsa_other().named("elsewhere")))
        }),
        row("a key of every tenant", Forwarded, |i| {
            any(&i.v2().signed_by(&keys::rsa_other().named("template")))
        }),
    ]
}

/// The key-confusion attack: an HMAC with what everybody knows.
fn confused(token: Token, public: &[u8]) -> Token {
    token.forged_by(&Key::symmetric("kid-rsa", public)).alg(Alg::Hs256)
}

/// `kid`, `typ`, `crit` and what else a header may hold.
fn header_members() -> Vec<Row> {
    vec![
        row("no kid", INVALID, |i| any(&i.v2().without_header("kid"))),
        row("kid is a number", INVALID, |i| any(&i.v2().header("kid", 1))),
        row("kid is null", INVALID, |i| any(&i.v2().header("kid", Value::Null))),
        row("kid is empty", INVALID, |i| any(&i.v2().header("kid", ""))),
        row("a kid of 10,000 bytes", INVALID, |i| any(&i.v2().header("kid", "k".repeat(10_000)))),
        row("an unknown kid", INVALID, |i| any(&i.v2().header("kid", "unknown"))),
        row("a kid in another case", INVALID, |i| any(&i.v2().header("kid", "KID-RSA"))),
        row("a kid that is a path", INVALID, |i| any(&i.v2().header("kid", "../../dev/null"))),
        row("no typ", Forwarded, |i| any(&i.v2().without_header("typ"))),
        row("typ at+jwt", Forwarded, |i| any(&i.v2().header("typ", "at+jwt"))),
        row("typ application/at+jwt", Forwarded, |i| {
            any(&i.v2().header("typ", "application/at+jwt"))
        }),
        row("typ application/JWT", Forwarded, |i| any(&i.v2().header("typ", "application/JWT"))),
        row("typ dpop+jwt", INVALID, |i| any(&i.v2().header("typ", "dpop+jwt"))),
        row("typ logout+jwt", INVALID, |i| any(&i.v2().header("typ", "logout+jwt"))),
        row("typ secevent+jwt", INVALID, |i| any(&i.v2().header("typ", "secevent+jwt"))),
        row("typ JOSE+JSON", INVALID, |i| any(&i.v2().header("typ", "JOSE+JSON"))),
        row("typ pop", INVALID, |i| any(&i.v2().header("typ", "pop"))),
        row("typ is empty", INVALID, |i| any(&i.v2().header("typ", ""))),
        row("typ is a number", INVALID, |i| any(&i.v2().header("typ", 1))),
        row("jku", INVALID, |i| any(&i.v2().header("jku", "http://127.0.0.1:1/keys"))),
        row("x5u", INVALID, |i| any(&i.v2().header("x5u", "http://127.0.0.1:1/cert"))),
        row("jwk, with the attacker's key", INVALID, |i| {
            any(&i.v2().header("jwk", keys::rsa_other().jwk()).forged_by(&keys::rsa_other()))
        }),
        row("jwk, with the right key", INVALID, |i| any(&i.v2().header("jwk", keys::rsa().jwk()))),
        row("x5c and x5t are ignored", Forwarded, |i| {
            any(&i.v2().header("x5c", json!(["MIIB"])).header("x5t", "abc"))
        }),
        row("crit", INVALID, |i| any(&i.v2().header("crit", json!(["exp"])).header("exp", 1))),
        row("an empty crit", INVALID, |i| any(&i.v2().header("crit", json!([])))),
        row("crit with b64 false", INVALID, |i| {
            any(&i.v2().header("crit", json!(["b64"])).header("b64", false))
        }),
        row("crit is null", INVALID, |i| any(&i.v2().header("crit", Value::Null))),
        row("alg twice", INVALID, |i| any(&i.v2().also_header(r#""alg":"RS256""#))),
        row("kid twice", INVALID, |i| any(&i.v2().also_header(r#""kid":"kid-rsa""#))),
        row("kid twice, once escaped", INVALID, |i| {
            any(&i.v2().also_header(r#""\u006bid":"kid-rsa""#))
        }),
        row("an unknown member twice", INVALID, |i| any(&i.v2().also_header(r#""x":1,"x":1"#))),
    ]
}

/// Issuer, audience, times, tenant; their types; what is there twice.
fn registered_claims() -> Vec<Row> {
    vec![
        row("no iss", INVALID, |i| any(&i.v2().without("iss"))),
        row("a foreign iss", INVALID, |i| any(&i.v2().claim("iss", "https://evil.example"))),
        row("iss with a slash behind it", INVALID, |i| {
            any(&i.v2().claim("iss", format!("{}/", i.entra)))
        }),
        row("iss in upper case", INVALID, |i| any(&i.v2().claim("iss", i.entra.to_uppercase()))),
        row("iss is an array", INVALID, |i| any(&i.v2().claim("iss", json!([i.entra])))),
        row("iss is a number", INVALID, |i| any(&i.v2().claim("iss", 1))),
        row("iss is the template", INVALID, |i| {
            any(&i.v2().claim("iss", i.entra.replace(TENANT, "{tenantid}")))
        }),
        row("the v1 issuer without its slash", INVALID, |_| {
            any(&Token::entra_v1().claim("iss", format!("https://sts.windows.net/{TENANT}")))
        }),
        row("the v1 issuer of another cloud", INVALID, |_| {
            any(&Token::entra_v1().claim("iss", format!("https://sts.chinacloudapi.cn/{TENANT}/")))
        }),
        row("the v1 issuer of another tenant", INVALID, |_| {
            any(&Token::entra_v1().claim("iss", format!("https://sts.windows.net/{OTHER_TENANT}/")))
        }),
        row("v1, of another tenant throughout", INVALID, |_| {
            any(&Token::entra_v1()
                .claim("iss", format!("https://sts.windows.net/{OTHER_TENANT}/"))
                .claim("tid", OTHER_TENANT))
        }),
        row("v2, of another tenant throughout", INVALID, |i| {
            any(&i
                .v2()
                .claim("iss", i.entra.replace(TENANT, OTHER_TENANT))
                .claim("tid", OTHER_TENANT))
        }),
        row("no aud", INVALID, |i| any(&i.v2().without("aud"))),
        row("a foreign aud", INVALID, |i| any(&i.v2().claim("aud", "https://graph.microsoft.com"))),
        row("an empty aud", INVALID, |i| any(&i.v2().claim("aud", ""))),
        row("an empty array of aud", INVALID, |i| any(&i.v2().claim("aud", json!([])))),
        row("aud is a number", INVALID, |i| any(&i.v2().claim("aud", 1))),
        row("aud is null", INVALID, |i| any(&i.v2().claim("aud", Value::Null))),
        row("aud is an object", INVALID, |i| any(&i.v2().claim("aud", json!({CLIENT_ID: 1})))),
        row("our aud among others", Forwarded, |i| {
            any(&i.v2().claim("aud", json!(["x", CLIENT_ID])))
        }),
        row("an array of foreign aud", INVALID, |i| any(&i.v2().claim("aud", json!(["x", "y"])))),
        row("our aud beside a number", INVALID, |i| {
            any(&i.v2().claim("aud", json!([CLIENT_ID, 1])))
        }),
        row("aud is the App ID URI", Forwarded, |i| {
            any(&i.v2().claim("aud", format!("api://{CLIENT_ID}")))
        }),
        row("the App ID URI with a path", INVALID, |i| {
            any(&i.v2().claim("aud", format!("api://{CLIENT_ID}/x")))
        }),
        row("no exp", INVALID, |i| any(&i.v2().without("exp"))),
        row("exp is a string", INVALID, |i| any(&i.v2().claim("exp", "4102444800"))),
        row("exp is null", INVALID, |i| any(&i.v2().claim("exp", Value::Null))),
        row("exp is an array", INVALID, |i| any(&i.v2().claim("exp", json!([4_102_444_800_u64])))),
        row("expired within the clock skew", Forwarded, |i| any(&i.v2().expires_in(-58))),
        row("expired beyond the clock skew", EXPIRED, |i| any(&i.v2().expires_in(-62))),
        row("expired long ago, and swapped", EXPIRED, |i| {
            at("/swap/x", &i.v2().expires_in(-86_400))
        }),
        row("expired, and forged", INVALID, |i| {
            any(&i.v2().expires_in(-86_400).forged_by(&keys::rsa_other()))
        }),
        row("no nbf", Forwarded, |i| any(&i.v2().without("nbf"))),
        row("nbf within the clock skew", Forwarded, |i| any(&nbf_in(i.v2(), 58))),
        row("nbf beyond the clock skew", INVALID, |i| any(&nbf_in(i.v2(), 62))),
        row("nbf is a string", INVALID, |i| any(&i.v2().claim("nbf", "1"))),
        row("nbf after exp", INVALID, |i| {
            let exp = crate::support::clock::START.0;
            any(&i.v2().claim("exp", exp + 10).claim("nbf", exp + 20))
        }),
        row("iat is a string", INVALID, |i| any(&i.v2().claim("iat", "1"))),
        row("no tid", INVALID, |i| any(&i.v2().without("tid"))),
        row("tid of another tenant", INVALID, |i| any(&i.v2().claim("tid", OTHER_TENANT))),
        row("tid is an array", INVALID, |i| any(&i.v2().claim("tid", json!([TENANT])))),
        row("sub is a number", INVALID, |i| any(&i.v2().claim("sub", 1))),
        row("aud twice", INVALID, |i| any(&i.v2().also_claims(&format!(r#""aud":"{CLIENT_ID}""#)))),
        row("aud twice, once escaped", INVALID, |i| {
            any(&i.v2().also_claims(&format!(r#""\u0061ud":"{CLIENT_ID}""#)))
        }),
        row("exp twice", INVALID, |i| any(&i.v2().also_claims(r#""exp":4102444800"#))),
        row("an unknown claim twice", INVALID, |i| any(&i.v2().also_claims(r#""x":1,"x":1"#))),
        row("a member twice, three deep", INVALID, |i| {
            any(&i.v2().also_claims(r#""x":[{"y":{"z":1,"z":2}}]"#))
        }),
        row("one name at two depths", Forwarded, |i| {
            any(&i.v2().also_claims(r#""x":{"y":1,"z":{"y":2}}"#))
        }),
    ]
}

fn nbf_in(token: Token, seconds: u64) -> Token {
    token.claim("nbf", crate::support::clock::START.0 + seconds)
}

/// Tokens that are good, but not for this.
fn kinds() -> Vec<Row> {
    vec![
        row("an ID token: nonce", INVALID, |i| any(&i.v2().claim("nonce", "n"))),
        row("an ID token: at_hash", INVALID, |i| any(&i.oidc().claim("at_hash", "h"))),
        row("an ID token: c_hash", INVALID, |i| any(&i.oidc().claim("c_hash", "h"))),
        row("Keycloak's ID token", INVALID, |i| any(&i.oidc().claim("typ", "ID"))),
        row("Keycloak's access token", Forwarded, |i| {
            any(&i.oidc().header("typ", "JWT").claim("typ", "Bearer"))
        }),
        row("neither azp nor appid at Entra", INVALID, |i| any(&i.v2().without("azp"))),
        row("neither azp nor appid elsewhere", Forwarded, |i| any(&i.oidc().without("client_id"))),
        row("bound to a certificate", INVALID, |i| {
            any(&i.v2().claim("cnf", json!({"x5t#S256": "abc"})))
        }),
        row("bound to a certificate that nobody shows", INVALID, |i| {
            any(&i.v2().claim("cnf", json!({"x5t#S256": encode([7; 32])})))
        }),
        row("bound to a DPoP key", INVALID, |i| any(&i.v2().claim("cnf", json!({"jkt": "abc"})))),
        row("bound to a key, sent as Bearer", INVALID, |i| {
            any(&i.v2().claim("cnf", json!({"jkt": encode([7; 32])})))
        }),
        row("bound to a key, sent without a proof", INVALID, |i| {
            let token = i.v2().claim("cnf", json!({"jkt": encode([7; 32])})).build();
            fields(&[bearer(&token).replace("Bearer", "DPoP").as_bytes()])
        }),
        row("bound in two ways", INVALID, |i| {
            let digest = encode([7; 32]);
            any(&i.v2().claim("cnf", json!({"jkt": digest, "x5t#S256": digest})))
        }),
        row("bound in a way that is not verified", INVALID, |i| {
            any(&i.v2().claim("cnf", json!({"kid": "k"})))
        }),
        row("Entra's signed HTTP request", INVALID, |i| any(&i.v2().header("typ", "pop"))),
        row("an empty cnf", INVALID, |i| any(&i.v2().claim("cnf", json!({})))),
        row("Entra's claims under the other provider's issuer", INVALID, |i| {
            any(&i.v2().claim("iss", i.oidc.clone()))
        }),
        row("the other provider's claims under Entra's issuer", INVALID, |i| {
            any(&i.oidc().claim("iss", i.entra.clone()))
        }),
        row("a provider that the route lists", Forwarded, |i| at("/entra/x", &i.v2())),
        row("a provider that the route does not list", INVALID, |i| at("/entra/x", &i.oidc())),
        row("the other way round", INVALID, |i| at("/sso/x", &i.v2())),
        row("the provider that the other route lists", Forwarded, |i| at("/sso/x", &i.oidc())),
    ]
}

/// What the `auth` of a route asks for.
fn policies() -> Vec<Row> {
    vec![
        row("one of the scopes", Forwarded, |i| at("/scopes/x", &i.v2())),
        row("one of many scopes", Forwarded, |i| {
            at("/scopes/x", &i.v2().claim("scp", "a access_as_user b"))
        }),
        row("scopes as an array", Forwarded, |i| {
            at("/scopes/x", &i.oidc().claim("scope", json!(["access_as_user"])))
        }),
        row("another scope", SCOPE, |i| at("/scopes/x", &i.v2().claim("scp", "Orders.Read"))),
        row("a scope that begins alike", SCOPE, |i| {
            at("/scopes/x", &i.v2().claim("scp", "access_as_user2"))
        }),
        row("a scope in another case", SCOPE, |i| {
            at("/scopes/x", &i.v2().claim("scp", "Access_As_User"))
        }),
        row("scopes with a comma between", SCOPE, |i| {
            at("/scopes/x", &i.v2().claim("scp", "a,access_as_user"))
        }),
        row("no scope", SCOPE, |i| at("/scopes/x", &i.v2().without("scp"))),
        row("an app has no scope", SCOPE, |i| at("/scopes/x", &i.app())),
        row("a role named like the scope", SCOPE, |i| {
            at("/scopes/x", &i.app().claim("roles", json!(["access_as_user"])))
        }),
        row("scp is a number", INVALID, |i| at("/scopes/x", &i.v2().claim("scp", 1))),
        row("scp is an object", INVALID, |i| {
            at("/scopes/x", &i.v2().claim("scp", json!({"access_as_user": 1})))
        }),
        row("the role", Forwarded, |i| at("/roles/x", &i.app())),
        row("a user's role", Forwarded, |i| {
            at("/roles/x", &i.v2().claim("roles", json!(["x", "Orders.Read.All"])))
        }),
        row("another role", SCOPE, |i| {
            at("/roles/x", &i.app().claim("roles", json!(["Orders.Read"])))
        }),
        row("a scope named like the role", SCOPE, |i| {
            at("/roles/x", &i.v2().claim("scp", "Orders.Read.All"))
        }),
        row("roles is a number", INVALID, |i| at("/roles/x", &i.app().claim("roles", 1))),
        row("a role among numbers", INVALID, |i| {
            at("/roles/x", &i.app().claim("roles", json!(["Orders.Read.All", 1])))
        }),
        row("either: the scope", Forwarded, |i| at("/either/x", &i.v2())),
        row("either: the role", Forwarded, |i| at("/either/x", &i.app())),
        row("either: neither", SCOPE, |i| at("/either/x", &i.v2().claim("scp", "x"))),
        row("users: a user", Forwarded, |i| at("/users/x", &i.v2())),
        row("users: an app", NOT_ALLOWED, |i| at("/users/x", &i.app())),
        row("users: an app by its lack of scopes", NOT_ALLOWED, |i| {
            at("/users/x", &i.app().without("idtyp"))
        }),
        row("users: idtyp says app, whatever the scopes", NOT_ALLOWED, |i| {
            at("/users/x", &i.v2().claim("idtyp", "app"))
        }),
        row("apps: an app", Forwarded, |i| at("/apps/x", &i.app())),
        row("apps: a user", NOT_ALLOWED, |i| at("/apps/x", &i.v2())),
        row("apps: idtyp says user, though there is no scope", NOT_ALLOWED, |i| {
            at("/apps/x", &i.v2().without("scp").claim("idtyp", "user"))
        }),
        row("clients: azp", Forwarded, |i| at("/clients/x", &i.v2())),
        row("clients: appid", Forwarded, |_| at("/clients/x", &Token::entra_v1())),
        row("clients: another", NOT_ALLOWED, |i| at("/clients/x", &i.v2().claim("azp", CLIENT_ID))),
        row("tenants: another than the route's", NOT_ALLOWED, |i| at("/tenants/x", &i.v2())),
        row("tenants: none, from a provider that has none", NOT_ALLOWED, |i| {
            at("/tenants/x", &i.oidc())
        }),
        row("claims: both keys, one value each", Forwarded, |i| {
            at("/claims/x", &with_claims(i.v2(), json!("audit")))
        }),
        row("claims: one element of an array", Forwarded, |i| {
            at("/claims/x", &with_claims(i.v2(), json!(["x", "finance"])))
        }),
        row("claims: another value", NOT_ALLOWED, |i| {
            at("/claims/x", &with_claims(i.v2(), json!("sales")))
        }),
        row("claims: a value that begins alike", NOT_ALLOWED, |i| {
            at("/claims/x", &with_claims(i.v2(), json!("finance2")))
        }),
        row("claims: an object", NOT_ALLOWED, |i| {
            at("/claims/x", &with_claims(i.v2(), json!({"finance": true})))
        }),
        row("claims: one key is missing", NOT_ALLOWED, |i| {
            at("/claims/x", &i.v2().claim("department", "finance"))
        }),
        row("claims: the name as it stands goes before the path", NOT_ALLOWED, |i| {
            at("/claims/x", &with_claims(i.v2(), json!("audit")).claim("org.unit", "us"))
        }),
    ]
}

fn with_claims(token: Token, department: Value) -> Token {
    token.claim("department", department).claim("org", json!({"unit": "eu"}))
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
