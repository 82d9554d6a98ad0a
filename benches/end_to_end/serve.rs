//! An HTTP/1.1 server on the bench's own thread, for the upstream and the provider.

use std::convert::Infallible;
use std::rc::Rc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::spawn_local;

use crate::report;

/// Answers all requests that reach `listener` with `answer`, until the runtime ends.
pub(crate) fn serve<A, F>(listener: TcpListener, answer: A)
where
    A: Fn(Request<Incoming>) -> F + 'static,
    F: Future<Output = Response<Full<Bytes>>> + 'static,
{
    let answer = Rc::new(answer);
    spawn_local(async move {
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => return report::say_failure(&error),
            };
            if let Err(error) = stream.set_nodelay(true) {
                report::say_failure(&error);
            }
            let answer = Rc::clone(&answer);
            let service = service_fn(move |request| {
                let answered = answer(request);
                async move { Ok::<_, Infallible>(answered.await) }
            });
            spawn_local(async move {
                // A proxy that is ended resets its connections; what matters is counted elsewhere.
                http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
            });
        }
    });
}
