//! `upstreams`: where they are and how they are spoken to.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use url::{Host, Url};

use super::super::file::{self, Cloud, Preset, RoutesFile, TokenSource};
use super::super::problem::Place;
use super::super::spanned::{Spanned, Table};
use super::super::value::Timeout;
use super::Finding;
use super::balancing;
use super::providers::{Known as Provider, Providers, roots};
use super::retries;
use super::tokens::{self, Token};
use super::upstream_certificate;
use crate::chain::with_sources;
use crate::exchange::TokenPlan;
use crate::forward::links::Origin;
use crate::forward::{
    HostHeader, HostPort, Patience, Protocol, Timeouts, Upstream, UpstreamError, UpstreamSettings,
};
use crate::trust::Roots;

/// An upstream, and the credential it gets where the route says no other.
pub(super) struct Known {
    pub(super) upstream: Arc<Upstream>,
    pub(super) token: Token,
    /// Whether what is sent to it can be read on the way.
    pub(super) in_clear: bool,
    /// Whether its links come to lead to the gateway: where they lead from.
    pub(super) links: Option<Arc<[Origin]>>,
}

/// All upstreams that have no problem, in the order of the file.
pub(super) struct Upstreams {
    known: Vec<Known>,
    /// The places of those in the list, by name.
    by_name: HashMap<Arc<str>, usize, RandomState>,
}

impl Upstreams {
    pub(super) fn find(&self, name: &str) -> Option<&Known> {
        self.known.get(*self.by_name.get(name)?)
    }

    pub(super) fn into_list(self) -> Vec<Arc<Upstream>> {
        self.known.into_iter().map(|known| known.upstream).collect()
    }
}

pub(super) fn resolve(
    table: &Table<Spanned<file::Upstream>>,
    providers: &Providers,
    finding: &mut Finding<'_>,
) -> Upstreams {
    let previous = finding.previous.map_or(&[][..], |previous| &previous.upstreams);
    let previous = previous.iter().map(|before| (&**before.name(), before)).collect();
    let one = |(name, upstream): &(_, _)| one(name, upstream, &previous, providers, finding);
    let known: Vec<_> = table.0.iter().filter_map(one).collect();
    let names = known.iter().map(|known| Arc::clone(known.upstream.name()));
    Upstreams { by_name: names.zip(0..).collect(), known }
}

fn one(
    name: &Spanned<String>,
    upstream: &Spanned<file::Upstream>,
    previous: &HashMap<&str, &Arc<Upstream>, RandomState>,
    providers: &Providers,
    finding: &mut Finding<'_>,
) -> Option<Known> {
    let place = name.place;
    let urls = addresses(upstream, place, providers, finding)?;
    let settings = settings(name, &urls, upstream, finding)?;
    let in_clear = !settings.tls && !urls.iter().all(is_loopback);
    let token = token(upstream, &Arc::clone(&settings.name), place, providers, finding)?;
    warn_of_clear(&token, in_clear, &settings.name, finding);
    // An upstream whose settings did not change keeps its connections.
    let before = previous.get(&*settings.name).copied();
    let kept = before.filter(|before| *before.settings() == settings).map(Arc::clone);
    let rewrite_links = upstream.rewrite_links.unwrap_or(upstream.preset.is_some());
    let links = rewrite_links.then(|| origins(&settings));
    let upstream = match kept {
        Some(upstream) => upstream,
        None => Upstream::new(settings, Arc::clone(&finding.lasting.resolver))
            .map_err(|error| say_unusable(&error, upstream, place, finding))
            .ok()?,
    };
    Some(Known { upstream, token, in_clear, links })
}

/// Where its links lead from.
fn origins(settings: &UpstreamSettings) -> Arc<[Origin]> {
    let origin = |place: &HostPort| Origin {
        tls: settings.tls,
        host: place.host.clone(),
        port: place.port,
        base_path: settings.base_path.clone(),
    };
    settings.places.iter().map(origin).collect()
}

/// Says what of the file makes an upstream that can't be spoken to.
fn say_unusable(
    error: &UpstreamError,
    upstream: &file::Upstream,
    name: Place,
    finding: &mut Finding<'_>,
) {
    let tls = upstream.tls.as_ref();
    let (place, hint) = match error {
        UpstreamError::Trust(_) => (
            tls.and_then(|tls| tls.ca_file.as_ref()).map(|file| file.place),
            "name a file with the CA's certificate, PEM",
        ),
        UpstreamError::Host(_) => (
            tls.and_then(|tls| tls.server_name.as_ref()).map(|name| name.place),
            "write the name or address that its certificate has: `api.internal`",
        ),
    };
    let url = upstream.url.as_ref().map(|url| url.place);
    let urls = upstream.urls.as_ref().map(|urls| urls.place);
    let place = place.or(url).or(urls).unwrap_or(name);
    finding.error(place, with_sources(error), hint);
}

/// Its URLs: `url`, `urls`, or the one that `preset` knows.
fn addresses(
    upstream: &Spanned<file::Upstream>,
    place: Place,
    providers: &Providers,
    finding: &mut Finding<'_>,
) -> Option<Vec<Url>> {
    if let Some(urls) = &upstream.urls {
        return balancing::urls(urls, finding);
    }
    if let Some(url) = &upstream.url {
        balancing::refuse_query(url, finding);
        return Some(vec![url.url.clone()]);
    }
    let preset = upstream.preset.as_ref()?;
    let cloud = named_cloud(upstream, providers).unwrap_or_else(|| {
        refuse_several_clouds(preset.place, providers, finding);
        cloud(providers)
    });
    let url = Url::parse(service(preset.value, cloud));
    if url.is_err() {
        finding.error(place, "the preset has no URL in this cloud", "set `url`");
    }
    url.ok().map(|url| vec![url])
}

/// The service of a preset in a cloud; its scopes begin with the same text.
pub(super) fn service(preset: Preset, cloud: Cloud) -> &'static str {
    match (preset, cloud) {
        (Preset::Graph, Cloud::Public) => "https://graph.microsoft.com",
        (Preset::Graph, Cloud::UsGov) => "https://graph.microsoft.us",
        (Preset::Graph, Cloud::China) => "https://microsoftgraph.chinacloudapi.cn",
        (Preset::Arm, Cloud::Public) => "https://management.azure.com",
        (Preset::Arm, Cloud::UsGov) => "https://management.usgovcloudapi.net",
        (Preset::Arm, Cloud::China) => "https://management.chinacloudapi.cn",
    }
}

/// The cloud that presets are for: that of the first Entra provider that can exchange.
pub(super) fn cloud(providers: &Providers) -> Cloud {
    exchanging_clouds(providers).next().unwrap_or(Cloud::Public)
}

fn exchanging_clouds(providers: &Providers) -> impl Iterator<Item = Cloud> {
    let is_entra = |known: &&Provider| known.is_entra() && known.credential.is_some();
    providers.iter().filter(is_entra).map(|known| known.cloud)
}

/// The cloud of the provider that the upstream's own `token` names.
fn named_cloud(upstream: &file::Upstream, providers: &Providers) -> Option<Cloud> {
    let asked = match &upstream.token.as_ref()?.value {
        TokenSource::OnBehalfOf(of) => &of.asked,
        TokenSource::ClientCredentials(of) => &of.asked,
        TokenSource::ManagedIdentity(_)
        | TokenSource::Header(_)
        | TokenSource::Passthrough(_)
        | TokenSource::None(_) => return None,
    };
    let name = asked.provider.as_ref()?;
    providers.find(&name.value).map(|known| known.cloud)
}

/// A preset is one cloud's service: callers of another cloud would be sent to a stranger.
fn refuse_several_clouds(preset: Place, providers: &Providers, finding: &mut Finding<'_>) {
    let first = cloud(providers);
    if exchanging_clouds(providers).any(|other| other != first) {
        finding.error(
            preset,
            "`preset` with providers of several clouds",
            "set `url`, or name the provider: `token: { on_behalf_of: { provider: …, scopes: […] } }`",
        );
    }
}

fn settings(
    name: &Spanned<String>,
    urls: &[Url],
    upstream: &Spanned<file::Upstream>,
    finding: &mut Finding<'_>,
) -> Option<UpstreamSettings> {
    // They agree in all but the host.
    let url = urls.first()?;
    let roots = match upstream.tls.as_ref().and_then(|tls| tls.ca_file.as_ref()) {
        Some(file) => roots(file, finding)?,
        None => Roots::System,
    };
    let own_certificate = match &upstream.tls {
        Some(tls) => upstream_certificate::read(&name.value, tls, finding)?,
        None => None,
    };
    let tls = url.scheme() == "https";
    if let Some(keys) = upstream.tls.as_ref().filter(|_| !tls) {
        finding.error(
            keys.key_place(),
            "`tls` says nothing for an upstream without TLS",
            "write `https://` in its `url`, or remove `tls`",
        );
    }
    let timeouts = &upstream.timeouts;
    let connections = upstream.max_connections.unwrap_or(file::Upstream::DEFAULT_MAX_CONNECTIONS);
    let pending = upstream.max_pending.unwrap_or(file::Upstream::DEFAULT_MAX_PENDING);
    Some(UpstreamSettings {
        name: Arc::from(name.value.as_str()),
        tls,
        places: urls.iter().map(balancing::place).collect::<Option<_>>()?,
        base_path: balancing::base_path(url).to_owned(),
        protocol: match upstream.protocol.value {
            file::Protocol::Auto => Protocol::Auto,
            file::Protocol::Http1 => Protocol::Http1,
            file::Protocol::Http2 => Protocol::Http2,
        },
        host_header: match upstream.host_header {
            file::HostHeader::Upstream => HostHeader::Upstream,
            file::HostHeader::Client => HostHeader::Client,
        },
        timeouts: Timeouts {
            connect: timeouts.connect.0,
            response: patience(timeouts.response, file::Timeouts::DEFAULT_RESPONSE),
            stream: patience(timeouts.stream, file::Timeouts::DEFAULT_STREAM),
            idle: timeouts.idle.0,
        },
        retry: retries::resolve(&upstream.retry, finding),
        max_connections: connections.0,
        max_pending: pending.0,
        roots,
        own_certificate,
        server_name: upstream
            .tls
            .as_ref()
            .and_then(|tls| tls.server_name.as_ref())
            .map(|name| name.value.0.clone()),
        load_balancing: balancing::load_balancing(upstream),
        health_check: balancing::health_check(upstream, finding),
        outlier_ejection: balancing::outlier_ejection(upstream),
    })
}

fn patience(set: Option<Timeout>, default: Duration) -> Patience {
    match set {
        Some(timeout) => Patience::Set(limit(timeout)),
        None => Patience::Default(default),
    }
}

/// `off` is no limit.
pub(super) fn limit(timeout: Timeout) -> Option<Duration> {
    match timeout {
        Timeout::Off => None,
        Timeout::After(time) => Some(time),
    }
}

fn token(
    upstream: &Spanned<file::Upstream>,
    name: &Arc<str>,
    place: Place,
    providers: &Providers,
    finding: &mut Finding<'_>,
) -> Option<Token> {
    match (&upstream.token, &upstream.preset) {
        (Some(source), _) => tokens::resolve(source, name, providers, finding),
        (None, Some(preset)) => {
            Some(tokens::of_preset(preset.value, preset.place, name, providers))
        }
        (None, None) => Some(Token::fixed(TokenPlan::None, place)),
    }
}

/// A token on the open network belongs to whoever reads along.
pub(super) fn warn_of_clear(
    token: &Token,
    in_clear: bool,
    upstream: &str,
    finding: &mut Finding<'_>,
) {
    if in_clear && !matches!(token.plan, TokenPlan::None) {
        finding.warning(
            token.place,
            format!("upstream `{upstream}` gets its credential over plain http"),
            "whoever sits in between can read and use it: write `https://` in its `url`",
        );
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(domain)) => domain == "localhost" || domain.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).to_canonical().is_loopback(),
        None => false,
    }
}

/// Upstreams that no route names.
pub(super) fn warn_of_unused(file: &RoutesFile, finding: &mut Finding<'_>) {
    let used = file.routes.0.iter().filter_map(|route| route.upstream.as_ref());
    let used: HashSet<&str> = used.map(|upstream| upstream.value.0.as_str()).collect();
    for (name, _) in &file.upstreams.0 {
        if !used.contains(name.value.as_str()) {
            finding.warning(
                name.place,
                format!("no route uses upstream `{}`", name.value),
                "remove it, or name it in a route",
            );
        }
    }
}
