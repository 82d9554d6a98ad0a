//! Every limit that the routes file does not set, with its unit and its reason.
//!
//! Defaults of limits that the routes file does set stand beside their keys in `config/file.rs`.

use std::time::Duration;

/// Longest token in bytes, before anything of it is decoded. Entra's tokens with 200 groups
/// reach about 16 KiB; callers with more get overage claims instead.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Longest `kid` in bytes; real ones are hashes or GUIDs.
pub const MAX_KID_BYTES: usize = 256;

/// Deepest nesting of JSON in a token, a key set or a provider's answer; real claims nest 3 deep.
pub const MAX_JSON_DEPTH: usize = 32;

/// Largest discovery document, key set or token answer in bytes: Entra's key sets are about
/// 20 KiB, so a provider that sends more than this is broken or hostile.
pub const MAX_PROVIDER_ANSWER_BYTES: usize = 1024 * 1024;

/// Most keys taken from one key set; Entra publishes about 10.
pub const MAX_KEYS: usize = 1000;

/// Time to connect to a provider; the whole call has the provider's `timeout`.
pub const PROVIDER_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Shortest time between two fetches of keys that unknown `kid`s force, per provider: what an
/// attacker with random `kid`s can make us do.
pub const FORCED_REFRESH_FLOOR: Duration = Duration::from_secs(30);

/// How long keys are used while their provider can't be asked for new ones.
pub const KEYS_MAX_STALE: Duration = Duration::from_hours(24);

/// First pause between tries to load a provider's keys; doubles up to [`LOAD_BACKOFF_MAX`].
pub const LOAD_BACKOFF_MIN: Duration = Duration::from_millis(100);

/// Longest pause between tries to load a provider's keys.
pub const LOAD_BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Most verified tokens remembered, so that a signature is checked once a token.
pub const MAX_VERIFIED_TOKENS: usize = 100_000;

/// How long an outbound token must still live to be used: the time it takes to reach the
/// upstream and be judged there, plus what the clocks differ.
pub const OUTBOUND_EXPIRY_MARGIN: Duration = Duration::from_secs(30);

/// Most bytes of outbound tokens held in memory, whatever `cache.max_entries` says; a token
/// is 1.5 to 4 KiB.
pub const MAX_CACHED_TOKEN_BYTES: usize = 512 * 1024 * 1024;

/// Largest outbound token in bytes: what still fits into the header limit of common servers.
pub const MAX_OUTBOUND_TOKEN_BYTES: usize = 32 * 1024;

/// Pause before the one further try after a provider's 5xx or failed connection (MSAL does the same).
pub const EXCHANGE_RETRY_PAUSE: Duration = Duration::from_secs(1);

/// What a caller is told to wait when a provider is down and gave no `Retry-After`.
pub const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(5);

/// Longest `Retry-After` of a provider that is honoured (MSAL's cap).
pub const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// Most header fields of a request or an answer.
pub const MAX_HEADER_FIELDS: usize = 100;

/// Longest `x-request-id` taken from a trusted proxy, in bytes.
pub const MAX_REQUEST_ID_BYTES: usize = 128;

/// Idle connections kept per upstream; more are closed when their request ends.
pub const MAX_IDLE_UPSTREAM_CONNECTIONS: usize = 512;

/// Access-log bytes that wait for the writer; what does not fit is dropped and counted.
pub const MAX_BUFFERED_LOG_BYTES: usize = 8 * 1024 * 1024;

/// Most segments of a route's path: how deep a lookup can recurse. Azure Resource Manager's
/// longest documented paths have about 20.
pub const MAX_PATTERN_SEGMENTS: usize = 64;

/// Most names (`{name}`, `{*name}`) in a route's path; their places are kept in an array of
/// this size for each request, so that a lookup allocates nothing.
pub const MAX_PATTERN_NAMES: usize = 16;

/// Longest host name in bytes (RFC 1035 §2.3.4, without the root's dot).
pub const MAX_HOST_BYTES: usize = 253;

/// Longest label of a host name in bytes (RFC 1035 §2.3.4).
pub const MAX_HOST_LABEL_BYTES: usize = 63;
