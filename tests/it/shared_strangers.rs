//! A store that speaks well, and says whatever it likes of entries and leases: it is in use all the
//! time, good entries of it are taken, and nobody gets another's token or is refused for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::replicas::{Fleet, JOINED};
use crate::support::servers::Server;

/// What was stored, by name.
type Stored = Arc<Mutex<HashMap<Vec<u8>, Vec<u8>>>>;

#[tokio::test]
async fn whatever_a_store_says_of_entries_everybody_is_served_with_a_token_of_their_own() {
    let peer = peer();
    let url = format!("redis://{}", peer.address());
    // Nothing stays in memory: each request asks the store.
    let fleet = Fleet::sharing(&url).max_entries(1);
    let (first, second) = (fleet.gateway().await, fleet.gateway().await);
    let users = fleet.users(20);
    for round in 0..8 {
        for user in users.iter() {
            let gateway = if round % 2 == 0 { &first } else { &second };
            assert_eq!(user.ask(gateway.address(), 0).await.0, 200, "{round}");
        }
    }
    fleet.assert_tokens_are_the_users();
    for gateway in [&first, &second] {
        let metrics = gateway.metrics().await;
        assert!(metrics.contains(JOINED), "it answers, and so it is in use");
        let count = |outcome: &str| -> u64 {
            let name = format!(
                "obo_gateway_shared_cache_requests_total{{operation=\"claim\",outcome=\"{outcome}\"}} "
            );
            let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
            line.map_or(0, |count| count.parse().unwrap())
        };
        // All that can be said was, and often.
        for outcome in ["hit", "miss", "busy", "unreadable", "error"] {
            assert!(count(outcome) >= 3, "{outcome}: {}", count(outcome));
        }
        assert_eq!(count("unavailable"), 0);
    }
}

/// A server that keeps what it is given, and says something of it, or something else.
fn peer() -> Server {
    let (stored, random) = (Stored::default(), Arc::new(Mutex::new(fastrand::Rng::with_seed(11))));
    Server::start(Arc::new(move |mut stream| {
        let (stored, random) = (Arc::clone(&stored), Arc::clone(&random));
        Box::pin(async move {
            let mut unread = Vec::new();
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                unread.extend_from_slice(&buffer[..length]);
                while let Some((words, rest)) = command(&unread) {
                    unread = rest;
                    let answer = match &words[0][..] {
                        b"PING" => b"+PONG\r\n".to_vec(),
                        b"CLUSTER" => {
                            b"-ERR This instance has cluster support disabled\r\n".to_vec()
                        }
                        b"XREVRANGE" | b"XRANGE" => b"*0\r\n".to_vec(),
                        b"XREAD" => {
                            // As a server that was told nothing new.
                            tokio::time::sleep(Duration::from_secs(5)).await;
                            b"*-1\r\n".to_vec()
                        }
                        b"EVALSHA" => says(&words, &stored, &mut random.lock().unwrap()),
                        b"GET" => b"$-1\r\n".to_vec(),
                        _ => b"+OK\r\n".to_vec(),
                    };
                    if stream.write_all(&answer).await.is_err() {
                        return;
                    }
                }
            }
        })
    }))
}

/// What it says to a script: `EVALSHA digest 2 value-name lease-name argument…`, where the first
/// argument of the one that stores is by far the longest.
fn says(words: &[Vec<u8>], stored: &Stored, random: &mut fastrand::Rng) -> Vec<u8> {
    let is_of_one_name = words[2] != b"2";
    if is_of_one_name || words[5].len() > 100 {
        if !is_of_one_name {
            stored.lock().unwrap().insert(words[3].clone(), words[5].clone());
        }
        return b":1\r\n".to_vec();
    }
    let stored = stored.lock().unwrap();
    let own = stored.get(&words[3]).cloned();
    let any = stored.values().nth(random.usize(..stored.len().max(1))).cloned();
    let kept = own.clone().or_else(|| any.clone()).unwrap_or_default();
    match random.u8(..14) {
        0..=2 => own.map_or_else(|| array(&[b"yours"]), |own| array(&[b"value", &own])),
        3 => array(&[b"yours"]),
        4 => array(&[b"value", &any.unwrap_or_default()]),
        5 => {
            let mut altered = kept;
            if let Some(last) = altered.len().checked_sub(1) {
                altered[random.usize(..=last)] ^= 1 << random.u8(..8);
            }
            array(&[b"value", &altered])
        }
        6 => array(&[b"value", &kept[..random.usize(..=kept.len())]]),
        7 => {
            let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(600).collect();
            array(&[b"value", &bytes])
        }
        8 | 9 => array(&[b"busy", &random.u64(..).to_be_bytes()]),
        10 => array(&[b"value"]),
        11 => array(&[b"yours", &kept, b"more"]),
        12 => b"*1\r\n*1\r\n:7\r\n".to_vec(),
        _ => b"-ERR not today\r\n".to_vec(),
    }
}

fn array(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).into_bytes());
        bytes.extend_from_slice(word);
        bytes.extend(b"\r\n");
    }
    bytes
}

/// The first command of `bytes`, if all of it is there, and what comes behind it.
fn command(bytes: &[u8]) -> Option<(Vec<Vec<u8>>, Vec<u8>)> {
    let (count, mut rest) = number(bytes, b'*')?;
    let mut words = Vec::new();
    for _ in 0..count {
        let (length, word) = number(rest, b'$')?;
        words.push(word.get(..length)?.to_vec());
        rest = word.get(length + 2..)?;
    }
    Some((words, rest.to_vec()))
}

fn number(bytes: &[u8], sign: u8) -> Option<(usize, &[u8])> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let text = std::str::from_utf8(&bytes[..end]).ok()?.strip_prefix(char::from(sign))?;
    Some((text.parse().ok()?, &bytes[end + 2..]))
}
