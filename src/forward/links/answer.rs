//! What changes about an answer whose links are replaced, beside the links.
//!
//! Of an answer in JSON nobody knows before its end whether a link is in it, so its head says what
//! holds either way: no length, no digest, no ranges, and no strong entity tag. The tag is marked,
//! so that the upstream gets its own back in `If-Match` and `If-None-Match`: Azure Resource
//! Manager changes nothing for a weak one. In `If-Range` it stays as it is, which no upstream
//! takes for its own: ranges of a body that was changed can't be had from one that was not.

use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_LOCATION,
    CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH, LOCATION,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body::Body as _;

use super::Linking;
use super::body::{Damaged, Relinked};
use super::coding::Coding;
use crate::body::Body;

/// Header fields that are links.
const LINKS: [HeaderName; 4] = [
    LOCATION,
    CONTENT_LOCATION,
    HeaderName::from_static("azure-asyncoperation"),
    HeaderName::from_static("operation-location"),
];

/// What says how the bytes of a body come out (RFC 9530, RFC 3230, RFC 1864).
const DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];

/// What the gateway puts at the end of an entity tag that it made weak.
const MARK: &str = ";links";

impl Linking {
    /// Replaces the links of an answer: in its head at once, in its body as it streams.
    ///
    /// # Errors
    ///
    /// Its body is compressed, it says, and its first bytes are not.
    pub(in crate::forward) async fn relink_answer(
        self: Box<Self>,
        response: Response<Body>,
    ) -> Result<Response<Body>, Damaged> {
        let (mut head, body) = response.into_parts();
        self.relink_fields(head.status, &mut head.headers);
        if head.status == StatusCode::NOT_MODIFIED {
            // It speaks of an answer whose length was not told, and maybe by the marked tag.
            head.headers.remove(CONTENT_LENGTH);
            if self.marked {
                mark(&mut head.headers);
            }
        }
        let Some(coding) = coding_to_read(head.status, &head.headers) else {
            return Ok(Response::from_parts(head, body));
        };
        for name in [CONTENT_LENGTH, ACCEPT_RANGES] {
            head.headers.remove(name);
        }
        remove_digests(&mut head.headers);
        mark(&mut head.headers);
        if self.method == Method::HEAD || body.is_end_stream() {
            return Ok(Response::from_parts(head, body));
        }
        let relinked = Relinked::new(body, self, coding).begun().await?;
        Ok(Response::from_parts(head, Body::stream(relinked)))
    }

    fn relink_fields(&self, status: StatusCode, headers: &mut HeaderMap) {
        // A client repeats its request at the `Location` of these, method and all.
        let repeats =
            matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
        for name in LINKS {
            let method = if repeats && name == LOCATION { &self.method } else { &Method::GET };
            let http::header::Entry::Occupied(mut values) = headers.entry(name) else { continue };
            for value in values.iter_mut() {
                let Ok(text) = value.to_str() else { continue };
                let tail_at = text.find(['?', '#']).unwrap_or(text.len());
                let Some((link, tail)) = text.split_at_checked(tail_at) else { continue };
                let path = self.relink_for(method, link, tail);
                let linked = path.and_then(|path| HeaderValue::try_from(path + tail).ok());
                if let Some(linked) = linked {
                    *value = linked;
                }
            }
        }
    }
}

/// The coding of a body that is searched for links, `Some(None)` if it has none; `None` where the
/// body passes as it is.
#[allow(clippy::option_option, reason = "whether it is read, and whether it is coded")]
fn coding_to_read(status: StatusCode, headers: &HeaderMap) -> Option<Option<Coding>> {
    let is_whole = !status.is_informational()
        && !matches!(
            status,
            StatusCode::NO_CONTENT | StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED
        )
        && !headers.contains_key(CONTENT_RANGE);
    if !is_whole || !headers.get(CONTENT_TYPE).is_some_and(is_json) {
        return None;
    }
    let mut codings = headers.get_all(CONTENT_ENCODING).iter();
    let Some(coding) = codings.next() else { return Some(None) };
    if codings.next().is_some() {
        return None;
    }
    let coding = coding.to_str().ok()?.trim();
    if coding.is_empty() || coding.eq_ignore_ascii_case("identity") {
        return Some(None);
    }
    Coding::named(coding).map(Some)
}

/// `application/json`, and every type that ends with `+json` (RFC 6839 §3.1).
fn is_json(content_type: &HeaderValue) -> bool {
    let text = content_type.as_bytes();
    let essence = text.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let ends = |with: &[u8]| {
        let at = essence.len().checked_sub(with.len());
        at.and_then(|at| essence.get(at..)).is_some_and(|end| end.eq_ignore_ascii_case(with))
    };
    essence.eq_ignore_ascii_case(b"application/json") || (ends(b"+json") && essence.contains(&b'/'))
}

/// Removes what says how the bytes of a body come out.
pub(super) fn remove_digests(headers: &mut HeaderMap) {
    for name in DIGESTS {
        headers.remove(name);
    }
}

/// Makes a strong entity tag a weak one that can be told from the upstream's own.
fn mark(headers: &mut HeaderMap) {
    let Some(tag) = headers.get(ETAG).and_then(|tag| tag.to_str().ok()) else { return };
    let Some(opaque) = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')) else { return };
    if let Ok(marked) = HeaderValue::try_from(format!("W/\"{opaque}{MARK}\"")) {
        headers.insert(ETAG, marked);
    }
}

/// Makes a request one whose answer can be read: gives the upstream its own entity tags back, and
/// asks for no coding that is unknown here. Says whether there was a marked tag.
pub(super) fn adapt_request(headers: &mut HeaderMap) -> bool {
    let mut marked = false;
    for name in [IF_MATCH, IF_NONE_MATCH] {
        let http::header::Entry::Occupied(mut values) = headers.entry(name) else { continue };
        for value in values.iter_mut() {
            let Some(own) = value.to_str().ok().and_then(unmark) else { continue };
            if let Ok(own) = HeaderValue::try_from(own) {
                *value = own;
                marked = true;
            }
        }
    }
    let codings = headers.get_all(ACCEPT_ENCODING).iter();
    let codings: Option<Vec<&str>> = codings.map(|value| value.to_str().ok()).collect();
    if let Some(known) = codings.and_then(|codings| known_codings(&codings)) {
        headers.insert(ACCEPT_ENCODING, known);
    }
    marked
}

/// A list of entity tags with the marked ones as the upstream gave them; `None` if none is.
fn unmark(list: &str) -> Option<String> {
    let mut own = String::with_capacity(list.len());
    let mut found = false;
    let mut rest = list;
    // An entity tag has no quotes inside (RFC 9110 §8.8.3).
    while let Some((before, behind)) = rest.split_once('"') {
        let Some((opaque, after)) = behind.split_once('"') else { break };
        match (before.strip_suffix("W/"), opaque.strip_suffix(MARK)) {
            (Some(before), Some(opaque)) => {
                own.extend([before, "\"", opaque, "\""]);
                found = true;
            }
            _ => own.extend([before, "\"", opaque, "\""]),
        }
        rest = after;
    }
    own.push_str(rest);
    found.then_some(own)
}

/// `Accept-Encoding` without the codings that can't be read here; `None` if it has no others.
fn known_codings(lines: &[&str]) -> Option<HeaderValue> {
    let elements = || lines.iter().flat_map(|line| line.split(',')).map(str::trim);
    let name_of = |element: &str| element.split(';').next().unwrap_or_default().trim().to_owned();
    let mut changed = false;
    let mut known: Vec<String> = Vec::new();
    for element in elements().filter(|element| !element.is_empty()) {
        let name = name_of(element);
        if name == "*" && !refuses(element) {
            // Whatever is not named: of those that are known, and in the same words.
            changed = true;
            let weight = element.strip_prefix('*').unwrap_or_default();
            let unnamed = ["gzip", "deflate", "br"].into_iter();
            let unnamed = unnamed.filter(|coding| {
                !elements().any(|element| name_of(element).eq_ignore_ascii_case(coding))
            });
            known.extend(unnamed.map(|coding| format!("{coding}{weight}")));
        } else if name == "*"
            || name.eq_ignore_ascii_case("identity")
            || Coding::named(&name).is_some()
        {
            known.push(element.to_owned());
        } else {
            changed = true;
        }
    }
    if !changed {
        return None;
    }
    // An empty field asks for no coding at all, which is what is left (RFC 9110 §12.5.3).
    if known.is_empty() {
        known.push("identity".to_owned());
    }
    HeaderValue::try_from(known.join(", ")).ok()
}

/// Whether an element of `Accept-Encoding` has the weight 0.
fn refuses(element: &str) -> bool {
    let weights = element.split(';').skip(1).map(str::trim);
    weights
        .filter_map(|weight| weight.strip_prefix("q=").or(weight.strip_prefix("Q=")))
        .any(|q| !q.is_empty() && q.bytes().all(|byte| matches!(byte, b'0' | b'.')))
}
