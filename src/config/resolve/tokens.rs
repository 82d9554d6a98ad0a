//! `token:`, of an upstream or of a route in its place.

use std::sync::Arc;

use super::super::file::{HeaderToken, Preset, TokenSource};
use super::super::problem::Place;
use super::super::spanned::Spanned;
use super::exchanges::{self, Exchange};
use super::providers::Providers;
use super::{Finding, headers, managed_identity};
use crate::exchange::TokenPlan;
use crate::secret::SecretHeader;

/// Which credential an upstream gets, and what is needed to check the routes that use it.
pub(super) struct Token {
    pub(super) plan: TokenPlan,
    /// Where it stands, for problems of routes that can't use it.
    pub(super) place: Place,
    /// Where a provider gives it.
    pub(super) exchange: Option<Exchange>,
}

impl Token {
    /// One that no provider is asked for.
    pub(super) fn fixed(plan: TokenPlan, place: Place) -> Self {
        Self { plan, place, exchange: None }
    }

    fn exchanged(exchange: Exchange, place: Place) -> Self {
        Self { plan: exchange.plan(), place, exchange: Some(exchange) }
    }
}

/// Resolves `token:` for requests to `upstream`.
pub(super) fn resolve(
    source: &Spanned<TokenSource>,
    upstream: &Arc<str>,
    providers: &Providers,
    finding: &mut Finding<'_>,
) -> Option<Token> {
    let place = source.key_place();
    let exchange = match &source.value {
        TokenSource::None(_) => return Some(Token::fixed(TokenPlan::None, place)),
        TokenSource::Passthrough(_) => return Some(Token::fixed(TokenPlan::Passthrough, place)),
        TokenSource::Header(header) => {
            return Some(Token::fixed(header_plan(header, finding)?, place));
        }
        TokenSource::ManagedIdentity(of) => {
            let plan = managed_identity::plan(of, place, upstream, finding)?;
            return Some(Token::fixed(plan, place));
        }
        TokenSource::OnBehalfOf(of) => {
            exchanges::on_behalf_of(of, place, upstream, providers, finding)?
        }
        TokenSource::ClientCredentials(of) => {
            exchanges::client_credentials(of, place, upstream, providers, finding)?
        }
    };
    Some(Token::exchanged(exchange, place))
}

/// The token that `preset` fills in.
pub(super) fn of_preset(
    preset: Preset,
    place: Place,
    upstream: &Arc<str>,
    providers: &Providers,
) -> Token {
    Token::exchanged(exchanges::of_preset(preset, place, upstream, providers), place)
}

fn header_plan(header: &HeaderToken, finding: &mut Finding<'_>) -> Option<TokenPlan> {
    finding.warn_of_literal("the value of `token.header`", &header.value);
    let name = headers::credential_name(&header.name.value, header.name.place, finding);
    let value = headers::value(header.value.value.expose(), header.value.place, finding);
    Some(TokenPlan::Header { name: name?, value: SecretHeader::new(value?) })
}
