//! Calls to a provider: discovery, keys and tokens, each within a time and a size.
//!
//! The one place that makes a `reqwest::Client`: no redirects (a provider's answer must not
//! send a secret elsewhere), no proxy from the environment (tokens would pass through it),
//! no referer, no compression (no bombs). What an answer means is decided by who asked.

use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use url::Url;

use crate::limits;
use crate::trust::{Roots, TrustError};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A client for the calls to one provider.
#[derive(Clone, Debug)]
pub struct Fetcher {
    client: reqwest::Client,
}

/// Where calls go, taken apart once for whoever calls it again and again. The text itself if it is
/// no URL: a call says what is wrong with it.
#[derive(Clone, Debug)]
pub struct Address(Result<Url, Box<str>>);

impl Address {
    /// Takes `url` apart.
    pub fn of(url: &str) -> Self {
        Self(Url::parse(url).map_err(|_error| url.into()))
    }
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
    /// No connection: name, address, TLS, or none within [`limits::PROVIDER_CONNECT_TIMEOUT`].
    #[error("can't connect")]
    Connect(#[source] reqwest::Error),
    /// The time of the whole call was up.
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
        // In this order: a connection that was not made in time is both, and nobody has taken
        // the request then.
        if error.is_connect() {
            Self::Connect(error)
        } else if error.is_timeout() {
            Self::Timeout
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
        self.send(self.client.get(url).header(ACCEPT, JSON)).await
    }

    /// GET of a JSON document with `headers` of the caller's choice.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the call.
    pub async fn get(&self, url: &str, headers: HeaderMap) -> Result<Fetched, FetchError> {
        let request = self.client.get(url).header(ACCEPT, JSON);
        self.send(request.headers(headers)).await
    }

    /// POST of a form that is already encoded; `headers` are added.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the call; the provider may have acted on it all the same.
    pub async fn form(
        &self,
        address: &Address,
        form: String,
        mut headers: HeaderMap,
    ) -> Result<Fetched, FetchError> {
        const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(ACCEPT, JSON);
        headers.insert(CONTENT_TYPE, FORM);
        let request = match &address.0 {
            Ok(url) => self.client.post(url.clone()),
            Err(text) => self.client.post(&**text),
        };
        self.send(request.headers(headers).body(form)).await
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

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    /// What comes of a call to a server that takes the first byte and says nothing.
    async fn call_of_the_silent(scheme: &str, timeout: Duration) -> (FetchError, Duration) {
        let ca = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let roots = Roots::from_pem(ca.cert.pem().as_bytes()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{scheme}://{}/", listener.local_addr().unwrap());
        let call = tokio::spawn(async move {
            let fetcher = Fetcher::new(&roots, timeout).unwrap();
            fetcher.json(&url).await.unwrap_err()
        });
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.read_u8().await.unwrap();
        // From here on time passes by itself, and nothing but the client's own limits ends this.
        tokio::time::pause();
        let paused = tokio::time::Instant::now();
        (call.await.unwrap(), paused.elapsed())
    }

    #[tokio::test]
    async fn a_connection_that_takes_too_long_is_a_failed_one() {
        let (error, took) = call_of_the_silent("https", Duration::from_secs(10)).await;
        assert_eq!(error.to_string(), "can't connect");
        let FetchError::Connect(source) = error else { panic!("{error:?}") };
        assert!(source.is_timeout() && source.is_connect(), "it is both: {source:?}");
        assert!(took < limits::PROVIDER_CONNECT_TIMEOUT * 2, "{took:?}");
    }

    #[tokio::test]
    async fn an_answer_that_takes_too_long_is_a_timeout() {
        let (error, took) = call_of_the_silent("http", Duration::from_secs(10)).await;
        assert!(matches!(error, FetchError::Timeout), "{error:?}");
        assert!(took > limits::PROVIDER_CONNECT_TIMEOUT * 2, "{took:?}");
    }
}
