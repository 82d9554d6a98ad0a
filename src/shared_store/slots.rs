//! Which master of a cluster has which entry: its hash slots, as a node tells them.
//!
//! Decides what of a node's answer is one. Asks nobody.

use redis::Value;

use super::url::Host;
use crate::limits;

/// How many slots a cluster has.
const SLOTS: u16 = 16_384;

/// Which master has which slots; those of no master are missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Slots(Vec<Range>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Range {
    first: u16,
    last: u16,
    master: Host,
}

impl Slots {
    /// Reads the answer of `CLUSTER SLOTS`, which `asked` gave: a node that does not know its own
    /// address leaves it out. `None` if it is no such answer, or of a cluster that can't be.
    pub(super) fn read(answer: &Value, asked: &Host) -> Option<Self> {
        let Value::Array(ranges) = answer else { return None };
        if ranges.len() > usize::from(SLOTS) {
            return None;
        }
        let mut read = Vec::with_capacity(ranges.len());
        for range in ranges {
            let Value::Array(parts) = range else { return None };
            let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = parts.as_slice()
            else {
                return None;
            };
            let (first, last) = (u16::try_from(*first).ok()?, u16::try_from(*last).ok()?);
            if first > last || last >= SLOTS {
                return None;
            }
            if let Some(master) = host(master, asked) {
                read.push(Range { first, last, master });
            }
        }
        read.sort_by_key(|range| range.first);
        let slots = Self(read);
        let is_possible = slots.masters().len() <= limits::MAX_SHARDS;
        is_possible.then_some(slots)
    }

    /// Who has the entry called `name`.
    pub(super) fn master_of(&self, name: &str) -> Option<&Host> {
        let slot = slot_of(name);
        let behind = self.0.partition_point(|range| range.first <= slot);
        let range = self.0.get(behind.checked_sub(1)?)?;
        (slot <= range.last).then_some(&range.master)
    }

    /// All who have any, each once.
    pub(super) fn masters(&self) -> Vec<Host> {
        let mut masters: Vec<Host> = self.0.iter().map(|range| range.master.clone()).collect();
        masters.sort();
        masters.dedup();
        masters
    }
}

/// The slot of the entry called `name`: of what stands in its first braces, if there are any.
fn slot_of(name: &str) -> u16 {
    let tag = name.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    let tag = tag.map(|(tag, _)| tag).filter(|tag| !tag.is_empty());
    crc16(tag.unwrap_or(name).as_bytes()) % SLOTS
}

/// CRC-16/XMODEM, as the specification of Redis Cluster has it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _bit| {
            let carry = crc & 0x8000 != 0;
            if carry { (crc << 1) ^ 0x1021 } else { crc << 1 }
        })
    })
}

/// A node as its name or address and its port; `None` where the cluster does not know it.
fn host(node: &[Value], asked: &Host) -> Option<Host> {
    let [name, Value::Int(port), ..] = node else { return None };
    let port = u16::try_from(*port).ok().filter(|port| *port != 0)?;
    if *name == Value::Nil {
        return Some(Host { name: asked.name.clone(), port });
    }
    let Value::BulkString(name) = name else { return None };
    match std::str::from_utf8(name).ok()? {
        "" => Some(Host { name: asked.name.clone(), port }),
        name => Host::of(name, port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> Host {
        Host { name: "asked".to_owned(), port: 1 }
    }

    fn range(first: i64, last: i64, name: Value, port: i64) -> Value {
        let node = |name, port| {
            Value::Array(vec![name, Value::Int(port), Value::BulkString(b"id".to_vec())])
        };
        let replica = node(Value::BulkString(b"replica".to_vec()), 9);
        Value::Array(vec![Value::Int(first), Value::Int(last), node(name, port), replica])
    }

    fn named(name: &str) -> Value {
        Value::BulkString(name.as_bytes().to_vec())
    }

    #[test]
    fn slots_are_those_of_redis() {
        // As `CLUSTER KEYSLOT` says.
        for (name, slot) in [
            ("123456789", 12_739),
            ("foo", 12_182),
            ("{foo}bar", 12_182),
            ("x:{foo}{bar}", 12_182),
            ("foo{}{bar}", 8_363),
        ] {
            assert_eq!(slot_of(name), slot, "{name}");
        }
    }

    #[test]
    fn an_entry_is_with_the_master_of_its_slot() {
        let answer = Value::Array(vec![
            range(12_183, 16_383, named("10.0.0.2"), 2),
            range(0, 8_000, Value::Nil, 3),
            range(12_182, 12_182, named("b.example"), 4),
        ]);
        let slots = Slots::read(&answer, &asked()).unwrap();
        let master = |name| slots.master_of(name).map(Host::to_string);
        assert_eq!(master("foo").as_deref(), Some("b.example:4"));
        assert_eq!(master("123456789").as_deref(), Some("10.0.0.2:2"));
        assert_eq!(master("foo{}{bar}"), None, "a slot of nobody");
        assert_eq!(slots.masters().len(), 3);
        assert!(slots.masters().contains(&Host { name: "asked".to_owned(), port: 3 }));
    }

    #[test]
    fn what_is_no_such_answer_is_none() {
        let of = |ranges| Slots::read(&Value::Array(ranges), &asked());
        assert_eq!(of(Vec::new()), Some(Slots::default()));
        assert_eq!(of(vec![range(0, 5, named("?"), 1)]), Some(Slots::default()));
        assert_eq!(of(vec![range(0, 5, named("a"), 0)]), Some(Slots::default()));
        assert!(Slots::read(&Value::Okay, &asked()).is_none());
        for wrong in [
            range(5, 0, named("a"), 1),
            range(-1, 5, named("a"), 1),
            range(0, 16_384, named("a"), 1),
            Value::Int(1),
            Value::Array(vec![Value::Int(1), Value::Int(2)]),
        ] {
            assert!(of(vec![wrong.clone()]).is_none(), "{wrong:?}");
        }
        let many = |count: i64| (0..count).map(|n| range(n, n, named("a"), n + 1)).collect();
        assert!(of(many(1000)).is_some());
        assert!(of(many(1001)).is_none());
    }
}
