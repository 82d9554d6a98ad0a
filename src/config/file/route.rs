//! `routes`.

use serde::Deserialize;

use super::super::spanned::{List, NotYet, OneOrMany, Spanned, Table};
use super::super::value::{RedirectStatus, SizeLimit, Status, Text, Timeout, Upgrade};
use super::upstream::{OnlyFalse, TokenSource};
use crate::secret::Secret;

/// An element of `routes`.
#[derive(Clone, Debug, Deserialize)]
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
    pub respond: Option<Spanned<Respond>>,
    /// A redirect.
    pub redirect: Option<Spanned<Redirect>>,
    /// How the path is changed. Default: it is not.
    pub rewrite: Option<Spanned<Rewrite>>,
    /// In place of the upstream's `token`.
    pub token: Option<Spanned<TokenSource>>,
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
    /// Default: `reject`.
    #[serde(default)]
    pub encoded_slashes: EncodedSlashes,
    /// What callers' connections may become, as `Upgrade` names it; all but `websocket` over HTTP/1.1
    /// only, and passed through unread. Default: `[websocket]`; `[]` for none.
    pub upgrades: Option<Spanned<Vec<Spanned<Upgrade>>>>,
    /// Whether a stream goes on when the inbound token has expired: WebSockets, event streams, gRPC,
    /// and all else whose length nobody said. Default: `false`.
    pub outlive_token: Option<Spanned<bool>>,
    /// Whether answers say how long things took. Default: `false`.
    #[serde(default)]
    pub server_timing: OnlyFalse,
    /// Which web pages may call it.
    pub cors: Option<NotYet>,
    /// How often it may be called.
    pub rate_limit: Option<NotYet>,
}

/// `match`: all that is given must hold.
#[derive(Clone, Debug, Deserialize)]
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
#[derive(Clone, Debug, Deserialize)]
#[serde(rename = "$word or mapping", rename_all = "lowercase")]
pub enum Auth {
    /// Everybody: no token is asked for, and one that came is removed.
    None,
    /// Everybody with a valid token of any provider.
    Any,
    /// Those whose token has all of this.
    #[serde(rename = "$mapping")]
    Rules(AuthRules),
}

/// What a token must have beyond being valid; `scopes` and `roles` together are alternatives.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct AuthRules {
    /// Issued by one of these, by name. Default: all.
    pub providers: Option<List<Spanned<Text>>>,
    /// Any one of these scopes.
    pub scopes: Option<List<Spanned<Text>>>,
    /// Any one of these roles.
    pub roles: Option<List<Spanned<Text>>>,
    /// Default: `any`.
    pub callers: Callers,
    /// One of these clients, by id.
    pub clients: Option<List<Spanned<Text>>>,
    /// One of these tenants, by id.
    pub tenants: Option<List<Spanned<Text>>>,
    /// For every claim any one of the values; a dotted path for a nested claim.
    pub claims: Option<Spanned<Table<OneOrMany<Spanned<Text>>>>>,
}

/// `callers`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
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
#[derive(Clone, Debug, Deserialize)]
pub struct Respond {
    /// Required.
    pub status: Spanned<Status>,
    /// Default: none.
    #[serde(default)]
    pub headers: Table<Spanned<String>>,
    /// Default: empty.
    #[serde(default)]
    pub body: String,
}

/// `redirect`.
#[derive(Clone, Debug, Deserialize)]
pub struct Redirect {
    /// What `Location` says. Required.
    pub to: Spanned<Text>,
    /// Default: 308, which keeps the method.
    #[serde(default)]
    pub status: RedirectStatus,
}

impl Default for RedirectStatus {
    fn default() -> Self {
        Self(http::StatusCode::PERMANENT_REDIRECT)
    }
}

/// `rewrite`: exactly one key.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename = "$one of", rename_all = "snake_case")]
pub enum Rewrite {
    /// What is taken off the beginning of the path.
    StripPrefix(Spanned<Text>),
    /// What replaces the path, with the names of `match.path`.
    Path(Spanned<Text>),
}

/// `request_headers` and `response_headers`. Values are secrets, since some are API keys.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct HeaderChanges {
    /// Headers that replace any of their name.
    pub set: Table<Spanned<Secret>>,
    /// Headers that are added to any of their name.
    pub add: Table<OneOrMany<Spanned<Secret>>>,
    /// Names of headers that are removed.
    pub remove: Vec<Spanned<Text>>,
}

/// `encoded_slashes`: what becomes of `%2F` and `%5C` in a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EncodedSlashes {
    /// The request is refused.
    #[default]
    Reject,
    /// They stay as they are.
    Keep,
}
