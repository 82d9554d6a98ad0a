//! Who renders `/metrics`, and who waits for it: anybody who reaches the port may ask, and with
//! many routes a rendering takes long, so a few are made at a time, and on no thread that serves.
//!
//! Whoever waits while a rendering begins is served by it: nothing that was counted before the
//! request came is missing from it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::limits;
use crate::observe::Metrics;
use crate::observe::exposition::Exposition;
use crate::rejection::Rejection;

/// The renderings of `/metrics`.
pub struct Scrapes {
    making: Arc<Semaphore>,
    /// Those who wait, and those who are served.
    places: Semaphore,
    texts: Mutex<Texts>,
}

/// The last rendering in each format, while somebody may wait for it.
#[derive(Default)]
struct Texts {
    /// Renderings that began; tells whether one did after somebody came.
    begun: u64,
    last: Vec<Text>,
}

struct Text {
    format: Exposition,
    /// Its number among those that began.
    number: u64,
    content: Bytes,
}

/// What becomes of a scrape.
pub(super) enum Scraped {
    Text(Bytes),
    /// Too many wait already.
    NoPlace,
}

impl Scrapes {
    /// `metrics` in `format`, with all that was counted before this was called.
    pub(super) async fn text(
        self: &Arc<Self>,
        format: Exposition,
        metrics: &Metrics,
    ) -> Result<Scraped, Rejection> {
        let Ok(place) = self.places.try_acquire() else { return Ok(Scraped::NoPlace) };
        let came = self.lock().begun;
        let turn = Arc::clone(&self.making).acquire_owned().await;
        let text = if let Some(text) = self.begun_after(came, format) {
            text
        } else {
            let (this, metrics) = (Arc::clone(self), metrics.clone());
            let made = tokio::task::spawn_blocking(move || {
                // Held until it is done, also if nobody waits any more.
                let _turn = turn;
                this.render(format, &metrics)
            });
            made.await.map_err(|error| {
                tracing::error!(%error, "the metrics were not rendered");
                Rejection::internal("the metrics were not rendered")
            })?
        };
        drop(place);
        if self.places.available_permits() == limits::MAX_SCRAPES {
            // With many routes it is large, and nobody is left to want it.
            self.lock().last.clear();
        }
        Ok(Scraped::Text(text))
    }

    /// All permits to render: nothing is rendered while they are held.
    #[cfg(test)]
    pub(super) async fn hold(&self) -> tokio::sync::OwnedSemaphorePermit {
        let all = u32::try_from(limits::MAX_RENDERED_SCRAPES).unwrap();
        Arc::clone(&self.making).acquire_many_owned(all).await.unwrap()
    }

    fn begun_after(&self, came: u64, format: Exposition) -> Option<Bytes> {
        let texts = self.lock();
        let text = texts.last.iter().find(|text| text.format == format && text.number > came)?;
        Some(text.content.clone())
    }

    fn render(&self, format: Exposition, metrics: &Metrics) -> Bytes {
        let number = {
            let mut texts = self.lock();
            texts.begun += 1;
            texts.begun
        };
        let text = Bytes::from(format.encode(metrics));
        let mut texts = self.lock();
        // Of two at once the one that began later says more.
        if !texts.last.iter().any(|other| other.format == format && other.number > number) {
            texts.last.retain(|other| other.format != format);
            texts.last.push(Text { format, number, content: text.clone() });
        }
        text
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Texts> {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Scrapes {
    fn default() -> Self {
        Self {
            making: Arc::new(Semaphore::new(limits::MAX_RENDERED_SCRAPES)),
            places: Semaphore::new(limits::MAX_SCRAPES),
            texts: Mutex::default(),
        }
    }
}

impl fmt::Debug for Scrapes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrapes(..)")
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::*;

    fn text(scraped: Result<Scraped, Rejection>) -> Bytes {
        match scraped {
            Ok(Scraped::Text(text)) => text,
            Ok(Scraped::NoPlace) => panic!("no place"),
            Err(rejection) => panic!("{rejection:?}"),
        }
    }

    #[tokio::test]
    async fn those_who_wait_share_what_begins_then_and_those_who_come_later_see_more() {
        let (scrapes, metrics) = (Arc::new(Scrapes::default()), Metrics::default());
        let held = scrapes.hold().await;
        let ask = |format| {
            let (scrapes, metrics) = (Arc::clone(&scrapes), metrics.clone());
            Box::pin(async move { scrapes.text(format, &metrics).await })
        };
        let mut waiting = Vec::new();
        for _ in 0..limits::MAX_SCRAPES - 1 {
            let mut one = ask(Exposition::Prometheus);
            assert!(poll!(&mut one).is_pending());
            waiting.push(one);
        }
        let mut other = ask(Exposition::OpenMetrics);
        assert!(poll!(&mut other).is_pending());
        assert!(matches!(ask(Exposition::Prometheus).await, Ok(Scraped::NoPlace)));

        metrics.token_cache_entries(3);
        drop(held);
        let texts = futures_util::future::join_all(waiting).await;
        for one in texts {
            let one = text(one);
            let one = std::str::from_utf8(&one).unwrap();
            assert!(one.contains("\nobo_gateway_token_cache_entries 3\n"), "{one}");
        }
        assert!(text(other.await).ends_with(b"# EOF\n"));
        let made = scrapes.lock().begun;
        assert!(made < limits::MAX_SCRAPES as u64, "{made}");

        // Who comes now gets what is counted now.
        metrics.token_cache_entries(4);
        let later = text(ask(Exposition::Prometheus).await);
        let later = std::str::from_utf8(&later).unwrap();
        assert!(later.contains("\nobo_gateway_token_cache_entries 4\n"), "{later}");
        assert!(scrapes.lock().last.is_empty(), "nothing is kept for nobody");
        assert_eq!(scrapes.places.available_permits(), limits::MAX_SCRAPES);
    }
}
