//! The hosts that give tokens of managed identities: where each is, what it is sent, and how
//! often it is asked again.
//!
//! Plain data but for the one call. It follows Microsoft's documents of IMDS, App Service and
//! Azure Arc, and MSAL's tables of retries, as `identity.md` 4.2 gathers them.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use url::{Host, Url};

use super::{AskError, azure_arc};
use crate::authn::fetch::{Fetched, Fetcher};
use crate::secret::SecretHeader;

/// What asks IMDS and Azure Arc for a token: no page that a user visits can add it.
const METADATA: HeaderName = HeaderName::from_static("metadata");

/// What App Service's answer depends on.
const IDENTITY_HEADER: HeaderName = HeaderName::from_static("x-identity-header");

/// Where the gateway runs, as far as managed identities go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManagedIdentityHost {
    /// A virtual machine or a pod: the instance metadata service. See
    /// [`ManagedIdentityHost::imds`].
    Imds {
        /// Where tokens are asked for.
        endpoint: Url,
    },
    /// App Service, Functions or Container Apps.
    AppService {
        /// `IDENTITY_ENDPOINT`.
        endpoint: Url,
        /// `IDENTITY_HEADER`, which only this process was told.
        header: SecretHeader,
    },
    /// A server outside Azure with the Azure Arc agent, which has its system-assigned identity
    /// and no other.
    AzureArc {
        /// `IDENTITY_ENDPOINT`.
        endpoint: Url,
        /// Where the agent puts the keys that prove who may ask; see
        /// [`KEY_DIRECTORY`](super::KEY_DIRECTORY).
        key_directory: PathBuf,
    },
}

/// Whether a host that gives tokens may be at `url`: https, or http that does not leave the
/// machine or its link. Whoever answers chooses the token that upstreams see.
pub fn may_be_asked(url: &Url) -> bool {
    let near = match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => is_near(address.into()),
        Some(Host::Ipv6(address)) => is_near(IpAddr::from(address).to_canonical()),
        None => return false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && near)
}

fn is_near(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    address.is_loopback() || link_local
}

impl ManagedIdentityHost {
    /// Where the instance metadata service is, if nothing says otherwise.
    pub const IMDS: &str = "http://169.254.169.254";

    /// The instance metadata service under `base`.
    pub fn imds(base: &Url) -> Self {
        let mut endpoint = base.clone();
        let folder = base.path().trim_end_matches('/');
        endpoint.set_path(&format!("{folder}/metadata/identity/oauth2/token"));
        Self::Imds { endpoint }
    }

    /// Its name, for operators.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Imds { .. } => "IMDS",
            Self::AppService { .. } => "App Service",
            Self::AzureArc { .. } => "Azure Arc",
        }
    }

    /// Where it is asked.
    pub(super) fn endpoint(&self) -> &Url {
        match self {
            Self::Imds { endpoint }
            | Self::AppService { endpoint, .. }
            | Self::AzureArc { endpoint, .. } => endpoint,
        }
    }

    /// What an operator should know when nothing sensible answers there.
    pub(super) fn absent(&self) -> &'static str {
        match self {
            Self::Imds { .. } => {
                "does the gateway run in Azure, and may it reach 169.254.169.254 (or `AZURE_POD_IDENTITY_AUTHORITY_HOST`)? Elsewhere there is no managed identity: use `client_credentials`"
            }
            Self::AppService { .. } => {
                "is `IDENTITY_ENDPOINT` the one that App Service set for this process?"
            }
            Self::AzureArc { .. } => {
                "does the Azure Arc agent run (`azcmagent show`), and is `IDENTITY_ENDPOINT` its address?"
            }
        }
    }

    /// Asks once for a token.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the call.
    pub(super) async fn ask(
        &self,
        fetcher: &Fetcher,
        resource: &str,
        client_id: Option<&str>,
    ) -> Result<Fetched, AskError> {
        let url = self.url(resource, client_id);
        let (name, value) = match self {
            Self::Imds { .. } => (METADATA, HeaderValue::from_static("true")),
            Self::AppService { header, .. } => (IDENTITY_HEADER, header.expose().clone()),
            Self::AzureArc { key_directory, .. } => {
                let asked = HeaderMap::from_iter([(METADATA, HeaderValue::from_static("true"))]);
                return azure_arc::ask(fetcher, url.as_str(), &asked, key_directory).await;
            }
        };
        Ok(fetcher.get(url.as_str(), HeaderMap::from_iter([(name, value)])).await?)
    }

    fn url(&self, resource: &str, client_id: Option<&str>) -> Url {
        let version = match self {
            Self::Imds { .. } => "2018-02-01",
            Self::AppService { .. } => "2019-08-01",
            Self::AzureArc { .. } => "2020-06-01",
        };
        let mut url = self.endpoint().clone();
        let mut query = url.query_pairs_mut();
        query.append_pair("api-version", version).append_pair("resource", resource);
        if let Some(client_id) = client_id {
            query.append_pair("client_id", client_id);
        }
        drop(query);
        url
    }

    /// How long to wait after the `made`th answer, of this `status`, before asking again;
    /// `None` if that is of no use, or was tried often enough.
    pub(super) fn pause(&self, status: StatusCode, made: usize) -> Option<Duration> {
        /// A token is asked for while the identity, or the service, is being set up.
        const DOUBLING: [Duration; 3] =
            [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
        /// IMDS is updated, which takes up to 70 s.
        const UPDATE: [Duration; 7] = [Duration::from_secs(10); 7];
        const STEADY: [Duration; 3] = [Duration::from_secs(1); 3];

        let pauses: &[Duration] = match (self, status.as_u16()) {
            (Self::Imds { .. }, 410) => &UPDATE,
            (Self::Imds { .. }, 404 | 408 | 429 | 500..=599) => &DOUBLING,
            (
                Self::AppService { .. } | Self::AzureArc { .. },
                404 | 408 | 429 | 500 | 503 | 504,
            ) => &STEADY,
            (Self::Imds { .. } | Self::AppService { .. } | Self::AzureArc { .. }, _) => &[],
        };
        pauses.get(made.checked_sub(1)?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn a_host_is_near_or_speaks_tls() {
        for near in [
            "http://169.254.169.254",
            "http://127.0.0.1:40342/x",
            "http://localhost:8081/msi/token",
            "http://[::1]:1",
            "http://[fe80::1]:1",
            "http://[::ffff:127.0.0.1]:1",
            "https://identity.example",
        ] {
            assert!(may_be_asked(&url(near)), "{near}");
        }
        for far in [
            "http://10.0.0.1",
            "http://169.253.255.255",
            "http://localhost.example",
            "http://169.254.169.254.example",
            "http://[fd00::1]",
            "http://[::ffff:10.0.0.1]",
            "ftp://127.0.0.1",
            "file:///x",
        ] {
            assert!(!may_be_asked(&url(far)), "{far}");
        }
    }

    #[test]
    fn each_host_is_asked_in_its_own_way() {
        let imds = ManagedIdentityHost::imds(&url("http://169.254.169.254"));
        let resource = "https://management.azure.com";
        assert_eq!(
            imds.url(resource, None).as_str(),
            "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01\
             &resource=https%3A%2F%2Fmanagement.azure.com"
        );
        let imds = ManagedIdentityHost::imds(&url("http://127.0.0.1:1/base/"));
        assert_eq!(
            imds.url("api://x&y=z", Some("id 1&2")).as_str(),
            "http://127.0.0.1:1/base/metadata/identity/oauth2/token?api-version=2018-02-01\
             &resource=api%3A%2F%2Fx%26y%3Dz&client_id=id+1%262"
        );
        let app = ManagedIdentityHost::AppService {
            endpoint: url("http://localhost:8081/msi/token"),
            header: SecretHeader::new(HeaderValue::from_static("h")),
        };
        assert_eq!(
            app.url("r", Some("c")).as_str(),
            "http://localhost:8081/msi/token?api-version=2019-08-01&resource=r&client_id=c"
        );
        let arc = ManagedIdentityHost::AzureArc {
            endpoint: url("http://127.0.0.1:40342/metadata/identity/oauth2/token"),
            key_directory: PathBuf::new(),
        };
        assert_eq!(
            arc.url("r", None).as_str(),
            "http://127.0.0.1:40342/metadata/identity/oauth2/token?api-version=2020-06-01&resource=r"
        );
    }
}
