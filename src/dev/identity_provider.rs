//! The development identity provider: which path gives which answer.
//!
//! It plays the endpoints of one Entra tenant, and adds `/dev/token`, which gives a token to
//! anyone. All URLs it names come from the address it is bound to, never from a request.

use std::sync::Arc;

use http::header::HeaderName;
use http::{Method, StatusCode};
use serde_json::Value;

use crate::clock::SharedClock;
use crate::dev::answer::{
    Answer, Asked, json, not_found, parameter, query, segments, text, with, wrong_method,
};
use crate::dev::authority::Authority;
use crate::dev::directory::{DOMAIN, TENANT};
use crate::dev::grants::{self, Tenant};
use crate::dev::keys::Keys;
use crate::dev::serve::{Bound, DevServer};
use crate::dev::token_error::{Correlation, Refusal};
use crate::dev::{DevError, dev_token, discovery};

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
            ["dev", "token"] => {
                get(asked, || match dev_token::mint(&self.authority, &query(asked)) {
                    Ok(token) => text(StatusCode::OK, token),
                    Err(problem) => text(StatusCode::BAD_REQUEST, format!("{problem}\n")),
                })
            }
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
    use crate::dev::authority::tests::{BASE, Frozen};
    use crate::dev::{ArmStandIn, GraphStandIn};
    use bytes::Bytes;
    use http::Request;
    use proptest::prelude::*;
    use serde_json::json;
    use std::sync::LazyLock;

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
            ("/dev/token?user=carol".into(), 400),
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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        /// Whatever comes, each of the three servers has an answer with a JSON or text body.
        #[test]
        fn no_request_is_too_odd(
            method in prop::sample::select(vec!["GET", "POST", "PUT", "OPTIONS", "odd"]),
            path in "(/(common|dev|token|v2.0|v1.0|me|messages|oauth2|subscriptions|userrealm|%2F|[!-~&&[^?#]]{0,9})){0,9}/?",
            query in "((user|scope|claims|expires_in|api-version|%24top|[a-z%+]{0,9})(=[!-~&&[^#]]{0,20})?&){0,4}",
            header in "(Bearer |Basic |)[ -~]{0,40}",
            body in "((grant_type|client_id|client_secret|scope|assertion)=[ -~]{0,40}&){0,6}",
        ) {
            static SERVERS: LazyLock<(IdentityProvider, GraphStandIn, ArmStandIn)> =
                LazyLock::new(|| {
                    let provider = provider();
                    let (graph, arm) = (GraphStandIn::new(&provider), ArmStandIn::new(&provider));
                    (provider, graph, arm)
                });
            let (provider, graph, arm) = &*SERVERS;
            let request = Request::builder()
                .method(method)
                .uri(format!("{path}?{query}"))
                .header("authorization", header)
                .header("content-type", "application/x-www-form-urlencoded")
                .body(Bytes::from(body));
            // What the parser would not let through is nobody's business here.
            prop_assume!(request.is_ok());
            let request = request.unwrap();
            for answer in
                [provider.answer(&request), graph.answer(&request, BASE), arm.answer(&request, BASE)]
            {
                prop_assert!(answer.headers().contains_key("content-type"));
                prop_assert!(!answer.status().is_server_error());
            }
        }
    }
}
