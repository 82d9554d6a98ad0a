//! `cors` of a route.

use std::time::Duration;

use http::{HeaderName, Method};

use super::super::super::file::{self, HeaderChanges};
use super::super::super::spanned::{List, Spanned};
use super::super::super::value::Text;
use super::super::headers;
use super::Resolver;
use crate::cors::{Cors, Methods, Names, Origin, OriginError, Origins, Policy, is_access_control};
use crate::route;

/// Longest that any browser remembers an answer to a preflight.
const MAX_AGE: Duration = Duration::from_hours(24);

/// The word for all: alone in its list.
const ALL: &str = "*";

impl Resolver<'_, '_> {
    /// Which pages may call the route.
    pub(super) fn cors(&mut self, route: &Spanned<file::Route>) -> Option<Box<Cors>> {
        let cors = route.cors.as_ref()?;
        self.refuse_own_words(route);
        let origins = self.origins(&cors.origins, cors.credentials);
        let methods = self.cors_methods(cors.methods.as_ref(), route);
        let headers = match &cors.headers {
            Some(listed) => self.names(listed, None),
            None => Some(Names::Listed(
                file::Cors::DEFAULT_HEADERS.map(HeaderName::from_static).to_vec(),
            )),
        };
        let with_credentials = "browsers take `*` for a name where pages send credentials: name the headers, or remove `credentials`";
        let expose = self.names(&cors.expose, cors.credentials.then_some(with_credentials));
        if cors.max_age.value.0 > MAX_AGE {
            let message = "`max_age` is more than a day";
            self.finding.error(
                cors.max_age.place,
                message,
                "no browser remembers it for longer: write `24h` or less",
            );
        }
        let policy = Policy {
            origins: origins?,
            methods: methods?,
            headers: headers?,
            expose: expose?,
            max_age: cors.max_age.value.0.as_secs(),
            credentials: cors.credentials,
        };
        Some(Box::new(Cors::new(policy)))
    }

    fn origins(&mut self, listed: &List<Spanned<Text>>, credentials: bool) -> Option<Origins> {
        if let Some(all) = listed.0.iter().find(|text| &*text.value.0 == ALL) {
            let problem = if listed.0.len() > 1 {
                Some((
                    "`*` beside other origins",
                    "write `\"*\"` alone for all origins, or name them",
                ))
            } else if credentials {
                Some((
                    "all origins, and credentials",
                    "every page that a user opens could act in their name: name the origins, or remove `credentials`",
                ))
            } else {
                None
            };
            let Some((message, hint)) = problem else { return Some(Origins::Any) };
            self.finding.error(all.place, message, hint);
            return None;
        }
        let mut origins = Vec::new();
        for text in &listed.0 {
            match Origin::parse(&text.value) {
                Ok(origin) => origins.push(origin),
                Err(error) => self.refuse_origin(text, &error),
            }
        }
        (origins.len() == listed.0.len()).then_some(Origins::Listed(origins))
    }

    fn refuse_origin(&mut self, text: &Spanned<Text>, error: &OriginError) {
        let hint = match error {
            OriginError::Spelled(right) => {
                format!("write what the browser sends in `Origin`: `{right}`")
            }
            OriginError::NotOne => {
                "write scheme and host, and a port if there is one: `https://app.example.com`, `http://localhost:3000`".to_owned()
            }
            OriginError::Null => {
                "any page can make itself one of those: name the page's origin; for all pages write `origins: [\"*\"]`".to_owned()
            }
            OriginError::Star => {
                "write `https://*.example.com` for all hosts below one, or `\"*\"` alone for all origins".to_owned()
            }
        };
        let message = format!("`{}` can't be one of `origins`: {error}", text.value);
        self.finding.error(text.place, message, hint);
    }

    /// Of these, pages are told those that the route takes.
    fn cors_methods(
        &mut self,
        listed: Option<&List<Spanned<Text>>>,
        route: &Spanned<file::Route>,
    ) -> Option<Methods> {
        let Some(listed) = listed else { return Some(Methods::OfRoute) };
        if let [all] = listed.0.as_slice()
            && &*all.value.0 == ALL
        {
            return Some(Methods::OfRoute);
        }
        let taken: Vec<Method> = super::list(route.r#match.methods.as_ref())
            .iter()
            .filter_map(|text| Method::from_bytes(text.value.as_bytes()).ok())
            .collect();
        let mut methods = Vec::new();
        for text in &listed.0 {
            let Some(method) = self.method(text) else { continue };
            if !route::takes_method(&taken, &method) {
                let message = format!("the route does not take {method}");
                let hint = if method == Method::OPTIONS {
                    "preflights need no OPTIONS: remove it here"
                } else {
                    "add it to `match.methods`, or remove it here"
                };
                self.finding.warning(text.place, message, hint);
            }
            methods.push(method);
        }
        (methods.len() == listed.0.len()).then_some(Methods::Listed(methods))
    }

    /// Names of header fields, or all; `no_all` says why it can't be all.
    fn names(&mut self, listed: &[Spanned<Text>], no_all: Option<&str>) -> Option<Names> {
        if let Some(all) = listed.iter().find(|text| &*text.value.0 == ALL) {
            let hint = if listed.len() > 1 {
                Some("write `\"*\"` alone for all headers, or name them")
            } else {
                no_all
            };
            let Some(hint) = hint else { return Some(Names::Any) };
            self.finding.error(all.place, "`*` can't stand here", hint);
            return None;
        }
        let names: Vec<HeaderName> = listed
            .iter()
            .filter_map(|text| headers::name(&text.value, text.place, self.finding))
            .collect();
        (names.len() == listed.len()).then_some(Names::Listed(names))
    }

    /// What the route says of the protocol by itself would be removed from its answers.
    fn refuse_own_words(&mut self, route: &Spanned<file::Route>) {
        let HeaderChanges { set, add, remove } = &route.response_headers;
        let own = set.0.iter().map(|(name, _)| (name.value.as_str(), name.place));
        let own = own.chain(add.0.iter().map(|(name, _)| (name.value.as_str(), name.place)));
        let own = own.chain(remove.iter().map(|name| (&*name.value.0, name.place)));
        let fixed = route.respond.iter().flat_map(|respond| &respond.headers.0);
        let fixed = fixed.map(|(name, _)| (name.value.as_str(), name.place));
        let said: Vec<_> = own
            .chain(fixed)
            .filter(|(name, _)| HeaderName::try_from(*name).is_ok_and(|it| is_access_control(&it)))
            .collect();
        for (name, place) in said {
            let message = format!("`{name}` beside `cors`");
            self.finding.error(place, message, "`cors` sets it: remove it here, or `cors`");
        }
    }
}
