//! `token:`, of an upstream or of a route in its place.

use std::sync::Arc;

use super::super::file::{AppCallers, HeaderToken, OnBehalfOf, Preset, TokenSource};
use super::super::problem::Place;
use super::super::spanned::Spanned;
use super::super::value::Text;
use super::names::{self, Section};
use super::providers::{Known, Providers};
use super::{Finding, headers};
use crate::exchange::{
    self, ExchangePlan, ExchangeSettings, Grant, InNameOf, OAuthClient, OAuthClients, Requested,
    TokenPlan,
};
use crate::secret::SecretHeader;

/// Which credential an upstream gets, and what is needed to check the routes that use it.
pub(super) struct Token {
    pub(super) plan: TokenPlan,
    /// Where it stands, for problems of routes that can't use it.
    pub(super) place: Place,
}

/// Resolves `token:` for requests to `upstream`.
pub(super) fn resolve(
    source: &Spanned<TokenSource>,
    upstream: &Arc<str>,
    providers: &Providers,
    finding: &mut Finding<'_>,
) -> Option<Token> {
    let plan = match &source.value {
        TokenSource::None(_) => TokenPlan::None,
        TokenSource::Passthrough(_) => TokenPlan::Passthrough,
        TokenSource::Header(header) => header_plan(header, finding)?,
        TokenSource::OnBehalfOf(exchange) => on_behalf_of(exchange, upstream, providers, finding)?,
        TokenSource::ClientCredentials(never) | TokenSource::ManagedIdentity(never) => {
            match *never {}
        }
    };
    Some(Token { plan, place: source.key_place() })
}

fn header_plan(header: &HeaderToken, finding: &mut Finding<'_>) -> Option<TokenPlan> {
    finding.warn_of_literal("the value of `token.header`", &header.value);
    let name = headers::credential_name(&header.name.value, header.name.place, finding);
    let value = headers::value(header.value.value.expose(), header.value.place, finding);
    Some(TokenPlan::Header { name: name?, value: SecretHeader::new(value?) })
}

fn on_behalf_of(
    exchange: &OnBehalfOf,
    upstream: &Arc<str>,
    providers: &Providers,
    finding: &mut Finding<'_>,
) -> Option<TokenPlan> {
    match &exchange.app_callers {
        AppCallers::Reject => {}
        AppCallers::ClientCredentials(never) => match *never {},
    }
    one_resource(&exchange.scopes.0, finding);
    let clients = match &exchange.provider {
        Some(name) => OAuthClients::Named(named_client(name, providers, finding)?),
        None => OAuthClients::OfCaller(providers.iter().filter_map(client).collect()),
    };
    let scopes = exchange.scopes.0.iter().map(|scope| scope.value.0.clone()).collect();
    Some(plan(clients, scopes, upstream))
}

fn plan(clients: OAuthClients, scopes: Vec<String>, upstream: &Arc<str>) -> TokenPlan {
    let settings = ExchangeSettings {
        clients,
        in_name_of: InNameOf::Caller { apps: exchange::AppCallers::Reject },
        requested: Requested::scopes(scopes),
        upstream: Arc::clone(upstream),
    };
    TokenPlan::Exchange(Arc::new(ExchangePlan::new(settings)))
}

/// The token that `preset` fills in: on behalf of the caller, for the service of its cloud.
pub(super) fn of_preset(
    preset: Preset,
    place: Place,
    upstream: &Arc<str>,
    providers: &Providers,
) -> Token {
    let resource = super::upstreams::service(preset, super::upstreams::cloud(providers));
    let clients = OAuthClients::OfCaller(providers.iter().filter_map(client).collect());
    Token { plan: plan(clients, vec![format!("{resource}/.default")], upstream), place }
}

fn named_client(
    name: &Spanned<Text>,
    providers: &Providers,
    finding: &mut Finding<'_>,
) -> Option<OAuthClient> {
    let Some(known) = providers.find(&name.value) else {
        names::unknown(name, Section::Providers, finding);
        return None;
    };
    let client = client(known);
    if client.is_none() {
        let (why, hint) = known.lack();
        finding.error(
            name.place,
            format!("provider `{}` can't exchange a token: {why}", name.value),
            hint,
        );
    }
    client
}

/// The gateway as a client of a provider, if the file says how.
pub(super) fn client(known: &Known) -> Option<OAuthClient> {
    let client_id = known.client_id.clone()?;
    let credential = known.credential.clone()?;
    let provider = Arc::clone(&known.provider);
    let user_grant = Grant::EntraOnBehalfOf;
    Some(OAuthClient { provider, client_id, credential, user_grant })
}

/// Scopes of OpenID Connect (Core §5.4, §11): they are of no resource, and may stand beside any.
const OF_NO_RESOURCE: [&str; 4] = ["openid", "profile", "email", "offline_access"];

/// Entra gives a token for one resource (AADSTS28000, 70011): say so before a caller meets it.
fn one_resource(scopes: &[Spanned<Text>], finding: &mut Finding<'_>) {
    for scope in scopes {
        let bad = |c: char| !matches!(c, '!' | '#'..='[' | ']'..='~');
        if scope.value.contains(bad) {
            finding.error(
                scope.place,
                format!("`{}` is not a scope", scope.value),
                "one scope an element, without spaces or quotes (RFC 6749 §3.3)",
            );
        }
    }
    let mut of_resources = scopes.iter().filter(|scope| !OF_NO_RESOURCE.contains(&&*scope.value.0));
    let Some(first) = of_resources.next() else { return };
    for scope in of_resources {
        if resource(&scope.value) != resource(&first.value) {
            let problem = super::Problem::error(
                scope.place,
                format!("`{}` is a scope of another resource than `{}`", scope.value, first.value),
            );
            let hint = "an on-behalf-of token is for one resource; make an upstream for each";
            finding.problems.push(problem.related(first.place, "the first scope").hint(hint));
            return;
        }
    }
}

/// The resource of a scope: what stands before its last slash. Scopes without one are Graph's.
fn resource(scope: &str) -> &str {
    match scope.rsplit_once('/') {
        Some((resource, _)) => resource.trim_end_matches('/'),
        None => "https://graph.microsoft.com",
    }
}

#[cfg(test)]
mod tests {
    use super::resource;

    #[test]
    fn resources_of_scopes() {
        for (scope, expected) in [
            ("https://graph.microsoft.com/.default", "https://graph.microsoft.com"),
            ("https://graph.microsoft.com/User.Read", "https://graph.microsoft.com"),
            ("User.Read", "https://graph.microsoft.com"),
            (
                "https://management.core.windows.net//.default",
                "https://management.core.windows.net",
            ),
            ("api://orders/read", "api://orders"),
        ] {
            assert_eq!(resource(scope), expected, "{scope}");
        }
    }
}
