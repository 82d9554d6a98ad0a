//! Holds the routes of a configuration to its policy tests, and says what no test reaches.

use http::HeaderName;
use serde::Serialize;

use super::expectation::{At, Expectation, Expected, ExpectedToken, PolicyTest};
use super::policy::{Rule, rules};
use super::{Bearer, End, Walk, conditions, walk};
use crate::authn::Requirement;
use crate::authn::supposition;
use crate::exchange::Foreseen;
use crate::rejection::Code;
use crate::snapshot::{Route, Snapshot};

/// What came of all tests.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Each test, in the order of the file.
    pub tests: Vec<Outcome>,
    /// What no test reaches.
    pub unreached: Vec<Unreached>,
}

/// What came of one test.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// Its name.
    pub name: String,
    /// Where it stands in the routes file: the line, from 1.
    pub line: u32,
    /// What was not as expected; empty: it passed.
    pub failures: Vec<Failure>,
}

/// What was not as expected.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// The line of the expectation, from 1.
    pub line: u32,
    /// Its column, in characters, from 1.
    pub column: u32,
    /// The key of `expect`.
    pub key: &'static str,
    /// What was expected; values in backticks.
    pub expected: String,
    /// What came.
    pub came: String,
    /// Why, where the request was refused: as the log would have it.
    pub reason: Option<String>,
}

/// A route, or a condition or rule of it, that no test reaches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unreached {
    /// The route.
    pub route: String,
    /// The key of `match` or `auth`; `None` for the route as a whole.
    pub rule: Option<&'static str>,
    /// What is missing, in a sentence without its subject.
    pub missing: String,
}

impl Report {
    /// How many tests failed.
    pub fn failed(&self) -> usize {
        self.tests.iter().filter(|test| !test.failures.is_empty()).count()
    }
}

/// Runs `tests` against `snapshot`, without any network.
pub async fn run(snapshot: &Snapshot, tests: &mut [PolicyTest]) -> Report {
    let mut walks = Vec::new();
    for test in &mut *tests {
        if let Some(token) = &test.token {
            let claims = supposition::with_defaults(&token.provider, token.claims.clone());
            test.asking.bearer = Bearer::Claims(claims);
        }
        walks.push(walk(snapshot, &test.asking).await);
    }
    let outcomes = tests.iter().zip(&walks).map(|(test, walk)| Outcome {
        name: test.name.clone(),
        line: test.at.line,
        failures: failures(test, walk),
    });
    let routes = snapshot.routes.iter().filter(|route| route.is_of_the_file());
    let unreached = routes.flat_map(|route| unreached(route, &walks));
    Report { tests: outcomes.collect(), unreached: unreached.collect() }
}

/// What is wrong about `walk`. What the upstream was to get is no further mistake of a request that was
/// to be forwarded and is not.
fn failures(test: &PolicyTest, walk: &Walk<'_>) -> Vec<Failure> {
    let mut failures = Vec::new();
    let mut is_said = false;
    for expectation in &test.expected {
        if is_said && expectation.what.is_of_upstream() {
            continue;
        }
        if let Some(failure) = failure(expectation, walk) {
            let is_end = expectation.what.is_of_upstream() || failure.key == "status";
            is_said |= is_end && !matches!(walk.end, End::Forwarded);
            failures.push(failure);
        }
    }
    failures
}

/// What is wrong about `walk`, by this expectation.
fn failure(expectation: &Expectation, walk: &Walk<'_>) -> Option<Failure> {
    let Expectation { at: At { line, column }, what } = expectation;
    let came = differs(what, walk)?;
    let reason = match &walk.end {
        End::Refused(rejection) => Some(rejection.reason()),
        End::Answered(answered) => answered.why_not.map(str::to_owned),
        End::Forwarded => None,
    };
    let (line, column) = (*line, *column);
    Some(Failure { line, column, key: what.key(), expected: what.to_string(), came, reason })
}

/// What came, if it is not as expected.
fn differs(expected: &Expected, walk: &Walk<'_>) -> Option<String> {
    let quoted = |text: &str| format!("`{text}`");
    let is = |is: bool, came: String| if is { None } else { Some(came) };
    let end = || match &walk.end {
        End::Forwarded => "`forward`".to_owned(),
        End::Answered(answered) => format!("`{}` ({})", answered.status.as_u16(), answered.kind),
        End::Refused(rejection) => {
            let answer = rejection.code().answer();
            format!("`{}` (`{}`)", answer.status.as_u16(), answer.name)
        }
    };
    let forwarded = walk.sent.as_ref().filter(|_| matches!(walk.end, End::Forwarded));
    match expected {
        Expected::Route(name) => {
            let came = walk.route.map(|route| &**route.metrics.name());
            is(came == Some(name), came.map_or_else(|| "no route".to_owned(), quoted))
        }
        Expected::Forward => is(forwarded.is_some(), end()),
        Expected::Status(wanted) => {
            let came = match &walk.end {
                End::Forwarded => None,
                End::Answered(answered) => Some(answered.status),
                End::Refused(rejection) => Some(rejection.code().answer().status),
            };
            is(came.is_some_and(|came| came.as_u16() == *wanted), end())
        }
        Expected::Code(wanted) => {
            let came = match &walk.end {
                End::Refused(rejection) => Some(rejection.code()),
                End::Forwarded | End::Answered(_) => None,
            };
            is(came == Some(*wanted), end())
        }
        Expected::Location(wanted) => {
            let came = match &walk.end {
                End::Answered(answered) => answered.location.as_deref(),
                End::Forwarded | End::Refused(_) => None,
            };
            is(came == Some(wanted), came.map_or_else(end, quoted))
        }
        Expected::UpstreamPath(wanted) => {
            let Some((_, sent)) = forwarded else { return Some(end()) };
            let path = sent.path.as_str();
            let came = if wanted.contains('?') { path } else { sent.path.path() };
            is(came == wanted, quoted(came))
        }
        Expected::UpstreamHeader(name, wanted) => {
            let Some((_, sent)) = forwarded else { return Some(end()) };
            let lines: Vec<_> = sent.headers.get_all(name).iter().collect();
            let came =
                lines.iter().map(|line| line.as_bytes()).collect::<Vec<_>>().join(&b", "[..]);
            let shown = match (lines.is_empty(), sent.hidden.contains(name)) {
                (true, _) => format!("no `{name}`"),
                (false, true) => format!("`{name}` with another value, which is not shown"),
                (false, false) => quoted(&format!("{name}: {}", String::from_utf8_lossy(&came))),
            };
            is(!lines.is_empty() && came == wanted.as_bytes(), shown)
        }
        Expected::UpstreamWithout(name) => {
            let Some((_, sent)) = forwarded else { return Some(end()) };
            is(!sent.headers.contains_key(name), format!("`{name}` is there"))
        }
        Expected::Token(wanted) => {
            let came = forwarded.and(walk.credential.as_ref());
            let Some(came) = came.map(as_expected) else { return Some(end()) };
            is(sorted(wanted) == sorted(&came), came.to_string())
        }
    }
}

/// What is foreseen in the words of `expect`.
fn as_expected(foreseen: &Foreseen) -> ExpectedToken {
    match foreseen {
        Foreseen::None => ExpectedToken::None,
        Foreseen::Passthrough => ExpectedToken::Passthrough,
        Foreseen::Header(name) => ExpectedToken::Header(
            HeaderName::try_from(name.as_str()).unwrap_or(http::header::AUTHORIZATION),
        ),
        Foreseen::ManagedIdentity(resource) => ExpectedToken::ManagedIdentity(resource.clone()),
        Foreseen::Exchange(exchange) => {
            let all = exchange.scopes.iter().chain(&exchange.audiences).chain(&exchange.resources);
            let all = all.cloned().collect();
            if exchange.kind == "on_behalf_of" {
                ExpectedToken::OnBehalfOf(all)
            } else {
                ExpectedToken::ClientCredentials(all)
            }
        }
    }
}

fn sorted(token: &ExpectedToken) -> ExpectedToken {
    let mut token = token.clone();
    if let ExpectedToken::OnBehalfOf(list) | ExpectedToken::ClientCredentials(list) = &mut token {
        list.sort_unstable();
    }
    token
}

/// What of `route` none of `walks` reaches: only what decided something is reached.
fn unreached(route: &Route, walks: &[Walk<'_>]) -> Vec<Unreached> {
    let name = route.metrics.name();
    let missing = |rule, missing: String| Unreached { route: name.to_string(), rule, missing };
    let takes = |walk: &&Walk<'_>| {
        walk.route.is_some_and(|it| std::ptr::eq(it, route)) && !walk.is_preflight()
    };
    let own: Vec<&Walk<'_>> = walks.iter().filter(takes).collect();
    if own.is_empty() {
        return vec![missing(None, "no test takes it".to_owned())];
    }
    let mut found = Vec::new();
    for (key, what) in conditions::unreached(route, walks, &own) {
        found.push(missing(Some(key), what));
    }
    if matches!(route.requirement, Requirement::Open) {
        return found;
    }
    let is_refused_with = |walk: &Walk<'_>, codes: &[Code]| match &walk.end {
        End::Refused(rejection) => codes.contains(&rejection.code()),
        End::Forwarded | End::Answered(_) => false,
    };
    if !own.iter().any(|walk| is_refused_with(walk, &[Code::TokenMissing])) {
        found.push(missing(Some("auth"), "no test comes without a token".to_owned()));
    }
    if !own.iter().any(|walk| walk.caller().is_some() && walk.passes_rules()) {
        found.push(missing(Some("auth"), "no test is let in".to_owned()));
    }
    let all = rules(&route.policy);
    for (index, Rule { key, policy, values }) in all.iter().enumerate() {
        for (value, alone) in values {
            // Who has two of several shows of neither that it would be enough.
            let lets_in = |walk: &&Walk<'_>| {
                let others = || values.iter().filter(|(_, other)| other != alone);
                walk.passes_rules()
                    && walk.caller().is_some_and(|it| {
                        Rule::is_met(alone, it) && !others().any(|(_, of)| Rule::is_met(of, it))
                    })
            };
            if !own.iter().any(lets_in) {
                let alone = if values.len() > 1 { " alone" } else { "" };
                found.push(missing(Some(*key), format!("no test is let in with {value}{alone}")));
            }
        }
        // Behind one that is not met a rule is not asked any more.
        let before = all.get(..index).unwrap_or_default();
        let denies = |walk: &&Walk<'_>| {
            is_refused_with(walk, &[Code::CallerNotAllowed, Code::InsufficientScope])
                && walk.caller().is_some_and(|it| {
                    !Rule::is_met(policy, it)
                        && before.iter().all(|rule| Rule::is_met(&rule.policy, it))
                })
        };
        if !own.iter().any(denies) {
            let of = policy.claims.keys().next().map(|it| format!(" of {it}")).unwrap_or_default();
            found.push(missing(Some(*key), format!("no test is refused by it{of}")));
        }
    }
    found
}
