//! `on_behalf_of` and `client_credentials` of a `token:`: which provider is asked, as whom, in
//! whose name and for what.
//!
//! What a provider can give depends on its kind, and which providers are asked may depend on
//! the route: what only Entra refuses is said once, as soon as Entra is known to be asked.

use std::cell::Cell;
use std::sync::Arc;

use url::Url;

use super::super::file::{AppCallers, ClientCredentials, Cloud, OnBehalfOf, Preset, TokenRequest};
use super::super::problem::{Place, Problem};
use super::super::spanned::{List, OneOrMany, Spanned};
use super::super::value::Text;
use super::Finding;
use super::names::{self, Section};
use super::providers::{Known, Providers};
use crate::authn::Provider;
use crate::exchange::{
    self, ExchangePlan, ExchangeSettings, InNameOf, OAuthClient, OAuthClients, Requested,
    TokenPlan, UnfitParameter, default_scope, may_be_added,
};

/// A token of a provider's, and what its keys ask of whichever provider it is.
pub(super) struct Exchange {
    plan: Arc<ExchangePlan>,
    asked: TokenRequest,
    /// `app_callers`, or the key itself.
    app_callers: Place,
    /// Where it stands.
    place: Place,
    /// Filled in by a `preset`, whose service takes tokens of Entra only.
    of_preset: bool,
    /// Whether it was said what Entra refuses of it.
    judged_for_entra: Cell<bool>,
    warned_of_app_callers: Cell<bool>,
}

/// Resolves `on_behalf_of` for requests to `upstream`.
pub(super) fn on_behalf_of(
    of: &OnBehalfOf,
    place: Place,
    upstream: &Arc<str>,
    providers: &Providers,
    finding: &mut Finding<'_>,
) -> Option<Exchange> {
    let apps = match of.app_callers.value {
        AppCallers::Reject => exchange::AppCallers::Reject,
        AppCallers::ClientCredentials => exchange::AppCallers::ClientCredentials,
    };
    let clients = match &of.asked.provider {
        Some(name) => OAuthClients::Named(named(name, providers, finding)?),
        None => of_caller(providers),
    };
    let name = InNameOf::Caller { apps };
    let exchange = made(&of.asked, name, clients, place, upstream, finding);
    let exchange = Exchange { app_callers: of.app_callers.key_place(), ..exchange };
    exchange.judge_for_all(providers, finding);
    Some(exchange)
}

/// Resolves `client_credentials` for requests to `upstream`.
pub(super) fn client_credentials(
    of: &ClientCredentials,
    place: Place,
    upstream: &Arc<str>,
    providers: &Providers,
    finding: &mut Finding<'_>,
) -> Option<Exchange> {
    let clients = match (&of.asked.provider, finding.provider_names) {
        (Some(name), _) => OAuthClients::Named(named(name, providers, finding)?),
        // The only one there is, whoever calls, and on open routes too.
        (None, [only]) => {
            let known = providers.find(only)?;
            OAuthClients::Named(client_of(known, place, finding)?)
        }
        (None, _) => of_caller(providers),
    };
    let exchange = made(&of.asked, InNameOf::Gateway, clients, place, upstream, finding);
    exchange.judge_for_all(providers, finding);
    Some(exchange)
}

/// The token that `preset` fills in: on behalf of the caller, for the service of its cloud.
pub(super) fn of_preset(
    preset: Preset,
    place: Place,
    upstream: &Arc<str>,
    providers: &Providers,
) -> Exchange {
    let resource = super::upstreams::service(preset, super::upstreams::cloud(providers));
    let settings = ExchangeSettings {
        clients: OAuthClients::OfCaller(
            providers.iter().filter(|known| known.is_entra()).filter_map(client).collect(),
        ),
        in_name_of: InNameOf::Caller { apps: exchange::AppCallers::Reject },
        requested: Requested::scopes(vec![format!("{resource}/.default")]),
        upstream: Arc::clone(upstream),
    };
    Exchange {
        plan: Arc::new(ExchangePlan::new(settings)),
        asked: TokenRequest::default(),
        app_callers: place,
        place,
        of_preset: true,
        judged_for_entra: Cell::new(true),
        warned_of_app_callers: Cell::new(true),
    }
}

/// The gateway as a client of a provider, if the file says how.
pub(super) fn client(known: &Known) -> Option<OAuthClient> {
    Some(OAuthClient {
        provider: Arc::clone(&known.provider),
        client_id: known.client_id.clone()?,
        credential: known.credential.clone()?,
        user_grant: known.user_grant,
    })
}

fn of_caller(providers: &Providers) -> OAuthClients {
    OAuthClients::OfCaller(providers.iter().filter_map(client).collect())
}

fn named(
    name: &Spanned<Text>,
    providers: &Providers,
    finding: &mut Finding<'_>,
) -> Option<OAuthClient> {
    let Some(known) = providers.find(&name.value) else {
        names::unknown(name, Section::Providers, finding);
        return None;
    };
    client_of(known, name.place, finding)
}

fn client_of(known: &Known, place: Place, finding: &mut Finding<'_>) -> Option<OAuthClient> {
    let client = client(known);
    if client.is_none() {
        let (why, hint) = known.lack();
        let message = format!("provider `{}` can't give a token: {why}", known.provider.name());
        finding.error(place, message, hint);
    }
    client
}

/// Builds the plan, and says what no provider takes.
fn made(
    asked: &TokenRequest,
    in_name_of: InNameOf,
    clients: OAuthClients,
    place: Place,
    upstream: &Arc<str>,
    finding: &mut Finding<'_>,
) -> Exchange {
    check_scopes(scopes(asked), finding);
    check_resources(asked, finding);
    check_extra(asked, finding);
    let requested = Requested {
        scopes: texts(scopes(asked)),
        audiences: texts(one_or_many(asked.audience.as_ref())),
        resources: texts(one_or_many(asked.resource.as_ref())),
        extra_parameters: asked
            .extra_parameters
            .0
            .iter()
            .map(|(name, value)| (name.value.clone(), value.value.0.clone()))
            .collect(),
    };
    let settings =
        ExchangeSettings { clients, in_name_of, requested, upstream: Arc::clone(upstream) };
    Exchange {
        plan: Arc::new(ExchangePlan::new(settings)),
        asked: asked.clone(),
        app_callers: place,
        place,
        of_preset: false,
        judged_for_entra: Cell::new(false),
        warned_of_app_callers: Cell::new(false),
    }
}

impl Exchange {
    /// The plan that requests meet.
    pub(super) fn plan(&self) -> TokenPlan {
        TokenPlan::Exchange(Arc::clone(&self.plan))
    }

    /// Whether the provider is fixed, so that the caller's own makes no difference.
    pub(super) fn named_provider(&self) -> Option<&Arc<Provider>> {
        self.plan.named_provider()
    }

    /// In whose name the token is asked for.
    pub(super) fn in_name_of(&self) -> InNameOf {
        self.plan.in_name_of()
    }

    /// Why callers of `known` can't get the token, and what to do; `None` if they can.
    pub(super) fn lack(&self, known: &Known) -> Option<(String, &'static str)> {
        if client(known).is_none() {
            return Some(known.lack());
        }
        (self.of_preset && !known.is_entra()).then(|| {
            (
                "the service of a `preset` takes tokens of providers of `type: entra` only"
                    .to_owned(),
                "give the upstream a `token` with `provider`",
            )
        })
    }

    /// Says what is wrong wherever it is asked: at a named provider, or all there are.
    fn judge_for_all(&self, providers: &Providers, finding: &mut Finding<'_>) {
        let asked: Vec<&Known> = match &self.asked.provider {
            Some(name) => providers.find(&name.value).into_iter().collect(),
            None => providers.iter().collect(),
        };
        if asked.iter().all(|known| known.is_entra()) {
            let clouds: Vec<Cloud> = asked.iter().map(|known| known.cloud).collect();
            self.judge_for_entra(&clouds, finding);
        }
    }

    /// Says what Entra refuses, once: a route may come to this, where callers of Entra do.
    pub(super) fn judge_for(&self, known: &Known, finding: &mut Finding<'_>) {
        if known.is_entra() {
            self.judge_for_entra(&[known.cloud], finding);
        } else {
            self.warn_of_app_callers(known, finding);
        }
    }

    /// Elsewhere than at Entra nothing but scopes tells people from services, and not every
    /// provider gives them to people.
    fn warn_of_app_callers(&self, known: &Known, finding: &mut Finding<'_>) {
        let apps = exchange::AppCallers::ClientCredentials;
        if self.in_name_of() != (InNameOf::Caller { apps })
            || self.warned_of_app_callers.replace(true)
        {
            return;
        }
        let name = known.provider.name();
        finding.warning(
            self.app_callers,
            format!("a caller of provider `{name}` whose token has none of its `scope_claims` counts as an application, and uses the permissions of the gateway"),
            "see that its people always get a scope; or give applications a route of their own, with `callers: apps` and a role",
        );
    }

    /// `clouds` are those of the providers that may be asked.
    fn judge_for_entra(&self, clouds: &[Cloud], finding: &mut Finding<'_>) {
        if self.judged_for_entra.replace(true) {
            return;
        }
        let graph = graph(clouds.first().copied().unwrap_or_default());
        let TokenRequest { audience, resource, .. } = &self.asked;
        for (key, given) in [("audience", audience), ("resource", resource)] {
            let Some(given) = given else { continue };
            finding.error(
                given.key_place(),
                format!("`{key}` says nothing at a provider of `type: entra`"),
                "Entra knows whom a token is for by its scopes: `scopes: [api://orders/.default]`",
            );
        }
        let scopes = scopes(&self.asked);
        if scopes.is_empty() {
            if audience.is_none() && resource.is_none() {
                // A rule of the file's form says so.
                return;
            }
            finding.error(
                self.place,
                "a provider of `type: entra` needs `scopes`",
                "name the upstream's scope: `scopes: [api://orders/.default]`",
            );
            return;
        }
        match self.in_name_of() {
            InNameOf::Gateway => only_default_scopes(scopes, graph, finding),
            InNameOf::Caller { apps: exchange::AppCallers::ClientCredentials }
                if !scopes.iter().any(|scope| default_scope(&scope.value.0).is_some()) =>
            {
                finding.error(
                    self.app_callers,
                    "applications can't get a token by these `scopes`, which name no resource",
                    format!("at Entra they get all that they were granted at a resource: name it, as in `{graph}/User.Read`"),
                );
            }
            InNameOf::Caller { .. } => {}
        }
        one_resource(scopes, clouds, finding);
    }
}

fn scopes(asked: &TokenRequest) -> &[Spanned<Text>] {
    asked.scopes.as_ref().map_or(&[], |Spanned { value: List(scopes), .. }| scopes)
}

fn one_or_many(given: Option<&Spanned<OneOrMany<Spanned<Text>>>>) -> &[Spanned<Text>] {
    given.map_or(&[], |Spanned { value: OneOrMany(texts), .. }| texts)
}

fn texts(list: &[Spanned<Text>]) -> Vec<String> {
    list.iter().map(|text| text.value.0.clone()).collect()
}

/// A scope with a space or a quote in it is none, and none that a token could have.
pub(super) fn check_scopes(scopes: &[Spanned<Text>], finding: &mut Finding<'_>) {
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
}

/// `resource` is an absolute URI without a fragment (RFC 8707 §2).
fn check_resources(asked: &TokenRequest, finding: &mut Finding<'_>) {
    for resource in one_or_many(asked.resource.as_ref()) {
        let is_uri = Url::parse(&resource.value).is_ok_and(|url| url.fragment().is_none());
        if !is_uri || resource.value.contains(|c: char| c.is_whitespace() || c.is_control()) {
            finding.error(
                resource.place,
                format!("`{}` is not an absolute URI without a fragment", resource.value),
                "write it as `https://orders.example.com`; a name that is no URI is an `audience`",
            );
        }
    }
}

fn check_extra(asked: &TokenRequest, finding: &mut Finding<'_>) {
    for (name, value) in &asked.extra_parameters.0 {
        let shown = &name.value;
        let (message, hint) = match may_be_added(shown, &value.value) {
            Ok(()) => continue,
            Err(UnfitParameter::Reserved) => (
                format!("`{shown}` is the gateway's own parameter"),
                "remove it: who asks, by what right and for whom is said by `client_id`, `credential`, `scopes`, `audience` and `resource`",
            ),
            Err(UnfitParameter::Name) => (
                format!("`{shown}` is not the name of a parameter"),
                "it has letters, digits, `-`, `.` and `_` only (RFC 6749, Appendix A)",
            ),
            Err(UnfitParameter::TokenType) => (
                format!("`{shown}` asks for what is no access token"),
                "write `requested_token_type: urn:ietf:params:oauth:token-type:jwt` (or `:access_token`, the default)",
            ),
        };
        finding.error(name.place, message, hint);
    }
}

/// In its own name an application gets all that it was granted at a resource, or nothing.
fn only_default_scopes(scopes: &[Spanned<Text>], graph: &str, finding: &mut Finding<'_>) {
    for scope in scopes {
        let default = default_scope(&scope.value);
        if default.as_deref() == Some(&*scope.value.0) {
            continue;
        }
        let hint = match default {
            Some(default) => {
                format!("an application gets all that it was granted: write `{default}`")
            }
            None => format!(
                "an application gets all that it was granted at a resource: write `{graph}/.default`"
            ),
        };
        let message =
            format!("Entra gives no token by scope `{}` in the gateway's own name", scope.value);
        finding.error(scope.place, message, hint);
    }
}

/// Scopes of OpenID Connect (Core §5.4, §11): they are of no resource, and may stand beside any.
const OF_NO_RESOURCE: [&str; 4] = ["openid", "profile", "email", "offline_access"];

/// Entra gives a token for one resource (AADSTS28000, 70011): say so before a caller meets it.
fn one_resource(scopes: &[Spanned<Text>], clouds: &[Cloud], finding: &mut Finding<'_>) {
    let mut of_resources = scopes.iter().filter(|scope| !OF_NO_RESOURCE.contains(&&*scope.value.0));
    let Some(first) = of_resources.next() else { return };
    for scope in of_resources {
        // With providers of several clouds, what is right in one is not wrong.
        let same = |cloud: &Cloud| resource(&scope.value, *cloud) == resource(&first.value, *cloud);
        if !clouds.iter().any(same) {
            let problem = Problem::error(
                scope.place,
                format!("`{}` is a scope of another resource than `{}`", scope.value, first.value),
            );
            let hint = "a token of Entra is for one resource; make an upstream for each";
            finding.problems.push(problem.related(first.place, "the first scope").hint(hint));
            return;
        }
    }
}

/// Microsoft Graph as a resource.
fn graph(cloud: Cloud) -> &'static str {
    super::upstreams::service(Preset::Graph, cloud)
}

/// The resource of a scope: what stands before its last slash. Scopes without one are of the
/// cloud's Graph.
fn resource(scope: &str, cloud: Cloud) -> &str {
    match scope.rsplit_once('/') {
        Some((resource, _)) => resource.trim_end_matches('/'),
        None => graph(cloud),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::file::Cloud;
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
            assert_eq!(resource(scope, Cloud::Public), expected, "{scope}");
        }
        for (cloud, graph) in [
            (Cloud::UsGov, "https://graph.microsoft.us"),
            (Cloud::China, "https://microsoftgraph.chinacloudapi.cn"),
        ] {
            assert_eq!(resource("User.Read", cloud), graph);
            assert_eq!(
                resource("https://graph.microsoft.com/User.Read", cloud),
                "https://graph.microsoft.com"
            );
        }
    }
}
