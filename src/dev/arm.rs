//! The stand-in for Azure Resource Manager: subscriptions and resource groups with paging, and two
//! long-running operations.
//!
//! A `PUT` of any resource (`/subscriptions/{id}/resourceGroups/{name}/providers/{namespace}/{type}/{name}`)
//! starts an operation that `Azure-AsyncOperation` points to: the first poll finds it in
//! progress, the second done. A `DELETE` of a resource group starts one that `Location` points to,
//! and nothing is deleted. It refuses as ARM does, and says in each answer whom the token
//! was for. Every application is taken for a Reader and Contributor: roles are not played.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use http::header::{HeaderName, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
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
/// The resource groups of each subscription.
const RESOURCE_GROUPS: [&str; 3] = ["dev-1", "dev-2", "dev-3"];
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

    pub(super) fn answer(&self, asked: &Asked, base_url: &str) -> Answer {
        // ARM's paths are case-insensitive; what a resource was called when it was put is kept.
        let path = asked.uri().path().to_ascii_lowercase();
        let path = segments(&path);
        let allowed = match path.as_slice() {
            ["subscriptions", _, "resourcegroups", _, "providers", _, _, _] => "GET, HEAD, PUT",
            ["subscriptions", _, "resourcegroups", _] => "GET, HEAD, DELETE",
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
            ["subscriptions"] => {
                let all = SUBSCRIPTIONS.map(subscription);
                call.page("/subscriptions", &all, parameter(&query, "$skiptoken"))
            }
            ["subscriptions", id, "resourcegroups"] => {
                known(id)?;
                let all = RESOURCE_GROUPS.map(|name| resource_group(id, name));
                let path = format!("/subscriptions/{id}/resourcegroups");
                call.page(&path, &all, parameter(&query, "$skiptoken"))
            }
            ["subscriptions", id, "resourcegroups", name] => {
                known(id)?;
                let name = RESOURCE_GROUPS.into_iter().find(|known| known == name);
                let name = name.ok_or_else(no_resource_group)?;
                if asked.method() == Method::DELETE {
                    return Ok(self.start_deleting(&call, id, name));
                }
                Ok(call.answer(StatusCode::OK, resource_group(id, name)))
            }
            ["subscriptions", id, "operationresults", operation] => {
                known(id)?;
                self.poll_result(&call, id, operation)
            }
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
                "The stand-in for ARM knows /subscriptions, their resource groups and single resources."
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
        let resource = format!("/{}", segments(asked.uri().path()).join("/"));
        let id = self.remember(&resource);
        let link = format!(
            "{}/subscriptions/{subscription}/providers/{namespace}/locations/dev/operations/{id}?api-version={}",
            call.base_url, call.version
        );
        let body = described(&resource, "Creating");
        let answer = call.answer(StatusCode::CREATED, body);
        let answer = with(answer, HeaderName::from_static("azure-asyncoperation"), &link);
        Ok(with(answer, RETRY_AFTER, "1"))
    }

    fn start_deleting(&self, call: &Call<'_>, subscription: &str, name: &str) -> Answer {
        let id = self.remember(&format!("/subscriptions/{subscription}/resourcegroups/{name}"));
        call.go_on(subscription, &id)
    }

    fn poll_result(&self, call: &Call<'_>, of: &str, id: &str) -> Result<Answer, ArmError> {
        let done = self.is_done(id)?;
        Ok(if done { call.answer(StatusCode::OK, json!({})) } else { call.go_on(of, id) })
    }

    /// The id of a new operation on this resource.
    fn remember(&self, resource: &str) -> String {
        let id = random_uuid().to_string();
        let operation = Operation { id: id.clone(), resource: resource.to_owned(), polls: 0 };
        let mut operations = self.operations();
        operations.push_back(operation);
        if operations.len() > MAX_OPERATIONS {
            operations.pop_front();
        }
        id
    }

    /// Whether an operation that is asked about once more is done.
    fn is_done(&self, id: &str) -> Result<bool, ArmError> {
        let mut operations = self.operations();
        let found = operations.iter_mut().find(|operation| operation.id == id);
        let operation = found.ok_or_else(no_operation)?;
        operation.polls = operation.polls.saturating_add(1);
        Ok(operation.is_done())
    }

    fn poll(&self, call: &Call<'_>, id: &str) -> Result<Answer, ArmError> {
        let done = self.is_done(id)?;
        let status = if done { "Succeeded" } else { "InProgress" };
        let body = json!({ "name": id, "status": status });
        let answer = call.answer(StatusCode::OK, body);
        Ok(if done { answer } else { with(answer, RETRY_AFTER, "1") })
    }

    fn resource(&self, call: &Call<'_>, path: &[&str]) -> Result<Answer, ArmError> {
        let resource = format!("/{}", path.join("/"));
        // The last one: a resource may have been put again.
        let found = self
            .operations()
            .iter()
            .rfind(|one| one.resource.eq_ignore_ascii_case(&resource))
            .cloned();
        let operation = found.ok_or_else(|| {
            let message = "There is no such resource; PUT it first.".to_owned();
            refusal(StatusCode::NOT_FOUND, "ResourceNotFound", message)
        })?;
        let state = if operation.is_done() { "Succeeded" } else { "Creating" };
        Ok(call.answer(StatusCode::OK, described(&operation.resource, state)))
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

    /// 202, and where to ask again.
    fn go_on(&self, subscription: &str, operation: &str) -> Answer {
        let Self { base_url, version, .. } = self;
        let link = format!(
            "{base_url}/subscriptions/{subscription}/operationresults/{operation}?api-version={version}"
        );
        let answer = self.answer(StatusCode::ACCEPTED, json!({}));
        with(with(answer, LOCATION, &link), RETRY_AFTER, "1")
    }

    fn page(
        &self,
        path: &str,
        all: &[Value],
        skip_token: Option<&str>,
    ) -> Result<Answer, ArmError> {
        let skip =
            skip_token.map_or(Some(0), |text| text.parse::<usize>().ok()).ok_or_else(|| {
                let message = "The `$skiptoken` is not one of ours.".to_owned();
                refusal(StatusCode::BAD_REQUEST, "InvalidSkipToken", message)
            })?;
        let page: Vec<&Value> = all.iter().skip(skip).take(PAGE).collect();
        let next = skip.saturating_add(PAGE);
        let mut body = json!({ "value": page, "count": { "type": "Total", "value": all.len() } });
        if let Some(body) = body.as_object_mut().filter(|_| next < all.len()) {
            let Self { base_url, version, .. } = self;
            let link = format!("{base_url}{path}?api-version={version}&%24skiptoken={next}");
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

fn resource_group(subscription: &str, name: &str) -> Value {
    json!({
        "id": format!("/subscriptions/{subscription}/resourceGroups/{name}"),
        "name": name,
        "type": "Microsoft.Resources/resourceGroups",
        "location": "dev",
        "properties": { "provisioningState": "Succeeded" },
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

fn no_resource_group() -> ArmError {
    let message = format!("The resource groups are {}.", RESOURCE_GROUPS.join(", "));
    refusal(StatusCode::NOT_FOUND, "ResourceGroupNotFound", message)
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
mod tests;
