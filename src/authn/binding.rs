//! What a token is bound to (`cnf`, RFC 7800), and whether the one who presents it holds that.
//!
//! [`Vouched`] is a token that was verified by itself. Who it speaks of comes out of it only
//! through [`Vouched::held_by`], which looks at this one request: the cache of verified tokens
//! keeps [`Vouched`] ones, so that what was proved once is never taken as proved again.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::identity::Identity;
use crate::peer::CertificateDigest;
use crate::rejection::Rejection;
use crate::secret::InboundToken;

use super::bearer::Scheme;
use super::dpop;
use super::json::{self, Object};
use super::public_place::CalledAt;
use super::refusal;
use super::thumbprint::Thumbprint;
use super::used_proofs::UsedProofs;
use super::{Presented, shown_all};

/// What whoever presents a token must prove to hold.
#[derive(Clone, Copy, Debug)]
enum Binding {
    /// Nothing: the token is worth the same in any hand.
    None,
    /// The certificate of this TLS connection: `x5t#S256` (RFC 8705 §3.1).
    Certificate(CertificateDigest),
    /// A key, with a DPoP proof: `jkt` (RFC 9449 §6.1).
    Key(Thumbprint),
}

/// A token that holds by itself; whether its caller may present it is still to be shown.
#[derive(Clone, Debug)]
pub(super) struct Vouched {
    identity: Arc<Identity>,
    binding: Binding,
}

impl Vouched {
    /// A token that says this, and was verified.
    ///
    /// # Errors
    ///
    /// `token_invalid` for a `cnf` that is not one of the two kinds that are verified here.
    pub(super) fn new(identity: Arc<Identity>) -> Result<Self, Rejection> {
        let binding = Binding::of(identity.claims.get("cnf").as_ref())?;
        Ok(Self { identity, binding })
    }

    /// What the token says, for who keeps it: it is nobody's yet.
    pub(super) fn unproved(&self) -> &Identity {
        &self.identity
    }

    /// The identity, if the caller of this request holds what the token is bound to.
    ///
    /// # Errors
    ///
    /// `token_invalid` where nothing, or something else, proves it, and for a scheme that does
    /// not fit the token; `upstream_overloaded` where no more proofs can be remembered.
    pub(super) fn held_by(
        self,
        token: &InboundToken,
        scheme: Scheme,
        presented: &Presented<'_>,
        called_at: CalledAt,
        proofs: &UsedProofs,
    ) -> Result<Arc<Identity>, Rejection> {
        match (self.binding, scheme) {
            (Binding::None, Scheme::Bearer) => {}
            (Binding::Certificate(wanted), Scheme::Bearer) => check_certificate(wanted, presented)?,
            (Binding::Key(wanted), Scheme::Dpop) => {
                dpop::check(token, wanted, presented, called_at, proofs)?;
            }
            (Binding::Key(wanted), Scheme::Bearer) => {
                return Err(refusal::invalid(format!(
                    "it is bound to the key {wanted} (`cnf.jkt`) and came as `Bearer`; the caller has to send it as `DPoP`, with a proof (RFC 9449 §7.2)"
                )));
            }
            (Binding::None | Binding::Certificate(_), Scheme::Dpop) => {
                return Err(refusal::invalid(
                    "it came as `DPoP` and is not bound to a key (no `cnf.jkt`); the caller has to ask the provider for one that is, or send it as `Bearer`",
                ));
            }
        }
        Ok(self.identity)
    }
}

impl Binding {
    /// `cnf`: what a token is bound to.
    fn of(cnf: Option<&Value>) -> Result<Self, Rejection> {
        let Some(cnf) = cnf else { return Ok(Self::None) };
        let Value::Object(members) = cnf else {
            return Err(refusal::invalid("`cnf` is not an object"));
        };
        let mut members = members.iter();
        // One key only (RFC 7800 §3.1): with two, one reader would ask for this, another for that.
        match (members.next(), members.next()) {
            (Some((name, value)), None) if name == "x5t#S256" => {
                Ok(Self::Certificate(CertificateDigest::named(digest(name, value)?)))
            }
            (Some((name, value)), None) if name == "jkt" => {
                Ok(Self::Key(Thumbprint::named(digest(name, value)?)))
            }
            (None, _) => Err(refusal::invalid("`cnf` is empty; nothing can be proved by it")),
            (Some((first, _)), more) => {
                let names = std::iter::once(first)
                    .chain(more.map(|(name, _)| name))
                    .chain(members.map(|(name, _)| name));
                Err(refusal::invalid(format!(
                    "its `cnf` has {}, and what is verified here is one of `x5t#S256` (a client certificate) and `jkt` (DPoP)",
                    shown_all(names.map(String::as_str))
                )))
            }
        }
    }
}

/// SHA-256 in base64url without padding, and nothing that only looks like it.
fn digest(name: &str, value: &Value) -> Result<[u8; 32], Rejection> {
    let bytes = value.as_str().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok()).ok_or_else(|| {
        refusal::invalid(format!("`cnf.{name}` is not 32 bytes in base64url without padding"))
    })
}

/// For who can't prove anything, as there is no request: refuses claims that bind their token.
pub(super) fn refuse_bound(claims: &Object<'_>) -> Result<(), Rejection> {
    match Binding::of(claims.get("cnf").map(json::Value::to_owned).as_ref())? {
        Binding::None => Ok(()),
        Binding::Certificate(_) | Binding::Key(_) => Err(refusal::invalid(
            "it is bound to its caller (`cnf`), and claims alone prove nothing of that",
        )),
    }
}

fn check_certificate(
    wanted: CertificateDigest,
    presented: &Presented<'_>,
) -> Result<(), Rejection> {
    let found = match presented.peer.certificate {
        Some(shown) if shown.matches(&wanted) => return Ok(()),
        Some(shown) => format!("this connection showed {shown}"),
        None if presented.peer.tls => "this connection showed none; the caller has to, and the listener needs `client_ca_file` to ask for it".to_owned(),
        None => "this connection has no TLS".to_owned(),
    };
    Err(refusal::invalid(format!(
        "it is bound to the client certificate {wanted} (`cnf.x5t#S256`), and {found}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, json};

    fn of(cnf: Value) -> Result<Binding, String> {
        let claims = Map::from_iter([("cnf".to_owned(), cnf)]);
        Binding::of(claims.get("cnf")).map_err(|rejection| rejection.reason())
    }

    #[test]
    fn one_member_of_a_known_kind_binds() {
        let digest = URL_SAFE_NO_PAD.encode([7; 32]);
        assert!(matches!(Binding::of(None), Ok(Binding::None)));
        assert!(matches!(of(json!({"x5t#S256": digest})), Ok(Binding::Certificate(_))));
        assert!(matches!(of(json!({"jkt": digest})), Ok(Binding::Key(_))));
    }

    #[test]
    fn every_other_cnf_is_refused() {
        let digest = URL_SAFE_NO_PAD.encode([7; 32]);
        for (cnf, why) in [
            (json!(null), "not an object"),
            (json!([]), "not an object"),
            (json!("jkt"), "not an object"),
            (json!({}), "`cnf` is empty"),
            (json!({"jwk": {}}), "`jwk`"),
            (json!({"kid": "k"}), "`kid`"),
            (json!({"jku": "https://a.example"}), "`jku`"),
            (json!({"JKT": digest}), "`JKT`"),
            (json!({"x5t#s256": digest}), "`x5t#s256`"),
            (json!({"x5t": digest}), "`x5t`"),
            (json!({"jkt": digest, "x5t#S256": digest}), "`jkt`, `x5t#S256`"),
            (json!({"jkt": digest, "kid": "k", "x": 1}), "`jkt`, `kid`, `x`"),
            (json!({"jkt": null}), "`cnf.jkt` is not 32 bytes"),
            (json!({"jkt": [digest]}), "`cnf.jkt` is not 32 bytes"),
            (json!({"jkt": ""}), "`cnf.jkt` is not 32 bytes"),
            (json!({"jkt": format!("{digest}=")}), "`cnf.jkt` is not 32 bytes"),
            (json!({"jkt": digest.replace('_', "/").replace('c', "+")}), "`cnf.jkt` is not"),
            (json!({"jkt": format!(" {digest}")}), "`cnf.jkt` is not 32 bytes"),
            (json!({"jkt": URL_SAFE_NO_PAD.encode([7; 31])}), "`cnf.jkt` is not 32 bytes"),
            (json!({"x5t#S256": URL_SAFE_NO_PAD.encode([7; 33])}), "`cnf.x5t#S256` is not"),
            // A stray bit at the end: one digest has one spelling.
            (
                json!({"jkt": format!("{}d", digest.strip_suffix('c').unwrap())}),
                "`cnf.jkt` is not 32 bytes",
            ),
        ] {
            let reason = of(cnf.clone()).unwrap_err();
            assert!(reason.contains(why), "{cnf}: {reason}");
        }
    }
}
