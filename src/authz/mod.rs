//! What a verified caller may do: the `auth` of a route, as data, judged without IO.

use crate::authn::{Authenticated, Caller};
use crate::rejection::Rejection;

/// What a route asks of a verified caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {}

/// Leave to go on. Made only by [`authorize`], not `Clone`: nothing is forwarded without one.
#[derive(Debug)]
pub struct Permit {
    caller: Option<Caller>,
}

impl Permit {
    /// The caller; `None` on an open route.
    pub fn caller(&self) -> Option<&Caller> {
        self.caller.as_ref()
    }
}

/// Judges a caller by the policy of the route.
pub fn authorize(_policy: &Policy, authenticated: Authenticated) -> Result<Permit, Rejection> {
    Ok(Permit { caller: authenticated.into_caller() })
}
