//! Peers that are no Redis at all: whatever they say, requests are served as without them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use obo_gateway::limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use crate::support::replicas::Fleet;
use crate::support::servers::Server;
use crate::support::within;

/// What a peer says to whatever it is asked.
#[derive(Clone)]
enum Says {
    /// These bytes each time.
    Always(Vec<u8>),
    /// These bytes to each command, however many come together.
    ToEach(Vec<u8>),
    /// These bytes without an end.
    Endlessly(Vec<u8>),
    Random,
    Nothing,
    /// Closes at the first word.
    Closes,
}

#[tokio::test]
async fn whatever_a_peer_says_that_is_no_redis_requests_are_served() {
    const TIMEOUT: Duration = Duration::from_millis(500);
    for (name, says) in [
        ("a web server", Says::Always(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())),
        ("random bytes", Says::Random),
        ("fine with everything", Says::Always(b"+OK\r\n".to_vec())),
        ("knows of nothing", Says::Always(b"$-1\r\n".to_vec())),
        ("has a value for everything", Says::Always(b"$5\r\nvalue\r\n".to_vec())),
        ("a number", Says::Always(b":7\r\n".to_vec())),
        ("a list of everything", Says::Always(b"*2\r\n$1\r\na\r\n*-1\r\n".to_vec())),
        ("refuses everything", Says::Always(b"-ERR no\r\n".to_vec())),
        ("more than fits", Says::Always(b"$9223372036854775807\r\n".to_vec())),
        ("a very long list", Says::Always(b"*2147483647\r\n".to_vec())),
        ("a list in a list in a list", Says::Endlessly(b"*1\r\n".repeat(10_000))),
        ("a line without an end", Says::Endlessly(vec![b'+'; 65_536])),
        ("says nothing", Says::Nothing),
        ("closes", Says::Closes),
    ] {
        let (peer, asked) = peer(says);
        let fleet = Fleet::sharing(&format!("redis://{}", peer.address())).timeout(TIMEOUT);
        let gateway = fleet.gateway_without_redis().await;
        for number in 0..10 {
            let (status, took) = fleet.user(number).ask(gateway.address(), 0).await;
            assert_eq!(status, 200, "{name}");
            assert!(took < TIMEOUT + Duration::from_secs(5), "{name}: {took:?}");
        }
        let reached = async {
            while asked.load(Ordering::SeqCst) == 0 {
                // The peer tells nobody; the interval only spares the processor.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within(name, reached).await;
        fleet.assert_tokens_are_the_users();
    }
}

#[tokio::test]
async fn of_an_answer_without_an_end_no_more_is_taken_than_an_answer_has() {
    // The kernel's buffers on both sides come to it.
    const MOST: usize = limits::MIN_SHARED_ANSWERS_BYTES + (16 << 20);
    // A line, and a value that says that it is long.
    for begin in ["+", "$500000000\r\n"] {
        let (told, mut taken) = mpsc::channel(8);
        let peer = Server::start(Arc::new(move |mut stream| {
            let told = told.clone();
            Box::pin(async move {
                let (mut buffer, mut taken) = ([0; 4096], 0);
                let Ok(1..) = stream.read(&mut buffer).await else { return };
                let mut bytes = begin.as_bytes().to_vec();
                // Where it is taken without an end, this has one.
                while taken <= 4 * MOST && stream.write_all(&bytes).await.is_ok() {
                    taken += bytes.len();
                    bytes = vec![b'x'; 65_536];
                }
                told.send(taken).await.ok();
            })
        }));
        let fleet = Fleet::sharing(&format!("redis://{}", peer.address()));
        let gateway = fleet.gateway_without_redis().await;
        for _ in 0..2 {
            let taken = within("the connection to break", taken.recv()).await.unwrap();
            assert!(taken <= MOST, "{begin:?}: {taken} bytes were taken");
        }
        assert_eq!(fleet.user(0).ask(gateway.address(), 0).await.0, 200);
    }
}

#[tokio::test]
async fn who_never_waits_for_the_next_notice_is_not_asked_without_an_end() {
    // An entry of a stream that is none of ours, and stands where it stood before.
    let entry = "*1\r\n*2\r\n$1\r\na\r\n*1\r\n*2\r\n$3\r\n5-1\r\n*2\r\n$1\r\nv\r\n$1\r\nx\r\n";
    for (name, says) in [
        ("fine with everything", "+OK\r\n"),
        ("knows of nothing", "$-1\r\n"),
        ("a list of everything", "*2\r\n$1\r\na\r\n*-1\r\n"),
        ("an entry without a position", "*1\r\n*2\r\n$1\r\na\r\n*1\r\n$1\r\nx\r\n"),
        ("the same entry each time", entry),
    ] {
        let (peer, asked) = peer_asked(Says::ToEach(says.into()), b"XREAD");
        let fleet = Fleet::sharing(&format!("redis://{}", peer.address()));
        let gateway = fleet.gateway_without_redis().await;
        let reads = || asked.load(Ordering::SeqCst);
        let served = async {
            let mut first = None;
            for number in 0.. {
                assert_eq!(
                    fleet.user(number % 20).ask(gateway.address(), 0).await.0,
                    200,
                    "{name}"
                );
                if first.is_none() && reads() > 0 {
                    first = Some(Instant::now());
                }
                if first.is_some_and(|first| first.elapsed() > Duration::from_millis(300)) {
                    return;
                }
            }
        };
        within(name, served).await;
        // One that is not paused for asks thousands of times.
        assert!(reads() <= 5, "{name}: {}", reads());
    }
}

/// A peer, and how often it was asked anything.
fn peer(says: Says) -> (Server, Arc<AtomicUsize>) {
    peer_asked(says, b"")
}

/// A peer, and how often it was asked something with this word in it.
fn peer_asked(says: Says, word: &'static [u8]) -> (Server, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let server = Server::start(Arc::new(move |mut stream| {
        let (says, counter) = (says.clone(), Arc::clone(&counter));
        Box::pin(async move {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                let mut read = buffer[..length].windows(word.len().max(1));
                if word.is_empty() || read.any(|part| part == word) {
                    counter.fetch_add(1, Ordering::SeqCst);
                }
                let written = match &says {
                    Says::Always(bytes) => stream.write_all(bytes).await,
                    Says::ToEach(bytes) => {
                        let lines = buffer[..length].split(|byte| *byte == b'\n');
                        let commands = lines.filter(|line| line.starts_with(b"*")).count();
                        stream.write_all(&bytes.repeat(commands)).await
                    }
                    Says::Endlessly(bytes) => loop {
                        if let Err(error) = stream.write_all(bytes).await {
                            break Err(error);
                        }
                    },
                    Says::Random => {
                        let bytes: Vec<u8> =
                            std::iter::repeat_with(|| fastrand::u8(..)).take(256).collect();
                        stream.write_all(&bytes).await
                    }
                    Says::Nothing => Ok(()),
                    Says::Closes => return,
                };
                if written.is_err() {
                    return;
                }
            }
        })
    }));
    (server, asked)
}
