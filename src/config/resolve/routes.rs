//! `routes`: each becomes a match, a requirement, a policy and an action.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderName, Method};

use super::super::file::{self, Auth, AuthRules, RoutesFile};
use super::super::problem::{Place, Problem};
use super::super::spanned::{List, OneOrMany, Spanned, Table};
use super::super::value::{SizeLimit, Text};
use super::exchanges::Exchange;
use super::names::{self, Section};
use super::providers::{Known as Provider, Providers};
use super::tokens::{self, Token};
use super::upstreams::{self, Known as Upstream, Upstreams};
use super::{Finding, headers, resources};
use crate::authn::Requirement;
use crate::authz::{Callers, Policy};
use crate::chain::with_sources;
use crate::exchange::{InNameOf, TokenPlan};
use crate::forward::headers::Asserted;
use crate::forward::{ForwardedClaim, Forwarding, Patience};
use crate::gateway::{Action, Forward, Route};
use crate::own_answer::{Canned, Redirect};
use crate::public_url::PublicUrl;
use crate::route::{
    EncodedSlashes, HostPattern, PathPattern, Rewrite, RewriteError, RouteMatch, RouteTable,
};

/// Resolves all routes; `None` if they don't make a table.
pub(super) fn resolve(
    file: &RoutesFile,
    providers: &Providers,
    upstreams: &Upstreams,
    public_url: Option<&Arc<PublicUrl>>,
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
    if let Some(public_url) = public_url {
        resources::add(&mut entries, public_url, finding);
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

/// The forms of `match.path`, and of an element of `match.hosts`.
const PATHS: &str = "a path is `/orders`, `/orders/{id}` or `/orders/{*rest}`";
const HOSTS: &str = "a host is `api.example.com` or `*.example.com`";

/// Notes the place of an on-behalf-of token, and of one in the gateway's own name.
const TOKEN: &str = "the token on behalf of the caller is asked for here";
const OWN_TOKEN: &str = "the token in the gateway's own name is asked for here";

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
        let Some(pattern) = matches.as_ref().map(|matches| matches.path.clone()) else {
            // What needs the path can't be judged; names can.
            self.upstream(route);
            return None;
        };
        let action = self.action(route, &pattern, asked_of.as_deref())?;
        let requirement = match asked_of? {
            providers if providers.is_empty() => Requirement::Open,
            providers => Requirement::Token {
                providers: providers.iter().map(|known| Arc::clone(&known.provider)).collect(),
                verified: Arc::clone(&self.finding.lasting.verified),
                proofs: Arc::clone(&self.finding.lasting.proofs),
            },
        };
        let metrics = self.finding.lasting.metrics.route(&name);
        Some((matches?, Route { metrics, requirement, policy, resource: None, action }))
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
        let path = PathPattern::parse(&of.path.value)
            .map_err(|error| self.refuse(&of.path, &error, PATHS))
            .ok();
        let mut hosts = Vec::new();
        for host in list(of.hosts.as_ref()) {
            hosts.extend(
                HostPattern::parse(&host.value).map_err(|error| self.refuse(host, &error, HOSTS)),
            );
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

    fn refuse(&mut self, text: &Spanned<Text>, error: &dyn std::error::Error, forms: &str) {
        self.finding.error(text.place, with_sources(error), forms);
    }

    fn method(&mut self, text: &Spanned<Text>) -> Option<Method> {
        let method = Method::from_bytes(text.value.as_bytes()).ok();
        let hint = match &method {
            Some(method) if matches!(*method, Method::TRACE | Method::CONNECT) => {
                "TRACE and CONNECT are never served: remove it".to_owned()
            }
            Some(method) if method.as_str() != method.as_str().to_ascii_uppercase() => {
                format!("write it in capitals: `{}`", method.as_str().to_ascii_uppercase())
            }
            Some(_) => return method,
            None => "write a method's name: `GET`, `POST`".to_owned(),
        };
        self.finding.error(
            text.place,
            format!("`{}` is not a method that can be routed", text.value),
            hint,
        );
        None
    }

    /// The providers whose tokens the route takes; empty for an open one, `None` if there is a
    /// problem with that.
    fn requirement(&mut self, auth: &Spanned<Auth>) -> Option<Vec<&'a Provider>> {
        if let Auth::Rules(rules) = &auth.value
            && let Some(claims) = rules.claims.as_ref().filter(|claims| claims.0.is_empty())
        {
            let hint = "name claims and their values, or remove the key; for any valid token write `auth: any`";
            self.finding.error(claims.key_place(), "`claims` names no claim", hint);
        }
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
        if route.upstream.is_some() {
            let known = self.upstream(route);
            return self.forward(route, known, pattern, asked_of);
        }
        self.refuse_keys_of_forwarding(route);
        if let Some(respond) = &route.respond {
            return self.respond(respond).map(Action::Respond);
        }
        let redirect = route.redirect.as_ref()?;
        self.redirect(redirect, pattern).map(Action::Redirect)
    }

    /// The upstream that the route names, if there is one without problems.
    fn upstream(&mut self, route: &file::Route) -> Option<&'a Upstream> {
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
        asked_of: Option<&[&Provider]>,
    ) -> Option<Action> {
        // What is wrong with these is said even where the upstream or the providers are.
        let rewrite = self.rewrite(route.rewrite.as_ref(), pattern);
        let is_open = matches!(route.auth.value, Auth::None);
        let forward_claims = self.forwarded_claims(&route.forward_claims, is_open);
        let request_headers = headers::rules(&route.request_headers, self.finding);
        let response_headers = headers::rules(&route.response_headers, self.finding);
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
        let forwarding = Forwarding {
            upstream: Arc::clone(&known.upstream),
            rewrite: rewrite?,
            forward_claims,
            asserted: Arc::new(Asserted(asserted)),
            request_headers,
            response_headers,
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
            RewriteError::NotAPath { .. } | RewriteError::DotsBesideName(_) => problem,
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
        claims: claims.iter().flat_map(|claims| &claims.0).map(wanted).collect::<BTreeMap<_, _>>(),
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
