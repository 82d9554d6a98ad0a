//! `/dev/token`: a token for anyone who asks, for tests and for trying things out.
//!
//! It is no part of what Entra does. A query says whose token, and what is odd about it; a
//! query that says something unknown is refused, so that a mistyped test does not pass.

use serde_json::{Map, Value};

use crate::dev::answer::parameter;
use crate::dev::authority::{Authority, Delegated, LIFETIME};
use crate::dev::directory::{DAEMON, GATEWAY_CLIENT_ID, GATEWAY_SCOPE, PUBLIC_CLIENT, User, user};
use crate::dev::keys::Claims;

/// Most seconds that `/dev/token` moves an expiry: ten years.
const MAX_EXPIRES_IN: i64 = 10 * 365 * 24 * 3600;

/// A signed token for the gateway, as the parameters of `query` ask, or what is wrong with them.
pub(super) fn mint(authority: &Authority, query: &[(String, String)]) -> Result<String, String> {
    let claims = Wanted::parse(query)?.claims(authority);
    authority.sign(&claims).map_err(|error| format!("the token could not be signed: {error}"))
}

/// What a query asks for.
#[derive(Debug)]
struct Wanted {
    /// `None`: the daemon by itself.
    user: Option<&'static User>,
    scopes: Vec<String>,
    /// Seconds from now; negative for a token that has expired.
    expires_in: i64,
    /// Claims to add, replace, or (`null`) leave out.
    changes: Map<String, Value>,
}

impl Wanted {
    fn parse(query: &[(String, String)]) -> Result<Self, String> {
        let known = ["user", "client", "scope", "expires_in", "claims"];
        if let Some((name, _)) = query.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            return Err(format!("`{name}` is not known here; known are {}", known.join(", ")));
        }
        let user = match (parameter(query, "user"), parameter(query, "client")) {
            (Some(name), None) => Some(user(name).ok_or_else(|| {
                format!("there is no user `{name}`; try alice, bob, mfa, noconsent or blocked")
            })?),
            (None, Some("daemon")) => None,
            (None, Some(other)) => return Err(format!("`client={other}` is not `client=daemon`")),
            (Some(_), Some(_)) => return Err("give `user` or `client`, not both".to_owned()),
            (None, None) => return Err("give `user=alice` or `client=daemon`".to_owned()),
        };
        let scopes = parameter(query, "scope");
        if user.is_none() && scopes.is_some() {
            return Err("an application by itself has roles, not scopes: leave `scope` out".into());
        }
        let scopes = scopes.unwrap_or(GATEWAY_SCOPE).split_whitespace().map(str::to_owned);
        Ok(Self {
            user,
            scopes: scopes.collect(),
            expires_in: expires_in(parameter(query, "expires_in"))?,
            changes: changes(parameter(query, "claims"))?,
        })
    }

    fn claims(self, authority: &Authority) -> Claims {
        let validity = authority.ending_in(self.expires_in);
        let audience = GATEWAY_CLIENT_ID;
        let mut claims = match self.user {
            Some(user) => authority.delegated(
                Delegated { user, client: &PUBLIC_CLIENT, audience, scopes: &self.scopes },
                validity,
            ),
            None => authority.app_only(&DAEMON, audience, DAEMON.roles, validity),
        };
        for (name, value) in self.changes {
            if value.is_null() {
                claims.remove(&name);
            } else {
                claims.insert(name, value);
            }
        }
        claims
    }
}

fn expires_in(text: Option<&str>) -> Result<i64, String> {
    let Some(text) = text else { return Ok(LIFETIME.as_secs().cast_signed()) };
    let seconds = text.parse().ok();
    let range = -MAX_EXPIRES_IN..=MAX_EXPIRES_IN;
    seconds.filter(|seconds| range.contains(seconds)).ok_or_else(|| {
        format!(
            "`expires_in={text}` is not a number of seconds within ten years, such as 3600 or -60"
        )
    })
}

fn changes(text: Option<&str>) -> Result<Map<String, Value>, String> {
    let Some(text) = text else { return Ok(Map::new()) };
    serde_json::from_str(text).map_err(|error| format!("`claims` is not a JSON object ({error})"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::dev::authority::Unfit;
    use crate::dev::authority::tests::{NOW, authority};

    fn asked(authority: &Authority, query: &str) -> Result<String, String> {
        let query = url::form_urlencoded::parse(query.as_bytes()).into_owned();
        mint(authority, &query.collect::<Vec<_>>())
    }

    fn minted(authority: &Authority, query: &str) -> Claims {
        authority.verify(&asked(authority, query).unwrap()).unwrap()
    }

    #[test]
    fn anyone_gets_a_token_of_any_user() {
        let authority = authority();
        let claims = minted(&authority, "user=alice&scope=access_as_user");
        assert_eq!(claims["aud"], GATEWAY_CLIENT_ID);
        assert_eq!(claims["preferred_username"], "alice@dev.local");
        assert_eq!(claims["scp"], "access_as_user");
        assert_eq!(claims["exp"], NOW + 3600);

        assert_eq!(minted(&authority, "user=bob")["scp"], "access_as_user");
        assert_eq!(minted(&authority, "user=bob&scope=a+b")["scp"], "a b");
        assert!(!minted(&authority, "user=bob&scope=").contains_key("scp"));
        assert_eq!(minted(&authority, "user=bob&expires_in=1")["exp"], NOW + 1);

        let claims = minted(&authority, "client=daemon");
        assert_eq!(claims["roles"], json!(["Demo.Read.All"]));
        assert_eq!(claims["idtyp"], "app");

        let claims = minted(&authority, r#"user=bob&claims={"department":"audit","oid":null}"#);
        assert_eq!(claims["department"], "audit");
        assert!(!claims.contains_key("oid"));

        let expired = asked(&authority, "user=bob&expires_in=-1").unwrap();
        assert_eq!(authority.verify(&expired), Err(Unfit::Expired));
    }

    #[test]
    fn what_is_not_known_is_said() {
        let authority = authority();
        for (query, named) in [
            ("", "user=alice"),
            ("user=carol", "carol"),
            ("client=gateway", "gateway"),
            ("user=alice&client=daemon", "not both"),
            ("client=daemon&scope=x", "roles"),
            ("user=alice&expires_in=soon", "soon"),
            ("user=alice&expires_in=99999999999", "ten years"),
            ("user=alice&claims=1", "JSON object"),
            ("user=alice&scopes=x", "`scopes`"),
        ] {
            let problem = asked(&authority, query).unwrap_err();
            assert!(problem.contains(named), "{query}: {problem}");
        }
    }
}
