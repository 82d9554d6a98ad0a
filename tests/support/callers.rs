//! What callers prove themselves with: certificates of a CA, and DPoP proofs (RFC 9449).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest::{SHA256, digest};
use obo_gateway::trust::Roots;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Map, Value, json};

use super::clock::START;
use super::keys::{Key, encode};
use super::token::registered;

/// An authority that certifies callers.
pub struct CallerCa {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate of a caller, with its key.
pub struct CallerCertificate {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl CallerCa {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self { issuer: CertifiedIssuer::self_signed(params, key).unwrap() }
    }

    /// Its own certificate.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A new certificate for a caller.
    pub fn certify(&self, name: &str) -> CallerCertificate {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        CallerCertificate { chain: vec![certificate.der().clone()], key }
    }
}

impl CallerCertificate {
    /// `x5t#S256` of RFC 8705 §3.1.
    pub fn digest(&self) -> String {
        encode(digest(&SHA256, &self.chain[0]))
    }
}

/// A TLS client that believes `server` (PEM), shows `shown`, and speaks `alpn`.
pub fn tls(server: &str, shown: Option<&CallerCertificate>, alpn: &str) -> Arc<ClientConfig> {
    tls_of(server, shown, alpn, rustls::ALL_VERSIONS)
}

/// The same, of these versions of TLS only.
pub fn tls_of(
    server: &str,
    shown: Option<&CallerCertificate>,
    alpn: &str,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let Roots::Only(certificates) = Roots::from_pem(server.as_bytes()).unwrap() else {
        unreachable!("a PEM file names its roots")
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_protocol_versions(versions).unwrap();
    let builder = builder.with_root_certificates(roots);
    let mut config = match shown {
        Some(own) => builder.with_client_auth_cert(own.chain.clone(), own.key.clone_key()).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    Arc::new(config)
}

/// The thumbprint of a key (RFC 7638), as `jkt` holds it.
pub fn jkt(key: &Key) -> String {
    // Sorted by name, no spaces: what `serde_json` writes of a `Map`.
    encode(digest(&SHA256, Value::Object(public(key)).to_string().as_bytes()))
}

/// The members of a JWK that make the key.
fn public(key: &Key) -> Map<String, Value> {
    let Value::Object(jwk) = key.jwk() else { unreachable!("a JWK is an object") };
    let needed = ["crv", "e", "kty", "n", "x", "y"];
    jwk.into_iter().filter(|(name, _)| needed.contains(&name.as_str())).collect()
}

/// A proof in the making; starts as an honest caller would make it.
pub struct Proof {
    key: Key,
    claims: Value,
}

impl Proof {
    /// For a request with `method` of `url` that carries `token`, made at [`START`] by `key`.
    pub fn of(key: &Key, token: &str, method: &str, url: &str) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let jti = format!("it-proof-{:08}", NUMBER.fetch_add(1, Ordering::SeqCst));
        let ath = encode(digest(&SHA256, token.as_bytes()));
        let claims = json!({"jti": jti, "htm": method, "htu": url, "iat": START.0, "ath": ath});
        Self { key: key.clone(), claims }
    }

    /// Sets a claim.
    #[must_use]
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims[name] = value.into();
        self
    }

    /// Signs it; from then on it is looked for wherever tokens must not be seen.
    pub fn build(&self) -> String {
        let alg = self.key.alg();
        let header = json!({"typ": "dpop+jwt", "alg": alg.name(), "jwk": public(&self.key)});
        let signed = format!("{}.{}", encode(header.to_string()), encode(self.claims.to_string()));
        let signature = encode(self.key.sign(alg, signed.as_bytes()));
        registered(format!("{signed}.{signature}"))
    }
}
