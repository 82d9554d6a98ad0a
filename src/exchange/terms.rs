//! The terms of an exchange: who asks which provider, as whom, for what, and for which upstream.
//!
//! Everything that makes two exchanges different but the inbound token itself is here, and
//! its digest is the one half of a cache key. Plain data: knows no network and no cache.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};

use super::forgotten::{NameDigest, digest_of_upstream};
use super::grant::Grant;
use crate::authn::fetch::Address;
use crate::secret::TokenDigest;

/// The terms of an exchange.
#[derive(Debug)]
pub(super) struct Terms {
    /// The provider that is asked: its name in the routes file.
    pub(super) provider: Arc<str>,
    /// How it is asked.
    pub(super) grant: Grant,
    /// `iss` of the inbound token; `None` for a token that is nobody's but the gateway's.
    pub(super) issuer: Option<Arc<str>>,
    /// The tenant that the exchange takes place in: the caller's, where it has one.
    pub(super) tenant: Option<String>,
    /// The gateway's own application.
    pub(super) client_id: String,
    /// What is asked for.
    pub(super) requested: Arc<Requested>,
    /// Where the exchange is sent.
    pub(super) token_endpoint: String,
    /// The same, for the calls.
    pub(super) token_address: Address,
    /// Where a user can interact; for challenges.
    pub(super) authorization_endpoint: Option<String>,
    /// Stands for the upstream where its tokens are forgotten.
    pub(super) upstream: NameDigest,
    exchange: [u8; 32],
    throttle: [u8; 32],
}

/// What the routes file asks a provider for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requested {
    /// The scopes, in the order of the file (RFC 6749 §3.3).
    pub scopes: Vec<String>,
    /// The logical names of the services that the token is for (RFC 8693 §2.1).
    pub audiences: Vec<String>,
    /// The same as URIs (RFC 8707).
    pub resources: Vec<String>,
    /// Further parameters of the form; none of a reserved name.
    pub extra_parameters: Vec<(String, String)>,
}

impl Requested {
    /// These scopes, and nothing else.
    pub fn scopes(scopes: Vec<String>) -> Self {
        Self { scopes, ..Self::default() }
    }

    /// The same for an application at Entra, which gets all that it was granted at a resource or
    /// nothing: each scope's [`default_scope`]. One that has none is left out.
    pub(super) fn by_default_scopes(&self) -> Self {
        let mut scopes: Vec<String> = Vec::new();
        for scope in self.scopes.iter().filter_map(|scope| default_scope(scope)) {
            if !scopes.contains(&scope) {
                scopes.push(scope);
            }
        }
        Self { scopes, ..self.clone() }
    }
}

/// `{resource}/.default` of Entra for a scope that names its resource: what stands before its
/// last slash, which may be another slash.
pub fn default_scope(scope: &str) -> Option<String> {
    let (resource, _) = scope.rsplit_once('/')?;
    (!resource.is_empty()).then(|| format!("{resource}/.default"))
}

/// What [`Terms::new`] puts together.
pub(super) struct Parts<'a> {
    pub(super) provider: &'a Arc<str>,
    pub(super) grant: Grant,
    pub(super) issuer: Option<&'a Arc<str>>,
    pub(super) tenant: Option<&'a str>,
    pub(super) client_id: &'a str,
    pub(super) requested: &'a Arc<Requested>,
    /// The one upstream that the token is for: two with the same scopes share none, as the one
    /// could use it at the other, and its refusals would cost the other its token.
    pub(super) upstream: &'a str,
    pub(super) token_endpoint: &'a str,
    pub(super) authorization_endpoint: Option<&'a str>,
}

/// Length of a digest of names in bytes.
pub(super) const NAME_BYTES: usize = 32;

/// Length of a [`Key`] in bytes.
pub(super) const KEY_BYTES: usize = 64;

/// Names one outbound token: these terms, for that inbound token.
///
/// No `Debug`: it holds the digest of a token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    exchange: [u8; 32],
    inbound: [u8; 32],
}

impl Key {
    /// Names a token that is for no caller, and had on no [`Terms`]: `purpose` says by what means,
    /// and `parts`, always as many of them, all that makes it another one.
    pub(super) fn of(purpose: &str, parts: &[&str]) -> Self {
        let mut digest = Digest::new(purpose);
        digest.add_all(parts);
        Self { exchange: digest.finish(), inbound: [0; 32] }
    }

    /// The whole name, for whoever seals or digests it.
    pub(super) fn to_bytes(self) -> [u8; KEY_BYTES] {
        let mut bytes = [0; KEY_BYTES];
        let (exchange, inbound) = bytes.split_at_mut(self.exchange.len());
        exchange.copy_from_slice(&self.exchange);
        inbound.copy_from_slice(&self.inbound);
        bytes
    }

    /// Names the terms, whoever's token it is.
    pub(super) fn terms_alone(self) -> Self {
        Self { inbound: [0; 32], ..self }
    }

    /// Names the exchange for the same token that asks for `claims` as well.
    pub(super) fn with_claims(&self, claims: &str) -> Self {
        let mut exchange = Digest::new("claims v1");
        exchange.0.extend_from_slice(&self.exchange);
        exchange.add(claims);
        Self { exchange: exchange.finish(), inbound: self.inbound }
    }
}

/// Names all exchanges that a provider's `Retry-After` holds back together, and whose failures
/// count together: those of one provider, tenant, client, token endpoint and scope set. With
/// another endpoint a provider is another one, whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ThrottleKey([u8; 32]);

impl Terms {
    /// The terms made of `parts`.
    pub(super) fn new(parts: &Parts<'_>) -> Self {
        let mut throttle = Digest::new("throttle v2");
        throttle.add(parts.provider);
        throttle.add_optional(parts.tenant);
        throttle.add(parts.client_id);
        throttle.add(parts.token_endpoint);
        throttle.add_requested(parts.requested);

        let mut exchange = Digest::new("exchange v2");
        exchange.add(parts.provider);
        exchange.add(parts.grant.name());
        exchange.add_optional(parts.issuer.map(AsRef::as_ref));
        exchange.add_optional(parts.tenant);
        exchange.add(parts.client_id);
        exchange.add(parts.token_endpoint);
        exchange.add(parts.upstream);
        exchange.add_requested(parts.requested);

        Self {
            provider: Arc::clone(parts.provider),
            grant: parts.grant,
            issuer: parts.issuer.map(Arc::clone),
            tenant: parts.tenant.map(str::to_owned),
            client_id: parts.client_id.to_owned(),
            requested: Arc::clone(parts.requested),
            token_endpoint: parts.token_endpoint.to_owned(),
            token_address: Address::of(parts.token_endpoint),
            authorization_endpoint: parts.authorization_endpoint.map(str::to_owned),
            upstream: digest_of_upstream(parts.upstream),
            exchange: exchange.finish(),
            throttle: throttle.finish(),
        }
    }

    /// Names the outbound token for an inbound one; `None` where it is for no caller, which the
    /// grant, a part of these terms, tells apart from any that is.
    pub(super) fn key(&self, inbound: Option<TokenDigest>) -> Key {
        let inbound = inbound.map_or([0; 32], |digest| *digest.as_bytes());
        Key { exchange: self.exchange, inbound }
    }

    /// Names what a `Retry-After` holds back, and whose failures count together.
    pub(super) fn throttle_key(&self) -> ThrottleKey {
        ThrottleKey(self.throttle)
    }

    /// The scopes as the `scope` parameter has them (RFC 6749 §3.3).
    pub(super) fn scope(&self) -> String {
        self.requested.scopes.join(" ")
    }

    /// What is asked for, for the log: scopes, audiences and resources.
    pub(super) fn wanted(&self) -> String {
        let Requested { scopes, audiences, resources, extra_parameters: _ } = &*self.requested;
        let all = scopes.iter().chain(audiences).chain(resources);
        all.map(String::as_str).collect::<Vec<_>>().join(" ")
    }
}

/// SHA-256 over parts with their lengths in front, so that no two lists of parts read alike.
///
/// They are put together first: most are a few bytes, and each costs the hash more than its copy.
pub(super) struct Digest(Vec<u8>);

impl Digest {
    pub(super) fn new(purpose: &str) -> Self {
        let mut digest = Self(Vec::with_capacity(256));
        digest.add(purpose);
        digest
    }

    pub(super) fn add(&mut self, part: &str) {
        self.0.extend_from_slice(&(part.len() as u64).to_be_bytes());
        self.0.extend_from_slice(part.as_bytes());
    }

    /// Nothing differs from an empty text.
    fn add_optional(&mut self, part: Option<&str>) {
        self.add(if part.is_some() { "some" } else { "none" });
        self.add(part.unwrap_or_default());
    }

    pub(super) fn add_all(&mut self, parts: &[&str]) {
        self.0.extend_from_slice(&(parts.len() as u64).to_be_bytes());
        for part in parts {
            self.add(part);
        }
    }

    fn add_requested(&mut self, requested: &Requested) {
        self.add_all(&sorted(&requested.scopes));
        self.add_all(&sorted(&requested.audiences));
        self.add_all(&sorted(&requested.resources));
        let extra = requested.extra_parameters.iter();
        let mut extra: Vec<_> = extra.map(|(name, value)| [name.as_str(), value]).collect();
        extra.sort_unstable();
        self.add_all(extra.as_flattened());
    }

    pub(super) fn finish(self) -> [u8; NAME_BYTES] {
        let mut bytes = [0; NAME_BYTES];
        bytes.copy_from_slice(digest(&SHA256, &self.0).as_ref());
        bytes
    }
}

/// A set: neither order nor repetition matters.
fn sorted(list: &[String]) -> Vec<&str> {
    let mut sorted: Vec<&str> = list.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    sorted.dedup();
    sorted
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Terms for `client_id` and `scopes` at a made-up tenant.
    pub(in crate::exchange) fn terms(client_id: &str, scopes: &[&str]) -> Terms {
        let scopes: Vec<String> = scopes.iter().map(|&scope| scope.to_owned()).collect();
        Terms::new(&Parts {
            provider: &Arc::from("entra"),
            grant: Grant::EntraOnBehalfOf,
            issuer: Some(&Arc::from("https://login.example/t1/v2.0")),
            tenant: Some("t1"),
            client_id,
            requested: &Arc::new(Requested::scopes(scopes)),
            upstream: "u",
            token_endpoint: "https://login.example/t1/oauth2/v2.0/token",
            authorization_endpoint: Some("https://login.example/t1/oauth2/v2.0/authorize"),
        })
    }

    #[test]
    fn each_part_of_the_terms_makes_another_key() {
        let strings =
            |texts: &[&str]| -> Vec<String> { texts.iter().map(|&text| text.to_owned()).collect() };
        let requested = Arc::new(Requested::scopes(strings(&["a", "b"])));
        let (provider, issuer) = (Arc::from("p"), Arc::from("i"));
        let base = || Parts {
            provider: &provider,
            grant: Grant::EntraOnBehalfOf,
            issuer: Some(&issuer),
            tenant: Some("t"),
            client_id: "c",
            requested: &requested,
            upstream: "u",
            token_endpoint: "e",
            authorization_endpoint: None,
        };
        let other = Arc::from("x");
        let with = |change: &dyn Fn(&mut Requested)| {
            let mut changed = Requested::clone(&requested);
            change(&mut changed);
            Arc::new(changed)
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let asked = [
            with(&|it| it.scopes.truncate(1)),
            with(&|it| it.scopes = strings(&["ab"])),
            with(&|it| it.audiences = strings(&["a"])),
            with(&|it| it.resources = strings(&["a"])),
            with(&|it| it.extra_parameters = vec![pair("a", "b")]),
            with(&|it| it.extra_parameters = vec![pair("b", "a")]),
            with(&|it| it.extra_parameters = vec![pair("a", "b"), pair("a", "b")]),
        ];
        let all = asked.iter().map(|requested| Parts { requested, ..base() });
        let all: Vec<Parts<'_>> = all
            .chain([
                base(),
                Parts { provider: &other, ..base() },
                Parts { grant: Grant::TokenExchange, ..base() },
                Parts { issuer: Some(&other), ..base() },
                Parts { issuer: None, ..base() },
                Parts { tenant: Some("x"), ..base() },
                Parts { tenant: Some(""), ..base() },
                Parts { tenant: None, ..base() },
                Parts { client_id: "x", ..base() },
                Parts { token_endpoint: "x", ..base() },
                Parts { upstream: "x", ..base() },
            ])
            .collect();
        let digest = Some(TokenDigest::of(b"token"));
        let keys: std::collections::BTreeSet<Key> =
            all.iter().map(|parts| Terms::new(parts).key(digest)).collect();
        assert_eq!(keys.len(), all.len());

        // Throttling is the provider's, whichever upstream the token is for.
        let (one, other) = (Terms::new(&base()), Terms::new(&Parts { upstream: "x", ..base() }));
        assert_eq!(one.throttle_key(), other.throttle_key());
        // A reload may have the same name mean another server, which said nothing yet.
        let moved = Terms::new(&Parts { token_endpoint: "x", ..base() });
        assert_ne!(one.throttle_key(), moved.throttle_key());

        let terms = Terms::new(&base());
        assert!(terms.key(digest) != terms.key(Some(TokenDigest::of(b"other"))));
        assert!(terms.key(digest) != terms.key(None));
    }

    #[test]
    fn an_application_asks_by_default_scopes() {
        for (scope, expected) in [
            ("https://graph.microsoft.com/User.Read", Some("https://graph.microsoft.com/.default")),
            ("https://graph.microsoft.com/.default", Some("https://graph.microsoft.com/.default")),
            ("https://arm.example//user_impersonation", Some("https://arm.example//.default")),
            ("api://orders/read", Some("api://orders/.default")),
            ("User.Read", None),
            ("openid", None),
            ("/read", None),
        ] {
            assert_eq!(default_scope(scope).as_deref(), expected, "{scope}");
        }
        let scopes = ["api://a/read", "openid", "api://a/write"].map(str::to_owned).to_vec();
        let requested = Requested { audiences: vec!["x".into()], ..Requested::scopes(scopes) };
        let asked = requested.by_default_scopes();
        assert_eq!(asked.scopes, ["api://a/.default"]);
        assert_eq!(asked.audiences, ["x"]);
    }

    #[test]
    fn the_order_and_repetition_of_scopes_does_not_matter() {
        let digest = Some(TokenDigest::of(b"token"));
        let (one, two) = (terms("c", &["a", "b"]), terms("c", &["b", "a", "b"]));
        assert!(one.key(digest) == two.key(digest));
        assert_eq!(one.throttle_key(), two.throttle_key());
        assert_eq!(two.scope(), "b a b");
        assert_ne!(one.throttle_key(), terms("c", &["a"]).throttle_key());
    }
}
