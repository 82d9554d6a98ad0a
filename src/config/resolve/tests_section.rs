//! `tests`: each becomes a policy test, which `obo-gateway test` runs.

use std::sync::Arc;

use super::super::file::{self, RoutesFile, TestToken};
use super::super::problem::{Place, Problem};
use super::super::spanned::{OneOrMany, Spanned};
use super::super::suggest::did_you_mean;
use super::super::value::{ExpectedStatus, Text};
use super::names::{self, Section};
use super::providers::Providers;
use super::{Finding, headers};
use crate::authn::Provider;
use crate::dry_run::{
    Asking, At, ClaimedToken, Expectation, Expected, ExpectedToken, PolicyTest, Unaskable,
};
use crate::public_url::PublicUrl;
use crate::rejection::Code;
use crate::snapshot::Route;

/// Where a test without a host of its own is sent, if the file has no `server.public_url`.
const LOCALHOST: &str = "localhost";

/// Resolves the tests of `file`, whose routes became `routes`.
pub(super) fn resolve<'r>(
    file: &RoutesFile,
    providers: &Providers,
    public_url: Option<&PublicUrl>,
    routes: impl Iterator<Item = &'r Route>,
    finding: &mut Finding<'_>,
) -> Vec<PolicyTest> {
    let routes = routes.filter(|route| route.is_of_the_file());
    let routes: Vec<&str> = routes.map(|route| &**route.metrics.name()).collect();
    let mut resolver =
        Resolver { providers, default_host: default_host(public_url), routes, finding };
    file.tests.iter().filter_map(|test| resolver.test(test)).collect()
}

/// The host that a request names where it is written as a path.
pub fn default_host(public_url: Option<&PublicUrl>) -> String {
    let behind_scheme = public_url.and_then(|it| it.url().split_once("://"));
    let host = behind_scheme.and_then(|(_, rest)| rest.split('/').next());
    host.unwrap_or(LOCALHOST).to_owned()
}

struct Resolver<'a, 'f> {
    providers: &'a Providers,
    default_host: String,
    routes: Vec<&'a str>,
    finding: &'a mut Finding<'f>,
}

impl Resolver<'_, '_> {
    fn test(&mut self, test: &Spanned<file::Test>) -> Option<PolicyTest> {
        let request = &test.request.value;
        let asking = self.asking(request);
        let token = match test.token.as_ref().map(|it| (&it.value, it.key_place())) {
            None | Some((TestToken::None, _)) => Ok(None),
            Some((TestToken::Claims(claims), place)) => {
                self.refuse_own_authorization(request);
                self.claims(claims, place).map(Some).ok_or(())
            }
        };
        let expected = self.expected(&test.expect.value);
        let method = request.method.as_ref().map_or("GET", |method| &method.value);
        let called = request.url.as_ref().or(request.path.as_ref());
        let made = || format!("{method} {}", called.map_or("", |it| &it.value));
        Some(PolicyTest {
            name: test.name.as_ref().map_or_else(made, |name| name.value.0.clone()),
            at: at(test.place),
            asking: asking?,
            token: token.ok()?,
            expected,
        })
    }

    fn asking(&mut self, request: &file::TestRequest) -> Option<Asking> {
        let method = request.method.as_ref().map_or("GET", |method| &method.value);
        let url = request.url.as_ref().or(request.path.as_ref())?;
        if let Some(path) = request.path.as_ref().filter(|path| !path.value.starts_with('/')) {
            let message = format!("`{}` is not a path", path.value);
            self.finding.error(path.place, message, "write `path: /orders/1`, or a whole `url`");
            return None;
        }
        let mut fields = Vec::new();
        let mut are_fine = true;
        for (name, value) in &request.headers.0 {
            let known = headers::name(&name.value, name.place, self.finding).and(headers::value(
                &value.value,
                value.place,
                self.finding,
            ));
            are_fine &= known.is_some();
            fields.push((name.value.clone(), value.value.clone()));
        }
        if !are_fine {
            return None;
        }
        match Asking::new(method, &url.value, &fields, &self.default_host) {
            Ok(asking) => Some(asking),
            Err(wrong) => {
                let place = match (&wrong, &request.method) {
                    (Unaskable::Method(_), Some(method)) => method.place,
                    (
                        Unaskable::Method(_)
                        | Unaskable::Url(_)
                        | Unaskable::User
                        | Unaskable::Fragment(_)
                        | Unaskable::Header(_),
                        _,
                    ) => url.place,
                };
                let text = wrong.to_string();
                let (message, hint) = text.rsplit_once("; ").unwrap_or((&text, "write another"));
                self.finding.error(place, message, hint);
                None
            }
        }
    }

    /// Two tokens would be too many, and which of them counts is not for a test to say.
    fn refuse_own_authorization(&mut self, request: &file::TestRequest) {
        let own = request.headers.0.iter().find(|(name, _)| {
            let name = name.value.to_ascii_lowercase();
            name == "authorization"
        });
        if let Some((name, _)) = own {
            let message = "`authorization` beside the claims of `token`";
            let hint = "the claims stand for it: remove one of the two";
            self.finding.error(name.place, message, hint);
        }
    }

    fn claims(&mut self, token: &file::TestClaims, place: Place) -> Option<ClaimedToken> {
        let provider = self.provider(token.provider.as_ref(), place)?;
        let claims = token.claims.0.iter();
        let claims = claims.map(|(name, claim)| (name.value.clone(), claim.0.clone())).collect();
        Some(ClaimedToken { provider, claims })
    }

    /// The provider called `name`, or the only one.
    fn provider(&mut self, name: Option<&Spanned<Text>>, place: Place) -> Option<Arc<Provider>> {
        if let Some(name) = name {
            let known = self.providers.find(&name.value);
            if known.is_none() {
                names::unknown(name, Section::Providers, self.finding);
            }
            return known.map(|known| Arc::clone(&known.provider));
        }
        if self.finding.provider_names.len() == 1 {
            // If it is not among them, it has a problem, which has been said.
            return self.providers.iter().next().map(|known| Arc::clone(&known.provider));
        }
        let names = self.finding.provider_names.join(", ");
        let hint = format!("add `provider:`; providers here: {names}");
        self.finding.error(place, "this `token` does not say which provider it is of", hint);
        None
    }

    fn expected(&mut self, expect: &file::Expect) -> Vec<Expectation> {
        let mut expected = Vec::new();
        let mut add = |place: Place, what| expected.push(Expectation { at: at(place), what });
        if let Some(route) = &expect.route {
            self.check_route(route);
            add(route.place, Expected::Route(route.value.0.clone()));
        }
        match expect.status.as_ref().map(|status| (status.value, status.place)) {
            Some((ExpectedStatus::Forward, place)) => add(place, Expected::Forward),
            Some((ExpectedStatus::Number(status), place)) => {
                add(place, Expected::Status(status.as_u16()));
            }
            None => {}
        }
        if let Some(code) = &expect.code
            && let Some(known) = self.code(code, expect.status.as_ref())
        {
            add(code.place, Expected::Code(known));
        }
        if let Some(location) = &expect.location {
            add(location.place, Expected::Location(location.value.0.clone()));
        }
        if let Some(path) = &expect.upstream_path {
            add(path.place, Expected::UpstreamPath(path.value.0.clone()));
        }
        for (name, value) in &expect.upstream_headers.0 {
            if let Some(name) = headers::name(&name.value, name.place, self.finding) {
                add(value.place, Expected::UpstreamHeader(name, value.value.clone()));
            }
        }
        for name in expect.upstream_without.iter().flat_map(|names| &names.0) {
            if let Some(known) = headers::name(&name.value, name.place, self.finding) {
                add(name.place, Expected::UpstreamWithout(known));
            }
        }
        if let Some(token) = &expect.token
            && let Some(known) = self.token(&token.value)
        {
            add(token.key_place(), Expected::Token(known));
        }
        self.refuse_contradictions(expect);
        expected
    }

    fn check_route(&mut self, route: &Spanned<Text>) {
        // Routes with problems are not among those that are known.
        if self.finding.problems.refuse() || self.routes.contains(&&*route.value.0) {
            return;
        }
        let hint = did_you_mean(&route.value, "routes here", self.routes.iter().copied());
        self.finding.error(route.place, format!("unknown route `{}`", route.value), hint);
    }

    fn code(
        &mut self,
        code: &Spanned<Text>,
        status: Option<&Spanned<ExpectedStatus>>,
    ) -> Option<Code> {
        let names = Code::ALL.iter().map(|code| code.answer().name);
        let Some(known) = Code::ALL.iter().find(|it| it.answer().name == code.value.0) else {
            let hint = did_you_mean(&code.value, "codes are", names);
            self.finding.error(code.place, format!("unknown code `{}`", code.value), hint);
            return None;
        };
        let own = known.answer().status;
        if let Some(status) = status
            && status.value != ExpectedStatus::Number(own)
        {
            let message = format!("`{}` comes with status {}", code.value, own.as_u16());
            let problem = Problem::error(code.place, message);
            let problem = problem.related(status.place, "another status is expected here");
            let hint = "expect one of the two, or change one";
            self.finding.problems.push(problem.hint(hint));
        }
        Some(*known)
    }

    fn token(&mut self, token: &file::ExpectedToken) -> Option<ExpectedToken> {
        use file::ExpectedCredential as Of;
        let all = |list: &OneOrMany<Spanned<Text>>| -> Vec<String> {
            list.0.iter().map(|text| text.value.0.clone()).collect()
        };
        Some(match token {
            file::ExpectedToken::None | file::ExpectedToken::Of(Of::None(_)) => ExpectedToken::None,
            file::ExpectedToken::Passthrough | file::ExpectedToken::Of(Of::Passthrough(_)) => {
                ExpectedToken::Passthrough
            }
            file::ExpectedToken::Of(Of::OnBehalfOf(list)) => ExpectedToken::OnBehalfOf(all(list)),
            file::ExpectedToken::Of(Of::ClientCredentials(list)) => {
                ExpectedToken::ClientCredentials(all(list))
            }
            file::ExpectedToken::Of(Of::ManagedIdentity(resource)) => {
                ExpectedToken::ManagedIdentity(resource.value.0.clone())
            }
            file::ExpectedToken::Of(Of::Header(name)) => {
                ExpectedToken::Header(headers::name(&name.value, name.place, self.finding)?)
            }
        })
    }

    /// What an upstream gets can't be expected of a request that does not reach one.
    fn refuse_contradictions(&mut self, expect: &file::Expect) {
        let ends_here = match (&expect.status, &expect.code, &expect.location) {
            (Some(status), ..) if status.value != ExpectedStatus::Forward => {
                Some(status.key_place())
            }
            (_, Some(code), _) => Some(code.key_place()),
            (_, _, Some(location)) => Some(location.key_place()),
            _ => None,
        };
        let Some(ends_here) = ends_here else { return };
        let of_upstream = [
            expect.upstream_path.as_ref().map(|it| ("upstream_path", it.key_place())),
            expect.upstream_headers.0.first().map(|(it, _)| ("upstream_headers", it.place)),
            expect
                .upstream_without
                .as_ref()
                .and_then(|it| it.0.first())
                .map(|it| ("upstream_without", it.place)),
            expect.token.as_ref().map(|it| ("token", it.key_place())),
        ];
        for (key, place) in of_upstream.into_iter().flatten() {
            let message = format!("`{key}` of a request that is not forwarded");
            let problem = Problem::error(place, message).related(ends_here, "it ends here");
            let hint = "no upstream hears of it: remove one of the two";
            self.finding.problems.push(problem.hint(hint));
        }
    }
}

fn at(place: Place) -> At {
    At { line: place.line, column: place.column }
}
