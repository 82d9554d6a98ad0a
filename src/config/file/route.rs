//! `routes`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::spanned::{List, OneOrMany, Spanned, Table};
use super::super::value::{
    Count, Period, PeriodOrZero, RedirectStatus, SizeLimit, Status, Text, Timeout, Upgrade,
};
use super::upstream::TokenSource;
use crate::secret::Secret;

/// An element of `routes`.
// There are many: what few of them have is boxed.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct Route {
    /// What logs and metrics call it. Default: made from the path.
    pub name: Option<Spanned<Text>>,
    /// Which requests it takes. Required.
    pub r#match: Spanned<Match>,
    /// Who may call it. Required.
    pub auth: Spanned<Auth>,
    /// The upstream that requests go to, by name. Either this, `respond` or `redirect` is
    /// required.
    pub upstream: Option<Spanned<Text>>,
    /// An answer of the gateway's own.
    pub respond: Option<Box<Spanned<Respond>>>,
    /// A redirect.
    pub redirect: Option<Box<Spanned<Redirect>>>,
    /// How the path is changed. Default: it is not.
    pub rewrite: Option<Spanned<Rewrite>>,
    /// In place of the upstream's `token`.
    pub token: Option<Box<Spanned<TokenSource>>>,
    /// Claims of the caller's token that go on as headers: claim, then header.
    #[serde(default)]
    pub forward_claims: Table<Spanned<Text>>,
    /// Changes to the request's headers.
    #[serde(default)]
    pub request_headers: HeaderChanges,
    /// Changes to the response's headers.
    #[serde(default)]
    pub response_headers: HeaderChanges,
    /// To the response's head, or `off`. Default: the upstream's `timeouts.response`.
    pub timeout: Option<Spanned<Timeout>>,
    /// Largest request body. Default: `server.max_body_bytes`.
    pub max_body_bytes: Option<Spanned<SizeLimit>>,
    /// What becomes of `%2F` and `%5C` in a path. Default: `reject`.
    #[serde(default)]
    pub encoded_slashes: EncodedSlashes,
    /// What callers' connections may become, as `Upgrade` names it; all but `websocket` over HTTP/1.1
    /// only, and passed through unread. Default: `[websocket]`; `[]` for none.
    pub upgrades: Option<Spanned<Vec<Spanned<Upgrade>>>>,
    /// Whether a stream goes on when the inbound token has expired: a `WebSocket`, event streams, gRPC,
    /// and all else whose length nobody said. Default: `false`.
    pub outlive_token: Option<Spanned<bool>>,
    /// Whether answers, refusals too, say in `Server-Timing` how long things took: `auth`, `exchange`
    /// and `upstream`, in milliseconds, beside what the upstream says there itself. Default: `false`.
    #[serde(default)]
    pub server_timing: bool,
    /// Which web pages of other origins may call it, and read its answers. Default: none.
    pub cors: Option<Box<Spanned<Cors>>>,
    /// How often it may be called. Default: no limit.
    pub rate_limit: Option<Box<Spanned<RateLimit>>>,
}

/// `match`: all that is given must hold.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct Match {
    /// The path: `{name}` is one segment, `{*name}` the rest, which may be empty. Required.
    pub path: Spanned<Text>,
    /// One of these hosts; `*.` stands for one label or more. Default: all.
    pub hosts: Option<List<Spanned<Text>>>,
    /// One of these methods; GET includes HEAD. Default: all.
    pub methods: Option<List<Spanned<Text>>>,
    /// Each of these headers with this value.
    #[serde(default)]
    pub headers: Table<Spanned<String>>,
    /// Each of these query parameters with this value; a repeated one has it each time.
    #[serde(default)]
    pub query: Table<Spanned<String>>,
    /// Whether the path's letters match in either case. Default: `false`.
    #[serde(default)]
    pub ignore_case: bool,
}

/// `auth`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename = "$word or mapping", rename_all = "lowercase")]
#[schemars(rename = "WordOr_Auth")]
pub enum Auth {
    /// Everybody: no token is asked for, and one that came is removed.
    None,
    /// Everybody with a valid token of any provider.
    Any,
    /// Those whose token has all of this.
    #[serde(rename = "$mapping")]
    Rules(Box<AuthRules>),
}

/// What a token must have beyond being valid; `scopes` and `roles` together are alternatives.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AuthRules {
    /// Issued by one of these, by name. Default: all.
    pub providers: Option<List<Spanned<Text>>>,
    /// Any one of these scopes.
    pub scopes: Option<List<Spanned<Text>>>,
    /// Any one of these roles.
    pub roles: Option<List<Spanned<Text>>>,
    /// Which kind of caller it speaks for. Default: `any`.
    pub callers: Callers,
    /// One of these clients, by id.
    pub clients: Option<List<Spanned<Text>>>,
    /// One of these tenants, by id.
    pub tenants: Option<List<Spanned<Text>>>,
    /// For every claim any one of the values; a dotted path for a nested claim.
    pub claims: Option<Spanned<Table<OneOrMany<Spanned<Text>>>>>,
}

/// `callers`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Callers {
    /// Users and applications.
    #[default]
    Any,
    /// Users only.
    Users,
    /// Applications that call in their own name only.
    Apps,
}

/// `respond`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct Respond {
    /// The status, 200 to 599. Required.
    pub status: Spanned<Status>,
    /// The headers, by name. Default: none.
    #[serde(default)]
    pub headers: Table<Spanned<String>>,
    /// The body. Default: empty.
    #[serde(default)]
    pub body: String,
}

/// `redirect`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct Redirect {
    /// What `Location` says. Required.
    pub to: Spanned<Text>,
    /// The status. Default: `308`, which keeps the method.
    #[serde(default)]
    pub status: RedirectStatus,
}

impl Default for RedirectStatus {
    fn default() -> Self {
        Self(http::StatusCode::PERMANENT_REDIRECT)
    }
}

/// `rewrite`: exactly one key.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename = "$one of", rename_all = "snake_case")]
#[schemars(rename = "OneOf_Rewrite")]
pub enum Rewrite {
    /// What is taken off the beginning of the path.
    StripPrefix(Spanned<Text>),
    /// What replaces the path, with the names of `match.path`.
    Path(Spanned<Text>),
}

/// `request_headers` and `response_headers`. Values are secrets, since some are API keys.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HeaderChanges {
    /// Headers that replace any of their name.
    pub set: Table<Spanned<Secret>>,
    /// Headers that are added to any of their name.
    pub add: Table<OneOrMany<Spanned<Secret>>>,
    /// Names of headers that are removed.
    pub remove: Vec<Spanned<Text>>,
}

/// `cors`: the gateway answers preflights by it, and replaces what the upstream says of this.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct Cors {
    /// Origins as browsers write them; `*.` stands for one label of a host or more; or `"*"` alone
    /// for all. Required.
    pub origins: List<Spanned<Text>>,
    /// Methods that pages may use. Default: all that the route takes.
    pub methods: Option<List<Spanned<Text>>>,
    /// Headers that pages may send, or `"*"` alone for all. Default: [`Cors::DEFAULT_HEADERS`].
    pub headers: Option<Vec<Spanned<Text>>>,
    /// Headers that pages may read beside `www-authenticate`, `x-request-id` and `retry-after`, or
    /// `"*"` alone for all. Default: none.
    #[serde(default)]
    pub expose: Vec<Spanned<Text>>,
    /// How long a browser may remember the answer to a preflight, 24 h at most. Default:
    /// [`Cors::DEFAULT_MAX_AGE`].
    #[serde(default = "Cors::default_max_age")]
    pub max_age: Spanned<PeriodOrZero>,
    /// Whether pages may send cookies and client certificates too. Tokens need no such leave.
    /// Default: `false`.
    #[serde(default)]
    pub credentials: bool,
}

impl Cors {
    /// What a call with a token and a body has.
    pub const DEFAULT_HEADERS: [&'static str; 2] = ["authorization", "content-type"];
    /// 10 min: a changed file is in force for all pages soon.
    pub const DEFAULT_MAX_AGE: PeriodOrZero = PeriodOrZero(Duration::from_mins(10));

    fn default_max_age() -> Spanned<PeriodOrZero> {
        Spanned::default_of(Self::DEFAULT_MAX_AGE)
    }
}

/// `rate_limit`: a burst of requests at once, which comes back at the rate of `requests` in `per`;
/// what is beyond it is refused. Each replica counts for itself unless it is `shared`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct RateLimit {
    /// So many requests. Required.
    pub requests: Spanned<Count>,
    /// In this time. Default: [`RateLimit::DEFAULT_PER`].
    #[serde(default = "RateLimit::default_per")]
    pub per: Period,
    /// Most at once. Default: `requests`.
    pub burst: Option<Spanned<Count>>,
    /// Whose requests are counted together. Default: `user`; on an open route, `ip`.
    pub by: Option<Spanned<LimitBy>>,
    /// Whether replicas count together, in `cache.redis`; while that does not answer, each for itself.
    /// Default: `false`.
    pub shared: Option<Spanned<bool>>,
}

impl RateLimit {
    /// 1 s: the usual way to speak of a rate.
    pub const DEFAULT_PER: Period = Period(Duration::from_secs(1));

    fn default_per() -> Period {
        Self::DEFAULT_PER
    }
}

/// `by` of `rate_limit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LimitBy {
    /// Each user of a provider and tenant; an application in its own name counts as one.
    User,
    /// Each client application of a provider, for all its users.
    Client,
    /// Each address, as `trusted_proxies` say; of IPv6, each network of 64 bits.
    Ip,
    /// All together.
    Route,
}

/// `encoded_slashes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EncodedSlashes {
    /// The request is refused.
    #[default]
    Reject,
    /// They stay as they are.
    Keep,
}
