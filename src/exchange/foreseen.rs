//! Which credential a request would get, for dry runs. No [`UpstreamCredential`](super::UpstreamCredential)
//! comes of it, and nobody is asked: what is foreseen names things, and holds no token or secret.

use serde::Serialize;

use super::{ForeseenExchange, TokenPlan};
use crate::identity::Identity;
use crate::rejection::Rejection;

/// The credential that an upstream would be shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Foreseen {
    /// None.
    None,
    /// The inbound token as it came; on an open route there is none.
    Passthrough,
    /// A fixed header of this name.
    Header(String),
    /// A token that a provider gives.
    Exchange(ForeseenExchange),
    /// A token of the machine's managed identity for this resource.
    ManagedIdentity(String),
}

/// The credential that `plan` would give to the request of this caller, whoever says who that is.
///
/// # Errors
///
/// What [`credential()`](super::credential()) refuses before it asks anybody.
pub fn foresee(plan: &TokenPlan, identity: Option<&Identity>) -> Result<Foreseen, Rejection> {
    Ok(match plan {
        TokenPlan::None => Foreseen::None,
        TokenPlan::Passthrough => Foreseen::Passthrough,
        TokenPlan::Header { name, .. } => Foreseen::Header(name.to_string()),
        TokenPlan::Exchange(plan) => Foreseen::Exchange(plan.foresee(identity)?),
        TokenPlan::ManagedIdentity(plan) => Foreseen::ManagedIdentity(plan.resource().to_owned()),
    })
}
