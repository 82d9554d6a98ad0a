//! How the gateway proves to the provider that it is its client: checked as strictly as any
//! server does, and every assertion is remembered, as one that comes twice is a replay.

use std::collections::HashSet;
use std::sync::{LazyLock, Mutex};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256,
    UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::header::{AUTHORIZATION, HOST};
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Map, Value};

use super::clock::START;
use super::grants::{Desk, Fault};
use super::obo::{Answer, Form};
use super::registry;
use super::token::{CLIENT_ID, CLIENT_SECRET, OIDC_CLIENT};

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The one proof that a provider takes.
#[derive(Clone, Debug)]
pub enum Proof {
    /// The secret in the form.
    Post(String),
    /// The secret as `Authorization: Basic`.
    Basic(String),
    /// An assertion signed with this.
    Signed(Signer),
    /// Exactly this assertion.
    Federated(String),
}

/// The public half of a key, and what an assertion by it must name.
#[derive(Clone, Debug)]
pub struct Signer {
    alg: &'static str,
    /// The member of the header, and its value.
    name: (&'static str, String),
    public: Vec<u8>,
}

/// A key pair with its PEM; for RSA keys with a certificate too.
pub struct Pair {
    pub key_pem: String,
    pub certificate_pem: String,
    certificate: Vec<u8>,
    public: Vec<u8>,
}

impl Pair {
    fn new(key: &KeyPair, until: (i32, u8, u8)) -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.not_after = rcgen::date_time_ymd(until.0, until.1, until.2);
        let certificate = parameters.self_signed(key).unwrap();
        let key_pem = key.serialize_pem();
        for line in key_pem.lines().filter(|line| line.len() >= 32 && !line.contains('-')) {
            registry::secret(line);
        }
        Self {
            key_pem,
            certificate_pem: certificate.pem(),
            certificate: certificate.der().to_vec(),
            public: key.public_key_raw().to_vec(),
        }
    }

    /// RSA of 2,048 bits, with a certificate until then.
    pub fn rsa_until(year: i32, month: u8, day: u8) -> Self {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        Self::new(&key, (year, month, day))
    }

    /// RSA of 2,048 bits, made once.
    pub fn rsa() -> &'static Self {
        static PAIR: LazyLock<Pair> = LazyLock::new(|| Pair::rsa_until(2040, 1, 1));
        &PAIR
    }

    /// Another one.
    pub fn rsa_other() -> &'static Self {
        static PAIR: LazyLock<Pair> = LazyLock::new(|| Pair::rsa_until(2040, 1, 1));
        &PAIR
    }

    /// For ES256.
    pub fn p256() -> Self {
        Self::new(&KeyPair::generate().unwrap(), (2040, 1, 1))
    }

    /// For `EdDSA`.
    pub fn ed25519() -> Self {
        Self::new(&KeyPair::generate_for(&PKCS_ED25519).unwrap(), (2040, 1, 1))
    }

    /// Its certificate's SHA-256, base64url.
    pub fn thumbprint(&self) -> String {
        URL_SAFE_NO_PAD.encode(digest(&SHA256, &self.certificate))
    }

    /// What Entra takes of it.
    pub fn as_certificate(&self) -> Proof {
        let name = ("x5t#S256", self.thumbprint());
        Proof::Signed(Signer { alg: "PS256", name, public: self.public.clone() })
    }

    /// What others take of it, registered as `kid`.
    pub fn as_key(&self, kid: &str, alg: &'static str) -> Proof {
        Proof::Signed(Signer { alg, name: ("kid", kid.to_owned()), public: self.public.clone() })
    }
}

/// What the provider knows of its client.
pub struct ClientAuth {
    proof: Mutex<Proof>,
    /// The `jti` of every assertion that came.
    seen: Mutex<HashSet<String>>,
}

impl ClientAuth {
    /// The secret of the tests, in the form.
    pub fn new() -> Self {
        registry::secret(CLIENT_SECRET);
        let proof = Mutex::new(Proof::Post(CLIENT_SECRET.to_owned()));
        Self { proof, seen: Mutex::default() }
    }

    /// From now on it takes this and nothing else.
    pub fn expect(&self, proof: Proof) {
        if let Proof::Post(secret) | Proof::Basic(secret) | Proof::Federated(secret) = &proof {
            registry::secret(secret);
        }
        *self.proof.lock().unwrap() = proof;
    }

    /// Remembers an assertion, also one that nobody answers.
    pub fn record(&self, form: &Form) -> Result<(), Fault> {
        let Some(assertion) = form.field("client_assertion") else { return Ok(()) };
        let jti =
            part(assertion, 1).and_then(|claims| Some(claims.get("jti")?.as_str()?.to_owned()));
        let signed = matches!(&*self.proof.lock().unwrap(), Proof::Signed(_));
        let is_new = jti.is_none_or(|jti| self.seen.lock().unwrap().insert(jti));
        if signed && !is_new { mistake("an assertion comes a second time") } else { Ok(()) }
    }

    /// Whether the gateway is the client that it says it is.
    pub fn judge(&self, desk: Desk<'_>, form: &Form) -> Result<(), Fault> {
        let own = match desk {
            Desk::Entra(_) => CLIENT_ID,
            Desk::Realm => OIDC_CLIENT,
        };
        let proof = self.proof.lock().unwrap().clone();
        let authorization = form.headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap());
        let is_basic = matches!(proof, Proof::Basic(_));
        // Basic says who it is; all others say it in the form.
        if !is_basic && form.field("client_id") != Some(own) {
            return refuse(400, "unauthorized_client", 700_016);
        }
        if is_basic != authorization.is_some() {
            return mistake(format!("`Authorization` is there: {}", authorization.is_some()));
        }
        let fields = ["client_secret", "client_assertion", "client_assertion_type"];
        let sent: Vec<_> = fields.into_iter().filter(|name| form.field(name).is_some()).collect();
        let expected: &[&str] = match &proof {
            Proof::Post(_) => &fields[..1],
            Proof::Basic(_) => &[],
            Proof::Signed(_) | Proof::Federated(_) => &fields[1..],
        };
        if sent != expected {
            return mistake(format!("{sent:?} are sent where {expected:?} belong"));
        }
        let assertion = form.field("client_assertion").unwrap_or_default();
        if !assertion.is_empty() {
            registry::secret(assertion);
            if form.field("client_assertion_type") != Some(ASSERTION_TYPE) {
                return mistake("the type of the assertion is not that of a JWT");
            }
        }
        match proof {
            Proof::Post(secret) if form.field("client_secret") == Some(&secret) => Ok(()),
            Proof::Basic(secret) => basic(authorization.unwrap_or_default(), own, &secret),
            Proof::Signed(signer) => signer.judge(assertion, own, &endpoint(desk, form)),
            Proof::Federated(token) if token == assertion => Ok(()),
            Proof::Post(_) => refuse(401, "invalid_client", 7_000_215),
            Proof::Federated(_) => refuse(401, "invalid_client", 700_211),
        }
    }
}

impl Signer {
    fn judge(&self, assertion: &str, client: &str, endpoint: &str) -> Result<(), Fault> {
        let (Some(header), Some(claims)) = (part(assertion, 0), part(assertion, 1)) else {
            return mistake("the assertion is no JWT");
        };
        let (member, value) = &self.name;
        let expected: Map<String, Value> = [("alg", self.alg), ("typ", "JWT"), (member, value)]
            .into_iter()
            .map(|(name, value)| (name.to_owned(), Value::from(value)))
            .collect();
        if header.get(*member) != expected.get(*member) {
            return refuse(401, "invalid_client", 700_027);
        }
        if header != expected {
            return mistake(format!("the assertion's header is {header:?}"));
        }
        let algorithm: &dyn VerificationAlgorithm = match self.alg {
            "RS256" => &RSA_PKCS1_2048_8192_SHA256,
            "PS256" => &RSA_PSS_2048_8192_SHA256,
            "ES256" => &ECDSA_P256_SHA256_FIXED,
            "EdDSA" => &ED25519,
            other => panic!("{other} is no algorithm of these tests"),
        };
        let (message, signature) = assertion.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let key = UnparsedPublicKey::new(algorithm, &self.public);
        if key.verify(message.as_bytes(), &signature).is_err() {
            return mistake("the assertion's signature does not hold");
        }
        let names: Vec<&str> = claims.keys().map(String::as_str).collect();
        if names != ["aud", "exp", "iat", "iss", "jti", "nbf", "sub"] {
            return mistake(format!("the assertion's claims are {names:?}"));
        }
        for (name, expected) in [("iss", client), ("sub", client), ("aud", endpoint)] {
            if claims[name] != expected {
                return mistake(format!("`{name}` is {} where {expected} belongs", claims[name]));
            }
        }
        let time = |name: &str| claims[name].as_u64().unwrap_or_default();
        let (iat, nbf, exp) = (time("iat"), time("nbf"), time("exp"));
        if iat < START.0 || nbf > iat || iat - nbf > 300 || exp <= iat || exp - iat > 600 {
            return mistake(format!("iat {iat}, nbf {nbf}, exp {exp}"));
        }
        if uuid::Uuid::try_parse(claims["jti"].as_str().unwrap_or_default())
            .map(|id| id.get_version_num())
            != Ok(4)
        {
            return mistake(format!("`jti` is {}", claims["jti"]));
        }
        Ok(())
    }
}

/// RFC 6749 §2.3.1.
fn basic(authorization: &str, client: &str, secret: &str) -> Result<(), Fault> {
    let pair = authorization.strip_prefix("Basic ").and_then(|pair| STANDARD.decode(pair).ok());
    let Some(pair) = pair.and_then(|pair| String::from_utf8(pair).ok()) else {
        return mistake("`Authorization` is not Basic");
    };
    let decoded: Vec<String> = pair
        .split(':')
        .map(|part| {
            let part = format!("x={part}");
            url::form_urlencoded::parse(part.as_bytes()).next().unwrap().1.into_owned()
        })
        .collect();
    if decoded.len() != 2 {
        return mistake("Basic holds other than two parts");
    }
    if decoded == [client, secret] { Ok(()) } else { refuse(401, "invalid_client", 7_000_215) }
}

/// Where the form was sent.
fn endpoint(desk: Desk<'_>, form: &Form) -> String {
    let host = form.headers[HOST].to_str().unwrap();
    match desk {
        Desk::Entra(tenant) => format!("http://{host}/{tenant}/oauth2/v2.0/token"),
        Desk::Realm => format!("http://{host}/realms/main/token"),
    }
}

fn part(token: &str, number: usize) -> Option<Map<String, Value>> {
    let part = token.split('.').nth(number)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

fn mistake<T>(what: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Mistake(what.into()))
}

fn refuse<T>(status: u16, error: &str, number: u32) -> Result<T, Fault> {
    Err(Fault::Refusal(Answer::aadsts(status, error, number)))
}
