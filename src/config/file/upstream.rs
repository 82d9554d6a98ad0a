//! `upstreams`, and `token`, which routes have too.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};

use super::super::failure::WrongText;
use super::super::schema::Form;
use super::super::spanned::{List, OneOrMany, Spanned, Table};
use super::super::value::{
    Attempts, HttpUrl, Pending, Percent, Period, RequestPath, Share, Text, Timeout, Times,
    UpstreamConnections, times,
};
use crate::secret::Secret;

/// A value of `upstreams`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Upstream {
    /// A known upstream: fills in `url` and `token` for the provider's cloud; keys beside it
    /// override. Either this, `url` or `urls` is required.
    pub preset: Option<Spanned<Preset>>,
    /// Where it is; a base path is kept. Either this, `urls` or `preset` is required.
    pub url: Option<Spanned<HttpUrl>>,
    /// Where it is, several times: requests are shared by all addresses that their names have. At
    /// most [`Upstream::MAX_URLS`], of one scheme and base path.
    pub urls: Option<Spanned<List<Spanned<HttpUrl>>>>,
    /// What it receives in place of the caller's token. Default: `none: true`.
    pub token: Option<Spanned<TokenSource>>,
    /// Which HTTP it is spoken to. Default: `auto`.
    pub protocol: Spanned<Protocol>,
    /// Which host it is told it was called by. Default: `upstream`.
    pub host_header: HostHeader,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// Whether requests are sent again, and which.
    pub retry: Retry,
    /// How its endpoints share the requests. Default: `least_requests`.
    pub load_balancing: LoadBalancing,
    /// How the health of its endpoints is found out. Default: it is not, and all count as healthy.
    pub health_check: Option<Spanned<HealthCheck>>,
    /// When an endpoint is left alone for a while because requests to it fail. Default: never.
    pub outlier_ejection: Option<Spanned<OutlierEjection>>,
    /// Most connections, over all its addresses, in use or not. Default:
    /// [`Upstream::DEFAULT_MAX_CONNECTIONS`].
    pub max_connections: Option<UpstreamConnections>,
    /// Most requests that wait for one of them, each for `timeouts.connect`; more get 503 at
    /// once. Default: [`Upstream::DEFAULT_MAX_PENDING`].
    pub max_pending: Option<Pending>,
    /// Whether absolute links to it come to lead to the gateway's route: those in `Location`,
    /// `Content-Location`, `Azure-AsyncOperation` and `Operation-Location`, and the members
    /// `@odata.nextLink`, `@odata.deltaLink` and `nextLink` of JSON answers. Default: `false`;
    /// with `preset`, `true`.
    pub rewrite_links: Option<bool>,
    /// How its certificate is judged.
    pub tls: Option<Spanned<UpstreamTls>>,
}

impl Upstream {
    /// 64: with more, a name that has all their addresses does better.
    pub const MAX_URLS: usize = 64;
    /// 1024: what common servers take before they are tuned.
    pub const DEFAULT_MAX_CONNECTIONS: UpstreamConnections = UpstreamConnections(1024);
    /// 1024: one for each connection, so that nobody waits for more than one answer.
    pub const DEFAULT_MAX_PENDING: Pending = Pending(1024);
}

/// `load_balancing` of an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LoadBalancing {
    /// To the one of two endpoints, chosen at random, that has fewer requests on their way.
    #[default]
    LeastRequests,
    /// To one endpoint after the other.
    RoundRobin,
}

/// `health_check` of an upstream: a GET now and then, to each of its endpoints, which is good if
/// the answer is 2xx.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct HealthCheck {
    /// What is asked for, as it stands: a base path of the URL is not put before it. Required.
    pub path: RequestPath,
    /// From the end of one check to the next, give or take a tenth. Default: [`HealthCheck::DEFAULT_INTERVAL`]; at least
    /// [`HealthCheck::MIN_INTERVAL`].
    #[serde(default = "HealthCheck::default_interval")]
    pub interval: Spanned<Period>,
    /// How long one may take, connecting included. Default: [`HealthCheck::DEFAULT_TIMEOUT`].
    #[serde(default = "HealthCheck::default_timeout")]
    pub timeout: Period,
    /// So many good ones in a row make an endpoint healthy again. Default:
    /// [`HealthCheck::DEFAULT_HEALTHY_AFTER`].
    #[serde(default = "HealthCheck::default_healthy_after")]
    pub healthy_after: Times,
    /// So many bad ones in a row make it unhealthy. Default:
    /// [`HealthCheck::DEFAULT_UNHEALTHY_AFTER`].
    #[serde(default = "HealthCheck::default_unhealthy_after")]
    pub unhealthy_after: Times,
}

impl HealthCheck {
    /// 10 s: an endpoint that dies in silence is out within half a minute.
    pub const DEFAULT_INTERVAL: Period = Period(Duration::from_secs(10));
    /// 10 ms: a hundred checks a second of each endpoint, as tests may want them.
    pub const MIN_INTERVAL: Duration = Duration::from_millis(10);
    /// 2 s: whoever takes longer to say so is not well.
    pub const DEFAULT_TIMEOUT: Period = Period(Duration::from_secs(2));
    /// Two: one may be chance.
    pub const DEFAULT_HEALTHY_AFTER: Times = times(2);
    /// Three: two lost packets are none of its faults.
    pub const DEFAULT_UNHEALTHY_AFTER: Times = times(3);

    fn default_interval() -> Spanned<Period> {
        Spanned::default_of(Self::DEFAULT_INTERVAL)
    }

    fn default_timeout() -> Period {
        Self::DEFAULT_TIMEOUT
    }

    fn default_healthy_after() -> Times {
        Self::DEFAULT_HEALTHY_AFTER
    }

    fn default_unhealthy_after() -> Times {
        Self::DEFAULT_UNHEALTHY_AFTER
    }
}

/// `outlier_ejection` of an upstream. What counts as a failure: an answer of 5xx, a connection
/// that can't be made or breaks, and silence past a timeout.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default)]
pub struct OutlierEjection {
    /// After so many without a success in between. Default:
    /// [`OutlierEjection::DEFAULT_CONSECUTIVE_FAILURES`].
    pub consecutive_failures: Times,
    /// For so long; the second time twice, and so on, up to 5 minutes. Default:
    /// [`OutlierEjection::DEFAULT_BASE`].
    pub base: Period,
    /// At most so many endpoints of a hundred at a time, rounded down, and never the last that
    /// takes requests; with `100` that one, too. Default:
    /// [`OutlierEjection::DEFAULT_MAX_PERCENT`].
    pub max_percent: Percent,
}

impl OutlierEjection {
    /// Five, as Envoy counts.
    pub const DEFAULT_CONSECUTIVE_FAILURES: Times = times(5);
    /// 30 s: time to restart.
    pub const DEFAULT_BASE: Period = Period(Duration::from_secs(30));
    /// 50: the other half carries twice its load at worst.
    pub const DEFAULT_MAX_PERCENT: Percent = Percent(50);
}

impl Default for OutlierEjection {
    fn default() -> Self {
        Self {
            consecutive_failures: Self::DEFAULT_CONSECUTIVE_FAILURES,
            base: Self::DEFAULT_BASE,
            max_percent: Self::DEFAULT_MAX_PERCENT,
        }
    }
}

/// `retry` of an upstream: which requests are sent again, in the hope of another outcome.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Retry {
    /// Tries in all; 1 is none but the first. Default: [`Retry::DEFAULT_ATTEMPTS`].
    pub attempts: Option<Attempts>,
    /// After what; the list takes the place of the default. Default:
    /// `[connect_failure, refused_stream]`.
    pub on: Option<List<Spanned<RetryOn>>>,
    /// Most further tries of the last 10 s, as a share of the requests in that time; 3 a second
    /// there may always be. Default: [`Retry::DEFAULT_BUDGET`].
    pub budget: Option<Share>,
}

impl Retry {
    /// 2: one for the endpoint that is down, one for another.
    pub const DEFAULT_ATTEMPTS: Attempts = Attempts(2);
    /// 20%: an upstream in trouble gets a fifth more to do at most.
    pub const DEFAULT_BUDGET: Share = Share(20);
}

/// A word of `on`: after what a request is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum RetryOn {
    /// No connection could be made, so nothing was sent. Any request.
    #[serde(rename = "connect_failure")]
    ConnectFailure,
    /// The upstream says that it did not look at it (HTTP/2). Any request whose body is there yet.
    #[serde(rename = "refused_stream")]
    RefusedStream,
    /// This status. Requests that may happen twice and whose body is there yet.
    #[serde(rename = "502")]
    BadGateway,
    /// This status. Requests that may happen twice and whose body is there yet.
    #[serde(rename = "503")]
    Unavailable,
    /// This status. Requests that may happen twice and whose body is there yet.
    #[serde(rename = "504")]
    GatewayTimeout,
}

/// `preset` of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Microsoft Graph.
    Graph,
    /// Azure Resource Manager.
    Arm,
}

/// `protocol` of an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// What ALPN finds; HTTP/1.1 without TLS.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2; with prior knowledge without TLS.
    Http2,
}

/// `host_header` of an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HostHeader {
    /// That of its URL.
    #[default]
    Upstream,
    /// That of the caller's request.
    Client,
}

/// `timeouts` of an upstream.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Timeouts {
    /// To connect, TLS included. Default: [`Timeouts::DEFAULT_CONNECT`].
    pub connect: Period,
    /// To the response's head, or `off`. Default: [`Timeouts::DEFAULT_RESPONSE`].
    pub response: Option<Timeout>,
    /// Without a byte of the response's body, or `off`. Event streams, gRPC and upgrades end
    /// by it only where it is set. Default: [`Timeouts::DEFAULT_STREAM`].
    pub stream: Option<Timeout>,
    /// Of a connection without requests. Default: [`Timeouts::DEFAULT_IDLE`].
    pub idle: Period,
}

impl Timeouts {
    /// 5 s: two lost packets and their repeats.
    pub const DEFAULT_CONNECT: Period = Period(Duration::from_secs(5));
    /// 60 s: what callers and load balancers wait.
    pub const DEFAULT_RESPONSE: Duration = Duration::from_mins(1);
    /// 5 min: for a body that is not a stream of events, silence of that length is its end.
    pub const DEFAULT_STREAM: Duration = Duration::from_mins(5);
    /// 90 s: shorter than the 2 min and more after which common servers close.
    pub const DEFAULT_IDLE: Period = Period(Duration::from_secs(90));
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Self::DEFAULT_CONNECT,
            response: None,
            stream: None,
            idle: Self::DEFAULT_IDLE,
        }
    }
}

/// `tls` of an upstream.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct UpstreamTls {
    /// Who issued its certificate, PEM. Default: the system's web roots.
    pub ca_file: Option<Spanned<PathBuf>>,
    /// The gateway's own certificate, shown if the upstream asks for one: PEM, the gateway's first,
    /// then those that signed it. With `key_file`; both are reread when they change. Default: none.
    pub cert_file: Option<Spanned<PathBuf>>,
    /// That certificate's private key, PEM.
    pub key_file: Option<Spanned<PathBuf>>,
    /// The name its certificate must have, or its address. Default: the URL's host.
    pub server_name: Option<Spanned<Text>>,
}

/// `token`: what an upstream receives in place of the caller's token. Exactly one key.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename = "$one of", rename_all = "snake_case")]
#[schemars(rename = "OneOf_TokenSource")]
pub enum TokenSource {
    /// A token for the upstream in the name of the caller.
    OnBehalfOf(OnBehalfOf),
    /// A token for the upstream in the gateway's own name.
    ClientCredentials(ClientCredentials),
    /// The same through a managed identity.
    ManagedIdentity(ManagedIdentity),
    /// A fixed header.
    Header(HeaderToken),
    /// The caller's token as it came.
    Passthrough(OnlyTrue),
    /// No credential.
    None(OnlyTrue),
}

/// `on_behalf_of`: the caller's token is swapped for one of theirs at the upstream.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct OnBehalfOf {
    /// What it is for.
    #[serde(rename = "$beside")]
    pub asked: TokenRequest,
    /// What becomes of callers that are no user. Default: `reject`.
    #[serde(default)]
    pub app_callers: Spanned<AppCallers>,
}

/// `client_credentials`: whoever calls, the upstream gets a token in the gateway's own name.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct ClientCredentials {
    /// What it is for.
    #[serde(rename = "$beside")]
    pub asked: TokenRequest,
}

/// Keys that all tokens of a provider have. One of `scopes`, `audience` and `resource` is
/// required.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TokenRequest {
    /// Scopes of the upstream. At Entra required, and all of one resource; in the gateway's own
    /// name `{resource}/.default` only.
    pub scopes: Option<Spanned<List<Spanned<Text>>>>,
    /// The provider that is asked. Default: the one that validated the inbound token.
    pub provider: Option<Spanned<Text>>,
    /// Whom the token is for, by name (RFC 8693 §2.1); one or a list. Not at Entra.
    pub audience: Option<Spanned<OneOrMany<Spanned<Text>>>>,
    /// The same by absolute URI (RFC 8707 §2); one or a list. Not at Entra.
    pub resource: Option<Spanned<OneOrMany<Spanned<Text>>>>,
    /// More parameters of the form: names and values, sent as they stand. None that says who
    /// asks, by what right, or for whom; of `requested_token_type` only the types of access
    /// tokens and JWTs.
    pub extra_parameters: Table<Spanned<Text>>,
}

/// `app_callers` of `on_behalf_of`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AppCallers {
    /// They are refused.
    #[default]
    Reject,
    /// The gateway asks in its own name: they get what the gateway's application may, at Entra by
    /// the `.default` scope of the resource. Users never do, not even where their own exchange
    /// fails.
    ClientCredentials,
}

/// `managed_identity` of `token`. Where the gateway runs tells which service is asked:
/// `IDENTITY_ENDPOINT` with `IDENTITY_HEADER` is App Service, with `IMDS_ENDPOINT` Azure Arc; else
/// it is IMDS, whose address `AZURE_POD_IDENTITY_AUTHORITY_HOST` changes.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct ManagedIdentity {
    /// What the token is for, without the `/.default` of scopes. Required.
    pub resource: Spanned<Text>,
    /// The user-assigned identity. Default: the system-assigned one, which is the only one that
    /// Azure Arc has.
    pub client_id: Option<Spanned<Text>>,
}

/// `header` of `token`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct HeaderToken {
    /// The header's name. Required.
    pub name: Spanned<Text>,
    /// Its value. Required.
    pub value: Spanned<Secret>,
}

impl JsonSchema for OnlyTrue {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "OnlyTrue".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        Form::Words(&["true"]).schema("`true`")
    }
}

/// `true`; where `false` would say nothing, or the opposite of what it seems to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnlyTrue;

impl<'de> Deserialize<'de> for OnlyTrue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if bool::deserialize(deserializer)? {
            return Ok(Self);
        }
        let wrong = WrongText::new("`false` says nothing here", "write `true`, or another key");
        Err(serde::de::Error::custom(wrong))
    }
}
