//! The upstream: answers that say for whom they are and what credential came.
//!
//! It compares the credential with that of the user named in the path, byte for byte, and
//! leaves it to the load to say what it should have been. The second segment of the path says how long
//! the answer is; an upload is answered when all of it has come.

use std::cell::Cell;
use std::io::Write;
use std::rc::Rc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::net::TcpListener;

use crate::case::Payload;
use crate::serve::serve;
use crate::users::Users;

/// What proxies that can't exchange send on for everybody.
pub(crate) const SHARED_TOKEN: &str = "the-one-token-of-all-users";

/// What came in `Authorization`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Credential {
    Absent,
    /// The outbound token of the user in the path.
    OfTheUser,
    /// [`SHARED_TOKEN`].
    Shared,
    /// Anything else: the inbound token, another user's, several.
    Foreign,
}

impl Credential {
    fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::OfTheUser => "of-the-user",
            Self::Shared => "shared",
            Self::Foreign => "FOREIGN",
        }
    }
}

/// The upstream and what it has seen.
pub(crate) struct Upstream {
    users: Rc<Users>,
    requests: Cell<u64>,
}

impl Upstream {
    pub(crate) fn new(users: Rc<Users>) -> Self {
        Self { users, requests: Cell::new(0) }
    }

    /// Serves on the current thread.
    pub(crate) fn serve(self: Rc<Self>, listener: TcpListener) {
        serve(listener, move |request| Rc::clone(&self).answer(request));
    }

    /// Requests of users so far.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.get()
    }

    async fn answer(self: Rc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, upload) = request.into_parts();
        let payload = head.uri.path().split('/').nth(2);
        let of_name = |wanted: &Payload| payload == Some(wanted.name());
        let payload = [Payload::Down, Payload::Up].into_iter().find(of_name);
        let payload = payload.unwrap_or(Payload::Small);
        let uploaded = length(upload).await;
        let mut body = Vec::with_capacity(payload.answer_bytes());
        // Paths without a user are probes for readiness.
        if let Some(user) = head.uri.path().rsplit('/').next().and_then(|end| end.parse().ok())
            // An upload that is cut short is no request, which the counts will show.
            && uploaded == Some(payload.upload_bytes())
        {
            self.requests.set(self.requests.get() + 1);
            body.extend_from_slice(&opening(user, self.judge(&head.headers, user)));
        }
        body.resize(payload.answer_bytes(), b'.');
        let mut response = Response::new(Full::new(Bytes::from(body)));
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        response
    }

    fn judge(&self, headers: &HeaderMap, user: usize) -> Credential {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        match (values.next(), values.next()) {
            (None, _) => Credential::Absent,
            (Some(value), None) => {
                let token = value.as_bytes().strip_prefix(b"Bearer ");
                let wanted = self.users.numbered(user).map(|user| user.outbound.as_bytes());
                if token.is_some() && token == wanted {
                    Credential::OfTheUser
                } else if token == Some(SHARED_TOKEN.as_bytes()) {
                    Credential::Shared
                } else {
                    Credential::Foreign
                }
            }
            (Some(_), Some(_)) => Credential::Foreign,
        }
    }
}

/// How many bytes there were; `None` if they ended too early.
async fn length(mut body: Incoming) -> Option<usize> {
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame.ok()?.data_ref().map_or(0, Bytes::len);
    }
    Some(length)
}

/// How the body of an answer to `user` begins.
pub(crate) fn opening(user: usize, credential: Credential) -> Vec<u8> {
    let mut text = Vec::with_capacity(64);
    // Writing to a vector can't fail.
    write!(text, "answer of the upstream to user {user}, token {} ", credential.name()).ok();
    text
}
