//! `providers`: their settings, and what the gateway is at each.

use std::sync::Arc;

use super::super::file::{self, Oidc, ProviderCalls};
use super::super::problem::Place;
use super::super::spanned::{OneOrMany, Spanned, Table};
use super::super::value::{self, HttpUrl, Text};
use super::{Finding, credentials, tenants};
use crate::authn::{
    self, Algorithm, Exchanges, Issuing, Provider, ProviderError, ProviderSettings,
    TENANT_PLACEHOLDER, may_be_called,
};
use crate::chain::with_sources;
use crate::exchange::{ClientCredential, MANAGED_IDENTITY_NAME, UserGrant};
use crate::trust::Roots;

/// What to do about a `ca_file` that can't be used.
const CA_FILE: &str = "name a file with the CA's certificate, PEM";

/// A provider, and how the gateway is known there.
pub(super) struct Known {
    pub(super) provider: Arc<Provider>,
    pub(super) client_id: Option<String>,
    pub(super) credential: Option<ClientCredential>,
    /// How a user's token is swapped there.
    pub(super) user_grant: UserGrant,
    pub(super) cloud: file::Cloud,
}

impl Known {
    /// Whether it is Entra, whose tokens are asked for by scopes alone.
    pub(super) fn is_entra(&self) -> bool {
        matches!(self.provider.settings().kind, Issuing::Entra { .. })
    }

    /// Why no token can be had there, and what to do; for one that the gateway is no client of.
    pub(super) fn lack(&self) -> (String, &'static str) {
        if self.client_id.is_none() {
            return (
                "it has no `client_id` and `credential`".to_owned(),
                "add both to the provider: the gateway is one of its applications",
            );
        }
        (
            "it has no `credential`".to_owned(),
            "add one to the provider: `credential: { client_secret: \"${CLIENT_SECRET}\" }`",
        )
    }
}

/// All providers that have no problem, in the order of the file.
pub(super) struct Providers(Vec<Known>);

impl Providers {
    pub(super) fn find(&self, name: &str) -> Option<&Known> {
        self.0.iter().find(|known| **known.provider.name() == *name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Known> {
        self.0.iter()
    }

    pub(super) fn into_list(self) -> Vec<Arc<Provider>> {
        self.0.into_iter().map(|known| known.provider).collect()
    }
}

pub(super) fn resolve(
    table: &Table<Spanned<file::Provider>>,
    finding: &mut Finding<'_>,
) -> Providers {
    let known = table.0.iter().filter_map(|(name, provider)| one(name, provider, finding));
    Providers(known.collect())
}

fn one(
    name: &Spanned<String>,
    provider: &Spanned<file::Provider>,
    finding: &mut Finding<'_>,
) -> Option<Known> {
    if name.value == MANAGED_IDENTITY_NAME {
        finding.error(
            name.place,
            format!("a provider can't be called `{name}`", name = name.value),
            "give it another name: in metrics and in the log this one stands for the machine's managed identities",
        );
        return None;
    }
    let (settings, credential, cloud) = match &provider.value {
        file::Provider::Entra(entra) => (
            entra_settings(name, entra, finding),
            credentials::entra(name, entra, finding),
            entra.cloud,
        ),
        file::Provider::Oidc(oidc) => (
            oidc_settings(name, oidc, finding),
            credentials::oidc(oidc, finding),
            file::Cloud::Public,
        ),
    };
    let user_grant = user_grant(&provider.value);
    refuse_placeholders(&provider.value, finding);
    let settings = with_calls(settings, provider.calls(), finding)?;
    let client_id = provider.client_id().map(|client_id| client_id.value.0.clone());
    // A provider whose settings did not change keeps its keys and what it verified.
    let kept = finding.previous.and_then(|previous| {
        previous.providers.iter().find(|before| *before.settings() == settings).cloned()
    });
    let provider = if let Some(provider) = kept {
        provider
    } else {
        let made = made(settings, provider, finding)?;
        let before = finding.previous.map_or(&[][..], |previous| &previous.providers);
        for before in before.iter().filter(|before| before.name() == made.name()) {
            made.inherit(before);
        }
        made
    };
    Some(Known { provider, client_id, credential, user_grant, cloud })
}

fn made(
    settings: ProviderSettings,
    from: &file::Provider,
    finding: &mut Finding<'_>,
) -> Option<Arc<Provider>> {
    let made = Provider::new(
        settings,
        Arc::clone(&finding.lasting.clock),
        finding.lasting.metrics.clone(),
    );
    made.map_err(|error| {
        let calls = from.calls();
        let (file, hint) = match &error {
            ProviderError::Trust(_) => (calls.ca_file.as_ref(), CA_FILE),
            ProviderError::Keys(_) => (
                calls.jwks_file.as_ref(),
                "name a file with a JSON Web Key Set: `{\"keys\": [{\"kty\": \"RSA\", \"kid\": …}]}`",
            ),
        };
        // The system's roots stand nowhere in the file.
        let place = file.map_or(Place::default(), |path| path.place);
        finding.error(place, with_sources(&error), hint);
    })
    .ok()
}

fn entra_settings(
    name: &Spanned<String>,
    entra: &file::Entra,
    finding: &mut Finding<'_>,
) -> ProviderSettings {
    let cloud = match entra.cloud {
        file::Cloud::Public => authn::Cloud::Public,
        file::Cloud::UsGov => authn::Cloud::UsGov,
        file::Cloud::China => authn::Cloud::China,
    };
    if let Some(authority) = &entra.authority {
        refuse_clear(authority, finding);
        if authority.url.path() != "/" || authority.url.query().is_some() {
            finding.error(
                authority.place,
                format!("`{}` has more than a scheme and a host", authority.text),
                "write it without a path: the tenant is added",
            );
        }
    }
    let authority = entra.authority.as_ref().map(|authority| authority.text.as_str());
    let audiences = match (&entra.audiences, &entra.client_id) {
        (Some(audiences), _) => texts(&audiences.0),
        (None, Some(client_id)) => {
            vec![client_id.value.0.clone(), format!("api://{}", client_id.value.0)]
        }
        // The file's own rules refuse this.
        (None, None) => Vec::new(),
    };
    let tenants = tenants::resolve(entra, finding);
    let kind = Issuing::entra_of(tenants, cloud, authority);
    ProviderSettings {
        exchanges: exchanges(entra.credential.as_ref()),
        ..ProviderSettings::new(name, kind, audiences)
    }
}

fn user_grant(provider: &file::Provider) -> UserGrant {
    match provider {
        file::Provider::Entra(_) => UserGrant::EntraOnBehalfOf,
        file::Provider::Oidc(oidc) => {
            match oidc.exchange.as_ref().map(|exchange| exchange.value).unwrap_or_default() {
                file::Exchange::TokenExchange => UserGrant::TokenExchange,
                file::Exchange::JwtBearer => UserGrant::JwtBearer,
            }
        }
    }
}

fn oidc_settings(
    name: &Spanned<String>,
    oidc: &Oidc,
    finding: &mut Finding<'_>,
) -> ProviderSettings {
    refuse_clear(&oidc.issuer, finding);
    if let (Some(exchange), None) = (&oidc.exchange, &oidc.credential) {
        finding.warning(
            exchange.key_place(),
            "`exchange` says nothing without `credential`: no token is exchanged there",
            "add `client_id` and `credential`, by which the provider knows the gateway, or remove it",
        );
    }
    let issuing = Issuing::Oidc { issuer: oidc.issuer.text.clone() };
    let mut settings = ProviderSettings::new(name, issuing, texts(&oidc.audiences.0));
    settings.exchanges = exchanges(oidc.credential.as_ref());
    settings.typ = oidc.typ.map(|typ| typ.0);
    if let Some(algorithms) = &oidc.algorithms {
        settings.algorithms =
            algorithms.0.iter().map(|algorithm| signature(algorithm.value)).collect();
    }
    let claims =
        |claims: &Option<OneOrMany<Spanned<Text>>>| claims.as_ref().map(|claims| texts(&claims.0));
    if let Some(claims) = claims(&oidc.scope_claims) {
        settings.scope_claims = claims;
    }
    if let Some(claims) = claims(&oidc.client_claims) {
        settings.client_claims = claims;
    }
    if let Some(claims) = claims(&oidc.roles_claim) {
        settings.roles_claims = claims;
    }
    settings
}

/// A credential is for exchanges, and for nothing else.
fn exchanges<T>(credential: Option<&T>) -> Exchanges {
    if credential.is_some() { Exchanges::Asked } else { Exchanges::Never }
}

pub(super) fn signature(algorithm: value::Algorithm) -> Algorithm {
    match algorithm {
        value::Algorithm::RS256 => Algorithm::Rs256,
        value::Algorithm::RS384 => Algorithm::Rs384,
        value::Algorithm::RS512 => Algorithm::Rs512,
        value::Algorithm::PS256 => Algorithm::Ps256,
        value::Algorithm::PS384 => Algorithm::Ps384,
        value::Algorithm::PS512 => Algorithm::Ps512,
        value::Algorithm::ES256 => Algorithm::Es256,
        value::Algorithm::ES384 => Algorithm::Es384,
        value::Algorithm::EdDSA => Algorithm::EdDsa,
    }
}

/// Adds what both kinds have; `None` if a file that is needed can't be read.
fn with_calls(
    mut settings: ProviderSettings,
    calls: &ProviderCalls,
    finding: &mut Finding<'_>,
) -> Option<ProviderSettings> {
    settings.clock_skew = calls.clock_skew.0;
    settings.metadata_refresh = calls.metadata_refresh.0;
    settings.timeout = calls.timeout.0;
    settings.max_in_flight = calls.max_in_flight.0.get() as usize;
    let mut url = |url: &Option<Spanned<HttpUrl>>| {
        url.as_ref().map(|url| {
            refuse_clear(url, finding);
            url.text.clone()
        })
    };
    settings.metadata_url = url(&calls.metadata_url);
    settings.token_endpoint = url(&calls.token_endpoint);
    settings.jwks_uri = url(&calls.jwks_uri);
    if let Some(file) = &calls.jwks_file {
        settings.jwks = Some(finding.read(file)?);
    }
    if let Some(file) = &calls.ca_file {
        settings.roots = roots(file, finding)?;
    }
    Some(settings)
}

/// The certificates of a `ca_file`.
pub(super) fn roots(
    file: &Spanned<std::path::PathBuf>,
    finding: &mut Finding<'_>,
) -> Option<Roots> {
    let pem = finding.read(file)?;
    Roots::from_pem(&pem)
        .map_err(|error| {
            finding.error(file.place, with_sources(&error), CA_FILE);
        })
        .ok()
}

/// `{tenantid}` in what is called before there is a caller, or at a provider without tenants, would
/// be called as it stands there.
fn refuse_placeholders(provider: &file::Provider, finding: &mut Finding<'_>) {
    let calls = provider.calls();
    let always = [("metadata_url", &calls.metadata_url), ("jwks_uri", &calls.jwks_uri)];
    let of_oidc = match provider {
        file::Provider::Entra(_) => None,
        file::Provider::Oidc(_) => Some(("token_endpoint", &calls.token_endpoint)),
    };
    for (key, url) in always.into_iter().chain(of_oidc) {
        let Some(url) = url.as_ref().filter(|url| url.text.contains(TENANT_PLACEHOLDER)) else {
            continue;
        };
        finding.error(
            url.place,
            format!("`{TENANT_PLACEHOLDER}` in `{key}` is not filled in"),
            "only the `token_endpoint` of a provider of `type: entra` is the caller's tenant's: write the whole URL, or remove the key",
        );
    }
}

/// Keys and tokens over plain http could be changed or read on the way.
fn refuse_clear(url: &Spanned<HttpUrl>, finding: &mut Finding<'_>) {
    if !may_be_called(&url.text) {
        finding.error(
            url.place,
            format!("`{}` is plain http beyond loopback", url.text),
            "use https: whoever sits in between could change the keys and read the secret",
        );
    }
}

fn texts(list: &[Spanned<Text>]) -> Vec<String> {
    list.iter().map(|text| text.value.0.clone()).collect()
}
