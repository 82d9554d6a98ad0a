//! What a verified caller may do: the `auth` of a route, as data, judged without IO.
//!
//! The witness is [`Permit`]: only [`authorize`] makes one, and nothing is forwarded without.
//! An open route passes the same gate. Who the caller is was decided before (`authn/`).
//!
//! ```compile_fail,E0451
//! // Nobody else can give leave.
//! let forged = obo_gateway::authz::Permit { caller: None };
//! ```
//!
//! ```compile_fail,E0599
//! // One leave, one request.
//! fn twice(permit: obo_gateway::authz::Permit) -> [obo_gateway::authz::Permit; 2] {
//!     [permit.clone(), permit]
//! }
//! ```

mod rules;

use std::collections::BTreeMap;

use crate::authn::{Authenticated, Caller};
use crate::identity::Identity;
use crate::rejection::Rejection;

/// What a route asks of a verified caller. Every list that is not empty has to be met; the
/// default asks for nothing (`auth: any`, and open routes).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Any one of these scopes; case counts.
    pub scopes: Vec<String>,
    /// Any one of these roles; case counts. With `scopes` too, one of either is enough.
    pub roles: Vec<String>,
    /// Users, apps, or both.
    pub callers: Callers,
    /// Any one of these applications has asked for the token; GUIDs are compared without case.
    pub clients: Vec<String>,
    /// Any one of these tenants; GUIDs are compared without case.
    pub tenants: Vec<String>,
    /// Every claim named has to be there with any one of its values.
    pub claims: BTreeMap<String, Vec<String>>,
}

impl Policy {
    /// Whether it is the default.
    fn asks_for_nothing(&self) -> bool {
        let Self { scopes, roles, callers, clients, tenants, claims } = self;
        let lists = [scopes, roles, clients, tenants];
        *callers == Callers::Any && lists.iter().all(|list| list.is_empty()) && claims.is_empty()
    }
}

/// Which kind of caller a route takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Callers {
    /// Users and apps.
    #[default]
    Any,
    /// Users who signed in.
    Users,
    /// Applications by themselves.
    Apps,
}

/// Leave to go on. Made only by [`authorize`], not `Clone`: nothing is forwarded without one.
#[derive(Debug)]
pub struct Permit {
    caller: Option<Caller>,
}

impl Permit {
    /// Uses the permit up: the caller, `None` on an open route.
    pub fn into_caller(self) -> Option<Caller> {
        self.caller
    }

    /// The caller; `None` on an open route.
    pub fn caller(&self) -> Option<&Caller> {
        self.caller.as_ref()
    }
}

/// Judges a caller by the policy of the route.
///
/// # Errors
///
/// `caller_not_allowed` for tenant, client, kind of caller and claims, `insufficient_scope` for
/// scopes and roles; `internal` if an open route has a policy, which no configuration gives.
pub fn authorize(policy: &Policy, authenticated: Authenticated) -> Result<Permit, Rejection> {
    let caller = authenticated.into_caller();
    judge(policy, caller.as_ref().map(|caller| &**caller.identity()))?;
    Ok(Permit { caller })
}

/// Whether `policy` would let this one pass, whoever says so; `None` is nobody, on an open route.
///
/// An opinion and no leave: who dry-runs a request asks here, and only [`authorize`] makes a
/// [`Permit`], of one who was authenticated.
///
/// ```compile_fail,E0308
/// # use obo_gateway::{authz::{self, Permit, Policy}, identity::Identity};
/// fn leave(policy: &Policy, supposed: Identity) -> Permit {
///     authz::authorize(policy, supposed).unwrap()
/// }
/// ```
///
/// # Errors
///
/// As of [`authorize`].
pub fn judge(policy: &Policy, identity: Option<&Identity>) -> Result<(), Rejection> {
    match identity {
        Some(identity) => rules::check(policy, identity),
        None if policy.asks_for_nothing() => Ok(()),
        // Fail closed: a policy that nobody is judged by must not be passed by.
        None => {
            Err(Rejection::internal("the route has a policy, and its caller was not authenticated"))
        }
    }
}
