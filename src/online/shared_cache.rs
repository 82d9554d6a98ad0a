//! The cache that replicas share.

use std::time::Duration;

use super::found::Found;
use crate::rate_limit::{Reach, TRIAL};
use crate::shared_store::{Failure, StoreSettings, try_out};
use crate::snapshot::Snapshot;

/// Tries it: is it there, does it answer in time, and may we do there what we do for the routes of
/// `snapshot`.
pub(super) async fn check(settings: &StoreSettings, snapshot: &Snapshot, found: &mut Found) {
    let mut limits = snapshot.routes.iter().filter_map(|route| route.rate_limit.as_ref());
    let counts = limits.any(|limit| limit.allowance().reach == Reach::Fleet);
    let tried = try_out(settings, if counts { &[TRIAL] } else { &[] }).await;
    let address = settings.address.shown();
    match tried.answered {
        Ok(took) if took < settings.timeout => {
            found.ok("connect", format!("{address} answers in {}", shown(took)));
        }
        Ok(took) => found.warn(
            "connect",
            format!(
                "{address} answers in {}, and `timeout` is {}: requests go on without it",
                shown(took),
                shown(settings.timeout)
            ),
            "put it nearer to the gateway, or raise `cache.redis.timeout`",
        ),
        Err(failure) => found.fail("connect", format!("{address}: {failure}"), hint(&failure)),
    }
    match tried.used {
        None => {}
        Some(Ok(took)) => {
            let what = if counts { ", and a request was counted" } else { "" };
            let took = shown(took);
            found.ok(
                "use",
                format!("an entry was written, read and dropped, and the stream of what is to be forgotten read{what}, in {took}"),
            );
        }
        Some(Err(failure)) => found.fail(
            "use",
            format!("what the gateway does there can't be done: {failure}"),
            format!(
                "it has to be a master with room, and the user needs `+ping +get +strlen +set +del +pttl +pexpire +eval +evalsha +type +xadd +xread +xrange +xrevrange +time` on keys `{}*`",
                settings.key_prefix
            ),
        ),
    }
}

fn hint(failure: &Failure) -> &'static str {
    match failure {
        Failure::Late | Failure::Away => {
            "see whether the host and the port of `cache.redis.url` are right, and whether a firewall is between"
        }
        Failure::Lost(_) | Failure::Passing(_) | Failure::Refused(_) => {
            "see whether host, port, user and password of `cache.redis.url` are right, and whether the server speaks TLS (`rediss://`) or not (`redis://`)"
        }
    }
}

/// To a tenth of a millisecond.
fn shown(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}
