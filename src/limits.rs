//! Every limit that the routes file does not set, with its unit and its reason.
//!
//! Defaults of limits that the routes file does set stand beside their keys in `config/file/`.

mod admin;
mod exchange;
mod shared_cache;

use std::time::Duration;

pub use self::admin::*;
pub use self::exchange::*;
pub use self::shared_cache::*;

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

/// Longest link of a JSON answer in bytes, as it is written, that is put in place of another
/// (`rewrite_links`): so much of an answer is held back at most. Skip tokens of Graph reach about
/// 4 KiB, and a link that is longer than a request's head may be can't be called.
pub const MAX_LINK_BYTES: usize = 32 * 1024;

/// Piece of an answer in bytes that is searched for links at a time, compressed answers as they
/// are without compression: what a small answer that unfolds to gigabytes makes us hold.
pub const LINK_PIECE_BYTES: usize = 16 * 1024;

/// Most routes that are tried for one link, that of the request first: a hostile answer is full
/// of links.
pub const MAX_LINK_ROUTES: usize = 16;

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

/// Most bytes that verified tokens are charged, whatever their number: room for the whole
/// [`MAX_VERIFIED_TOKENS`] of ordinary size (1.1 KiB), and for 8000 of the largest.
pub const MAX_VERIFIED_BYTES: usize = 512 * 1024 * 1024;

/// What a byte of a verified token is charged in bytes of memory: the token is not kept, its
/// claims are, as text of three quarters of its length. A list of roles, the worst of what providers
/// send, takes its share of the token up to 5 times besides (a text of its own for each, 1.5 times where
/// they are as long as a GUID); the rest is the allocator's.
pub const VERIFIED_BYTES_PER_TOKEN_BYTE: usize = 4;

/// Longest DPoP proof in bytes, before anything of it is decoded: one of an RSA key of 8,192 bits
/// has about 5 KiB, one of an EC key 600 bytes.
pub const MAX_PROOF_BYTES: usize = 8 * 1024;

/// Longest `jti` of a DPoP proof in bytes; real ones are random and have 16 to 43.
pub const MAX_JTI_BYTES: usize = 256;

/// How far `iat` of a DPoP proof may lie before or behind our time: what the clocks of callers
/// differ, and the time that a request is on its way. A proof is made for one request, so this is
/// short (RFC 9449 §11.1), and has nothing to do with the `clock_skew` of a provider.
pub const PROOF_WINDOW: Duration = Duration::from_mins(1);

/// Most DPoP proofs remembered at once, for the minute or two in which each could come again: 2,000
/// requests a second, in about 20 MB; at worst, each of another key, 120 MB. With more, the key
/// with the most has its oldest forgotten, and what it made so long ago is refused.
pub const MAX_REMEMBERED_PROOFS: usize = 262_144;

/// How far the clocks of providers and of those whose tokens they take may differ from ours:
/// what is over for longer is over for them too.
pub const CLOCK_DIFFERENCE: Duration = Duration::from_mins(5);

/// Between two looks at the files that the configuration was made of. A change is acted on when
/// the next look finds no further one, so that no file is read half written.
pub const FILE_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Most header fields of a request or an answer.
pub const MAX_HEADER_FIELDS: usize = 100;

/// Longest `x-request-id` taken from a trusted proxy, in bytes.
pub const MAX_REQUEST_ID_BYTES: usize = 128;

/// Idle connections kept per endpoint of an upstream, by all workers together, each of which has the same share;
/// more are closed when their request ends.
pub const MAX_IDLE_UPSTREAM_CONNECTIONS: usize = 512;

/// The least share of [`MAX_IDLE_UPSTREAM_CONNECTIONS`]; with more than 32 workers there may be more idle ones.
pub const MIN_IDLE_OF_A_WORKER: usize = 16;

/// Between two looks whether idle connections of an upstream were closed by the other side: so long
/// may the socket of one that was stay open here.
pub const IDLE_UPSTREAM_LOOK: Duration = Duration::from_secs(1);

/// How long the last bytes of a request may take to an upstream that has answered it already. They
/// are those in our buffers, less than 100 KiB: nobody waits for them, and their connection is closed.
pub const REQUEST_TAIL_TIMEOUT: Duration = Duration::from_secs(30);

/// Idle connections of an upstream that a request finds closed, one after the other, before it leaves
/// the rest to a task and has a new one made: each look costs it some microseconds.
pub const DEAD_CONNECTIONS_IN_A_ROW: usize = 4;

/// Idle connections of an upstream that are looked at in one go, before other tasks have their turn.
pub const IDLE_CONNECTIONS_PER_TURN: usize = 32;

/// How old the addresses of an upstream's name get before it is looked up again. The system's
/// resolver tells no time to live; this is that of names that are made to move.
pub const NAME_AGE: Duration = Duration::from_secs(30);

/// How long after a connection failed its name is looked up again: the service may have moved.
pub const NAME_DOUBT: Duration = Duration::from_secs(2);

/// Shortest time between the end of a look-up that failed and the next one: what a name that is
/// not there costs the resolver.
pub const NAME_RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Most addresses of one name that are used: a hundred pods behind a headless service, and
/// room; of more, the first. Each costs 300 bytes and its connections.
pub const MAX_ADDRESSES: usize = 128;

/// Addresses of one name that a request finds closed before it gives up or counts a further try:
/// both families of a few machines. More would be a storm when all of many are down.
pub const MAX_ADDRESSES_WALKED: usize = 8;

/// How long others are asked before an endpoint to which a connection failed: one address family
/// that leads nowhere, or one machine that is off, costs a request in so long its time to connect.
pub const SHUNNED_TIME: Duration = Duration::from_secs(10);

/// Longest time that an endpoint is left alone for failed requests, unless `base` is longer
/// (Envoy's number).
pub const MAX_EJECTION: Duration = Duration::from_mins(5);

/// Largest head of an answer to a health check in bytes; real ones have a few hundred.
pub const MAX_HEALTH_ANSWER_BYTES: usize = 64 * 1024;

/// Shortest time that callers of an upstream without healthy endpoints are told to wait.
pub const MIN_OUTAGE_RETRY: Duration = Duration::from_secs(1);

/// Most endpoints that one line of the log names.
pub const MAX_ENDPOINTS_SAID: usize = 16;

/// Access-log bytes that wait for the writer; what does not fit is dropped and counted.
pub const MAX_BUFFERED_LOG_BYTES: usize = 8 * 1024 * 1024;

/// Of the room for them, bytes that are kept from batch to batch, twice: what 50,000 requests a second
/// leave in [`LOG_BATCH_PAUSE`]. Given back, they would be asked for again at once, page by page.
pub const KEPT_LOG_BYTES: usize = 256 * 1024;

/// Bytes of a connection that was upgraded that wait to be taken, in each direction; while none
/// waits none is held. Flow control of HTTP/2 and TLS have buffers of their own.
pub const UPGRADE_BUFFER_BYTES: usize = 16 * 1024;

/// How long the gateway takes to say goodbye on an upgraded connection that it ends itself: to come
/// to the end of a frame, to say so, and to hear that it was heard. Less than [`CLOSING_TIMEOUT`].
pub const UPGRADE_FAREWELL: Duration = Duration::from_millis(800);

/// How long one side of a WebSocket stays open when the other has ended: for what is on its way.
pub const WEBSOCKET_HALF_OPEN: Duration = Duration::from_secs(10);

/// Longest wait for the end of a token before the wall's clock is looked at again: it may have been
/// set meanwhile.
pub const TOKEN_END_LOOK: Duration = Duration::from_mins(5);

/// Flow-control window of one HTTP/2 stream in bytes: what a slow reader makes us hold.
pub const HTTP2_STREAM_WINDOW: u32 = 256 * 1024;

/// Flow-control window of one HTTP/2 connection to an upstream in bytes: 256 times
/// [`HTTP2_STREAM_WINDOW`], more streams than servers allow. All share the connection, and with a
/// smaller one a few callers who take nothing would hold up everybody else.
pub const HTTP2_CONNECTION_WINDOW: u32 = 64 * 1024 * 1024;

/// Flow-control window of a caller's HTTP/2 connection in bytes: what of its requests' bodies nobody has
/// read yet. Whoever fills it up holds up its own requests only.
pub const HTTP2_CALLER_WINDOW: u32 = 1024 * 1024;

/// Most bytes that are read from a connection of HTTP/1.1 in one go, and written to one while a body flows:
/// with each doubling there are half as many calls of the system, and wake-ups on the other side; at 64 KiB they
/// cost as much as the bytes. hyper would go up to 400 KiB, which a reader who takes nothing is not to cost with all
/// that is his. With [`HTTP1_GATHERED_BYTES`] it is also what one who takes nothing can make us
/// hold, as a body waits while its connection is held up (`held_up.rs`); on the way to an upstream, the next
/// ones have been read from the caller, too.
pub const HTTP1_BUFFER_BYTES: usize = 192 * 1024;

/// Bytes of a body behind which no more are gathered before they are written to a connection of HTTP/1.1: less
/// would leave parts to be written that are too small.
pub const HTTP1_GATHERED_BYTES: usize = 64 * 1024;

/// Largest head of an answer over HTTP/1.1 in bytes, as large as that of a request may be by default; its trailers may
/// have as many.
pub const MAX_ANSWER_HEAD_BYTES: usize = 64 * 1024;

/// Most bytes of a body that wait in a stream of HTTP/2 to a caller, flow control aside.
pub const HTTP2_SEND_BYTES: usize = 64 * 1024;

/// Bytes of an answer that go into a stream of HTTP/2 at a time, one DATA frame: the less, the slower a
/// caller may take them before `body_idle_timeout` ends the stream.
pub const HTTP2_PIECE: usize = 16 * 1024;

/// Request body that is kept, in bytes, so that the request can be repeated after a claims
/// challenge of the upstream, a stream that it refused or a 502, 503 or 504; a larger one is not
/// repeated.
pub const REPLAY_BUFFER_BYTES: usize = 64 * 1024;

/// How long the rest of a request body may take to arrive once its upstream has answered with
/// a claims challenge; after that the request is not repeated.
pub const REPLAY_PATIENCE: Duration = Duration::from_secs(1);

/// The time over which retries and requests are counted for the budget of an upstream.
pub const RETRY_WINDOW: Duration = Duration::from_secs(10);

/// Retries in [`RETRY_WINDOW`] that an upstream's budget has whatever the share says: 3 a second,
/// so that an upstream with few requests has retries too.
pub const MIN_RETRIES: u64 = 30;

/// Longest pause before the first retry that meets an endpoint again or follows an answer; it
/// doubles with each further one, up to [`MAX_RETRY_PAUSE`].
pub const RETRY_PAUSE: Duration = Duration::from_millis(25);

/// Longest pause before any retry: what a caller does not notice.
pub const MAX_RETRY_PAUSE: Duration = Duration::from_millis(250);

/// What callers are told to wait who find no connection to an upstream, nor room to wait for one:
/// answers take about as long.
pub const OVERLOADED_RETRY_AFTER: Duration = Duration::from_secs(1);
/// How long the body of a request with `Expect: 100-continue` is held back for an upstream that
/// says nothing: an old or simple one does not know of it (RFC 9110 §10.1.1). curl waits as long.
pub const CONTINUE_PATIENCE: Duration = Duration::from_secs(1);

/// Most bytes of informational answers (1xx) of an upstream that wait for the caller to take
/// them; what comes on top is dropped, as nobody depends on it. Early hints have about 1 KiB.
pub const MAX_WAITING_INTERIM_BYTES: usize = 16 * 1024;

/// Most informational answers passed on for one request: early hints are one or two, and signs of
/// life (102), at one in 20 s, last for more than an hour.
pub const MAX_INTERIM_ANSWERS: usize = 256;

/// How long log lines are gathered before they are written, so that a busy gateway writes a
/// hundred times a second and not once a request.
pub const LOG_BATCH_PAUSE: Duration = Duration::from_millis(10);

/// How long an ending process waits for standard error to take the last lines.
pub const LOG_CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Longest value of a field of the access log in bytes; the rest is cut off.
pub const MAX_LOGGED_VALUE_BYTES: usize = 4 * 1024;

/// Connections that the system holds before they are accepted, per listener; the system may hold fewer.
pub const LISTEN_BACKLOG: i32 = 4096;

/// Pause after a failure to accept that the next try would meet too (no file descriptor left).
pub const ACCEPT_FAILURE_PAUSE: Duration = Duration::from_millis(100);

/// Largest PROXY header (version 2) in bytes: addresses, and extensions of which a TLS certificate
/// is the largest in use. One of version 1 has at most 107 bytes by its own rules.
pub const MAX_PROXY_HEADER_BYTES: usize = 4 * 1024;

/// Streams that a caller may have opened and reset before we saw them (rapid reset); more
/// close the connection.
pub const MAX_PENDING_RESET_STREAMS: usize = 20;

/// Streams of one HTTP/2 connection that may end in an error of the caller's; more close it.
pub const MAX_ERROR_RESET_STREAMS: usize = 128;

/// `RST_STREAM` frames of a caller of HTTP/2 in a second: who gives up so many requests in each second is
/// not waiting for answers (rapid reset).
pub const MAX_H2_RESETS: u32 = 500;

/// SETTINGS frames of a caller in a second; each wants an answer, and a client sends one or two in
/// all.
pub const MAX_H2_SETTINGS: u32 = 50;

/// PING frames of a caller in a second; each wants an answer. gRPC measures with them, one round trip
/// after the other.
pub const MAX_H2_PINGS: u32 = 500;

/// DATA frames of a caller in a second that hold nothing and end nothing. h2 allows 100 in all
/// on a connection.
pub const MAX_H2_EMPTY_DATA: u32 = 100;

/// CONTINUATION frames of a caller in a second; only heads beyond 16 KiB need one.
pub const MAX_H2_CONTINUATIONS: u32 = 100;

/// PRIORITY frames of a caller in a second: what browsers that still send them do for a page.
pub const MAX_H2_PRIORITIES: u32 = 1000;

/// GOAWAY frames, and frames of unknown kinds, of a caller in a second: reserved kinds are sent now and
/// then so that servers keep passing them over.
pub const MAX_H2_OTHERS: u32 = 500;

/// `WINDOW_UPDATE` frames of a caller in a second, beside those for what was written to it.
pub const MAX_H2_WINDOW_UPDATES: u32 = 1000;

/// Bytes written to a caller that one more `WINDOW_UPDATE` frame is allowed for: simple clients send
/// two for each DATA frame, and a small one has 20 bytes.
pub const H2_BYTES_PER_WINDOW_UPDATE: usize = 8;

/// `WINDOW_UPDATE` frames that a caller can have saved up by reading what was written to it.
pub const MAX_H2_SAVED_WINDOW_UPDATES: u32 = 100_000;

/// Most callers that one route's `rate_limit` remembers at a time, about 100 bytes each; whoever
/// may send a whole burst again is forgotten, and beyond so many the ones who used least are.
pub const MAX_RATE_LIMIT_KEYS: usize = 131_072;

/// Longest time that a `rate_limit` may take to give back a whole burst: it is in memory, and a
/// restart gives it back too.
pub const MAX_RATE_LIMIT_REFILL: Duration = Duration::from_hours(31 * 24);

/// Time between HTTP/2 pings to a caller or an upstream: one who vanished without a word holds
/// a connection no longer than this and [`H2_PING_TIMEOUT`].
pub const H2_PING_INTERVAL: Duration = Duration::from_secs(30);

/// How long the answer to such a ping may take.
pub const H2_PING_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a connection that is to close may take for its last bytes (the 408, the GOAWAY).
pub const CLOSING_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a connection of HTTP/1.1 is between two requests before it gives back the parser and its
/// buffers (over 16 KiB): a caller with more requests comes sooner, one who waits for a person later.
pub const REST_AFTER: Duration = Duration::from_millis(250);

/// What a connection without a request is given when the end begins, for a request that is on its way:
/// a round trip to the other side of the world is 0.3 s, and one who learns of the end that late would
/// lose it. A connection that was waiting to be accepted has as long for each step to its first request.
pub const DRAIN_MOMENT: Duration = Duration::from_secs(1);

/// Sockets that a supervisor may pass in (`LISTEN_FDS`): one for each address, of which even large
/// machines have tens. Each is looked up one after the other at the start.
pub const MAX_PASSED_SOCKETS: usize = 1024;

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

/// Requests whose spans wait to be sent; those of further ones are dropped and counted. A request
/// has up to four spans of some 500 bytes, so that this is about 4 MiB, and two seconds of 1,000
/// traced requests a second.
pub const MAX_QUEUED_TRACES: usize = 2048;

/// Spans in one call to a collector, give or take those of a request: the usual size of a batch.
pub const TRACE_BATCH_SPANS: usize = 512;

/// How long the first span of a batch waits for others: a person who looks for a trace does not
/// wait for it.
pub const TRACE_BATCH_DELAY: Duration = Duration::from_secs(1);

/// Tries of one batch; while it is tried, others wait in the queue.
pub const TRACE_ATTEMPTS: u32 = 4;

/// First pause between two tries, which doubles; half of it is chance.
pub const TRACE_RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Longest pause between two tries, whatever `Retry-After` asks for: the queue fills meanwhile.
pub const MAX_TRACE_RETRY_PAUSE: Duration = Duration::from_secs(10);

/// What the end of the process waits for the last spans to be taken.
pub const TRACE_FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Largest answer of a collector in bytes; it says OK, or a sentence.
pub const MAX_COLLECTOR_ANSWER_BYTES: usize = 64 * 1024;

/// Most characters of a text of a peer's that the log repeats.
pub const MAX_SHOWN_CHARS: usize = 200;

/// Longest text of a caller's in a span (path, host) in bytes; the rest is cut off.
pub const MAX_SPAN_TEXT_BYTES: usize = 1024;

/// Most attributes of the process in `OTEL_RESOURCE_ATTRIBUTES`: each batch carries them all.
pub const MAX_RESOURCE_ATTRIBUTES: usize = 64;

/// How many things `check --online` tries at once; each is a call or two of somebody else's server.
pub const ONLINE_TRIES: usize = 16;

/// Longest `check --online` takes in all: what CI and people at night wait for a command.
pub const ONLINE_TIME: Duration = Duration::from_mins(1);

/// How many addresses of one name `check --online` connects to; a name with more is a farm of
/// servers that are all alike.
pub const MAX_ADDRESSES_TRIED: usize = 16;

/// In how many tenants of a provider of several `check --online` tries a credential.
pub const MAX_TENANTS_TRIED: usize = 16;

/// How long `check --online` waits for the alert of an upstream that asked for a certificate: with TLS 1.3 it comes
/// behind the handshake, and in place of it may come nothing.
pub const ALERT_PATIENCE: Duration = Duration::from_secs(1);
