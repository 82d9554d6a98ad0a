//! The store, tried for `check --online`: is it there, is it quick, may we do there what we do.
//!
//! By the code that serves requests. What is written is sealed, under a name of its own, and dropped.

use std::time::Duration;

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use redis::Value as Answer;
use tokio::time::{Instant, timeout};

use super::entries::{CLAIM, DELETE, STORE};
use super::failure::Failure;
use super::link::{answers, find};
use super::notices::{ANNOUNCE, Board};
use super::script::{Script, sha1_hex};
use super::seal::Keyring;
use super::servers::Servers;
use super::{StoreSettings, name_of};
use crate::limits;

/// How long what is tried is kept, if it can't be dropped.
const KEPT: &[u8] = b"1000";

/// A script of another part of the program, to be tried on an entry of `kind`.
#[derive(Clone, Copy, Debug)]
pub struct ScriptTrial {
    /// What it is run on.
    pub kind: &'static str,
    /// What is run.
    pub script: Script,
    /// With these; what it leaves has to end by itself.
    pub arguments: &'static [&'static [u8]],
}

/// What a trial found, one after the other.
#[derive(Debug)]
pub struct Tried {
    /// How long a question and its answer took, or why none came.
    pub answered: Result<Duration, Failure>,
    /// How long it took to write, read and drop an entry, to read what is to be forgotten, and to run
    /// what else was to be tried; or why that can't be done. `None` if nothing answered.
    pub used: Option<Result<Duration, Failure>>,
}

/// Tries the store of `settings` once, and `others` there.
///
/// # Cancel safety
///
/// Dropping the future closes the connection; what was written ends by itself.
pub async fn try_out(settings: &StoreSettings, others: &[ScriptTrial]) -> Tried {
    let patience = limits::SHARED_STORE_CONNECT_TIMEOUT;
    let servers = match find(&settings.address).await {
        Ok(servers) => servers,
        Err(failure) => return Tried { answered: Err(failure), used: None },
    };
    let mut connection =
        match servers.connect(&settings.address, &Board::name_in(&settings.key_prefix)).await {
            Ok(connection) => connection,
            Err(error) => return Tried { answered: Err(Failure::of(&error)), used: None },
        };
    let answered = async {
        answers(&mut connection, patience).await?;
        let began = Instant::now();
        answers(&mut connection, patience).await.map(|()| began.elapsed())
    };
    let answered = answered.await;
    let began = Instant::now();
    let used = timeout(patience, used(&servers, settings, others)).await;
    let used = used.unwrap_or(Err(Failure::Late)).map(|()| began.elapsed());
    Tried { answered, used: Some(used) }
}

async fn used(
    servers: &Servers,
    settings: &StoreSettings,
    others: &[ScriptTrial],
) -> Result<(), Failure> {
    let refused = |what: &str| Failure::Refused(what.to_owned());
    let keyring = Keyring::new(&settings.encryption_keys);
    let keyring = keyring.ok_or_else(|| refused("there is no encryption key that can be used"))?;
    let mut owner = [0; 32];
    rand::fill(&mut owner).map_err(|_unspecified| refused("the system gave no random bytes"))?;
    let digest = keyring.first().digest(&[&owner]);
    let name = |kind| name_of(settings, kind, &digest);
    let [value, lease, notices] = ["token", "lease", "forgotten"].map(name);
    let keys = [value.as_str(), lease.as_str()];
    let sealed = keyring.seal(&value, &owner).map_err(|error| refused(&error.to_string()))?;
    let connect = async |name: &str| {
        let connected = servers.connect(&settings.address, name).await;
        connected.map_err(|error| Failure::of(&error))
    };
    // All of one owner, and so of one slot.
    let connection = connect(&value).await?;
    let run = async |script: Script, keys: &[&str], arguments: &[&[u8]]| {
        let answer = script.run(connection.clone(), keys, arguments).await;
        answer.map_err(|error| Failure::of(&error))
    };
    let holder = URL_SAFE_NO_PAD.encode(owner);
    let most = limits::MAX_SHARED_VALUE_BYTES.to_string();
    let claim = [holder.as_bytes(), KEPT, b"", most.as_bytes()];
    run(CLAIM, &keys, &claim).await?;
    // Once more, as one who comes while the lease is held.
    run(CLAIM, &keys, &claim).await?;
    run(STORE, &keys, &[&sealed, KEPT, holder.as_bytes(), b"", most.as_bytes()]).await?;
    let answer = run(CLAIM, &keys, &claim).await?;
    let read = if let Answer::Array(parts) = answer { parts.into_iter().nth(1) } else { None };
    let is_same = matches!(&read, Some(Answer::BulkString(read)) if keyring.open(&value, read).is_ok_and(|read| read == owner));
    run(DELETE, &[value.as_str()], &[sha1_hex(&sealed).as_bytes()]).await?;
    if !is_same {
        return Err(refused("what was written was not read again"));
    }
    // Without these a gateway never takes the store into use, or does not hear of what is to be
    // forgotten.
    let announced =
        run(ANNOUNCE, &[notices.as_str()], &[&sealed, b"1", KEPT, b"60", b"1", b"0"]).await?;
    if !matches!(announced, Answer::BulkString(_)) {
        return Err(refused("no position was given to what was put up"));
    }
    Board::try_reading(&mut connection.clone(), &notices).await?;
    for other in others {
        run(other.script, &[name(other.kind).as_str()], other.arguments).await?;
    }
    Ok(())
}
