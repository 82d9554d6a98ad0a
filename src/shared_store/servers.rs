//! Which servers the store is made of: one, the master that sentinels tell, or the masters of a
//! cluster.
//!
//! Decides how they are found, and what none is. When they are looked for again is decided in
//! `link.rs` and `shards.rs`.

use std::io;

use futures_util::FutureExt as _;
use futures_util::future::select_ok;
use redis::{Cmd, ProtocolVersion, RedisConnectionInfo, RedisError, RedisResult, Value};
use tokio::time::timeout;

use super::connection::Connection;
use super::slots::Slots;
use super::url::{Form, Host, StoreAddress};
use crate::limits;

/// The servers of a store.
pub(super) enum Servers {
    /// One has all.
    One(Connection),
    /// The masters of a cluster have a part each.
    Cluster(Slots),
}

impl Servers {
    /// Looks for the servers of the store at `address`. A single server that is a node of a cluster is
    /// taken for what it is.
    pub(super) async fn find(address: &StoreAddress) -> RedisResult<Self> {
        match &address.form {
            Form::Single => {
                let host = address.hosts.first().ok_or_else(|| wrong("no server is named"))?;
                let mut server = open_one(address, host).await?;
                if !is_cluster_node(&mut server).await? {
                    return Ok(Self::One(server));
                }
                if address.database != 0 {
                    return Err(wrong(
                        "the server is a node of a cluster, which has no databases: write `redis-cluster://` and no number of one",
                    ));
                }
                slots_told_by(server, host).await.map(Self::Cluster)
            }
            Form::Cluster => {
                let ask = |host| {
                    async move { slots_told_by(open_one(address, host).await?, host).await }.boxed()
                };
                // Whoever answers first: one that is gone keeps nobody waiting.
                let (slots, _others) = select_ok(address.hosts.iter().map(ask)).await?;
                Ok(Self::Cluster(slots))
            }
            Form::Sentinel(service) => find_master(address, service).await.map(Self::One),
        }
    }

    /// A connection to the one that has the entry called `name`.
    pub(super) async fn connect(
        &self,
        address: &StoreAddress,
        name: &str,
    ) -> RedisResult<Connection> {
        match self {
            Self::One(connection) => Ok(connection.clone()),
            Self::Cluster(slots) => {
                let none = "the cluster has no master for a part of the entries";
                let host = slots.master_of(name).ok_or_else(|| wrong(none))?;
                open_one(address, host).await
            }
        }
    }
}

/// A connection to `host`, one of the servers of the store at `address`.
pub(super) async fn open_one(address: &StoreAddress, host: &Host) -> RedisResult<Connection> {
    Connection::dial(host, address.tls, &login(address)).await
}

/// What the node `host`, at the other end of `node`, says of who has which slots.
pub(super) async fn slots_told_by(mut node: Connection, host: &Host) -> RedisResult<Slots> {
    let mut question = Cmd::new();
    question.arg("CLUSTER").arg("SLOTS");
    let answer = timeout(limits::SHARED_STORE_CONNECT_TIMEOUT, node.ask(&question)).await;
    let answer = answer.map_err(|_elapsed| io::Error::from(io::ErrorKind::TimedOut))??;
    match Slots::read(&answer, host) {
        Some(slots) if slots != Slots::default() => Ok(slots),
        Some(_none) => Err(wrong("no node of the cluster has a part of the entries")),
        None => Err(wrong("what the node says of the parts of the cluster can't be read")),
    }
}

/// Whether the cluster is well as a whole, as far as the node at the other end of `node` knows.
pub(super) async fn is_well(node: &mut Connection) -> RedisResult<()> {
    match node.ask(Cmd::new().arg("CLUSTER").arg("INFO")).await {
        Ok(Value::BulkString(state))
            if String::from_utf8_lossy(&state).lines().any(|line| line == "cluster_state:fail") =>
        {
            Err(wrong("the node says that the cluster is down"))
        }
        Ok(_well) => Ok(()),
        // To users it may be forbidden. What they may ask works or is told of.
        Err(error) if error.code() == Some("NOPERM") => Ok(()),
        Err(error) => Err(error),
    }
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

async fn is_cluster_node(server: &mut Connection) -> RedisResult<bool> {
    match server.ask(Cmd::new().arg("CLUSTER").arg("INFO")).await {
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

/// Asks one sentinel after the other, and believes a server that it is the master only if it says so
/// itself: a sentinel may not have heard yet.
async fn find_master(address: &StoreAddress, service: &str) -> RedisResult<Connection> {
    let mut last = wrong("no sentinel is named");
    for sentinel in &address.hosts {
        // One that hangs is not to hide the others.
        let patience = limits::SHARED_STORE_CONNECT_TIMEOUT;
        match timeout(patience, master_of(address, sentinel, service)).await {
            Ok(Ok(master)) => return Ok(master),
            Ok(Err(error)) => last = error,
            Err(_elapsed) => {
                last = wrong("a sentinel, or the master that it names, does not answer");
            }
        }
    }
    Err(last)
}

/// A connection to the master of `service`, which `sentinel` tells.
async fn master_of(
    address: &StoreAddress,
    sentinel: &Host,
    service: &str,
) -> RedisResult<Connection> {
    let mut question = Cmd::new();
    question.arg("SENTINEL").arg("get-master-addr-by-name").arg(service);
    // Sentinels mostly know no users; one that does has those of the store.
    let nobody = RedisConnectionInfo::default().set_skip_set_lib_name();
    let mut asked = Connection::dial(sentinel, address.tls, &nobody).await?;
    let mut answer = asked.ask(&question).await;
    if answer.as_ref().is_err_and(|error| error.code() == Some("NOAUTH")) {
        let login = login(&StoreAddress { database: 0, ..address.clone() });
        let mut asked = Connection::dial(sentinel, address.tls, &login).await?;
        answer = asked.ask(&question).await;
    }
    let told: Option<(String, u16)> = redis::from_redis_value(answer?)?;
    let (name, port) = told.ok_or_else(|| wrong("the sentinel knows no service of that name"))?;
    let mut master = open_one(address, &Host { name, port }).await?;
    let role = match master.ask(Cmd::new().arg("ROLE")).await {
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
