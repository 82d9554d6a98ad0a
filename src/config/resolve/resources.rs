//! The protected resources that the routes make up (RFC 9728), and the route by which the
//! gateway itself answers for them, where `server.public_url` is set.

use std::sync::Arc;

use super::Finding;
use crate::authn::Requirement;
use crate::authz::Policy;
use crate::metadata::{Describing, Resources, WELL_KNOWN};
use crate::public_url::PublicUrl;
use crate::route::{EncodedSlashes, HostPattern, PathPattern, RouteMatch};
use crate::snapshot::{Action, Route, ServerTiming};

/// The name of the gateway's own route, in logs and metrics.
const NAME: &str = "oauth-protected-resource";

/// Gives every route that callers of `public_url` can reach its resource, and adds the route that
/// answers for all of them.
pub(super) fn add(
    entries: &mut Vec<(RouteMatch, Route)>,
    public_url: &Arc<PublicUrl>,
    finding: &Finding<'_>,
) {
    let mut describing = Describing::default();
    let paths: Vec<Option<String>> = entries
        .iter()
        .map(|(matching, route)| match &route.requirement {
            Requirement::Token { providers, .. } if is_at(matching, public_url) => {
                Some(describing.add(&matching.path, providers, &route.policy.scopes))
            }
            Requirement::Token { .. } | Requirement::Open => None,
        })
        .collect();
    let resources = Arc::new(describing.finish(public_url));
    for ((_, route), path) in entries.iter_mut().zip(paths) {
        route.resource = path.and_then(|path| resources.at(&path).cloned());
    }
    add_own_route(entries, &resources, finding);
}

/// Whether a caller of `public_url` meets the route.
pub(super) fn is_at(matching: &RouteMatch, public_url: &PublicUrl) -> bool {
    matching.hosts.is_empty() || matching.hosts.iter().any(|host| host.takes(public_url.host()))
}

/// Adds a route for all that is below the well-known path.
///
/// By the rule of all routes, what the file itself says of such a path in as many words goes before
/// it, and what it says of all paths does not. So that a catch-all of one host does not either, it
/// is a route of each host that the file has, and of no host.
fn add_own_route(
    entries: &mut Vec<(RouteMatch, Route)>,
    resources: &Arc<Resources>,
    finding: &Finding<'_>,
) {
    let Ok(path) = PathPattern::parse(&format!("{WELL_KNOWN}/{{*resource}}")) else { return };
    // A route of the file that takes all of it is left alone.
    let (mut hosts, mut everywhere) = (Vec::<HostPattern>::new(), true);
    let mut taken = Vec::new();
    for (matching, _) in entries.iter() {
        let same = matching.path.takes_the_same_as(&path)
            && matching.methods.is_empty()
            && matching.headers.is_empty()
            && matching.query.is_empty();
        everywhere &= !(same && matching.hosts.is_empty());
        for host in &matching.hosts {
            let list = if same { &mut taken } else { &mut hosts };
            if !list.contains(host) {
                list.push(host.clone());
            }
        }
    }
    hosts.retain(|host| !taken.contains(host));
    let name = free_name(entries);
    let metrics = finding.lasting.metrics.route(&name);
    let of_hosts = (!hosts.is_empty()).then_some(hosts);
    let of_none = everywhere.then(Vec::new);
    for hosts in of_hosts.into_iter().chain(of_none) {
        let matching = RouteMatch {
            path: path.clone(),
            hosts,
            methods: Vec::new(),
            headers: Vec::new(),
            query: Vec::new(),
            ignore_case: false,
            encoded_slashes: EncodedSlashes::Reject,
        };
        let route = Route {
            line: 0,
            metrics: Arc::clone(&metrics),
            requirement: Requirement::Open,
            policy: Policy::default(),
            resource: None,
            cors: None,
            rate_limit: None,
            server_timing: ServerTiming::Off,
            action: Action::Describe(Arc::clone(resources)),
        };
        entries.push((matching, route));
    }
}

/// [`NAME`]; with a number behind it where a route of the file has it.
fn free_name(entries: &[(RouteMatch, Route)]) -> String {
    let taken = |name: &str| entries.iter().any(|(_, route)| **route.metrics.name() == *name);
    let numbered = (2..).map(|number| format!("{NAME}-{number}"));
    let names = std::iter::once(NAME.to_owned()).chain(numbered);
    names.into_iter().find(|name| !taken(name)).unwrap_or_default()
}
