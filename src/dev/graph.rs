//! The stand-in for Microsoft Graph: `/v1.0/me` and `/v1.0/me/messages`, with paging.
//!
//! It refuses as Graph does, and says in each answer whom the token was for.

use std::sync::Arc;

use http::header::WWW_AUTHENTICATE;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::dev::IdentityProvider;
use crate::dev::answer;
use crate::dev::answer::{Answer, Asked, parameter, query, segments, with, wrong_method};
use crate::dev::authority::{Authority, Unfit, random_uuid};
use crate::dev::bearer::{Presented, Refused, present};
use crate::dev::directory::User;
use crate::dev::serve::{Bound, DevServer};
use crate::dev::timestamp;

/// What Graph's tokens are for: its URL, or its application id.
const AUDIENCES: [&str; 3] = [
    "https://graph.microsoft.com",
    "https://graph.microsoft.com/",
    "00000003-0000-0000-c000-000000000000",
];
/// How many messages each mailbox holds.
const MESSAGES: usize = 25;
/// Messages on a page where `$top` does not say (Graph's own default).
const DEFAULT_TOP: usize = 10;
/// Largest `$top` (Graph's own limit).
const MAX_TOP: usize = 1000;

/// A Microsoft Graph of one identity provider.
#[derive(Clone, Debug)]
pub struct GraphStandIn {
    authority: Arc<Authority>,
}

/// A refusal in Graph's form.
struct GraphError {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl GraphStandIn {
    /// A Graph that takes the tokens of `provider`.
    pub fn new(provider: &IdentityProvider) -> Self {
        Self { authority: provider.authority() }
    }

    /// Serves on `bound` until the handle is dropped.
    pub fn serve(&self, bound: Bound) -> DevServer {
        let (graph, base_url) = (self.clone(), bound.base_url());
        bound.serve(move |asked| graph.answer(asked, &base_url))
    }

    pub(super) fn answer(&self, asked: &Asked, base_url: &str) -> Answer {
        let path = segments(asked.uri().path());
        let outcome = match path.as_slice() {
            ["v1.0", "me"] | ["v1.0", "me", "messages"] if !is_read(asked.method()) => {
                return wrong_method(asked.method(), "GET, HEAD");
            }
            ["v1.0", "me"] => self.me(asked, base_url),
            ["v1.0", "me", "messages"] => self.messages(asked, base_url),
            _ => self.nothing(asked),
        };
        outcome.map_or_else(|error| self.refuse(&error), |body| answer::json(StatusCode::OK, &body))
    }

    fn me(&self, asked: &Asked, base_url: &str) -> Result<Value, GraphError> {
        let presented = self.caller(asked)?;
        let user = user(&presented)?;
        if !presented.has_scope("User.Read") {
            return Err(denied("Authorization_RequestDenied", "User.Read"));
        }
        Ok(json!({
            "@odata.context": format!("{base_url}/v1.0/$metadata#users/$entity"),
            "id": user.oid,
            "displayName": user.name,
            "userPrincipalName": user.upn(),
            "mail": user.upn(),
            "tokenFor": presented.token_for(),
        }))
    }

    fn messages(&self, asked: &Asked, base_url: &str) -> Result<Value, GraphError> {
        let presented = self.caller(asked)?;
        let user = user(&presented)?;
        if !presented.has_scope("Mail.Read") {
            return Err(denied("ErrorAccessDenied", "Mail.Read"));
        }
        let query = query(asked);
        let top = number(&query, "$top")?.unwrap_or(DEFAULT_TOP);
        let skip = number(&query, "$skip")?.unwrap_or(0);
        if !(1..=MAX_TOP).contains(&top) {
            return Err(bad_request(format!("`$top` must be between 1 and {MAX_TOP}.")));
        }
        let page: Vec<Value> =
            (1..=MESSAGES).skip(skip).take(top).map(|number| message(user, number)).collect();
        let next = skip.saturating_add(top);
        let mut body = json!({
            "@odata.context": format!("{base_url}/v1.0/$metadata#users('me')/messages"),
            "value": page,
            "tokenFor": presented.token_for(),
        });
        if let Some(body) = body.as_object_mut().filter(|_| next < MESSAGES) {
            let link = format!("{base_url}/v1.0/me/messages?%24top={top}&%24skip={next}");
            body.insert("@odata.nextLink".to_owned(), link.into());
        }
        Ok(body)
    }

    /// Graph asks who it is before it says that there is nothing.
    fn nothing(&self, asked: &Asked) -> Result<Value, GraphError> {
        self.caller(asked)?;
        let message = "The stand-in for Graph knows /v1.0/me and /v1.0/me/messages.".to_owned();
        Err(GraphError { status: StatusCode::NOT_FOUND, code: "ResourceNotFound", message })
    }

    fn caller(&self, asked: &Asked) -> Result<Presented, GraphError> {
        present(&self.authority, asked.headers(), &AUDIENCES).map_err(|refused| {
            let message = match refused {
                Refused::Missing => "There is no access token.".to_owned(),
                Refused::Unreadable => "The access token can't be read.".to_owned(),
                Refused::Unfit(Unfit::Malformed) => "The access token is not a JWT.".to_owned(),
                Refused::Unfit(Unfit::Signature | Unfit::Issuer) => {
                    "The access token was not issued by the identity provider that is trusted here."
                        .to_owned()
                }
                Refused::Unfit(Unfit::Expired) => "The access token has expired.".to_owned(),
                Refused::Unfit(Unfit::NotYetValid) => {
                    "The access token is not valid yet.".to_owned()
                }
                Refused::Audience(audience) => {
                    format!(
                        "The access token is for `{}`, not for Graph.",
                        answer::shown(&audience)
                    )
                }
            };
            GraphError {
                status: StatusCode::UNAUTHORIZED,
                code: "InvalidAuthenticationToken",
                message,
            }
        })
    }

    fn refuse(&self, error: &GraphError) -> Answer {
        let request_id = random_uuid().to_string();
        let body = json!({ "error": {
            "code": error.code,
            "message": error.message,
            "innerError": {
                "date": timestamp::rfc3339(self.authority.now()),
                "request-id": request_id,
                "client-request-id": request_id,
            },
        } });
        let answer = answer::json(error.status, &body);
        if error.status != StatusCode::UNAUTHORIZED {
            return answer;
        }
        let challenge = format!(
            "Bearer realm=\"\", authorization_uri=\"{}/common/oauth2/authorize\", \
             client_id=\"00000003-0000-0000-c000-000000000000\"",
            self.authority.base_url()
        );
        with(answer, WWW_AUTHENTICATE, &challenge)
    }
}

/// The user whom `me` means; an application by itself has none.
fn user(presented: &Presented) -> Result<&'static User, GraphError> {
    presented.user().ok_or_else(|| {
        bad_request("`/me` needs a user; an application acts by itself here.".to_owned())
    })
}

fn message(user: &User, number: usize) -> Value {
    json!({
        "id": format!("{}-{number}", user.alias),
        "subject": format!("Message {number} of {MESSAGES} to {}", user.name),
        "isRead": number.is_multiple_of(2),
    })
}

fn number(query: &[(String, String)], name: &str) -> Result<Option<usize>, GraphError> {
    let Some(text) = parameter(query, name) else { return Ok(None) };
    let number = text.parse().ok();
    number.map(Some).ok_or_else(|| bad_request(format!("`{name}` is not a number.")))
}

fn bad_request(message: String) -> GraphError {
    GraphError { status: StatusCode::BAD_REQUEST, code: "BadRequest", message }
}

fn denied(code: &'static str, scope: &str) -> GraphError {
    let message = format!("The access token lacks the scope `{scope}`.");
    GraphError { status: StatusCode::FORBIDDEN, code, message }
}

fn is_read(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
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

    const HERE: &str = "http://127.0.0.1:9011";

    fn graph() -> GraphStandIn {
        let provider = IdentityProvider::new(BASE.to_owned(), Arc::new(Frozen)).unwrap();
        GraphStandIn::new(&provider)
    }

    fn token(graph: &GraphStandIn, audience: &str, scopes: &[&str]) -> String {
        let scopes: Vec<String> = scopes.iter().map(|&scope| scope.into()).collect();
        let user = user("alice").unwrap();
        let of = Delegated { user, client: &GATEWAY, audience, scopes: &scopes };
        graph.authority.sign(&graph.authority.delegated(of, graph.authority.usual())).unwrap()
    }

    fn ask(graph: &GraphStandIn, target: &str, token: Option<&str>) -> (Answer, Value) {
        let mut request = Request::get(target.strip_prefix(HERE).unwrap_or(target));
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let answer = graph.answer(&request.body(Bytes::new()).unwrap(), HERE);
        let body = serde_json::from_slice(answer.body()).unwrap();
        (answer, body)
    }

    #[test]
    fn a_token_for_graph_with_the_scope_is_taken() {
        let graph = graph();
        for audience in AUDIENCES {
            let token = token(&graph, audience, &["User.Read"]);
            let (answer, body) = ask(&graph, "/v1.0/me", Some(&token));
            assert_eq!(answer.status(), StatusCode::OK, "{body}");
            assert_eq!(body["userPrincipalName"], "alice@dev.local");
            assert_eq!(body["tokenFor"]["audience"], audience);
            assert_eq!(body["tokenFor"]["scopes"], json!(["User.Read"]));
            assert!(!body.to_string().contains(&token));
        }
    }

    #[test]
    fn another_audience_and_no_token_are_401() {
        let graph = graph();
        let arm = token(&graph, "https://management.azure.com", &["User.Read"]);
        for (target, token) in [
            ("/v1.0/me", None),
            ("/v1.0/me", Some("x")),
            ("/v1.0/me", Some(&*arm)),
            ("/v1.0/me/messages", Some(&*arm)),
            ("/v1.0/users", Some(&*arm)),
        ] {
            let (answer, body) = ask(&graph, target, token);
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{target}");
            assert_eq!(body["error"]["code"], "InvalidAuthenticationToken");
            let challenge = answer.headers()[WWW_AUTHENTICATE].to_str().unwrap();
            assert!(challenge.starts_with("Bearer "), "{challenge}");
        }
    }

    #[test]
    fn a_missing_scope_is_403() {
        let graph = graph();
        let neither = token(&graph, AUDIENCES[0], &["Files.Read"]);
        for (target, scope) in [("/v1.0/me", "User.Read"), ("/v1.0/me/messages", "Mail.Read")] {
            let allowed = token(&graph, AUDIENCES[0], &[scope]);
            assert_eq!(ask(&graph, target, Some(&allowed)).0.status(), StatusCode::OK);
            let (answer, body) = ask(&graph, target, Some(&neither));
            assert_eq!(answer.status(), StatusCode::FORBIDDEN);
            assert!(body["error"]["message"].as_str().unwrap().contains(scope), "{body}");
        }
    }

    #[test]
    fn an_application_has_no_me() {
        let graph = graph();
        let authority = &graph.authority;
        let claims = authority.app_only(&DAEMON, AUDIENCES[0], &[], authority.usual());
        let token = authority.sign(&claims).unwrap();
        assert_eq!(ask(&graph, "/v1.0/me", Some(&token)).0.status(), StatusCode::BAD_REQUEST);
    }

    #[test]
    fn pages_are_linked_until_the_last_one() {
        let graph = graph();
        let token = token(&graph, AUDIENCES[0], &["Mail.Read"]);
        let mut link = Some("/v1.0/me/messages".to_owned());
        let mut sizes = Vec::new();
        while let Some(target) = link {
            let (_, body) = ask(&graph, &target, Some(&token));
            sizes.push(body["value"].as_array().unwrap().len());
            link = body["@odata.nextLink"].as_str().map(str::to_owned);
            assert!(link.iter().all(|link| link.starts_with("http://127.0.0.1:9011/v1.0/")));
        }
        assert_eq!(sizes, [10, 10, 5]);
        for (query, status) in [
            ("$top=25", 200),
            ("$top=1000", 200),
            ("$top=1001", 400),
            ("$top=0", 400),
            ("$top=x", 400),
            ("$skip=18446744073709551615", 200),
            ("$skip=-1", 400),
        ] {
            let (answer, _) = ask(&graph, &format!("/v1.0/me/messages?{query}"), Some(&token));
            assert_eq!(answer.status().as_u16(), status, "{query}");
        }
    }

    #[test]
    fn what_is_not_there_is_404_and_what_is_not_read_405() {
        let graph = graph();
        let token = token(&graph, AUDIENCES[0], &["User.Read"]);
        assert_eq!(ask(&graph, "/v1.0/users", Some(&token)).0.status(), StatusCode::NOT_FOUND);
        let request = Request::delete("/v1.0/me").body(Bytes::new()).unwrap();
        assert_eq!(graph.answer(&request, HERE).status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
