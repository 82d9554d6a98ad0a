//! What the routes file says of a provider, resolved: everything that verification depends on.
//!
//! Plain data that can be compared, so that a reload keeps a provider, its keys and its
//! verified tokens when nothing about it changed. How YAML becomes this is not known here.

use std::sync::Arc;
use std::time::Duration;

use crate::trust::Roots;

use super::algorithm::Algorithm;
use super::header_type::HeaderType;
use super::issuing::Issuing;

/// The settings of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderSettings {
    /// Its name in the routes file.
    pub name: Arc<str>,
    /// Who issues the tokens.
    pub kind: Issuing,
    /// Any one of these must be in `aud`, byte for byte. An empty list accepts nothing.
    pub audiences: Vec<String>,
    /// The signature algorithms that are accepted.
    pub algorithms: Vec<Algorithm>,
    /// What the clocks may differ; whole seconds, at most 300.
    pub clock_skew: Duration,
    /// How often metadata and keys are fetched anew.
    pub metadata_refresh: Duration,
    /// In place of the issuer's well-known URL.
    pub metadata_url: Option<String>,
    /// In place of the metadata's `jwks_uri`.
    pub jwks_uri: Option<String>,
    /// The content of `jwks_file`: keys are then never fetched.
    pub jwks: Option<Vec<u8>>,
    /// In place of the metadata's `token_endpoint`. At Entra, `{tenantid}` in it stands for the
    /// caller's tenant.
    pub token_endpoint: Option<String>,
    /// Whether its endpoints are needed beside its keys.
    pub exchanges: Exchanges,
    /// What tokens must have in their header's `typ`; `None` takes every form of an access token.
    pub typ: Option<HeaderType>,
    /// The claims that hold scopes, each a string with spaces or an array of strings.
    pub scope_claims: Vec<String>,
    /// The claims that hold roles, each an array of strings, or one string that is one role.
    pub roles_claims: Vec<String>,
    /// The claims that can name the application; the first that is there counts.
    pub client_claims: Vec<String>,
    /// Which servers are believed to be the provider.
    pub roots: Roots,
    /// How long one call to it may take.
    pub timeout: Duration,
    /// How many exchanges with it may be under way at once.
    pub max_in_flight: usize,
}

/// Whether the gateway is a client of the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchanges {
    /// It only judges the provider's tokens: the endpoints are of no use.
    Never,
    /// It gets tokens there: endpoints that are not configured are discovered, wherever the keys
    /// come from.
    Asked,
}

impl ProviderSettings {
    /// 64: an answer takes about 100 ms, so this is some 600 new users a second, and a provider
    /// that is asked more would rather throttle.
    pub const DEFAULT_MAX_IN_FLIGHT: usize = 64;

    /// Whether `other` has its keys from the same place, and takes the same ones.
    pub(super) fn has_the_keys_of(&self, other: &Self) -> bool {
        let source = |own: &Self| {
            (own.metadata_url.clone(), own.jwks_uri.clone(), own.jwks.clone(), own.roots.clone())
        };
        self.kind.has_the_metadata_of(&other.kind)
            && self.algorithms == other.algorithms
            && source(self) == source(other)
    }

    /// A provider with the defaults of its kind.
    pub fn new(name: &str, kind: Issuing, audiences: Vec<String>) -> Self {
        let strings = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let (algorithms, scope_claims, client_claims) = match kind {
            Issuing::Entra { .. } => {
                (Algorithm::ENTRA_DEFAULT.to_vec(), strings(&["scp"]), strings(&["azp", "appid"]))
            }
            Issuing::Oidc { .. } => (
                Algorithm::OIDC_DEFAULT.to_vec(),
                strings(&["scp", "scope"]),
                strings(&["azp", "appid", "client_id", "cid"]),
            ),
        };
        Self {
            name: Arc::from(name),
            kind,
            audiences,
            algorithms,
            clock_skew: Duration::from_mins(1),
            metadata_refresh: Duration::from_hours(1),
            metadata_url: None,
            jwks_uri: None,
            jwks: None,
            token_endpoint: None,
            exchanges: Exchanges::Never,
            typ: None,
            scope_claims,
            roles_claims: vec!["roles".to_owned()],
            client_claims,
            roots: Roots::System,
            timeout: Duration::from_secs(10),
            max_in_flight: Self::DEFAULT_MAX_IN_FLIGHT,
        }
    }
}
