//! When the certificates end by which the gateway proves who it is, to providers, upstreams and
//! callers: said as the day comes near, since on that day no caller is served any more.

use std::collections::HashMap;
use std::sync::Arc;

use crate::clock::UnixTime;
use crate::config::resolve::{CredentialCertificate, ShownTo};

const DAY: u64 = 24 * 60 * 60;

/// Days before the end when it is said: time to ask for a new one, time to hurry, the last day,
/// and too late.
const NOTICES: [u64; 4] = [0, 1, 7, 30];

/// The certificates in force, and what was said of each.
#[derive(Debug, Default)]
pub(super) struct CertificateEnds {
    certificates: Vec<CredentialCertificate>,
    /// The last notice of each, by whom it is shown to and thumbprint: two providers may have the
    /// same certificate, and it has to be uploaded to both.
    said: HashMap<(ShownTo, Arc<str>), u64>,
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
    /// These are in force now; of those that stay nothing is said twice. Gives those who are shown
    /// none any more.
    pub(super) fn set(&mut self, certificates: Vec<CredentialCertificate>) -> Vec<ShownTo> {
        for new in certificates.iter().filter(|new| !self.certificates.contains(new)) {
            let CredentialCertificate { shown_to, file, thumbprint, expires_at } = new;
            let file = file.display();
            match shown_to {
                ShownTo::Provider(provider) => tracing::info!(
                    provider = &**provider,
                    "the credential's certificate is `{file}`, x5t#S256 {thumbprint}, good until {expires_at} (in seconds since 1970)",
                ),
                ShownTo::Upstream(upstream) => tracing::info!(
                    upstream = &**upstream,
                    "the upstream is shown the certificate `{file}`, x5t#S256 {thumbprint}, good until {expires_at} (in seconds since 1970)",
                ),
                ShownTo::Callers(listener) => tracing::info!(
                    listener = &**listener,
                    "callers are shown the certificate `{file}`, x5t#S256 {thumbprint}, good until {expires_at} (in seconds since 1970)",
                ),
            }
        }
        self.said.retain(|said, _| certificates.iter().any(|stays| key(stays) == *said));
        let before = std::mem::replace(&mut self.certificates, certificates);
        let has = |shown_to: &ShownTo| self.certificates.iter().any(|it| it.shown_to == *shown_to);
        before.into_iter().map(|gone| gone.shown_to).filter(|shown_to| !has(shown_to)).collect()
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

fn key(certificate: &CredentialCertificate) -> (ShownTo, Arc<str>) {
    (certificate.shown_to.clone(), Arc::clone(&certificate.thumbprint))
}

impl Notice {
    /// Says it.
    pub(super) fn log(&self) {
        let CredentialCertificate { shown_to, file, thumbprint, .. } = &self.certificate;
        let file = file.display();
        let left = match self.left / 3600 {
            hours @ ..48 => format!("{hours} hours"),
            hours => format!("{} days", hours / 24),
        };
        match shown_to {
            ShownTo::Provider(provider) => {
                let what = "make a new one, upload it to the application and replace the files: they are read again by themselves";
                if self.days == 0 {
                    tracing::error!(
                        provider = &**provider,
                        "the credential's certificate `{file}` (x5t#S256 {thumbprint}) has expired, and the provider refuses the gateway: {what}"
                    );
                } else {
                    tracing::warn!(
                        provider = &**provider,
                        "the credential's certificate `{file}` (x5t#S256 {thumbprint}) expires in {left}: {what}"
                    );
                }
            }
            ShownTo::Upstream(upstream) => {
                let what = "have a new one issued and replace the files: they are read again by themselves";
                if self.days == 0 {
                    tracing::error!(
                        upstream = &**upstream,
                        "the certificate `{file}` (x5t#S256 {thumbprint}) has expired, and an upstream that asks for it refuses the gateway: {what}"
                    );
                } else {
                    tracing::warn!(
                        upstream = &**upstream,
                        "the certificate `{file}` (x5t#S256 {thumbprint}) that the upstream is shown expires in {left}: {what}"
                    );
                }
            }
            ShownTo::Callers(listener) => {
                let what = "have a new one issued and replace the files: they are read again by themselves";
                if self.days == 0 {
                    tracing::error!(
                        listener = &**listener,
                        "the certificate `{file}` (x5t#S256 {thumbprint}) has expired, and callers refuse the gateway: {what}"
                    );
                } else {
                    tracing::warn!(
                        listener = &**listener,
                        "the certificate `{file}` (x5t#S256 {thumbprint}) that callers are shown expires in {left}: {what}"
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: [u64; 0] = [];

    fn provider(name: &str) -> ShownTo {
        ShownTo::Provider(Arc::from(name))
    }

    fn certificate(thumbprint: &str, end: u64) -> CredentialCertificate {
        CredentialCertificate {
            shown_to: provider("entra"),
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
        assert_eq!(ends.set(Vec::new()), [provider("entra")]);
        assert_eq!(days(&mut ends, 300 * DAY), NOTHING);
    }

    #[test]
    fn each_that_is_shown_the_same_certificate_is_named() {
        // An upstream may well have the name of a provider.
        let upstream = ShownTo::Upstream(Arc::from("entra"));
        let second =
            || CredentialCertificate { shown_to: upstream.clone(), ..certificate("a", 100) };
        let mut ends = CertificateEnds::default();
        assert!(ends.set(vec![certificate("a", 100), second()]).is_empty());
        assert_eq!(days(&mut ends, 95 * DAY), [7, 7]);
        assert_eq!(days(&mut ends, 95 * DAY), NOTHING);
        // Gone from one, and there again: it is said of that one.
        assert_eq!(ends.set(vec![certificate("a", 100)]), std::slice::from_ref(&upstream));
        assert!(ends.set(vec![certificate("a", 100), second()]).is_empty());
        let due = ends.due(UnixTime(95 * DAY));
        let due: Vec<_> = due.iter().map(|it| &it.certificate.shown_to).collect();
        assert_eq!(due, [&upstream]);
    }
}
