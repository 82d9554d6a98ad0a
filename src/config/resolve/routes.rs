//! `routes`: each becomes a match, a requirement, a policy and an action.

mod action;
mod cors;
mod rate_limit;
mod token;

use std::collections::{BTreeMap, HashMap, HashSet, hash_map};
use std::sync::Arc;

use foldhash::fast::RandomState;
use http::{HeaderName, Method};

use self::action::Nothing;
use super::super::file::{self, Auth, AuthRules, RoutesFile};
use super::super::problem::{Place, Problem};
use super::super::spanned::{List, OneOrMany, Spanned};
use super::super::value::Text;
use super::names::{self, Section};
use super::providers::{Known as Provider, Providers};
use super::upstreams::Upstreams;
use super::{Finding, exchanges, headers, resources};
use crate::authn::{CalledAt, Requirement};
use crate::authz::{Callers, Policy};
use crate::chain::with_sources;
use crate::forward::links::Links;
use crate::giving_way::giving_way;
use crate::public_url::PublicUrl;
use crate::rate_limit::RateLimit;
use crate::route::{EncodedSlashes, HostPattern, PathPattern, RouteMatch, RouteTable};
use crate::snapshot::{Route, ServerTiming};

/// The routes of a file.
pub(super) struct Routes {
    /// Those of the file, and those that the gateway adds.
    pub(super) table: RouteTable<Route>,
    /// Where links lead through them.
    pub(super) links: Option<Arc<Links>>,
    /// The names of those of the file, in its order.
    pub(super) names: Vec<Arc<str>>,
}

/// Resolves all routes; `None` if they don't make a table.
pub(super) fn resolve(
    file: &RoutesFile,
    providers: &Providers,
    upstreams: &Upstreams,
    public_url: Option<&Arc<PublicUrl>>,
    finding: &mut Finding<'_>,
) -> Option<Routes> {
    let mut resolver = Resolver {
        file,
        providers,
        upstreams,
        public_url,
        limits: rate_limit::limits_of(finding.previous),
        finding,
        names: Names::given_in(file),
        nothing: Nothing::default(),
    };
    let mut places = Vec::with_capacity(file.routes.0.len());
    let mut entries = Vec::with_capacity(file.routes.0.len());
    for route in giving_way(&file.routes.0) {
        if let Some(entry) = resolver.route(route) {
            places.push(route.r#match.path.place);
            entries.push(entry);
        }
    }
    let names = resolver.names.in_order;
    if let Some(public_url) = public_url {
        resources::add(&mut entries, public_url, finding);
    }
    let ways = entries.iter().any(|(_, route)| route.way().is_some()).then(|| {
        let ways = entries.iter().map(|(matching, route)| (matching.clone(), route.way().cloned()));
        ways.collect::<Vec<_>>()
    });
    match RouteTable::build(entries) {
        Ok(table) => Some(Routes {
            table,
            links: ways.and_then(|ways| Links::new(ways, public_url.cloned())),
            names,
        }),
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

struct Resolver<'a, 'f> {
    file: &'a RoutesFile,
    providers: &'a Providers,
    upstreams: &'a Upstreams,
    public_url: Option<&'a Arc<PublicUrl>>,
    /// The limits of the previous configuration, by route.
    limits: HashMap<&'f str, &'f Arc<RateLimit>, RandomState>,
    finding: &'a mut Finding<'f>,
    names: Names<'a>,
    nothing: Nothing,
}

/// The names of routes.
struct Names<'a> {
    /// Those that the file gives, to any route: none is made that is among them.
    given: HashSet<&'a str, RandomState>,
    /// Where those so far stand.
    places: HashMap<Arc<str>, Place, RandomState>,
    /// Those so far, in the order of the file.
    in_order: Vec<Arc<str>>,
    /// How often one was made of the same words.
    made: HashMap<String, usize, RandomState>,
}

impl<'a> Names<'a> {
    fn given_in(file: &'a RoutesFile) -> Self {
        let given = file.routes.0.iter().filter_map(|route| route.name.as_ref());
        Self {
            given: given.map(|name| name.value.0.as_str()).collect(),
            places: HashMap::with_capacity_and_hasher(file.routes.0.len(), RandomState::default()),
            in_order: Vec::with_capacity(file.routes.0.len()),
            made: HashMap::default(),
        }
    }

    /// `/orders/{id}/{*rest}` becomes `orders-id-rest`; a number goes behind one that is taken.
    fn made_of(&mut self, path: &str) -> String {
        let mut base = String::with_capacity(path.len());
        let mut is_between = false;
        for c in path.chars() {
            if c.is_alphanumeric() || c == '_' || c == '.' {
                if is_between && !base.is_empty() {
                    base.push('-');
                }
                base.push(c);
                is_between = false;
            } else {
                is_between = true;
            }
        }
        if base.is_empty() {
            base.push_str("root");
        }
        if !self.is_taken(&base) {
            return base;
        }
        // Numbers that were taken once stay so.
        let mut number = self.made.get(&base).copied().unwrap_or(1);
        loop {
            number += 1;
            let name = format!("{base}-{number}");
            if !self.is_taken(&name) {
                self.made.insert(base, number);
                return name;
            }
        }
    }

    fn is_taken(&self, name: &str) -> bool {
        self.places.contains_key(name) || self.given.contains(name)
    }

    /// Takes `name`, which stands at `place`; gives where it stood before, if it did.
    fn take(&mut self, name: &Arc<str>, place: Place) -> Option<Place> {
        self.in_order.push(Arc::clone(name));
        match self.places.entry(Arc::clone(name)) {
            hash_map::Entry::Occupied(first) => Some(*first.get()),
            hash_map::Entry::Vacant(none) => {
                none.insert(place);
                None
            }
        }
    }
}

impl<'a> Resolver<'a, '_> {
    fn route(&mut self, route: &Spanned<file::Route>) -> Option<(RouteMatch, Route)> {
        let name = self.name(route);
        let matches = self.matches(&route.r#match, route.encoded_slashes);
        let asked_of = self.requirement(&route.auth);
        if let Auth::Rules(rules) = &route.auth.value {
            exchanges::check_scopes(list(rules.scopes.as_ref()), self.finding);
        }
        let policy = policy(&route.auth.value);
        let cors = self.cors(route);
        let rate_limit = self.rate_limit(route, &name);
        let Some(matches) = matches else {
            // What needs the path can't be judged; names can.
            self.upstream(route);
            return None;
        };
        let called_at = match self.public_url {
            Some(public_url) if !resources::is_at(&matches, public_url) => CalledAt::OwnHost,
            Some(_) | None => CalledAt::PublicUrl,
        };
        let action = self.action(route, &matches.path, called_at, asked_of.as_deref())?;
        let requirement = match asked_of? {
            providers if providers.is_empty() => Requirement::Open,
            providers => Requirement::Token {
                providers: providers.iter().map(|known| Arc::clone(&known.provider)).collect(),
                verified: Arc::clone(&self.finding.lasting.verified),
                proofs: Arc::clone(&self.finding.lasting.proofs),
                called_at,
            },
        };
        let server_timing = if route.server_timing { ServerTiming::On } else { ServerTiming::Off };
        let route = Route {
            metrics: self.finding.lasting.metrics.route(&name),
            line: route.r#match.key_place().line,
            requirement,
            policy,
            resource: None,
            cors,
            rate_limit,
            server_timing,
            action,
        };
        Some((matches, route))
    }

    /// Its name, or one made from its path; two of one name could not be told apart in the log.
    fn name(&mut self, route: &Spanned<file::Route>) -> Arc<str> {
        let (name, place): (Arc<str>, _) = if let Some(name) = &route.name {
            (name.value.0.as_str().into(), name.place)
        } else {
            let path = &route.r#match.path;
            (self.names.made_of(&path.value).into(), path.place)
        };
        if name.contains(char::is_control) {
            let hint = "it stands in logs and metrics: write letters, digits and `-`";
            self.finding.error(place, "a route's name has a control character in it", hint);
        }
        if let Some(first) = self.names.take(&name, place) {
            let problem = Problem::error(place, format!("two routes are named `{name}`"));
            let hint = "names tell routes apart in logs and metrics: change one";
            self.finding.problems.push(problem.related(first, "first here").hint(hint));
        }
        name
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
            Some(method) if method.as_str().bytes().any(|byte| byte.is_ascii_lowercase()) => {
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
}

fn policy(auth: &Auth) -> Policy {
    let rules = match auth {
        Auth::None | Auth::Any => return Policy::default(),
        Auth::Rules(rules) => rules,
    };
    let AuthRules { providers: _, scopes, roles, callers, clients, tenants, claims } = &**rules;
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
