//! A gateway that serves: how it begins, what can be asked of it, and how it ends.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::admin_port::{self, AdminPort};
use super::asked::Asked;
use super::certificate_ends::CertificateEnds;
use super::keepers::Keepers;
use super::listening::{self, Listeners, Unbound};
use super::progress::Progress;
use super::provider_health;
use super::supervisor::{Sockets, Supervisor, Told};
use super::{Origin, Prepared, StartError};
use crate::accept::{self, CutOff, Drain};
use crate::admin::{self, Readiness};
use crate::config::FilesRead;
use crate::config::resolve::{
    Admin, CredentialCertificate, Lasting, Listener, Resolved, Server, ShownTo,
};
use crate::gateway::Gateway;
use crate::last_reload::LastReload;
use crate::observe::access_log::Observer;
use crate::observe::endpoint_health::EndpointHealth;
use crate::observe::sink::LogSink;
use crate::observe::timestamp::Timestamp;
use crate::snapshot::Snapshot;
use crate::workers::Workers;

/// How often [`Running::until_ready`] looks: keys on the same machine take a few of these.
const READINESS_INTERVAL: Duration = Duration::from_millis(10);

/// A gateway that serves.
pub struct Running {
    pub(super) origin: Box<dyn Origin>,
    pub(super) lasting: Lasting,
    pub(super) gateway: Arc<Gateway>,
    pub(super) accepting: accept::Server,
    pub(super) observer: Arc<Observer>,
    pub(super) keepers: Keepers,
    pub(super) readiness: Arc<Readiness>,
    /// What the admin port shows.
    shown: Arc<admin::Shown>,
    drain: Drain,
    /// What holds for all listeners, from the configuration in force.
    pub(super) server: Mutex<Server>,
    /// As the file had it at the start.
    pub(super) workers: Option<usize>,
    /// The threads that serve since then.
    threads: Workers,
    pub(super) listeners: Mutex<Listeners>,
    pub(super) admin: AdminPort,
    /// What was passed in: a listener that comes back finds its socket there again.
    pub(super) sockets: Mutex<Sockets>,
    pub(super) told: Told,
    /// Where all runs that belongs to no connection; a reload may be called from elsewhere.
    pub(super) runtime: Handle,
    /// Who waits for a reload.
    pub(super) asked: Asked,
    /// One reload at a time, so that the file that was read last is the one in force.
    pub(super) reloading: Mutex<()>,
    /// Either a configuration is put in force or the end begins. Nobody who holds it waits for files.
    pub(super) changing: Mutex<()>,
    /// What a reload is at.
    pub(super) progress: Arc<Progress>,
    pub(super) last_reload: Mutex<Option<Arc<LastReload>>>,
    /// What the last reading, good or bad, was made of.
    pub(super) files: Mutex<FilesRead>,
    /// What the configuration in force was made of.
    pub(super) files_in_force: Mutex<FilesRead>,
    certificates: Mutex<CertificateEnds>,
}

impl Running {
    /// Binds all sockets of what was `prepared`, and serves them.
    pub(super) fn start(prepared: Prepared, sink: LogSink) -> Result<Arc<Self>, StartError> {
        let Prepared { origin, lasting, resolved, warnings, files, supervisor, workers } = prepared;
        let Resolved {
            snapshot,
            certificates,
            clients: _,
            listeners,
            admin,
            server,
            access_log,
            max_cached_tokens,
            shared_store,
            tests: _,
        } = resolved;
        let Supervisor { mut sockets, told } = supervisor;
        lasting.exchanger.set_max_entries(max_cached_tokens);
        lasting.shared_store.configure(shared_store);
        lasting.exchanger.configure(&snapshot.providers);

        let admin_port = AdminPort::default();
        let bound = bind(&Listeners::default(), listeners, &admin_port, admin, &mut sockets);
        sockets.warn_of_rest();
        let (planned, admin) =
            bound.map_err(|unbound| StartError { file: warnings.file().to_owned(), unbound })?;

        let observer = Arc::new(Observer::new(lasting.metrics.clone(), sink, access_log));
        let keepers = Keepers::default();
        keepers.keep(&snapshot);
        watch(&snapshot, &lasting);
        let gateway = Gateway::new(snapshot, Arc::clone(&lasting.exchanger), Arc::clone(&observer));
        lasting.metrics.config_in_force_since(lasting.clock.now());

        let drain = Drain::default();
        let (settings, metrics) = (server.accept.clone(), lasting.metrics.clone());
        let accepting = accept::Server::new(settings, drain.clone(), metrics).at(workers.seats());
        let readiness = Arc::new(readiness(&gateway));
        let shown = Arc::new(admin::Shown {
            readiness: Arc::clone(&readiness),
            metrics: lasting.metrics.clone(),
            gateway: Arc::downgrade(&gateway),
            exchanger: Arc::clone(&lasting.exchanger),
            observer: Arc::clone(&observer),
            reloads: Arc::default(),
            started: Instant::now(),
            started_at: Timestamp::now(),
            making: admin::making(),
            scrapes: Arc::default(),
        });
        let running = Arc::new(Self {
            readiness,
            shown,
            origin,
            lasting,
            gateway,
            accepting,
            observer,
            keepers,
            drain,
            workers: server.workers,
            threads: workers,
            server: Mutex::new(server),
            listeners: Mutex::default(),
            admin: admin_port,
            sockets: Mutex::new(sockets),
            told,
            runtime: Handle::current(),
            asked: Asked::default(),
            reloading: Mutex::default(),
            changing: Mutex::default(),
            progress: Arc::default(),
            last_reload: Mutex::default(),
            files_in_force: Mutex::new(files.clone()),
            files: Mutex::new(files),
            certificates: Mutex::default(),
        });
        let control = Arc::downgrade(&running);
        running.shown.reloads.attend(control);
        running.put_sockets(planned, admin);
        running.set_certificates(certificates);
        running.warn_of_ends();
        running.told.ready(&running.served_at());
        let gateway = Arc::clone(&running.gateway);
        tokio::task::spawn_blocking(move || gateway.snapshot().written.settle());
        if let Some(every) = Supervisor::watchdog() {
            tokio::spawn(tell_alive(Arc::downgrade(&running), every));
        }
        Ok(running)
    }

    /// Serves the sockets that were planned; with the addresses of listeners that meet new
    /// connections in another way then.
    pub(super) fn put_sockets(
        &self,
        listeners: listening::Planned,
        admin: admin_port::Planned,
    ) -> Vec<String> {
        let grace = self.server.lock().unwrap_or_else(PoisonError::into_inner).shutdown_grace;
        let serving = listening::Serving {
            server: &self.accepting,
            gateway: &self.gateway,
            metrics: &self.lasting.metrics,
            grace,
        };
        let admin_port = admin_port::Serving { shown: &self.shown, grace };
        let mut now = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = now.put(listeners, &serving);
        self.admin.put(admin, &admin_port);
        changed
    }

    /// Where it listens, in the order of the file, with the ports that were really taken.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).addresses()
    }

    /// Where the admin port is, if there is one.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.address()
    }

    /// What became of the last reload; `None` before the first.
    pub fn last_reload(&self) -> Option<Arc<LastReload>> {
        self.last_reload.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A sentence for who looks at the supervisor.
    pub(super) fn served_at(&self) -> String {
        let addresses: Vec<_> = self.addresses().iter().map(SocketAddr::to_string).collect();
        format!("serving at {}", addresses.join(", "))
    }

    /// Waits until `/readyz` would say that it is ready, `at_most` so long.
    ///
    /// # Errors
    ///
    /// What is still missing then.
    pub async fn until_ready(&self, at_most: Duration) -> Result<(), Vec<String>> {
        let deadline = Instant::now() + at_most;
        loop {
            let missing = self.readiness.reasons();
            match missing.is_empty() {
                true => return Ok(()),
                false if Instant::now() >= deadline => return Err(missing),
                // It depends on all providers, and is asked at a start only.
                false => tokio::time::sleep(READINESS_INTERVAL).await,
            }
        }
    }

    pub(super) fn set_certificates(&self, certificates: Vec<CredentialCertificate>) {
        let metrics = &self.lasting.metrics;
        let expires = |shown_to: &ShownTo, time| match shown_to {
            ShownTo::Provider(provider) => metrics.credential_expires(provider, time),
            ShownTo::Upstream(upstream) => metrics.client_certificate_expires(upstream, time),
            // Counted by the listener, under the port that it really has.
            ShownTo::Callers(_) => {}
        };
        for certificate in &certificates {
            expires(&certificate.shown_to, Some(certificate.expires_at));
        }
        let mut ends = self.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        for shown_to in ends.set(certificates) {
            expires(&shown_to, None);
        }
    }

    /// Says which certificates, of credentials, for upstreams and callers, are about to end.
    pub(super) fn warn_of_ends(&self) {
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
            let server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
            (server.shutdown_delay, server.shutdown_grace)
        };
        {
            let _no_change = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
            self.readiness.end();
            self.told.stopping("not ready; still accepting for `shutdown_delay`");
        }
        if !delay.is_zero() {
            tracing::info!(
                seconds = delay.as_secs(),
                "not ready; still accepting for `shutdown_delay`"
            );
            tokio::time::sleep(delay).await;
        }
        tracing::info!("draining");
        self.told.status("draining: requests in flight are finished");
        let cut_off = self.drain.finish(grace).await;
        // Until then requests went to upstreams, and their health mattered.
        self.keepers.end_health();
        if let Some(tracer) = &self.gateway.snapshot().tracer {
            tracer.finish().await;
        }
        self.admin.end().await;
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

/// Binds what is missing for `listeners` and `admin`; nothing is served there yet.
pub(super) fn bind(
    now: &Listeners,
    listeners: Vec<Listener>,
    admin_now: &AdminPort,
    admin: Option<Admin>,
    sockets: &mut Sockets,
) -> Result<(listening::Planned, admin_port::Planned), Vec<Unbound>> {
    match (now.plan(listeners, sockets), admin_now.plan(admin, sockets)) {
        (Ok(listeners), Ok(admin)) => Ok((listeners, admin)),
        (Err(unbound), Ok(_)) => Err(unbound),
        (listeners, Err(admin)) => {
            let mut unbound = listeners.err().unwrap_or_default();
            unbound.push(admin);
            Err(unbound)
        }
    }
}

/// Has the metrics ask those of `snapshot`, and its traces sent.
pub(super) fn watch(snapshot: &Snapshot, lasting: &Lasting) {
    lasting.metrics.watch_endpoints(endpoints(snapshot));
    lasting.metrics.watch_providers(provider_health::providers(snapshot, &lasting.exchanger));
    if let Some(tracer) = &snapshot.tracer {
        tracer.start();
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

/// Says `every` so often that we live, after a word with each thread that serves: if nothing runs
/// on one of them any more, nothing is said.
async fn tell_alive(running: Weak<Running>, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    loop {
        ticks.tick().await;
        let Some(running) = running.upgrade() else { return };
        running.threads.all_run().await;
        running.told.alive();
    }
}
