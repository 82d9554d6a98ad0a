//! A request whose upstream asks for a token with more claims, and what it takes to send it
//! once more.

use std::sync::Arc;

use http::Response;

use super::head::Head;
use super::links::Linking;
use super::request::{Exchanged, KeptBody, UpstreamRequest};
use super::upgrade::Asked;
use super::upload::Progress;
use super::{Forwarding, request};
use crate::authn::{Caller, TokenEnd};
use crate::body::Body;
use crate::exchange::UpstreamCredential;
use crate::exchange::challenge::Claims;
use crate::rejection::Rejection;

/// A request that was refused with a claims challenge (continuous access evaluation).
#[derive(Debug)]
pub struct Challenged<'a> {
    plan: &'a Forwarding,
    claims: Claims,
    caller: Option<Caller>,
    token_end: Option<TokenEnd>,
    upgrade: Option<Box<Asked>>,
    /// `None`: its body can't be sent again.
    message: Option<(Head, Body)>,
    /// Of a body that nobody has asked for yet.
    upload: Option<Arc<Progress>>,
    links: Option<Box<Linking>>,
}

impl<'a> Challenged<'a> {
    pub(super) async fn new(
        plan: &'a Forwarding,
        claims: Claims,
        head: Option<Head>,
        exchanged: Exchanged,
        links: Option<Box<Linking>>,
        (token_end, upgrade): (Option<TokenEnd>, Option<Box<Asked>>),
        refused: Response<Body>,
    ) -> Self {
        let Exchanged { caller, body } = exchanged;
        // The caller of a request with `Expect` has sent nothing of it yet.
        let unread = head.as_ref().and_then(|head| head.listener.as_ref()?.held());
        let (body, upload) = if let Some(unread) = unread {
            // Its end is to be told before the body goes again: later it would pass for the end of
            // the next answer, whose connection must not break off.
            drop(refused);
            unread.body_again().map(|(body, upload)| (Body::stream(body), upload)).unzip()
        } else {
            let body = match body {
                KeptBody::Empty => Some(Body::empty()),
                // The answer is held meanwhile: with it the connection would go that the rest of
                // the body takes.
                KeptBody::Replay(kept) => kept.whole().await.map(Body::full),
                KeptBody::Gone => None,
            };
            drop(refused);
            (body, None)
        };
        Self { plan, claims, caller, token_end, upgrade, message: head.zip(body), upload, links }
    }

    /// What the upstream asks for.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Whose request it is; `None` on an open route.
    pub fn caller(&self) -> Option<&Caller> {
        self.caller.as_ref()
    }

    /// The same request with another credential; `None` if its body can't be sent again.
    ///
    /// # Errors
    ///
    /// A credential for another upstream (500).
    pub fn with(
        self,
        credential: &UpstreamCredential,
    ) -> Result<Option<UpstreamRequest<'a>>, Rejection> {
        let Self { plan, caller, message, token_end, upgrade, upload, links, claims: _ } = self;
        request::check_upstream(plan, credential)?;
        Ok(message.map(|(mut head, body)| {
            head.set_credential(credential);
            // It was sent twice; a third time would be a loop.
            let exchanged = Some(Exchanged { caller, body: KeptBody::Gone });
            UpstreamRequest { plan, head, body, upload, exchanged, links, token_end, upgrade }
        }))
    }
}
