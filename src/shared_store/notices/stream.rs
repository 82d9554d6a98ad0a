//! Notices in Redis: how they are put up, asked for and answered.
//!
//! What is longer than any notice is passed over by Redis itself and not sent, and what is asked for
//! comes in small pages: whoever can write to the store has no say in how much a replica holds.

use std::time::Duration;

use redis::{Cmd, ErrorKind, RedisError, RedisResult, Value as Answer};

use super::Position;
use crate::limits;
use crate::shared_store::connection::Connection;
use crate::shared_store::script::Script;

/// Puts up a notice, and drops what stands in its place: what is no stream, and a stream that
/// has no place left for it but beyond the time that Redis has; what that one said goes on in its own. Readers see that what they read last
/// is gone: another notice never stands in its place, as the first one has a random number there.
pub(in crate::shared_store) const ANNOUNCE: Script = Script::new(
    "if redis.call('TYPE', KEYS[1]).ok ~= 'stream' then redis.call('DEL', KEYS[1]) end\n\
     local function add()\n\
     return redis.pcall('XADD', KEYS[1], 'MAXLEN', ARGV[2], '*', 'v', ARGV[1])\n\
     end\n\
     local id = add()\n\
     local now = redis.pcall('TIME')\n\
     local is_over = type(id) == 'table' and (string.find(id.err, 'exhausted', 1, true)\n\
     or string.find(id.err, 'equal or smaller', 1, true))\n\
     local is_ahead = type(id) == 'string' and now[1]\n\
     and tonumber(string.match(id, '^%d+')) > (now[1] + ARGV[4]) * 1000\n\
     if is_over or is_ahead then\n\
     local kept = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', ARGV[2])\n\
     redis.call('DEL', KEYS[1])\n\
     id = add()\n\
     if type(id) == 'string' then\n\
     redis.call('DEL', KEYS[1])\n\
     local place = string.match(id, '^%d+') .. '-' .. ARGV[5]\n\
     for i = #kept, 1, -1 do\n\
     local fields = kept[i][2]\n\
     if #fields == 2 and fields[1] == 'v' and #fields[2] <= tonumber(ARGV[6]) then\n\
     redis.pcall('XADD', KEYS[1], place, 'v', fields[2])\n\
     place = '*'\n\
     end\n\
     end\n\
     id = redis.pcall('XADD', KEYS[1], 'MAXLEN', ARGV[2], place, 'v', ARGV[1])\n\
     end\n\
     end\n\
     if type(id) == 'string' then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end\n\
     return id",
);

/// Puts up what is `sealed` under the name of all notices, and gives its position.
pub(super) async fn announce(
    connection: Connection,
    name: &str,
    sealed: &[u8],
) -> RedisResult<Answer> {
    let most = limits::MAX_FORGETTINGS.to_string();
    let time = limits::SHARED_NOTICES_KEPT.as_millis().to_string();
    let skew = limits::SHARED_CLOCK_SKEW.as_secs().to_string();
    let first = fastrand::u32(1..).to_string();
    let longest = limits::MAX_SHARED_NOTICE_BYTES.to_string();
    let [most, time, skew, first, longest] =
        [&most, &time, &skew, &first, &longest].map(String::as_bytes);
    ANNOUNCE.run(connection, &[name], &[sealed, most, time, skew, first, longest]).await
}

/// Gives what stands between two positions: what is no notice by its form or its length as a number
/// in its place.
pub(super) const READ: Script = Script::new(
    "if redis.call('TYPE', KEYS[1]).ok ~= 'stream' then return {} end\n\
     local read = {}\n\
     local entries = redis.call(ARGV[1], KEYS[1], ARGV[2], ARGV[3], 'COUNT', ARGV[4])\n\
     for _, entry in ipairs(entries) do\n\
     local fields, sealed = entry[2], 0\n\
     if #fields == 2 and fields[1] == 'v' and #fields[2] <= tonumber(ARGV[5]) then\n\
     sealed = fields[2]\n\
     end\n\
     read[#read + 1] = {entry[1], sealed}\n\
     end\n\
     return read",
);

/// What is read of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Range {
    /// The entry at this position.
    At(Position),
    /// What comes from there on, the oldest one first.
    From(Position),
    /// All until there, the newest one first; all that there is without a position.
    Until(Option<Position>),
}

impl Range {
    /// The command, and between which positions, as [`READ`] takes them.
    pub(super) fn words(self) -> [String; 3] {
        match self {
            Self::At(at) => ["XRANGE".to_owned(), at.to_string(), at.to_string()],
            Self::From(from) => ["XRANGE".to_owned(), from.to_string(), "+".to_owned()],
            Self::Until(until) => {
                let until = until.map_or_else(|| "+".to_owned(), |until| until.to_string());
                ["XREVRANGE".to_owned(), until, "-".to_owned()]
            }
        }
    }
}

/// Has the store wait until something comes after `at`, and gives one of that.
pub(super) fn wake(name: &str, at: Position, wait: Option<Duration>) -> Cmd {
    let mut question = Cmd::new();
    question.arg("XREAD").arg("COUNT").arg(1);
    if let Some(wait) = wait {
        question.arg("BLOCK").arg(wait.as_millis().to_string());
    }
    question.arg("STREAMS").arg(name).arg(at.to_string());
    question
}

/// The entries in the answer of [`READ`].
pub(super) fn entries_of(answer: Answer) -> Vec<Answer> {
    if let Answer::Array(entries) = answer { entries } else { Vec::new() }
}

/// The position of an entry, and what is sealed in it.
pub(super) fn parts(entry: &Answer) -> Option<(Position, Option<&[u8]>)> {
    let Answer::Array(parts) = entry else { return None };
    let position = Position::of(parts.first()?)?;
    let sealed = if let Some(Answer::BulkString(sealed)) = parts.get(1) {
        Some(sealed.as_slice())
    } else {
        None
    };
    Some((position, sealed))
}

/// Whether what stands there is no stream.
pub(super) fn is_of_wrong_type(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Extension && error.code() == Some("WRONGTYPE")
}
