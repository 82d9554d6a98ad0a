//! The terms of an exchange: who asks which provider, as whom, for what, and for which upstream.
//!
//! Everything that makes two exchanges different but the inbound token itself is here, and
//! its digest is the one half of a cache key. Plain data: knows no network and no cache.

use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};

use crate::secret::TokenDigest;

/// The kind of exchange, as it stands in cache keys: kinds must never share a token.
const ON_BEHALF_OF: &str = "entra/on_behalf_of";

/// The terms of an exchange.
#[derive(Debug)]
pub(super) struct Terms {
    /// The provider that is asked: its name in the routes file.
    pub(super) provider: Arc<str>,
    /// `iss` of the inbound token.
    pub(super) issuer: Arc<str>,
    /// The tenant of the inbound token; the exchange takes place in it.
    pub(super) tenant: Option<String>,
    /// The gateway's own application.
    pub(super) client_id: String,
    /// What is asked for, in the order of the file.
    pub(super) scopes: Vec<String>,
    /// Where the exchange is sent.
    pub(super) token_endpoint: String,
    /// Where a user can interact; for challenges.
    pub(super) authorization_endpoint: Option<String>,
    exchange: [u8; 32],
    throttle: [u8; 32],
}

/// What [`Terms::new`] puts together.
pub(super) struct Parts<'a> {
    pub(super) provider: &'a Arc<str>,
    pub(super) issuer: &'a Arc<str>,
    pub(super) tenant: Option<&'a str>,
    pub(super) client_id: &'a str,
    pub(super) scopes: &'a [String],
    /// The one upstream that the token is for: two with the same scopes share none, as the one
    /// could use it at the other, and its refusals would cost the other its token.
    pub(super) upstream: &'a str,
    pub(super) token_endpoint: &'a str,
    pub(super) authorization_endpoint: Option<&'a str>,
}

/// Names one outbound token: these terms, for that inbound token.
///
/// No `Debug`: it holds the digest of a token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    exchange: [u8; 32],
    inbound: [u8; 32],
}

/// Names all exchanges that a provider's `Retry-After` holds back together: those of one
/// provider, tenant, client and scope set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ThrottleKey([u8; 32]);

impl Terms {
    /// The terms made of `parts`.
    pub(super) fn new(parts: &Parts<'_>) -> Self {
        let mut sorted: Vec<&str> = parts.scopes.iter().map(String::as_str).collect();
        sorted.sort_unstable();
        sorted.dedup();

        let tenant = parts.tenant.unwrap_or_default();
        let tenant_kind = if parts.tenant.is_some() { "tenant" } else { "no tenant" };
        let mut throttle = Digest::new("throttle v1");
        for part in [parts.provider.as_ref(), tenant_kind, tenant, parts.client_id] {
            throttle.add(part);
        }
        throttle.add_all(&sorted);

        let mut exchange = Digest::new("exchange v1");
        for part in [
            parts.provider.as_ref(),
            parts.issuer,
            tenant_kind,
            tenant,
            parts.client_id,
            ON_BEHALF_OF,
            parts.token_endpoint,
            parts.upstream,
            // No claims are asked for yet: `cp1` is declared when the challenge loop works.
            "no claims",
        ] {
            exchange.add(part);
        }
        exchange.add_all(&sorted);

        Self {
            provider: Arc::clone(parts.provider),
            issuer: Arc::clone(parts.issuer),
            tenant: parts.tenant.map(str::to_owned),
            client_id: parts.client_id.to_owned(),
            scopes: parts.scopes.to_vec(),
            token_endpoint: parts.token_endpoint.to_owned(),
            authorization_endpoint: parts.authorization_endpoint.map(str::to_owned),
            exchange: exchange.finish(),
            throttle: throttle.finish(),
        }
    }

    /// Names the outbound token for an inbound one.
    pub(super) fn key(&self, inbound: TokenDigest) -> Key {
        Key { exchange: self.exchange, inbound: *inbound.as_bytes() }
    }

    /// Names what a `Retry-After` holds back.
    pub(super) fn throttle_key(&self) -> ThrottleKey {
        ThrottleKey(self.throttle)
    }

    /// The scopes as the `scope` parameter has them (RFC 6749 §3.3).
    pub(super) fn scope(&self) -> String {
        self.scopes.join(" ")
    }
}

/// SHA-256 over parts with their lengths in front, so that no two lists of parts read alike.
struct Digest(Context);

impl Digest {
    fn new(purpose: &str) -> Self {
        let mut digest = Self(Context::new(&SHA256));
        digest.add(purpose);
        digest
    }

    fn add(&mut self, part: &str) {
        self.0.update(&(part.len() as u64).to_be_bytes());
        self.0.update(part.as_bytes());
    }

    fn add_all(&mut self, parts: &[&str]) {
        self.0.update(&(parts.len() as u64).to_be_bytes());
        for part in parts {
            self.add(part);
        }
    }

    fn finish(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.finish().as_ref());
        bytes
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Terms for `client_id` and `scopes` at a made-up tenant.
    pub(in crate::exchange) fn terms(client_id: &str, scopes: &[&str]) -> Terms {
        let scopes: Vec<String> = scopes.iter().map(|&scope| scope.to_owned()).collect();
        Terms::new(&Parts {
            provider: &Arc::from("entra"),
            issuer: &Arc::from("https://login.example/t1/v2.0"),
            tenant: Some("t1"),
            client_id,
            scopes: &scopes,
            upstream: "u",
            token_endpoint: "https://login.example/t1/oauth2/v2.0/token",
            authorization_endpoint: Some("https://login.example/t1/oauth2/v2.0/authorize"),
        })
    }

    #[test]
    fn each_part_of_the_terms_makes_another_key() {
        let scopes = ["a".to_owned(), "b".to_owned()];
        let (provider, issuer) = (Arc::from("p"), Arc::from("i"));
        let base = || Parts {
            provider: &provider,
            issuer: &issuer,
            tenant: Some("t"),
            client_id: "c",
            scopes: &scopes,
            upstream: "u",
            token_endpoint: "e",
            authorization_endpoint: None,
        };
        let (other, joined) = (Arc::from("x"), ["ab".to_owned()]);
        let all = [
            base(),
            Parts { provider: &other, ..base() },
            Parts { issuer: &other, ..base() },
            Parts { tenant: Some("x"), ..base() },
            Parts { tenant: Some(""), ..base() },
            Parts { tenant: None, ..base() },
            Parts { client_id: "x", ..base() },
            Parts { scopes: &scopes[..1], ..base() },
            Parts { scopes: &joined, ..base() },
            Parts { token_endpoint: "x", ..base() },
            Parts { upstream: "x", ..base() },
        ];
        let digest = TokenDigest::of(b"token");
        let keys: std::collections::BTreeSet<Key> =
            all.iter().map(|parts| Terms::new(parts).key(digest)).collect();
        assert_eq!(keys.len(), all.len());

        // Throttling is the provider's, whichever upstream the token is for.
        let (one, other) = (Terms::new(&base()), Terms::new(&Parts { upstream: "x", ..base() }));
        assert_eq!(one.throttle_key(), other.throttle_key());

        let terms = Terms::new(&base());
        assert!(terms.key(digest) != terms.key(TokenDigest::of(b"other")));
    }

    #[test]
    fn the_order_and_repetition_of_scopes_does_not_matter() {
        let digest = TokenDigest::of(b"token");
        let (one, two) = (terms("c", &["a", "b"]), terms("c", &["b", "a", "b"]));
        assert!(one.key(digest) == two.key(digest));
        assert_eq!(one.throttle_key(), two.throttle_key());
        assert_eq!(two.scope(), "b a b");
        assert_ne!(one.throttle_key(), terms("c", &["a"]).throttle_key());
    }
}
