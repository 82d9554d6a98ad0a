//! Explanations and reports for people, in lines.

use std::fmt::{self, Display, Formatter, Write};

use super::explanation::{Decision, Explanation, Other, ToUpstream, Token};
use super::run::{Outcome, Report};
use crate::authn::supposition::{self, Check};
use crate::exchange::{Foreseen, ForeseenExchange};
use crate::outline::{AuthOutline, RouteOutline};

impl Display for Explanation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.write(&mut out)?;
        f.write_str(&harmless(&out))
    }
}

impl Explanation {
    fn write(&self, out: &mut String) -> fmt::Result {
        let request = &self.request;
        let host = request.host.as_deref().unwrap_or("(none)");
        writeln!(out, "request    {} {} at {host}", request.method, request.path_as_it_came)?;
        if let Some(path) = request.path.as_ref().filter(|it| **it != request.path_as_it_came) {
            writeln!(out, "           is matched as {path}")?;
        }
        match &self.route {
            Some(route) => write_route(out, route)?,
            None => writeln!(out, "route      none of the file")?,
        }
        for Other { route, path, why_not } in &self.others {
            writeln!(out, "           not {route} ({path}): {}", why_not.join("; "))?;
        }
        if let Some(route) = &self.route {
            write_auth(out, &route.auth)?;
        }
        if let Some(token) = &self.token {
            write_token(out, token)?;
        }
        if !self.rules.is_empty() {
            writeln!(out, "rules")?;
            self.rules.iter().try_for_each(|check| write_check(out, check))?;
        }
        if let Some(credential) = &self.credential {
            if self.foreseen_for == "any_user" {
                writeln!(out, "(what follows is for some user: there is no token)")?;
            }
            write_credential(out, credential)?;
        }
        if let Some(upstream) = &self.upstream {
            write_upstream(out, upstream)?;
        }
        match &self.decision {
            Decision::Forward => writeln!(out, "decision   it is forwarded"),
            Decision::Answer { by, status, location, reason } => {
                write!(out, "decision   it is answered with {status} ({by})")?;
                if let Some(location) = location {
                    write!(out, ", to {location}")?;
                }
                if let Some(reason) = reason {
                    write!(out, "\n           {reason}")?;
                }
                writeln!(out)
            }
            Decision::Refuse { status, code, detail, reason } => {
                writeln!(out, "decision   it is refused with {status} {code}")?;
                writeln!(out, "           the caller is told: {detail}")?;
                writeln!(out, "           the log says: {reason}")
            }
        }
    }
}

fn write_route(out: &mut String, route: &RouteOutline) -> fmt::Result {
    writeln!(out, "route      {} (line {}): {}", route.name, route.line, route.r#match.path)?;
    if let Some(limit) = &route.rate_limit {
        let together = if limit.shared { ", over all replicas" } else { "" };
        writeln!(
            out,
            "           limited to {} requests in {} ms, {} at once, by {}{together} (not counted here)",
            limit.requests, limit.per_ms, limit.burst, limit.by
        )?;
    }
    Ok(())
}

fn write_auth(out: &mut String, auth: &AuthOutline) -> fmt::Result {
    match auth {
        AuthOutline::None => writeln!(out, "auth       none: it is open, and a token is removed"),
        AuthOutline::Any { providers } => {
            writeln!(out, "auth       any valid token of {}", providers.join(", "))
        }
        AuthOutline::Rules { providers, scopes, roles, callers, clients, tenants, claims } => {
            writeln!(out, "auth       a valid token of {}", providers.join(", "))?;
            let mut either = Vec::new();
            if !scopes.is_empty() {
                either.push(format!("scope {}", scopes.join(" or ")));
            }
            if !roles.is_empty() {
                either.push(format!("role {}", roles.join(" or ")));
            }
            if !either.is_empty() {
                writeln!(out, "           with {}", either.join(", or "))?;
            }
            if callers != "any" {
                writeln!(out, "           of {callers}")?;
            }
            if !clients.is_empty() {
                writeln!(out, "           by client {}", clients.join(" or "))?;
            }
            if !tenants.is_empty() {
                writeln!(out, "           of tenant {}", tenants.join(" or "))?;
            }
            for (name, values) in claims {
                writeln!(out, "           with claim {name}: {}", values.join(" or "))?;
            }
            Ok(())
        }
    }
}

fn write_token(out: &mut String, token: &Token) -> fmt::Result {
    match &token.provider {
        Some(provider) => writeln!(out, "token      of provider {provider}")?,
        None => writeln!(out, "token      of no provider of the route")?,
    }
    for (name, value) in token.claims.iter().flatten() {
        writeln!(out, "           {name}: {value}")?;
    }
    writeln!(out, "checks")?;
    token.checks.iter().try_for_each(|check| write_check(out, check))
}

fn write_check(out: &mut String, check: &Check) -> fmt::Result {
    let Check { name, outcome, wanted, came, reason } = check;
    let shown = match outcome {
        supposition::Outcome::Passed => "ok  ",
        supposition::Outcome::Failed => "FAIL",
        supposition::Outcome::NotChecked => "?   ",
    };
    writeln!(out, "  {shown}     {name}: wanted {wanted}; came {came}")?;
    match (outcome, reason) {
        (supposition::Outcome::NotChecked, Some(reason)) => {
            writeln!(out, "           not checked: {reason}")
        }
        (_, Some(reason)) => writeln!(out, "           {reason}"),
        (_, None) => Ok(()),
    }
}

fn write_credential(out: &mut String, credential: &Foreseen) -> fmt::Result {
    match credential {
        Foreseen::None => writeln!(out, "credential none"),
        Foreseen::Passthrough => writeln!(out, "credential the inbound token, as it came"),
        Foreseen::Header(name) => writeln!(out, "credential {name}: ***"),
        Foreseen::ManagedIdentity(resource) => {
            writeln!(out, "credential a token of the managed identity for {resource}")
        }
        Foreseen::Exchange(exchange) => write_exchange(out, exchange),
    }
}

fn write_exchange(out: &mut String, exchange: &ForeseenExchange) -> fmt::Result {
    let ForeseenExchange { provider, kind, grant_type, client_id, credential, .. } = exchange;
    writeln!(out, "credential a token of provider {provider}, {kind}; if none is cached, by")?;
    let endpoint = exchange.token_endpoint.as_deref();
    let endpoint = endpoint.unwrap_or("(the endpoint that the provider's metadata names)");
    writeln!(out, "           POST {endpoint}")?;
    writeln!(out, "           grant_type={grant_type}")?;
    writeln!(out, "           client_id={client_id}")?;
    writeln!(out, "           *** ({credential})")?;
    if *kind == "on_behalf_of" {
        writeln!(out, "           *** (the inbound token)")?;
    }
    let lists = [
        ("scope", exchange.scopes.join(" ")),
        ("audience", exchange.audiences.join(", ")),
        ("resource", exchange.resources.join(", ")),
    ];
    for (name, value) in lists.iter().filter(|(_, value)| !value.is_empty()) {
        writeln!(out, "           {name}={value}")?;
    }
    for name in &exchange.extra_parameters {
        writeln!(out, "           {name}=…")?;
    }
    Ok(())
}

fn write_upstream(out: &mut String, upstream: &ToUpstream) -> fmt::Result {
    writeln!(out, "upstream   {} at {}", upstream.name, upstream.urls.join(", "))?;
    writeln!(out, "           {} {}", upstream.method, upstream.path)?;
    if let Some(host) = &upstream.host {
        writeln!(out, "           host: {host}")?;
    }
    for (name, value) in &upstream.headers {
        writeln!(out, "           {name}: {value}")?;
    }
    Ok(())
}

/// A report on the tests of the routes file called `file`.
pub(super) struct Shown<'r> {
    pub(super) report: &'r Report,
    pub(super) file: &'r str,
}

impl Report {
    /// The report for people; `file` is what the routes file is called.
    pub fn shown<'r>(&'r self, file: &'r str) -> impl Display + 'r {
        Shown { report: self, file }
    }
}

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.write(&mut out)?;
        f.write_str(&harmless(&out))
    }
}

impl Shown<'_> {
    fn write(&self, out: &mut String) -> fmt::Result {
        let Self { report, file } = self;
        for Outcome { name, line, failures } in &report.tests {
            let shown = if failures.is_empty() { "ok  " } else { "FAIL" };
            writeln!(out, "{shown} {name} ({file}:{line})")?;
            let mut reasons: Vec<&str> = Vec::new();
            for it in failures {
                let place = format!("{file}:{}:{}", it.line, it.column);
                writeln!(
                    out,
                    "     {place}: `{}`: expected {}, came {}",
                    it.key, it.expected, it.came
                )?;
                reasons.extend(it.reason.as_deref().filter(|it| !reasons.contains(it)));
            }
            for reason in reasons {
                writeln!(out, "     why: {reason}")?;
            }
        }
        if report.tests.is_empty() {
            writeln!(out, "{file}: there are no `tests:` in it")?;
        } else {
            let failed = report.failed();
            writeln!(out, "{} passed, {failed} failed", report.tests.len() - failed)?;
        }
        if !report.unreached.is_empty() {
            writeln!(out, "not reached by any test:")?;
        }
        for unreached in &report.unreached {
            match unreached.rule {
                None => writeln!(out, "  route {}: {}", unreached.route, unreached.missing)?,
                Some(rule) => {
                    writeln!(out, "  route {}, {rule}: {}", unreached.route, unreached.missing)?;
                }
            }
        }
        Ok(())
    }
}

/// `text` without what would move the cursor of a terminal or turn the direction of reading: claims
/// and headers are anybody's.
pub fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => out.push('\n'),
            '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'
            | '\u{2029}' => {
                out.extend(character.escape_unicode());
            }
            control if control.is_control() => out.extend(control.escape_unicode()),
            other => out.push(other),
        }
    }
    out
}
