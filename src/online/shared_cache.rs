//! The cache that replicas share.

use std::time::Duration;

use super::found::Found;
use crate::shared_store::{Failure, StoreSettings, try_out};

/// Tries it: is it there, does it answer in time, and may we do there what we do.
pub(super) async fn check(settings: &StoreSettings, found: &mut Found) {
    let tried = try_out(settings).await;
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
            found.ok("use", format!("an entry was written, read and dropped in {}", shown(took)));
        }
        Some(Err(failure)) => found.fail(
            "use",
            format!("an entry can't be written, read and dropped: {failure}"),
            format!(
                "it has to be a master with room, and the user needs `+eval +evalsha +get +set +del +pttl +pexpire +type +xadd +xread +xrange +xrevrange` on keys `{}*`",
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
