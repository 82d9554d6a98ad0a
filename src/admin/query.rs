//! The query of a request to the admin API: which of many entries are wanted, and whether with
//! names; or what is to be forgotten. What is unknown or makes no sense is refused, not passed over.

use url::form_urlencoded;

use crate::limits;
use crate::observe::refusals::Names;
use crate::rejection::{Code, Rejection};

/// A parameter that an endpoint may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parameter {
    /// `limit`: most entries in one answer.
    Limit,
    /// `after`: entries behind the one of this name only; `next` of the answer before.
    After,
    /// `name`: the entry of this name only.
    Name,
    /// `since`: entries behind this number only.
    Since,
    /// `names`: whether it is said who the callers were.
    Names,
    /// `upstream`: tokens for this one only.
    Upstream,
    /// `tenant`: tokens of a user of this one only.
    Tenant,
    /// `oid`: that user.
    Oid,
    /// `provider`: tokens of a user of this one only.
    Provider,
    /// `user`: that user.
    User,
}

/// What a query says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) limit: usize,
    pub(super) after: Option<String>,
    pub(super) name: Option<String>,
    pub(super) since: u64,
    pub(super) names: Names,
    pub(super) upstream: Option<String>,
    pub(super) tenant: Option<String>,
    pub(super) oid: Option<String>,
    pub(super) provider: Option<String>,
    pub(super) user: Option<String>,
}

impl Parameter {
    fn key(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::After => "after",
            Self::Name => "name",
            Self::Since => "since",
            Self::Names => "names",
            Self::Upstream => "upstream",
            Self::Tenant => "tenant",
            Self::Oid => "oid",
            Self::Provider => "provider",
            Self::User => "user",
        }
    }
}

impl Query {
    /// Reads `query`, which may have each of `allowed` once.
    pub(super) fn parse(query: Option<&str>, allowed: &[Parameter]) -> Result<Self, Rejection> {
        let mut parsed = Self {
            limit: limits::ADMIN_PAGE,
            after: None,
            name: None,
            since: 0,
            names: Names::Hidden,
            upstream: None,
            tenant: None,
            oid: None,
            provider: None,
            user: None,
        };
        let mut seen = Vec::new();
        for (key, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            let parameter = allowed.iter().find(|parameter| parameter.key() == key);
            let Some(parameter) = parameter else { return Err(unknown(allowed)) };
            if seen.contains(parameter) {
                return Err(bad(format!("`{}` is there twice.", parameter.key())));
            }
            seen.push(*parameter);
            parsed.set(*parameter, &value)?;
        }
        Ok(parsed)
    }

    fn set(&mut self, parameter: Parameter, value: &str) -> Result<(), Rejection> {
        match parameter {
            Parameter::Limit => {
                let limit = value.parse().ok();
                let limit = limit.filter(|limit| (1..=limits::MAX_ADMIN_PAGE).contains(limit));
                self.limit = limit.ok_or_else(|| {
                    bad(format!("`limit` is a number from 1 to {}.", limits::MAX_ADMIN_PAGE))
                })?;
            }
            Parameter::After => self.after = Some(value.to_owned()),
            Parameter::Name => self.name = Some(value.to_owned()),
            Parameter::Upstream => self.upstream = Some(value.to_owned()),
            Parameter::Tenant => self.tenant = Some(value.to_owned()),
            Parameter::Oid => self.oid = Some(value.to_owned()),
            Parameter::Provider => self.provider = Some(value.to_owned()),
            Parameter::User => self.user = Some(value.to_owned()),
            Parameter::Since => {
                let since = value.parse().ok();
                self.since = since.ok_or_else(|| bad("`since` is the `number` of a refusal."))?;
            }
            Parameter::Names => {
                self.names = match value {
                    "true" => Names::Shown,
                    "false" => Names::Hidden,
                    _ => return Err(bad("`names` is `true` or `false`.")),
                };
            }
        }
        Ok(())
    }

    /// The entries of `all` that are wanted, sorted by what `name` says of them.
    pub(super) fn page<T>(&self, mut all: Vec<T>, name: impl Fn(&T) -> &str) -> Page<T> {
        all.sort_by(|one, other| name(one).cmp(name(other)));
        let total = all.len();
        let is_wanted = |entry: &T| {
            let own = name(entry);
            self.name.as_deref().is_none_or(|only| only == own)
                && self.after.as_deref().is_none_or(|after| own > after)
        };
        all.retain(is_wanted);
        let more = all.len() > self.limit;
        all.truncate(self.limit);
        let next = all.last().filter(|_| more).map(|last| name(last).to_owned());
        Page { entries: all, total, next }
    }
}

/// Some of many.
pub(super) struct Page<T> {
    pub(super) entries: Vec<T>,
    /// How many there are in all.
    pub(super) total: usize,
    /// What to ask for `after`, if there are more.
    pub(super) next: Option<String>,
}

fn unknown(allowed: &[Parameter]) -> Rejection {
    let known: Vec<_> = allowed.iter().map(|it| format!("`{}`", it.key())).collect();
    bad(match known.as_slice() {
        [] => "This takes no query.".to_owned(),
        known => {
            format!("The query has a parameter that is unknown here; known: {}.", known.join(", "))
        }
    })
}

fn bad(detail: impl Into<String>) -> Rejection {
    Rejection::new(Code::BadRequest, detail.into(), "")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &[Parameter] =
        &[Parameter::Limit, Parameter::After, Parameter::Name, Parameter::Since, Parameter::Names];

    fn parse(query: &str) -> Result<Query, String> {
        Query::parse(Some(query), ALL).map_err(|rejection| rejection.detail().to_owned())
    }

    #[test]
    fn parameters_are_read_and_what_is_wrong_is_named() {
        let query = parse("limit=10000&after=a%2Fb&name=n&since=7&names=true").unwrap();
        assert_eq!((query.limit, query.since, query.names), (10_000, 7, Names::Shown));
        assert_eq!((query.after.as_deref(), query.name.as_deref()), (Some("a/b"), Some("n")));
        assert_eq!(parse("").unwrap(), Query::parse(None, ALL).unwrap());
        for (wrong, said) in [
            ("limit=0", "`limit` is"),
            ("limit=10001", "`limit` is"),
            ("limit=x", "`limit` is"),
            ("since=-1", "`since` is"),
            ("names=yes", "`names` is"),
            ("name=a&name=b", "`name` is there twice"),
            ("token=x", "known: `limit`, `after`"),
        ] {
            let detail = parse(wrong).unwrap_err();
            assert!(detail.contains(said) && !detail.contains("token"), "{wrong}: {detail}");
        }
        assert!(Query::parse(Some("limit=1"), &[]).is_err());
    }

    #[test]
    fn pages_follow_each_other_without_a_gap() {
        let all = || (0..25).map(|number| format!("{number:02}")).collect::<Vec<_>>();
        let (mut seen, mut query) = (Vec::new(), parse("limit=10").unwrap());
        loop {
            let page = query.page(all(), String::as_str);
            assert_eq!(page.total, 25);
            seen.extend(page.entries);
            match page.next {
                Some(next) => query.after = Some(next),
                None => break,
            }
        }
        assert_eq!(seen, all());
        let one = parse("name=07").unwrap().page(all(), String::as_str);
        assert_eq!((one.entries, one.total, one.next), (vec!["07".to_owned()], 25, None));
        let whole = parse("limit=25").unwrap().page(all(), String::as_str);
        assert_eq!((whole.entries.len(), whole.next), (25, None));
    }
}
