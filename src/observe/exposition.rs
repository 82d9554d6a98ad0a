//! The metrics as a scraper wants them: `OpenMetrics`, or the older text format of Prometheus.

use std::fmt::Write as _;

use crate::observe::metrics::Metrics;

/// A format of `/metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// `OpenMetrics` 1.0.0, for those who ask for it.
    OpenMetrics,
    /// The text format 0.0.4 of Prometheus, for all others.
    Prometheus,
}

impl Exposition {
    /// The format that a request with this `Accept` gets.
    pub fn negotiate(accept: Option<&str>) -> Self {
        match accept {
            Some(accept) if accept.contains("application/openmetrics-text") => Self::OpenMetrics,
            Some(_) | None => Self::Prometheus,
        }
    }

    /// Its media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// `metrics` in this format.
    pub fn encode(self, metrics: &Metrics) -> String {
        let text = metrics.encode();
        match self {
            Self::OpenMetrics => text,
            Self::Prometheus => as_prometheus(&text),
        }
    }
}

/// The two differ in what a counter's family is called (the older one includes `_total`), and
/// in the end mark.
fn as_prometheus(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len() + 256);
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some((_, text)) = help.take() {
                // Writing to a `String` does not fail.
                writeln!(out, "# HELP {name}{suffix} {text}").unwrap_or_default();
            }
            writeln!(out, "# TYPE {name}{suffix} {kind}").unwrap_or_default();
        } else if line != "# EOF" {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_format_names_counters_as_they_are_sampled() {
        let metrics = Metrics::default();
        metrics.jwks_refreshed("entra", "success");
        let text = Exposition::Prometheus.encode(&metrics);
        let family = "# HELP obo_gateway_jwks_refreshes_total Fetches of a provider's keys.\n\
                      # TYPE obo_gateway_jwks_refreshes_total counter\n\
                      obo_gateway_jwks_refreshes_total{provider=\"entra\",outcome=\"success\"} 1\n";
        assert!(text.contains(family), "{text}");
        assert!(text.contains("# TYPE obo_gateway_token_cache_entries gauge\n"));
        assert!(text.contains("# TYPE obo_gateway_request_duration_seconds histogram\n"));
        assert!(!text.contains("# EOF"));
    }

    #[test]
    fn those_who_ask_get_open_metrics() {
        let asked = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.2";
        assert_eq!(Exposition::negotiate(Some(asked)), Exposition::OpenMetrics);
        for accept in [None, Some("*/*"), Some("text/plain")] {
            assert_eq!(Exposition::negotiate(accept), Exposition::Prometheus);
        }
        assert!(Exposition::OpenMetrics.encode(&Metrics::default()).ends_with("# EOF\n"));
    }
}
