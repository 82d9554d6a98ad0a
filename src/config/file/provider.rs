//! `providers`.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::spanned::{List, OneOrMany, Spanned};
use super::super::value::{
    Algorithm, ClockSkew, Count, HeaderType, HttpUrl, Period, SigningAlgorithm, Tenant, TenantId,
    Text,
};
use crate::secret::Secret;

/// A value of `providers`: an identity provider, of the kind that its `type` says.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename = "$tagged by type", rename_all = "lowercase")]
#[schemars(rename = "Tagged_Provider")]
#[allow(
    clippy::large_enum_variant,
    reason = "there are a handful, and they live as long as a reading"
)]
pub enum Provider {
    /// Microsoft Entra ID.
    Entra(Entra),
    /// Any provider of OpenID Connect Discovery 1.0.
    Oidc(Oidc),
}

impl Provider {
    /// What both kinds have.
    pub fn calls(&self) -> &ProviderCalls {
        match self {
            Self::Entra(entra) => &entra.calls,
            Self::Oidc(oidc) => &oidc.calls,
        }
    }

    /// Who the gateway is at the provider.
    pub fn client_id(&self) -> Option<&Spanned<Text>> {
        match self {
            Self::Entra(entra) => entra.client_id.as_ref(),
            Self::Oidc(oidc) => oidc.client_id.as_ref(),
        }
    }
}

/// A provider of `type: entra`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct Entra {
    /// The tenant's id, or a domain of it, whose id is then learned from its metadata; or
    /// `organizations` or `common` for several. Required; default: the environment variable `AZURE_TENANT_ID`.
    pub tenant: Spanned<Tenant>,
    /// The ids of the tenants whose tokens are accepted. Required with `organizations` and
    /// `common`, and only for them; personal accounts are the tenant
    /// `9188040d-6c67-4c5b-b112-36a304b66dad`.
    pub allowed_tenants: Option<Spanned<List<Spanned<TenantId>>>>,
    /// The cloud the tenant is in. Default: `public`; with `credential.federated_token_file`,
    /// what the environment variable `AZURE_AUTHORITY_HOST` says.
    #[serde(default)]
    pub cloud: Cloud,
    /// The host of the login pages and endpoints. Default: the cloud's.
    pub authority: Option<Spanned<HttpUrl>>,
    /// The gateway's application. Needed where an exchange uses the provider. Default: the
    /// environment variable `AZURE_CLIENT_ID`.
    pub client_id: Option<Spanned<Text>>,
    /// What tokens for the gateway have in `aud`. Default: `client_id` and `api://{client_id}`.
    pub audiences: Option<List<Spanned<Text>>>,
    /// What proves that the gateway is that application. Needed where an exchange uses the
    /// provider. Default: the `federated_token_file` that the environment variable
    /// `AZURE_FEDERATED_TOKEN_FILE` names.
    pub credential: Option<Spanned<EntraCredential>>,
    /// How the provider is called, and what overrides its metadata.
    #[serde(rename = "$beside")]
    pub calls: ProviderCalls,
}

/// `cloud` of an Entra provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Cloud {
    /// The worldwide one.
    #[default]
    Public,
    /// Azure Government.
    UsGov,
    /// Azure operated by 21Vianet.
    China,
}

/// `credential` of an Entra provider: exactly one key.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename = "$one of", rename_all = "snake_case")]
#[schemars(rename = "OneOf_EntraCredential")]
pub enum EntraCredential {
    /// A secret of the application.
    ClientSecret(Spanned<Secret>),
    /// A certificate of the application.
    Certificate(Certificate),
    /// A file with a token of another issuer, for workload identity; read for each exchange.
    FederatedTokenFile(Spanned<PathBuf>),
    /// A managed identity as a federated credential.
    ManagedIdentity(FederatedIdentity),
}

/// `certificate` of a credential: RSA of 2,048 bits or more, signs with PS256.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct Certificate {
    /// The certificate that was uploaded to the application, PEM. Required.
    pub cert_file: Spanned<PathBuf>,
    /// Its private key, PEM (PKCS#8 or PKCS#1, without a passphrase); may be the same file.
    /// Required.
    pub key_file: Spanned<PathBuf>,
}

/// `managed_identity` of a credential.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct FederatedIdentity {
    /// The user-assigned identity that the application's federated credential names; a
    /// system-assigned one can't be it. Required.
    pub client_id: Spanned<Text>,
}

/// A provider of `type: oidc`. Defaults are those of [`crate::authn::ProviderSettings::new`].
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct Oidc {
    /// What tokens have in `iss`, byte for byte. Required.
    pub issuer: Spanned<HttpUrl>,
    /// What tokens for the gateway have in `aud`. Required.
    pub audiences: List<Spanned<Text>>,
    /// How tokens may be signed. Default: `RS256`, `PS256`, `ES256`, `EdDSA`.
    pub algorithms: Option<List<Spanned<Algorithm>>>,
    /// Who the gateway is at the provider.
    pub client_id: Option<Spanned<Text>>,
    /// What proves it. Needed where an exchange uses the provider.
    pub credential: Option<Spanned<OidcCredential>>,
    /// How users' tokens are exchanged; says nothing without `credential`. Default:
    /// `token_exchange`.
    pub exchange: Option<Spanned<Exchange>>,
    /// The claims with the token's scopes, all of them: a string with spaces between, or an array.
    /// Default: `scp`, `scope`.
    pub scope_claims: Option<OneOrMany<Spanned<Text>>>,
    /// The claims with the caller's roles, all of them; a dotted path for a nested one. A string,
    /// an array, or an object whose members are named as the roles are. Default: `roles`.
    pub roles_claim: Option<OneOrMany<Spanned<Text>>>,
    /// Claims with the client's id, the first that is there. Default:
    /// `azp`, `appid`, `client_id`, `cid`.
    pub client_claims: Option<OneOrMany<Spanned<Text>>>,
    /// What tokens must have in their header's `typ`: `at+jwt` (RFC 9068) or `JWT`. Default:
    /// either, or none.
    pub typ: Option<HeaderType>,
    /// How the provider is called, and what overrides its metadata.
    #[serde(rename = "$beside")]
    pub calls: ProviderCalls,
}

/// `credential` of an OIDC provider: exactly one key.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename = "$one of", rename_all = "snake_case")]
#[schemars(rename = "OneOf_OidcCredential")]
pub enum OidcCredential {
    /// A secret, sent as `Authorization: Basic` (`client_secret_basic`).
    ClientSecret(Spanned<Secret>),
    /// A secret, sent in the form (`client_secret_post`).
    ClientSecretPost(Spanned<Secret>),
    /// A key that signs assertions (`private_key_jwt`); their `aud` is the token endpoint.
    PrivateKey(PrivateKey),
}

/// `private_key` of a credential.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct PrivateKey {
    /// The private key, PEM (PKCS#8, PKCS#1 or SEC1, without a passphrase). Required.
    pub key_file: Spanned<PathBuf>,
    /// What the provider knows its public half by: `kid`. Required.
    pub key_id: Spanned<Text>,
    /// How it signs. Default: `RS256`.
    pub algorithm: Option<Spanned<SigningAlgorithm>>,
}

/// `exchange` of an OpenID Connect provider: how users' tokens are swapped there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Exchange {
    /// RFC 8693: Keycloak, Okta, Auth0, ZITADEL and most others.
    #[default]
    TokenExchange,
    /// RFC 7523: the caller's token is the authorization grant.
    JwtBearer,
}

/// Keys that both kinds of provider have.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ProviderCalls {
    /// How far its clock and ours may differ, `300s` at most. Default:
    /// [`ProviderCalls::DEFAULT_CLOCK_SKEW`].
    pub clock_skew: ClockSkew,
    /// How often its metadata and keys are fetched. Default:
    /// [`ProviderCalls::DEFAULT_METADATA_REFRESH`].
    pub metadata_refresh: Period,
    /// Time for one whole call to it. Default: [`ProviderCalls::DEFAULT_TIMEOUT`].
    pub timeout: Period,
    /// Who issued its certificate, PEM. Default: the system's web roots.
    pub ca_file: Option<Spanned<PathBuf>>,
    /// Most exchanges with it at a time; others wait for their turn. Default:
    /// [`ProviderCalls::DEFAULT_MAX_IN_FLIGHT`].
    pub max_in_flight: Count,
    /// Where its metadata is. Default: made from issuer or tenant.
    pub metadata_url: Option<Spanned<HttpUrl>>,
    /// Where tokens are exchanged. Default: as its metadata says, or Entra's own layout. At Entra
    /// `{tenantid}` in it is the caller's tenant, and with several tenants it has to be there.
    pub token_endpoint: Option<Spanned<HttpUrl>>,
    /// Where its keys are. Default: as its metadata says.
    pub jwks_uri: Option<Spanned<HttpUrl>>,
    /// Its keys, as a file: they are then not fetched. Not with a domain as `tenant`.
    pub jwks_file: Option<Spanned<PathBuf>>,
}

impl ProviderCalls {
    /// 60 s: what clocks without care differ.
    pub const DEFAULT_CLOCK_SKEW: ClockSkew = ClockSkew(Duration::from_mins(1));
    /// 1 h: keys are published a day or more before they sign.
    pub const DEFAULT_METADATA_REFRESH: Period = Period(Duration::from_hours(1));
    /// 10 s: longer, and callers have given up.
    pub const DEFAULT_TIMEOUT: Period = Period(Duration::from_secs(10));
    /// 64: at 100 ms an answer some 600 new users a second.
    pub const DEFAULT_MAX_IN_FLIGHT: Count = super::server::count(64);
}

impl Default for ProviderCalls {
    fn default() -> Self {
        Self {
            clock_skew: Self::DEFAULT_CLOCK_SKEW,
            metadata_refresh: Self::DEFAULT_METADATA_REFRESH,
            timeout: Self::DEFAULT_TIMEOUT,
            ca_file: None,
            max_in_flight: Self::DEFAULT_MAX_IN_FLIGHT,
            metadata_url: None,
            token_endpoint: None,
            jwks_uri: None,
            jwks_file: None,
        }
    }
}
