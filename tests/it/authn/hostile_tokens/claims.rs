//! What a signed token says: issuer, audience, times, tenant, kind, and what routes ask for.

use serde_json::{Value, json};

use super::Expect::Forwarded;
use super::{EXPIRED, INVALID, NOT_ALLOWED, Row, SCOPE, any, at, fields, row};
use crate::support::keys::{self, encode};
use crate::support::token::{CLIENT_ID, OTHER_TENANT, TENANT, Token, bearer};

/// Issuer, audience, times, tenant; their types; what is there twice.
pub(super) fn registered_claims() -> Vec<Row> {
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

pub(super) fn nbf_in(token: Token, seconds: u64) -> Token {
    token.claim("nbf", crate::support::clock::START.0 + seconds)
}

/// Tokens that are good, but not for this.
pub(super) fn kinds() -> Vec<Row> {
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
pub(super) fn policies() -> Vec<Row> {
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

pub(super) fn with_claims(token: Token, department: Value) -> Token {
    token.claim("department", department).claim("org", json!({"unit": "eu"}))
}
