//! From a routes file to a serving gateway, and from there to the end: everything is parsed
//! before a socket is opened, then the sockets are bound, then they are served.
//!
//! It decides the order of start, reload and drain. What a request meets is `gateway.rs`.

mod certificate_ends;
mod keepers;
mod listening;
mod provider_health;
mod watch;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::accept::{self, BindError, BoundListener, CutOff, Drain};
use crate::admin::{self, Readiness};
use crate::clock::SharedClock;
use crate::config::resolve::{self, CredentialCertificate, Lasting, Resolved, Server, ShownTo};
use crate::config::{self, Environment, FilesRead, Look, Problems, Source};
use crate::forward::{SharedResolver, SystemResolver};
use crate::gateway::Gateway;
use crate::observe::Metrics;
use crate::observe::access_log::Observer;
use crate::observe::endpoint_health::EndpointHealth;
use crate::observe::metrics::Outcome;
use crate::observe::sink::LogSink;
use crate::snapshot::Snapshot;

use self::certificate_ends::CertificateEnds;
use self::keepers::Keepers;
use self::listening::Listening;

/// How often [`Running::until_ready`] looks: keys on the same machine take a few of these.
const READINESS_INTERVAL: Duration = Duration::from_millis(10);

/// Where a configuration comes from; asked again for a reload.
pub trait Origin: Send + Sync + 'static {
    /// The routes file as it is now.
    ///
    /// # Errors
    ///
    /// It can't be read.
    fn source(&self) -> Result<Source, Problems>;

    /// What `${…}` in it is replaced from.
    fn environment(&self, source: &Source) -> Environment;

    /// The file that the routes file is read from, to be watched; `None` if it is no file, or
    /// can't be read twice.
    fn file(&self) -> Option<PathBuf> {
        None
    }
}

/// A configuration that was read and found good; nothing has been opened yet.
pub struct Prepared {
    origin: Box<dyn Origin>,
    lasting: Lasting,
    resolved: Resolved,
    warnings: Problems,
    files: FilesRead,
}

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A socket can't be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
}

/// Reads the routes file and everything that it names.
///
/// # Errors
///
/// All that is wrong with it.
pub fn prepare(
    origin: Box<dyn Origin>,
    clock: SharedClock,
    metrics: Metrics,
) -> Result<Prepared, Problems> {
    prepare_with_names(origin, clock, metrics, Arc::new(SystemResolver))
}

/// The same, where `names` knows the names of upstreams in place of the system.
///
/// # Errors
///
/// All that is wrong with the file.
pub fn prepare_with_names(
    origin: Box<dyn Origin>,
    clock: SharedClock,
    metrics: Metrics,
    names: SharedResolver,
) -> Result<Prepared, Problems> {
    let lasting = Lasting::new(clock, metrics, names);
    let (outcome, files) = read(origin.as_ref(), &lasting, None);
    let (resolved, warnings) = outcome?;
    Ok(Prepared { origin, lasting, resolved, warnings, files })
}

/// Reads the routes file and all it names; with the files that were read, come what may.
fn read(
    origin: &dyn Origin,
    lasting: &Lasting,
    previous: Option<&Snapshot>,
) -> (Result<(Resolved, Problems), Problems>, FilesRead) {
    let mut files = FilesRead::default();
    if let Some(path) = origin.file() {
        let look = Look::at(&path);
        files.note(path, look);
    }
    let source = match origin.source() {
        Ok(source) => source,
        Err(problems) => return (Err(problems), files),
    };
    let environment = origin.environment(&source);
    let reading = config::read(&source.text, &source.name, &environment);
    let resolved = resolve::resolve(reading, &environment, lasting, previous);
    (resolved, files.and(environment.files_read()))
}

impl Prepared {
    /// What the file says.
    pub fn resolved(&self) -> &Resolved {
        &self.resolved
    }

    /// What is not wrong with it, but should be known.
    pub fn warnings(&self) -> &Problems {
        &self.warnings
    }

    /// Binds all sockets and serves them. Needs a runtime.
    ///
    /// # Errors
    ///
    /// A socket can't be bound; those that were are closed again.
    pub fn start(self, sink: LogSink) -> Result<Running, StartError> {
        let Self { origin, lasting, resolved, warnings: _, files } = self;
        let Resolved {
            snapshot,
            certificates,
            listeners,
            admin,
            server,
            access_log,
            max_cached_tokens,
        } = resolved;
        lasting.exchanger.set_max_entries(max_cached_tokens);
        lasting.exchanger.configure(&snapshot.providers);

        let mut bound = Vec::new();
        for listener in listeners {
            let socket = BoundListener::bind(listener.address)?;
            let socket = if listener.proxy_protocol { socket.behind_proxy() } else { socket };
            bound.push((socket, listener));
        }
        let admin = match admin {
            Some(admin) => Some((BoundListener::bind(admin.address)?, admin)),
            None => None,
        };

        let observer = Arc::new(Observer::new(lasting.metrics.clone(), sink, access_log));
        let keepers = Keepers::default();
        keepers.keep(&snapshot);
        lasting.metrics.watch_endpoints(endpoints(&snapshot));
        lasting.metrics.watch_providers(provider_health::providers(&snapshot, &lasting.exchanger));
        if let Some(tracer) = &snapshot.tracer {
            tracer.start();
        }
        let gateway = Gateway::new(snapshot, Arc::clone(&lasting.exchanger), Arc::clone(&observer));
        lasting.metrics.config_in_force_since(lasting.clock.now());

        let drain = Drain::default();
        let accepting = Arc::new(accept::Server::new(
            server.accept.clone(),
            drain.clone(),
            lasting.metrics.clone(),
        ));
        let listening = bound.into_iter().map(|(socket, listener)| {
            Listening::begin(socket, listener, &accepting, &gateway, &lasting.metrics)
        });
        let listening = listening.collect();
        let admin_drain = Drain::default();
        let readiness = Arc::new(readiness(&gateway));
        let admin_address = admin.map(|(socket, admin)| {
            let address = socket.address();
            tracing::info!(%address, "admin port");
            let metrics = lasting.metrics.clone();
            let serving = admin::serve(
                socket,
                admin.token,
                Arc::clone(&readiness),
                metrics,
                admin_drain.clone(),
            );
            tokio::spawn(serving);
            address
        });
        let state = Mutex::new(server);
        let ends = Ends { drain, admin: admin_drain, readiness };
        let running = Running {
            origin,
            lasting,
            gateway,
            accepting,
            observer,
            keepers,
            ends,
            state,
            listening,
            reloading: Mutex::default(),
            admin_address,
            files: Mutex::new(files),
            certificates: Mutex::default(),
        };
        running.set_certificates(certificates);
        running.warn_of_ends();
        Ok(running)
    }
}

/// The upstreams of `snapshot`, as the metrics ask them how their endpoints are.
fn endpoints(snapshot: &Snapshot) -> Vec<Arc<dyn EndpointHealth>> {
    let upstreams = snapshot.upstreams.iter().cloned();
    upstreams.map(|upstream| upstream as Arc<dyn EndpointHealth>).collect()
}

/// Not ready until every provider of the configuration in force has had its keys once.
fn readiness(gateway: &Arc<Gateway>) -> Readiness {
    let gateway = Arc::downgrade(gateway);
    Readiness::new(move || {
        let Some(gateway) = gateway.upgrade() else { return Vec::new() };
        let snapshot = gateway.snapshot();
        let waiting = snapshot.providers.iter().filter(|provider| !provider.has_keys());
        waiting
            .map(|provider| {
                let failure = provider.status().failure;
                let why = failure
                    .map_or_else(|| "they are being fetched".to_owned(), |why| why.to_string());
                format!("provider `{}` has no keys yet: {why}", provider.name())
            })
            .collect()
    })
}

struct Ends {
    drain: Drain,
    admin: Drain,
    readiness: Arc<Readiness>,
}

/// A gateway that serves.
pub struct Running {
    origin: Box<dyn Origin>,
    lasting: Lasting,
    gateway: Arc<Gateway>,
    accepting: Arc<accept::Server>,
    observer: Arc<Observer>,
    keepers: Keepers,
    ends: Ends,
    /// The times of the end, from the configuration in force.
    state: Mutex<Server>,
    listening: Vec<Listening>,
    /// One reload at a time, so that the file that was read last is the one in force.
    reloading: Mutex<()>,
    admin_address: Option<SocketAddr>,
    /// What the last reading, good or bad, was made of.
    files: Mutex<FilesRead>,
    certificates: Mutex<CertificateEnds>,
}

impl Running {
    /// Where it listens, in the order of the file, with the ports that were really taken.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listening.iter().map(|listening| listening.address).collect()
    }

    /// Where the admin port is, if there is one.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// Waits until `/readyz` would say that it is ready, `at_most` so long.
    ///
    /// # Errors
    ///
    /// What is still missing then.
    pub async fn until_ready(&self, at_most: Duration) -> Result<(), Vec<String>> {
        let deadline = Instant::now() + at_most;
        loop {
            let missing = self.ends.readiness.reasons();
            match missing.is_empty() {
                true => return Ok(()),
                false if Instant::now() >= deadline => return Err(missing),
                // It depends on all providers, and is asked at a start only.
                false => tokio::time::sleep(READINESS_INTERVAL).await,
            }
        }
    }

    /// Reads the routes file again and puts it in place; what did not change keeps its keys,
    /// connections and tokens. New handshakes get the certificates as they are now; other
    /// changes of listeners and of the admin port take a restart. Reads files: call it where
    /// that may block.
    ///
    /// # Errors
    ///
    /// All that is wrong with the file; the configuration in force stays.
    pub fn reload(&self) -> Result<(), Problems> {
        let _one_at_a_time = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.gateway.snapshot();
        let metrics = &self.lasting.metrics;
        let (outcome, files) = read(self.origin.as_ref(), &self.lasting, Some(&before));
        let files = match &outcome {
            Ok(_) => files,
            // It may have missed files that the configuration in force was made of: they stay
            // watched, as they look now, so that only a further change has it tried again.
            Err(_) => files.and(self.files().now()),
        };
        *self.files.lock().unwrap_or_else(PoisonError::into_inner) = files;
        let (resolved, warnings) = outcome.inspect_err(|_| {
            metrics.config_reloaded(Outcome::Failure);
        })?;
        let Resolved {
            snapshot,
            certificates,
            server,
            access_log,
            max_cached_tokens,
            listeners,
            admin: _,
        } = resolved;
        self.lasting.exchanger.set_max_entries(max_cached_tokens);
        self.lasting.exchanger.configure(&snapshot.providers);
        self.observer.set_access_log(access_log);
        self.accepting.set(server.accept.clone());
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = server;
        self.gateway.replace(snapshot);
        // Both not before: who still meets the old one may ask for a key, or be refused for a
        // secret that was mended.
        self.keepers.keep(&self.gateway.snapshot());
        let snapshot = self.gateway.snapshot();
        metrics.watch_endpoints(endpoints(&snapshot));
        metrics.watch_providers(provider_health::providers(&snapshot, &self.lasting.exchanger));
        if let Some(tracer) = &snapshot.tracer {
            tracer.start();
        }
        self.lasting.exchanger.forget_refusals();
        metrics.config_reloaded(Outcome::Success);
        metrics.config_in_force_since(self.lasting.clock.now());
        if !warnings.is_empty() {
            tracing::warn!("the routes file was read again, with warnings:\n{warnings}");
        }
        listening::renew_certificates(&self.listening, listeners, metrics);
        self.set_certificates(certificates);
        self.warn_of_ends();
        Ok(())
    }

    /// The files that the last reading was made of, as they looked then.
    fn files(&self) -> FilesRead {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_certificates(&self, certificates: Vec<CredentialCertificate>) {
        let metrics = &self.lasting.metrics;
        let expires = |shown_to: &ShownTo, time| match shown_to {
            ShownTo::Provider(provider) => metrics.credential_expires(provider, time),
            ShownTo::Upstream(upstream) => metrics.client_certificate_expires(upstream, time),
        };
        for certificate in &certificates {
            expires(&certificate.shown_to, Some(certificate.expires_at));
        }
        let mut ends = self.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        for shown_to in ends.set(certificates) {
            expires(&shown_to, None);
        }
    }

    /// Says which certificates, of credentials and for upstreams, are about to end.
    fn warn_of_ends(&self) {
        let now = self.lasting.clock.now();
        let due = self.certificates.lock().unwrap_or_else(PoisonError::into_inner).due(now);
        for notice in due {
            notice.log();
        }
    }

    /// Ends: not ready first, then nothing new is accepted, then requests in flight are given
    /// `shutdown_grace`; the rest is cut off and counted.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves the drain begun.
    pub async fn drain(&self) -> CutOff {
        let (delay, grace) = {
            let server = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            (server.shutdown_delay, server.shutdown_grace)
        };
        self.ends.readiness.end();
        if !delay.is_zero() {
            tracing::info!(
                seconds = delay.as_secs(),
                "not ready; still accepting for `shutdown_delay`"
            );
            tokio::time::sleep(delay).await;
        }
        tracing::info!("draining");
        let cut_off = self.ends.drain.finish(grace).await;
        // Until then requests went to upstreams, and their health mattered.
        self.keepers.end_health();
        if let Some(tracer) = &self.gateway.snapshot().tracer {
            tracer.finish().await;
        }
        self.ends.admin.finish(Duration::ZERO).await;
        let CutOff { connections, requests } = cut_off;
        if connections > 0 {
            tracing::warn!(
                connections,
                requests,
                "drained; these did not end within `shutdown_grace` and were cut off"
            );
        } else {
            tracing::info!("drained; nothing was cut off");
        }
        cut_off
    }

    /// Writes the last lines of the log and ends it.
    pub fn close_log(&self) {
        self.observer.close();
    }
}
