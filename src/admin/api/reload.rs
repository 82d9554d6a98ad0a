//! `POST /api/v1/reload`: reads the routes file again, one at a time.

use std::sync::Arc;

use http::{Response, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::timeout;

use crate::admin::problem::Problem;
use crate::admin::reloads::Reloads;
use crate::admin::{Shown, respond};
use crate::body::Body;
use crate::last_reload::{FoundProblem, LastReload, ReloadOutcome};
use crate::limits;
use crate::observe::request_id::{RequestId, X_REQUEST_ID};
use crate::rejection::{Code, Extra, Rejection};
use crate::written::Changes;

use super::{json, shutting_down};

/// The answer of `/api/v1/reload` when the file was good.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Reloaded {
    /// Since when it is in force.
    pub loaded_at: String,
    /// What is different from before.
    pub changes: Changes,
    /// The same in a line: `routes: added a`; `nothing`.
    pub summary: String,
    /// What should be known all the same.
    pub warnings: Vec<FoundProblem>,
    /// Keys whose new values take effect with a restart.
    pub needs_restart: Vec<String>,
}

/// The answer with status 422 when the file can't be used: a problem document (RFC 9457). The
/// configuration in force stays.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ReloadRefused {
    /// `urn:obo-gateway:problem:invalid_config`.
    pub r#type: &'static str,
    /// What is wrong, in short.
    pub title: &'static str,
    /// 422.
    pub status: u16,
    /// What follows from it.
    pub detail: &'static str,
    /// `invalid_config`.
    pub code: &'static str,
    /// The `x-request-id` of the answer.
    pub request_id: String,
    /// All that is wrong, by place.
    pub problems: Vec<FoundProblem>,
    /// The same for people, as `check` prints it.
    pub text: String,
}

impl Reloads {
    /// Has the configuration read again, and says what became of it.
    ///
    /// # Cancel safety
    ///
    /// A reload that was asked for is done.
    pub(in crate::admin) async fn reload(
        &self,
        shown: &Arc<Shown>,
    ) -> Result<Response<Body>, Rejection> {
        if shown.readiness.is_ending() {
            return Ok(shutting_down());
        }
        let Some(_place) = self.queue() else {
            let busy = Rejection::new(Code::RateLimited, "Too many reloads wait already.", "");
            return Err(busy.with(Extra::RetryAfter(limits::RELOAD_RETRY_AFTER)));
        };
        let Some(control) = self.control() else { return Ok(shutting_down()) };
        match timeout(limits::RELOAD_PATIENCE, control.reload()).await {
            Ok(Some(done)) => told(&done),
            Ok(None) if shown.readiness.is_ending() => Ok(shutting_down()),
            Ok(None) => {
                tracing::error!("the reload that the admin port was asked for did not end");
                Err(Rejection::internal("a reload did not end"))
            }
            // It goes on.
            Err(_) => Ok(HANGS.answer()),
        }
    }
}

/// The log says what it waits for: a path is nothing for who may not see the machine.
const HANGS: Problem = Problem {
    code: "reload_hangs",
    title: "The reload has not ended",
    detail: "It, or the one before it, goes on; the log says which file it waits for.",
    retry_after: limits::RELOAD_PATIENCE,
};

fn told(done: &LastReload) -> Result<Response<Body>, Rejection> {
    match done.outcome {
        ReloadOutcome::Success => {
            let reloaded = Reloaded {
                loaded_at: done.at.clone(),
                summary: done.changes.to_string(),
                changes: done.changes.clone(),
                warnings: done.problems.clone(),
                needs_restart: done.needs_restart.clone(),
            };
            Ok(respond(StatusCode::OK, "application/json", json(&reloaded)?))
        }
        ReloadOutcome::Failure => {
            let id = RequestId::new();
            let refused = ReloadRefused {
                r#type: "urn:obo-gateway:problem:invalid_config",
                title: "The routes file can't be used",
                status: StatusCode::UNPROCESSABLE_ENTITY.as_u16(),
                detail: "The configuration in force stays; `problems` says what is wrong with the file.",
                code: "invalid_config",
                request_id: id.as_str().to_owned(),
                problems: done.problems.clone(),
                text: done.text.clone(),
            };
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            let mut response = respond(status, "application/problem+json", json(&refused)?);
            response.headers_mut().insert(X_REQUEST_ID, id.header().clone());
            Ok(response)
        }
    }
}
