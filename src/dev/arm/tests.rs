//! What the stand-in for ARM takes and what it refuses.

use super::*;
use crate::dev::authority::Delegated;
use crate::dev::authority::tests::{BASE, Frozen};
use crate::dev::directory::{DAEMON, GATEWAY, user};
use bytes::Bytes;
use http::Request;
use http::header::AUTHORIZATION;

const HERE: &str = "http://127.0.0.1:9012";
const RESOURCE: &str = "/subscriptions/70000000-0000-4000-8000-000000000001/resourceGroups/demo\
    /providers/Microsoft.Storage/storageAccounts/One?api-version=2023-01-01";

fn arm() -> ArmStandIn {
    let provider = IdentityProvider::new(BASE.to_owned(), Arc::new(Frozen)).unwrap();
    ArmStandIn::new(&provider)
}

fn token(arm: &ArmStandIn, audience: &str, scope: &str) -> String {
    let scopes = [scope.to_owned()];
    let user = user("bob").unwrap();
    let of = Delegated { user, client: &GATEWAY, audience, scopes: &scopes };
    arm.authority.sign(&arm.authority.delegated(of, arm.authority.usual())).unwrap()
}

fn send(
    arm: &ArmStandIn,
    method: Method,
    target: &str,
    token: Option<&str>,
    body: &'static str,
) -> (Answer, Value) {
    let target = target.strip_prefix(HERE).unwrap_or(target);
    let mut request = Request::builder().method(method).uri(target);
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let answer = arm.answer(&request.body(Bytes::from_static(body.as_bytes())).unwrap(), HERE);
    let body = serde_json::from_slice(answer.body()).unwrap();
    (answer, body)
}

fn get(arm: &ArmStandIn, target: &str, token: Option<&str>) -> (Answer, Value) {
    send(arm, Method::GET, target, token, "")
}

#[test]
fn a_token_for_arm_with_the_scope_is_taken() {
    let arm = arm();
    for audience in AUDIENCES {
        let token = token(&arm, audience, "user_impersonation");
        let (answer, body) = get(&arm, "/subscriptions?api-version=2022-12-01", Some(&token));
        assert_eq!(answer.status(), StatusCode::OK, "{body}");
        assert_eq!(body["tokenFor"]["user"], "bob@dev.local");
        assert_eq!(body["tokenFor"]["audience"], audience);
        assert!(!body.to_string().contains(&token));
    }
    let claims = arm.authority.app_only(&DAEMON, AUDIENCES[0], &[], arm.authority.usual());
    let daemon = arm.authority.sign(&claims).unwrap();
    let (answer, _) = get(&arm, "/subscriptions?api-version=2022-12-01", Some(&daemon));
    assert_eq!(answer.status(), StatusCode::OK);
}

#[test]
fn another_audience_and_no_token_are_401_and_a_missing_scope_403() {
    let arm = arm();
    let graph = token(&arm, "https://graph.microsoft.com", "user_impersonation");
    let other = token(&arm, AUDIENCES[0], "User.Read");
    let stranger = token(&self::arm(), AUDIENCES[0], "user_impersonation");
    for (token, status, code) in [
        (None, 401, "AuthenticationFailed"),
        (Some(&*graph), 401, "InvalidAuthenticationTokenAudience"),
        (Some(&*stranger), 401, "InvalidAuthenticationToken"),
        (Some(&*other), 403, "AuthorizationFailed"),
    ] {
        let (answer, body) = get(&arm, "/subscriptions?api-version=2022-12-01", token);
        assert_eq!(answer.status().as_u16(), status, "{body}");
        assert_eq!(body["error"]["code"], code);
        assert_eq!(answer.headers().contains_key(WWW_AUTHENTICATE), status == 401);
    }
}

#[test]
fn pages_are_linked_until_the_last_one() {
    let arm = arm();
    let token = token(&arm, AUDIENCES[0], "user_impersonation");
    let (_, first) = get(&arm, "/subscriptions?api-version=2022-12-01", Some(&token));
    assert_eq!(first["value"].as_array().unwrap().len(), 2);
    let link = first["nextLink"].as_str().unwrap();
    assert!(link.starts_with("http://127.0.0.1:9012/subscriptions?"), "{link}");
    let (_, last) = get(&arm, link, Some(&token));
    assert_eq!(last["value"][0]["subscriptionId"], SUBSCRIPTIONS[2]);
    assert!(last.get("nextLink").is_none());
}

#[test]
fn an_operation_is_in_progress_and_then_done() {
    let arm = arm();
    let token = token(&arm, AUDIENCES[0], "user_impersonation");
    assert_eq!(get(&arm, RESOURCE, Some(&token)).0.status(), StatusCode::NOT_FOUND);
    let (answer, body) = send(&arm, Method::PUT, RESOURCE, Some(&token), "{}");
    assert_eq!(answer.status(), StatusCode::CREATED, "{body}");
    assert_eq!(body["properties"]["provisioningState"], "Creating");
    assert_eq!(body["name"], "One");
    let link = answer.headers()["azure-asyncoperation"].to_str().unwrap().to_owned();
    assert!(link.starts_with("http://127.0.0.1:9012/subscriptions/"), "{link}");

    let (answer, body) = get(&arm, &link, Some(&token));
    assert_eq!(body["status"], "InProgress");
    assert!(answer.headers().contains_key(RETRY_AFTER));
    assert_eq!(get(&arm, RESOURCE, Some(&token)).1["properties"]["provisioningState"], "Creating");
    let (answer, body) = get(&arm, &link, Some(&token));
    assert_eq!(body["status"], "Succeeded");
    assert_eq!(body["tokenFor"]["user"], "bob@dev.local");
    assert!(!answer.headers().contains_key(RETRY_AFTER));
    let lower = RESOURCE.to_ascii_lowercase();
    assert_eq!(get(&arm, &lower, Some(&token)).1["name"], "One");
    assert_eq!(get(&arm, RESOURCE, Some(&token)).1["properties"]["provisioningState"], "Succeeded");
}

#[test]
fn operations_do_not_pile_up() {
    let arm = arm();
    let token = token(&arm, AUDIENCES[0], "user_impersonation");
    let call_for = |_| send(&arm, Method::PUT, RESOURCE, Some(&token), "{}");
    for answer in (0..3).map(call_for) {
        assert_eq!(answer.0.status(), StatusCode::CREATED);
    }
    let one = arm.operations()[0].clone();
    arm.operations().resize(MAX_OPERATIONS, one);
    send(&arm, Method::PUT, RESOURCE, Some(&token), "{}");
    assert_eq!(arm.operations().len(), MAX_OPERATIONS);
}

#[test]
fn what_is_malformed_or_not_there_is_said() {
    let arm = arm();
    let token = token(&arm, AUDIENCES[0], "user_impersonation");
    let id = SUBSCRIPTIONS[0];
    for (method, target, body, status) in [
        (Method::GET, "/subscriptions".to_owned(), "", 400),
        (Method::GET, "/subscriptions?api-version=".to_owned(), "", 400),
        (Method::GET, "/subscriptions?api-version=a%22b".to_owned(), "", 400),
        (Method::GET, "/SUBSCRIPTIONS?api-version=1".to_owned(), "", 200),
        (Method::GET, "/subscriptions?api-version=1&$skiptoken=x".to_owned(), "", 400),
        (Method::GET, format!("/subscriptions/{id}?api-version=1"), "", 200),
        (Method::GET, "/subscriptions/x?api-version=1".to_owned(), "", 404),
        (Method::GET, "/tenants?api-version=1".to_owned(), "", 404),
        (Method::POST, "/subscriptions?api-version=1".to_owned(), "", 405),
        (Method::DELETE, RESOURCE.to_owned(), "", 405),
        (Method::PUT, RESOURCE.to_owned(), "", 400),
        (Method::PUT, RESOURCE.to_owned(), "[]", 400),
        (Method::PUT, RESOURCE.to_owned(), "{}", 201),
    ] {
        let (answer, said) = send(&arm, method.clone(), &target, Some(&token), body);
        assert_eq!(answer.status().as_u16(), status, "{method} {target}: {said}");
    }
}

#[test]
fn resource_groups_are_paged_and_deleted_step_by_step() {
    let arm = arm();
    let token = token(&arm, AUDIENCES[0], "user_impersonation");
    let groups = format!("/subscriptions/{}/resourcegroups", SUBSCRIPTIONS[0]);
    let version = "api-version=2025-04-01";
    let (_, first) = get(&arm, &format!("{groups}?{version}"), Some(&token));
    assert_eq!(first["value"].as_array().unwrap().len(), 2);
    let (_, second) = get(&arm, first["nextLink"].as_str().unwrap(), Some(&token));
    assert_eq!(second["value"][0]["name"], "dev-3");
    assert_eq!(second["nextLink"], Value::Null);

    let one = format!("{groups}/dev-1?{version}");
    let (answer, _) = send(&arm, Method::DELETE, &one, Some(&token), "");
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    let link = answer.headers()[LOCATION].to_str().unwrap().to_owned();
    assert!(link.starts_with(HERE), "{link}");
    for status in [StatusCode::ACCEPTED, StatusCode::OK] {
        assert_eq!(get(&arm, &link, Some(&token)).0.status(), status);
    }
    let (answer, _) = get(&arm, &format!("{groups}/other?{version}"), Some(&token));
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
}
