//! The claims that a token of a provider has anyhow, for policy tests that name only what matters.

use serde_json::{Map, Value};

use super::super::issuing::Issuing;
use super::super::provider::Provider;
use super::super::tenants::Tenants;

/// How long the token of a test is valid, in seconds.
const LIFETIME: u64 = 3600;

/// The client that a test's token of Entra is from, unless it says: no application has this id.
const CLIENT: &str = "00000000-0000-0000-0000-000000000000";

/// `given` over what a token of `provider` has by default: `iss`, `aud`, `iat`, `nbf`, `exp`, `sub`, and
/// of Entra's `tid` (where `iss` is not given either), and `azp`, without which it would be an ID token.
/// A claim that is given as null is left out.
pub(crate) fn with_defaults(provider: &Provider, given: Map<String, Value>) -> Map<String, Value> {
    let (settings, now) = (provider.settings(), provider.now().0);
    let mut claims = Map::new();
    match &settings.kind {
        Issuing::Entra { tenants, .. } => {
            let own = match tenants {
                Tenants::One(tenant) => Some(tenant.as_str()),
                // Only its metadata says which it is; policy tests have one that is made up.
                Tenants::Domain(_) => provider.learned_tenant(),
                Tenants::Several { allowed, .. } => allowed.first().map(String::as_str),
            };
            let named = given.get("tid").and_then(Value::as_str).map(str::to_ascii_lowercase);
            if let Some(tenant) = named.as_deref().or(own) {
                claims.insert("tid".to_owned(), tenant.into());
                let issuers = settings.kind.issuers_of(tenant);
                claims.extend(issuers.into_iter().next().map(|it| ("iss".to_owned(), it.into())));
            }
            if !given.contains_key("appid") {
                claims.insert("azp".to_owned(), CLIENT.into());
            }
        }
        Issuing::Oidc { issuer } => {
            claims.insert("iss".to_owned(), issuer.as_str().into());
        }
    }
    let audience = settings.audiences.first();
    claims.extend(audience.map(|it| ("aud".to_owned(), it.as_str().into())));
    claims.insert("sub".to_owned(), "somebody".into());
    // One that has ended began before that: nothing else is to be wrong with it.
    let ended = given.get("exp").and_then(Value::as_u64).map(|exp| exp.saturating_sub(LIFETIME));
    let begins = ended.map_or(now, |begin| begin.min(now));
    claims.insert("iat".to_owned(), begins.into());
    claims.insert("nbf".to_owned(), begins.into());
    claims.insert("exp".to_owned(), now.saturating_add(LIFETIME).into());
    for (name, value) in given {
        if value.is_null() {
            claims.remove(&name);
        } else {
            claims.insert(name, value);
        }
    }
    claims
}
