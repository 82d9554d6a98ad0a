//! What the stack costs by itself: hyper's server, hyper-util's pooled client, a token cache.
//!
//! The yardstick. It does what the name of each route says and nothing else: no routes but three
//! prefixes, no log, no metrics, no timeouts, no limits, no hop-by-hop header but `Connection`. With a
//! certificate it speaks TLS with the gateway's settings, and HTTP/2 as hyper has it.

use std::net::SocketAddr;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use dashmap::DashMap;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST};
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderValue, Request, Response, Uri, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::users::{self, CLIENT_ID, CLIENT_SECRET, TENANT, UPSTREAM_SCOPE};
use crate::{Failure, report, tls};

mod verifier;

use verifier::Verifier;

/// The first argument that makes this binary the bare proxy; its own address, another without TLS
/// to see whether it is there, the upstream's and the provider's authority follow; and for TLS the
/// files of chain and key.
pub(crate) const COMMAND: &str = "bare-proxy";

struct BareProxy {
    upstream: Authority,
    upstream_host: HeaderValue,
    client: Client<HttpConnector, Incoming>,
    /// SHA-256 of an inbound token → the `Authorization` that goes on in its place.
    tokens: DashMap<[u8; 32], HeaderValue>,
    /// SHA-256 of the tokens that were verified and go on as nothing.
    verified: DashMap<[u8; 32], ()>,
    verifier: Verifier,
    token_client: Client<HttpConnector, Full<Bytes>>,
    token_endpoint: Uri,
}

/// Serves until the process is ended.
pub(crate) fn run(arguments: impl Iterator<Item = String>) -> Result<(), Failure> {
    let arguments: Vec<String> = arguments.collect();
    let [address, clear_address, upstream, authority, files @ ..] = arguments.as_slice() else {
        return Err(
            format!("{COMMAND} ADDRESS CLEAR_ADDRESS UPSTREAM AUTHORITY [CHAIN KEY]").into()
        );
    };
    let address: SocketAddr = address.parse()?;
    let clear_address: SocketAddr = clear_address.parse()?;
    let tls = match files {
        [chain, key] => Some(tls::acceptor(chain, key)?),
        _ => None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let proxy = Arc::new(BareProxy::new(upstream, authority).await?);
        let (listener, clear) =
            (TcpListener::bind(address).await?, TcpListener::bind(clear_address).await?);
        tokio::try_join!(
            Arc::clone(&proxy).serve(listener, tls),
            Arc::clone(&proxy).serve(clear, None)
        )?;
        Ok(())
    })
}

impl BareProxy {
    async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        tls: Option<TlsAcceptor>,
    ) -> Result<(), Failure> {
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let (proxy, tls) = (Arc::clone(&self), tls.clone());
            tokio::spawn(async move {
                let served = match tls {
                    None => proxy.http1(stream).await,
                    Some(tls) => proxy.encrypted(tls, stream).await,
                };
                if let Err(error) = served {
                    report::say_failure(&*error);
                }
            });
        }
    }

    async fn encrypted(
        self: Arc<Self>,
        tls: TlsAcceptor,
        stream: TcpStream,
    ) -> Result<(), Failure> {
        let stream = tls.accept(stream).await?;
        let protocol = stream.get_ref().1.alpn_protocol();
        if protocol == Some(b"h2") { self.http2(stream).await } else { self.http1(stream).await }
    }

    async fn http1<S>(self: Arc<Self>, stream: S) -> Result<(), Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let service = service_fn(move |request| Arc::clone(&self).answer(request));
        Ok(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await?)
    }

    async fn http2<S>(self: Arc<Self>, stream: S) -> Result<(), Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(move |request| Arc::clone(&self).answer(request));
        let connection = http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service);
        Ok(connection.await?)
    }
}

impl BareProxy {
    async fn new(upstream: &str, authority: &str) -> Result<Self, Failure> {
        let token_client = client();
        let jwks: Uri = format!("{authority}/{TENANT}/discovery/v2.0/keys").parse()?;
        let jwks = token_client.get(jwks).await?.into_body().collect().await?.to_bytes();
        let verifier = Verifier::new(&jwks, users::issuer(authority))?;
        Ok(Self {
            upstream: upstream.parse()?,
            upstream_host: upstream.parse()?,
            client: client(),
            tokens: DashMap::new(),
            verified: DashMap::new(),
            verifier,
            token_client,
            token_endpoint: format!("{authority}/{TENANT}/oauth2/v2.0/token").parse()?,
        })
    }

    /// An error closes the connection; it is the bench's business to send good requests.
    async fn answer(
        self: Arc<Self>,
        mut request: Request<Incoming>,
    ) -> Result<Response<Incoming>, Failure> {
        if request.uri().path().starts_with("/swap/") {
            let outbound = self.outbound(request.headers()).await?;
            request.headers_mut().insert(AUTHORIZATION, outbound);
        } else if request.uri().path().starts_with("/checked/") {
            self.check(request.headers())?;
            request.headers_mut().remove(AUTHORIZATION);
        }
        *request.version_mut() = Version::HTTP_11;
        request.headers_mut().remove(CONNECTION);
        request.headers_mut().insert(HOST, self.upstream_host.clone());
        let mut target = std::mem::take(request.uri_mut()).into_parts();
        target.scheme = Some(Scheme::HTTP);
        target.authority = Some(self.upstream.clone());
        *request.uri_mut() = Uri::from_parts(target)?;
        let mut response = self.client.request(request).await?;
        response.headers_mut().remove(CONNECTION);
        Ok(response)
    }

    /// The credential for the caller of a request: cached, or exchanged for a verified token.
    async fn outbound(&self, headers: &HeaderMap) -> Result<HeaderValue, Failure> {
        let (inbound, key) = bearer(headers)?;
        if let Some(outbound) = self.tokens.get(&key) {
            return Ok(outbound.clone());
        }
        self.verifier.verify(inbound)?;
        let outbound = self.exchange(inbound).await?;
        self.tokens.insert(key, outbound.clone());
        Ok(outbound)
    }

    /// Lets a token pass that was verified before, or is now.
    fn check(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let (inbound, key) = bearer(headers)?;
        if !self.verified.contains_key(&key) {
            self.verifier.verify(inbound)?;
            self.verified.insert(key, ());
        }
        Ok(())
    }

    async fn exchange(&self, assertion: &str) -> Result<HeaderValue, Failure> {
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer")
            .append_pair("requested_token_use", "on_behalf_of")
            .append_pair("client_id", CLIENT_ID)
            .append_pair("client_secret", CLIENT_SECRET)
            .append_pair("scope", UPSTREAM_SCOPE)
            .append_pair("assertion", assertion)
            .finish();
        let request = Request::post(&self.token_endpoint)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::new(Bytes::from(form)))?;
        let answer = self.token_client.request(request).await?.into_body().collect().await?;
        let answer: Value = serde_json::from_slice(&answer.to_bytes())?;
        let token = answer.get("access_token").and_then(Value::as_str);
        let token = token.ok_or_else(|| format!("no token: {answer}"))?;
        Ok(format!("Bearer {token}").parse()?)
    }
}

/// The token of a request and its SHA-256.
fn bearer(headers: &HeaderMap) -> Result<(&str, [u8; 32]), Failure> {
    let authorization = headers.get(AUTHORIZATION).ok_or("no Authorization")?.to_str()?;
    let inbound = authorization.strip_prefix("Bearer ").ok_or("no bearer token")?;
    let mut key = [0; 32];
    key.copy_from_slice(digest(&SHA256, inbound.as_bytes()).as_ref());
    Ok((inbound, key))
}

fn client<B>() -> Client<HttpConnector, B>
where
    B: Body + Send,
    B::Data: Send,
{
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).set_host(false).build(connector)
}
