//! DPoP (RFC 9449): whether a request carries a proof, made for it and for no other, by the key
//! that its token is bound to.
//!
//! A proof is a small token that the caller signs itself, so nothing in it is worth anything
//! but what is compared here with the request. It is good once ([`UsedProofs`]).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderName, HeaderValue};

use crate::clock::UnixTime;
use crate::limits;
use crate::rejection::{Code, Extra, Rejection};
use crate::secret::InboundToken;

use super::Presented;
use super::algorithm::Algorithm;
use super::json::{self, Object, Value};
use super::keys::Material;
use super::public_place::{CalledAt, PublicPlace};
use super::refusal::shown;
use super::thumbprint::Thumbprint;
use super::token;
use super::typed::{self, Round};
use super::used_proofs::{Refused, UsedProofs};

/// The header field that carries a proof.
pub const DPOP: HeaderName = HeaderName::from_static("dpop");

/// What a proof may be signed with: all that there is, since nothing symmetric is.
pub const PROOF_ALGORITHMS: [Algorithm; 9] = Algorithm::ALL;

/// Checks that a request with `token` carries a proof of the key `bound_to` (RFC 9449 §4.3).
///
/// The order is security: what costs little goes first, nothing is believed before the
/// signature held, and only a proof that is good in all else is remembered as used.
///
/// # Errors
///
/// `token_invalid`, with a challenge that names `invalid_dpop_proof`.
pub(super) fn check(
    token: &InboundToken,
    bound_to: Thumbprint,
    presented: &Presented<'_>,
    called_at: CalledAt,
    proofs: &UsedProofs,
) -> Result<(), Rejection> {
    let mut fields = presented.headers.get_all(DPOP).iter();
    let field = match (fields.next(), fields.next()) {
        (Some(field), None) => field,
        (None, _) => return Err(refuse("there is no `DPoP` header with it")),
        (Some(_), Some(_)) => return Err(refuse("there are several `DPoP` headers")),
    };
    let proof = Proof::read(field)?;
    if !proof.thumbprint.matches(&bound_to) {
        return Err(refuse(format!(
            "it is of the key {}, and the token is bound to {bound_to} (`cnf.jkt`)",
            proof.thumbprint
        )));
    }
    let claims = proof.claims()?;
    let claims = object(&claims, PAYLOAD)?;
    check_request(&claims, token, presented, called_at)?;
    let jti = text(&claims, "jti")?;
    if jti.is_empty() || jti.len() > limits::MAX_JTI_BYTES {
        return Err(refuse(format!(
            "its `jti` has {} bytes, and 1 to {} are taken",
            jti.len(),
            limits::MAX_JTI_BYTES
        )));
    }
    let iat = time(&claims, "iat")?;
    proofs.take(bound_to, jti, iat).map_err(|refused| match refused {
        Refused::Untimely(now) => refuse(format!(
            "it was made at {iat} (`iat`), and now is {now}: {} s is the most that the two may differ; compare the clocks",
            limits::PROOF_WINDOW.as_secs()
        )),
        Refused::Again => refuse("it was used before (the same `jti`): each request needs a new one, and if the caller made one, somebody repeats its requests"),
        Refused::Forgotten => refuse("its key has used so many proofs that those of that second are no longer known apart; the caller has to make one when it sends a request"),
        Refused::Full => Rejection::new(
            Code::UpstreamOverloaded,
            "Too many callers at the moment; try again later",
            format!("no more DPoP keys can be remembered: {} were used in the last two minutes", limits::MAX_REMEMBERED_PROOFS),
        )
        .with(Extra::RetryAfter(limits::PROOF_WINDOW)),
    })
}

/// What the second part is called in refusals.
const PAYLOAD: &str = "payload";

/// A proof whose signature has not been checked.
struct Proof<'a> {
    signed: &'a str,
    signature: &'a str,
    payload: &'a str,
    algorithm: Algorithm,
    key: Material,
    thumbprint: Thumbprint,
}

impl<'a> Proof<'a> {
    fn read(field: &'a HeaderValue) -> Result<Self, Rejection> {
        if field.len() > limits::MAX_PROOF_BYTES {
            return Err(refuse(format!(
                "it has {} bytes, and {} is the most that is read",
                field.len(),
                limits::MAX_PROOF_BYTES
            )));
        }
        let text = field.to_str().unwrap_or_default();
        let mut parts = text.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(refuse("it is not a signed JWT, which has 3 parts"));
        };
        let (algorithm, key) = read_header(&object(&decode(header, "header")?, "header")?)?;
        let thumbprint = Thumbprint::of(&key);
        let signed = text.get(..header.len() + 1 + payload.len()).unwrap_or_default();
        Ok(Self { signed, signature, payload, algorithm, key, thumbprint })
    }

    /// The text of the claims, once the signature held.
    fn claims(&self) -> Result<Vec<u8>, Rejection> {
        let flawed = |flaw| refuse(format!("its `jwk` can't be used: {flaw}"));
        let key = self.key.verifier(self.algorithm).map_err(flawed)?;
        if !token::signature_holds(self.signed, self.signature, &key) {
            return Err(refuse("its signature is not one of its `jwk`"));
        }
        decode(self.payload, PAYLOAD)
    }
}

/// Judges the JOSE header and takes the algorithm and the key from it (RFC 9449 §4.2).
fn read_header(header: &Object<'_>) -> Result<(Algorithm, Material), Rejection> {
    // No extension is understood, and the key is in `jwk`, never behind a URL.
    for name in ["crit", "b64", "jku", "x5u", "enc", "zip"] {
        if header.has(name) {
            return Err(refuse(format!("its header has `{name}`, which is not allowed")));
        }
    }
    let kind = text(header, "typ")?;
    if kind != "dpop+jwt" {
        return Err(refuse(format!("its `typ` is {}, and not `dpop+jwt`", shown(kind))));
    }
    let name = text(header, "alg")?;
    let algorithm = Algorithm::named(name).filter(|named| PROOF_ALGORITHMS.contains(named));
    let algorithm = algorithm
        .ok_or_else(|| refuse(format!("its `alg` is {}, which is never accepted", shown(name))))?;
    let Some(Value::Object(jwk)) = header.get("jwk") else {
        return Err(refuse("its header has no `jwk` that is an object"));
    };
    for name in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
        if jwk.has(name) {
            return Err(refuse(format!(
                "its `jwk` has `{name}`: the caller sends its private key about, and has to make a new one"
            )));
        }
    }
    let key =
        Material::read(jwk).map_err(|flaw| refuse(format!("its `jwk` can't be used: {flaw}")))?;
    let fits = key.fits(algorithm) && jwk.get("alg").is_none_or(|own| own.as_str() == Some(name));
    if fits { Ok((algorithm, key)) } else { Err(refuse("its `jwk` is not for its `alg`")) }
}

/// Whether the proof was made for this request and this token.
fn check_request(
    claims: &Object<'_>,
    token: &InboundToken,
    presented: &Presented<'_>,
    called_at: CalledAt,
) -> Result<(), Rejection> {
    let (method, asked) = (text(claims, "htm")?, presented.target.method().as_str());
    if method != asked {
        return Err(refuse(format!(
            "it is for the method {} (`htm`), and this is {}",
            shown(method),
            shown(asked)
        )));
    }
    let named = PublicPlace::read(text(claims, "htu")?);
    let called = PublicPlace::of_request(presented, called_at);
    if named.is_none() || named != called {
        // Never as it is written: there may be a query in it, and in that a secret.
        let shown = |place: Option<PublicPlace>, else_it_is: &str| {
            place.map_or_else(|| else_it_is.to_owned(), |place| shown(&place.to_string()))
        };
        return Err(refuse(format!(
            "it is for {} (`htu`), and this request for {}; the caller has to sign the URL that it calls, and that has to be below `server.public_url`, or at a host of the route's own `hosts`",
            shown(named, "what is no URL of a gateway"),
            shown(called, "a URL without a host")
        )));
    }
    let hash = URL_SAFE_NO_PAD.decode(text(claims, "ath")?).unwrap_or_default();
    if aws_lc_rs::constant_time::verify_slices_are_equal(&hash, token.digest().as_bytes()).is_err()
    {
        return Err(refuse("it is for another token (`ath`)"));
    }
    Ok(())
}

/// The text of a part of a proof.
fn decode(part: &str, name: &str) -> Result<Vec<u8>, Rejection> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|error| refuse(format!("its {name} is not base64url")).caused_by(error))
}

/// A part of a proof, as an object.
fn object<'d>(text: &'d [u8], name: &str) -> Result<Object<'d>, Rejection> {
    json::object(text).map_err(|error| refuse(format!("its {name}")).caused_by(error))
}

fn text<'a>(members: &'a Object<'_>, name: &str) -> Result<&'a str, Rejection> {
    match members.get(name) {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(refuse(format!("its `{name}` is not a string"))),
        None => Err(refuse(format!("it has no `{name}`"))),
    }
}

/// A time in seconds; a fraction is cut off.
fn time(members: &Object<'_>, name: &str) -> Result<UnixTime, Rejection> {
    let value = members.get(name).ok_or_else(|| refuse(format!("it has no `{name}`")))?;
    let seconds = value.as_number().and_then(|number| typed::seconds(number, Round::Down));
    seconds.ok_or_else(|| refuse(format!("its `{name}` is not a time in seconds")))
}

/// 401: the proof is not accepted. `why` goes on after "DPoP proof refused: ".
fn refuse(why: impl AsRef<str>) -> Rejection {
    let reason = format!("DPoP proof refused: {}", why.as_ref());
    Rejection::new(Code::TokenInvalid, "The DPoP proof is not accepted here", reason)
        .with(Extra::Dpop("invalid_dpop_proof"))
}
