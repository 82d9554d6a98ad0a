//! Limits of the admin port, and of what it shows.

use std::time::Duration;

/// Connections to the admin port at a time: scrapers, probes and a few people, and room for
/// them beside somebody who opens connections and says nothing.
pub const MAX_ADMIN_CONNECTIONS: usize = 1024;

/// Time for a request head on the admin port: who says nothing for so long makes room.
pub const ADMIN_HEADER_TIMEOUT: Duration = Duration::from_secs(2);

/// Between two requests of a connection to the admin port; longer than the usual pause
/// between two scrapes.
pub const ADMIN_IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// Largest request head on the admin port in bytes.
pub const MAX_ADMIN_HEADER_BYTES: usize = 16 * 1024;

/// Refusals that the admin port shows: enough to see a pattern, and below 1 MiB in all.
pub const MAX_SHOWN_REFUSALS: usize = 100;

/// Largest body of a request to the admin port in bytes: none has anything to say in one.
pub const MAX_ADMIN_BODY_BYTES: usize = 4 * 1024;

/// Answers of the admin API, and metrics, that are made at a time, each on a thread of its own: an
/// operator, a scraper and a page or two look at once, and nobody can take the threads that files and
/// names are read on.
pub const MAX_ADMIN_ANSWERS: usize = 4;

/// Renderings of `/metrics` at a time, each on a thread of its own: with many routes one takes
/// long, and anybody who reaches the port may ask for it.
pub const MAX_RENDERED_SCRAPES: usize = 2;

/// Scrapes at a time, those that wait for a rendering included: some scrapers, each with a retry.
pub const MAX_SCRAPES: usize = 32;

/// What a scraper is told to wait for whom there is no place.
pub const SCRAPE_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Requests to reload that may wait for the one that runs; they share the one after it, and more say
/// nothing new.
pub const MAX_WAITING_RELOADS: usize = 8;

/// How long a reload may take, the wait for the one before included, until it is said that it
/// hangs: the largest file takes seconds, a mount that went away takes for ever.
pub const RELOAD_PATIENCE: Duration = Duration::from_secs(30);

/// Time for the body of a request to the admin port: none has anything to say in one.
pub const ADMIN_BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// What those are told to wait for whom there is no place: a reload takes less.
pub const RELOAD_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Routes, or upstreams, in one answer of the admin API unless the request says how many.
pub const ADMIN_PAGE: usize = 1000;

/// Most of them in one answer: about 10 MiB.
pub const MAX_ADMIN_PAGE: usize = 10_000;

/// Breakers of one provider that the admin port names; the others are counted.
pub const MAX_BREAKERS_SAID: usize = 20;

/// Ids of a provider's keys that the admin port names; real ones have about 10.
pub const MAX_KEY_IDS_SAID: usize = 100;
