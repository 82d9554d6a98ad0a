//! Who started the process and watches over it, systemd for one: what it is told (`Type=notify`),
//! and the sockets that it opened for us (socket activation).
//!
//! It knows the two protocols of `sd_notify(3)` and `sd_listen_fds(3)`, and nothing of what is
//! served. Without a supervisor nothing is said, and there are no sockets.

use std::ffi::OsStr;
use std::io;
use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{self as unix, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use socket2::SockRef;

use crate::accept::BoundListener;
use crate::limits;

/// The supervisor of this process, if it has one.
#[derive(Debug, Default)]
pub struct Supervisor {
    pub(super) sockets: Sockets,
    pub(super) told: Told,
}

/// Sockets that were opened for us. They are kept as long as we live: the supervisor has them open
/// too, so nobody could bind their addresses anew for a listener that goes and comes back.
#[derive(Debug, Default)]
pub(super) struct Sockets(Vec<Given>);

#[derive(Debug)]
struct Given {
    address: SocketAddr,
    name: String,
    socket: std::net::TcpListener,
    is_used: bool,
}

/// Where the supervisor hears of us.
#[derive(Debug, Default)]
pub(super) struct Told {
    socket: Option<UnixDatagram>,
    /// Whether it did not hear the last that was said.
    is_lost: AtomicBool,
}

/// What became of what was said.
#[derive(Debug)]
enum Sent {
    Heard,
    /// The first that was not heard.
    Lost(io::Error),
    /// And none since.
    StillLost(io::Error),
}

/// Why what the supervisor gave us can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// A socket of another kind.
    #[error(
        "the socket {number} (`{name}`) that was passed in with `LISTEN_FDS` is no TCP socket that listens: a `.socket` unit needs `ListenStream=ADDRESS:PORT`"
    )]
    NoListener {
        /// Its file descriptor.
        number: usize,
        /// Its name there.
        name: String,
        /// What the system says.
        #[source]
        source: Option<io::Error>,
    },
    /// More than anybody has.
    #[error(
        "`LISTEN_FDS` is {0}, and at most {most} sockets can be passed in: whoever starts the gateway sets it to how many `ListenStream=` there are",
        most = limits::MAX_PASSED_SOCKETS
    )]
    TooMany(usize),
}

/// The first that is passed in (`SD_LISTEN_FDS_START`).
const FIRST_SOCKET: usize = 3;

impl Supervisor {
    /// The one that the environment of the process tells of. Takes the sockets: call it once, and
    /// before there are threads that others' code reads the environment on.
    ///
    /// # Errors
    ///
    /// It gave us something that can't be used.
    #[allow(clippy::disallowed_methods, reason = "no settings: how we were started")]
    pub fn of_process() -> Result<Self, SupervisorError> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        check_count()?;
        let mut passed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..passed.len() {
            let name = names.next().unwrap_or_default().to_owned();
            let wrong = |name, source| SupervisorError::NoListener {
                number: FIRST_SOCKET + index,
                name,
                source,
            };
            let socket = match passed.take_tcp_listener(index) {
                Ok(Some(socket)) => socket,
                Ok(None) => return Err(wrong(name, None)),
                Err(error) => return Err(wrong(name, Some(error))),
            };
            if !SockRef::from(&socket).is_listener().unwrap_or(false) {
                return Err(wrong(name, None));
            }
            match socket.local_addr() {
                Ok(address) => {
                    sockets.push(Given { address, name, socket, is_used: false });
                }
                Err(error) => return Err(wrong(name, Some(error))),
            }
        }
        let told = match std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()) {
            Some(path) => Told::at(&path),
            None => Told::default(),
        };
        Ok(Self { sockets: Sockets(sockets), told })
    }

    /// How often it wants to hear that we live; `None` if it does not ask.
    pub(super) fn watchdog() -> Option<Duration> {
        // Half the time after which it gives us up, as `sd_watchdog_enabled(3)` recommends.
        sd_notify::watchdog_enabled().map(|patience| patience / 2).filter(|it| !it.is_zero())
    }
}

/// All that are said to be there are asked for before one of them is looked at.
#[allow(clippy::disallowed_methods, reason = "no settings: how we were started")]
fn check_count() -> Result<(), SupervisorError> {
    let count = std::env::var("LISTEN_FDS").ok().and_then(|count| count.parse().ok());
    let Some(count) = count.filter(|count| *count > limits::MAX_PASSED_SOCKETS) else {
        return Ok(());
    };
    match std::env::var_os("LISTEN_PID") {
        // Inherited from a process that they were meant for.
        Some(id) if !id.is_empty() && id != *std::process::id().to_string() => Ok(()),
        Some(_) | None => Err(SupervisorError::TooMany(count)),
    }
}

/// `path` may begin with `@`: then it is a name without a file.
fn connected(path: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    match path.as_bytes().strip_prefix(b"@") {
        Some(name) => socket.connect_addr(&unix::SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(path)?,
    }
    // A supervisor that does not read must not hold us up.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

impl Sockets {
    /// The one at `address`, if it was given. Needs a runtime.
    pub(super) fn take(&mut self, address: SocketAddr) -> Option<io::Result<BoundListener>> {
        let given = self.0.iter_mut().find(|given| given.address == address)?;
        given.is_used = true;
        tracing::info!(%address, name = given.name, "the socket was passed in");
        Some(given.socket.try_clone().and_then(BoundListener::inherited))
    }

    /// Warns of those that no listener has: who connects there waits for ever.
    pub(super) fn warn_of_rest(&self) {
        for Given { address, name, .. } in self.0.iter().filter(|given| !given.is_used) {
            tracing::warn!(
                %address, name,
                "a socket was passed in whose address no listener has, and nobody is served there: give `listeners` that address, or take it out of the `.socket` unit (`ListenStream=`; a port alone is `[::]:PORT`)"
            );
        }
    }
}

impl Told {
    /// Whoever listens at `path`, if anybody does: those who are served need no supervisor.
    fn at(path: &OsStr) -> Self {
        let connected = connected(path);
        if let Err(error) = &connected {
            tracing::warn!(
                %error,
                "`NOTIFY_SOCKET` is `{}`, and nobody can be told there: the supervisor, if there is one, hears nothing of the start, reloads and the end", path.display()
            );
        }
        Self { socket: connected.ok(), is_lost: AtomicBool::new(false) }
    }

    /// All sockets are bound and served.
    pub(super) fn ready(&self, status: &str) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// A reload has begun; [`Told::ready`] ends it.
    pub(super) fn reloading(&self) {
        // systemd takes it for the answer to a signal only if it knows that it is younger.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(error) => tracing::debug!(%error, "no monotonic clock for the supervisor"),
        }
    }

    /// The end has begun.
    pub(super) fn stopping(&self, status: &str) {
        self.tell(&[NotifyState::Stopping, NotifyState::Status(status)]);
    }

    /// What people see of us there.
    pub(super) fn status(&self, status: &str) {
        self.tell(&[NotifyState::Status(status)]);
    }

    /// We live.
    pub(super) fn alive(&self) {
        self.tell(&[NotifyState::Watchdog]);
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        let Some(socket) = &self.socket else { return };
        let states: Vec<_> = states.iter().map(NotifyState::to_string).collect();
        let message = states.join("\n");
        match self.send(socket, &message) {
            Sent::Heard => {}
            Sent::Lost(error) => tracing::warn!(
                %error,
                "the supervisor can't be told, which is said again only once it could be: {message}"
            ),
            Sent::StillLost(error) => {
                tracing::debug!(%error, "the supervisor can't be told: {message}");
            }
        }
    }

    fn send(&self, socket: &UnixDatagram, message: &str) -> Sent {
        let sent = socket.send(message.as_bytes());
        let was_lost = self.is_lost.swap(sent.is_err(), Ordering::Relaxed);
        match sent {
            Ok(_) => Sent::Heard,
            Err(error) if was_lost => Sent::StillLost(error),
            Err(error) => Sent::Lost(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisor_that_hears_nothing_is_lost_once_until_it_hears_again() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let told = Told::default();
        let say = || told.send(&ours, "WATCHDOG=1");
        for _ in 0..2 {
            // Nobody reads: there is room for some.
            let first = (0..100_000).map(|_| say()).find(|sent| !matches!(sent, Sent::Heard));
            assert!(matches!(first, Some(Sent::Lost(_))), "{first:?}");
            assert!(matches!(say(), Sent::StillLost(_)));
            assert!(matches!(say(), Sent::StillLost(_)));
            theirs.recv(&mut [0; 64]).unwrap();
            assert!(matches!(say(), Sent::Heard));
        }
        drop(theirs);
        assert!(matches!(say(), Sent::Lost(_)));
        assert!(matches!(say(), Sent::StillLost(_)));
    }
}
