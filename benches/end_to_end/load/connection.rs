//! One connection of the load, from its handshake to the last answer.

use std::rc::Rc;
use std::time::Instant;

use bytes::BytesMut;
use http_body_util::BodyExt;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, spawn_local};

use super::answer::receive;
use super::plan::Planned;
use super::{Order, State, To};
use crate::Failure;
use crate::case::Transport;

/// Space for one small answer; it grows for a large one.
const BUFFER_BYTES: usize = 8 * 1024;

/// Sends request after request, one at a time for each of `orders`, until the phase, or the list of
/// users, ends.
pub(super) async fn converse(state: Rc<State>, to: To, orders: Vec<Order>) -> Result<(), Failure> {
    let stream = TcpStream::connect(to.address).await?;
    stream.set_nodelay(true)?;
    match to.transport {
        Transport::Clear => one_at_a_time(&state, stream, orders).await,
        Transport::TlsHttp1 => {
            one_at_a_time(&state, to.tls.handshake(stream, to.transport).await?, orders).await
        }
        Transport::TlsHttp2 => {
            multiplexed(&state, to.tls.handshake(stream, to.transport).await?, orders).await
        }
    }
}

async fn one_at_a_time<S>(state: &State, mut stream: S, orders: Vec<Order>) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut buffer = BytesMut::with_capacity(BUFFER_BYTES);
    for mut order in orders {
        while let Some(planned) = state.following(&mut order) {
            ask(state, &mut stream, &mut buffer, planned, Instant::now()).await?;
        }
    }
    Ok(())
}

/// One request and its answer, whose latency counts from `since`.
pub(super) async fn ask<S>(
    state: &State,
    stream: &mut S,
    buffer: &mut BytesMut,
    planned: &Planned,
    since: Instant,
) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(&planned.head).await?;
    if !planned.body.is_empty() {
        stream.write_all(&planned.body).await?;
    }
    stream.flush().await?;
    let answer = receive(stream, buffer).await?;
    let body = buffer.get(answer.body_start..).unwrap_or_default();
    state.take(planned, answer.status, body, since);
    buffer.clear();
    Ok(())
}

async fn multiplexed<S>(state: &Rc<State>, stream: S, orders: Vec<Order>) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let connection = spawn_local(connection);
    let mut streams = JoinSet::new();
    for mut order in orders {
        let (state, mut sender) = (Rc::clone(state), sender.clone());
        streams.spawn_local(async move {
            while let Some(planned) = state.following(&mut order) {
                ask_stream(&state, &mut sender, planned).await?;
            }
            Ok::<_, Failure>(())
        });
    }
    while let Some(ended) = streams.join_next().await {
        ended??;
    }
    drop(sender);
    connection.await??;
    Ok(())
}

async fn ask_stream(
    state: &State,
    sender: &mut SendRequest<http_body_util::Full<bytes::Bytes>>,
    planned: &Planned,
) -> Result<(), Failure> {
    let request = planned.request.clone().ok_or("the load was not planned for HTTP/2")?;
    let since = Instant::now();
    sender.ready().await?;
    let answer = sender.send_request(request).await?;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await?.to_bytes();
    state.take(planned, status, &body, since);
    Ok(())
}
