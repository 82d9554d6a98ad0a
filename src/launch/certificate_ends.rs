//! When the certificates end by which the gateway proves who it is: said as the day comes near,
//! since on that day no caller is served any more.

use std::collections::HashMap;
use std::sync::Arc;

use crate::clock::UnixTime;
use crate::config::resolve::CredentialCertificate;

const DAY: u64 = 24 * 60 * 60;

/// Days before the end when it is said: time to ask for a new one, time to hurry, the last day,
/// and too late.
const NOTICES: [u64; 4] = [0, 1, 7, 30];

/// The certificates in force, and what was said of each.
#[derive(Debug, Default)]
pub(super) struct CertificateEnds {
    certificates: Vec<CredentialCertificate>,
    /// The last notice of each, by provider and thumbprint: two providers may have the same
    /// certificate, and it has to be uploaded to both.
    said: HashMap<(Arc<str>, Arc<str>), u64>,
}

/// Something to say.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Notice {
    certificate: CredentialCertificate,
    days: u64,
    /// Seconds to the end; none are left of one that is over.
    left: u64,
}

impl CertificateEnds {
    /// These are in force now; of those that stay nothing is said twice. Gives the providers that
    /// have none any more.
    pub(super) fn set(&mut self, certificates: Vec<CredentialCertificate>) -> Vec<Arc<str>> {
        for new in certificates.iter().filter(|new| !self.certificates.contains(new)) {
            tracing::info!(
                provider = &*new.provider,
                "the credential's certificate is `{}`, x5t#S256 {}, good until {} (in seconds since 1970)",
                new.file.display(),
                new.thumbprint,
                new.expires_at,
            );
        }
        self.said.retain(|said, _| certificates.iter().any(|stays| key(stays) == *said));
        let before = std::mem::replace(&mut self.certificates, certificates);
        let has = |provider: &Arc<str>| self.certificates.iter().any(|it| it.provider == *provider);
        before.into_iter().map(|gone| gone.provider).filter(|provider| !has(provider)).collect()
    }

    /// What has to be said at `now`, and was not yet.
    pub(super) fn due(&mut self, now: UnixTime) -> Vec<Notice> {
        let mut due = Vec::new();
        for certificate in &self.certificates {
            let left = certificate.expires_at.since(now).as_secs();
            let Some(days) = NOTICES.into_iter().find(|days| left <= days * DAY) else { continue };
            let said = self.said.entry(key(certificate)).or_insert(u64::MAX);
            if days < *said {
                *said = days;
                due.push(Notice { certificate: certificate.clone(), days, left });
            }
        }
        due
    }
}

fn key(certificate: &CredentialCertificate) -> (Arc<str>, Arc<str>) {
    (Arc::clone(&certificate.provider), Arc::clone(&certificate.thumbprint))
}

impl Notice {
    /// Says it.
    pub(super) fn log(&self) {
        let CredentialCertificate { provider, file, thumbprint, .. } = &self.certificate;
        let file = file.display();
        let what = "make a new one, upload it to the application and replace the files: they are read again by themselves";
        if self.days == 0 {
            tracing::error!(
                provider = &**provider,
                "the credential's certificate `{file}` (x5t#S256 {thumbprint}) has expired, and the provider refuses the gateway: {what}"
            );
        } else {
            let left = match self.left / 3600 {
                hours @ ..48 => format!("{hours} hours"),
                hours => format!("{} days", hours / 24),
            };
            tracing::warn!(
                provider = &**provider,
                "the credential's certificate `{file}` (x5t#S256 {thumbprint}) expires in {left}: {what}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: [u64; 0] = [];

    fn certificate(thumbprint: &str, end: u64) -> CredentialCertificate {
        CredentialCertificate {
            provider: Arc::from("entra"),
            file: "app.pem".into(),
            thumbprint: Arc::from(thumbprint),
            expires_at: UnixTime(end * DAY),
        }
    }

    fn days(ends: &mut CertificateEnds, seconds: u64) -> Vec<u64> {
        ends.due(UnixTime(seconds)).iter().map(|notice| notice.days).collect()
    }

    #[test]
    fn each_notice_is_given_once_as_its_day_comes() {
        let mut ends = CertificateEnds::default();
        assert!(ends.set(vec![certificate("a", 100)]).is_empty());
        for (seconds, expected) in [
            (70 * DAY - 1, &[][..]),
            (70 * DAY, &[30]),
            (71 * DAY, &[]),
            (93 * DAY - 1, &[]),
            (93 * DAY, &[7]),
            (99 * DAY, &[1]),
            (100 * DAY - 1, &[]),
            (100 * DAY, &[0]),
            (200 * DAY, &[]),
        ] {
            assert_eq!(days(&mut ends, seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn a_late_start_gives_the_one_that_counts_and_a_new_certificate_begins_anew() {
        let mut ends = CertificateEnds::default();
        assert!(ends.set(vec![certificate("a", 100)]).is_empty());
        assert_eq!(days(&mut ends, 95 * DAY), [7]);
        // A reload that changes nothing says nothing.
        assert!(ends.set(vec![certificate("a", 100)]).is_empty());
        assert_eq!(days(&mut ends, 95 * DAY), NOTHING);
        assert!(ends.set(vec![certificate("b", 101)]).is_empty(), "the provider has another");
        assert_eq!(days(&mut ends, 95 * DAY), [7]);
        // A clock that is set back does not repeat it.
        assert_eq!(days(&mut ends, 90 * DAY), NOTHING);
        assert_eq!(ends.set(Vec::new()), [Arc::from("entra")]);
        assert_eq!(days(&mut ends, 300 * DAY), NOTHING);
    }

    #[test]
    fn each_provider_with_the_same_certificate_is_named() {
        let second =
            || CredentialCertificate { provider: Arc::from("second"), ..certificate("a", 100) };
        let mut ends = CertificateEnds::default();
        assert!(ends.set(vec![certificate("a", 100), second()]).is_empty());
        assert_eq!(days(&mut ends, 95 * DAY), [7, 7]);
        assert_eq!(days(&mut ends, 95 * DAY), NOTHING);
        // Gone from one, and there again: it is said of that one.
        assert_eq!(ends.set(vec![certificate("a", 100)]), [Arc::from("second")]);
        assert!(ends.set(vec![certificate("a", 100), second()]).is_empty());
        let due = ends.due(UnixTime(95 * DAY));
        assert_eq!(due.iter().map(|it| &*it.certificate.provider).collect::<Vec<_>>(), ["second"]);
    }
}
