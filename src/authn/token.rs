//! The form and the signature of a token: a JWS in compact serialisation (RFC 7515 §7.1).
//!
//! [`Unverified`] has passed the checks that cost little and need no key, and is only good
//! for choosing the provider and the key. [`VerifiedClaims`] is the witness that the
//! signature held; nothing else makes one. What the claims mean is for `claims.rs`.
//!
//! jsonwebtoken has no part in this: it looks at `nbf` only where asked to, skips the check of `iss`,
//! `aud` or `sub` that has the wrong JSON type, and enforces neither `crit` nor `typ`.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::limits;
use crate::rejection::Rejection;
use crate::secret::InboundToken;

use super::algorithm::Algorithm;
use super::bearer;
use super::header_type::HeaderType;
use super::json::{self, Object, Value};
use super::keys::{Key, Verifier};
use super::refusal::{self, shown};

/// The parts of a token, of which nothing but the form is known.
pub(super) struct Parts<'t> {
    signed: &'t str,
    header: Vec<u8>,
    payload: Vec<u8>,
    /// In base64url, or what should be.
    signature: &'t str,
}

/// A token whose signature has not been checked: nothing in it may be believed yet.
pub(super) struct Unverified<'p> {
    parts: &'p Parts<'p>,
    header: Header,
    claims: Object<'p>,
}

/// What is used of a JOSE header.
struct Header {
    algorithm: Algorithm,
    kid: String,
    typ: Option<HeaderType>,
}

/// The claims of a token whose signature held. Made only by [`Unverified::verify`].
pub(super) struct VerifiedClaims<'p> {
    claims: Object<'p>,
}

impl<'p> VerifiedClaims<'p> {
    /// The claims.
    pub(super) fn into_claims(self) -> Object<'p> {
        self.claims
    }
}

impl<'t> Parts<'t> {
    /// Takes a token apart; `bearer.rs` has seen to it that it is not too long.
    ///
    /// # Errors
    ///
    /// 400 for what is not one token, `token_invalid` for one that has not three parts, the first
    /// two in base64url.
    pub(super) fn of(token: &'t InboundToken) -> Result<Self, Rejection> {
        bearer::check_alphabet(token)?;
        let text = token.expose();
        let mut parts = text.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(refusal::invalid(match text.split('.').count() {
                1 => {
                    "it is opaque, and not a JWT; ask the provider for a token for this API".into()
                }
                5 => "it is encrypted (a JWE of 5 parts), which is not supported".into(),
                count => format!("it has {count} parts, and a signed JWT has 3"),
            }));
        };
        let signed = text.get(..header.len() + 1 + payload.len()).unwrap_or_default();
        let (header, payload) = (decode(header, "header")?, decode(payload, "payload")?);
        Ok(Self { signed, header, payload, signature })
    }
}

impl<'p> Unverified<'p> {
    /// Reads what a token says.
    ///
    /// # Errors
    ///
    /// `token_invalid` for one that is not signed, is not plain JSON, or whose header asks for
    /// something that is not done here.
    pub(super) fn read(parts: &'p Parts<'p>) -> Result<Self, Rejection> {
        let header = read_header(&parts.header)?;
        if parts.signature.is_empty() {
            return Err(refusal::invalid("it is not signed"));
        }
        let claims = json::object(&parts.payload)
            .map_err(|error| refusal::invalid("its payload").caused_by(error))?;
        Ok(Self { parts, header, claims })
    }

    /// The algorithm that its header names.
    pub(super) fn algorithm(&self) -> Algorithm {
        self.header.algorithm
    }

    /// The form that its header names, if it names one.
    pub(super) fn typ(&self) -> Option<HeaderType> {
        self.header.typ
    }

    /// The name of the key that its header gives.
    pub(super) fn kid(&self) -> &str {
        &self.header.kid
    }

    /// What it claims, not to be believed yet.
    pub(super) fn claims(&self) -> &Object<'p> {
        &self.claims
    }

    /// Checks the signature with `key`.
    ///
    /// # Errors
    ///
    /// `token_invalid` if the key is not for the token's algorithm or the signature is wrong.
    pub(super) fn verify(self, key: &Key) -> Result<VerifiedClaims<'p>, Rejection> {
        let algorithm = self.header.algorithm;
        let Some(verifier) = key.verifier(algorithm) else {
            return Err(refusal::invalid(format!(
                "its `alg` is {}, and key {} ({}) is not for that",
                algorithm,
                shown(key.kid()),
                key.describe()
            )));
        };
        if signature_holds(self.parts.signed, self.parts.signature, verifier) {
            return Ok(VerifiedClaims { claims: self.claims });
        }
        Err(refusal::invalid(format!(
            "its signature is not one of key {} ({}, {})",
            shown(key.kid()),
            key.describe(),
            self.algorithm()
        )))
    }
}

/// Whether `signature`, which has to be base64url, is one over `signed`.
pub(super) fn signature_holds(signed: &str, signature: &str, verifier: &Verifier) -> bool {
    let signature = URL_SAFE_NO_PAD.decode(signature);
    signature.is_ok_and(|signature| verifier.holds(signed.as_bytes(), &signature))
}

/// Base64url without padding; stray bits at the end are refused, so that one token has one spelling.
fn decode(part: &str, name: &str) -> Result<Vec<u8>, Rejection> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|error| refusal::invalid(format!("its {name} is not base64url")).caused_by(error))
}

/// Judges the JOSE header and takes what is used from it.
fn read_header(text: &[u8]) -> Result<Header, Rejection> {
    let header =
        json::object(text).map_err(|error| refusal::invalid("its header").caused_by(error))?;
    let member = |name: &str| match header.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(&**text)),
        Some(_) => Err(refusal::invalid(format!("`{name}` in its header is not a string"))),
    };
    // Keys come from the provider alone (RFC 8725 §3.10), and no extension is understood.
    for name in ["crit", "b64", "jwk", "jku", "x5u", "enc", "zip"] {
        if header.has(name) {
            return Err(refusal::invalid(format!("its header has `{name}`, which is not allowed")));
        }
    }
    let typ = match member("typ")? {
        None => None,
        Some(text) => Some(HeaderType::named(text).ok_or_else(|| {
            refusal::invalid(format!(
                "its `typ` is {}; an access token has `JWT`, `at+jwt` or none",
                shown(text)
            ))
        })?),
    };
    if member("cty")?.is_some_and(|content| content.eq_ignore_ascii_case("JWT")) {
        return Err(refusal::invalid("its `cty` says that another token is nested in it"));
    }
    let name = member("alg")?.ok_or_else(|| refusal::invalid("its header has no `alg`"))?;
    let algorithm = Algorithm::named(name).ok_or_else(|| {
        refusal::invalid(format!("its `alg` is {}, which is never accepted", shown(name)))
    })?;
    let kid = member("kid")?.filter(|kid| !kid.is_empty());
    let kid = kid.ok_or_else(|| refusal::invalid("its header has no `kid`"))?;
    if kid.len() > limits::MAX_KID_BYTES {
        return Err(refusal::invalid(format!("its `kid` has {} bytes", kid.len())));
    }
    Ok(Header { algorithm, kid: kid.to_owned(), typ })
}
