//! What the gateways of this process would write to standard error, in memory, and the search
//! in it.
//!
//! Each gateway has a [`Capture`] for what its own threads say. What the product says on other
//! threads, those of tests that reload or drain it, goes to [`elsewhere`]. Together they are
//! all there is: nothing of the product writes past `tracing` and the log's sink (the lints
//! forbid it to print).

use std::io;
use std::sync::{Arc, LazyLock, Mutex};

use obo_gateway::observe::sink::{LogFormat, LogSink};
use obo_gateway::observe::{Metrics, log};
use tracing_subscriber::fmt::MakeWriter;

use super::registry;

/// A place to log to; clones are the same place.
#[derive(Clone, Debug, Default)]
pub struct Capture(Arc<Mutex<Vec<u8>>>);

/// What was logged outside of the threads of gateways, from the first call on.
pub fn elsewhere() -> &'static Capture {
    static ELSEWHERE: LazyLock<Capture> = LazyLock::new(|| {
        let capture = Capture::default();
        let to = Box::new(capture.clone());
        let sink = LogSink::start(to, LogFormat::Json, Metrics::default()).unwrap();
        let subscriber = log::subscriber("trace", &sink).unwrap();
        tracing::subscriber::set_global_default(subscriber).expect("nobody else has set one");
        capture
    });
    &ELSEWHERE
}

impl Capture {
    /// What was logged so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    /// The lines logged so far that are JSON objects: the events.
    pub fn events(&self) -> Vec<serde_json::Map<String, serde_json::Value>> {
        self.text().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The access events so far, in order.
    pub fn access_events(&self) -> Vec<serde_json::Map<String, serde_json::Value>> {
        let mut events = self.events();
        events.retain(|event| event.contains_key("request_id") && event.contains_key("bytes_in"));
        events
    }

    /// Waits for the first access event of `path`.
    pub async fn event_when(&self, path: &str) -> serde_json::Map<String, serde_json::Value> {
        self.access_events_when(1, |event| event["path"] == path).await.swap_remove(0)
    }

    /// Waits until there are `count` access events that are `wanted`, and hands them out.
    pub async fn access_events_when(
        &self,
        count: usize,
        wanted: impl Fn(&serde_json::Map<String, serde_json::Value>) -> bool,
    ) -> Vec<serde_json::Map<String, serde_json::Value>> {
        let events = async {
            loop {
                let mut events = self.access_events();
                events.retain(&wanted);
                if events.len() >= count {
                    return events;
                }
                // Lines are written in batches, and nothing tells when; the interval only
                // spares the processor.
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        super::within("access events", events).await
    }

    /// Fails if a registered token or secret was logged here.
    pub fn assert_clean(&self) {
        let text = self.0.lock().unwrap().clone();
        registry::assert_clean("the log", &text);
        assert_no_token_shape("the log", &text);
    }
}

/// Fails on what begins like a token's header, registered or not: `{"alg":` or `{"typ":` in base64url.
fn assert_no_token_shape(place: &str, text: &[u8]) {
    for shape in ["eyJhbGciOi", "eyJ0eXAiOi", "eyJraWQiOi"] {
        let found = text.windows(shape.len()).any(|window| window == shape.as_bytes());
        assert!(!found, "what looks like a token (`{shape}…`) is in {place}");
    }
}

impl io::Write for Capture {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Capture {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_back_and_leaks_are_found() {
        let capture = Capture::default();
        let subscriber = tracing_subscriber::fmt().json().with_writer(capture.clone()).finish();
        tracing::subscriber::with_default(subscriber, || tracing::info!(status = 200, "request"));
        assert_eq!(capture.events()[0]["fields"]["status"], 200);
        capture.assert_clean();
        let leaky = Capture(Arc::new(Mutex::new(b"token eyJhbGciOiJSUzI1NiJ9".to_vec())));
        assert!(std::panic::catch_unwind(|| leaky.assert_clean()).is_err());
    }

    #[tokio::test]
    async fn what_the_product_says_on_any_thread_is_captured() {
        let capture = elsewhere();
        tracing::trace!(target: "obo_gateway::somewhere", "said on the thread of a test");
        let said = async {
            while !capture.text().contains("said on the thread of a test") {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        crate::support::within("the line", said).await;
        capture.assert_clean();
    }
}
