//! One upstream of three is killed under load: no idempotent request is lost by that, and when it
//! comes back it is used again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::{Request, Response};
use hyper::body::Incoming;

use super::{all, file};
use crate::support::client::{Client, full};
use crate::support::gateway::Gateway;
use crate::support::servers::{Handled, Line, Server};
use crate::support::within;

const CALLERS: usize = 50;

/// One of the three: counts its requests; its connections end with a reset.
struct One {
    server: Server,
    count: Arc<AtomicUsize>,
}

impl One {
    fn start() -> Self {
        let count = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&count);
        let server =
            Server::http(Arc::new(move |_: Request<Incoming>, line: Arc<Line>| -> Handled {
                line.reset_at_close();
                counter.fetch_add(1, Ordering::SeqCst);
                Box::pin(async {
                    // Others come in between, so that there is always something under way.
                    tokio::task::yield_now().await;
                    Ok(Response::new(full("ok")))
                })
            }));
        Self { server, count }
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    async fn count_when(&self, at_least: usize) {
        let there = async {
            while self.count() < at_least {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        within("requests", there).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_one_of_three_costs_no_idempotent_request() {
    for protocol in ["http1", "http2"] {
        let ones = [One::start(), One::start(), One::start()];
        let urls = ones.each_ref().map(|one| format!("\"http://{}\"", one.server.address()));
        let up = format!("up: {{ urls: [{}], protocol: {protocol} }}", urls.join(", "));
        let gateway = Gateway::start(&file("", &[&up], &[&all("")]));
        let (address, done) = (gateway.address(), Arc::new(AtomicBool::new(false)));
        let callers: Vec<_> = (0..CALLERS)
            .map(|number| {
                let done = Arc::clone(&done);
                tokio::spawn(async move {
                    let mut outcomes = BTreeMap::<_, usize>::new();
                    let mut client = Client::http1(address).await;
                    while !done.load(Ordering::SeqCst) {
                        let method = ["GET", "GET", "PUT", "DELETE"][number % 4];
                        let request = Request::builder().method(method).uri("/x");
                        let reply = client.send(request, "").await;
                        *outcomes.entry((method, reply.outcome())).or_default() += 1;
                    }
                    outcomes
                })
            })
            .collect();

        // All three are used; then one is no more, with whatever it had in hand.
        for one in &ones {
            one.count_when(100).await;
        }
        ones[0].server.stop().await;
        let rest = [ones[1].count(), ones[2].count()];
        ones[1].count_when(rest[0] + 500).await;
        ones[2].count_when(rest[1] + 500).await;
        // It comes back, and takes its part.
        let before = ones[0].count();
        ones[0].server.start_again();
        ones[0].count_when(before + 100).await;
        done.store(true, Ordering::SeqCst);

        let mut lost = Vec::new();
        for caller in callers {
            let outcomes = within("a caller", caller).await.unwrap();
            lost.extend(outcomes.into_iter().filter(|((_, (status, _)), _)| *status != 200));
        }
        assert_eq!(lost, [], "{protocol}");
    }
}
