//! The stand-in for Azure Resource Manager: subscriptions with paging, and one long-running operation.
//!
//! A `PUT` of any resource (`/subscriptions/{id}/resourceGroups/{name}/providers/{namespace}/{type}/{name}`)
//! starts an operation that `Azure-AsyncOperation` points to: the first poll finds it in
//! progress, the second done. It refuses as ARM does, and says in each answer whom the token
//! was for. Every application is taken for a Reader and Contributor: roles are not played.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use http::header::{HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::dev::IdentityProvider;
use crate::dev::answer::{self, Answer, Asked, parameter, query, segments, with, wrong_method};
use crate::dev::authority::{Authority, Unfit, random_uuid};
use crate::dev::bearer::{Presented, Refused, present};
use crate::dev::directory::TENANT;
use crate::dev::serve::{Bound, DevServer};

/// The ids of the subscriptions there are.
pub const SUBSCRIPTIONS: [&str; 3] = [
    "70000000-0000-4000-8000-000000000001",
    "70000000-0000-4000-8000-000000000002",
    "70000000-0000-4000-8000-000000000003",
];
/// What ARM's tokens are for.
const AUDIENCES: [&str; 4] = [
    "https://management.azure.com",
    "https://management.azure.com/",
    "https://management.core.windows.net",
    "https://management.core.windows.net/",
];
/// Subscriptions on a page: few, so that there are two pages.
const PAGE: usize = 2;
/// Most operations remembered; the oldest is forgotten first.
const MAX_OPERATIONS: usize = 1000;

/// An Azure Resource Manager of one identity provider. Clones share its operations.
#[derive(Clone, Debug)]
pub struct ArmStandIn {
    authority: Arc<Authority>,
    operations: Arc<Mutex<VecDeque<Operation>>>,
}

/// A resource that is being made.
#[derive(Clone, Debug)]
struct Operation {
    id: String,
    resource: String,
    polls: u32,
}

/// A refusal in ARM's form.
struct ArmError {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl ArmStandIn {
    /// An ARM that takes the tokens of `provider`.
    pub fn new(provider: &IdentityProvider) -> Self {
        Self { authority: provider.authority(), operations: Arc::default() }
    }

    /// Serves on `bound` until the handle is dropped.
    pub fn serve(&self, bound: Bound) -> DevServer {
        let (arm, base_url) = (self.clone(), bound.base_url());
        bound.serve(move |asked| arm.answer(asked, &base_url))
    }

    fn answer(&self, asked: &Asked, base_url: &str) -> Answer {
        // ARM's paths are case-insensitive.
        let path = asked.uri().path().to_ascii_lowercase();
        let path = segments(&path);
        let allowed = match path.as_slice() {
            ["subscriptions", _, "resourcegroups", _, "providers", _, _, _] => "GET, HEAD, PUT",
            _ => "GET, HEAD",
        };
        if !allowed.split(", ").any(|method| method == asked.method().as_str()) {
            return wrong_method(asked.method(), allowed);
        }
        self.judged(asked, base_url, &path).unwrap_or_else(|error| self.refuse(&error))
    }

    fn judged(&self, asked: &Asked, base_url: &str, path: &[&str]) -> Result<Answer, ArmError> {
        let presented = self.caller(asked)?;
        let query = query(asked);
        let version = parameter(&query, "api-version").filter(|version| is_version(version));
        let version = version.ok_or_else(|| {
            let message = "The query needs an `api-version`, such as 2022-12-01.".to_owned();
            refusal(StatusCode::BAD_REQUEST, "MissingApiVersionParameter", message)
        })?;
        let call = Call { base_url, version, presented: &presented };
        match path {
            ["subscriptions"] => call.subscriptions(parameter(&query, "$skiptoken")),
            ["subscriptions", id] => {
                known(id)?;
                Ok(call.answer(StatusCode::OK, subscription(id)))
            }
            ["subscriptions", id, "providers", _, "locations", "dev", "operations", operation] => {
                known(id)?;
                self.poll(&call, operation)
            }
            ["subscriptions", id, "resourcegroups", _, "providers", _, _, _] => {
                known(id)?;
                if asked.method() == Method::PUT {
                    self.start(&call, asked, path)
                } else {
                    self.resource(&call, path)
                }
            }
            _ => Err(refusal(
                StatusCode::NOT_FOUND,
                "ResourceNotFound",
                "The stand-in for ARM knows /subscriptions and single resources in them."
                    .to_owned(),
            )),
        }
    }

    fn start(&self, call: &Call<'_>, asked: &Asked, path: &[&str]) -> Result<Answer, ArmError> {
        let body: Option<Value> = serde_json::from_slice(asked.body()).ok();
        if !body.is_some_and(|body| body.is_object()) {
            let message =
                "The body is not a JSON object, such as {\"location\": \"dev\"}.".to_owned();
            return Err(refusal(StatusCode::BAD_REQUEST, "InvalidRequestContent", message));
        }
        let [_, subscription, _, _, _, namespace, _, _] = path else {
            return Err(no_operation());
        };
        let id = random_uuid().to_string();
        let resource = format!("/{}", path.join("/"));
        let mut operations = self.operations();
        operations.push_back(Operation { id: id.clone(), resource: resource.clone(), polls: 0 });
        if operations.len() > MAX_OPERATIONS {
            operations.pop_front();
        }
        drop(operations);
        let link = format!(
            "{}/subscriptions/{subscription}/providers/{namespace}/locations/dev/operations/{id}?api-version={}",
            call.base_url, call.version
        );
        let body = described(&resource, "Creating");
        let answer = call.answer(StatusCode::CREATED, body);
        let answer = with(answer, HeaderName::from_static("azure-asyncoperation"), &link);
        Ok(with(answer, RETRY_AFTER, "1"))
    }

    fn poll(&self, call: &Call<'_>, id: &str) -> Result<Answer, ArmError> {
        let mut operations = self.operations();
        let found = operations.iter_mut().find(|operation| operation.id == id);
        let operation = found.ok_or_else(no_operation)?;
        operation.polls = operation.polls.saturating_add(1);
        let done = operation.is_done();
        drop(operations);
        let status = if done { "Succeeded" } else { "InProgress" };
        let body = json!({ "name": id, "status": status });
        let answer = call.answer(StatusCode::OK, body);
        Ok(if done { answer } else { with(answer, RETRY_AFTER, "1") })
    }

    fn resource(&self, call: &Call<'_>, path: &[&str]) -> Result<Answer, ArmError> {
        let resource = format!("/{}", path.join("/"));
        // The last one: a resource may have been put again.
        let found = self.operations().iter().rfind(|one| one.resource == resource).cloned();
        let operation = found.ok_or_else(|| {
            let message = "There is no such resource; PUT it first.".to_owned();
            refusal(StatusCode::NOT_FOUND, "ResourceNotFound", message)
        })?;
        let state = if operation.is_done() { "Succeeded" } else { "Creating" };
        Ok(call.answer(StatusCode::OK, described(&resource, state)))
    }

    fn operations(&self) -> std::sync::MutexGuard<'_, VecDeque<Operation>> {
        // Nothing that holds it can panic half way through a change.
        self.operations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Users need the scope; what an application may do is said by roles, which are not played.
    fn caller(&self, asked: &Asked) -> Result<Presented, ArmError> {
        let presented =
            present(&self.authority, asked.headers(), &AUDIENCES).map_err(unauthorized)?;
        if presented.is_app() || presented.has_scope("user_impersonation") {
            return Ok(presented);
        }
        let message = "The access token lacks the scope `user_impersonation`.".to_owned();
        Err(refusal(StatusCode::FORBIDDEN, "AuthorizationFailed", message))
    }

    fn refuse(&self, error: &ArmError) -> Answer {
        let body = json!({ "error": { "code": error.code, "message": error.message } });
        let answer = answer::json(error.status, &body);
        if error.status != StatusCode::UNAUTHORIZED {
            return answer;
        }
        let challenge = format!(
            "Bearer authorization_uri=\"{}/{TENANT}\", error=\"invalid_token\", \
             error_description=\"{}\"",
            self.authority.base_url(),
            error.message.replace(['"', '\\'], "'")
        );
        with(answer, WWW_AUTHENTICATE, &challenge)
    }
}

impl Operation {
    fn is_done(&self) -> bool {
        self.polls >= 2
    }
}

/// What an answer to one request needs to know of it.
struct Call<'a> {
    base_url: &'a str,
    version: &'a str,
    presented: &'a Presented,
}

impl Call<'_> {
    /// An answer that says whom the token was for.
    fn answer(&self, status: StatusCode, mut body: Value) -> Answer {
        if let Some(body) = body.as_object_mut() {
            body.insert("tokenFor".to_owned(), self.presented.token_for());
        }
        answer::json(status, &body)
    }

    fn subscriptions(&self, skip_token: Option<&str>) -> Result<Answer, ArmError> {
        let skip =
            skip_token.map_or(Some(0), |text| text.parse::<usize>().ok()).ok_or_else(|| {
                let message = "The `$skiptoken` is not one of ours.".to_owned();
                refusal(StatusCode::BAD_REQUEST, "InvalidSkipToken", message)
            })?;
        let page: Vec<Value> =
            SUBSCRIPTIONS.into_iter().skip(skip).take(PAGE).map(subscription).collect();
        let next = skip.saturating_add(PAGE);
        let mut body =
            json!({ "value": page, "count": { "type": "Total", "value": SUBSCRIPTIONS.len() } });
        if let Some(body) = body.as_object_mut().filter(|_| next < SUBSCRIPTIONS.len()) {
            let Self { base_url, version, .. } = self;
            let link =
                format!("{base_url}/subscriptions?api-version={version}&%24skiptoken={next}");
            body.insert("nextLink".to_owned(), link.into());
        }
        Ok(self.answer(StatusCode::OK, body))
    }
}

fn unauthorized(refused: Refused) -> ArmError {
    let (code, message) = match refused {
        Refused::Missing => ("AuthenticationFailed", "There is no access token.".to_owned()),
        Refused::Unreadable => {
            ("InvalidAuthenticationToken", "The access token can't be read.".to_owned())
        }
        Refused::Unfit(Unfit::Expired) => {
            ("ExpiredAuthenticationToken", "The access token has expired.".to_owned())
        }
        Refused::Unfit(Unfit::Malformed | Unfit::Signature | Unfit::NotYetValid) => {
            ("InvalidAuthenticationToken", "The access token is not valid.".to_owned())
        }
        Refused::Unfit(Unfit::Issuer) => (
            "InvalidAuthenticationTokenTenant",
            "The access token is of another issuer.".to_owned(),
        ),
        Refused::Audience(audience) => (
            "InvalidAuthenticationTokenAudience",
            format!("The access token is for `{}`, not for ARM.", answer::shown(&audience)),
        ),
    };
    refusal(StatusCode::UNAUTHORIZED, code, message)
}

fn subscription(id: &str) -> Value {
    json!({
        "id": format!("/subscriptions/{id}"),
        "subscriptionId": id,
        "tenantId": TENANT,
        "displayName": format!("Development {}", id.chars().next_back().unwrap_or_default()),
        "state": "Enabled",
    })
}

fn described(resource: &str, state: &str) -> Value {
    json!({
        "id": resource,
        "name": resource.rsplit('/').next().unwrap_or_default(),
        "properties": { "provisioningState": state },
    })
}

fn known(subscription: &str) -> Result<(), ArmError> {
    if SUBSCRIPTIONS.contains(&subscription) {
        return Ok(());
    }
    let message = format!("There is no subscription `{}`.", answer::shown(subscription));
    Err(refusal(StatusCode::NOT_FOUND, "SubscriptionNotFound", message))
}

fn no_operation() -> ArmError {
    let message = "There is no such operation.".to_owned();
    refusal(StatusCode::NOT_FOUND, "ResourceNotFound", message)
}

/// A date, maybe with `-preview` behind it. It goes into links, so nothing else will do.
fn is_version(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 40
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.')
}

fn refusal(status: StatusCode, code: &'static str, message: String) -> ArmError {
    ArmError { status, code, message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::authority::Delegated;
    use crate::dev::authority::tests::{BASE, Frozen};
    use crate::dev::directory::{DAEMON, GATEWAY, user};
    use bytes::Bytes;
    use http::Request;
    use http::header::AUTHORIZATION;

    const HERE: &str = "http://127.0.0.1:9012";
    const RESOURCE: &str = "/subscriptions/70000000-0000-4000-8000-000000000001/resourceGroups/demo\
        /providers/Microsoft.Storage/storageAccounts/one?api-version=2023-01-01";

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
        let link = answer.headers()["azure-asyncoperation"].to_str().unwrap().to_owned();
        assert!(link.starts_with("http://127.0.0.1:9012/subscriptions/"), "{link}");

        let (answer, body) = get(&arm, &link, Some(&token));
        assert_eq!(body["status"], "InProgress");
        assert!(answer.headers().contains_key(RETRY_AFTER));
        assert_eq!(
            get(&arm, RESOURCE, Some(&token)).1["properties"]["provisioningState"],
            "Creating"
        );
        let (answer, body) = get(&arm, &link, Some(&token));
        assert_eq!(body["status"], "Succeeded");
        assert_eq!(body["tokenFor"]["user"], "bob@dev.local");
        assert!(!answer.headers().contains_key(RETRY_AFTER));
        assert_eq!(
            get(&arm, RESOURCE, Some(&token)).1["properties"]["provisioningState"],
            "Succeeded"
        );
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
}
