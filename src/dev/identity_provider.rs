//! The development identity provider: which path gives which answer.
//!
//! It plays the endpoints of one Entra tenant, and adds `/dev/token`, which gives a token to
//! anyone. All URLs it names come from the address it is bound to, never from a request.

use std::sync::Arc;

use http::header::HeaderName;
use http::{Method, StatusCode};
use serde_json::{Map, Value};

use crate::clock::SharedClock;
use crate::dev::answer::{
    Answer, Asked, json, not_found, parameter, query, segments, text, with, wrong_method,
};
use crate::dev::authority::{Authority, Delegated, LIFETIME};
use crate::dev::directory::{
    DAEMON, DOMAIN, GATEWAY_CLIENT_ID, GATEWAY_SCOPE, PUBLIC_CLIENT, TENANT, user,
};
use crate::dev::grants::{self, Tenant};
use crate::dev::keys::{Claims, Keys};
use crate::dev::serve::{Bound, DevServer};
use crate::dev::token_error::{Correlation, Refusal};
use crate::dev::{DevError, discovery};

/// Most seconds that `/dev/token` moves an expiry: ten years.
const MAX_EXPIRES_IN: i64 = 10 * 365 * 24 * 3600;

/// An identity provider with keys of its own. Clones share them.
#[derive(Clone, Debug)]
pub struct IdentityProvider {
    authority: Arc<Authority>,
}

impl IdentityProvider {
    /// Makes its keys. `base_url` is that of the address it will serve on ([`Bound::base_url`]).
    ///
    /// # Errors
    ///
    /// Only if the crypto library fails.
    pub fn new(base_url: String, clock: SharedClock) -> Result<Self, DevError> {
        let authority = Authority::new(base_url, Keys::generate()?, clock);
        Ok(Self { authority: Arc::new(authority) })
    }

    /// Serves on `bound` until the handle is dropped.
    pub fn serve(&self, bound: Bound) -> DevServer {
        let provider = self.clone();
        bound.serve(move |asked| provider.answer(asked))
    }

    /// `http://127.0.0.1:PORT` or `https://localhost:PORT`: what `authority` of a provider is set to.
    pub fn base_url(&self) -> &str {
        self.authority.base_url()
    }

    /// `iss` of all its tokens.
    pub fn issuer(&self) -> &str {
        self.authority.issuer()
    }

    pub(super) fn authority(&self) -> Arc<Authority> {
        Arc::clone(&self.authority)
    }

    fn answer(&self, asked: &Asked) -> Answer {
        match segments(asked.uri().path()).as_slice() {
            ["dev", "token"] => get(asked, || self.dev_token(asked)),
            [_, "discovery", "instance"] => get(asked, || {
                let query = query(asked);
                discovery::instance(&self.authority, parameter(&query, "authorization_endpoint"))
            }),
            // MSAL's libraries differ in the case of it.
            [_, realm, name] if realm.eq_ignore_ascii_case("userrealm") => {
                get(asked, || json(StatusCode::OK, &discovery::user_realm(name)))
            }
            [named, "v2.0", ".well-known", "openid-configuration"] => get(asked, || {
                self.of_tenant(asked, named, |tenant| {
                    Ok(discovery::openid_configuration(&self.authority, tenant, named))
                })
            }),
            [named, "discovery", "v2.0", "keys"] => {
                get(asked, || self.of_tenant(asked, named, |_| Ok(self.authority.jwks())))
            }
            [named, "oauth2", "v2.0", "token"] => {
                if asked.method() != Method::POST {
                    return wrong_method(asked.method(), "POST");
                }
                self.of_tenant(asked, named, |tenant| grants::token(&self.authority, tenant, asked))
            }
            [_, "oauth2", "v2.0", "authorize"] => not_found(
                "The development identity provider has no sign-in page. Use the password grant, or GET /dev/token?user=alice.",
            ),
            _ => not_found(&format!(
                "Try /{TENANT}/v2.0/.well-known/openid-configuration or /dev/token?user=alice."
            )),
        }
    }

    /// Answers for the tenant that the path names, or says that there is none.
    fn of_tenant(
        &self,
        asked: &Asked,
        named: &str,
        answer: impl FnOnce(Tenant) -> Result<Value, Refusal>,
    ) -> Answer {
        let correlation = correlation(asked);
        let answer = tenant(named).and_then(answer).map_or_else(
            |refusal| refusal.answer(self.authority.now(), &correlation),
            |body| json(StatusCode::OK, &body),
        );
        match &correlation.id {
            Some(id) => with(answer, HeaderName::from_static("client-request-id"), id),
            None => answer,
        }
    }

    fn dev_token(&self, asked: &Asked) -> Answer {
        let token = DevTokenRequest::parse(&query(asked)).and_then(|request| {
            self.authority
                .sign(&request.claims(&self.authority))
                .map_err(|error| format!("the token could not be signed: {error}"))
        });
        match token {
            Ok(token) => text(StatusCode::OK, token),
            Err(problem) => text(StatusCode::BAD_REQUEST, format!("{problem}\n")),
        }
    }
}

/// What `/dev/token` is asked for.
#[derive(Debug)]
struct DevTokenRequest {
    /// `None`: the daemon by itself.
    user: Option<&'static crate::dev::directory::User>,
    scopes: Vec<String>,
    /// Seconds from now; negative for a token that has expired.
    expires_in: i64,
    /// Claims to add, replace, or (`null`) leave out.
    changes: Map<String, Value>,
}

impl DevTokenRequest {
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

fn tenant(named: &str) -> Result<Tenant, Refusal> {
    if named.eq_ignore_ascii_case(TENANT) || named.eq_ignore_ascii_case(DOMAIN) {
        Ok(Tenant::Home)
    } else if named == "common" || named == "organizations" {
        Ok(Tenant::Shared)
    } else {
        Err(Refusal::UnknownTenant(named.to_owned()))
    }
}

/// `client-request-id`, said back if it is a GUID.
fn correlation(asked: &Asked) -> Correlation {
    let id = asked.headers().get("client-request-id").and_then(|value| value.to_str().ok());
    let id = id.filter(|id| uuid::Uuid::try_parse(id).is_ok());
    Correlation { id: id.map(str::to_owned) }
}

fn get(asked: &Asked, answer: impl FnOnce() -> Answer) -> Answer {
    if asked.method() == Method::GET || asked.method() == Method::HEAD {
        answer()
    } else {
        wrong_method(asked.method(), "GET, HEAD")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::authority::Unfit;
    use crate::dev::authority::tests::{BASE, Frozen, NOW};
    use bytes::Bytes;
    use http::Request;
    use serde_json::json;

    fn provider() -> IdentityProvider {
        IdentityProvider::new(BASE.to_owned(), Arc::new(Frozen)).unwrap()
    }

    fn ask(provider: &IdentityProvider, method: Method, target: &str) -> (StatusCode, String) {
        let request = Request::builder().method(method).uri(target).body(Bytes::new()).unwrap();
        let answer = provider.answer(&request);
        (answer.status(), String::from_utf8(answer.body().to_vec()).unwrap())
    }

    fn get(provider: &IdentityProvider, target: &str) -> (StatusCode, Value) {
        let (status, body) = ask(provider, Method::GET, target);
        (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }

    #[test]
    fn each_path_has_its_answer() {
        let provider = provider();
        for (target, status) in [
            (format!("/{TENANT}/v2.0/.well-known/openid-configuration"), 200),
            ("/common/v2.0/.well-known/openid-configuration".into(), 200),
            ("/dev.local/v2.0/.well-known/openid-configuration".into(), 200),
            ("/other/v2.0/.well-known/openid-configuration".into(), 400),
            (format!("/{TENANT}/discovery/v2.0/keys"), 200),
            (format!("/{TENANT}/oauth2/v2.0/token"), 405),
            (format!("/{TENANT}/oauth2/v2.0/authorize"), 404),
            ("/common/userrealm/alice@dev.local?api-version=1.0".into(), 200),
            ("/common/UserRealm/alice@dev.local".into(), 200),
            (format!("/common/discovery/instance?authorization_endpoint={BASE}/common"), 200),
            ("/common/discovery/instance".into(), 400),
            ("/dev/token?user=alice".into(), 200),
            ("/".into(), 404),
            ("/dev".into(), 404),
            ("//////".into(), 404),
            ("*".into(), 404),
        ] {
            let (answered, body) = get(&provider, &target);
            assert_eq!(answered.as_u16(), status, "{target}: {body}");
        }
        assert_eq!(ask(&provider, Method::POST, "/dev/token?user=alice").0.as_u16(), 405);
        let target = format!("/{TENANT}/oauth2/v2.0/token");
        let (status, body) = ask(&provider, Method::POST, &target);
        assert_eq!(status.as_u16(), 400);
        assert!(body.contains("AADSTS900144"), "{body}");
    }

    #[test]
    fn the_host_of_a_request_changes_nothing() {
        let provider = provider();
        let target = format!("/{TENANT}/v2.0/.well-known/openid-configuration");
        let request = Request::get(&target).header("host", "evil.example").body(Bytes::new());
        let answer = provider.answer(&request.unwrap());
        let document: Value = serde_json::from_slice(answer.body()).unwrap();
        assert_eq!(document["issuer"], format!("{BASE}/{TENANT}/v2.0"));
        assert_eq!(document["issuer"], provider.issuer());
    }

    #[test]
    fn a_client_finds_its_request_id_again() {
        let provider = provider();
        let id = "60000000-0000-4000-8000-000000000001";
        let target = "/other/v2.0/.well-known/openid-configuration";
        let ask = |id| {
            let request = Request::get(target).header("client-request-id", id);
            let answer = provider.answer(&request.body(Bytes::new()).unwrap());
            let body: Value = serde_json::from_slice(answer.body()).unwrap();
            (answer.headers().get("client-request-id").cloned(), body["correlation_id"].clone())
        };
        assert_eq!(ask(id), (Some(id.parse().unwrap()), json!(id)));
        let (header, correlation) = ask("no guid");
        assert_eq!(header, None);
        assert_ne!(correlation, "no guid");
    }

    fn minted(provider: &IdentityProvider, query: &str) -> Claims {
        let (status, token) = ask(provider, Method::GET, &format!("/dev/token?{query}"));
        assert_eq!(status, StatusCode::OK, "{token}");
        provider.authority.verify(&token).unwrap()
    }

    #[test]
    fn anyone_gets_a_token_of_any_user() {
        let provider = provider();
        let claims = minted(&provider, "user=alice&scope=access_as_user");
        assert_eq!(claims["aud"], GATEWAY_CLIENT_ID);
        assert_eq!(claims["preferred_username"], "alice@dev.local");
        assert_eq!(claims["scp"], "access_as_user");
        assert_eq!(claims["exp"], NOW + 3600);

        assert_eq!(minted(&provider, "user=bob")["scp"], "access_as_user");
        assert_eq!(minted(&provider, "user=bob&scope=a+b")["scp"], "a b");
        assert!(!minted(&provider, "user=bob&scope=").contains_key("scp"));
        assert_eq!(minted(&provider, "user=bob&expires_in=1")["exp"], NOW + 1);

        let claims = minted(&provider, "client=daemon");
        assert_eq!(claims["roles"], json!(["Demo.Read.All"]));
        assert_eq!(claims["idtyp"], "app");

        let changed = "user=bob&claims=%7B%22department%22:%22audit%22,%22oid%22:null%7D";
        let claims = minted(&provider, changed);
        assert_eq!(claims["department"], "audit");
        assert!(!claims.contains_key("oid"));

        let (_, expired) = ask(&provider, Method::GET, "/dev/token?user=bob&expires_in=-1");
        assert_eq!(provider.authority.verify(&expired), Err(Unfit::Expired));
    }

    #[test]
    fn what_is_not_known_is_said() {
        let provider = provider();
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
            let (status, body) = ask(&provider, Method::GET, &format!("/dev/token?{query}"));
            assert_eq!(status, StatusCode::BAD_REQUEST, "{query}");
            assert!(body.contains(named), "{query}: {body}");
        }
    }
}
