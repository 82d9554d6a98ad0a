//! The hosts that give tokens of managed identities, on real sockets: IMDS, and the endpoint of
//! App Service. (Azure Arc's agent, whose keys are in a fixed folder, is played in the unit tests.)
//!
//! Each takes exactly the request that its documents describe; what else comes is refused, and
//! raised when the host is dropped. Tokens are opaque and each is new, so that a test can ask
//! what it was issued for.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use http::HeaderMap;
use http::request::Parts;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::gate::Gate;
use super::obo::Answer;
use super::provider::whole;
use super::registry;
use super::servers::{Handled, Server};

/// What a host was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub resource: String,
    pub client_id: Option<String>,
}

impl Asked {
    /// The system-assigned identity was asked for `resource`.
    pub fn system(resource: &str) -> Self {
        Self { resource: resource.to_owned(), client_id: None }
    }

    /// The user-assigned identity `client_id` was.
    pub fn user(resource: &str, client_id: &str) -> Self {
        Self { resource: resource.to_owned(), client_id: Some(client_id.to_owned()) }
    }
}

/// The host; see the module.
pub struct MetadataHost {
    server: Server,
    shared: Arc<Shared>,
}

struct Shared {
    /// `IDENTITY_HEADER` of App Service; IMDS has none.
    header: Option<String>,
    asked: Mutex<Vec<Asked>>,
    issued: Mutex<HashMap<String, Asked>>,
    scripted: Mutex<VecDeque<Answer>>,
    held: Mutex<Option<Gate>>,
    life: Mutex<Value>,
    violations: Mutex<Vec<String>>,
}

impl MetadataHost {
    /// IMDS.
    pub fn imds() -> Self {
        Self::start(None)
    }

    /// The endpoint of App Service.
    pub fn app_service() -> Self {
        let header = format!("identity-header-{:032x}", fastrand::u128(..));
        registry::secret(&header);
        Self::start(Some(header))
    }

    fn start(header: Option<String>) -> Self {
        let shared = Arc::new(Shared {
            header,
            asked: Mutex::default(),
            issued: Mutex::default(),
            scripted: Mutex::default(),
            held: Mutex::default(),
            life: Mutex::new(json!({ "expires_in": "3599" })),
            violations: Mutex::default(),
        });
        let handling = Arc::clone(&shared);
        let server = Server::http(Arc::new(move |request, _line| -> Handled {
            let shared = Arc::clone(&handling);
            Box::pin(async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                let asked = shared.judge(&head, &body);
                let gate = shared.held.lock().unwrap().clone();
                if let Some(gate) = gate {
                    gate.pass().await;
                }
                Ok(whole(shared.answer(asked)))
            })
        }));
        Self { server, shared }
    }

    /// The variables that the platform sets.
    pub fn variables(&self) -> Vec<(String, String)> {
        let base = format!("http://{}", self.server.address());
        let own = |name: &str, value: String| (name.to_owned(), value);
        match &self.shared.header {
            Some(header) => vec![
                own("IDENTITY_ENDPOINT", format!("{base}/msi/token")),
                own("IDENTITY_HEADER", header.clone()),
            ],
            None => vec![own("AZURE_POD_IDENTITY_AUTHORITY_HOST", base)],
        }
    }

    /// The next call gets this answer.
    pub fn script(&self, answer: Answer) {
        self.shared.scripted.lock().unwrap().push_back(answer);
    }

    /// Calls wait here from now on.
    pub fn hold(&self, gate: &Gate) {
        *self.shared.held.lock().unwrap() = Some(gate.clone());
    }

    /// What tells the life of tokens from now on: an object of `expires_in` and the like.
    pub fn set_life(&self, members: Value) {
        *self.shared.life.lock().unwrap() = members;
    }

    /// What was asked for, in order, answered well or not.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// What a token was issued for.
    pub fn issued(&self, token: &str) -> Option<Asked> {
        self.shared.issued.lock().unwrap().get(token).cloned()
    }

    /// Goes away: connections are refused.
    pub async fn stop(&self) {
        self.server.stop().await;
    }
}

impl Drop for MetadataHost {
    fn drop(&mut self) {
        let violations = self.shared.violations.lock().unwrap();
        if !std::thread::panicking() {
            assert!(violations.is_empty(), "the host of managed identities saw: {violations:#?}");
        }
    }
}

impl Shared {
    /// What is asked for, if it is asked as it must be.
    fn judge(&self, head: &Parts, body: &[u8]) -> Option<Asked> {
        let wrong = self.violations_of(head, body);
        let query = head.uri.query().unwrap_or_default();
        let mut resources = Vec::new();
        let mut client_ids = Vec::new();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "resource" => resources.push(value.into_owned()),
                "client_id" => client_ids.push(value.into_owned()),
                _ => {}
            }
        }
        self.violations.lock().unwrap().extend(wrong.iter().cloned());
        let asked = Asked { resource: resources.pop()?, client_id: client_ids.pop() };
        self.asked.lock().unwrap().push(asked.clone());
        wrong.is_empty().then_some(asked)
    }

    fn violations_of(&self, head: &Parts, body: &[u8]) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut hold = |holds: bool, what: String| {
            if !holds {
                wrong.push(what);
            }
        };
        let is_imds = self.header.is_none();
        let path = if is_imds { "/metadata/identity/oauth2/token" } else { "/msi/token" };
        let version = if is_imds { "2018-02-01" } else { "2019-08-01" };
        hold(head.method == http::Method::GET, format!("a {}", head.method));
        hold(head.uri.path() == path, format!("a call of {}", head.uri.path()));
        hold(body.is_empty(), "a body".to_owned());

        let query = head.uri.query().unwrap_or_default();
        let query: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).collect();
        let count = |name: &str| query.iter().filter(|(other, _)| other == name).count();
        let versions: Vec<_> = query.iter().filter(|(name, _)| name == "api-version").collect();
        hold(versions.len() == 1 && versions[0].1 == version, format!("versions {versions:?}"));
        hold(count("resource") == 1, "not one resource".to_owned());
        hold(count("client_id") <= 1, "several identities".to_owned());
        hold(
            query.len() == count("api-version") + count("resource") + count("client_id"),
            format!("the query {query:?}"),
        );
        hold(
            !query.iter().any(|(_, value)| value.ends_with("/.default")),
            "a scope in place of a resource".to_owned(),
        );

        let values = |name: &str| values(&head.headers, name);
        let expected = |holds: bool, value: &str| -> Vec<String> {
            if holds { vec![value.to_owned()] } else { Vec::new() }
        };
        let metadata = values("metadata");
        hold(metadata == expected(is_imds, "true"), format!("metadata: {metadata:?}"));
        let secret = self.header.as_deref();
        let shown = values("x-identity-header");
        hold(
            shown == expected(secret.is_some(), secret.unwrap_or_default()),
            format!("{} times x-identity-header, or not the one", shown.len()),
        );
        for name in ["x-forwarded-for", "forwarded", "via", "authorization", "cookie", "referer"] {
            hold(!head.headers.contains_key(name), format!("a header {name}"));
        }
        wrong
    }

    fn answer(&self, asked: Option<Asked>) -> Answer {
        let refused = json!({ "error": "invalid_request", "error_description": "as scripted" });
        let Some(asked) = asked else { return Answer::json(400, &refused) };
        if let Some(answer) = self.scripted.lock().unwrap().pop_front() {
            return answer;
        }
        let token = format!("managed-identity-{:032x}", fastrand::u128(..));
        registry::outbound(&token);
        let mut body = json!({
            "access_token": token,
            "token_type": "Bearer",
            "resource": asked.resource,
            "client_id": asked.client_id,
        });
        let members = self.life.lock().unwrap().as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(members);
        self.issued.lock().unwrap().insert(token, asked);
        Answer::json(200, &body)
    }
}

fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
}
