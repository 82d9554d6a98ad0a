//! References by name: of an upstream, of a provider.

use super::super::spanned::Spanned;
use super::super::suggest::did_you_mean;
use super::super::value::Text;
use super::Finding;

/// Which section a name refers to.
#[derive(Clone, Copy)]
pub(super) enum Section {
    Providers,
    Upstreams,
}

/// Says that `name` is not in its section, unless it stands there with problems of its own.
pub(super) fn unknown(name: &Spanned<Text>, section: Section, finding: &mut Finding<'_>) {
    let (names, what, here) = match section {
        Section::Providers => (finding.provider_names, "provider", "providers here"),
        Section::Upstreams => (finding.upstream_names, "upstream", "upstreams here"),
    };
    if names.contains(&name.value.0) {
        return;
    }
    if names.is_empty() {
        let hint = format!("add it: there are no {}", here.trim_end_matches(" here"));
        finding.error(name.place, format!("unknown {what} `{}`", name.value), hint);
        return;
    }
    let hint = did_you_mean(&name.value, here, names.iter().map(String::as_str));
    finding.error(name.place, format!("unknown {what} `{}`", name.value), hint);
}
