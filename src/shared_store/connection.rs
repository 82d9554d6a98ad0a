//! A connection to one server of the store: TCP, TLS where the URL says so, who we are, and commands
//! with their answers.
//!
//! TLS is the program's own, with the roots that it trusts elsewhere. Which server is dialled is
//! decided in `servers.rs`; when that is done again, in `link.rs` and `shards.rs`.

use std::io;
use std::sync::Arc;

use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::{AsyncConnectionConfig, Cmd, RedisConnectionInfo, RedisResult, Value};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::bounded::{Allowance, Bounded};
use super::url::Host;
use crate::limits;
use crate::trust::Roots;

/// A connection that all who have it use at once; it closes with the last of them.
#[derive(Clone)]
pub(super) struct Connection {
    commands: MultiplexedConnection,
    is_asking: bool,
    allowance: Allowance,
    _driver: Arc<Driver>,
}

/// The task that reads and writes; it would wait for an answer that never comes.
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Connection {
    /// Dials `host`, and says who we are.
    pub(super) async fn dial(
        host: &Host,
        tls: bool,
        login: &RedisConnectionInfo,
    ) -> RedisResult<Self> {
        let dialled = async {
            let stream = TcpStream::connect((host.name.as_str(), host.port)).await?;
            stream.set_nodelay(true)?;
            if !tls {
                return Self::over(stream, login).await;
            }
            let settings = Roots::System.client_config().map_err(io::Error::other)?;
            let name = ServerName::try_from(host.name.clone()).map_err(io::Error::other)?;
            let connector = TlsConnector::from(Arc::new(settings));
            Self::over(connector.connect(name, stream).await?, login).await
        };
        match timeout(limits::SHARED_STORE_CONNECT_TIMEOUT, dialled).await {
            Ok(dialled) => dialled,
            Err(_elapsed) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        }
    }

    async fn over<S>(stream: S, login: &RedisConnectionInfo) -> RedisResult<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // Who waits for an answer has a limit of his own.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let allowance = Allowance::default();
        let stream = Bounded::new(stream, allowance.clone());
        let (commands, driver) =
            MultiplexedConnection::new_with_config(login, stream, config).await?;
        let driver = Arc::new(Driver(tokio::spawn(driver).abort_handle()));
        Ok(Self { commands, is_asking: false, allowance, _driver: driver })
    }

    /// The same for who was sent there for once, as the entry is on its way there (`ASK`).
    pub(super) fn asking(self) -> Self {
        Self { is_asking: true, ..self }
    }

    /// Sends a command and waits for its answer, without a limit of time.
    pub(super) async fn ask(&mut self, command: &Cmd) -> RedisResult<Value> {
        if !self.is_asking {
            return self.commands.req_packed_command(command).await.and_then(Value::extract_error);
        }
        let mut both = redis::pipe();
        both.cmd("ASKING").add_command(command.clone());
        let answers = self.commands.req_packed_commands(&both, 1, 1).await?;
        answers.into_iter().next().unwrap_or(Value::Nil).extract_error()
    }

    /// The same where nobody else asks at once, for an answer of so many bytes at most: the connection
    /// breaks when a longer one comes.
    pub(super) async fn ask_within(&mut self, command: &Cmd, bytes: usize) -> RedisResult<Value> {
        self.allowance.set(bytes);
        let answer = self.ask(command).await;
        self.allowance.lift();
        answer
    }
}
