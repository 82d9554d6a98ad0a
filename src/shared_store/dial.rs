//! A connection to one server of the store: TCP, TLS where the URL says so, and who we are.
//!
//! TLS is the program's own, with the roots that it trusts elsewhere. Decides nothing of which
//! server is dialled.

use std::io;
use std::sync::Arc;

use futures_util::FutureExt as _;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::Connect;
use redis::{
    AsyncConnectionConfig, Cmd, ConnectionAddr, IntoConnectionInfo, Pipeline, RedisConnectionInfo,
    RedisError, RedisFuture, RedisResult, Value,
};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::url::Host;
use crate::limits;
use crate::trust::Roots;

/// A connection that all who have it use at once; it closes with the last of them.
#[derive(Clone)]
pub(super) struct Dialled {
    connection: MultiplexedConnection,
    _driver: Arc<Driver>,
}

/// The task that reads and writes; it would wait for an answer that never comes.
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Dials `host`, and says who we are.
pub(super) async fn dial(
    host: &Host,
    tls: bool,
    login: &RedisConnectionInfo,
    config: AsyncConnectionConfig,
) -> RedisResult<Dialled> {
    let dialled = async {
        let stream = TcpStream::connect((host.name.as_str(), host.port)).await?;
        stream.set_nodelay(true)?;
        if !tls {
            return greeted(stream, login, config).await;
        }
        let settings = Roots::System.client_config().map_err(io::Error::other)?;
        let name = ServerName::try_from(host.name.clone()).map_err(io::Error::other)?;
        let connector = TlsConnector::from(Arc::new(settings));
        greeted(connector.connect(name, stream).await?, login, config).await
    };
    match timeout(limits::SHARED_STORE_CONNECT_TIMEOUT, dialled).await {
        Ok(dialled) => dialled,
        Err(_elapsed) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    }
}

async fn greeted<S>(
    stream: S,
    login: &RedisConnectionInfo,
    config: AsyncConnectionConfig,
) -> RedisResult<Dialled>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (connection, driver) =
        MultiplexedConnection::new_with_config(login, stream, config).await?;
    let driver = Arc::new(Driver(tokio::spawn(driver).abort_handle()));
    Ok(Dialled { connection, _driver: driver })
}

impl ConnectionLike for Dialled {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        self.connection.req_packed_command(cmd)
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        self.connection.req_packed_commands(pipeline, offset, count)
    }

    fn get_db(&self) -> i64 {
        self.connection.get_db()
    }
}

/// How the nodes of a cluster are dialled.
impl Connect for Dialled {
    fn connect_with_config<'a, T>(info: T, config: AsyncConnectionConfig) -> RedisFuture<'a, Self>
    where
        T: IntoConnectionInfo + Send + 'a,
    {
        async move {
            let info = info.into_connection_info()?;
            let (host, tls) = match info.addr() {
                ConnectionAddr::Tcp(name, port) => {
                    (Host { name: name.clone(), port: *port }, false)
                }
                ConnectionAddr::TcpTls { host, port, insecure: _, tls_params: _ } => {
                    (Host { name: host.clone(), port: *port }, true)
                }
                ConnectionAddr::Unix(_) | _ => return Err(no_such_address()),
            };
            dial(&host, tls, info.redis_settings(), config).await
        }
        .boxed()
    }
}

fn no_such_address() -> RedisError {
    io::Error::new(io::ErrorKind::Unsupported, "a node of the cluster has no address of TCP").into()
}
