//! What a refusal means, and what the operator has to do about it.
//!
//! Hosts tell little by their statuses, and each in words of its own, which are not repeated:
//! the sentence names what is configured, so that it can be compared.

use std::time::Duration;

use http::StatusCode;

use super::super::advice::{self, Class};
use super::super::failure::ExchangeError;
use super::answer::Refusal;
use super::host::ManagedIdentityHost;

/// What was asked for.
pub(super) struct Wanted<'a> {
    pub(super) host: &'a ManagedIdentityHost,
    pub(super) client_id: Option<&'a str>,
    pub(super) resource: &'a str,
}

/// What an answer means.
struct Advice {
    class: Class,
    cause: String,
    remedy: String,
}

/// What there is to do about what passes.
const PASSING: &str = "nothing to do unless it stays";

impl Wanted<'_> {
    /// The failure of an answer that is no token, the `made`th in a row.
    pub(super) fn refused(
        &self,
        status: StatusCode,
        refusal: &Refusal,
        made: usize,
        wait: Option<Duration>,
    ) -> ExchangeError {
        let number = status.as_u16();
        let tries = if made > 1 { format!(" at the {made}th try") } else { String::new() };
        match refusal {
            Refusal::NoToken(why) => {
                let absent = self.host.absent();
                let (why, remedy) = match advice::parts(why) {
                    (why, Some(remedy)) => (why, format!("{remedy}; {absent}")),
                    (why, None) => (why, absent.to_owned()),
                };
                self.failed(Class::Gateway, &format!("status {number}, {why}")).with_remedy(remedy)
            }
            Refusal::Redirect => {
                let what = format!("status {number}, a redirect, which is never followed");
                self.failed(Class::Gateway, &what).with_remedy(self.host.absent())
            }
            Refusal::Status(error) => {
                let Advice { class, cause, remedy } = self.advice(status, error.as_deref());
                let error = error.as_ref().map(|it| format!(", error `{it}`")).unwrap_or_default();
                let what = format!("status {number}{error}{tries}: {cause}");
                let failed = if class == Class::Unavailable {
                    ExchangeError::unavailable(self.sentence(&what), wait)
                } else {
                    self.failed(class, &what)
                };
                failed.with_remedy(remedy)
            }
        }
    }

    /// A failure of `class`; `what` says why.
    pub(super) fn failed(&self, class: Class, what: &str) -> ExchangeError {
        if class == Class::Unavailable {
            ExchangeError::unavailable(self.sentence(what), None)
        } else {
            ExchangeError::new(class, self.sentence(what))
        }
    }

    /// The host asked to wait, and `left` is left of that.
    pub(super) fn held_back(&self, left: Duration) -> ExchangeError {
        let seconds = left.as_secs() + 1;
        let what = format!(
            "it asked to wait (`Retry-After`), and {seconds} s are left: it is not asked until then"
        );
        ExchangeError::unavailable(self.sentence(&what), Some(left)).with_remedy(PASSING)
    }

    fn sentence(&self, what: &str) -> String {
        let (host, resource) = (self.host.name(), self.resource);
        let identity = match self.client_id {
            Some(id) => format!("of identity `{id}`"),
            None => "of the system-assigned identity".to_owned(),
        };
        format!("no token {identity} for resource `{resource}` from {host}: {what}")
    }

    fn advice(&self, status: StatusCode, error: Option<&str>) -> Advice {
        let advice = |class, cause: &str, remedy: &str| {
            let (cause, remedy) = (cause.to_owned(), remedy.to_owned());
            Advice { class, cause, remedy }
        };
        match (status.as_u16(), error) {
            (_, Some("invalid_resource" | "invalid_target")) => advice(
                Class::Gateway,
                &format!("resource `{}` is unknown in the tenant of the identity", self.resource),
                "correct `resource` (as `https://management.azure.com`, without `/.default`)",
            ),
            (429, _) => advice(
                Class::Unavailable,
                "the machine asks too often and is throttled",
                "look for other programs on it that ask for tokens",
            ),
            (410, _) => advice(
                Class::Unavailable,
                "the service is being updated, which takes up to 70 s",
                PASSING,
            ),
            (404, _) => advice(
                Class::Unavailable,
                "the service is being updated, or the identity was assigned a moment ago",
                &format!("if it stays: {}", self.assign()),
            ),
            (408 | 500..=599, _) => {
                advice(Class::Unavailable, "the service has a passing error", PASSING)
            }
            (401 | 403, _) => {
                let (cause, remedy) = self.denied();
                advice(Class::Gateway, cause, remedy)
            }
            (400, _) => advice(
                Class::Gateway,
                "it knows no such identity here, or no such resource",
                &format!(
                    "{}; or correct `resource`, which is written without `/.default`",
                    self.assign()
                ),
            ),
            _ => advice(Class::Gateway, "which is no answer that we know", self.host.absent()),
        }
    }

    /// How this machine comes to have the identity.
    fn assign(&self) -> String {
        let machine = match self.host {
            ManagedIdentityHost::Imds { .. } => "this virtual machine (or its scale set)",
            ManagedIdentityHost::AppService { .. } => "this app",
            ManagedIdentityHost::AzureArc { .. } => "this server in Azure Arc",
        };
        match self.client_id {
            Some(id) => format!(
                "assign the user-assigned identity with client id `{id}` to {machine}, or correct `client_id`"
            ),
            None => format!(
                "turn on the system-assigned identity of {machine}, or name a user-assigned one by `client_id`"
            ),
        }
    }

    /// Why a token is denied, and what there is to do.
    fn denied(&self) -> (&'static str, &'static str) {
        match self.host {
            ManagedIdentityHost::Imds { .. } => (
                "the service denies this machine or pod a token",
                "look for a proxy or a network policy in between",
            ),
            ManagedIdentityHost::AppService { .. } => (
                "`IDENTITY_HEADER` is not accepted, as it is another one after each restart of the app",
                "start the gateway as a process of the app, with its variables as they are",
            ),
            ManagedIdentityHost::AzureArc { .. } => (
                "the key that was shown is not accepted",
                "restart the Azure Arc agent (`azcmagent show` tells its state)",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use url::Url;

    use super::*;
    use crate::rejection::Code;
    use crate::secret::SecretHeader;

    fn hosts() -> [ManagedIdentityHost; 3] {
        let endpoint = || Url::parse("http://127.0.0.1:1").unwrap();
        let header = SecretHeader::new(HeaderValue::from_static("hush"));
        [
            ManagedIdentityHost::imds(&endpoint()),
            ManagedIdentityHost::AppService { endpoint: endpoint(), header },
            ManagedIdentityHost::AzureArc { endpoint: endpoint(), key_directory: "/k".into() },
        ]
    }

    #[test]
    fn each_status_has_its_code_and_says_what_to_do() {
        for host in hosts() {
            for client_id in [None, Some("id-1")] {
                let wanted = Wanted { host: &host, client_id, resource: "https://r" };
                let told = |status: u16, error: Option<&str>| {
                    let refusal = Refusal::Status(error.map(str::to_owned));
                    let status = StatusCode::from_u16(status).unwrap();
                    let error = wanted.refused(status, &refusal, 1, None);
                    let remedy = error.remedy().unwrap();
                    assert!(!remedy.is_empty() && !error.what().contains(remedy), "{error:?}");
                    assert_eq!(error.reason(), format!("{}; {remedy}", error.what()));
                    let rejection = error.rejection();
                    (rejection.code(), rejection.reason().clone())
                };
                let (code, reason) = told(400, Some("invalid_request"));
                assert_eq!(code, Code::ExchangeFailed);
                assert!(reason.contains("`https://r`"), "{reason}");
                assert_eq!(reason.contains("`id-1`"), client_id.is_some(), "{reason}");
                assert!(reason.contains("status 400, error `invalid_request`"), "{reason}");
                let refused =
                    wanted.refused(StatusCode::BAD_REQUEST, &Refusal::Status(None), 1, None);
                let remedy = refused.remedy().unwrap();
                assert!(remedy.starts_with(&wanted.assign()), "{remedy}");
                assert!(remedy.contains("or correct `resource`"), "{remedy}");
                let (code, reason) = told(400, Some("invalid_resource"));
                assert_eq!(code, Code::ExchangeFailed);
                assert!(reason.contains("correct `resource`"), "{reason}");
                for (status, expected) in [
                    (401, Code::ExchangeFailed),
                    (403, Code::ExchangeFailed),
                    (405, Code::ExchangeFailed),
                    (404, Code::ProviderUnavailable),
                    (408, Code::ProviderUnavailable),
                    (410, Code::ProviderUnavailable),
                    (429, Code::ProviderUnavailable),
                    (500, Code::ProviderUnavailable),
                    (502, Code::ProviderUnavailable),
                ] {
                    let (code, reason) = told(status, None);
                    assert_eq!(code, expected, "{reason}");
                    assert!(!reason.contains("hush"), "{reason}");
                }
            }
        }
    }
}
