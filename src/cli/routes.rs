//! `routes`: the route table, with what deserves a second look marked.
//!
//! Shows what the outline says and decides only what is unusual: what lets more people in, or
//! more of the gateway's own power out, than a route for tokens with a scope does.

use std::fmt::Write;
use std::process::ExitCode;
use std::sync::Arc;

use clap::ValueEnum;
use serde_json::{Value, json};

use super::run::File;
use crate::clock::SystemClock;
use crate::launch;
use crate::observe::Metrics;
use crate::outline::{
    ActionOutline, AuthOutline, MatchOutline, Outline, RouteOutline, TokenOutline,
};

/// For whom.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Format {
    /// A table.
    Text,
    /// One document.
    Json,
}

pub(super) fn main(config: &str, format: Format) -> ExitCode {
    match launch::prepare(Box::new(File::new(config)), Arc::new(SystemClock), Metrics::default()) {
        Ok(prepared) => {
            if !prepared.warnings().is_empty() {
                super::to_stderr(&prepared.warnings().to_string());
            }
            let outline = Outline::of(&prepared.resolved().snapshot);
            super::to_stdout(&match format {
                Format::Text => table(&outline.routes),
                Format::Json => document(&outline.routes),
            });
            ExitCode::SUCCESS
        }
        Err(problems) => {
            super::to_stderr(&problems.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Why a route deserves a second look; each in a few words that stay the same.
fn unusual(route: &RouteOutline) -> Vec<&'static str> {
    let is_open = matches!(route.auth, AuthOutline::None);
    let mut reasons = Vec::new();
    let mut note = |applies: bool, reason| {
        if applies {
            reasons.push(reason);
        }
    };
    note(is_open, "open: everybody may call it");
    note(matches!(route.auth, AuthOutline::Any { .. }), "any valid token will do");
    if let ActionOutline::Forward { token, upgrades, outlives_token, .. } = &route.action {
        let is_own = match token {
            TokenOutline::None => false,
            TokenOutline::Passthrough => {
                note(true, "the upstream gets the caller's own token");
                false
            }
            TokenOutline::OnBehalfOf { app_callers, .. } => {
                note(
                    app_callers == "client_credentials",
                    "applications get the gateway's own permissions",
                );
                false
            }
            TokenOutline::Header { .. }
            | TokenOutline::ClientCredentials { .. }
            | TokenOutline::ManagedIdentity { .. } => true,
        };
        note(is_own, "callers use the gateway's own credential");
        note(*outlives_token, "streams go on when the token has expired");
        note(
            upgrades.iter().any(|it| it != "websocket"),
            "connections become other protocols, unread",
        );
    }
    note(route.r#match.keeps_encoded_slashes, "encoded slashes are kept");
    note(route.cors_origins.iter().any(|it| it == "*"), "pages of all origins may call it");
    note(route.cors_credentials, "pages may send cookies and client certificates");
    reasons
}

/// For reviews: what a change of the file changes here is what callers notice.
fn document(routes: &[RouteOutline]) -> String {
    let mut routes: Vec<_> = routes.iter().collect();
    routes.sort_by(|one, other| one.name.cmp(&other.name));
    let routes = routes.into_iter().map(|route| {
        let mut entry = json!(route);
        if let Value::Object(members) = &mut entry {
            // It differs whenever something is written above.
            members.remove("line");
            members.insert("unusual".to_owned(), json!(unusual(route)));
        }
        entry
    });
    format!("{:#}\n", json!({ "routes": routes.collect::<Value>() }))
}

fn table(routes: &[RouteOutline]) -> String {
    let head = ["", "ROUTE", "MATCH", "AUTH", "TO", "TOKEN"].map(str::to_owned);
    let rows: Vec<_> = routes.iter().map(row).collect();
    let mut widths = [0; 6];
    for row in std::iter::once(&head).chain(&rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[String; 6]| {
        let cells = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    let indent = widths.first().copied().unwrap_or_default() + 2;
    let mut table = line(&head);
    for (row, route) in rows.iter().zip(routes) {
        table.push_str(&line(row));
        for reason in unusual(route) {
            writeln!(table, "{:indent$}  ! {reason}", "").unwrap_or_default();
        }
    }
    let open = routes.iter().filter(|it| matches!(it.auth, AuthOutline::None)).count();
    let marked = routes.iter().filter(|route| !unusual(route).is_empty()).count();
    let what = if routes.len() == 1 { "route" } else { "routes" };
    writeln!(table, "\n{} {what}: {open} open, {marked} marked", routes.len()).unwrap_or_default();
    table
}

fn row(route: &RouteOutline) -> [String; 6] {
    let mark = match route.auth {
        AuthOutline::None => "open",
        AuthOutline::Any { .. } | AuthOutline::Rules { .. } if unusual(route).is_empty() => "",
        AuthOutline::Any { .. } | AuthOutline::Rules { .. } => "!",
    };
    let (to, token) = match &route.action {
        ActionOutline::Forward { upstream, path: None, token, .. } => {
            (upstream.clone(), credential(token))
        }
        ActionOutline::Forward { upstream, path: Some(path), token, .. } => {
            (format!("{upstream} {path}"), credential(token))
        }
        ActionOutline::Respond { status } => (format!("respond {status}"), String::new()),
        ActionOutline::Redirect { status, to } => {
            (format!("redirect {status} {to}"), String::new())
        }
    };
    [mark.to_owned(), route.name.clone(), matching(&route.r#match), auth(&route.auth), to, token]
}

fn matching(matching: &MatchOutline) -> String {
    let mut parts = vec![list(&matching.methods), list(&matching.hosts), matching.path.clone()];
    parts.extend(matching.headers.iter().map(|(name, value)| format!("{name}: {value}")));
    parts.extend(matching.query.iter().map(|(name, value)| format!("?{name}={value}")));
    parts.extend(matching.ignore_case.then(|| "(any case)".to_owned()));
    words(parts)
}

fn auth(auth: &AuthOutline) -> String {
    match auth {
        AuthOutline::None => "none".to_owned(),
        AuthOutline::Any { providers } => format!("any of {}", list(providers)),
        AuthOutline::Rules { providers, scopes, roles, callers, clients, tenants, claims } => {
            let named = |what: &str, names: &[String]| match names {
                [] => String::new(),
                names => format!("{what} {}", list(names)),
            };
            let alternatives = [named("scope", scopes), named("role", roles)];
            let alternatives = alternatives.into_iter().filter(|it| !it.is_empty());
            let mut parts = vec![alternatives.collect::<Vec<_>>().join(" or ")];
            parts.extend((callers != "any").then(|| format!("{callers} only")));
            parts.push(named("client", clients));
            parts.push(named("tenant", tenants));
            parts.extend(claims.iter().map(|(name, values)| format!("{name}={}", list(values))));
            parts.push(format!("of {}", list(providers)));
            words(parts)
        }
    }
}

fn credential(token: &TokenOutline) -> String {
    let asked = |how: &str, provider: &Option<String>, lists: [&Vec<String>; 3]| {
        let mut parts = vec![how.to_owned()];
        parts.extend(lists.into_iter().map(|names| list(names)));
        parts.extend(provider.as_ref().map(|provider| format!("at {provider}")));
        words(parts)
    };
    match token {
        TokenOutline::None => "none".to_owned(),
        TokenOutline::Passthrough => "passthrough".to_owned(),
        TokenOutline::Header { name } => format!("header {name}"),
        TokenOutline::OnBehalfOf { provider, scopes, audiences, resources, app_callers: _ } => {
            asked("on behalf of the caller:", provider, [scopes, audiences, resources])
        }
        TokenOutline::ClientCredentials { provider, scopes, audiences, resources } => {
            asked("the gateway's own:", provider, [scopes, audiences, resources])
        }
        TokenOutline::ManagedIdentity { resource } => format!("managed identity: {resource}"),
    }
}

fn list(names: &[String]) -> String {
    names.join(",")
}

fn words(parts: Vec<String>) -> String {
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}
