//! `routes`: each becomes a match, a requirement, a policy and an action.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderName, Method};

use super::super::file::{self, Auth, AuthRules, RoutesFile};
use super::super::problem::{Place, Problem};
use super::super::spanned::{List, OneOrMany, Spanned, Table};
use super::super::value::{SizeLimit, Text};
use super::names::{self, Section};
use super::providers::{Known as Provider, Providers};
use super::tokens::{self, Token};
use super::upstreams::{self, Known as Upstream, Upstreams};
use super::{Finding, headers};
use crate::authn::Requirement;
use crate::authz::{Callers, Policy};
use crate::chain::with_sources;
use crate::exchange::TokenPlan;
use crate::forward::headers::Asserted;
use crate::forward::{ForwardedClaim, Forwarding, Patience};
use crate::gateway::{Action, Forward, Route};
use crate::own_answer::{Canned, Redirect};
use crate::route::{EncodedSlashes, HostPattern, PathPattern, Rewrite, RouteMatch, RouteTable};

/// Resolves all routes; `None` if they don't make a table.
pub(super) fn resolve(
    file: &RoutesFile,
    providers: &Providers,
    upstreams: &Upstreams,
    finding: &mut Finding<'_>,
) -> Option<RouteTable<Route>> {
    let mut resolver = Resolver { file, providers, upstreams, finding, names: Vec::new() };
    let mut places = Vec::new();
    let mut entries = Vec::new();
    for route in &file.routes.0 {
        if let Some(entry) = resolver.route(route) {
            places.push(route.r#match.path.place);
            entries.push(entry);
        }
    }
    match RouteTable::build(entries) {
        Ok(table) => Some(table),
        Err(ambiguities) => {
            for ambiguity in ambiguities {
                let place = |index: usize| places.get(index).copied().unwrap_or_default();
                let problem =
                    Problem::error(place(ambiguity.second), "two routes take the same requests");
                finding.problems.push(
                    problem
                        .related(place(ambiguity.first), "the other one")
                        .hint("tell them apart by `path`, `hosts`, `methods`, `headers` or `query`, or remove one"),
                );
            }
            None
        }
    }
}

struct Resolver<'a, 'f> {
    file: &'a RoutesFile,
    providers: &'a Providers,
    upstreams: &'a Upstreams,
    finding: &'a mut Finding<'f>,
    /// Names so far, and where they stand.
    names: Vec<(String, Place)>,
}

impl<'a> Resolver<'a, '_> {
    fn route(&mut self, route: &Spanned<file::Route>) -> Option<(RouteMatch, Route)> {
        let name = self.name(route);
        let matches = self.matches(&route.r#match, route.encoded_slashes);
        let asked_of = self.requirement(&route.auth);
        let policy = policy(&route.auth.value);
        let pattern = matches.as_ref().map(|matches| &matches.path)?.clone();
        let action = self.action(route, &pattern, asked_of.as_deref())?;
        let requirement = match asked_of? {
            providers if providers.is_empty() => Requirement::Open,
            providers => Requirement::Token {
                providers: providers.iter().map(|known| Arc::clone(&known.provider)).collect(),
                verified: Arc::clone(&self.finding.lasting.verified),
            },
        };
        let metrics = self.finding.lasting.metrics.route(&name);
        Some((matches?, Route { metrics, requirement, policy, action }))
    }

    /// Its name, or one made from its path; two of one name could not be told apart in the log.
    fn name(&mut self, route: &Spanned<file::Route>) -> String {
        let (name, place) = match &route.name {
            Some(name) => (name.value.0.clone(), name.place),
            None => (self.made_name(&route.r#match.path.value), route.r#match.path.place),
        };
        if let Some((_, first)) = self.names.iter().find(|(other, _)| *other == name) {
            let problem = Problem::error(place, format!("two routes are named `{name}`"));
            let hint = "names tell routes apart in logs and metrics: change one";
            self.finding.problems.push(problem.related(*first, "first here").hint(hint));
        }
        self.names.push((name.clone(), place));
        name
    }

    /// `/orders/{id}/{*rest}` becomes `orders-id-rest`; a number goes behind one that is taken.
    fn made_name(&self, path: &str) -> String {
        let words = path.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '.');
        let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
        let base = if words.is_empty() { "root".to_owned() } else { words.join("-") };
        let taken = |name: &str| {
            let given = self.file.routes.0.iter().filter_map(|route| route.name.as_ref());
            self.names.iter().any(|(other, _)| other == name)
                || given.into_iter().any(|given| given.value.0 == name)
        };
        let numbered = (2..).map(|number| format!("{base}-{number}"));
        std::iter::once(base.clone()).chain(numbered).find(|name| !taken(name)).unwrap_or(base)
    }

    fn matches(&mut self, of: &file::Match, slashes: file::EncodedSlashes) -> Option<RouteMatch> {
        let path =
            PathPattern::parse(&of.path.value).map_err(|error| self.refuse(&of.path, &error)).ok();
        let mut hosts = Vec::new();
        for host in list(of.hosts.as_ref()) {
            hosts
                .extend(HostPattern::parse(&host.value).map_err(|error| self.refuse(host, &error)));
        }
        let mut methods = Vec::new();
        for method in list(of.methods.as_ref()) {
            methods.extend(self.method(method));
        }
        let mut names: Vec<(HeaderName, String)> = Vec::new();
        for (name, value) in &of.headers.0 {
            names.extend(
                headers::name(&name.value, name.place, self.finding)
                    .map(|name| (name, value.value.clone())),
            );
        }
        let query = of
            .query
            .0
            .iter()
            .map(|(name, value)| (name.value.clone(), value.value.clone()))
            .collect();
        Some(RouteMatch {
            path: path?,
            hosts,
            methods,
            headers: names,
            query,
            ignore_case: of.ignore_case,
            encoded_slashes: match slashes {
                file::EncodedSlashes::Reject => EncodedSlashes::Reject,
                file::EncodedSlashes::Keep => EncodedSlashes::Keep,
            },
        })
    }

    fn refuse(&mut self, text: &Spanned<Text>, error: &dyn std::error::Error) {
        let hint = "paths are `/orders/{id}` or `/orders/{*rest}`, hosts `api.example.com` or `*.example.com`";
        self.finding.error(text.place, with_sources(error), hint);
    }

    fn method(&mut self, text: &Spanned<Text>) -> Option<Method> {
        let method = Method::from_bytes(text.value.as_bytes()).ok();
        let known = method.filter(|method| !matches!(*method, Method::TRACE | Method::CONNECT));
        let upper = known.filter(|method| method.as_str() == method.as_str().to_ascii_uppercase());
        if upper.is_none() {
            let message = format!("`{}` is not a method that can be routed", text.value);
            self.finding.error(
                text.place,
                message,
                "write it in capitals: `GET`; TRACE and CONNECT are never served",
            );
        }
        upper
    }

    /// The providers whose tokens the route takes; empty for an open one, `None` if there is a
    /// problem with that.
    fn requirement(&mut self, auth: &Spanned<Auth>) -> Option<Vec<&'a Provider>> {
        let listed = match &auth.value {
            Auth::None => return Some(Vec::new()),
            Auth::Any => None,
            Auth::Rules(rules) => rules.providers.as_ref(),
        };
        let Some(listed) = listed else {
            if self.finding.provider_names.is_empty() {
                let hint = "add the provider whose tokens are accepted, or write `auth: none` to leave the route open";
                self.finding.error(
                    auth.key_place(),
                    "the route asks for a token, and there are no `providers`",
                    hint,
                );
            }
            let all: Vec<&'a Provider> = self.providers.iter().collect();
            return (!all.is_empty()).then_some(all);
        };
        let mut found = Vec::new();
        for name in &listed.0 {
            match self.providers.find(&name.value) {
                Some(known) => found.push(known),
                None => names::unknown(name, Section::Providers, self.finding),
            }
        }
        (found.len() == listed.0.len()).then_some(found)
    }

    fn action(
        &mut self,
        route: &Spanned<file::Route>,
        pattern: &PathPattern,
        asked_of: Option<&[&Provider]>,
    ) -> Option<Action> {
        if let Some(name) = &route.upstream {
            let Some(known) = self.upstreams.find(&name.value) else {
                names::unknown(name, Section::Upstreams, self.finding);
                return None;
            };
            return self.forward(route, known, pattern, asked_of?);
        }
        self.refuse_keys_of_forwarding(route);
        if let Some(respond) = &route.respond {
            return self.respond(respond).map(Action::Respond);
        }
        let redirect = route.redirect.as_ref()?;
        self.redirect(redirect, pattern).map(Action::Redirect)
    }

    fn forward(
        &mut self,
        route: &Spanned<file::Route>,
        known: &Upstream,
        pattern: &PathPattern,
        asked_of: &[&Provider],
    ) -> Option<Action> {
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
        let rewrite = self.rewrite(route.rewrite.as_ref(), pattern);
        let forward_claims = self.forwarded_claims(&route.forward_claims, asked_of);
        let mut asserted: Vec<HeaderName> =
            forward_claims.iter().map(|entry| entry.header.clone()).collect();
        if let TokenPlan::Header { name, .. } = &token.plan {
            asserted.push(name.clone());
        }
        let server = &self.file.server;
        let max_body_bytes =
            route.max_body_bytes.as_ref().map_or(server.max_body_bytes, |size| size.value);
        let forwarding = Forwarding {
            upstream: Arc::clone(&known.upstream),
            rewrite: rewrite?,
            forward_claims,
            asserted: Arc::new(Asserted(asserted)),
            request_headers: headers::rules(&route.request_headers, self.finding),
            response_headers: headers::rules(&route.response_headers, self.finding),
            response_timeout: match &route.timeout {
                Some(timeout) => Patience::Set(upstreams::limit(timeout.value)),
                None => known.upstream.settings().timeouts.response,
            },
            max_body_bytes: match max_body_bytes {
                SizeLimit::Unlimited => None,
                SizeLimit::Bytes(most) => Some(most),
            },
            body_idle_timeout: server.body_idle_timeout.0,
        };
        let metrics = self.finding.lasting.metrics.upstream(known.upstream.name());
        Some(Action::Forward(Box::new(Forward { token: token.plan.clone(), forwarding, metrics })))
    }

    /// A token on behalf of nobody, or of a caller whose provider can't be asked, would fail
    /// with every request.
    fn check_token(&mut self, route: &Spanned<file::Route>, token: &Token, asked_of: &[&Provider]) {
        let TokenPlan::OnBehalfOf(plan) = &token.plan else { return };
        if asked_of.is_empty() {
            let problem = Problem::error(
                route.auth.key_place(),
                "the upstream's token is on behalf of the caller, and this route is open",
            );
            let hint = "ask for a token (`auth: any`, or what it must have), or write `token: { none: true }` in the route";
            self.finding.problems.push(problem.related(token.place, "the token").hint(hint));
        }
        if plan.asks_named_provider() {
            return;
        }
        for known in asked_of.iter().filter(|known| tokens::client(known).is_none()) {
            let name = known.provider.name();
            let problem = Problem::error(
                route.auth.key_place(),
                format!(
                    "callers of provider `{name}` can't be exchanged for: it has no `client_id` and `credential`"
                ),
            );
            let hint = "add both to the provider, or list the route's `providers` without it";
            self.finding.problems.push(problem.related(token.place, "the token").hint(hint));
        }
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
            self.finding.error(text.place, with_sources(&error), names_of(pattern));
        })
        .ok()
    }

    fn forwarded_claims(
        &mut self,
        claims: &Table<Spanned<Text>>,
        asked_of: &[&Provider],
    ) -> Vec<ForwardedClaim> {
        let mut forwarded: Vec<ForwardedClaim> = Vec::new();
        for (claim, header) in &claims.0 {
            if asked_of.is_empty() {
                let message = "an open route knows no claims to forward";
                self.finding.error(
                    claim.place,
                    message,
                    "ask for a token, or remove `forward_claims`",
                );
            }
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
            self.finding.error(place, message, "remove it; `respond` has `headers` of its own");
        }
    }

    fn respond(&mut self, respond: &Spanned<file::Respond>) -> Option<Canned> {
        let mut fields = Vec::new();
        for (name, value) in &respond.headers.0 {
            let name = headers::free_name(&name.value, name.place, self.finding);
            let value = headers::value(&value.value, value.place, self.finding);
            fields.push((name?, value?));
        }
        Some(Canned {
            status: respond.status.value.0,
            headers: fields,
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
        let text = to.value.0.as_str();
        let after_scheme = text.find("://").map_or(0, |scheme| scheme + 3);
        let is_origin =
            after_scheme == 0 || text.starts_with("https://") || text.starts_with("http://");
        let rest = text.get(after_scheme..).unwrap_or_default();
        let path_at = rest.find(['/', '?', '#']).map_or(text.len(), |at| after_scheme + at);
        let (origin, rest) = text.split_at_checked(path_at)?;
        let (path, suffix) = rest.split_at_checked(rest.find(['?', '#']).unwrap_or(rest.len()))?;
        let path = if path.is_empty() && !origin.is_empty() { "/" } else { path };
        // `//host` and `/\host` would be another host for a browser.
        if !is_origin
            || !path.starts_with('/')
            || path.starts_with("//")
            || origin.contains(['{', '@', '\\'])
        {
            let message = format!("`{text}` is not a place to redirect to");
            self.finding.error(
                to.place,
                message,
                "write a URL or a path: `https://www.example.com/{rest}`, `/new/{rest}`",
            );
            return None;
        }
        let path = Rewrite::template(path, pattern)
            .map_err(|error| {
                self.finding.error(to.place, with_sources(&error), names_of(pattern));
            })
            .ok()?;
        Some(Redirect {
            status: redirect.status.0,
            origin: origin.to_owned(),
            path,
            suffix: suffix.to_owned(),
        })
    }
}

fn names_of(pattern: &PathPattern) -> String {
    let names: Vec<String> = pattern.names().map(|name| format!("`{{{name}}}`")).collect();
    match names.as_slice() {
        [] => format!("`{}` has no names", pattern.text()),
        names => format!("names in `{}`: {}", pattern.text(), names.join(", ")),
    }
}

fn policy(auth: &Auth) -> Policy {
    let rules = match auth {
        Auth::None | Auth::Any => return Policy::default(),
        Auth::Rules(rules) => rules,
    };
    let AuthRules { providers: _, scopes, roles, callers, clients, tenants, claims } = rules;
    Policy {
        scopes: texts(scopes.as_ref()),
        roles: texts(roles.as_ref()),
        callers: match callers {
            file::Callers::Any => Callers::Any,
            file::Callers::Users => Callers::Users,
            file::Callers::Apps => Callers::Apps,
        },
        clients: texts(clients.as_ref()),
        tenants: texts(tenants.as_ref()),
        claims: claims.0.iter().map(wanted).collect::<BTreeMap<_, _>>(),
    }
}

fn wanted((claim, values): &(Spanned<String>, OneOrMany<Spanned<Text>>)) -> (String, Vec<String>) {
    (claim.value.clone(), values.0.iter().map(|value| value.value.0.clone()).collect())
}

fn list(list: Option<&List<Spanned<Text>>>) -> &[Spanned<Text>] {
    list.map_or(&[], |list| &list.0)
}

fn texts(of: Option<&List<Spanned<Text>>>) -> Vec<String> {
    list(of).iter().map(|text| text.value.0.clone()).collect()
}
