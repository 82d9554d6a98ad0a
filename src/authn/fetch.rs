//! Calls to a provider: discovery, keys and tokens, each within a time and a size.
//!
//! The one place that makes a `reqwest::Client`: no redirects (a provider's answer must not
//! send a secret elsewhere), no proxy from the environment (tokens would pass through it),
//! no referer, no compression (no bombs). What an answer means is decided by who asked.

use std::time::Duration;

use http::{HeaderMap, StatusCode};

use crate::limits;
use crate::trust::{Roots, TrustError};

/// A client for the calls to one provider.
#[derive(Clone, Debug)]
pub struct Fetcher {
    client: reqwest::Client,
}

/// An answer, read whole within the limits.
#[derive(Debug)]
pub struct Fetched {
    /// The status; redirects are not followed, so 3xx may be among them.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body, at most [`limits::MAX_PROVIDER_ANSWER_BYTES`].
    pub body: Vec<u8>,
}

/// Why there is no answer. None of the texts holds a URL: queries can hold secrets.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No connection: name, address, TLS.
    #[error("can't connect")]
    Connect(#[source] reqwest::Error),
    /// The time was up.
    #[error("no answer in time")]
    Timeout,
    /// The connection broke, or what came is not HTTP.
    #[error("the answer broke off")]
    Broken(#[source] reqwest::Error),
    /// More than [`limits::MAX_PROVIDER_ANSWER_BYTES`].
    #[error("the answer is larger than {} bytes", limits::MAX_PROVIDER_ANSWER_BYTES)]
    TooLarge,
}

impl FetchError {
    fn from_reqwest(error: reqwest::Error) -> Self {
        let error = error.without_url();
        if error.is_timeout() {
            Self::Timeout
        } else if error.is_connect() {
            Self::Connect(error)
        } else {
            Self::Broken(error)
        }
    }
}

impl Fetcher {
    /// A client that trusts `roots` and gives each call `timeout` in all.
    ///
    /// # Errors
    ///
    /// Roots that can't be used.
    pub fn new(roots: &Roots, timeout: Duration) -> Result<Self, TrustError> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(roots.client_config()?)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .connect_timeout(limits::PROVIDER_CONNECT_TIMEOUT.min(timeout))
            .timeout(timeout)
            .user_agent(concat!("obo-gateway/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| TrustError::Setup(rustls::Error::General(error.to_string())))?;
        Ok(Self { client })
    }

    /// GET of a JSON document.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the call.
    pub async fn json(&self, url: &str) -> Result<Fetched, FetchError> {
        self.send(self.client.get(url).header(http::header::ACCEPT, "application/json")).await
    }

    /// POST of a form that is already encoded; `headers` are added.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the call; the provider may have acted on it all the same.
    pub async fn form(
        &self,
        url: &str,
        form: String,
        headers: HeaderMap,
    ) -> Result<Fetched, FetchError> {
        let request = self
            .client
            .post(url)
            .header(http::header::ACCEPT, "application/json")
            .header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .headers(headers)
            .body(form);
        self.send(request).await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Fetched, FetchError> {
        let mut response = request.send().await.map_err(FetchError::from_reqwest)?;
        let status = response.status();
        let headers = std::mem::take(response.headers_mut());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(FetchError::from_reqwest)? {
            if body.len() + chunk.len() > limits::MAX_PROVIDER_ANSWER_BYTES {
                return Err(FetchError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Fetched { status, headers, body })
    }
}
