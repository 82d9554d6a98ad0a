//! Whether the callers of a route can get the token that its upstream wants.

use super::super::super::file;
use super::super::super::problem::{Place, Problem};
use super::super::super::spanned::Spanned;
use super::super::exchanges::Exchange;
use super::super::providers::Known as Provider;
use super::super::tokens::Token;
use super::Resolver;
use crate::exchange::{InNameOf, TokenPlan};

/// Notes the place of an on-behalf-of token, and of one in the gateway's own name.
const TOKEN: &str = "the token on behalf of the caller is asked for here";
const OWN_TOKEN: &str = "the token in the gateway's own name is asked for here";

impl Resolver<'_, '_> {
    /// A token on behalf of nobody, or of a caller whose provider can't be asked, would fail
    /// with every request.
    pub(super) fn check_token(
        &mut self,
        route: &Spanned<file::Route>,
        token: &Token,
        asked_of: &[&Provider],
    ) {
        if asked_of.is_empty() && matches!(token.plan, TokenPlan::ManagedIdentity(_)) {
            let problem = Problem::warning(
                route.auth.key_place(),
                "this route is open, and whoever reaches it has all the permissions of the managed identity at the upstream",
            );
            let hint =
                "ask for a token (`auth: any`, or what it must have), unless that is what you want";
            let related = "the token of the managed identity is asked for here";
            self.finding.problems.push(problem.related(token.place, related).hint(hint));
        }
        let Some(exchange) = &token.exchange else { return };
        let note = match exchange.in_name_of() {
            InNameOf::Caller { .. } => TOKEN,
            InNameOf::Gateway => OWN_TOKEN,
        };
        if asked_of.is_empty() {
            let problem = on_open_route(exchange, route.auth.key_place());
            self.finding.problems.push(problem.related(token.place, note));
        }
        if let Some(named) = exchange.named_provider() {
            let lacks = |known: &&&Provider| !named.has_endpoints_for_callers_of(&known.provider);
            for known in asked_of.iter().filter(lacks) {
                let (name, named) = (known.provider.name(), named.name());
                let message = format!(
                    "callers of provider `{name}` can't get a token for the upstream: they are of no tenant, or of another than those of `allowed_tenants` of provider `{named}`, which is asked"
                );
                let problem = Problem::error(route.auth.key_place(), message);
                let hint = format!(
                    "exchange at a provider with one `tenant`; or list the route's `providers` without `{name}`"
                );
                self.finding.problems.push(problem.related(token.place, note).hint(hint));
            }
            return;
        }
        for known in asked_of {
            exchange.judge_for(known, self.finding);
            let Some((why, hint)) = exchange.lack(known) else { continue };
            let name = known.provider.name();
            let message =
                format!("callers of provider `{name}` can't get a token for the upstream: {why}");
            let problem = Problem::error(route.auth.key_place(), message);
            let hint = format!("{hint}; or list the route's `providers` without it");
            self.finding.problems.push(problem.related(token.place, note).hint(hint));
        }
    }
}

/// What it means that nobody's token is asked for before `exchange` is made.
fn on_open_route(exchange: &Exchange, auth: Place) -> Problem {
    match exchange.in_name_of() {
        InNameOf::Caller { .. } => Problem::error(
            auth,
            "the upstream's token is on behalf of the caller, and this route is open",
        )
        .hint("ask for a token (`auth: any`, or what it must have), or write `token: { none: true }` in the route"),
        InNameOf::Gateway => match exchange.named_provider() {
            Some(named) if named.has_several_tenants() => Problem::error(
                auth,
                format!("this route is open, and the tenant that provider `{}` is asked in is the caller's", named.name()),
            )
            .hint("ask for a token, or name a provider with one `tenant`"),
            Some(_) => Problem::warning(
                auth,
                "this route is open, and whoever calls it uses the permissions of the gateway",
            )
            .hint("ask for a token: `auth: any`, or what it must have"),
            None => Problem::error(
                auth,
                "this route is open, and which provider gives the upstream's token depends on the caller's",
            )
            .hint("name one beside the scopes: `provider: entra`"),
        },
    }
}
