//! The upstream: 1 KiB answers that say for whom they are and what credential came.
//!
//! It compares the credential with that of the user named in the path, byte for byte, and
//! leaves it to the load to say what it should have been.

use std::cell::Cell;
use std::future::ready;
use std::io::Write;
use std::rc::Rc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::net::TcpListener;

use crate::serve::serve;
use crate::users::Users;

/// Length of an answer's body in bytes.
const BODY_BYTES: usize = 1024;

/// What came in `Authorization`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Credential {
    Absent,
    /// The outbound token of the user in the path.
    OfTheUser,
    /// Anything else: the inbound token, another user's, several.
    Foreign,
}

impl Credential {
    fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::OfTheUser => "of-the-user",
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
        serve(listener, move |request| ready(self.answer(&request)));
    }

    /// Requests of users so far.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.get()
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let mut body = Vec::with_capacity(BODY_BYTES);
        // Paths without a user are probes for readiness.
        if let Some(user) = request.uri().path().rsplit('/').next().and_then(|end| end.parse().ok())
        {
            self.requests.set(self.requests.get() + 1);
            body.extend_from_slice(&opening(user, self.judge(request, user)));
        }
        body.resize(BODY_BYTES, b'.');
        let mut response = Response::new(Full::new(Bytes::from(body)));
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        response
    }

    fn judge(&self, request: &Request<Incoming>, user: usize) -> Credential {
        let mut values = request.headers().get_all(AUTHORIZATION).iter();
        match (values.next(), values.next()) {
            (None, _) => Credential::Absent,
            (Some(value), None) => {
                let token = value.as_bytes().strip_prefix(b"Bearer ");
                let wanted = self.users.numbered(user).map(|user| user.outbound.as_bytes());
                if token.is_some() && token == wanted {
                    Credential::OfTheUser
                } else {
                    Credential::Foreign
                }
            }
            (Some(_), Some(_)) => Credential::Foreign,
        }
    }
}

/// How the body of an answer to `user` begins.
pub(crate) fn opening(user: usize, credential: Credential) -> Vec<u8> {
    let mut text = Vec::with_capacity(64);
    // Writing to a vector can't fail.
    write!(text, "answer of the upstream to user {user}, token {} ", credential.name()).ok();
    text
}
