//! Scripts that Redis runs whole: what has to be looked at and changed in one step, in one round
//! trip.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use redis::{Cmd, ErrorKind, RedisResult, ServerErrorKind, Value};

use super::connection::Connection;

/// A script of Redis (Lua). All of its keys must be of one hash slot: names that are made of one
/// owner are.
#[derive(Clone, Copy, Debug)]
pub struct Script(&'static str);

impl Script {
    /// The script with this text.
    pub const fn new(text: &'static str) -> Self {
        Self(text)
    }

    /// Runs it. The text is sent only if the server has not got it: it may have been restarted.
    pub(super) async fn run(
        self,
        mut connection: Connection,
        keys: &[&str],
        arguments: &[&[u8]],
    ) -> RedisResult<Value> {
        let known = command("EVALSHA", &sha1_hex(self.0.as_bytes()), keys, arguments);
        match connection.ask(&known).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                connection.ask(&command("EVAL", self.0, keys, arguments)).await
            }
            answer => answer,
        }
    }
}

fn command(name: &str, script: &str, keys: &[&str], arguments: &[&[u8]]) -> Cmd {
    let mut command = Cmd::new();
    command.arg(name).arg(script).arg(keys.len()).arg(keys);
    for argument in arguments {
        command.arg(*argument);
    }
    command
}

/// What `redis.sha1hex` makes of `bytes`. It names scripts and values of our own making; nothing
/// is believed for it.
pub(super) fn sha1_hex(bytes: &[u8]) -> String {
    let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes);
    digest.as_ref().iter().fold(String::new(), |mut hex, byte| {
        // Writing to a `String` does not fail.
        write!(hex, "{byte:02x}").unwrap_or_default();
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_the_one_of_redis() {
        assert_eq!(sha1_hex(b""), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    }
}
