//! An HTTP client that holds every answer to what is true of all of them ([`super::invariants`]).

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use obo_gateway::body::BoxError;
use obo_gateway::trust::Roots;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::invariants;
use super::servers::{self, PeerBody};

/// One connection to a gateway.
pub struct Client {
    address: SocketAddr,
    sender: Sender,
    answers: Answers,
}

enum Sender {
    Http1(http1::SendRequest<PeerBody>),
    Http2(http2::SendRequest<PeerBody>),
}

impl Sender {
    async fn http1<S>(stream: S) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let handshake = http1::Builder::new().handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.unwrap();
        // What breaks the connection shows in the answers.
        tokio::spawn(async move { connection.with_upgrades().await.ok() });
        Self::Http1(sender)
    }

    async fn http2<S>(stream: S) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let builder = http2::Builder::new(TokioExecutor::new());
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(async move { connection.await.ok() });
        Self::Http2(sender)
    }
}

/// Whose answers the client looks at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answers {
    /// A gateway's: all invariants hold.
    Gateway,
    /// A gateway's, among them refusals that its file words: those of `respond`.
    Configured,
    /// Somebody else's: none do.
    Other,
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Reply {
    pub version: Version,
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
}

impl Reply {
    /// The value of a header that is there exactly once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?.to_str().ok();
        value.filter(|_| values.next().is_none())
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    /// Status and `code`; the code is empty where the gateway didn't refuse.
    pub fn outcome(&self) -> (u16, String) {
        let code = serde_json::from_slice::<Value>(&self.body).ok();
        let refused = self.header("content-type") == Some("application/problem+json");
        let code = code
            .filter(|_| refused)
            .and_then(|problem| problem["code"].as_str().map(str::to_owned));
        (self.status.as_u16(), code.unwrap_or_default())
    }
}

/// A body of these bytes.
pub fn full(bytes: impl Into<Bytes>) -> PeerBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

impl Client {
    /// Connects; HTTP/1.1.
    pub async fn http1(address: SocketAddr) -> Self {
        let sender = servers::beside_the_test(async move {
            let stream = TcpStream::connect(address).await.unwrap();
            Sender::http1(stream).await
        });
        Self { address, sender: sender.await, answers: Answers::Gateway }
    }

    /// Connects, if somebody listens there; HTTP/1.1.
    pub async fn try_http1(address: SocketAddr) -> std::io::Result<Self> {
        let sender = servers::beside_the_test(async move {
            let stream = TcpStream::connect(address).await?;
            Ok::<_, std::io::Error>(Sender::http1(stream).await)
        });
        Ok(Self { address, sender: sender.await?, answers: Answers::Gateway })
    }

    /// Connects; HTTP/2 with prior knowledge.
    pub async fn http2(address: SocketAddr) -> Self {
        let sender = servers::beside_the_test(async move {
            let stream = TcpStream::connect(address).await.unwrap();
            Sender::http2(stream).await
        });
        Self { address, sender: sender.await, answers: Answers::Gateway }
    }

    /// Connects and sends `header` first; HTTP/2 with prior knowledge.
    pub async fn http2_behind(address: SocketAddr, header: Vec<u8>) -> Self {
        let sender = servers::beside_the_test(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(&header).await.unwrap();
            Sender::http2(stream).await
        });
        Self { address, sender: sender.await, answers: Answers::Gateway }
    }

    /// Connects with TLS; `pem` is the certificate that is believed, and ALPN offers `alpn`.
    pub async fn tls(address: SocketAddr, pem: &str, alpn: Option<&'static str>) -> Self {
        Self::tls_behind(address, Vec::new(), pem, alpn).await
    }

    /// The same, and sends `header` before the handshake.
    pub async fn tls_behind(
        address: SocketAddr,
        header: Vec<u8>,
        pem: &str,
        alpn: Option<&'static str>,
    ) -> Self {
        let mut config = Roots::from_pem(pem.as_bytes()).unwrap().client_config().unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let connector = TlsConnector::from(Arc::new(config));
        let sender = servers::beside_the_test(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(&header).await.unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let stream = connector.connect(name, stream).await.unwrap();
            let agreed = stream.get_ref().1.alpn_protocol();
            assert_eq!(agreed, alpn.map(str::as_bytes), "the protocol that was offered");
            if alpn == Some("h2") {
                Sender::http2(stream).await
            } else {
                Sender::http1(stream).await
            }
        });
        Self { address, sender: sender.await, answers: Answers::Gateway }
    }

    /// Connects with TLS just as `config` says; also says whether the handshake was a whole one
    /// or resumed a session. `None` if the gateway does not let it happen.
    pub async fn tls_as(
        address: SocketAddr,
        config: &Arc<ClientConfig>,
    ) -> Option<(Self, HandshakeKind)> {
        let connector = TlsConnector::from(Arc::clone(config));
        let connected = servers::beside_the_test(async move {
            let stream = TcpStream::connect(address).await.unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let stream = connector.connect(name, stream).await.ok()?;
            let tls = stream.get_ref().1;
            let kind = tls.handshake_kind().expect("it is over");
            let sender = if tls.alpn_protocol() == Some(b"h2") {
                Sender::http2(stream).await
            } else {
                Sender::http1(stream).await
            };
            Some((sender, kind))
        });
        let (sender, kind) = connected.await?;
        Some((Self { address, sender, answers: Answers::Gateway }, kind))
    }

    /// Another client of the same HTTP/2 connection: their streams run side by side.
    ///
    /// # Panics
    ///
    /// On a connection of HTTP/1.1, which answers one after the other.
    #[must_use]
    pub fn beside(&self) -> Self {
        let Sender::Http2(sender) = &self.sender else { panic!("HTTP/1.1 has one stream") };
        let sender = Sender::Http2(sender.clone());
        Self { address: self.address, sender, answers: self.answers }
    }

    /// The peer is no gateway: nothing is checked.
    pub fn is_not_a_gateway(&mut self) {
        self.answers = Answers::Other;
    }

    /// Some routes of the file answer by themselves: refusals need not be problem documents.
    pub fn meets_configured_answers(&mut self) {
        self.answers = Answers::Configured;
    }

    /// GET without a token.
    pub async fn get(&mut self, target: &str) -> Reply {
        self.send(Request::get(target), "").await
    }

    /// GET with a bearer token.
    pub async fn get_with(&mut self, target: &str, token: &str) -> Reply {
        self.send(Request::get(target).header("authorization", format!("Bearer {token}")), "").await
    }

    /// Sends and reads the whole answer.
    ///
    /// # Panics
    ///
    /// When there is none, or an invariant is broken.
    pub async fn send(&mut self, request: http::request::Builder, body: impl Into<Bytes>) -> Reply {
        self.try_send(request, body).await.expect("there is a whole answer")
    }

    /// Sends and reads the whole answer, which may break off.
    pub async fn try_send(
        &mut self,
        request: http::request::Builder,
        body: impl Into<Bytes>,
    ) -> Result<Reply, BoxError> {
        self.whole(request.body(full(body)).unwrap()).await
    }

    /// Sends a body of unsaid length, and reads the whole answer.
    ///
    /// # Panics
    ///
    /// When there is none, or an invariant is broken.
    pub async fn send_in_pieces(
        &mut self,
        request: http::request::Builder,
        pieces: Vec<Bytes>,
    ) -> Reply {
        let pieces = pieces.into_iter().map(|piece| Ok(Frame::data(piece)));
        let body = StreamBody::new(futures_util::stream::iter(pieces)).boxed_unsync();
        self.whole(request.body(body).unwrap()).await.expect("there is a whole answer")
    }

    async fn whole(&mut self, request: Request<PeerBody>) -> Result<Reply, BoxError> {
        let method = request.method().clone();
        let (head, body) = self.start(request).await?.into_parts();
        let collected = super::within("the whole answer", body.collect()).await?;
        let trailers = collected.trailers().cloned();
        let body = collected.to_bytes();
        if self.answers == Answers::Gateway {
            invariants::check_body(&method, head.status, &head.headers, &body);
        }
        Ok(Reply {
            version: head.version,
            status: head.status,
            headers: head.headers,
            body,
            trailers,
        })
    }

    /// Sends and reads the head; the body is the test's.
    pub async fn start(
        &mut self,
        mut request: Request<PeerBody>,
    ) -> Result<Response<Incoming>, BoxError> {
        let method = request.method().clone();
        let response = match &mut self.sender {
            Sender::Http1(sender) => {
                if !request.headers().contains_key("host") {
                    request.headers_mut().insert("host", self.address.to_string().parse().unwrap());
                }
                super::within("a connection that is ready", sender.ready()).await?;
                super::within("an answer", sender.send_request(request)).await?
            }
            Sender::Http2(sender) => {
                let target = request.uri().path_and_query().cloned();
                let target = target.unwrap_or_else(|| "/".parse().unwrap());
                let host = request.headers_mut().remove("host");
                let host =
                    host.map_or(self.address.to_string(), |host| host.to_str().unwrap().to_owned());
                *request.uri_mut() = Uri::try_from(format!("http://{host}{target}")).unwrap();
                super::within("a connection that is ready", sender.ready()).await?;
                super::within("an answer", sender.send_request(request)).await?
            }
        };
        if self.answers == Answers::Gateway && method != Method::CONNECT {
            invariants::check_head(&method, response.status(), response.headers());
        }
        Ok(response)
    }
}

/// GET of a URL of a scripted peer.
pub async fn fetch(url: &str) -> Result<Reply, BoxError> {
    let (mut client, target) = connect(url).await?;
    client.try_send(Request::get(target), "").await
}

/// POST of a form to a URL of a scripted peer.
pub async fn post_form(url: &str, form: String) -> Reply {
    let (mut client, target) = connect(url).await.unwrap();
    let request = Request::post(target).header("content-type", "application/x-www-form-urlencoded");
    client.send(request, form).await
}

async fn connect(url: &str) -> Result<(Client, String), BoxError> {
    let url: Uri = url.parse()?;
    let address: SocketAddr = url.authority().expect("an absolute URL").as_str().parse()?;
    drop(TcpStream::connect(address).await?);
    let mut client = Client::http1(address).await;
    client.is_not_a_gateway();
    Ok((client, url.path_and_query().map_or("/", |target| target.as_str()).to_owned()))
}
