//! A socket that listens: binds an address, or says in one sentence why it can't.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::limits::LISTEN_BACKLOG;

/// A socket that connections can reach.
#[derive(Debug)]
pub struct BoundListener {
    socket: Arc<TcpListener>,
    address: SocketAddr,
}

/// A socket that listens as long as somebody else serves it.
#[derive(Clone, Debug)]
pub struct OthersListener {
    socket: Weak<TcpListener>,
    address: SocketAddr,
}

/// Why an address can't be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else listens there.
    #[error("can't listen on `{0}`: the port is in use")]
    InUse(SocketAddr),
    /// The system does not let us.
    #[error("can't listen on `{0}`: no permission")]
    Permission(SocketAddr),
    /// No interface has the address.
    #[error("can't listen on `{0}`: this machine does not have the address")]
    NotHere(SocketAddr),
    /// Anything else.
    #[error("can't listen on `{address}`")]
    Other {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

impl BindError {
    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::InUse(_) => Some("stop the program that listens there, or choose another port"),
            Self::Permission(_) => Some(
                "ports below 1024 need the capability `CAP_NET_BIND_SERVICE`, or choose a higher port",
            ),
            Self::NotHere(_) => Some("`0.0.0.0` and `[::]` stand for all it has"),
            Self::Other { .. } => None,
        }
    }
}

impl BoundListener {
    /// Listens on `address`; port 0 takes a free one. `[::]` takes IPv4 too. Needs a runtime.
    ///
    /// # Errors
    ///
    /// The port is taken, forbidden or not of this machine.
    pub fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let fail = |source: io::Error| {
            let is = |kind| source.kind() == kind;
            if is(io::ErrorKind::AddrInUse) {
                BindError::InUse(address)
            } else if is(io::ErrorKind::PermissionDenied) {
                BindError::Permission(address)
            } else if is(io::ErrorKind::AddrNotAvailable) {
                BindError::NotHere(address)
            } else {
                BindError::Other { address, source }
            }
        };
        let socket = listen(address).map_err(fail)?;
        let address = socket.local_addr().map_err(fail)?;
        Ok(Self { socket: Arc::new(socket), address })
    }

    /// Takes a socket that listens already, from whoever started us. Needs a runtime.
    ///
    /// # Errors
    ///
    /// The system's, for one that can't be used.
    pub fn inherited(socket: std::net::TcpListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        Ok(Self { socket: Arc::new(TcpListener::from_std(socket)?), address })
    }

    /// The same socket, without keeping it open.
    pub fn others(&self) -> OthersListener {
        OthersListener { socket: Arc::downgrade(&self.socket), address: self.address }
    }

    /// The address, with the port that was really taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection, and who it is from: an IPv4 caller of an IPv6 socket has its IPv4 address.
    ///
    /// # Cancel safety
    ///
    /// No connection is lost.
    pub(crate) async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, address) = self.socket.accept().await?;
        Ok((stream, canonical(address)))
    }

    /// The same of one that waits already; `None` if none does. It asks the system itself: the
    /// runtime may not have heard of it yet.
    pub(crate) fn accept_waiting(&self) -> io::Result<Option<(TcpStream, SocketAddr)>> {
        let (socket, address) = match SockRef::from(&*self.socket).accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        let address = address.as_socket().ok_or(io::ErrorKind::Unsupported)?;
        socket.set_nonblocking(true)?;
        Ok(Some((TcpStream::from_std(socket.into())?, canonical(address))))
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl OthersListener {
    /// The address, with the port that was really taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The socket, if it is still served: who takes it now shares it, and no connection is lost
    /// when the other one leaves.
    pub fn take(&self) -> Option<BoundListener> {
        let socket = self.socket.upgrade()?;
        Some(BoundListener { socket, address: self.address })
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A gateway that restarts must not wait for the last connections of the one before it.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_named() {
        let first = BoundListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        assert_ne!(first.address().port(), 0);
        let error = BoundListener::bind(first.address()).unwrap_err();
        assert!(matches!(error, BindError::InUse(address) if address == first.address()));
        assert!(error.to_string().contains(&first.address().to_string()));
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_refused() {
        let error = BoundListener::bind("192.0.2.1:0".parse().unwrap()).unwrap_err();
        assert!(matches!(error, BindError::NotHere(_)), "{error:?}");
    }

    #[tokio::test]
    async fn who_waits_is_accepted_and_nobody_is_waited_for() {
        let listener = BoundListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        assert!(listener.accept_waiting().unwrap().is_none());
        let waiting = std::net::TcpStream::connect(listener.address()).unwrap();
        let (_stream, address) = listener.accept_waiting().unwrap().unwrap();
        assert_eq!(address, waiting.local_addr().unwrap());
        assert!(listener.accept_waiting().unwrap().is_none());
    }

    #[tokio::test]
    async fn all_of_ipv6_takes_ipv4_too() {
        // A machine without IPv6 can't show it.
        let Ok(listener) = BoundListener::bind("[::]:0".parse().unwrap()) else { return };
        let to = SocketAddr::from(([127, 0, 0, 1], listener.address().port()));
        let (client, accepted) = tokio::join!(TcpStream::connect(to), listener.accept());
        assert_eq!(accepted.unwrap().1, client.unwrap().local_addr().unwrap());
    }
}
