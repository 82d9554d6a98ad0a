//! A connection to the store, whatever the store is made of: one server, a cluster, or the master
//! that sentinels tell.
//!
//! Decides how it is found and whether it can be used. When it is dialled again is decided in
//! `link.rs`.

use std::io;

use redis::aio::ConnectionLike as _;
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ConnectionAddr, ProtocolVersion, RedisConnectionInfo, RedisError,
    RedisResult, Value,
};

use super::dial::{Dialled, dial};
use super::url::{Form, Host, StoreAddress};
use crate::limits;

/// A connection that all who have it use at once.
#[derive(Clone)]
pub(super) enum Connection {
    /// To one server.
    Single(Dialled),
    /// To the nodes of a cluster.
    Cluster(ClusterConnection<Dialled>),
}

impl Connection {
    /// Connects to the store at `address`. A single server that is a node of a cluster is taken for
    /// what it is.
    pub(super) async fn open(address: &StoreAddress) -> RedisResult<Self> {
        match &address.form {
            Form::Single => {
                let host = address.hosts.first().ok_or_else(|| wrong("no server is named"))?;
                let mut server = open_one(address, host).await?;
                if !is_cluster_node(&mut server).await? {
                    return Ok(Self::Single(server));
                }
                if address.database != 0 {
                    return Err(wrong(
                        "the server is a node of a cluster, which has no databases: write `redis-cluster://` and no number of one",
                    ));
                }
                Self::open_cluster(&address.as_cluster()).await
            }
            Form::Cluster => Self::open_cluster(address).await,
            Form::Sentinel(service) => Self::open_master(address, service).await,
        }
    }

    async fn open_cluster(address: &StoreAddress) -> RedisResult<Self> {
        let nodes = address.hosts.iter().map(|host| {
            let (host, port) = (host.name.clone(), host.port);
            if address.tls {
                ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
            } else {
                ConnectionAddr::Tcp(host, port)
            }
        });
        let mut builder = ClusterClientBuilder::new(nodes)
            .use_protocol(ProtocolVersion::RESP2)
            .connection_timeout(limits::SHARED_STORE_CONNECT_TIMEOUT)
            .response_timeout(limits::SHARED_STORE_LONGEST_ANSWER)
            .retries(limits::SHARED_STORE_CLUSTER_RETRIES);
        if let Some(username) = &address.username {
            builder = builder.username(username);
        }
        if let Some(password) = &address.password {
            builder = builder.password(password.expose());
        }
        let client = builder.build()?;
        client.get_async_generic_connection().await.map(Self::Cluster)
    }

    /// Asks one sentinel after the other, and believes a server that it is the master only if it
    /// says so itself: a sentinel may not have heard yet.
    async fn open_master(address: &StoreAddress, service: &str) -> RedisResult<Self> {
        let mut last = wrong("no sentinel is named");
        for sentinel in &address.hosts {
            match master_of(address, sentinel, service).await {
                Ok(master) => return Ok(Self::Single(master)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Sends a command and waits for its answer, without a limit of time.
    pub(super) async fn ask(&mut self, command: &Cmd) -> RedisResult<Value> {
        let answer = match self {
            Self::Single(server) => server.req_packed_command(command).await,
            Self::Cluster(cluster) => cluster.req_packed_command(command).await,
        };
        answer.and_then(Value::extract_error)
    }
}

async fn open_one(address: &StoreAddress, host: &Host) -> RedisResult<Dialled> {
    dial(host, address.tls, &login(address), config()).await
}

fn login(address: &StoreAddress) -> RedisConnectionInfo {
    let mut login = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP2)
        .set_db(address.database)
        .set_lib_name(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    if let Some(username) = &address.username {
        login = login.set_username(username);
    }
    if let Some(password) = &address.password {
        login = login.set_password(password.expose());
    }
    login
}

/// Who waits for an answer has a limit of his own.
fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_response_timeout(None)
}

async fn is_cluster_node(server: &mut Dialled) -> RedisResult<bool> {
    let mut question = Cmd::new();
    question.arg("CLUSTER").arg("INFO");
    match server.req_packed_command(&question).await.and_then(Value::extract_error) {
        Ok(state) => Ok(is_state_of_a_cluster(&state)),
        // It says that it is none, or that we may not ask; what we may ask works or is told of.
        Err(error) if error.code().is_some() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether that is what a node says to `CLUSTER INFO`: something between may say yes to everything.
fn is_state_of_a_cluster(answer: &Value) -> bool {
    let text = if let Value::BulkString(bytes) = answer {
        String::from_utf8_lossy(bytes)
    } else if let Value::VerbatimString { text, .. } = answer {
        text.into()
    } else {
        return false;
    };
    text.lines().any(|line| line.starts_with("cluster_state:") || line == "cluster_enabled:1")
}

/// A connection to the master of `service`, which `sentinel` tells.
async fn master_of(address: &StoreAddress, sentinel: &Host, service: &str) -> RedisResult<Dialled> {
    let mut question = Cmd::new();
    question.arg("SENTINEL").arg("get-master-addr-by-name").arg(service);
    // Sentinels mostly know no users; one that does has those of the store.
    let nobody = RedisConnectionInfo::default().set_skip_set_lib_name();
    let mut asked = dial(sentinel, address.tls, &nobody, config()).await?;
    let mut answer = asked.req_packed_command(&question).await.and_then(Value::extract_error);
    if answer.as_ref().is_err_and(|error| error.code() == Some("NOAUTH")) {
        let login = login(&StoreAddress { database: 0, ..address.clone() });
        let mut asked = dial(sentinel, address.tls, &login, config()).await?;
        answer = asked.req_packed_command(&question).await.and_then(Value::extract_error);
    }
    let told: Option<(String, u16)> = redis::from_redis_value(answer?)?;
    let (name, port) = told.ok_or_else(|| wrong("the sentinel knows no service of that name"))?;
    let mut master = open_one(address, &Host { name, port }).await?;
    let mut role = Cmd::new();
    role.arg("ROLE");
    let role = match master.req_packed_command(&role).await.and_then(Value::extract_error) {
        // To users it mostly is forbidden. A replica will say so when it is written to.
        Err(error) if error.code() == Some("NOPERM") => return Ok(master),
        role => role?,
    };
    let is_word =
        |part: Option<&Value>| matches!(part, Some(Value::BulkString(word)) if word == b"master");
    if matches!(&role, Value::Array(parts) if is_word(parts.first())) {
        Ok(master)
    } else {
        Err(wrong("the server that the sentinel told of is not the master"))
    }
}

fn wrong(what: &'static str) -> RedisError {
    io::Error::other(what).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_of_a_cluster_is_one_that_says_so() {
        let said = |text: &str| is_state_of_a_cluster(&Value::BulkString(text.into()));
        assert!(said("cluster_state:fail\r\ncluster_slots_assigned:0\r\n"));
        assert!(said("# Cluster\r\ncluster_enabled:1\r\n"));
        assert!(!said("cluster_enabled:0\r\n"));
        for other in ["", "OK", "value", "no cluster_state:ok"] {
            assert!(!said(other), "{other}");
        }
        for other in [Value::Okay, Value::Nil, Value::Int(1), Value::Array(Vec::new())] {
            assert!(!is_state_of_a_cluster(&other), "{other:?}");
        }
    }
}
