//! The issuer: makes the claims of tokens and says whether a token is still a good one of its own.
//!
//! It does not know grants: who may have which token is decided before it is asked.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::clock::{SharedClock, UnixTime};
use crate::dev::directory::{App, TENANT, User};
use crate::dev::keys::{Claims, Keys, NotOurs};
use crate::secret::TokenDigest;

/// How long a token lives; Entra's live between 60 and 90 minutes.
pub(super) const LIFETIME: Duration = Duration::from_hours(1);
/// How long a refresh token lives.
const REFRESH_LIFETIME: Duration = Duration::from_hours(90 * 24);
/// `aud` of a refresh token: no resource takes it.
const REFRESH_AUDIENCE: &str = "urn:obo-gateway:dev:refresh";
/// Entra dates its tokens back, so that clocks a little behind take them.
const BACKDATED: Duration = Duration::from_mins(5);

/// The issuer of all tokens of the tenant.
#[derive(Debug)]
pub(super) struct Authority {
    base_url: String,
    issuer: String,
    keys: Keys,
    clock: SharedClock,
}

/// From when and until when a token is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    from: UnixTime,
    until: UnixTime,
}

/// What an access token of a user is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delegated<'a> {
    pub(super) user: &'a User,
    pub(super) client: &'a App,
    pub(super) audience: &'a str,
    pub(super) scopes: &'a [String],
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// No JWT.
    Malformed,
    /// Not signed by us.
    Signature,
    /// Signed by us, but for another issuer.
    Issuer,
    /// Past `exp`, or without one.
    Expired,
    /// Before `nbf`.
    NotYetValid,
}

impl Authority {
    pub(super) fn new(base_url: String, keys: Keys, clock: SharedClock) -> Self {
        let issuer = format!("{base_url}/{TENANT}/v2.0");
        Self { base_url, issuer, keys, clock }
    }

    /// `http://127.0.0.1:PORT` or `https://localhost:PORT`.
    pub(super) fn base_url(&self) -> &str {
        &self.base_url
    }

    /// `iss` of all tokens.
    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(super) fn now(&self) -> UnixTime {
        self.clock.now()
    }

    /// The key set; its `issuer` member is a template, as at Entra.
    pub(super) fn jwks(&self) -> Value {
        self.keys.jwks(&format!("{}/{{tenantid}}/v2.0", self.base_url))
    }

    /// A validity that ends in `seconds`, which may be negative: then it is over already.
    pub(super) fn ending_in(&self, seconds: i64) -> Validity {
        let now = self.now();
        let until = UnixTime(now.0.saturating_add_signed(seconds));
        Validity { from: now.min(until).minus(BACKDATED), until }
    }

    /// The validity of a token that nothing special was said about.
    pub(super) fn usual(&self) -> Validity {
        let now = self.now();
        Validity { from: now.minus(BACKDATED), until: now.plus(LIFETIME) }
    }

    /// The claims of an access token of a user.
    pub(super) fn delegated(&self, of: Delegated<'_>, validity: Validity) -> Claims {
        let mut claims = self.about_user(of.user, of.audience, validity);
        claims.extend([
            ("azp".to_owned(), of.client.client_id.into()),
            ("azpacr".to_owned(), of.client.acr().into()),
            ("idtyp".to_owned(), "user".into()),
        ]);
        if !of.scopes.is_empty() {
            claims.insert("scp".to_owned(), of.scopes.join(" ").into());
        }
        claims
    }

    /// The claims of an access token of an application by itself.
    pub(super) fn app_only(
        &self,
        client: &App,
        audience: &str,
        roles: &[&str],
        validity: Validity,
    ) -> Claims {
        let mut claims = self.common(audience, validity);
        claims.extend([
            ("azp".to_owned(), client.client_id.into()),
            ("azpacr".to_owned(), client.acr().into()),
            ("idtyp".to_owned(), "app".into()),
            ("oid".to_owned(), client.object_id.into()),
            ("sub".to_owned(), client.object_id.into()),
        ]);
        if !roles.is_empty() {
            claims.insert("roles".to_owned(), roles.into());
        }
        claims
    }

    /// The claims of an ID token of `user` for `client`.
    pub(super) fn id_token(&self, user: &User, client: &App) -> Claims {
        self.about_user(user, client.client_id, self.usual())
    }

    /// The claims of a refresh token of `user` for `client`. Ours alone: no client looks inside.
    pub(super) fn refresh_token(&self, user: &User, client: &App) -> Claims {
        let validity = Validity { until: self.now().plus(REFRESH_LIFETIME), ..self.usual() };
        let mut claims = self.common(REFRESH_AUDIENCE, validity);
        claims.insert("azp".to_owned(), client.client_id.into());
        claims.insert("oid".to_owned(), user.oid.into());
        claims
    }

    /// Whether `claims` are those of [`Self::refresh_token`].
    pub(super) fn is_refresh(claims: &Claims) -> bool {
        text(claims, "aud") == Some(REFRESH_AUDIENCE)
    }

    /// Signs claims into a token.
    pub(super) fn sign(&self, claims: &Claims) -> Result<String, jsonwebtoken::errors::Error> {
        self.keys.sign(claims)
    }

    /// The claims of a token that we signed and that is good now. Audience, client and
    /// scopes are not looked at. No clock skew is allowed: there is one clock here.
    pub(super) fn verify(&self, token: &str) -> Result<Claims, Unfit> {
        let claims = self.keys.verify(token).map_err(|reason| match reason {
            NotOurs::Malformed => Unfit::Malformed,
            NotOurs::Signature => Unfit::Signature,
        })?;
        let now = self.now().0;
        if text(&claims, "iss") != Some(&self.issuer) {
            return Err(Unfit::Issuer);
        }
        if claims.get("exp").and_then(Value::as_u64).is_none_or(|exp| exp <= now) {
            return Err(Unfit::Expired);
        }
        if claims.get("nbf").is_some_and(|nbf| nbf.as_u64().is_none_or(|nbf| nbf > now)) {
            return Err(Unfit::NotYetValid);
        }
        Ok(claims)
    }

    fn about_user(&self, user: &User, audience: &str, validity: Validity) -> Claims {
        let mut claims = self.common(audience, validity);
        claims.extend([
            ("name".to_owned(), user.name.into()),
            ("oid".to_owned(), user.oid.into()),
            ("preferred_username".to_owned(), user.upn().into()),
            ("rh".to_owned(), format!("1.{}.", identifier()).into()),
            ("sub".to_owned(), pairwise(user, audience).into()),
        ]);
        claims
    }

    fn common(&self, audience: &str, validity: Validity) -> Claims {
        Claims::from_iter([
            ("aud".to_owned(), audience.into()),
            ("iss".to_owned(), self.issuer.clone().into()),
            ("iat".to_owned(), json!(validity.from.0)),
            ("nbf".to_owned(), json!(validity.from.0)),
            ("exp".to_owned(), json!(validity.until.0)),
            ("tid".to_owned(), TENANT.into()),
            ("uti".to_owned(), identifier().into()),
            ("ver".to_owned(), "2.0".into()),
        ])
    }
}

/// The claim `name` if it is a string.
pub(super) fn text<'a>(claims: &'a Claims, name: &str) -> Option<&'a str> {
    claims.get(name).and_then(Value::as_str)
}

/// A random id that looks like Entra's `uti`. It names a token and protects nothing.
fn identifier() -> String {
    URL_SAFE_NO_PAD.encode(random_uuid().as_bytes())
}

/// A random UUID (version 4). It names things and protects nothing.
pub(super) fn random_uuid() -> Uuid {
    uuid::Builder::from_random_bytes(fastrand::u128(..).to_be_bytes()).into_uuid()
}

/// `sub`: the same user is another subject for each audience.
fn pairwise(user: &User, audience: &str) -> String {
    let digest = TokenDigest::of(format!("{} {audience}", user.oid).as_bytes());
    URL_SAFE_NO_PAD.encode(digest.as_bytes())
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::Clock;
    use crate::dev::directory::{GATEWAY_CLIENT_ID, PUBLIC_CLIENT, user};

    /// 2026-01-01T00:00:00Z, for ever.
    #[derive(Debug)]
    pub(in crate::dev) struct Frozen;

    pub(in crate::dev) const NOW: u64 = 1_767_225_600;

    impl Clock for Frozen {
        fn now(&self) -> UnixTime {
            UnixTime(NOW)
        }
    }

    pub(in crate::dev) const BASE: &str = "http://127.0.0.1:9010";

    pub(in crate::dev) fn authority() -> Authority {
        Authority::new(BASE.to_owned(), Keys::generate().unwrap(), Arc::new(Frozen))
    }

    fn alices(authority: &Authority, validity: Validity) -> Claims {
        let (user, client) = (user("alice").unwrap(), &PUBLIC_CLIENT);
        let scopes = ["access_as_user".to_owned()];
        let of = Delegated { user, client, audience: GATEWAY_CLIENT_ID, scopes: &scopes };
        authority.delegated(of, validity)
    }

    #[test]
    fn an_access_token_has_the_claims_of_entras_v2_tokens() {
        let authority = authority();
        let claims = alices(&authority, authority.usual());
        for (name, value) in [
            ("aud", json!(GATEWAY_CLIENT_ID)),
            ("iss", json!(format!("{BASE}/{TENANT}/v2.0"))),
            ("exp", json!(NOW + 3600)),
            ("nbf", json!(NOW - 300)),
            ("azp", json!("20000000-0000-4000-8000-000000000002")),
            ("azpacr", json!("0")),
            ("oid", json!("30000000-0000-4000-8000-000000000001")),
            ("preferred_username", json!("alice@dev.local")),
            ("scp", json!("access_as_user")),
            ("tid", json!(TENANT)),
            ("ver", json!("2.0")),
        ] {
            assert_eq!(claims.get(name), Some(&value), "{name}");
        }
        assert_eq!(authority.verify(&authority.sign(&claims).unwrap()), Ok(claims));
    }

    #[test]
    fn a_token_is_good_between_nbf_and_exp() {
        let authority = authority();
        let judged = |change: &dyn Fn(&mut Claims)| {
            let mut claims = alices(&authority, authority.ending_in(1));
            change(&mut claims);
            authority.verify(&authority.sign(&claims).unwrap()).err()
        };
        assert_eq!(judged(&|_| ()), None);
        assert_eq!(judged(&|claims| claims["exp"] = json!(NOW)), Some(Unfit::Expired));
        assert_eq!(judged(&|claims| claims["exp"] = json!("never")), Some(Unfit::Expired));
        assert_eq!(judged(&|claims| claims["nbf"] = json!(NOW)), None);
        assert_eq!(judged(&|claims| claims["nbf"] = json!(NOW + 1)), Some(Unfit::NotYetValid));
        assert_eq!(judged(&|claims| claims["iss"] = json!("x")), Some(Unfit::Issuer));
    }

    #[test]
    fn a_token_that_ended_has_begun_before_it_ended() {
        let authority = authority();
        let claims = alices(&authority, authority.ending_in(-7200));
        assert_eq!(claims["exp"], NOW - 7200);
        assert_eq!(claims["nbf"], NOW - 7500);
        let claims = alices(&authority, authority.ending_in(i64::MIN));
        assert_eq!(claims["exp"], 0);
    }

    #[test]
    fn a_subject_is_the_same_for_one_audience_only() {
        let alice = user("alice").unwrap();
        assert_eq!(pairwise(alice, "a"), pairwise(alice, "a"));
        assert_ne!(pairwise(alice, "a"), pairwise(alice, "b"));
        assert_ne!(pairwise(alice, "a"), pairwise(user("bob").unwrap(), "a"));
    }
}
