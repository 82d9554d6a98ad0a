//! Three replicas, ten thousand users and a Redis, as processes: users × upstreams is how many
//! exchanges there are, to the digit, whichever replica each request goes to, and however often
//! replicas are killed and started anew meanwhile; and Redis tells nothing of all that.
//!
//! `cargo test --test replicas`; `REPLICA_BINARY` names another program than cargo's.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test fails by panicking"
)]
#![allow(
    unreachable_pub,
    reason = "`pub` says what of the harness is for tests; nothing leaves the binary"
)]
#![allow(unused_imports, reason = "the tests of the harness itself do not run here")]
#![allow(dead_code, reason = "the harness is whole, whichever of it today's tests use")]
#![allow(clippy::print_stderr, reason = "a failed test shows what its gateway logged")]
#![allow(clippy::print_stdout, reason = "it says how far it is")]
#![allow(clippy::too_many_lines, reason = "tables are long")]

#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::Instant;

use support::balancer::{Balancer, Load, Who, everybody_asks};
use support::leaks::Leaks;
use support::redis::Redis;
use support::replica::Replica;
use support::replicas::{Fleet, UPSTREAMS};

const USERS: usize = 10_000;

/// Requests at a time.
const CALLERS: u64 = 24;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(ten_thousand_users());
}

async fn ten_thousand_users() {
    let began = Instant::now();
    let say = |what: &str| println!("{:6.1} s  {what}", began.elapsed().as_secs_f64());
    let redis = Redis::start();
    let fleet = Fleet::sharing(&redis.url()).in_real_time();
    let mut replicas = vec![fleet.process().await, fleet.process().await, fleet.process().await];
    let balancer = Balancer::new(replicas.iter().map(Replica::address));
    let users = fleet.users(USERS);
    say(&format!("{USERS} users have their tokens"));

    let exchanges = USERS * UPSTREAMS.len();
    for round in 1..=2 {
        everybody_asks(&balancer, &users, CALLERS, round).await.assert_all_served();
        assert_eq!(fleet.exchanges(), exchanges, "round {round}");
        say(&format!("round {round}: everybody was served, {exchanges} exchanges in all"));
    }

    let load = Load::start(&balancer, &Who::Known(Arc::clone(&users)), CALLERS);
    load.more(500).await;
    for (number, kills) in [(0, true), (1, true), (2, true), (0, false), (1, false), (2, false)] {
        let old = replicas.remove(number);
        if kills {
            old.kill();
            balancer.place(number, None);
        } else {
            balancer.place(number, None);
            tokio::task::spawn_blocking(|| old.terminate()).await.unwrap();
        }
        load.more(200).await;
        let new = fleet.process().await;
        balancer.place(number, Some(new.address()));
        replicas.insert(number, new);
        load.more(500).await;
        let how = if kills { "was killed" } else { "ended" };
        say(&format!("replica {number} {how} and is back"));
    }
    let met = load.stop().await;
    met.assert_all_served();
    everybody_asks(&balancer, &users, CALLERS, 3).await.assert_all_served();
    assert_eq!(fleet.exchanges(), exchanges, "after the restarts");
    say(&format!(
        "{} requests under restarts, and one more of everybody: no exchange",
        met.took.len()
    ));
    fleet.assert_tokens_are_the_users();

    let dump = redis.dump();
    let bytes: usize =
        dump.iter().flat_map(|entry| &entry.pieces).map(Vec::len).sum::<usize>() / dump.len();
    assert!(dump.len() >= exchanges, "{} entries for {exchanges} tokens", dump.len());
    let found = Leaks::of(&fleet, &users).found(&dump);
    assert!(found.is_empty(), "in Redis: {found:?}");
    say(&format!("{} entries of {bytes} bytes each, and none tells anything", dump.len()));
}
