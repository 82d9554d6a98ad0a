//! Limits of exchanges: what is kept of them, how often a provider is asked, and how long.

use std::time::Duration;

/// How long an outbound token must still live to be used: the time it takes to reach the
/// upstream and be judged there, plus what the clocks differ.
pub const OUTBOUND_EXPIRY_MARGIN: Duration = Duration::from_secs(30);

/// Shortest time between two drops of a user's outbound token that an upstream refused: one
/// that was exchanged a moment ago and is refused will be refused again, and each drop costs
/// an exchange.
pub const REFUSED_TOKEN_FLOOR: Duration = Duration::from_secs(10);

/// Most such drops remembered, over all users: so many in [`REFUSED_TOKEN_FLOOR`], and no more,
/// can upstreams make us exchange anew.
pub const MAX_REFUSED_TOKENS: usize = 10_000;

/// Most bytes of outbound tokens held in memory, whatever `cache.max_entries` says; a token
/// is 1.5 to 4 KiB.
pub const MAX_CACHED_TOKEN_BYTES: usize = 512 * 1024 * 1024;

/// Largest outbound token in bytes: what still fits into the header limit of common servers.
pub const MAX_OUTBOUND_TOKEN_BYTES: usize = 32 * 1024;

/// Exchanges that wait for their turn, for each that a provider's `max_in_flight` lets go: about
/// what is answered in [`EXCHANGE_QUEUE_WAIT`], at 100 ms an answer.
pub const MAX_QUEUED_PER_EXCHANGE: usize = 64;

/// How long an exchange waits for its turn: after a restart a thousand users come at once, and
/// are served a little later rather than refused.
pub const EXCHANGE_QUEUE_WAIT: Duration = Duration::from_secs(5);

/// Pause before the one further try after a provider's 5xx or failed connection (MSAL does the same).
pub const EXCHANGE_RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Shortest time between two tries to renew a token ahead of its end, give or take half of it by
/// chance: the token in use is good for longer than that.
pub const RENEWAL_PAUSE: Duration = Duration::from_secs(30);

/// Longest time until a renewal is tried again for which the provider had no lane to spare.
pub const RENEWAL_YIELD: Duration = Duration::from_secs(5);

/// Most that a renewal is moved by chance, so that tokens of one minute are not renewed in one
/// minute (MSAL's number).
pub const MAX_RENEWAL_JITTER: Duration = Duration::from_mins(5);

/// How long a request waits for a new token while it has one that is about to expire.
pub const STALE_PATIENCE: Duration = Duration::from_secs(1);

/// How long a refusal of a caller's token is remembered: a client in a loop does not reach the
/// provider, and a user whom an administrator lets in waits a minute.
pub const REFUSAL_MEMORY: Duration = Duration::from_mins(1);

/// How long missing consent, and a refusal of the gateway itself, is remembered: somebody is
/// likely to be mending it.
pub const SHORT_REFUSAL_MEMORY: Duration = Duration::from_secs(30);

/// Most refusals remembered, over all users: about 1 KiB each, 10 KiB with large claims.
pub const MAX_REMEMBERED_REFUSALS: usize = 10_000;

/// The time over which a provider's failures are counted.
pub const BREAKER_WINDOW: Duration = Duration::from_secs(10);

/// Most breakers: one for each provider, tenant, client and scope set that was asked for in
/// [`BREAKER_WINDOW`], about 300 bytes. Calls beyond them go uncounted.
pub const MAX_BREAKERS: usize = 4096;

/// Most tokens of which one breaker remembers in [`BREAKER_WINDOW`] that their exchange failed,
/// 32 bytes each: while calls go on well beside so many that don't. The failures of further ones
/// are counted each.
pub const MAX_BREAKER_TOKENS: usize = 1024;

/// Fewest calls in [`BREAKER_WINDOW`] that say anything about a provider.
pub const BREAKER_MIN_CALLS: u32 = 20;

/// How long a provider that fails sustainedly is not asked, before one call tries it.
pub const BREAKER_PAUSE: Duration = Duration::from_secs(5);

/// What a caller is told to wait when a provider is down and gave no `Retry-After`.
pub const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(5);

/// Longest `Retry-After` of a provider that is honoured (MSAL's cap).
pub const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// One call to the host of a managed identity: IMDS answers in milliseconds what it has, and
/// in a second or two what it has to ask for.
pub const MANAGED_IDENTITY_TIMEOUT: Duration = Duration::from_secs(10);

/// Calls to the host of managed identities at a time: IMDS serves 5 of one machine, and refuses more.
pub const MAX_MANAGED_IDENTITY_CALLS: usize = 5;

/// How long a request waits for a token of a managed identity: for the 7 s of IMDS's usual
/// tries and their calls. What takes longer (IMDS is updated for up to 70 s) goes on without it.
pub const MANAGED_IDENTITY_WAIT: Duration = Duration::from_secs(15);

/// How long a refusal of a managed identity's token is remembered: IMDS throttles a machine that
/// asks 20 times a second, and whoever assigns the identity sees it work soon after.
pub const MANAGED_IDENTITY_REFUSAL_MEMORY: Duration = Duration::from_secs(10);

/// Largest key of the Azure Arc agent in bytes, as Microsoft's libraries take it.
pub const MAX_ARC_KEY_BYTES: u64 = 4096;

/// How long a client assertion by a certificate lives: Microsoft's documents ask for 5 to 10
/// minutes, and it is sent at once.
pub const CERTIFICATE_ASSERTION_LIFE: Duration = Duration::from_mins(5);

/// How long an assertion of `private_key_jwt` lives: the strictest servers take no more.
pub const ASSERTION_LIFE: Duration = Duration::from_mins(2);

/// How far before its making an assertion says that it begins: a provider's clock may be behind
/// ours by so much.
pub const ASSERTION_BACKDATING: Duration = Duration::from_mins(1);

/// Largest `claims` of a challenge in bytes, before base64: what still fits into one header
/// field of common clients. Real ones are below 500 bytes.
pub const MAX_CLAIMS_BYTES: usize = 8 * 1024;

/// Longest `WWW-Authenticate` field of an upstream that is read, in bytes: room for
/// [`MAX_CLAIMS_BYTES`] in base64 and for what stands around it.
pub const MAX_CHALLENGE_BYTES: usize = 16 * 1024;

/// Most `Retry-After` waits remembered at once; one for each provider, tenant, client and
/// scope set that is throttled, and those are few.
pub const MAX_THROTTLES: usize = 10_000;

/// Most terms of exchanges that one client of a provider remembers: those of v1 and v2 tokens of
/// two thousand tenants, at about 1 KiB each. More than that are made anew for each request, at
/// the cost of two digests.
pub const MAX_REMEMBERED_TERMS: usize = 4096;

/// Most expired tokens thrown away when one is put into a cache of tokens: more than come
/// in, so that the dead never pile up, and few enough that no request waits for the broom.
pub const MAX_EXPIRED_SWEPT: usize = 64;
