//! What is sent, made before anything runs, and how each answer has to begin.

use std::net::SocketAddr;

use bytes::Bytes;
use http::header::{AUTHORIZATION, USER_AGENT};
use http::{HeaderValue, Request};
use http_body_util::Full;

use crate::Failure;
use crate::case::{Payload, Route, Transport};
use crate::upstream::{Credential, opening};
use crate::users::User;

/// What the requests of a load have in common.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) route: Route,
    pub(crate) payload: Payload,
    pub(crate) transport: Transport,
    pub(crate) bearer: Bearer,
    /// What the upstream has to see of it.
    pub(crate) credential: Credential,
}

/// The token that is sent.
#[derive(Clone, Copy)]
pub(crate) enum Bearer {
    Absent,
    Inbound,
    /// What a proxy would have sent: for the direct line.
    Outbound,
}

/// The request of one user and the answer it is to get.
pub(super) struct Planned {
    /// The head of HTTP/1.1, as it is written.
    pub(super) head: Vec<u8>,
    /// The body.
    pub(super) body: Bytes,
    /// The same for HTTP/2, if that is spoken.
    pub(super) request: Option<Request<Full<Bytes>>>,
    /// How the body of the answer begins; the rest is dots.
    pub(super) opening: Vec<u8>,
    /// Length of the answer's body.
    pub(super) answer_bytes: usize,
}

impl Asked {
    /// What `route` needs and gives where the token of each user is swapped for their own.
    pub(crate) fn new(route: Route, payload: Payload, transport: Transport) -> Self {
        let (bearer, credential) = match route {
            Route::Plain => (Bearer::Absent, Credential::Absent),
            Route::Checked => (Bearer::Inbound, Credential::Absent),
            Route::Swap => (Bearer::Inbound, Credential::OfTheUser),
        };
        Self { route, payload, transport, bearer, credential }
    }

    /// The requests of `users`, who are numbered from 0, to the proxy at `address`.
    pub(super) fn plan<'a>(
        self,
        users: impl Iterator<Item = &'a User>,
        address: SocketAddr,
    ) -> Result<Vec<Planned>, Failure> {
        let body = Bytes::from(vec![b'.'; self.payload.upload_bytes()]);
        users.enumerate().map(|(number, user)| self.planned(number, user, address, &body)).collect()
    }

    fn planned(
        self,
        number: usize,
        user: &User,
        address: SocketAddr,
        body: &Bytes,
    ) -> Result<Planned, Failure> {
        let path = format!("/{}/{}/{number}", self.route.name(), self.payload.name());
        let authorization = match self.bearer {
            Bearer::Absent => None,
            Bearer::Inbound => Some(format!("Bearer {}", user.inbound)),
            Bearer::Outbound => Some(format!("Bearer {}", user.outbound)),
        };
        let (method, length) = match self.payload {
            Payload::Small | Payload::Down => ("GET", String::new()),
            Payload::Up => ("POST", format!("content-length: {}\r\n", body.len())),
        };
        let token = authorization.as_ref().map(|value| format!("authorization: {value}\r\n"));
        let token = token.unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nuser-agent: bench\r\naccept: */*\r\n\
             {token}{length}\r\n"
        );
        let request = match self.transport {
            Transport::Clear | Transport::TlsHttp1 => None,
            Transport::TlsHttp2 => {
                let mut request = Request::builder()
                    .method(method)
                    .uri(format!("https://{address}{path}"))
                    .header(USER_AGENT, "bench");
                if let Some(value) = &authorization {
                    request = request.header(AUTHORIZATION, HeaderValue::from_str(value)?);
                }
                Some(request.body(Full::new(body.clone()))?)
            }
        };
        Ok(Planned {
            head: head.into_bytes(),
            body: body.clone(),
            request,
            opening: opening(number, self.credential),
            answer_bytes: self.payload.answer_bytes(),
        })
    }
}
