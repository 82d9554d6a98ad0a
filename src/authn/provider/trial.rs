//! A provider tried once, for `check --online`: the calls by which its metadata and keys are had, and
//! what each of them shows.
//!
//! They are made and judged as those of a gateway that serves; what that does not call is not called
//! here. Nothing is kept of the keys, and of the metadata what the provider needs for later calls: its
//! endpoints, and the tenant that a domain is.

use std::time::UNIX_EPOCH;

use http::header::{AGE, DATE};
use rustls::CertificateError;
use url::Url;

use crate::authn::discovery::MetadataError;
use crate::authn::endpoints::are_discovered_alone;
use crate::authn::fetch::{FetchError, Fetched};
use crate::authn::keys::Dropped;
use crate::authn::refusal::shown;
use crate::chain::with_sources;
use crate::clock::UnixTime;
use crate::trust::certificate_fault;

use super::{FetchFailure, Provider};

/// What a provider showed of itself.
#[derive(Debug)]
pub struct Trial {
    /// Where its metadata is, if it was good; `None` if the gateway needs none of it.
    pub metadata: Option<Result<String, Failure>>,
    /// Its keys; `None` if nobody can say where they are, as the metadata is not there.
    pub keys: Option<Result<KeysFound, Failure>>,
    /// By how many seconds its clock is ahead of ours; negative where it is behind. `None` if no
    /// answer told its time.
    pub ahead: Option<i64>,
}

/// The keys that a provider publishes.
#[derive(Debug)]
pub struct KeysFound {
    /// How many judge tokens.
    pub usable: usize,
    /// Where they are; `None` if they stand in a file.
    pub at: Option<String>,
    /// Those that no sound provider publishes, each with what is wrong with it.
    pub refused: Vec<String>,
}

/// A call that came to nothing.
#[derive(Debug)]
pub struct Failure {
    /// What it was, without a query or a secret.
    pub what: String,
    /// What the operator can do.
    pub hint: &'static str,
}

impl Provider {
    /// Fetches its metadata and keys once, as far as the gateway needs them.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the call.
    pub async fn try_out(&self) -> Trial {
        let settings = &self.settings;
        let keys_need_metadata = settings.jwks.is_none() && settings.jwks_uri.is_none();
        let mut trial = Trial { metadata: None, keys: None, ahead: None };
        let mut jwks_uri = settings.jwks_uri.clone();
        let domain_of_keys = self.is_domain() && settings.jwks.is_none();
        if keys_need_metadata || domain_of_keys || are_discovered_alone(settings) {
            let url = self.metadata_url();
            let answer = self.timed(&url, &mut trial.ahead).await;
            trial.metadata = Some(match self.take_metadata(answer) {
                Ok(found) => {
                    jwks_uri = jwks_uri.or(found);
                    Ok(place(&url))
                }
                Err(failure) => Err(Failure::of(&failure)),
            });
        }
        let metadata_is_there = trial.metadata.as_ref().is_none_or(Result::is_ok);
        trial.keys = match (self.store.published(), jwks_uri) {
            (Some(published), _) if settings.jwks.is_some() => {
                let usable = published.keys.len();
                Some(Ok(KeysFound { usable, at: None, refused: Vec::new() }))
            }
            (_, Some(url)) => {
                let answer = self.timed(&url, &mut trial.ahead).await;
                Some(match self.take_keys(answer) {
                    Ok((keys, dropped)) => Ok(KeysFound {
                        usable: keys.len(),
                        at: Some(place(&url)),
                        refused: dropped.iter().filter_map(refused).collect(),
                    }),
                    Err(failure) => Err(Failure::of(&failure)),
                })
            }
            (_, None) if metadata_is_there => Some(Err(Failure::of(&FetchFailure::NoJwksUri))),
            (_, None) => None,
        };
        trial
    }

    /// A call, and how far the clock of who answers is ahead, if that is not known yet.
    async fn timed(&self, url: &str, ahead: &mut Option<i64>) -> Result<Fetched, FetchError> {
        let asked = self.now();
        let answer = self.fetcher.json(url).await;
        if let (Ok(answer), None) = (&answer, &ahead) {
            *ahead = told_time(answer).map(|time| difference(time, asked, self.now()));
        }
        answer
    }
}

const UNREACHED: &str = "see that this machine may call it (name, firewall; a proxy of the environment is not used), and that it speaks TLS there if its URL says `https`";

fn of_certificate(fault: &CertificateError) -> &'static str {
    use CertificateError::{
        BadSignature, Expired, ExpiredContext, NotValidForName, NotValidForNameContext,
        NotValidYet, NotValidYetContext, UnknownIssuer,
    };
    if matches!(fault, UnknownIssuer | BadSignature) {
        "its certificate is of no CA that is believed: set `ca_file` of the provider to the one that issued it, and see that it sends those in between"
    } else if matches!(fault, NotValidForName | NotValidForNameContext { .. }) {
        "its certificate has another name: call it by the one it has, in `issuer` (at Entra in `authority`), or in `metadata_url` or `jwks_uri` where those are set; if that is another server, see what the name leads to"
    } else if matches!(fault, Expired | ExpiredContext { .. }) {
        "its certificate has expired: it needs a new one, if the gateway's clock is right"
    } else if matches!(fault, NotValidYet | NotValidYetContext { .. }) {
        "its certificate is not valid yet: compare its clock and the gateway's"
    } else {
        "its certificate can't be used: it needs another"
    }
}

impl Failure {
    fn of(failure: &FetchFailure) -> Self {
        let hint = match failure {
            FetchFailure::Call { source, .. } => match source {
                FetchError::Connect(error) => {
                    certificate_fault(error).map_or(UNREACHED, of_certificate)
                }
                FetchError::Timeout => {
                    "see why it is slow; `timeout` of the provider bounds a call"
                }
                FetchError::Broken(_) | FetchError::TooLarge => {
                    "see what answers there: is it the provider?"
                }
            },
            FetchFailure::Status { .. } => {
                "is it the right place? `issuer` (or `tenant`, `cloud` and `authority`) leads there, unless `metadata_url` or `jwks_uri` says otherwise"
            }
            FetchFailure::Metadata(MetadataError::Issuer { .. }) => {
                "write the provider's issuer as the metadata has it, every slash included; at Entra, correct `tenant`, `cloud` or `authority`"
            }
            FetchFailure::Metadata(
                MetadataError::Json(_)
                | MetadataError::Moved { .. }
                | MetadataError::NotText(_)
                | MetadataError::Unsafe { .. },
            ) => "see what answers there: only the provider can mend its metadata",
            FetchFailure::NoJwksUri => "set `jwks_uri` or `jwks_file` of the provider",
            FetchFailure::Keys(_) => {
                "see which keys it publishes, and whether `algorithms` of the provider allows theirs"
            }
        };
        Self { what: with_sources(failure), hint }
    }
}

/// The key in words, if a sound provider would not publish it.
fn refused(dropped: &Dropped) -> Option<String> {
    let kid = shown(dropped.kid.as_deref().unwrap_or("(none)"));
    (!dropped.why.is_ordinary()).then(|| format!("key {kid} is refused: {}", dropped.why))
}

/// A URL without what may be secret in it.
fn place(url: &str) -> String {
    let Ok(mut url) = Url::parse(url) else { return String::new() };
    url.set_query(None);
    url.set_fragment(None);
    // Only of URLs that can't have them.
    url.set_username("").and_then(|()| url.set_password(None)).unwrap_or_default();
    url.into()
}

/// What time it is where the answer was made: an answer from a cache is as old as `Age` says (RFC 9111 §5.1).
fn told_time(answer: &Fetched) -> Option<UnixTime> {
    let text = |name| answer.headers.get(name)?.to_str().ok();
    let date = httpdate::parse_http_date(text(DATE)?).ok()?;
    let date = date.duration_since(UNIX_EPOCH).ok()?.as_secs();
    let age = text(AGE).and_then(|age| age.trim().parse::<u64>().ok()).unwrap_or(0);
    Some(UnixTime(date.saturating_add(age)))
}

/// How far `told` is off from the time between question and answer: the way there is no difference.
fn difference(told: UnixTime, asked: UnixTime, answered: UnixTime) -> i64 {
    let seconds = |of: UnixTime, from: UnixTime| of.since(from).as_secs().cast_signed();
    if told > answered { seconds(told, answered) } else { -seconds(asked, told) }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};

    use super::*;

    #[test]
    fn the_time_on_the_way_is_no_difference() {
        let of =
            |told, asked, answered| difference(UnixTime(told), UnixTime(asked), UnixTime(answered));
        assert_eq!((of(100, 100, 100), of(105, 100, 110), of(110, 100, 110)), (0, 0, 0));
        assert_eq!((of(111, 100, 110), of(99, 100, 110)), (1, -1));
        assert_eq!(of(0, u64::MAX / 4, u64::MAX / 4), -(u64::MAX / 4).cast_signed());
    }

    #[test]
    fn an_answer_from_a_cache_was_made_earlier() {
        let told = |headers: &[(&'static str, &str)]| {
            let fields = headers
                .iter()
                .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()));
            let headers: HeaderMap = fields.collect();
            told_time(&Fetched { status: StatusCode::OK, headers, body: Vec::new() })
        };
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(told(&[date]), Some(UnixTime(784_111_777)));
        assert_eq!(told(&[date, ("age", "23")]), Some(UnixTime(784_111_800)));
        assert_eq!(told(&[date, ("age", "soon")]), Some(UnixTime(784_111_777)));
        assert_eq!(told(&[("date", "yesterday")]), None);
        assert_eq!(told(&[]), None);
    }

    #[test]
    fn a_place_has_no_query_and_no_password() {
        assert_eq!(place("https://u:p@sso.example:1/a?code=secret#f"), "https://sso.example:1/a");
    }
}
