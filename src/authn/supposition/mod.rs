//! What a token would meet, for dry runs: claims without a signature (policy tests), and each check
//! of a real token by itself (`explain`), beside the verdict of [`authenticate`](super::authenticate).
//!
//! Every rule is asked where it is decided (`token.rs`, `claims.rs`, `dialect.rs`); there is no second
//! one here. What comes out is an [`Identity`] or a text: plain data that proves nothing. It can't
//! become an [`Authenticated`](super::Authenticated), whose one maker verifies a signature, so it
//! gets no permit, no credential and no request to an upstream.

mod check;
mod defaults;

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::identity::Identity;
use crate::rejection::{Code, Rejection};

use super::bearer;
use super::binding;
use super::claims::{self, Begin, Signer};
use super::dialect;
use super::issuing::Issuing;
use super::json::{self, Object};
use super::keys::Key;
use super::provider::Provider;
use super::refusal::{shown, shown_all};
use super::token::{Parts, Unverified};
use super::{Presented, Requirement, check_algorithm, check_form, choose};

pub(crate) use self::check::{Check, Outcome};
pub(crate) use self::defaults::with_defaults;

/// Whom `requirement` would take the bearer of a token for, were `claims` in it and its signature good;
/// `None` on an open route.
///
/// # Errors
///
/// As of [`authenticate`](super::authenticate), but for what is wrong with a token before its claims.
pub(crate) fn suppose(
    requirement: &Requirement,
    claims: &Map<String, Value>,
) -> Result<Option<Identity>, Rejection> {
    let Requirement::Token { providers, .. } = requirement else { return Ok(None) };
    // In base64url; header and signature would come to it.
    let bytes = Value::Object(claims.clone()).to_string().len();
    bearer::check_length(bytes.saturating_mul(4).div_ceil(3))?;
    let claims = Object::from(claims);
    let provider = choose(providers, &claims)?;
    let (expires_at, tenant) = claims::check(&claims, Signer::Unknown, provider, provider.now())?;
    binding::refuse_bound(&claims)?;
    claims::identity(&claims, tenant, expires_at, provider.settings()).map(Some)
}

/// What is to be seen in a token, whatever the verdict on it is.
#[derive(Default)]
pub(crate) struct Examined {
    /// Its claims, if it is a token; nothing of them may be believed.
    pub(crate) claims: Option<Map<String, Value>>,
    /// The provider that its `iss` names.
    pub(crate) provider: Option<Arc<Provider>>,
    /// Each check, in the order in which they are made.
    pub(crate) checks: Vec<Check>,
    /// Whom it speaks of, as far as that can be read.
    pub(crate) supposed: Option<Identity>,
}

/// Makes every check of the token of a request by itself, also behind one that failed. Nobody is
/// authenticated by that: an open route, or a request without a token, has nothing to examine.
pub(crate) async fn examine(requirement: &Requirement, presented: Presented<'_>) -> Examined {
    let mut seen = Examined::default();
    let Requirement::Token { providers, .. } = requirement else { return seen };
    let Ok((_, token)) = bearer::token(presented.headers) else { return seen };
    let parts;
    let unverified = match Parts::of(&token) {
        Ok(taken_apart) => {
            parts = taken_apart;
            Unverified::read(&parts)
        }
        Err(rejection) => Err(rejection),
    };
    let form = || "three parts in base64url, signed".to_owned();
    let unverified = match unverified {
        Ok(unverified) => {
            let header = format!("a JWT with `alg` {}", unverified.algorithm());
            seen.checks.push(Check::passed("form", form(), header));
            unverified
        }
        Err(rejection) => {
            seen.checks.push(Check::of("form", form(), "another", Err(rejection)));
            return seen;
        }
    };
    let claims = unverified.claims().clone();
    seen.claims = Some(claims.to_map());
    let provider = match choose(providers, &claims) {
        Ok(provider) => provider,
        Err(rejection) => {
            let wanted = wanted_issuers(providers.iter().map(|own| &**own));
            seen.checks.push(Check::of("issuer", wanted, found(&claims, "iss"), Err(rejection)));
            return seen;
        }
    };
    let settings = provider.settings();
    let wanted = wanted_issuers([provider]);
    seen.checks.push(Check::passed("issuer", wanted, found(&claims, "iss")));
    seen.provider = providers.iter().find(|own| own.id() == provider.id()).map(Arc::clone);

    let algorithms = shown_all(settings.algorithms.iter().map(|own| own.name()));
    let algorithm = shown(unverified.algorithm().name());
    let outcome = check_algorithm(&unverified, settings);
    seen.checks.push(Check::of("alg", algorithms, algorithm, outcome));
    let typ = settings.typ.map_or("an access token's, or none".to_owned(), |it| format!("`{it}`"));
    let came = unverified.typ().map_or("none".to_owned(), |it| format!("`{it}`"));
    seen.checks.push(Check::of("typ", typ, came, check_form(&unverified, settings)));
    let key = seen.examine_signature(provider, unverified).await;
    seen.examine_claims(provider, key.as_deref(), &claims);
    seen
}

impl Examined {
    /// The key and the signature; gives the key, if there is one.
    async fn examine_signature(
        &mut self,
        provider: &Provider,
        unverified: Unverified<'_>,
    ) -> Option<Arc<Key>> {
        let kid = shown(unverified.kid());
        let wanted = format!("a key that provider `{}` publishes", provider.name());
        let by_key = |key: &Key| format!("one of key {} ({})", shown(key.kid()), key.describe());
        match provider.key(unverified.kid()).await {
            Ok((key, _)) => {
                self.checks.push(Check::passed("kid", wanted, kid));
                let wanted = by_key(&key);
                let outcome = unverified.verify(&key).map(drop);
                let came = if outcome.is_ok() { "it is" } else { "it is not" };
                self.checks.push(Check::of("signature", wanted, came, outcome));
                Some(key)
            }
            Err(rejection) => {
                let why = if rejection.code() == Code::ProviderUnavailable {
                    let why = rejection.reason();
                    self.checks.push(Check::not_checked("kid", wanted, kid, &why));
                    why
                } else {
                    self.checks.push(Check::of("kid", wanted, kid, Err(rejection)));
                    "its key is not known".to_owned()
                };
                let wanted = "one of that key".to_owned();
                self.checks.push(Check::not_checked("signature", wanted, "a signature", &why));
                None
            }
        }
    }

    fn examine_claims(&mut self, provider: &Provider, key: Option<&Key>, claims: &Object<'_>) {
        let (settings, now) = (provider.settings(), provider.now());
        let skew = settings.clock_skew;
        let audiences = shown_all(settings.audiences.iter().map(String::as_str));
        let outcome = claims::check_audience(claims, settings);
        self.checks.push(Check::of("audience", audiences, found(claims, "aud"), outcome));

        let end = claims::end(claims);
        let expires_at = end.as_ref().ok().copied();
        let begin = expires_at.map(|end| Begin::of(claims, end).and_then(|it| it.check(skew, now)));
        let outcome = end.and_then(|end| claims::check_end(end, skew, now));
        let after = format!("after {now} (now), less {} s", skew.as_secs());
        self.checks.push(Check::of("exp", after, found(claims, "exp"), outcome));
        if let Some(outcome) = begin {
            let wanted = format!("not after {now} (now), plus {} s", skew.as_secs());
            let came = format!("nbf {}, iat {}", found(claims, "nbf"), found(claims, "iat"));
            self.checks.push(Check::of("nbf", wanted, came, outcome));
        }

        let outcome = claims::check_use(claims).and_then(|()| dialect::check_mark(claims));
        let (kind, mut tenant) = (&settings.kind, None);
        let outcome = match kind {
            Issuing::Entra { .. } => outcome.and_then(|()| dialect::check_caller(claims)),
            Issuing::Oidc { .. } => outcome,
        };
        let came = if outcome.is_ok() { "one" } else { "something else" };
        self.checks.push(Check::of("access token", "an access token", came, outcome));
        if let Issuing::Entra { .. } = kind {
            let fits = dialect::check_tenancy(claims, provider);
            tenant = fits.as_ref().ok().map(|(_, tenant)| (*tenant).to_owned());
            let signed = match (&fits, key) {
                (Ok((issuer, tenant)), Some(key)) => {
                    let wanted = key.issuer().map_or("any of the provider's".to_owned(), shown);
                    let outcome = dialect::check_key_issuer(key, issuer, tenant, kind);
                    Some(Check::of("key's issuer", wanted, found(claims, "iss"), outcome))
                }
                (Ok(_) | Err(_), _) => None,
            };
            let came = format!("tid {}, ver {}", found(claims, "tid"), found(claims, "ver"));
            self.checks.push(Check::of("tenant", "that of `iss`", came, fits.map(drop)));
            self.checks.extend(signed);
        }
        let expires_at = expires_at.unwrap_or(now);
        match claims::identity(claims, tenant, expires_at, settings) {
            Ok(identity) => self.supposed = Some(identity),
            Err(rejection) => {
                let wanted = "claims of the types that they have to be of";
                self.checks.push(Check::of("claims", wanted, "another", Err(rejection)));
            }
        }
    }
}

fn wanted_issuers<'p>(providers: impl IntoIterator<Item = &'p Provider>) -> String {
    let issuers: Vec<String> =
        providers.into_iter().flat_map(|own| own.settings().kind.issuers()).collect();
    shown_all(issuers.iter().map(String::as_str))
}

/// A claim as it stands in the token.
fn found(claims: &Object<'_>, name: &str) -> String {
    match claims.get(name) {
        None => "none".to_owned(),
        Some(json::Value::String(text)) => shown(text),
        Some(other) => shown(&other.to_owned().to_string()),
    }
}
