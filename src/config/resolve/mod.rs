//! From what a routes file says to what the gateway works with: names are looked up, files are
//! read, patterns are parsed, and all that is wrong with their meaning is said in one go.
//!
//! The only maker of a [`Snapshot`]. It opens no socket and asks no network, so that `check`
//! can do all of it.

mod access_log;
mod balancing;
mod credentials;
mod exchanges;
mod headers;
mod managed_identity;
mod names;
mod providers;
mod resources;
mod retries;
mod routes;
mod server;
mod shared_cache;
mod telemetry;
mod tenants;
mod tests_section;
mod tokens;
mod upstream_certificate;
mod upstreams;

use std::cell::OnceCell;
use std::sync::{Arc, Mutex};

use super::problem::{Place, Problem, Problems};
use super::source::Environment;
use super::spanned::Spanned;
use super::written::Draft;
use super::{Reading, RoutesFile};
use crate::authn::{UsedProofs, VerifiedTokens};
use crate::clock::SharedClock;
use crate::dry_run::PolicyTest;
use crate::exchange::{Exchanger, MetadataService, OAuthClient};
use crate::forward::SharedResolver;
use crate::giving_way::drop_giving_way;
use crate::limits;
use crate::observe::Metrics;
use crate::observe::access_log::AccessLog;
use crate::shared_store::{SharedStore, StoreSettings};
use crate::snapshot::Snapshot;

use self::routes::Routes;

pub use credentials::{CredentialCertificate, ShownTo};
pub use server::{Admin, Listener, Server, admin_address};
pub use tests_section::default_host;

/// What outlives a configuration: it is handed from one to the next.
#[derive(Clone)]
pub struct Lasting {
    /// What time it is.
    pub clock: SharedClock,
    /// Where everything is counted.
    pub metrics: Metrics,
    /// Who knows where upstreams are.
    pub resolver: SharedResolver,
    /// Tokens that were verified.
    pub verified: Arc<VerifiedTokens>,
    /// DPoP proofs that were used.
    pub proofs: Arc<UsedProofs>,
    /// Outbound tokens, and who is waiting for one.
    pub exchanger: Arc<Exchanger>,
    /// What replicas share.
    pub shared_store: Arc<SharedStore>,
    /// What gives tokens of managed identities, once one was asked for.
    metadata_service: Arc<Mutex<Option<Arc<MetadataService>>>>,
}

impl Lasting {
    /// Nothing verified and nothing exchanged yet.
    pub fn new(clock: SharedClock, metrics: Metrics, resolver: SharedResolver) -> Self {
        let verified = VerifiedTokens::new(Arc::clone(&clock), limits::MAX_VERIFIED_TOKENS);
        let proofs = Arc::new(UsedProofs::new(Arc::clone(&clock)));
        let most = super::file::Cache::DEFAULT_MAX_ENTRIES.0.get() as usize;
        let shared_store = SharedStore::new(metrics.clone());
        let exchanger = Exchanger::sharing(
            most,
            Arc::clone(&clock),
            metrics.clone(),
            Arc::clone(&shared_store),
        );
        let (verified, metadata_service) = (Arc::new(verified), Arc::default());
        Self {
            clock,
            metrics,
            resolver,
            verified,
            proofs,
            exchanger,
            shared_store,
            metadata_service,
        }
    }
}

/// A routes file that can be served.
#[derive(Debug)]
pub struct Resolved {
    /// What requests meet.
    pub snapshot: Snapshot,
    /// The certificates by which the gateway proves who it is to providers and upstreams.
    pub certificates: Vec<CredentialCertificate>,
    /// The gateway as the client of each provider that it has a credential for.
    pub clients: Vec<Arc<OAuthClient>>,
    /// Where callers connect.
    pub listeners: Vec<Listener>,
    /// The admin port, if there is one.
    pub admin: Option<Admin>,
    /// What holds for all listeners.
    pub server: Server,
    /// Whether each request leaves a line in the log.
    pub access_log: AccessLog,
    /// Most outbound tokens kept in memory.
    pub max_cached_tokens: usize,
    /// The store that replicas share, if there is one.
    pub shared_store: Option<StoreSettings>,
    /// What the routes are held to by `obo-gateway test`.
    pub tests: Vec<PolicyTest>,
}

/// What is found on the way: problems, and where things come from.
struct Finding<'a> {
    environment: &'a Environment,
    lasting: &'a Lasting,
    previous: Option<&'a Snapshot>,
    problems: &'a mut Problems,
    /// Names under `providers` and `upstreams`, also of those that have problems: a reference to
    /// one of these is no second problem.
    provider_names: &'a [String],
    upstream_names: &'a [String],
    names_shared_cache: bool,
    /// What gives tokens of managed identities, once one is asked for; `None` inside if that has
    /// a problem, which has been said then.
    metadata_service: OnceCell<Option<Arc<MetadataService>>>,
    /// Certificates of credentials and for upstreams, as they are met.
    certificates: Vec<CredentialCertificate>,
}

impl Finding<'_> {
    fn error(&mut self, place: Place, message: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(Problem::error(place, message).hint(hint));
    }

    fn warning(&mut self, place: Place, message: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(Problem::warning(place, message).hint(hint));
    }

    /// The content of a file that the routes file names.
    fn read(&mut self, path: &Spanned<std::path::PathBuf>) -> Option<Vec<u8>> {
        match self.environment.read(&path.value) {
            Ok(content) => Some(content),
            Err(error) => {
                let shown = self.environment.path(&path.value);
                let message = format!("can't read `{}`: {error}", shown.display());
                let hint = "name a file that is there and that this user may read; relative paths are relative to the routes file";
                self.error(path.place, message, hint);
                None
            }
        }
    }

    /// A literal secret in the file: it ends up in version control and in backups.
    fn warn_of_literal<T>(&mut self, what: &str, secret: &Spanned<T>) {
        if !secret.from_outside {
            self.warning(
                secret.place,
                format!("{what} is written in the file"),
                "take it from outside: `${NAME}` or `${file:/run/secrets/name}`",
            );
        }
    }
}

/// Makes of a reading what can be served, reusing of `previous` what did not change.
///
/// # Errors
///
/// All problems, those of the reading among them. Warnings alone are no error: they come with
/// the result.
pub fn resolve(
    reading: Reading,
    environment: &Environment,
    lasting: &Lasting,
    previous: Option<&Snapshot>,
) -> Result<(Resolved, Problems), Problems> {
    let Reading {
        file,
        mut problems,
        provider_names,
        upstream_names,
        names_shared_cache,
        written,
        files_read: _,
    } = reading;
    let Some(file) = file else { return Err(problems) };
    let mut finding = Finding {
        environment,
        lasting,
        previous,
        problems: &mut problems,
        provider_names: &provider_names,
        upstream_names: &upstream_names,
        names_shared_cache,
        metadata_service: OnceCell::new(),
        certificates: Vec::new(),
    };
    let resolved = resolve_file(&file, written, &mut finding);
    drop_giving_way(file.routes.0);
    match resolved {
        Some(resolved) if !problems.refuse() => Ok((resolved, problems)),
        Some(_) | None => Err(problems),
    }
}

fn resolve_file(file: &RoutesFile, written: Draft, finding: &mut Finding<'_>) -> Option<Resolved> {
    let listeners = server::listeners(file, finding);
    let admin = server::admin(file, finding);
    let public_url = server::public_url(file, finding);
    let trusted_proxies = server::trusted_proxies(file, finding);
    let providers = providers::resolve(&file.providers, finding);
    let upstreams = upstreams::resolve(&file.upstreams, &providers, finding);
    let Routes { table: routes, links, names } =
        routes::resolve(file, &providers, &upstreams, public_url.as_ref(), finding)?;
    let tracer = telemetry::tracer(&file.telemetry, finding);
    // What a route with problems would have used is not known.
    if !finding.problems.refuse() {
        upstreams::warn_of_unused(file, finding);
    }
    let shared_store = shared_cache::settings(&file.cache, finding);
    let tests =
        tests_section::resolve(file, &providers, public_url.as_deref(), routes.iter(), finding);
    let clients = providers.iter().filter_map(exchanges::client).map(Arc::new).collect();
    let snapshot = Snapshot {
        routes,
        providers: providers.into_list(),
        upstreams: upstreams.into_list(),
        trusted_proxies,
        public_url,
        links,
        tracer,
        written: Arc::new(written.with_route_names(names)),
    };
    Some(Resolved {
        snapshot,
        certificates: std::mem::take(&mut finding.certificates),
        clients,
        listeners,
        admin,
        server: server::server(file),
        access_log: access_log::access_log(&file.telemetry.access_log),
        max_cached_tokens: file.cache.max_entries.0.get() as usize,
        shared_store,
        tests,
    })
}

#[cfg(test)]
mod tests;
