//! Callers of several tenants of Entra, and of one that is named by a domain, with a whole gateway.

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::gate::Gate;
use crate::support::gateway::Gateway;
use crate::support::keys;
use crate::support::provider::{Endpoint, Provider, Reply};
use crate::support::token::{ALICE, CLIENT_ID, DOMAIN, OTHER_TENANT, TENANT, Token};
use crate::support::upstream::Upstream;

/// A tenant that nobody listed.
const STRANGER: &str = "bbbbbbbb-2222-3333-4444-555555555555";
/// The tenant of personal accounts.
const PERSONAL: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";
const GRAPH: &str = "https://graph.microsoft.com/.default";

fn routes_file(provider: &Provider, upstream: &Upstream, more: &str) -> String {
    let (authority, url) = (provider.base(), upstream.url());
    format!(
        r#"
listeners: [{{ address: "127.0.0.1:0" }}]
admin: {{ address: "127.0.0.1:0" }}
providers:
  entra:
    type: entra
    authority: "{authority}"
    client_id: {CLIENT_ID}
    credential: {{ client_secret: "${{CLIENT_SECRET}}" }}
    {more}
upstreams:
  plain: {{ url: "{url}" }}
  graph: {{ url: "{url}", token: {{ on_behalf_of: {{ scopes: ["{GRAPH}"] }} }} }}
routes:
  - {{ match: {{ path: "/any/{{*rest}}" }}, auth: any, upstream: plain }}
  - {{ match: {{ path: "/graph/{{*rest}}" }}, auth: {{ scopes: [access_as_user] }}, upstream: graph }}
  - {{ match: {{ path: "/other/{{*rest}}" }}, auth: {{ tenants: [{OTHER_TENANT}] }}, upstream: plain }}
"#
    )
}

fn several(directory: &str) -> String {
    format!("tenant: {directory}\n    allowed_tenants: [{TENANT}, {}]", OTHER_TENANT.to_uppercase())
}

async fn started(more: &str) -> (Provider, Upstream, Gateway) {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    provider.publish_for_all(&[keys::rsa()]);
    let gateway = Gateway::start(&routes_file(&provider, &upstream, more));
    gateway.ready().await;
    (provider, upstream, gateway)
}

/// Status and code of a request to `path`, and the reason that the log has for it.
async fn asked(gateway: &Gateway, path: &str, token: &Token) -> (u16, String, String) {
    let reply = gateway.client().await.get_with(path, &token.build()).await;
    let (status, code) = reply.outcome();
    let event = gateway.log().event_when(path).await;
    let reason = event.get("reason").and_then(Value::as_str).unwrap_or_default().to_owned();
    (status, code, reason)
}

#[tokio::test]
async fn of_several_tenants_those_that_are_listed_may_call() {
    for directory in ["organizations", "common"] {
        let (provider, _upstream, gateway) = started(&several(directory)).await;
        let v2 = Token::entra_v2(&provider.entra_issuer());
        let accepted = [
            (TENANT, v2.clone()),
            (OTHER_TENANT, v2.clone().of_tenant(OTHER_TENANT)),
            (TENANT, Token::entra_v1()),
            (OTHER_TENANT, Token::entra_v1().of_tenant(OTHER_TENANT)),
            (OTHER_TENANT, v2.of_tenant(OTHER_TENANT).claim("tid", OTHER_TENANT.to_uppercase())),
        ];
        for (number, (tenant, token)) in accepted.into_iter().enumerate() {
            let path = format!("/any/{number}");
            let (status, code, reason) = asked(&gateway, &path, &token).await;
            assert_eq!((status, &*code), (200, ""), "{number}: {reason}");
            let event = gateway.log().event_when(&path).await;
            assert_eq!(event["tenant"], tenant, "in lower case: {event:?}");
        }
    }
}

#[tokio::test]
async fn everyone_else_is_refused() {
    let (provider, _upstream, gateway) = started(&several("common")).await;
    let issuer = provider.entra_issuer();
    let v2 = || Token::entra_v2(&issuer);
    let at = |tenant: &str| issuer.replace(TENANT, tenant);
    for (number, (what, token, why)) in [
        ("not listed", v2().of_tenant(STRANGER), "`allowed_tenants`"),
        ("not listed, v1", Token::entra_v1().of_tenant(STRANGER), "`allowed_tenants`"),
        ("personal accounts have to be listed", v2().of_tenant(PERSONAL), "`allowed_tenants`"),
        ("the template itself", v2().claim("iss", at("{tenantid}")), "`iss` is"),
        ("the template, twice", v2().of_tenant("{tenantid}"), "`iss` is"),
        ("no tenant at all", v2().of_tenant("common"), "`iss` is"),
        ("an empty tenant", v2().of_tenant(""), "`iss` is"),
        ("a domain", v2().of_tenant(DOMAIN), "`iss` is"),
        ("without hyphens", v2().of_tenant(&TENANT.replace('-', "")), "`iss` is"),
        ("in upper case", v2().of_tenant(&OTHER_TENANT.to_uppercase()), "`iss` is"),
        ("a longer path", v2().claim("iss", at(&format!("{STRANGER}/{TENANT}"))), "`iss` is"),
        (
            "of another cloud, v1",
            Token::entra_v1().claim("iss", format!("https://sts.chinacloudapi.cn/{TENANT}/")),
            "`iss` is",
        ),
        (
            "of the cloud's own authority",
            v2().claim("iss", format!("https://login.microsoftonline.com/{TENANT}/v2.0")),
            "`iss` is",
        ),
        ("`iss` of one, `tid` of another", v2().claim("tid", OTHER_TENANT), "`tid` is"),
        ("`iss` of another, `tid` of one", v2().claim("iss", at(OTHER_TENANT)), "`tid` is"),
        ("no `tid`", v2().without("tid"), "no `tid`"),
        ("`tid` is a template", v2().claim("tid", "{tenantid}"), "`tid` is"),
        ("`tid` in braces", v2().claim("tid", format!("{{{TENANT}}}")), "`tid` is"),
        ("`tid` is a list", v2().claim("tid", json!([TENANT])), "`tid` is an array"),
        ("v1 issuer, `ver` 2.0", Token::entra_v1().claim("ver", "2.0"), "`ver` is"),
        ("v2 issuer, `ver` 1.0", v2().claim("ver", "1.0"), "`ver` is"),
        ("an ID token", v2().without("azp"), "ID token"),
    ]
    .into_iter()
    .enumerate()
    {
        let (status, code, reason) = asked(&gateway, &format!("/any/{number}"), &token).await;
        assert_eq!((status, &*code), (401, "token_invalid"), "{what}: {reason}");
        assert!(reason.contains(why), "{what}: {reason}");
    }
    let (status, code, _) = asked(&gateway, "/other/x", &v2()).await;
    assert_eq!((status, &*code), (403, "caller_not_allowed"), "the route's own `tenants`");
    assert_eq!(asked(&gateway, "/other/y", &v2().of_tenant(OTHER_TENANT)).await.0, 200);
}

/// Entra publishes the keys of all tenants in one place; some are for one tenant only.
#[tokio::test]
async fn a_key_of_one_tenant_signs_for_no_other() {
    let (provider, _upstream, gateway) = started(&several("common")).await;
    let own = |key: keys::Key, issuer: String| {
        let mut jwk = key.jwk();
        jwk["issuer"] = json!(issuer);
        jwk
    };
    let issuer = provider.entra_issuer();
    provider.publish_jwks(&[
        own(keys::rsa(), issuer.replace(TENANT, PERSONAL)),
        own(keys::rsa_other(), issuer.replace(TENANT, OTHER_TENANT)),
        own(keys::rsa3072(), "https://sts.windows.net/{tenantid}/".to_owned()),
    ]);
    let v2 = |tenant: &str| Token::entra_v2(&issuer).of_tenant(tenant);
    // Not published before: the first token with it has the keys fetched.
    let fresh = v2(OTHER_TENANT).signed_by(&keys::rsa_other());
    assert_eq!(asked(&gateway, "/any/fresh", &fresh).await.0, 200);
    for (number, token) in [
        v2(TENANT),
        v2(OTHER_TENANT),
        Token::entra_v1(),
        v2(TENANT).signed_by(&keys::rsa_other()),
        Token::entra_v1().signed_by(&keys::rsa_other()),
        v2(TENANT).signed_by(&keys::rsa3072()),
    ]
    .into_iter()
    .enumerate()
    {
        let (status, _, reason) = asked(&gateway, &format!("/any/{number}"), &token).await;
        assert_eq!(status, 401, "{number}: {reason}");
        assert!(reason.contains("is for issuer"), "{number}: {reason}");
    }
    let v1 = Token::entra_v1().signed_by(&keys::rsa3072());
    assert_eq!(asked(&gateway, "/any/v1", &v1).await.0, 200);
}

#[tokio::test]
async fn a_strangers_tokens_fetch_no_keys() {
    let (provider, _upstream, gateway) = started(&several("organizations")).await;
    let stranger = Token::entra_v2(&provider.entra_issuer()).of_tenant(STRANGER);
    let token = stranger.signed_by(&keys::rsa_other());
    assert_eq!(asked(&gateway, "/any/x", &token).await.0, 401);
    assert_eq!(provider.count(Endpoint::Keys), 1, "only at the start");
}

#[tokio::test]
async fn each_callers_token_is_exchanged_in_the_callers_own_tenant() {
    let (provider, upstream, gateway) = started(&several("organizations")).await;
    let mut client = gateway.client().await;
    for tenant in [TENANT, OTHER_TENANT, TENANT] {
        // One user, a guest in the other tenant: only the tenant differs.
        let token = Token::entra_v2(&provider.entra_issuer()).of_tenant(tenant);
        let reply = client.get_with("/graph/me", &token.build()).await;
        assert_eq!(reply.outcome(), (200, String::new()), "{tenant}");
        let issued = provider.issued(&upstream.last().bearer().unwrap()).unwrap();
        assert_eq!((&*issued.tenant, &*issued.user), (tenant, ALICE));
    }
    let paths: Vec<_> = provider.forms().into_iter().map(|form| form.path).collect();
    let path = |tenant: &str| format!("/{tenant}/oauth2/v2.0/token");
    assert_eq!(paths, [path(TENANT), path(OTHER_TENANT)], "the third came from the cache");
}

#[tokio::test]
async fn a_claims_challenge_names_the_callers_own_tenant() {
    use crate::support::obo::Answer;

    let (provider, _upstream, gateway) = started(&several("organizations")).await;
    let claims = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#;
    let answer = Answer::claims_challenge("interaction_required", 50_079, claims);
    provider.script(Endpoint::Token, Reply::Answer(answer));
    let token = Token::entra_v2(&provider.entra_issuer()).of_tenant(OTHER_TENANT).build();
    let reply = gateway.client().await.get_with("/graph/me", &token).await;
    assert_eq!(reply.outcome(), (401, "claims_challenge".to_owned()));
    let challenge = reply.header("www-authenticate").unwrap();
    let uri = format!("{}/{OTHER_TENANT}/oauth2/v2.0/authorize", provider.base());
    assert!(challenge.contains(&uri), "{challenge}");
}

#[tokio::test]
async fn an_own_token_endpoint_takes_the_callers_tenant() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    provider.publish_for_all(&[keys::rsa()]);
    let more = format!(
        "{}\n    token_endpoint: \"{}/{{tenantid}}/oauth2/v2.0/token?own=1\"",
        several("common"),
        provider.base()
    );
    let gateway = Gateway::start(&routes_file(&provider, &upstream, &more));
    gateway.ready().await;
    let token = Token::entra_v2(&provider.entra_issuer()).of_tenant(OTHER_TENANT).build();
    let reply = gateway.client().await.get_with("/graph/me", &token).await;
    assert_eq!(reply.outcome(), (200, String::new()));
    let path = provider.forms().swap_remove(0).path;
    assert_eq!(path, format!("/{OTHER_TENANT}/oauth2/v2.0/token"));
}

#[tokio::test]
async fn a_domains_tokens_wait_for_its_id() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let gate = Gate::new();
    provider.script(Endpoint::Discovery, Reply::Held(gate.clone(), Box::new(Reply::Usual)));
    // Keys that need no metadata make no difference.
    for keys in ["", "\n    jwks_uri: KEYS"] {
        let keys =
            keys.replace("KEYS", &format!("\"{}/{TENANT}/discovery/v2.0/keys\"", provider.base()));
        let more = format!("tenant: {DOMAIN}{keys}");
        let gateway = Gateway::start(&routes_file(&provider, &upstream, &more));
        if keys.is_empty() {
            let v2 = Token::entra_v2(&provider.entra_issuer());
            for (number, token) in
                [v2.clone(), Token::entra_v1(), v2.of_tenant(STRANGER)].into_iter().enumerate()
            {
                let path = format!("/any/early-{number}");
                let (status, code, reason) = asked(&gateway, &path, &token).await;
                assert_eq!((status, &*code), (503, "provider_unavailable"), "{number}: {reason}");
                assert!(reason.contains(DOMAIN), "{reason}");
            }
            // A foreign issuer is known to be one.
            let foreign = Token::entra_v2("https://login.microsoftonline.com/x/v2.0");
            assert_eq!(asked(&gateway, "/any/foreign", &foreign).await.0, 401);
            let mut admin = Client::http1(gateway.admin_address()).await;
            admin.is_not_a_gateway();
            let ready = admin.get("/readyz").await;
            assert_eq!(ready.status, 503);
            assert!(String::from_utf8_lossy(&ready.body).contains("`entra`"), "{ready:?}");
            gate.open();
        }
        gateway.ready().await;
        let v2 = Token::entra_v2(&provider.entra_issuer());
        assert_eq!(asked(&gateway, "/any/v2", &v2).await.0, 200);
        assert_eq!(asked(&gateway, "/any/v1", &Token::entra_v1()).await.0, 200);
        let (status, code, reason) =
            asked(&gateway, "/any/x", &v2.clone().of_tenant(STRANGER)).await;
        assert_eq!((status, &*code), (401, "token_invalid"), "{reason}");
        let (status, _, reason) = asked(&gateway, "/graph/x", &v2).await;
        assert_eq!(status, 200, "{reason}");
        let path = provider.forms().pop().unwrap().path;
        assert_eq!(path, format!("/{TENANT}/oauth2/v2.0/token"));
    }
}

/// Whoever gets hold of a domain that was given up does not become the tenant.
#[tokio::test]
async fn a_domain_that_changes_hands_stays_the_tenant_it_was() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let more = format!("tenant: {DOMAIN}");
    let gateway = Gateway::start(&routes_file(&provider, &upstream, &more));
    gateway.ready().await;
    let v2 = Token::entra_v2(&provider.entra_issuer());
    assert_eq!(asked(&gateway, "/any/before", &v2).await.0, 200);

    let base = provider.base();
    let stolen = json!({
        "issuer": format!("{base}/{STRANGER}/v2.0"),
        "jwks_uri": format!("{base}/{STRANGER}/discovery/v2.0/keys"),
        "token_endpoint": format!("{base}/{STRANGER}/oauth2/v2.0/token"),
    });
    provider.always(Endpoint::Discovery, Reply::json(200, &stolen));
    provider.publish_for_all(&[keys::rsa_other()]);
    let thief = v2.clone().of_tenant(STRANGER).signed_by(&keys::rsa_other());
    let (status, code, _) = asked(&gateway, "/any/thief", &thief).await;
    assert_eq!((status, &*code), (401, "token_invalid"));
    // In the name of the old tenant, by the new owner's key: it is asked for, and not taken.
    let forged = v2.clone().signed_by(&keys::rsa_other());
    let (status, code, reason) = asked(&gateway, "/any/forged", &forged).await;
    assert_eq!((status, &*code), (503, "provider_unavailable"));
    assert!(reason.contains(STRANGER) && reason.contains(TENANT), "{reason}");
    assert_eq!(provider.count(Endpoint::Discovery), 2);
    assert_eq!(asked(&gateway, "/any/after", &v2).await.0, 200);
    assert_eq!(asked(&gateway, "/graph/after", &v2).await.0, 200);
    let path = provider.forms().pop().unwrap().path;
    assert_eq!(path, format!("/{TENANT}/oauth2/v2.0/token"));
}

#[tokio::test]
async fn metadata_of_one_tenant_is_not_that_of_several() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let issuer = provider.entra_issuer();
    provider.always(Endpoint::Discovery, Reply::json(200, &json!({ "issuer": issuer })));
    let gateway = Gateway::start(&routes_file(&provider, &upstream, &several("organizations")));
    provider.called(Endpoint::Discovery, 2).await;
    let (status, code, reason) = asked(&gateway, "/any/x", &Token::entra_v2(&issuer)).await;
    assert_eq!((status, &*code), (503, "provider_unavailable"));
    assert!(reason.contains("{tenantid}"), "{reason}");
    assert_eq!(provider.count(Endpoint::Keys), 0);
}

#[tokio::test]
async fn a_reload_takes_tenants_away_and_keeps_what_did_not_change() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    provider.publish_for_all(&[keys::rsa()]);
    let both = routes_file(&provider, &upstream, &several("organizations"));
    let gateway = Gateway::start(&both);
    gateway.ready().await;
    let token = Token::entra_v2(&provider.entra_issuer());
    let other = token.clone().of_tenant(OTHER_TENANT);
    assert_eq!(asked(&gateway, "/graph/1", &other).await.0, 200);
    assert_eq!(asked(&gateway, "/graph/2", &token).await.0, 200);

    // Only the order of the list, and its case: the same tenants.
    let list = format!("[{TENANT}, {}]", OTHER_TENANT.to_uppercase());
    gateway.write_file(&both.replace(&list, &format!("[{OTHER_TENANT}, {TENANT}]")));
    gateway.reload();
    assert_eq!(asked(&gateway, "/graph/3", &other).await.0, 200);
    assert_eq!(provider.count(Endpoint::Keys), 1, "the provider is kept");

    // The keys are those of before: nobody waits for them.
    provider.always(Endpoint::Discovery, Reply::Hang);
    gateway.write_file(&both.replace(&list, &format!("[{TENANT}]")));
    gateway.reload();
    let (status, code, reason) = asked(&gateway, "/graph/4", &other).await;
    assert_eq!((status, &*code), (401, "token_invalid"), "also one that was verified: {reason}");
    assert_eq!(asked(&gateway, "/graph/5", &token).await.0, 200);
    assert_eq!(provider.count(Endpoint::Token), 2, "what was exchanged is kept");
}

#[tokio::test]
async fn a_reload_keeps_what_a_domain_turned_out_to_be() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let file = routes_file(&provider, &upstream, &format!("tenant: {DOMAIN}"));
    let gateway = Gateway::start(&file);
    gateway.ready().await;
    provider.always(Endpoint::Discovery, Reply::Hang);
    gateway.write_file(&file.replace("/other/", "/else/").replace(DOMAIN, "Contoso.EXAMPLE"));
    gateway.reload();
    let token = Token::entra_v2(&provider.entra_issuer());
    assert_eq!(asked(&gateway, "/any/x", &token).await.0, 200);
    assert_eq!(provider.count(Endpoint::Discovery), 1);

    // Another audience makes another provider, of the same tenant and with the same keys.
    let audience = format!("client_id: {CLIENT_ID}\n    audiences: [api://x]");
    gateway.write_file(&file.replace(&format!("client_id: {CLIENT_ID}"), &audience));
    gateway.reload();
    let (status, _, reason) = asked(&gateway, "/any/y", &token).await;
    assert_eq!(status, 401, "{reason}");
    assert!(reason.contains("api://x"), "{reason}");
    assert_eq!(asked(&gateway, "/any/z", &token.claim("aud", "api://x")).await.0, 200);
}

/// What was loaded from one place says nothing of another.
#[tokio::test]
async fn a_reload_to_another_authority_takes_no_keys_along() {
    let (provider, other, upstream) = (Provider::start(), Provider::start(), Upstream::start());
    other.always(Endpoint::Discovery, Reply::Hang);
    let more = format!("tenant: {TENANT}");
    let gateway = Gateway::start(&routes_file(&provider, &upstream, &more));
    gateway.ready().await;
    gateway.write_file(&routes_file(&other, &upstream, &more));
    gateway.reload();
    let v1 = asked(&gateway, "/any/v1", &Token::entra_v1()).await;
    assert_eq!((v1.0, &*v1.1), (503, "provider_unavailable"), "{}", v1.2);
}
