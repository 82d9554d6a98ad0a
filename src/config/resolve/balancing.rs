//! `urls` of an upstream, and how requests are shared by them: `load_balancing`, `health_check`,
//! `outlier_ejection`.

use url::{Host, Url};

use super::super::file;
use super::super::spanned::{List, Spanned};
use super::super::value::HttpUrl;
use super::Finding;
use crate::forward::{HealthCheck, HostPort, LoadBalancing, OutlierEjection};

/// The URLs of `urls`, which agree in all but the host.
pub(super) fn urls(
    urls: &Spanned<List<Spanned<HttpUrl>>>,
    finding: &mut Finding<'_>,
) -> Option<Vec<Url>> {
    let all = &urls.value.0;
    let first = all.first()?;
    if all.len() > file::Upstream::MAX_URLS {
        finding.error(
            urls.key_place(),
            format!("{} URLs in `urls`; {} are taken", all.len(), file::Upstream::MAX_URLS),
            "give the machines one DNS name: all its addresses are used",
        );
        return None;
    }
    for (number, url) in all.iter().enumerate() {
        refuse_query(url, finding);
        if url.url.scheme() != first.url.scheme() {
            finding.error(
                url.place,
                format!("`{}` and `{}` have different schemes", first.text, url.text),
                "make them two upstreams, or write the same scheme in all",
            );
        }
        if base_path(&url.url) != base_path(&first.url) {
            finding.error(
                url.place,
                format!("`{}` and `{}` have different paths", first.text, url.text),
                "make them two upstreams, or write the same path in all",
            );
        }
        let same = |other: &&Spanned<HttpUrl>| place(&other.url) == place(&url.url);
        if let Some(before) = all.iter().take(number).find(same) {
            finding.error(
                url.place,
                format!("`{}` leads where `{}` does", url.text, before.text),
                "remove one of them",
            );
        }
    }
    Some(all.iter().map(|url| url.url.clone()).collect())
}

/// Requests have queries of their own.
pub(super) fn refuse_query(url: &Spanned<HttpUrl>, finding: &mut Finding<'_>) {
    if url.url.query().is_some() {
        finding.error(
            url.place,
            format!("`{}` has a query", url.text),
            "the query of each request is forwarded; remove this one",
        );
    }
}

/// What is put before the path of each request.
pub(super) fn base_path(url: &Url) -> &str {
    url.path().trim_end_matches('/')
}

/// The host and port of a URL.
pub(super) fn place(url: &Url) -> Option<HostPort> {
    let host = match url.host()? {
        Host::Domain(domain) => domain.to_owned(),
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_string(),
    };
    Some(HostPort { host, port: url.port_or_known_default()? })
}

pub(super) fn load_balancing(upstream: &file::Upstream) -> LoadBalancing {
    match upstream.load_balancing {
        file::LoadBalancing::LeastRequests => LoadBalancing::LeastRequests,
        file::LoadBalancing::RoundRobin => LoadBalancing::RoundRobin,
    }
}

pub(super) fn health_check(
    upstream: &file::Upstream,
    finding: &mut Finding<'_>,
) -> Option<HealthCheck> {
    let check = &upstream.health_check.as_ref()?.value;
    let interval = check.interval.value.0;
    if interval < file::HealthCheck::MIN_INTERVAL {
        finding.error(
            check.interval.place,
            format!("{} ms between two health checks", interval.as_millis()),
            format!("write `{}ms` or more", file::HealthCheck::MIN_INTERVAL.as_millis()),
        );
    }
    Some(HealthCheck {
        path: check.path.0.clone(),
        interval,
        timeout: check.timeout.0,
        healthy_after: check.healthy_after.0.get(),
        unhealthy_after: check.unhealthy_after.0.get(),
    })
}

pub(super) fn outlier_ejection(upstream: &file::Upstream) -> Option<OutlierEjection> {
    let ejection = &upstream.outlier_ejection.as_ref()?.value;
    Some(OutlierEjection {
        consecutive_failures: ejection.consecutive_failures.0.get(),
        base: ejection.base.0,
        max_percent: ejection.max_percent.0,
    })
}
