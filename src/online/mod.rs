//! `check --online`: tries for real what a routes file names, and says what came of each try.
//!
//! Providers are asked for metadata, keys and tokens, upstreams are looked up and connected to, the
//! shared cache is written to and read, and certificates are looked at. All of it is done by the gateway's own code, by its narrow openings for
//! this (`trial.rs` of `authn/provider`, `exchange`, `forward` and `shared_store`), so that what is good here is good
//! there. Decides in which order, within which limits, and what is a warning and what a failure. It
//! changes nothing: tokens are dropped, and over connections to upstreams nothing is sent, but
//! health checks where the file has them; what is written to the shared cache is dropped.
//!
//! Checks that depend on one that failed are left out: there is no handshake without an address.

mod certificate;
mod found;
mod provider;
mod report;
mod shared_cache;
mod token;
mod upstream;

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::future::LocalBoxFuture;
use futures_util::stream;
use tokio::time::{Instant, timeout_at};

use self::found::Found;
use crate::authn::{Provider, Requirement};
use crate::clock::{Clock, SharedClock};
use crate::config::resolve::{Resolved, ShownTo};
use crate::exchange::{ManagedIdentityPlan, TokenPlan, Trial};
use crate::forward::Upstream;
use crate::limits;
use crate::snapshot::{Action, Snapshot};

pub use self::report::{Check, Kind, Outcome, Report};

/// Tries all that `resolved` names, in at most [`limits::ONLINE_TIME`].
///
/// # Cancel safety
///
/// Dropping the future closes all calls and connections.
pub async fn check(resolved: &Resolved, clock: &SharedClock) -> Report {
    let clock = &**clock;
    let snapshot = &resolved.snapshot;
    let deadline = Instant::now() + limits::ONLINE_TIME;
    let providers = snapshot.providers.iter().map(|provider| -> LocalBoxFuture<'_, Vec<Check>> {
        Box::pin(try_provider(resolved, provider, clock, deadline))
    });
    let upstreams = snapshot.upstreams.iter().map(|upstream| -> LocalBoxFuture<'_, Vec<Check>> {
        Box::pin(try_upstream(resolved, upstream, clock, deadline))
    });
    // All at once: the file bounds how many there are, and each its own tries.
    let tries = stream::iter(providers.chain(upstreams)).buffered(limits::ONLINE_TRIES);
    let mut checks: Vec<Check> = tries.concat().await;
    checks.extend(Box::pin(try_shared_cache(resolved, deadline)).await);
    for listener in &resolved.listeners {
        let name = listener.address.to_string();
        checks.extend(certificates(resolved, Kind::Listener, &name, clock).into_checks());
    }
    // What providers say of the tokens of upstreams stands with the upstreams.
    let place = |check: &Check| match check.kind {
        Kind::Provider => 0,
        Kind::Upstream => {
            let named = |upstream: &Arc<Upstream>| **upstream.name() == *check.name;
            1 + snapshot.upstreams.iter().position(named).unwrap_or_default()
        }
        Kind::Cache => usize::MAX - 1,
        Kind::Listener => usize::MAX,
    };
    checks.sort_by_key(place);
    Report(checks)
}

async fn try_provider(
    resolved: &Resolved,
    provider: &Arc<Provider>,
    clock: &dyn Clock,
    deadline: Instant,
) -> Vec<Check> {
    let mut found = certificates(resolved, Kind::Provider, provider.name(), clock);
    let mut clients = resolved.clients.iter();
    let client = clients.find(|client| client.provider.name() == provider.name());
    let trials = trials(&resolved.snapshot, provider);
    let tried = provider::check(provider, client, &trials, clock, &mut found);
    let Ok(tried) = timeout_at(deadline, tried).await else {
        too_late(&mut found);
        return found.into_checks();
    };
    let mut checks = found.into_checks();
    for (trial, tried) in &tried {
        let mut found = Found::of(Kind::Upstream, trial.upstream());
        token::of_provider(trial, tried, &mut found);
        checks.extend(found.into_checks());
    }
    checks
}

async fn try_upstream(
    resolved: &Resolved,
    upstream: &Arc<Upstream>,
    clock: &dyn Clock,
    deadline: Instant,
) -> Vec<Check> {
    let mut found = certificates(resolved, Kind::Upstream, upstream.name(), clock);
    let own = own_addresses(resolved);
    let mut of_machine = Found::of(Kind::Upstream, upstream.name());
    let connected = timeout_at(deadline, upstream::check(upstream, &own, clock.now(), &mut found));
    let tokens = timeout_at(deadline, async {
        for plan in managed_identities(&resolved.snapshot, upstream) {
            token::of_machine(plan, &mut of_machine).await;
        }
    });
    let (connected, tokens) = tokio::join!(connected, tokens);
    if connected.is_err() || tokens.is_err() {
        too_late(&mut found);
    }
    let mut checks = found.into_checks();
    checks.extend(of_machine.into_checks());
    checks
}

async fn try_shared_cache(resolved: &Resolved, deadline: Instant) -> Vec<Check> {
    let mut found = Found::of(Kind::Cache, "redis");
    if let Some(settings) = &resolved.shared_store
        && let tried = shared_cache::check(settings, &resolved.snapshot, &mut found)
        && timeout_at(deadline, tried).await.is_err()
    {
        too_late(&mut found);
    }
    found.into_checks()
}

/// The checks of an entry, which begin with the certificates that the gateway shows there.
fn certificates(resolved: &Resolved, kind: Kind, name: &str, clock: &dyn Clock) -> Found {
    let mut found = Found::of(kind, name);
    for certificate in &resolved.certificates {
        let (of, shown_to) = match &certificate.shown_to {
            ShownTo::Provider(name) => (Kind::Provider, name),
            ShownTo::Upstream(name) => (Kind::Upstream, name),
            ShownTo::Callers(address) => (Kind::Listener, address),
        };
        if of == kind && **shown_to == *name {
            certificate::of_ours(certificate, kind, clock.now(), &mut found);
        }
    }
    found
}

fn too_late(found: &mut Found) {
    let detail = format!(
        "not done within {} s: what is missing here was not tried to its end",
        limits::ONLINE_TIME.as_secs()
    );
    found.fail("time", detail, "see which of the checks above is slow");
}

/// Where the gateway listens.
fn own_addresses(resolved: &Resolved) -> Vec<SocketAddr> {
    let listeners = resolved.listeners.iter().map(|listener| listener.address);
    let all = listeners.chain(resolved.admin.as_ref().map(|admin| admin.address));
    // Which port the system gives is not known.
    all.filter(|address| address.port() != 0).collect()
}

/// What `provider` is to give tokens for, each once.
fn trials(snapshot: &Snapshot, provider: &Arc<Provider>) -> Vec<Trial> {
    let mut trials: Vec<Trial> = Vec::new();
    for (requirement, plan) in plans(snapshot) {
        let TokenPlan::Exchange(plan) = plan else { continue };
        let callers = match requirement {
            Requirement::Open => &[][..],
            Requirement::Token { providers, .. } => providers,
        };
        let of_provider = plan.trials(callers).into_iter();
        for trial in of_provider.filter(|trial| trial.provider().name() == provider.name()) {
            if !trials.iter().any(|other| other.is_same(&trial)) {
                trials.push(trial);
            }
        }
    }
    trials
}

/// The tokens of the machine that requests to `upstream` get, each once.
fn managed_identities<'s>(
    snapshot: &'s Snapshot,
    upstream: &Arc<Upstream>,
) -> Vec<&'s Arc<ManagedIdentityPlan>> {
    let mut some: Vec<&Arc<ManagedIdentityPlan>> = Vec::new();
    for (_, plan) in plans(snapshot) {
        if let TokenPlan::ManagedIdentity(plan) = plan
            && plan.upstream() == upstream.name()
            && !some.iter().any(|other| Arc::ptr_eq(other, plan))
        {
            some.push(plan);
        }
    }
    some
}

/// The tokens that routes ask for, each with whose tokens the route takes.
fn plans(snapshot: &Snapshot) -> impl Iterator<Item = (&Requirement, &TokenPlan)> {
    snapshot.routes.iter().filter_map(|route| match &route.action {
        Action::Forward(forward) => Some((&route.requirement, &forward.token)),
        Action::Respond(_) | Action::Redirect(_) | Action::Describe(_) => None,
    })
}
