//! A scriptable identity provider on a real socket: discovery, keys and tokens, for an
//! Entra-like tenant and for a generic OIDC issuer at once.
//!
//! Without a script it does what a good provider does; [`super::obo`] is its token endpoint.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::client_auth::Proof;
use super::gate::Gate;
use super::grants::Desk;
use super::keys::{self, Key};
use super::obo::{Answer, Form, Issued, Obo};
use super::servers::{Handled, Line, PeerBody, PeerError, Server};
use super::token::{DOMAIN, TENANT};

/// What a call was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// The discovery document.
    Discovery,
    /// The key set.
    Keys,
    /// The token endpoint.
    Token,
    /// Nothing that a provider has.
    Elsewhere,
}

/// What a call comes to.
#[derive(Clone, Debug)]
pub enum Reply {
    /// What the endpoint does by itself.
    Usual,
    /// This answer.
    Answer(Answer),
    /// The other reply, once the gate is open.
    Held(Gate, Box<Reply>),
    /// Nothing, ever.
    Hang,
    /// A reset connection, after the request was read.
    Reset,
    /// A closed connection, after the request was read.
    Close,
    /// The answer's body byte by byte, with a pause before each.
    Drip(Answer, Duration),
    /// The head and half of the answer's body, then a closed connection.
    Cut(Answer),
}

impl Reply {
    /// A JSON answer.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::Answer(Answer::json(status, body))
    }
}

/// The provider; see the module.
pub struct Provider {
    server: Server,
    shared: Arc<Shared>,
}

struct Shared {
    base: Mutex<String>,
    keys: Mutex<String>,
    scripted: Mutex<HashMap<Endpoint, VecDeque<Reply>>>,
    standing: Mutex<HashMap<Endpoint, Reply>>,
    calls: watch::Sender<HashMap<Endpoint, usize>>,
    obo: Obo,
}

impl Provider {
    /// Starts one that publishes [`keys::rsa`] as Entra does.
    pub fn start() -> Self {
        let shared = Arc::new(Shared {
            base: Mutex::default(),
            keys: Mutex::default(),
            scripted: Mutex::default(),
            standing: Mutex::default(),
            calls: watch::Sender::new(HashMap::new()),
            obo: Obo::new(),
        });
        let handling = Arc::clone(&shared);
        let server = Server::http(Arc::new(move |request, line| -> Handled {
            Box::pin(handle(Arc::clone(&handling), request, line))
        }));
        *shared.base.lock().unwrap() = format!("http://{}", server.address());
        let provider = Self { server, shared };
        provider.publish(&[keys::rsa()]);
        provider
    }

    /// `http://127.0.0.1:PORT`: the `authority` of an Entra provider.
    pub fn base(&self) -> String {
        self.shared.base()
    }

    /// The issuer of v2 tokens of [`TENANT`].
    pub fn entra_issuer(&self) -> String {
        self.shared.entra_issuer(TENANT)
    }

    /// The issuer of the generic OIDC side.
    pub fn oidc_issuer(&self) -> String {
        self.shared.oidc_issuer()
    }

    /// Publishes `keys`, each with the issuer that Entra gives its keys.
    pub fn publish(&self, keys: &[Key]) {
        let keys: Vec<_> = keys.iter().map(|key| self.entra_jwk(key)).collect();
        self.publish_jwks(&keys);
    }

    /// Publishes `keys` as Entra does for several tenants: with the template of their issuers.
    pub fn publish_for_all(&self, keys: &[Key]) {
        let issuer = self.shared.entra_issuer("{tenantid}");
        let jwk = |key: &Key| {
            let mut jwk = key.jwk();
            jwk["issuer"] = json!(issuer);
            jwk
        };
        self.publish_jwks(&keys.iter().map(jwk).collect::<Vec<_>>());
    }

    /// `key` as this Entra publishes it: with its own `issuer`.
    pub fn entra_jwk(&self, key: &Key) -> Value {
        let mut jwk = key.jwk();
        jwk["issuer"] = json!(self.entra_issuer());
        jwk
    }

    /// Publishes these JWKs as they stand: weak, doubled, of a wrong use, of another issuer, none.
    pub fn publish_jwks(&self, jwks: &[Value]) {
        self.publish_text(json!({ "keys": jwks }).to_string());
    }

    /// Publishes `text` for a key set.
    pub fn publish_text(&self, text: impl Into<String>) {
        *self.shared.keys.lock().unwrap() = text.into();
    }

    /// Answers the next call of `endpoint` that nothing is scripted for with `reply`.
    pub fn script(&self, endpoint: Endpoint, reply: Reply) {
        self.shared.scripted.lock().unwrap().entry(endpoint).or_default().push_back(reply);
    }

    /// Answers every call of `endpoint` that nothing is scripted for with `reply`;
    /// [`Reply::Usual`] ends that.
    pub fn always(&self, endpoint: Endpoint, reply: Reply) {
        self.shared.standing.lock().unwrap().insert(endpoint, reply);
    }

    /// Calls of `endpoint` so far.
    pub fn count(&self, endpoint: Endpoint) -> usize {
        self.shared.calls.borrow().get(&endpoint).copied().unwrap_or(0)
    }

    /// Waits until `endpoint` was called `count` times.
    pub async fn called(&self, endpoint: Endpoint, count: usize) {
        let mut calls = self.shared.calls.subscribe();
        let enough = calls.wait_for(|calls| calls.get(&endpoint).copied().unwrap_or(0) >= count);
        super::within("calls of the provider", enough).await.unwrap();
    }

    /// The forms that came to the token endpoint, in order, answered well or not.
    pub fn forms(&self) -> Vec<Form> {
        self.shared.obo.forms()
    }

    /// Whom an outbound token was issued for.
    pub fn issued(&self, token: &str) -> Option<Issued> {
        self.shared.obo.issued(token)
    }

    /// All outbound tokens that were issued.
    pub fn issued_tokens(&self) -> Vec<String> {
        self.shared.obo.issued_tokens()
    }

    /// How many outbound tokens were issued.
    pub fn issued_count(&self) -> usize {
        self.shared.obo.issued_count()
    }

    /// From now on the gateway has to prove this way that it is its client; until then by
    /// [`super::token::CLIENT_SECRET`] in the form.
    pub fn expect_proof(&self, proof: Proof) {
        self.shared.obo.expect_proof(proof);
    }

    /// Sets `expires_in` of the tokens issued from now on, in seconds; `None` leaves it out.
    pub fn set_expires_in(&self, seconds: Option<u64>) {
        self.shared.obo.set_expires_in(seconds);
    }

    /// From now on every form must have this parameter, and as it stands: the routes file adds it.
    pub fn expect_parameter(&self, name: &str, value: &str) {
        self.shared.obo.expect_parameter(name, value);
    }

    /// Forms that no right gateway sends, which a test sends on purpose. Those that are not taken
    /// fail the test at its end.
    pub fn take_mistakes(&self) -> Vec<String> {
        self.shared.obo.take_mistakes()
    }

    /// Goes away: connections are refused.
    pub async fn stop(&self) {
        self.server.stop().await;
    }

    /// Comes back.
    pub fn start_again(&self) {
        self.server.start_again();
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let mistakes = self.take_mistakes();
        if !std::thread::panicking() {
            assert!(mistakes.is_empty(), "wrong forms came to the token endpoint: {mistakes:#?}");
        }
    }
}

impl Shared {
    fn base(&self) -> String {
        self.base.lock().unwrap().clone()
    }

    fn entra_issuer(&self, tenant: &str) -> String {
        format!("{}/{tenant}/v2.0", self.base())
    }

    fn oidc_issuer(&self) -> String {
        format!("{}/realms/main", self.base())
    }

    fn next_reply(&self, endpoint: Endpoint) -> Reply {
        let scripted =
            self.scripted.lock().unwrap().get_mut(&endpoint).and_then(VecDeque::pop_front);
        let standing = || self.standing.lock().unwrap().get(&endpoint).cloned();
        scripted.or_else(standing).unwrap_or(Reply::Usual)
    }

    /// What the endpoint at `path` does by itself.
    fn usual(&self, path: &str, headers: &HeaderMap, body: &[u8]) -> Answer {
        let base = self.base();
        let steps: Vec<_> = path.trim_matches('/').split('/').collect();
        match steps[..] {
            [tenant, "v2.0", ".well-known", "openid-configuration"] => Answer::json(
                200,
                &json!({
                    "issuer": self.entra_issuer(match tenant {
                        "organizations" | "common" => "{tenantid}",
                        DOMAIN => TENANT,
                        id => id,
                    }),
                    "jwks_uri": format!("{base}/{tenant}/discovery/v2.0/keys"),
                    "token_endpoint": format!("{base}/{tenant}/oauth2/v2.0/token"),
                    "authorization_endpoint": format!("{base}/{tenant}/oauth2/v2.0/authorize"),
                    "id_token_signing_alg_values_supported": ["RS256"],
                }),
            ),
            ["realms", "main", ".well-known", "openid-configuration"] => Answer::json(
                200,
                &json!({
                    "issuer": self.oidc_issuer(),
                    "jwks_uri": format!("{base}/realms/main/keys"),
                    "token_endpoint": format!("{base}/realms/main/token"),
                    "authorization_endpoint": format!("{base}/realms/main/authorize"),
                }),
            ),
            [_, "discovery", "v2.0", "keys"] | ["realms", "main", "keys"] => Answer {
                body: self.keys.lock().unwrap().clone().into(),
                ..Answer::json(200, &json!(null))
            },
            [tenant, "oauth2", "v2.0", "token"] => {
                self.obo.token(Desk::Entra(tenant), headers, body)
            }
            ["realms", "main", "token"] => self.obo.token(Desk::Realm, headers, body),
            _ => Answer::json(404, &json!({"error": "not_found"})),
        }
    }
}

fn endpoint(path: &str) -> Endpoint {
    if path.ends_with("/.well-known/openid-configuration") {
        Endpoint::Discovery
    } else if path.ends_with("/keys") {
        Endpoint::Keys
    } else if path.ends_with("/token") {
        Endpoint::Token
    } else {
        Endpoint::Elsewhere
    }
}

async fn handle(
    shared: Arc<Shared>,
    request: Request<Incoming>,
    line: Arc<Line>,
) -> Result<Response<PeerBody>, PeerError> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let endpoint = endpoint(head.uri.path());
    let mut reply = shared.next_reply(endpoint);
    if endpoint == Endpoint::Token {
        shared.obo.record(&head, &body);
    }
    shared.calls.send_modify(|calls| *calls.entry(endpoint).or_default() += 1);
    while let Reply::Held(gate, then) = reply {
        gate.pass().await;
        reply = *then;
    }
    match reply {
        Reply::Usual => Ok(whole(shared.usual(head.uri.path(), &head.headers, &body))),
        Reply::Answer(answer) => Ok(whole(answer)),
        Reply::Held(..) => unreachable!("the loop above has opened all gates"),
        Reply::Hang => std::future::pending().await,
        Reply::Reset => {
            line.reset_at_close();
            Err(PeerError::scripted())
        }
        Reply::Close => Err(PeerError::scripted()),
        Reply::Drip(answer, every) => Ok(streamed(answer, move |body| {
            futures_util::stream::unfold(body, move |mut left| async move {
                tokio::time::sleep(every).await;
                (!left.is_empty()).then(|| (Ok(Frame::data(left.split_to(1))), left))
            })
        })),
        Reply::Cut(answer) => {
            let length = answer.body.len();
            let mut response = streamed(answer, |mut body| {
                let half = body.split_to(body.len() / 2);
                futures_util::stream::iter([Ok(Frame::data(half)), Err(PeerError::scripted())])
            });
            response.headers_mut().insert(http::header::CONTENT_LENGTH, length.into());
            Ok(response)
        }
    }
}

fn head(answer: &Answer) -> http::response::Builder {
    let mut response = Response::builder().status(StatusCode::from_u16(answer.status).unwrap());
    for (name, value) in &answer.headers {
        response = response.header(name, value);
    }
    response
}

/// An answer that is sent whole.
pub(super) fn whole(answer: Answer) -> Response<PeerBody> {
    let head = head(&answer);
    head.body(Full::new(answer.body).map_err(|never| match never {}).boxed_unsync()).unwrap()
}

fn streamed<S>(answer: Answer, stream: impl FnOnce(Bytes) -> S) -> Response<PeerBody>
where
    S: futures_util::Stream<Item = Result<Frame<Bytes>, PeerError>> + Send + 'static,
{
    let head = head(&answer);
    head.body(StreamBody::new(stream(answer.body)).boxed_unsync()).unwrap()
}

#[cfg(test)]
mod tests;
