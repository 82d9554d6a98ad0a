//! What these servers do is what tests may rely on.

use super::cluster::Cluster;
use super::sentinel::Watched;
use super::*;

#[test]
fn a_server_keeps_what_it_is_given_until_it_is_started_again() {
    let redis = Redis::start();
    redis.ask(&[b"SET", b"a", b"\r\n\0\xff", b"PX", b"60000"]);
    redis.ask(&[b"XADD", b"b", b"*", b"f", b"v"]);
    let dump = redis.dump();
    assert_eq!((dump[0].key.as_slice(), dump[0].value()), (&b"a"[..], &b"\r\n\0\xff"[..]));
    assert_eq!(
        (dump[1].kind.as_str(), &dump[1].pieces[1..]),
        ("stream", &[b"f".to_vec(), b"v".to_vec()][..])
    );
    assert!(redis.lives()[&b"a"[..]] > 1000 && redis.lives().len() == 1);
    redis.restart_empty();
    assert_eq!(redis.dump(), []);
    redis.kill();
    assert!(redis.try_ask(&[b"PING"]).is_err());
}

#[test]
fn garbage_takes_the_place_of_everything() {
    let redis = Redis::start();
    for number in 0..50_u8 {
        redis.ask(&[b"SET", &[number], b"a value", b"PX", b"60000"]);
    }
    redis.ask(&[b"XADD", b"stream", b"*", b"f", b"v"]);
    assert_eq!(redis.fill_with_garbage(&mut fastrand::Rng::with_seed(1)), 51);
    let dump = redis.dump();
    let kinds: std::collections::HashSet<_> = dump.iter().map(|entry| &*entry.kind).collect();
    assert!(dump.len() == 51 && kinds.len() == 4, "{kinds:?}");
    assert!(dump.iter().all(|entry| entry.pieces.iter().all(|piece| piece != b"a value")));
}

#[test]
fn a_paused_server_is_silent_and_a_full_one_takes_nothing() {
    let redis = Redis::start();
    redis.pause();
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| redis.ask(&[b"SET", b"a", b"1"]));
        assert!(!asked.is_finished());
        redis.resume();
        asked.join().unwrap();
    });
    redis.full();
    let refused = redis.try_ask(&[b"SET", b"b", b"1"]).unwrap();
    assert!(matches!(&refused, Value::Error(error) if error.starts_with("OOM")), "{refused:?}");
    assert_eq!(redis.ask(&[b"GET", b"a"]).text(), "1");
    redis.roomy();
    redis.ask(&[b"SET", b"b", b"1"]);
}

#[test]
fn users_see_what_is_theirs_and_strangers_nothing() {
    let redis = Redis::start_with_users("mine:");
    let Door::Users { gateway, .. } = &redis.door else { panic!() };
    let mut connection = Connection::open(redis.port()).unwrap();
    let refused = connection.try_ask(&[b"GET", b"mine:a"]).unwrap();
    assert!(matches!(&refused, Value::Error(error) if error.starts_with("NOAUTH")), "{refused:?}");
    connection.ask(&[b"AUTH", USER.as_bytes(), gateway.as_bytes()]);
    connection.ask(&[b"SET", b"mine:a", b"1"]);
    let refused = connection.try_ask(&[b"GET", b"other"]).unwrap();
    assert!(matches!(&refused, Value::Error(error) if error.starts_with("NOPERM")), "{refused:?}");
}

#[test]
fn a_server_with_tls_speaks_nothing_else() {
    let redis = Redis::start_with_tls(&Authority::new());
    redis.ask(&[b"SET", b"a", b"1"]);
    assert!(Connection::open(redis.port()).unwrap().try_ask(&[b"PING"]).is_err());
}

#[test]
fn a_cluster_sends_who_comes_to_the_wrong_node_to_the_right_one() {
    let cluster = Cluster::start();
    let port = cluster.url_of_one_node().rsplit(':').next().unwrap().parse().unwrap();
    let mut connection = Connection::open(port).unwrap();
    let answers =
        ["a", "b", "c", "d"].map(|key| connection.try_ask(&[b"SET", key.as_bytes(), b"1"]));
    let moved = |answer: &std::io::Result<Value>| matches!(answer, Ok(Value::Error(error)) if error.starts_with("MOVED"));
    let moved = answers.iter().filter(|answer| moved(answer)).count();
    assert!((1..4).contains(&moved), "{answers:?}");
    assert_eq!(cluster.dump().concat().len(), 4 - moved);
}

#[test]
fn a_sentinel_makes_the_replica_the_master() {
    let watched = Watched::start();
    watched.fail_over();
    watched.ask_the_second(&[b"SET", b"a", b"1"]);
    assert_eq!(watched.dump_of_the_second().len(), 1);
}
