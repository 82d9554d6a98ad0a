//! A managed identity as federated credential: its token for Entra's exchange is the client
//! assertion of the gateway's application, so that there is no secret at all.
//!
//! How such a token is had is `managed_identity/`; here it is kept until shortly before its
//! end, and asked for once for all exchanges that need it. Asking is a task of its own, which
//! goes on as long as the machine's table says; each exchange bounds its own wait for it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::timeout;

use super::cache::Granted;
use super::failure::ExchangeError;
use super::flight::{Flights, Passenger, Seat};
use super::managed_identity::ManagedIdentity;
use super::terms::{Key, Terms};
use crate::clock::UnixTime;
use crate::limits;
use crate::secret::Secret;

/// `managed_identity` of a credential.
pub struct FederatedIdentity {
    identity: ManagedIdentity,
    /// The audience that the application's federated credential names; one for each cloud.
    resource: &'static str,
    kept: Arc<Mutex<Option<Granted>>>,
    /// The one call under way, if there is one.
    flights: Arc<Flights>,
    key: Key,
}

impl FederatedIdentity {
    /// Tokens of `identity` for `resource`.
    pub fn new(identity: ManagedIdentity, resource: &'static str) -> Self {
        let key = Key::of("federated identity v1", &[resource]);
        Self { identity, resource, kept: Arc::default(), flights: Arc::default(), key }
    }

    /// The identity's token, for an exchange on these `terms` for `upstream`, a label. Takes up to
    /// [`limits::MANAGED_IDENTITY_WAIT`]: nothing that others need is to be held meanwhile.
    ///
    /// # Errors
    ///
    /// The machine gives none, or not in time.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up waiting; the call goes on for the others and for the next.
    pub(super) async fn token(
        &self,
        terms: &Terms,
        upstream: &Arc<str>,
        now: UnixTime,
    ) -> Result<Secret, Arc<ExchangeError>> {
        if let Some(token) = self.at_hand(now) {
            return bare(&token).map_err(Arc::new);
        }
        let passenger = match self.flights.board(self.key) {
            Seat::Passenger(passenger) => passenger,
            Seat::Pilot(pilot, passenger) => {
                // A call may have ended between our look and our boarding.
                if let Some(token) = self.at_hand(now) {
                    pilot.land(Ok(token));
                } else {
                    let (identity, resource) = (self.identity.clone(), self.resource);
                    let (kept, upstream) = (Arc::clone(&self.kept), Arc::clone(upstream));
                    tokio::spawn(async move {
                        let outcome = identity.token(resource, &upstream).await;
                        if let Ok(token) = &outcome {
                            *lock(&kept) = Some(token.clone());
                        }
                        pilot.land(outcome);
                    });
                }
                passenger
            }
        };
        wait(passenger, terms).await
    }

    fn at_hand(&self, now: UnixTime) -> Option<Granted> {
        lock(&self.kept).as_ref().filter(|token| token.is_usable(now)).cloned()
    }
}

async fn wait(passenger: Passenger, terms: &Terms) -> Result<Secret, Arc<ExchangeError>> {
    match timeout(limits::MANAGED_IDENTITY_WAIT, passenger.outcome()).await {
        Ok(outcome) => bare(&outcome?).map_err(Arc::new),
        Err(_elapsed) => Err(Arc::new(too_late(terms))),
    }
}

fn lock(kept: &Mutex<Option<Granted>>) -> MutexGuard<'_, Option<Granted>> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The token without its scheme.
fn bare(token: &Granted) -> Result<Secret, ExchangeError> {
    let header = token.header.expose().to_str().ok();
    let bare = header.and_then(|header| header.strip_prefix("Bearer "));
    bare.map(|token| Secret::new(token.to_owned())).ok_or_else(|| {
        ExchangeError::internal("the token of a managed identity is no bearer token")
    })
}

fn too_late(terms: &Terms) -> ExchangeError {
    ExchangeError::unavailable(
        format!(
            "the managed identity that is the credential of provider `{}` gave no token within {} s, and is still being asked for one",
            terms.provider,
            limits::MANAGED_IDENTITY_WAIT.as_secs(),
        ),
        None,
    )
    .with_remedy("see the warnings in the log, which tell what was answered")
}

impl fmt::Debug for FederatedIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FederatedIdentity")
            .field("identity", &self.identity)
            .field("resource", &self.resource)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::sync::oneshot;
    use url::Url;

    use super::super::managed_identity::{ManagedIdentityHost, MetadataService};
    use super::super::terms::tests::terms;
    use super::*;
    use crate::clock::{Clock as _, SystemClock};
    use crate::observe::metrics::Metrics;
    use crate::rejection::Code;

    const TOKEN: &str =
        r#"{"access_token":"of-the-machine","token_type":"Bearer","expires_in":"3600"}"#;

    /// The identity of a machine whose IMDS answers one call, when it is told to.
    async fn identity(metrics: &Metrics) -> (FederatedIdentity, oneshot::Sender<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let host = ManagedIdentityHost::imds(&base);
        let service = MetadataService::new(host, Arc::new(SystemClock), metrics.clone()).unwrap();
        let (let_go, gate) = oneshot::channel();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut call = Vec::new();
            while !call.ends_with(b"\r\n\r\n") {
                assert_ne!(stream.read_buf(&mut call).await.unwrap(), 0);
            }
            gate.await.unwrap();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", TOKEN.len());
            stream.write_all(format!("{head}{TOKEN}").as_bytes()).await.unwrap();
            // Nobody is to call again: a second call finds nobody who accepts it.
        });
        let identity = ManagedIdentity::new(Arc::new(service), None);
        (FederatedIdentity::new(identity, "api://AzureADTokenExchange"), let_go)
    }

    #[tokio::test]
    async fn all_wait_for_one_call_and_the_first_may_leave() {
        let metrics = Metrics::default();
        let (identity, let_go) = identity(&metrics).await;
        let (terms, upstream, now) = (terms("c", &["s"]), Arc::from("graph"), SystemClock.now());
        let token = || identity.token(&terms, &upstream, now);
        let mut first = Box::pin(token());
        assert!(futures_util::poll!(first.as_mut()).is_pending());
        assert_eq!(identity.flights.len(), 1);
        drop(first);
        assert_eq!(identity.flights.len(), 1, "the call goes on");

        let waiting = join_all((0..50).map(|_| token()));
        let (tokens, ()) = futures_util::future::join(waiting, async {
            let_go.send(()).unwrap();
        })
        .await;
        assert!(tokens.into_iter().all(|token| token.unwrap().expose() == "of-the-machine"));
        assert_eq!(token().await.unwrap().expose(), "of-the-machine", "it is kept");
        assert_eq!(identity.flights.len(), 0);
        let counted = metrics.encode();
        let line =
            r#"exchanges_total{provider="managed_identity",upstream="graph",outcome="success"} 1"#;
        assert!(counted.contains(line), "{counted}");
    }

    #[tokio::test(start_paused = true)]
    async fn each_waits_for_itself_and_does_not_begin_anew() {
        let host = ManagedIdentityHost::imds(&Url::parse(ManagedIdentityHost::IMDS).unwrap());
        let metrics = Metrics::default();
        let service = MetadataService::new(host, Arc::new(SystemClock), metrics).unwrap();
        let service = Arc::new(service);
        let _turns = service.occupied().await;
        let identity = ManagedIdentity::new(Arc::clone(&service), None);
        let identity = FederatedIdentity::new(identity, "api://AzureADTokenExchange");
        let (terms, upstream, now) = (terms("c", &["s"]), Arc::from("graph"), SystemClock.now());
        let started = tokio::time::Instant::now();
        for waited in 1..=2 {
            let error = identity.token(&terms, &upstream, now).await.unwrap_err();
            assert_eq!(error.code(), Code::ProviderUnavailable);
            assert!(error.what().ends_with("and is still being asked for one"), "{}", error.what());
            assert!(error.remedy().is_some_and(|remedy| remedy.starts_with("see the warnings")));
            assert_eq!(started.elapsed(), limits::MANAGED_IDENTITY_WAIT * waited);
            assert_eq!(identity.flights.len(), 1, "the same call");
        }
    }
}
