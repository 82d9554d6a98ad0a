//! Limits of the cache that replicas share (`cache.redis`), and of what is remembered for it.

use std::time::Duration;

/// Longest value of the shared cache that is opened, in bytes: a token of the largest size that is
/// kept, what is said of it, and its padding. A longer one is not ours.
pub const MAX_SHARED_VALUE_BYTES: usize = 64 * 1024;

/// Values of the shared cache take up whole blocks of so many bytes in Redis' memory, longer ones of
/// more: tokens of users with more and with fewer roles look alike.
pub const SHARED_VALUE_BLOCK_BYTES: usize = 512;

/// Time to reach one server of the shared cache, handshakes and login included; requests don't wait
/// for it.
pub const SHARED_STORE_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Longest wait until it is found of which servers the shared cache is, and until all is read that is
/// put up there for replicas. No request waits for either.
pub const SHARED_STORE_LONGEST_ANSWER: Duration = Duration::from_secs(10);

/// Longest `cache.redis.timeout` about which nothing is said: with more of it a Redis that hangs costs a
/// request more than the exchange that it saves.
pub const SHARED_STORE_USUAL_TIMEOUT: Duration = Duration::from_secs(1);

/// Most masters of a cluster that is a shared cache; Redis itself advises against more.
pub const MAX_SHARDS: usize = 1000;

/// After so many failures in a row a server of the shared cache is left out of the way of requests: one
/// more of them would wait as long for nothing.
pub const SHARED_STORE_FAILURES: u32 = 5;

/// First pause before the shared cache is connected to again; doubles up to [`SHARED_STORE_PAUSE_MAX`],
/// half of it left to chance, so that replicas do not come back at once.
pub const SHARED_STORE_PAUSE_MIN: Duration = Duration::from_millis(100);

/// Longest pause between two tries to reach the shared cache, and how long it must have been there for
/// the pauses to be short again.
pub const SHARED_STORE_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Shortest time between two lines of the log about answers of the shared cache that are refusals or
/// can't be read: each request may meet one.
pub const SHARED_STORE_COMPLAINT_PAUSE: Duration = Duration::from_mins(1);

/// How long the right to exchange for all replicas lasts unless its holder renews it: so long others
/// wait for one that died, and so long a holder may stand still.
pub const SHARED_LEASE: Duration = Duration::from_secs(2);

/// Longest wait for the exchange of another replica: as long as it says that it is at it, which is as
/// long as an exchange takes that waits for its lane and is tried twice. Then this one asks by itself.
pub const SHARED_WAIT: Duration = Duration::from_secs(20);

/// First pause between two looks at whether another replica has got the token; doubles up to
/// [`SHARED_POLL_MAX`].
pub const SHARED_POLL_MIN: Duration = Duration::from_millis(10);

/// Longest pause between two such looks: what sharing adds to a slow exchange at most.
pub const SHARED_POLL_MAX: Duration = Duration::from_millis(100);

/// How far the clocks of replicas may differ: a token that was asked for later than that from now is
/// not believed.
pub const SHARED_CLOCK_SKEW: Duration = Duration::from_mins(1);

/// Longest life of a token that is taken from another replica; Entra's are up to 28 hours with CAE.
pub const MAX_SHARED_TOKEN_LIFE: Duration = Duration::from_hours(7 * 24);

/// How long a token that was refused is not taken from the shared cache, whatever it holds; then it
/// is dropped there, or expired.
pub const BARRED_FOR: Duration = Duration::from_hours(2);

/// Most such tokens, over all users.
pub const MAX_BARRED: usize = 10_000;

/// Most refused tokens that wait to be dropped from the shared cache while it is away; then the oldest are
/// given up, and live there until they end. As many as are remembered to be refused, at most 3 MB.
pub const MAX_ERASURES: usize = 10_000;

/// How many of them are dropped at a time.
pub const ERASED_AT_ONCE: usize = 32;

/// Most forgettings (`DELETE /api/v1/cache`) that are remembered each by itself, in memory and in the
/// shared cache, over all upstreams and users. Where there were more, tokens that were asked for before the
/// oldest of these are not taken from the shared cache, whoever they are for.
pub const MAX_FORGETTINGS: usize = 1000;

/// Longest notice of a forgetting in the shared cache, in bytes, sealed; ours have half of that. A longer
/// one is not ours.
pub const MAX_SHARED_NOTICE_BYTES: usize = 1024;

/// Longest answer that says that there is another notice, in bytes: the notice and what stands around it.
pub const MAX_SHARED_NOTICE_ANSWER_BYTES: usize = 4 * MAX_SHARED_NOTICE_BYTES;

/// What may come over a connection to the shared cache for each byte that it was asked: a question of 130
/// bytes, the shortest for a value, has one of [`MAX_SHARED_VALUE_BYTES`] for an answer.
pub const SHARED_ANSWER_BYTES_PER_ASKED: usize = 600;

/// What may come behind any question: the slots of the largest cluster, or a page of notices.
pub const MIN_SHARED_ANSWERS_BYTES: usize = 1024 * 1024;

/// Most that may come whatever was asked, over one connection. A thousand requests that ask at once get
/// values of the usual size by it.
pub const MAX_SHARED_ANSWERS_BYTES: usize = 32 * 1024 * 1024;

/// How many notices are read at once.
pub const SHARED_NOTICES_PAGE: usize = 50;

/// How long the shared cache holds what was to be forgotten: longer than any token that is taken from
/// it lives.
pub const SHARED_NOTICES_KEPT: Duration = Duration::from_hours(8 * 24);

/// How long a replica waits for the next notice before it looks whether those that it read are still
/// there: so long it may take to hear of one after the shared cache lost all it had.
pub const SHARED_NOTICES_WAIT: Duration = Duration::from_secs(5);

/// How long a replica may hear nothing of what is to be forgotten until it leaves the shared cache out: tokens
/// are there that another replica was told to forget.
pub const SHARED_NOTICES_MISSED: Duration = Duration::from_secs(15);

/// How long whoever asks for a forgetting waits for the shared cache to take it.
pub const SHARED_ANNOUNCEMENT_PATIENCE: Duration = Duration::from_secs(2);

/// How many tokens are dropped at once when many are forgotten; exchanges that end meanwhile wait for
/// that.
pub const FORGOTTEN_AT_ONCE: usize = 256;
