//! The listeners that serve, and how a reload changes them: all new sockets are bound before
//! anything is another, a socket whose address stays goes on as it is, and one that goes ends by
//! itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;

use super::supervisor::Sockets;
use crate::accept::{
    self, BindError, BoundListener, Certified, CutOff, Door, Handler, OthersListener, Unread,
};
use crate::body::Body;
use crate::chain::with_sources;
use crate::config::Problem;
use crate::config::resolve::Listener;
use crate::gateway::Gateway;
use crate::interim::Interim;
use crate::observe::Metrics;
use crate::observe::recorded_body::RecordedBody;
use crate::peer::Peer;

/// All listeners, in the order of the file.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    serving: Vec<Listening>,
    /// Those that ended, until their sockets are closed.
    left: Vec<OthersListener>,
}

/// A listener that serves.
#[derive(Debug)]
struct Listening {
    /// As the file has it.
    wanted: SocketAddr,
    /// With the port that was really taken.
    address: SocketAddr,
    socket: OthersListener,
    door: Arc<Door>,
    server: Arc<accept::Server>,
}

/// The listeners of the next configuration; their sockets are there.
#[derive(Debug)]
pub(super) struct Planned(Vec<(Socket, Listener)>);

#[derive(Debug)]
enum Socket {
    /// Of the one that serves at this place in the list.
    Kept(usize),
    New(BoundListener),
}

/// What a listener works with.
pub(super) struct Serving<'a> {
    pub(super) server: &'a accept::Server,
    pub(super) gateway: &'a Arc<Gateway>,
    pub(super) metrics: &'a Metrics,
    /// What those that go are given for their requests in flight.
    pub(super) grace: Duration,
}

impl Listeners {
    /// Where they listen.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.serving.iter().map(|listening| listening.address).collect()
    }

    /// Binds what is missing for the listeners of a file that was `read`; nothing is served there
    /// yet. `sockets` are those of whoever started us.
    ///
    /// # Errors
    ///
    /// Those that can't be bound; what was bound for others is closed again.
    pub(super) fn plan(
        &self,
        read: Vec<Listener>,
        sockets: &mut Sockets,
    ) -> Result<Planned, Vec<Unbound>> {
        let mut taken = vec![false; self.serving.len()];
        let mut kept = |read: &Listener| {
            let at = |is: &dyn Fn(&Listening) -> bool| {
                let mut free =
                    self.serving.iter().zip(&taken).map(|(now, taken)| !taken && is(now));
                free.position(|fits| fits)
            };
            // Of two with port 0 the first stays the first.
            let at = at(&|now| now.address == read.address)
                .or_else(|| at(&|now| now.wanted == read.address))?;
            *taken.get_mut(at)? = true;
            Some(at)
        };
        let mut unbound = Vec::new();
        let mut planned = Vec::new();
        for listener in read {
            if let Some(at) = kept(&listener) {
                planned.push((Socket::Kept(at), listener));
                continue;
            }
            match bind(listener.address, &self.left, sockets) {
                Ok(socket) => planned.push((Socket::New(socket), listener)),
                Err(error) => unbound.push(Unbound { place: listener.place, error }),
            }
        }
        if unbound.is_empty() { Ok(Planned(planned)) } else { Err(unbound) }
    }

    /// Serves what was planned from now on, and ends the others; with the addresses of those that
    /// stay and meet new connections in another way. Needs a runtime.
    pub(super) fn put(&mut self, planned: Planned, serving: &Serving<'_>) -> Vec<String> {
        let mut changed = Vec::new();
        let mut before: Vec<_> = std::mem::take(&mut self.serving).into_iter().map(Some).collect();
        for (socket, listener) in planned.0 {
            let name = listener.address.to_string();
            let kept = match &socket {
                Socket::Kept(at) => before.get_mut(*at).and_then(Option::take),
                Socket::New(_) => None,
            };
            match (kept, socket) {
                (Some(kept), _) => {
                    if kept.change(listener, serving.metrics) {
                        changed.push(name);
                    }
                    self.serving.push(kept);
                }
                (None, Socket::New(socket)) => {
                    self.serving.push(Listening::begin(socket, listener, serving));
                }
                // Each is kept once.
                (None, Socket::Kept(_)) => {}
            }
        }
        self.left.retain(|left| left.take().is_some());
        for gone in before.into_iter().flatten() {
            self.left.push(gone.end(serving));
        }
        changed
    }
}

/// A socket at `address`: one that we were given, one that is on its way out, or a new one.
pub(super) fn bind(
    address: SocketAddr,
    left: &[OthersListener],
    sockets: &mut Sockets,
) -> Result<BoundListener, BindError> {
    let mut there = left.iter().filter(|left| left.address() == address).peekable();
    let was_ours = there.peek().is_some();
    match there
        .find_map(OthersListener::take)
        .map_or_else(|| sockets.take(address), |left| Some(Ok(left)))
    {
        Some(socket) => socket.map_err(|source| BindError::Other { address, source }),
        None if was_ours => bind_after(address),
        None => BoundListener::bind(address),
    }
}

/// How often, and how long after each other, an address is tried that we are just leaving.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(1);

/// A new socket at `address`, where one of ours was that nobody can take any more: whoever had it last
/// may be closing it right now, and so long the port is in use. Only a reload comes here, which holds
/// up nobody who serves.
fn bind_after(address: SocketAddr) -> Result<BoundListener, BindError> {
    for _ in 0..TRIES {
        match BoundListener::bind(address) {
            Err(BindError::InUse(_)) => std::thread::sleep(PAUSE),
            bound => return bound,
        }
    }
    BoundListener::bind(address)
}

/// An address of the file that can't be listened on.
#[derive(Debug)]
pub(super) struct Unbound {
    pub(super) place: crate::config::Place,
    pub(super) error: BindError,
}

impl Unbound {
    /// As it is told where nothing was served before.
    pub(super) fn problem_of_start(&self) -> Problem {
        // A default stands nowhere in the file.
        let place = Some(self.place).filter(|place| place.line > 0);
        let hint = self.error.hint().map(str::to_owned);
        Problem { place, hint, ..Problem::error(self.place, with_sources(&self.error)) }
    }

    /// The same in one line.
    pub(super) fn line(&self) -> String {
        let hint = self.error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
        with_sources(&self.error) + &hint
    }

    /// As a problem of the file, where the gateway itself listens on `own`.
    pub(super) fn problem(&self, own: &[SocketAddr]) -> Problem {
        let overlapped = match &self.error {
            BindError::InUse(address) => own.iter().find(|own| {
                own.port() == address.port()
                    && (own.ip() == address.ip()
                        || own.ip().is_unspecified()
                        || address.ip().is_unspecified())
            }),
            BindError::Permission(_) | BindError::NotHere(_) | BindError::Other { .. } => None,
        };
        let hint = match overlapped {
            Some(own) => format!(
                "the gateway itself listens on `{own}` until the new file is in force: go by another port for a moment, or restart"
            ),
            None => "nothing was changed: the configuration before this one stays in force".into(),
        };
        // The one hint is of the moment, the other of the machine.
        Problem::error(self.place, self.line()).hint(hint)
    }
}

impl Listening {
    /// Serves the connections of `socket`, as `listener` says.
    fn begin(socket: BoundListener, listener: Listener, serving: &Serving<'_>) -> Self {
        let address = socket.address();
        count_expiry(serving.metrics, address, listener.tls.as_ref());
        tracing::info!(%address, tls = listener.tls.is_some(), "listening");
        let door = Arc::new(Door::new(listener.tls, listener.proxy_protocol));
        let server = Arc::new(serving.server.part());
        let others = socket.others();
        tokio::spawn(accept::serve_through(
            Arc::clone(&server),
            socket,
            Arc::clone(&door),
            ToGateway(Arc::clone(serving.gateway)),
        ));
        Self { wanted: listener.address, address, socket: others, door, server }
    }

    /// New connections are met as `read` says; gives whether that is another way.
    fn change(&self, read: Listener, metrics: &Metrics) -> bool {
        count_expiry(metrics, self.address, read.tls.as_ref());
        self.door.change(read.tls, read.proxy_protocol)
    }

    /// Accepts nobody any more; who is in has `grace`.
    fn end(self, serving: &Serving<'_>) -> OthersListener {
        let (address, grace) = (self.address, serving.grace);
        serving.metrics.certificate_gone(&address.to_string());
        tracing::info!(%address, "no longer listening; requests in flight are finished");
        self.server.drain().begin();
        tokio::spawn(async move {
            let CutOff { connections, requests } = self.server.drain().finish(grace).await;
            if connections > 0 {
                tracing::warn!(
                    %address, connections, requests,
                    "these of a listener that was removed did not end within `shutdown_grace` and were cut off"
                );
            }
        });
        self.socket
    }
}

/// What a listener hands requests to.
#[derive(Clone, Debug)]
struct ToGateway(Arc<Gateway>);

impl Handler for ToGateway {
    type Body = RecordedBody<Body>;

    fn handle(
        self,
        request: Request<Incoming>,
        peer: Peer,
        interim: Option<Interim>,
    ) -> impl Future<Output = Response<Self::Body>> + Send {
        self.0.handle(request, peer, interim)
    }

    fn refused(&self, peer: &Peer, refused: &Unread) {
        self.0.refused(peer, &refused.request_id, &refused.rejection);
    }
}

fn count_expiry(metrics: &Metrics, address: SocketAddr, certified: Option<&Certified>) {
    let address = address.to_string();
    match certified.and_then(Certified::expires_at) {
        Some(expires) => metrics.certificate_expires(&address, expires),
        None => metrics.certificate_gone(&address),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::config::Place;

    #[test]
    fn what_the_system_says_is_no_hint_and_what_to_do_is() {
        let address: SocketAddr = "127.0.0.1:80".parse().unwrap();
        let place = Place { line: 3, column: 7, length: 2 };
        let problem = |error| {
            let unbound = Unbound { place, error };
            (unbound.problem_of_start(), unbound.line())
        };
        let source = io::Error::other("one; two");
        let (other, line) = problem(BindError::Other { address, source });
        assert_eq!(other.message, "can't listen on `127.0.0.1:80`: one; two");
        assert_eq!((other.hint, other.place), (None, Some(place)));
        assert_eq!(line, other.message);
        let (in_use, line) = problem(BindError::InUse(address));
        assert_eq!(in_use.message, "can't listen on `127.0.0.1:80`: the port is in use");
        let hint = "stop the program that listens there, or choose another port";
        assert_eq!(in_use.hint.as_deref(), Some(hint));
        assert_eq!(line, format!("{}; {hint}", in_use.message));
    }
}
