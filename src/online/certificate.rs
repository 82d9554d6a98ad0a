//! How long the certificates are good for that the gateway shows.

use super::found::Found;
use super::report::{Kind, Outcome};
use crate::clock::UnixTime;
use crate::config::resolve::CredentialCertificate;

const DAY: u64 = 24 * 60 * 60;

/// Days before its end when a certificate of the gateway's own is warned of: time to ask for a new one.
const OWN_NOTICE: u64 = 30;

/// The same for one of an upstream, which others renew, some of them a week before.
pub(super) const THEIR_NOTICE: u64 = 7;

/// Says how long a certificate is good for that the gateway shows: to a provider, an upstream or callers.
pub(super) fn of_ours(
    certificate: &CredentialCertificate,
    kind: Kind,
    now: UnixTime,
    found: &mut Found,
) {
    let CredentialCertificate { file, thumbprint, expires_at, shown_to: _ } = certificate;
    let (outcome, left) = left(*expires_at, now, OWN_NOTICE);
    let detail = format!("`{}` (x5t#S256 {thumbprint}) {left}", file.display());
    let hint = match kind {
        Kind::Provider => {
            "make a new one, upload it to the application and replace the files: they are read again by themselves"
        }
        Kind::Upstream | Kind::Listener | Kind::Cache => {
            "have a new one issued and replace the files: they are read again by themselves"
        }
    };
    found.add(outcome, "certificate", detail, hint_of(outcome, hint));
}

fn hint_of(outcome: Outcome, hint: &str) -> Option<String> {
    (outcome != Outcome::Ok).then(|| hint.to_owned())
}

/// How long it is to `end`, and what that means where it is said `notice` days before.
pub(super) fn left(end: UnixTime, now: UnixTime, notice: u64) -> (Outcome, String) {
    let left = end.since(now).as_secs();
    let in_words = |seconds: u64| match seconds / 3600 {
        hours @ ..48 => format!("{hours} hours"),
        hours => format!("{} days", hours / 24),
    };
    if end < now {
        return (Outcome::Fail, format!("expired {} ago", in_words(now.since(end).as_secs())));
    }
    let outcome = if left < notice * DAY { Outcome::Warn } else { Outcome::Ok };
    (outcome, format!("expires in {}", in_words(left)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_good_then_warned_of_then_over() {
        let end = UnixTime(100 * DAY);
        for (now, outcome, text) in [
            (70 * DAY, Outcome::Ok, "expires in 30 days"),
            (70 * DAY + 1, Outcome::Warn, "expires in 29 days"),
            (99 * DAY, Outcome::Warn, "expires in 24 hours"),
            (100 * DAY, Outcome::Warn, "expires in 0 hours"),
            (100 * DAY + 1, Outcome::Fail, "expired 0 hours ago"),
            (103 * DAY, Outcome::Fail, "expired 3 days ago"),
        ] {
            assert_eq!(left(end, UnixTime(now), 30), (outcome, text.to_owned()), "{now}");
        }
    }
}
