//! HTTP/1.1 with one caller: the parser is there while there is something to parse.
//!
//! It holds two buffers of 8 KiB and the place of a request, from its beginning to its end. What lasts
//! as long as a connection is not in it, so a connection that rests goes without, and the next parser
//! goes on where the last one was. Nothing here knows why a connection ends.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::HttpService;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::sleep_until;

use crate::accept::Settings;
use crate::accept::activity::Activity;
use crate::accept::drain::Drain;
use crate::accept::drive::{Driven, drive};
use crate::accept::watched::Watched;
use crate::body::BoxError;
use crate::limits;

/// Speaks until the connection ends; with what broke it, if anything did.
pub(super) async fn speak<S, V>(
    mut watched: Watched<S>,
    mut service: V,
    activity: &Activity,
    settings: &Settings,
    drain: &Drain,
) -> Option<hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    V: HttpService<Incoming, Error = Infallible>,
    V::ResBody: 'static,
    <V::ResBody as http_body::Body>::Error: Into<BoxError>,
{
    loop {
        tokio::select! {
            biased;
            () = poll_fn(|cx| watched.poll_look_ahead(cx)) => {}
            // It is the parser that ends a connection.
            () = drain.closing() => {}
            () = sleep_until(activity.due(settings)) => {}
        }
        let connection = parser(settings).serve_connection(TokioIo::new(watched), service);
        let connection = Box::pin(connection.with_upgrades());
        let rests = match drive(connection, activity, None, settings, drain).await {
            Driven::Ended(broken) => return broken,
            Driven::Rests(connection) => *Pin::into_inner(connection),
        };
        // Nothing was upgraded, and no byte is in the parser: it would not rest. Were there any,
        // they could be of a body, and another parser would take them for a request.
        let Some(parts) = rests.into_parts().filter(|parts| parts.read_buf.is_empty()) else {
            tracing::error!(
                "a connection was to rest while its parser held bytes; it was closed: report this"
            );
            return None;
        };
        (watched, service) = (parts.io.into_inner(), parts.service);
    }
}

fn parser(settings: &Settings) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        // Both times are `activity.rs`'s: the parser's one time would also end idle connections.
        .header_read_timeout(None)
        .max_header_size(settings.max_header_bytes)
        // A head that is allowed must fit.
        .max_buf_size(settings.max_header_bytes.max(limits::HTTP1_BUFFER_BYTES));
    // The number of fields is left at the parser's 100, which is `MAX_HEADER_FIELDS`: to set it
    // costs an allocation per request.
    builder
}

#[cfg(test)]
mod tests;
