//! Several providers at once, several of one type: each judges by its own keys, audiences, clock
//! skew and claims, whatever the others have.

use serde_json::Value;

use crate::support::gateway::Gateway;
use crate::support::keys;
use crate::support::provider::Provider;
use crate::support::token::{CLIENT_ID, OTHER_TENANT, TENANT, Token};
use crate::support::upstream::Upstream;

struct World {
    one: Provider,
    other: Provider,
    upstream: Upstream,
    gateway: Gateway,
}

/// Two servers, each with an Entra tenant and an OIDC issuer. All publish a key of one name; no
/// two servers the same key.
async fn world() -> World {
    let (one, other, upstream) = (Provider::start(), Provider::start(), Upstream::start());
    one.publish_for_all(&[keys::rsa().named("same")]);
    other.publish_for_all(&[keys::rsa_other().named("same")]);
    let (a, b, url) = (one.base(), other.base(), upstream.url());
    let (sso_a, sso_b) = (one.oidc_issuer(), other.oidc_issuer());
    let gateway = Gateway::start(&format!(
        r#"
listeners: [{{ address: "127.0.0.1:0" }}]
admin: {{ address: "127.0.0.1:0" }}
providers:
  a: {{ type: entra, tenant: {TENANT}, authority: "{a}", client_id: {CLIENT_ID}, clock_skew: 0s }}
  a-invoices: {{ type: entra, tenant: {TENANT}, authority: "{a}", audiences: [api://invoices], clock_skew: 300s }}
  b: {{ type: entra, tenant: {OTHER_TENANT}, authority: "{b}", cloud: china, client_id: {CLIENT_ID}, clock_skew: 300s }}
  b-several: {{ type: entra, tenant: organizations, allowed_tenants: [{TENANT}], authority: "{b}", cloud: china, audiences: [api://several] }}
  sso-a: {{ type: oidc, issuer: "{sso_a}", audiences: [orders], roles_claim: roles }}
  sso-a-groups: {{ type: oidc, issuer: "{sso_a}", audiences: [groups], roles_claim: groups, algorithms: [PS256] }}
  sso-b: {{ type: oidc, issuer: "{sso_b}", audiences: [orders] }}
upstreams:
  plain: {{ url: "{url}" }}
routes:
  - {{ match: {{ path: "/any/{{*rest}}" }}, auth: any, upstream: plain }}
  - {{ match: {{ path: "/a/{{*rest}}" }}, auth: {{ providers: [a] }}, upstream: plain }}
  - {{ match: {{ path: "/b/{{*rest}}" }}, auth: {{ providers: [b, b-several] }}, upstream: plain }}
  - {{ match: {{ path: "/admins/{{*rest}}" }}, auth: {{ roles: [admin] }}, upstream: plain }}
"#
    ));
    gateway.ready().await;
    World { one, other, upstream, gateway }
}

impl World {
    async fn asked(&self, path: &str, token: &Token) -> (u16, String, String) {
        let reply = self.gateway.client().await.get_with(path, &token.build()).await;
        let (status, code) = reply.outcome();
        let event = self.gateway.log().event_when(path).await;
        let reason = event.get("reason").and_then(Value::as_str).unwrap_or_default().to_owned();
        (status, code, reason)
    }

    /// Whether each of `rows` is let in on the routes below `/any`, `/a` and `/b`.
    async fn judge(&self, rows: Vec<(&str, Token, [u16; 3])>) {
        for (number, (what, token, wanted)) in rows.into_iter().enumerate() {
            for (route, wanted) in ["any", "a", "b"].into_iter().zip(wanted) {
                let path = format!("/{route}/{}-{number}", what.replace([' ', ',', '`', ':'], "-"));
                let (status, code, reason) = self.asked(&path, &token).await;
                assert_eq!(status, wanted, "{what} at /{route}: {code} {reason}");
            }
        }
    }
}

#[tokio::test]
async fn the_keys_of_one_provider_are_no_others() {
    let world = world().await;
    let (of_one, of_other) = (keys::rsa().named("same"), keys::rsa_other().named("same"));
    let v2_a = Token::entra_v2(&world.one.entra_issuer());
    let v2_b = Token::entra_v2(&world.other.entra_issuer()).of_tenant(OTHER_TENANT);
    let v1_a = Token::entra_v1();
    let v1_b = Token::entra_v1()
        .claim("iss", format!("https://sts.chinacloudapi.cn/{OTHER_TENANT}/"))
        .claim("tid", OTHER_TENANT);
    let oidc_a = Token::oidc(&world.one.oidc_issuer());
    let oidc_b = Token::oidc(&world.other.oidc_issuer());
    world
        .judge(vec![
            ("v2 a", v2_a.clone().signed_by(&of_one), [200, 200, 401]),
            ("v2 a by b", v2_a.signed_by(&of_other), [401, 401, 401]),
            ("v2 b", v2_b.clone().signed_by(&of_other), [200, 401, 200]),
            ("v2 b by a", v2_b.signed_by(&of_one), [401, 401, 401]),
            ("v1 a", v1_a.clone().signed_by(&of_one), [200, 200, 401]),
            ("v1 a by b", v1_a.signed_by(&of_other), [401, 401, 401]),
            ("v1 b", v1_b.clone().signed_by(&of_other), [200, 401, 200]),
            ("v1 b by a", v1_b.signed_by(&of_one), [401, 401, 401]),
            ("oidc a", oidc_a.clone().signed_by(&of_one), [200, 401, 401]),
            ("oidc a by b", oidc_a.signed_by(&of_other), [401, 401, 401]),
            ("oidc b", oidc_b.clone().signed_by(&of_other), [200, 401, 401]),
            ("oidc b by a", oidc_b.signed_by(&of_one), [401, 401, 401]),
        ])
        .await;
    assert_eq!(world.upstream.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn of_one_issuer_each_audience_has_its_own_rules() {
    let world = world().await;
    let (of_one, of_other) = (keys::rsa().named("same"), keys::rsa_other().named("same"));
    let at_a = Token::entra_v2(&world.one.entra_issuer()).signed_by(&of_one);
    let at_b = Token::entra_v2(&world.other.entra_issuer()).signed_by(&of_other);
    let b = at_b.clone().of_tenant(OTHER_TENANT);
    world
        .judge(vec![
            // The skew is that of the provider whose audience it is.
            ("at its end", at_a.clone().expires_in(0), [401, 401, 401]),
            ("a second before", at_a.clone().expires_in(1), [200, 200, 401]),
            ("invoices", at_a.clone().claim("aud", "api://invoices"), [200, 401, 401]),
            (
                "invoices, in its skew",
                at_a.clone().claim("aud", "api://invoices").expires_in(-299),
                [200, 401, 401],
            ),
            (
                "invoices, past its skew",
                at_a.clone().claim("aud", "api://invoices").expires_in(-300),
                [401, 401, 401],
            ),
            ("b, in its skew", b.clone().expires_in(-299), [200, 401, 200]),
            ("b, past its skew", b.clone().expires_in(-300), [401, 401, 401]),
            // An audience of one tenant's provider is none of another's.
            ("b for invoices", b.clone().claim("aud", "api://invoices"), [401, 401, 401]),
            ("b for several", b.claim("aud", "api://several"), [401, 401, 401]),
            // One tenant of several, and the one tenant of another authority.
            ("one of several", at_b.clone().claim("aud", "api://several"), [200, 401, 200]),
            (
                "one of several, v1 of its cloud",
                Token::entra_v1()
                    .claim("iss", format!("https://sts.chinacloudapi.cn/{TENANT}/"))
                    .claim("aud", "api://several")
                    .signed_by(&of_other),
                [200, 401, 200],
            ),
            (
                "one of several, v1 of another cloud",
                Token::entra_v1().claim("aud", "api://several").signed_by(&of_other),
                [401, 401, 401],
            ),
            ("one of several, audience of b", at_b, [401, 401, 401]),
            ("nobody's audience", at_a.claim("aud", "api://nobody"), [401, 401, 401]),
        ])
        .await;
}

#[tokio::test]
async fn roles_are_read_where_the_provider_that_judges_has_them() {
    let world = world().await;
    let key = keys::rsa().named("same");
    let token = || Token::oidc(&world.one.oidc_issuer()).signed_by(&key);
    let groups = || token().claim("aud", "groups").alg(keys::Alg::Ps256);
    let admin = || serde_json::json!(["admin"]);
    for (what, token, wanted) in [
        ("roles", token().claim("roles", admin()), 200),
        ("groups-for-roles", token().claim("groups", admin()), 403),
        ("groups", groups().claim("groups", admin()), 200),
        ("roles-for-groups", groups().claim("roles", admin()), 403),
        ("algorithm-of-the-other", groups().claim("groups", admin()).alg(keys::Alg::Rs256), 401),
    ] {
        let (status, code, reason) = world.asked(&format!("/admins/{what}"), &token).await;
        assert_eq!(status, wanted, "{what}: {code} {reason}");
    }
}
