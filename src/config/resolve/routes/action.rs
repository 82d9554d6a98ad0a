//! What a route does with a request: `upstream`, `respond` or `redirect`, and what goes with each.
//!
//! Whether its callers can get the upstream's token is judged in `token.rs`.

use std::sync::Arc;

use http::HeaderName;

use super::super::super::file::{self, Auth};
use super::super::super::problem::Problem;
use super::super::super::spanned::{Spanned, Table};
use super::super::super::value::{SizeLimit, Text, Upgrade};
use super::super::names::{self, Section};
use super::super::providers::Known as Provider;
use super::super::upstreams::{self, Known as Upstream};
use super::super::{headers, tokens};
use super::Resolver;
use crate::authn::CalledAt;
use crate::chain::with_sources;
use crate::exchange::TokenPlan;
use crate::forward::headers::{Asserted, HeaderRules};
use crate::forward::links::Way;
use crate::forward::upgrade::{Upgrades, WEBSOCKET};
use crate::forward::{AtTokenEnd, ForwardedClaim, Forwarding, Patience, Protocol};
use crate::own_answer::{Canned, Redirect};
use crate::route::{PathPattern, Rewrite, RewriteError};
use crate::snapshot::{Action, Forward};

impl<'a> Resolver<'a, '_> {
    pub(super) fn action(
        &mut self,
        route: &Spanned<file::Route>,
        pattern: &PathPattern,
        called_at: CalledAt,
        asked_of: Option<&[&Provider]>,
    ) -> Option<Action> {
        if route.upstream.is_some() {
            let known = self.upstream(route);
            return self.forward(route, known, pattern, called_at, asked_of);
        }
        self.refuse_keys_of_forwarding(route);
        if let Some(respond) = &route.respond {
            return self.respond(respond).map(Action::Respond);
        }
        let redirect = route.redirect.as_ref()?;
        self.redirect(redirect, pattern).map(Action::Redirect)
    }

    /// The upstream that the route names, if there is one without problems.
    pub(super) fn upstream(&mut self, route: &file::Route) -> Option<&'a Upstream> {
        let name = route.upstream.as_ref()?;
        let known = self.upstreams.find(&name.value);
        if known.is_none() {
            names::unknown(name, Section::Upstreams, self.finding);
        }
        known
    }

    fn forward(
        &mut self,
        route: &Spanned<file::Route>,
        known: Option<&Upstream>,
        pattern: &PathPattern,
        called_at: CalledAt,
        asked_of: Option<&[&Provider]>,
    ) -> Option<Action> {
        // What is wrong with these is said even where the upstream or the providers are.
        let rewrite = self.rewrite(route.rewrite.as_ref(), pattern);
        let is_open = matches!(route.auth.value, Auth::None);
        let forward_claims = self.forwarded_claims(&route.forward_claims, is_open);
        let request_headers = headers::rules(&route.request_headers, self.finding);
        let response_headers = headers::rules(&route.response_headers, self.finding);
        let upgrades = route.upgrades.as_ref().map(|list| self.upgrades(list, known));
        let (known, asked_of) = (known?, asked_of?);
        let own = match &route.token {
            Some(source) => {
                let own =
                    tokens::resolve(source, known.upstream.name(), self.providers, self.finding)?;
                upstreams::warn_of_clear(&own, known.in_clear, known.upstream.name(), self.finding);
                Some(own)
            }
            None => None,
        };
        let token = own.as_ref().unwrap_or(&known.token);
        self.check_token(route, token, asked_of);
        let mut asserted: Vec<HeaderName> =
            forward_claims.iter().map(|entry| entry.header.clone()).collect();
        if let TokenPlan::Header { name, .. } = &token.plan {
            asserted.push(name.clone());
        }
        let server = &self.file.server;
        let max_body_bytes =
            route.max_body_bytes.as_ref().map_or(server.max_body_bytes, |size| size.value);
        let rewrite = rewrite?;
        let way = known.links.as_ref().map(|origins| Way {
            upstream: Arc::clone(known.upstream.name()),
            origins: Arc::clone(origins),
            pattern: pattern.clone(),
            rewrite: rewrite.clone(),
            called_at,
        });
        let forwarding = Forwarding {
            upstream: Arc::clone(&known.upstream),
            rewrite,
            links: way.map(Arc::new),
            forward_claims,
            asserted: self.nothing.or_asserted(asserted),
            request_headers: self.nothing.or_rules(request_headers),
            response_headers: self.nothing.or_rules(response_headers),
            response_timeout: match &route.timeout {
                Some(timeout) => Patience::Set(upstreams::limit(timeout.value)),
                None => known.upstream.settings().timeouts.response,
            },
            max_body_bytes: match max_body_bytes {
                SizeLimit::Unlimited => None,
                SizeLimit::Bytes(most) => Some(most),
            },
            body_idle_timeout: server.body_idle_timeout.0,
            upgrades: upgrades.unwrap_or_default(),
            at_token_end: match &route.outlive_token {
                Some(outlive) if outlive.value => AtTokenEnd::GoesOn,
                Some(_) | None => AtTokenEnd::Ends,
            },
        };
        let metrics = self.finding.lasting.metrics.upstream(known.upstream.name());
        Some(Action::Forward(Box::new(Forward { token: token.plan.clone(), forwarding, metrics })))
    }

    /// What the callers' connections may become, if the upstream can follow.
    fn upgrades(
        &mut self,
        list: &Spanned<Vec<Spanned<Upgrade>>>,
        known: Option<&Upstream>,
    ) -> Upgrades {
        let speaks_http2 = known
            .filter(|known| known.upstream.settings().protocol == Protocol::Http2)
            .map(|known| known.upstream.name());
        let mut tokens: Vec<String> = Vec::new();
        for upgrade in &list.value {
            let token = &upgrade.value.0;
            if tokens.contains(token) {
                let message = format!("`{token}` stands here twice");
                self.finding.error(upgrade.place, message, "write it once");
            }
            if let (Some(upstream), true) = (speaks_http2, token != WEBSOCKET) {
                let message = format!(
                    "there is no upgrade to `{token}` over HTTP/2, which upstream `{upstream}` is spoken to in"
                );
                let hint = "remove it, or change `protocol` of the upstream";
                self.finding.error(upgrade.place, message, hint);
            }
            tokens.push(token.clone());
        }
        Upgrades::of(tokens)
    }

    fn rewrite(
        &mut self,
        rewrite: Option<&Spanned<file::Rewrite>>,
        pattern: &PathPattern,
    ) -> Option<Rewrite> {
        let (text, made) = match rewrite.map(|rewrite| &rewrite.value) {
            None => return Some(Rewrite::Keep),
            Some(file::Rewrite::StripPrefix(text)) => {
                (text, Rewrite::strip_prefix(&text.value, pattern))
            }
            Some(file::Rewrite::Path(text)) => (text, Rewrite::template(&text.value, pattern)),
        };
        made.map_err(|error| {
            self.say_rewrite(text, &error, pattern);
        })
        .ok()
    }

    /// What is wrong with a `rewrite` or the path of a `redirect`.
    fn say_rewrite(&mut self, text: &Spanned<Text>, error: &RewriteError, pattern: &PathPattern) {
        let problem = Problem::error(text.place, with_sources(error));
        self.finding.problems.push(match error {
            RewriteError::NotAPath { .. } | RewriteError::DotsBesideName(_) => {
                problem.hint("what the names stand for is put in: `/v1.0/{rest}`, `/orders/{id}`")
            }
            RewriteError::Prefix(_)
            | RewriteError::NotAPrefix { .. }
            | RewriteError::UnknownName { .. }
            | RewriteError::Braces(_)
            | RewriteError::RestInSegment(_) => problem.hint(names_of(pattern)),
        });
    }

    fn forwarded_claims(
        &mut self,
        claims: &Table<Spanned<Text>>,
        is_open: bool,
    ) -> Vec<ForwardedClaim> {
        let mut forwarded: Vec<ForwardedClaim> = Vec::new();
        if let (true, Some((claim, _))) = (is_open, claims.0.first()) {
            let hint = "ask for a token, or remove `forward_claims`";
            self.finding.error(claim.place, "an open route knows no claims to forward", hint);
        }
        for (claim, header) in &claims.0 {
            let Some(name) = headers::free_name(&header.value, header.place, self.finding) else {
                continue;
            };
            if forwarded.iter().any(|other| other.header == name) {
                let message = format!("two claims are forwarded as `{name}`");
                self.finding.error(header.place, message, "give each a header of its own");
            }
            forwarded.push(ForwardedClaim { claim: claim.value.clone(), header: name });
        }
        forwarded
    }

    /// Keys that only mean something where a request is forwarded: refused, not ignored.
    fn refuse_keys_of_forwarding(&mut self, route: &Spanned<file::Route>) {
        let mut present = Vec::new();
        present.extend(route.rewrite.as_ref().map(|it| ("rewrite", it.key_place())));
        present.extend(route.token.as_ref().map(|it| ("token", it.key_place())));
        present.extend(route.timeout.as_ref().map(|it| ("timeout", it.key_place())));
        present.extend(route.max_body_bytes.as_ref().map(|it| ("max_body_bytes", it.key_place())));
        present.extend(route.upgrades.as_ref().map(|it| ("upgrades", it.key_place())));
        present.extend(route.outlive_token.as_ref().map(|it| ("outlive_token", it.key_place())));
        present.extend(route.forward_claims.0.first().map(|(it, _)| ("forward_claims", it.place)));
        for (key, changes) in [
            ("request_headers", &route.request_headers),
            ("response_headers", &route.response_headers),
        ] {
            let set = changes.set.0.first().map(|(it, _)| it.place);
            let add = changes.add.0.first().map(|(it, _)| it.place);
            let remove = changes.remove.first().map(|it| it.place);
            present.extend(set.or(add).or(remove).map(|place| (key, place)));
        }
        for (key, place) in present {
            let message = format!("`{key}` says nothing in a route without `upstream`");
            let hint = match key {
                "response_headers" if route.respond.is_some() => {
                    "write them as `headers` of `respond`"
                }
                _ => "remove it",
            };
            self.finding.error(place, message, hint);
        }
    }

    fn respond(&mut self, respond: &Spanned<file::Respond>) -> Option<Canned> {
        let mut fields = Vec::new();
        for (name, value) in &respond.headers.0 {
            let name = headers::free_name(&name.value, name.place, self.finding);
            let value = headers::value(&value.value, value.place, self.finding);
            fields.push(name.zip(value));
        }
        Some(Canned {
            status: respond.status.value.0,
            headers: fields.into_iter().collect::<Option<_>>()?,
            body: respond.body.clone().into(),
        })
    }

    /// `to` is a path, or a URL, and may have names from `match.path`.
    fn redirect(
        &mut self,
        redirect: &Spanned<file::Redirect>,
        pattern: &PathPattern,
    ) -> Option<Redirect> {
        let to = &redirect.to;
        let Some((origin, path, suffix)) = place_parts(&to.value) else {
            let message = format!("`{}` is not a place to redirect to", to.value);
            let hint = "write an `https` or `http` URL, or a path; names stand in the path only: `https://www.example.com/{rest}`, `/new/{rest}`";
            self.finding.error(to.place, message, hint);
            return None;
        };
        let path = Rewrite::template(path, pattern)
            .map_err(|error| self.say_rewrite(to, &error, pattern))
            .ok()?;
        Some(Redirect {
            status: redirect.status.0,
            origin: origin.to_owned(),
            path,
            suffix: suffix.to_owned(),
        })
    }
}

/// What most routes do about header fields, which all of them share.
#[derive(Default)]
pub(super) struct Nothing {
    rules: Arc<HeaderRules>,
    asserted: Arc<Asserted>,
}

impl Nothing {
    fn or_rules(&self, rules: HeaderRules) -> Arc<HeaderRules> {
        if rules == *self.rules { Arc::clone(&self.rules) } else { Arc::new(rules) }
    }

    fn or_asserted(&self, names: Vec<HeaderName>) -> Arc<Asserted> {
        if names.is_empty() { Arc::clone(&self.asserted) } else { Arc::new(Asserted(names)) }
    }
}

/// A place to redirect to as origin (which may be empty), path, and query with fragment.
fn place_parts(text: &str) -> Option<(&str, &str, &str)> {
    let path_at = match text.split_once("://") {
        _ if text.starts_with('/') => 0,
        Some((scheme @ ("https" | "http"), rest)) => {
            let behind_scheme = scheme.len() + "://".len();
            rest.find(['/', '?', '#']).map_or(text.len(), |at| behind_scheme + at)
        }
        Some(_) | None => return None,
    };
    let (origin, rest) = text.split_at_checked(path_at)?;
    let (path, suffix) = rest.split_at_checked(rest.find(['?', '#']).unwrap_or(rest.len()))?;
    let path = if path.is_empty() { "/" } else { path };
    // An origin that a browser could read in another way, or with a password in it, is none.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:/[]".contains(&byte);
    let is_origin = origin.is_empty()
        || origin.bytes().all(plain) && url::Url::parse(origin).is_ok_and(|url| url.has_host());
    // `//host` and `/\host` would be another host for a browser.
    let is_fine = is_origin
        && !path.starts_with("//")
        && suffix.bytes().all(|byte| byte.is_ascii_graphic() && !b"{}\"<>\\^`".contains(&byte));
    is_fine.then_some((origin, path, suffix))
}

fn names_of(pattern: &PathPattern) -> String {
    let names: Vec<String> = pattern.names().map(|name| format!("`{{{name}}}`")).collect();
    match names.as_slice() {
        [] => format!("`{}` has no names", pattern.text()),
        names => format!("names in `{}`: {}", pattern.text(), names.join(", ")),
    }
}
