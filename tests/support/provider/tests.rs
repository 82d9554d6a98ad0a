//! What the provider of the tests does is what tests may rely on.

use super::*;
use crate::support::registry::{self, Kind};
use crate::support::token::{ALICE, CLIENT_ID, CLIENT_SECRET, Token};

const GRAPH: &str = "https://graph.microsoft.com/.default";

fn obo_form(assertion: &str, secret: &str, scope: &str) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer")
        .append_pair("client_id", CLIENT_ID)
        .append_pair("client_secret", secret)
        .append_pair("assertion", assertion)
        .append_pair("scope", scope)
        .append_pair("requested_token_use", "on_behalf_of")
        .finish()
}

async fn ask(provider: &Provider, form: String) -> (u16, Value) {
    let url = format!("{}/{TENANT}/oauth2/v2.0/token", provider.base());
    let answer = crate::support::client::post_form(&url, form).await;
    (answer.status.as_u16(), serde_json::from_slice(&answer.body).unwrap())
}

#[tokio::test]
async fn it_swaps_a_token_and_remembers_for_whom() {
    let provider = Provider::start();
    let token = Token::entra_v2(&provider.entra_issuer()).build();
    let (status, answer) = ask(&provider, obo_form(&token, CLIENT_SECRET, GRAPH)).await;
    assert_eq!((status, &answer["token_type"]), (200, &json!("Bearer")), "{answer}");
    let outbound = answer["access_token"].as_str().unwrap();
    let issued = provider.issued(outbound).unwrap();
    assert_eq!((issued.user.as_str(), issued.scope.as_str()), (ALICE, GRAPH));
    assert_eq!(issued.assertion, token);
    assert_eq!(registry::find(outbound.as_bytes(), &[Kind::Outbound]), Some((Kind::Outbound, 0)));
    let (_, again) = ask(&provider, obo_form(&token, CLIENT_SECRET, GRAPH)).await;
    assert_ne!(again["access_token"], answer["access_token"]);
    assert_eq!((provider.count(Endpoint::Token), provider.issued_count()), (2, 2));
    assert_eq!(provider.forms()[0].field("requested_token_use"), Some("on_behalf_of"));
}

#[tokio::test]
async fn it_refuses_what_entra_refuses() {
    let provider = Provider::start();
    let good = Token::entra_v2(&provider.entra_issuer());
    let token = good.build();
    let other = good.clone().claim("aud", "someone-else").build();
    let unsigned = crate::support::token::with_flipped_bit(&token);
    let cases = [
        (obo_form(&token, "wrong", GRAPH), 401, "invalid_client", 7_000_215),
        (obo_form(&other, CLIENT_SECRET, GRAPH), 400, "invalid_grant", 500_131),
        (obo_form("nothing", CLIENT_SECRET, GRAPH), 400, "invalid_grant", 50_027),
        (obo_form(&unsigned, CLIENT_SECRET, GRAPH), 400, "invalid_grant", 50_013),
        (
            obo_form(&token, CLIENT_SECRET, "https://a/.default https://b/.default"),
            400,
            "invalid_scope",
            70_011,
        ),
    ];
    for (form, status, error, number) in cases {
        let (got, answer) = ask(&provider, form).await;
        assert_eq!(
            (got, &answer["error"], &answer["error_codes"]),
            (status, &json!(error), &json!([number]))
        );
    }
    assert_eq!(provider.issued_count(), 0);
    assert_eq!(provider.take_mistakes(), [""; 0]);
}

#[tokio::test]
async fn a_form_that_no_right_gateway_sends_is_told_to_the_test() {
    let provider = Provider::start();
    let token = Token::entra_v2(&provider.entra_issuer()).build();
    let good = obo_form(&token, CLIENT_SECRET, GRAPH);
    let app = Token::entra_app(&provider.entra_issuer()).build();
    let cases = [
        (good.replace("jwt-bearer", "jam"), "has no grant"),
        (good.replace("jwt-bearer", "token-exchange"), "has no grant"),
        (format!("{good}&audience=x"), "`audience` is no parameter"),
        (format!("{good}&scope=x"), "`scope` comes 2 times"),
        (format!("{good}&claims=%5B%5D"), "`claims` is no JSON object"),
        (good.replace("&requested_token_use=on_behalf_of", ""), "`requested_token_use` is"),
        (good.replace("on_behalf_of", "x"), "is not `on_behalf_of`"),
        (good.replace(&token, ""), "`assertion` is empty"),
        (obo_form(&app, CLIENT_SECRET, GRAPH), "an application's token"),
    ];
    for (form, what) in cases {
        let (status, answer) = ask(&provider, form).await;
        assert_eq!((status, &answer["error"]), (400, &json!("invalid_request")), "{what}");
        let mistakes = provider.take_mistakes();
        assert!(mistakes.len() == 1 && mistakes[0].contains(what), "{what}: {mistakes:?}");
    }
    provider.expect_parameter("slice", "a");
    for (form, fine) in [
        (good.clone(), false),
        (format!("{good}&slice=b"), false),
        (format!("{good}&slice=a"), true),
    ] {
        assert_eq!(ask(&provider, form).await.0 == 200, fine);
        assert_eq!(provider.take_mistakes().is_empty(), fine);
    }
}

#[tokio::test]
async fn scripts_go_before_what_is_usual() {
    let provider = Provider::start();
    provider.script(Endpoint::Keys, Reply::json(500, &json!({})));
    provider.script(Endpoint::Keys, Reply::Reset);
    let url = format!("{}/realms/main/keys", provider.base());
    assert_eq!(crate::support::client::fetch(&url).await.unwrap().status, 500);
    assert!(crate::support::client::fetch(&url).await.is_err());
    let keys: Value =
        serde_json::from_slice(&crate::support::client::fetch(&url).await.unwrap().body).unwrap();
    assert_eq!(keys["keys"][0]["kid"], keys::rsa().kid());
    assert_eq!(provider.count(Endpoint::Keys), 3);

    provider.always(Endpoint::Keys, Reply::Cut(Answer::json(200, &json!({"keys": []}))));
    assert!(crate::support::client::fetch(&url).await.is_err());
    provider.always(Endpoint::Keys, Reply::Drip(Answer::json(200, &json!([1])), Duration::ZERO));
    assert_eq!(&crate::support::client::fetch(&url).await.unwrap().body[..], b"[1]");
}

#[tokio::test]
async fn a_held_reply_waits_and_a_stopped_provider_refuses() {
    let provider = Provider::start();
    let gate = Gate::new();
    provider.script(Endpoint::Discovery, Reply::Held(gate.clone(), Box::new(Reply::Usual)));
    let url = format!("{}/.well-known/openid-configuration", provider.entra_issuer());
    let call = tokio::spawn({
        let url = url.clone();
        async move { crate::support::client::fetch(&url).await.unwrap() }
    });
    gate.arrived(1).await;
    assert!(!call.is_finished());
    gate.open();
    let document: Value = serde_json::from_slice(&call.await.unwrap().body).unwrap();
    assert_eq!(document["issuer"], provider.entra_issuer());
    provider.stop().await;
    assert!(crate::support::client::fetch(&url).await.is_err());
    provider.start_again();
    assert_eq!(crate::support::client::fetch(&url).await.unwrap().status, 200);
}
