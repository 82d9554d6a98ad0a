//! What there is to measure, and who can sit in the proxy's seat.
//!
//! It decides what a case asks of a proxy; how each is run is decided in the module of its kind.

use clap::ValueEnum;

/// Something to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Case {
    /// An open route: no token comes, none goes on.
    Plain,
    /// A token that was seen before, swapped for the cached one of its user.
    Swap,
    /// The same with one user.
    #[value(name = "swap-1")]
    Swap1,
    /// The same with 50,000 users, and what one of them takes in memory.
    #[value(name = "swap-50000")]
    Swap50000,
    /// A token never seen: checked, exchanged, kept.
    FirstSight,
    /// A token never seen on a route whose upstream gets none: checked and kept.
    Checked,
    /// `swap` over TLS 1.3.
    #[value(name = "tls-http1")]
    TlsHttp1,
    /// `swap` over TLS 1.3 and HTTP/2, 20 streams on each of 10 connections.
    #[value(name = "tls-http2")]
    TlsHttp2,
    /// What a proxy adds to the latency at half load, arrivals as of many who know nothing of each other.
    Latency,
    /// Answers of 1 MiB.
    Down,
    /// Uploads of 10 MiB.
    Up,
    /// `swap` with two workers beside one.
    TwoWorkers,
    /// Memory of connections on which nothing happens.
    IdlePlain,
    /// The same with TLS.
    IdleTls,
    /// Memory while connections and tokens come and go.
    Churn,
    /// From nothing to ready, without providers.
    Start,
    /// Another file of 10,000 routes, and how long requests wait meanwhile.
    Reload,
}

/// A route of the proxies; its path is `/ROUTE/BODY/{user}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// No token.
    Plain,
    /// A token swapped.
    Swap,
    /// A token checked, nothing in its place.
    Checked,
}

/// How a proxy is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Clear,
    TlsHttp1,
    TlsHttp2,
}

/// What is large about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    /// Nothing: a GET, answered with 1 KiB.
    Small,
    Down,
    Up,
}

/// Who sits in the proxy's seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Proxy {
    /// `obo-gateway run` with metrics and access log.
    Gateway,
    /// The proxy of `bare_proxy.rs`.
    Bare,
    /// nginx with the Lua of `nginx.rs`; for `plain` and `swap`.
    Nginx,
    /// Envoy as in `envoy.rs`; for `plain` and `swap`.
    Envoy,
}

impl Case {
    /// As it is called on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Swap => "swap",
            Self::Swap1 => "swap-1",
            Self::Swap50000 => "swap-50000",
            Self::FirstSight => "first-sight",
            Self::Checked => "checked",
            Self::TlsHttp1 => "tls-http1",
            Self::TlsHttp2 => "tls-http2",
            Self::Latency => "latency",
            Self::Down => "down",
            Self::Up => "up",
            Self::TwoWorkers => "two-workers",
            Self::IdlePlain => "idle-plain",
            Self::IdleTls => "idle-tls",
            Self::Churn => "churn",
            Self::Start => "start",
            Self::Reload => "reload",
        }
    }

    /// The route that its requests take.
    pub(crate) fn route(self) -> Route {
        match self {
            Self::Plain | Self::IdlePlain | Self::IdleTls | Self::Start | Self::Reload => {
                Route::Plain
            }
            Self::Checked => Route::Checked,
            Self::Swap
            | Self::Swap1
            | Self::Swap50000
            | Self::FirstSight
            | Self::TlsHttp1
            | Self::TlsHttp2
            | Self::Latency
            | Self::Down
            | Self::Up
            | Self::TwoWorkers
            | Self::Churn => Route::Swap,
        }
    }

    /// How proxies are spoken to.
    pub(crate) fn transport(self) -> Transport {
        match self {
            Self::TlsHttp1 | Self::IdleTls => Transport::TlsHttp1,
            Self::TlsHttp2 => Transport::TlsHttp2,
            Self::Plain
            | Self::Swap
            | Self::Swap1
            | Self::Swap50000
            | Self::FirstSight
            | Self::Checked
            | Self::Latency
            | Self::Down
            | Self::Up
            | Self::TwoWorkers
            | Self::IdlePlain
            | Self::Churn
            | Self::Start
            | Self::Reload => Transport::Clear,
        }
    }

    /// What is large about its requests.
    pub(crate) fn payload(self) -> Payload {
        match self {
            Self::Down => Payload::Down,
            Self::Up => Payload::Up,
            Self::Plain
            | Self::Swap
            | Self::Swap1
            | Self::Swap50000
            | Self::FirstSight
            | Self::Checked
            | Self::TlsHttp1
            | Self::TlsHttp2
            | Self::Latency
            | Self::TwoWorkers
            | Self::IdlePlain
            | Self::IdleTls
            | Self::Churn
            | Self::Start
            | Self::Reload => Payload::Small,
        }
    }
}

impl Route {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Swap => "swap",
            Self::Checked => "checked",
        }
    }
}

impl Transport {
    pub(crate) fn is_tls(self) -> bool {
        match self {
            Self::Clear => false,
            Self::TlsHttp1 | Self::TlsHttp2 => true,
        }
    }
}

impl Payload {
    /// The second segment of the path, which tells the upstream what to answer.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Down => "down",
            Self::Up => "up",
        }
    }

    /// The length of the answer in bytes.
    pub(crate) fn answer_bytes(self) -> usize {
        match self {
            Self::Small | Self::Up => 1024,
            Self::Down => 1024 * 1024,
        }
    }

    /// The length of the request's body in bytes.
    pub(crate) fn upload_bytes(self) -> usize {
        match self {
            Self::Small | Self::Down => 0,
            Self::Up => 10 * 1024 * 1024,
        }
    }
}

impl Proxy {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Bare => "bare",
            Self::Nginx => "nginx",
            Self::Envoy => "envoy",
        }
    }

    /// Whether it is set up for `case`.
    pub(crate) fn can_run(self, case: Case) -> bool {
        match self {
            Self::Gateway | Self::Bare => true,
            Self::Nginx | Self::Envoy => {
                matches!(case, Case::Plain | Case::Swap | Case::Swap1 | Case::Swap50000)
            }
        }
    }
}
