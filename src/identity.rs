//! Who a caller is, once a provider's token has been verified.
//!
//! Plain data for authorisation, forwarded claims and the log, which anyone can write down: an
//! [`Identity`] by itself proves nothing. What proves that a token was verified is
//! [`Authenticated`](crate::authn::Authenticated), which only `authn/` can make.

mod claims;

use std::sync::Arc;

use serde_json::Value;

pub use claims::{Claimed, Claims};

use crate::clock::UnixTime;

/// Whether a person or a program stands behind the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallerKind {
    /// A user who signed in; the token was delegated.
    User,
    /// An application by itself (client credentials).
    App,
}

/// What a verified token says of its caller.
#[derive(Clone)]
pub struct Identity {
    /// The name of the provider, from the routes file, that validated the token.
    pub provider: Arc<str>,
    /// `iss`, exactly as the token has it.
    pub issuer: Arc<str>,
    /// Entra's `tid`: a GUID in lower case. `None` for other providers.
    pub tenant: Option<String>,
    /// `oid` where there is one, else `sub`.
    pub user: Option<String>,
    /// The application that asked for the token: `azp`, `appid`, `client_id` or what the file names.
    pub client_id: Option<String>,
    /// A user or an application.
    pub kind: CallerKind,
    /// The scopes that were granted.
    pub scopes: Vec<String>,
    /// The roles that were given.
    pub roles: Vec<String>,
    /// All claims of the token.
    pub claims: Claims,
    /// `exp`: the token is worth nothing from this second on (clock skew not added).
    pub expires_at: UnixTime,
}

impl Identity {
    /// The claim called `name`, as [`claim`] finds it.
    pub fn claim(&self, name: &str) -> Option<Value> {
        let member = |value: Value, name: &str| value.get(name).cloned();
        claim(name, |name| self.claims.get(name), member)
    }
}

/// The claim called `name`: as it stands, else as a dotted path into nested objects.
///
/// The name as it stands goes first, because claims of some providers are URLs with dots in them.
///
/// `get` gives the claim of just a name, and `member` what an object has under one.
pub fn claim<V>(
    name: &str,
    get: impl Fn(&str) -> Option<V>,
    member: impl Fn(V, &str) -> Option<V>,
) -> Option<V> {
    get(name).or_else(|| {
        let (first, path) = name.split_once('.')?;
        path.split('.').try_fold(get(first)?, member)
    })
}

impl std::fmt::Debug for Identity {
    // Claims hold names of people; what is printed is what the access log holds anyway.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("provider", &self.provider)
            .field("tenant", &self.tenant)
            .field("user", &self.user)
            .field("client_id", &self.client_id)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_claim_is_found_as_it_stands_before_it_is_a_path() {
        let claims = json!({"a.b": 1, "a": {"b": 2, "c": {"d": 3}}, "s": "x"});
        let claim = |name| claim(name, |name| claims.get(name), |value, name| value.get(name));
        assert_eq!(claim("a.b"), Some(&json!(1)));
        assert_eq!(claim("a.c.d"), Some(&json!(3)));
        for absent in ["s.x", "s.", "a.", ".a", "a.c.d.e", "nope", ""] {
            assert_eq!(claim(absent), None, "{absent}");
        }
    }
}
