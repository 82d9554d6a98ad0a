//! The last refusals, in memory: for whoever looks at the admin port at night.
//!
//! A bounded number of entries of a bounded size; only a refusal writes here, never a request
//! that is answered. No token, secret or query gets in: an entry is made of what the access log
//! has. Who the caller was is kept apart, and left out unless it is asked for.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use percent_encoding::percent_decode_str;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::identity::Identity;
use crate::limits;
use crate::observe::timestamp::Timestamp;
use crate::rejection::Code;

/// What a refusal is made of.
pub(crate) struct Refused<'a> {
    pub(crate) request_id: &'a str,
    pub(crate) client_ip: IpAddr,
    pub(crate) method: Option<&'a str>,
    pub(crate) path: Option<&'a str>,
    pub(crate) route: Option<&'a Arc<str>>,
    pub(crate) code: Code,
    pub(crate) reason: &'a str,
    pub(crate) identity: Option<&'a Identity>,
}

/// One refused request.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Refusal {
    /// Goes up by one with each refusal since the start.
    pub number: u64,
    /// When it was over: RFC 3339, UTC.
    pub time: String,
    /// The `x-request-id` of the answer.
    pub request_id: String,
    /// The caller's address, behind trusted proxies.
    #[schemars(with = "String")]
    pub client_ip: IpAddr,
    /// The method; `null` for what was no whole request.
    pub method: Option<String>,
    /// The path as it came, without its query; cut off where it is very long.
    pub path: Option<String>,
    /// The route, if one was found.
    pub route: Option<Arc<str>>,
    /// The HTTP status.
    pub status: u16,
    /// The code of the refusal.
    pub code: &'static str,
    /// Why, for operators. Without names, what tells who the caller is reads `(hidden)`.
    pub reason: String,
    /// `oid` or `sub` of the token; `null` unless names are asked for.
    pub user: Option<String>,
    /// The application that asked for the token; `null` unless names are asked for.
    pub client_id: Option<String>,
}

/// An entry: with names, and what is put in their place.
#[derive(Debug)]
struct Entry {
    refusal: Refusal,
    /// Reason and path without names, where they have any.
    bare: Option<(String, Option<String>)>,
}

/// Whether an answer says who the callers were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// It does not.
    Hidden,
    /// It does.
    Shown,
}

/// The last refusals, and how many there were of each code.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    last: VecDeque<Entry>,
    count: u64,
    by_code: BTreeMap<&'static str, u64>,
}

impl Refusals {
    /// Counts and keeps a refusal; the oldest makes room.
    pub(crate) fn note(&self, refused: &Refused<'_>) {
        let mut entry = Entry::new(refused);
        let mut ring = self.lock();
        ring.count += 1;
        entry.refusal.number = ring.count;
        *ring.by_code.entry(entry.refusal.code).or_default() += 1;
        let oldest = (ring.last.len() >= limits::MAX_SHOWN_REFUSALS).then(|| ring.last.pop_front());
        ring.last.push_back(entry);
        drop(ring);
        drop(oldest);
    }

    /// Refusals since the start, by code.
    pub fn by_code(&self) -> BTreeMap<&'static str, u64> {
        self.lock().by_code.clone()
    }

    /// The last ones behind number `after`, the newest first.
    pub fn last(&self, names: Names, after: u64) -> Vec<Refusal> {
        let ring = self.lock();
        let newer = ring.last.iter().rev().take_while(|entry| entry.refusal.number > after);
        newer.map(|entry| entry.shown(names)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn new(refused: &Refused<'_>) -> Self {
        let identity = refused.identity;
        let answer = refused.code.answer();
        let name = |name: &Option<String>| name.as_deref().map(|name| cut(name, MAX_NAME));
        let refusal = Refusal {
            number: 0,
            time: Timestamp::now().to_string(),
            request_id: refused.request_id.to_owned(),
            client_ip: refused.client_ip,
            method: refused.method.map(|method| cut(method, MAX_METHOD)),
            path: refused.path.map(|path| cut(path, MAX_PATH)),
            route: refused.route.cloned(),
            status: answer.status.as_u16(),
            code: answer.name,
            reason: cut(&with_method_cut(refused.reason, refused.method), MAX_REASON),
            user: identity.and_then(|identity| name(&identity.user)),
            client_id: identity.and_then(|identity| name(&identity.client_id)),
        };
        let reason = plain(&without_names(&refusal.reason, identity), MAX_REASON);
        let path = refusal.path.as_deref();
        let path = path.map(|path| plain(&path_without_names(path, identity), MAX_PATH));
        // Not before: what is looked for is the name as it came.
        let refusal = Refusal {
            method: refusal.method.map(|method| plain(&method, MAX_METHOD)),
            path: refusal.path.map(|path| plain(&path, MAX_PATH)),
            reason: plain(&refusal.reason, MAX_REASON),
            user: refusal.user.map(|user| plain(&user, MAX_NAME)),
            client_id: refusal.client_id.map(|id| plain(&id, MAX_NAME)),
            ..refusal
        };
        let bare = (reason != refusal.reason || path != refusal.path).then_some((reason, path));
        Self { refusal, bare }
    }

    fn shown(&self, names: Names) -> Refusal {
        let mut refusal = self.refusal.clone();
        if names == Names::Hidden {
            (refusal.user, refusal.client_id) = (None, None);
            if let Some((reason, path)) = &self.bare {
                refusal.reason.clone_from(reason);
                refusal.path.clone_from(path);
            }
        }
        refusal
    }
}

/// Most bytes of each part of an entry: with these, [`limits::MAX_SHOWN_REFUSALS`] entries
/// and what stands in for names are below 1 MiB.
const MAX_METHOD: usize = 32;
const MAX_PATH: usize = 1024;
const MAX_REASON: usize = 2048;
const MAX_NAME: usize = 256;

/// What stands in place of a name.
const HIDDEN: &str = "(hidden)";

/// At most `max` bytes of `text`, and a sign where something is missing.
fn cut(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let head = text.get(..text.floor_char_boundary(max)).unwrap_or_default();
    format!("{head}…")
}

/// `reason` with a long `method` in it cut off, as where it stands alone.
fn with_method_cut(reason: &str, method: Option<&str>) -> String {
    match method {
        Some(method) if method.len() > MAX_METHOD => {
            reason.replace(method, &cut(method, MAX_METHOD))
        }
        Some(_) | None => reason.to_owned(),
    }
}

/// `text` without what a terminal obeys or what turns the direction of text; at most `max` bytes.
fn plain(text: &str, max: usize) -> String {
    let is_mark = text.ends_with('…');
    let text: String =
        text.chars().map(|c| if is_obeyed(c) { char::REPLACEMENT_CHARACTER } else { c }).collect();
    // What was cut off already has its sign.
    cut(&text, if is_mark { max + '…'.len_utf8() } else { max })
}

/// Control characters, and those that are not seen: marks of direction, joiners, separators of
/// lines, tags.
fn is_obeyed(c: char) -> bool {
    let unseen = matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}');
    c.is_control() || unseen
}

/// `text` without what tells who the caller is: the values of the token's claims where they are
/// quoted, its ids wherever they are, and what looks like a mail address.
fn without_names(text: &str, identity: Option<&Identity>) -> String {
    let mut text = text.to_owned();
    if let Some(identity) = identity {
        for id in [&identity.user, &identity.client_id].into_iter().flatten() {
            if id.len() >= MIN_ID {
                text = text.replace(id.as_str(), HIDDEN);
            }
        }
        for (claim, value) in identity.claims.iter() {
            if !says_nothing_of_a_person(claim) {
                hide_quoted(&mut text, &value);
            }
        }
    }
    hide_mail_addresses(&text)
}

/// `path` without its segments that are what tells who the caller is, however they are escaped.
fn path_without_names(path: &str, identity: Option<&Identity>) -> String {
    let Some(identity) = identity else { return without_names(path, None) };
    let personal = identity.claims.iter().filter(|(claim, _)| !says_nothing_of_a_person(claim));
    let values: Vec<Value> = personal.map(|(_, value)| value).collect();
    let claims = values.iter().filter_map(Value::as_str);
    let ids = [&identity.user, &identity.client_id].into_iter().flatten().map(String::as_str);
    let names: Vec<&str> = claims.chain(ids).filter(|name| !name.is_empty()).collect();
    let is_name = |segment: &str| {
        let segment = percent_decode_str(segment).decode_utf8_lossy();
        names.iter().any(|name| segment.eq_ignore_ascii_case(name))
    };
    let bare = path.split('/').map(|segment| if is_name(segment) { HIDDEN } else { segment });
    without_names(&bare.collect::<Vec<_>>().join("/"), Some(identity))
}

/// Ids that are shorter would be found by chance.
const MIN_ID: usize = 6;

/// Claims of the kind of token and of what was granted.
fn says_nothing_of_a_person(claim: &str) -> bool {
    matches!(
        claim,
        "aud"
            | "iss"
            | "tid"
            | "ver"
            | "scp"
            | "scope"
            | "roles"
            | "idtyp"
            | "typ"
            | "exp"
            | "nbf"
            | "iat"
            | "azpacr"
            | "acr"
    )
}

/// Hides `value` where it stands in backticks, as text or as JSON, also where it was cut off.
fn hide_quoted(text: &mut String, value: &Value) {
    let json = value.to_string();
    for value in [value.as_str().unwrap_or_default(), json.as_str()] {
        let Some(start) = value.get(..value.floor_char_boundary(QUOTED_PREFIX)) else { continue };
        let close = if start.len() == value.len() { "`" } else { "" };
        let quoted = format!("`{start}{close}");
        if start.is_empty() {
            continue;
        }
        while let Some((before, behind)) = text.split_once(&quoted) {
            let rest = if close.is_empty() {
                behind.split_once('`').map_or("", |(_, rest)| rest)
            } else {
                behind
            };
            *text = format!("{before}{HIDDEN}{rest}");
        }
    }
}

/// So much of a value tells it from others; reasons cut long ones off.
const QUOTED_PREFIX: usize = 24;

fn hide_mail_addresses(text: &str) -> String {
    if !text.contains('@') && !text.contains("%40") {
        return text.to_owned();
    }
    let is_part = |c: char| c.is_alphanumeric() || "@._-+%#'~".contains(c);
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let inside = is_part(first);
        let end = rest.find(|c| is_part(c) != inside).unwrap_or(rest.len());
        let (word, behind) = rest.split_at_checked(end).unwrap_or((rest, ""));
        let is_address = inside && (word.contains('@') || word.contains("%40"));
        out.push_str(if is_address { HIDDEN } else { word });
        rest = behind;
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::clock::UnixTime;
    use crate::identity::CallerKind;

    fn alice() -> Identity {
        let claims = json!({
            "name": "Alice Liddell", "department": "tea", "aud": "api://orders",
            "long": "a value that is longer than what is compared",
        });
        Identity {
            provider: "entra".into(),
            issuer: "https://issuer".into(),
            tenant: None,
            user: Some("alice-oid-1".to_owned()),
            client_id: Some("client-id-1".to_owned()),
            kind: CallerKind::User,
            scopes: Vec::new(),
            roles: Vec::new(),
            claims: claims.as_object().unwrap().clone().into(),
            expires_at: UnixTime(0),
        }
    }

    fn refused<'a>(reason: &'a str, path: &'a str, identity: Option<&'a Identity>) -> Refused<'a> {
        Refused {
            request_id: "r-1",
            client_ip: [127, 0, 0, 1].into(),
            method: Some("GET"),
            path: Some(path),
            route: None,
            code: Code::CallerNotAllowed,
            reason,
            identity,
        }
    }

    #[test]
    fn names_are_shown_only_to_who_asks_for_them() {
        let refusals = Refusals::default();
        let reason = "claim `name` is `\"Alice Liddell\"`, `tea`, `a value that is longer than wh…`, \
                      of alice-oid-1 (al@example.com); wants `api://orders`";
        let (path, alice) = ("/users/alice-oid-1/al%40example.com", alice());
        refusals.note(&refused(reason, path, Some(&alice)));

        let shown = &refusals.last(Names::Shown, 0)[0];
        assert_eq!((shown.reason.as_str(), shown.path.as_deref()), (reason, Some(path)));
        assert_eq!(shown.user.as_deref(), Some("alice-oid-1"));
        assert_eq!(shown.client_id.as_deref(), Some("client-id-1"));
        let hidden = &refusals.last(Names::Hidden, 0)[0];
        assert_eq!(
            hidden.reason,
            "claim `name` is (hidden), (hidden), (hidden), of (hidden) ((hidden)); wants `api://orders`"
        );
        assert_eq!(hidden.path.as_deref(), Some("/users/(hidden)/(hidden)"));
        assert_eq!((&hidden.user, &hidden.client_id), (&None, &None));
        assert_eq!((hidden.status, hidden.code), (403, "caller_not_allowed"));
    }

    #[test]
    fn a_segment_that_is_a_name_is_hidden_however_it_is_escaped() {
        let mut alice = alice();
        alice.user = Some("sso|al".to_owned());
        for (path, bare) in [
            ("/users/sso%7Cal/mail", "/users/(hidden)/mail"),
            ("/users/SSO|AL", "/users/(hidden)"),
            ("/by-name/Alice%20Liddell", "/by-name/(hidden)"),
            ("/tea", "/(hidden)"),
            ("/teapots/api:%2F%2Forders", "/teapots/api:%2F%2Forders"),
            ("//", "//"),
        ] {
            assert_eq!(path_without_names(path, Some(&alice)), bare, "{path}");
        }
        assert_eq!(path_without_names("/users/sso%7Cal", None), "/users/sso%7Cal");
    }

    #[test]
    fn the_last_ones_are_kept_and_all_are_counted() {
        let refusals = Refusals::default();
        let most = limits::MAX_SHOWN_REFUSALS as u64;
        for _ in 0..most + 3 {
            refusals.note(&refused("no", "/", None));
        }
        let numbers: Vec<_> =
            refusals.last(Names::Hidden, 0).iter().map(|refusal| refusal.number).collect();
        assert_eq!(numbers, (4..=most + 3).rev().collect::<Vec<_>>());
        assert_eq!(refusals.by_code(), BTreeMap::from([("caller_not_allowed", most + 3)]));
        assert_eq!(refusals.last(Names::Hidden, most + 1).len(), 2);
        assert!(refusals.last(Names::Hidden, most + 3).is_empty());
    }

    #[test]
    fn an_entry_is_bounded_whatever_is_sent() {
        let refusals = Refusals::default();
        let long = "ü".repeat(100_000);
        refusals.note(&Refused { method: Some(&long), ..refused(&long, &long, None) });
        let size = serde_json::to_string(&refusals.last(Names::Shown, 0)).unwrap().len();
        assert!(size < 4096, "{size}");
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_shown_and_long_methods_are_cut_everywhere() {
        let refusals = Refusals::default();
        let mut alice = alice();
        alice.claims =
            serde_json::Map::from_iter([("name".to_owned(), "Al\u{202e}ice".into())]).into();
        let method = "M".repeat(300);
        let reason = format!("`Al\u{202e}ice` \u{9b}31m \u{1b}[0m, method {method} refused: zoë");
        let mut one = refused(&reason, "/a\u{85}b\u{2066}c\u{200f}/é", Some(&alice));
        one.method = Some(&method);
        refusals.note(&one);
        for names in [Names::Shown, Names::Hidden] {
            let shown = &refusals.last(names, 0)[0];
            assert_eq!(shown.path.as_deref(), Some("/a\u{fffd}b\u{fffd}c\u{fffd}/é"));
            let cut = format!("{}…", "M".repeat(MAX_METHOD));
            assert_eq!(shown.method.as_ref(), Some(&cut));
            let rest = format!(" \u{fffd}31m \u{fffd}[0m, method {cut} refused: zoë");
            let name = if names == Names::Shown { "`Al\u{fffd}ice`" } else { HIDDEN };
            assert_eq!(shown.reason, format!("{name}{rest}"));
        }
    }
}
