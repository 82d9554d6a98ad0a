//! What is in a Redis, byte for byte; and rubbish in its place.

use std::collections::BTreeMap;

use super::resp::{Connection, Value};

/// A key and all that is under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: Vec<u8>,
    /// As `TYPE` says.
    pub kind: String,
    /// Every piece of the value: fields, members, ids of a stream.
    pub pieces: Vec<Vec<u8>>,
}

impl Entry {
    /// The value of a string.
    ///
    /// # Panics
    ///
    /// When it is none.
    pub fn value(&self) -> &[u8] {
        assert_eq!(self.kind, "string", "{}", self.key.escape_ascii());
        &self.pieces[0]
    }
}

/// All keys, in order.
pub fn keys(connection: &mut Connection) -> Vec<Vec<u8>> {
    let mut found = std::collections::BTreeSet::new();
    let mut cursor = b"0".to_vec();
    loop {
        let mut answer = connection.ask(&[b"SCAN", &cursor, b"COUNT", b"1000"]).list();
        let keys = answer.pop().unwrap().list();
        found.extend(keys.into_iter().map(Value::bytes));
        cursor = answer.pop().unwrap().bytes();
        if cursor == b"0" {
            return found.into_iter().collect();
        }
    }
}

/// All there is, in the order of keys. What expires meanwhile is left out.
pub fn dump(connection: &mut Connection) -> Vec<Entry> {
    let keys = keys(connection);
    keys.into_iter().filter_map(|key| entry(connection, key)).collect()
}

fn entry(connection: &mut Connection, key: Vec<u8>) -> Option<Entry> {
    let kind = connection.ask(&[b"TYPE", &key]).text();
    let value = match kind.as_str() {
        "none" => return None,
        "string" => connection.ask(&[b"GET", &key]),
        "hash" => connection.ask(&[b"HGETALL", &key]),
        "set" => connection.ask(&[b"SMEMBERS", &key]),
        "list" => connection.ask(&[b"LRANGE", &key, b"0", b"-1"]),
        "zset" => connection.ask(&[b"ZRANGE", &key, b"0", b"-1", b"WITHSCORES"]),
        "stream" => connection.ask(&[b"XRANGE", &key, b"-", b"+"]),
        other => panic!("a value of type {other} can't be searched"),
    };
    let pieces = value.pieces();
    // An expired string has no value any more.
    (kind != "string" || !pieces.is_empty()).then_some(Entry { key, kind, pieces })
}

/// How long the keys that have an end still live, in milliseconds.
pub fn lives(connection: &mut Connection) -> BTreeMap<Vec<u8>, i64> {
    let keys = keys(connection);
    let life = |key: &Vec<u8>| connection.ask(&[b"PTTL", key]).number();
    let lives: Vec<_> = keys.iter().map(life).collect();
    keys.into_iter().zip(lives).filter(|(_, life)| *life >= 0).collect()
}

/// Puts random bytes in place of every value, half of them of the type that was there; how many
/// values that was.
pub fn fill_with_garbage(connection: &mut Connection, random: &mut fastrand::Rng) -> usize {
    let keys = keys(connection);
    for key in &keys {
        let kind = connection.ask(&[b"TYPE", key]).text();
        let length = match connection.try_ask(&[b"STRLEN", key]) {
            Ok(Value::Number(length)) => usize::try_from(length).unwrap(),
            _ => 64,
        };
        let length = *random.choice(&[length, length, 0, 1, length / 2, length + 1, 4096]).unwrap();
        let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(length).collect();
        // Whoever owns the key may have changed its type since: then it is left as it is now.
        let answer = match (random.u8(..6), kind.as_str()) {
            (0..3, "stream") => connection.try_ask(&[b"XADD", key, b"*", &bytes, &bytes]),
            (0..3, _) => connection.try_ask(&[b"SET", key, &bytes, b"KEEPTTL"]),
            (3, _) => {
                connection.ask(&[b"DEL", key]);
                connection.try_ask(&[b"RPUSH", key, &bytes, &bytes])
            }
            (4, _) => {
                connection.ask(&[b"DEL", key]);
                connection.try_ask(&[b"HSET", key, &bytes, &bytes])
            }
            _ => {
                connection.ask(&[b"DEL", key]);
                connection.try_ask(&[b"XADD", key, b"*", &bytes, &bytes])
            }
        };
        answer.expect("Redis answers");
    }
    keys.len()
}
