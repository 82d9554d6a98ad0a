//! The fuzz targets: each takes any bytes and panics if what must hold of the outcome doesn't.
//!
//! `fuzz/` runs them under libFuzzer, built with the feature `fuzzing`; the tests at the end
//! run them on the seeds and on everything that was ever found. In no product. What a target
//! reads besides bytes, if anything, is said with it.

#![allow(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "to panic is how a target speaks"
)]

use std::sync::{Arc, LazyLock};

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};

use crate::clock::SystemClock;
use crate::config::resolve::{Lasting, resolve};
use crate::config::{self, Environment};
use crate::exchange::challenge::{self, Claims};
use crate::forward::SystemResolver;
use crate::limits;
use crate::observe::Metrics;
use crate::rejection::{Code, Extra, Rejection};
use crate::respond;
use crate::route::{EncodedSlashes, PathPattern, RouteMatch, RouteTable, Target};

/// A target.
pub type Judge = fn(&[u8]);

/// All targets, by name.
pub const TARGETS: [(&str, Judge); 17] = [
    ("answer", answer),
    ("bearer", bearer),
    ("challenge", challenge),
    ("chunked", chunked),
    ("claims", claims),
    ("fields", fields),
    ("frames", frames),
    ("framing", framing),
    ("keys", keys),
    ("links", links),
    ("metadata", metadata),
    ("pattern", pattern),
    ("proof", proof),
    ("proxy", proxy),
    ("routes", routes),
    ("target", target),
    ("token", token),
];

/// What a token endpoint answers: the first byte chooses the status, the rest is the body.
pub fn answer(data: &[u8]) {
    crate::exchange::fuzzing::answer(data);
}

/// The `Authorization` headers of a request, one a line.
pub fn bearer(data: &[u8]) {
    crate::authn::fuzzing::bearer(data);
}

/// The claims of a token, behind a good signature.
pub fn claims(data: &[u8]) {
    crate::authn::fuzzing::claims(data);
}

/// A body in chunks, and what is behind it.
pub fn chunked(data: &[u8]) {
    crate::accept::fuzzing::chunked(data);
}

/// The fields of a request, one a line.
pub fn fields(data: &[u8]) {
    crate::forward::fuzzing::fields(data);
}

/// The bytes of an HTTP/2 connection, behind one byte that says how they are cut.
pub fn frames(data: &[u8]) {
    crate::accept::fuzzing::frames(data);
}

/// The beginning of a connection behind a load balancer.
pub fn proxy(data: &[u8]) {
    crate::accept::fuzzing::proxy(data);
}

/// The bytes of an HTTP/1 connection, behind one byte that says how they are cut.
pub fn framing(data: &[u8]) {
    crate::accept::fuzzing::framing(data);
}

/// A JWK set.
pub fn keys(data: &[u8]) {
    crate::authn::fuzzing::keys(data);
}

/// A body in JSON of an upstream, behind one byte that says how it is cut; and a link of its head.
pub fn links(data: &[u8]) {
    crate::forward::links::fuzzing::links(data);
}

/// A discovery document.
pub fn metadata(data: &[u8]) {
    crate::authn::fuzzing::metadata(data);
}

/// A DPoP proof: the field, or header and claims in lines, which are then signed; and a URL.
pub fn proof(data: &[u8]) {
    crate::authn::fuzzing::proof(data);
}

/// A compact token, or its parts in lines.
pub fn token(data: &[u8]) {
    crate::authn::fuzzing::token(data);
}

/// The `WWW-Authenticate` fields of an upstream, one a line; and our own challenge of the same
/// text: whatever is in it, the header reads back as what was meant.
pub fn challenge(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let mut headers = HeaderMap::new();
    let mut first = None;
    for line in text.split('\n') {
        let Ok(value) = HeaderValue::from_str(line) else { continue };
        headers.append(WWW_AUTHENTICATE, value);
        if line.is_ascii() && line.len() <= limits::MAX_CHALLENGE_BYTES {
            first = first.or_else(|| challenge::claims_in(line));
        }
    }
    let found = challenge::claims_wanted(&headers);
    assert!(found == first, "one field after the other");
    if let Some(claims) = &found {
        assert!(claims.text().len() <= limits::MAX_CLAIMS_BYTES);
        assert!(serde_json::from_str::<serde_json::Value>(claims.text()).unwrap().is_object());
        crate::exchange::fuzzing::merged(claims);
        // What we are asked for, we can ask the caller for.
        assert!(challenge::claims_in(&written("https://a/", Some(claims.text()))) == found);
    }

    let (uri, claims) = text.split_once('\n').unwrap_or((text, ""));
    let header = written(uri, (!claims.is_empty()).then_some(claims));
    assert!(challenge::claims_in(&header) == Claims::from_json(claims), "{header}");
    let (before, rest) = header.split_once(", client_id=\"66666666\", ").expect("it is there once");
    if uri.is_empty() {
        assert_eq!(before, "Bearer realm=\"\"", "{header}");
    } else {
        assert!(before.starts_with("Bearer realm=\"\", authorization_uri=\""), "{header}");
        assert_eq!(before.matches('"').count(), 4, "{header}");
    }
    if claims.is_empty() {
        assert_eq!(rest, "error=\"interaction_required\"", "{header}");
    } else {
        let quoted: Vec<&str> = rest.split('"').skip(1).step_by(2).collect();
        assert_eq!((quoted.len(), quoted[0]), (2, "insufficient_claims"), "{header}");
        let decoded = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, quoted[1]);
        assert_eq!(decoded.expect("base64 with padding"), claims.as_bytes());
    }
}

/// Our challenge, as the caller gets it.
fn written(uri: &str, claims: Option<&str>) -> String {
    let rejection = Rejection::new(Code::ClaimsChallenge, "x", "").with(Extra::Claims {
        authorization_uri: uri.to_owned(),
        client_id: "66666666".to_owned(),
        claims: claims.map(str::to_owned),
    });
    let response = respond::refusal(&rejection, "id", Version::HTTP_11, None);
    let header = response.headers().get(WWW_AUTHENTICATE).expect("a challenge");
    header.to_str().expect("visible ASCII").to_owned()
}

/// The target of a request, as it stands in the request line.
pub fn target(data: &[u8]) {
    let Some(target) = parse_target(data) else { return };
    let path = target.path();
    assert!(path.starts_with('/'), "{path}");
    assert!(!path.contains("//") && !path.contains(['\\', '#', '?', ' ', '\0']), "{path}");
    let dots = |segment: &str| segment == "." || segment == "..";
    assert!(!path.split('/').any(dots), "{path}");
    let hidden = |segment: &str| segment.split_once(';').is_some_and(|(before, _)| dots(before));
    assert!(!path.split('/').any(hidden), "{path}");
    let came = data.split(|byte| *byte == b'?').nth(1).map(|_| {
        let start = data.iter().position(|byte| *byte == b'?').unwrap_or_default() + 1;
        String::from_utf8_lossy(data.get(start..).unwrap_or_default()).into_owned()
    });
    // A `#` ends the query for `http::Uri`; on HTTP/1 it is refused before.
    if !data.contains(&b'#') {
        assert_eq!(target.query(), came.as_deref(), "the query stays byte for byte");
    }
    // What is forwarded and read again is the same.
    let again = parse_target(path.as_bytes()).expect("a canonical path is accepted");
    assert_eq!(again.path(), path);
}

fn parse_target(text: &[u8]) -> Option<Target> {
    let uri = Uri::try_from(text).ok()?;
    // The host is the header's; one in the target has to agree, and is not looked at here.
    let host = uri.authority().map_or_else(|| "api.example".to_owned(), ToString::to_string);
    let request = Request::builder().method(Method::GET).uri(uri).header("host", host);
    Target::parse(&request.body(()).ok()?).ok()
}

/// The path of a route and the path of a request, in two lines.
pub fn pattern(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let (pattern, path) = text.split_once('\n').unwrap_or((text, "/"));
    let parsed = match PathPattern::parse(pattern) {
        Ok(parsed) => parsed,
        Err(error) => {
            let shown = error.to_string();
            assert!(!shown.is_empty());
            return;
        }
    };
    assert_eq!(parsed.text(), pattern);
    assert_eq!(PathPattern::parse(pattern).as_ref(), Ok(&parsed));
    let mut names: Vec<String> = parsed.names().map(str::to_owned).collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count, "each name stands once");
    for encoded_slashes in [EncodedSlashes::Reject, EncodedSlashes::Keep] {
        let matching = RouteMatch {
            path: parsed.clone(),
            hosts: vec![],
            methods: vec![],
            headers: vec![],
            query: vec![],
            ignore_case: false,
            encoded_slashes,
        };
        let table = RouteTable::build(vec![(matching, ())]).expect("one route is not ambiguous");
        if let Some(target) = parse_target(path.as_bytes())
            && let Ok(found) = table.find(&target, &HeaderMap::new())
        {
            for (index, _) in parsed.names().enumerate() {
                let taken = found.captures.text(index, target.path());
                assert!(taken.is_some(), "name {index} of {pattern} took nothing of {path}");
            }
        }
    }
}

/// A routes file: read, resolved, and its problems printed. No file is named by it, and no
/// variable is there.
pub fn routes(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    // Written in the file it is no secret from outside.
    if text.contains(SECRET) {
        return;
    }
    // What a name leads to on this machine is not of the input: pipes and devices least of all.
    if ["file", "jwks", "tls", "ca_"].iter().any(|key| text.contains(key)) {
        return;
    }
    let environment = || Environment::of([("CLIENT_SECRET", SECRET)], "/nowhere");
    let read = || config::read(text, "routes.yaml", &environment());
    let (reading, again) = (read(), read());
    let shown = reading.problems.to_string();
    assert_eq!(shown, again.problems.to_string());
    assert!(!shown.contains(SECRET), "{shown}");
    let refused = reading.problems.refuse();
    assert!(refused || reading.file.is_some(), "what is not read has a problem");
    // A carriage return alone is a line break to YAML (§5.4).
    let lines = text.split(['\n', '\r']).count();
    for problem in reading.problems.sorted() {
        let line = problem.place.map_or(1, |place| place.line as usize);
        assert!((1..=lines + 1).contains(&line), "line {line} of {lines}: {}", problem.message);
        assert!(!problem.message.is_empty());
    }
    match resolve(reading, &environment(), &LASTING, None) {
        Ok((resolved, warnings)) => {
            assert!(!refused && !warnings.refuse());
            assert!(!resolved.listeners.is_empty());
            assert!(!warnings.to_string().contains(SECRET));
        }
        Err(problems) => {
            assert!(problems.refuse());
            let shown = problems.to_string();
            assert!(!shown.contains(SECRET), "{shown}");
        }
    }
}

/// What the environment of a routes file has.
const SECRET: &str = "outside-7f3d-never-printed";

static LASTING: LazyLock<Lasting> = LazyLock::new(|| {
    Lasting::new(Arc::new(SystemClock), Metrics::default(), Arc::new(SystemResolver))
});

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz");

    fn inputs(kind: &str, target: &str) -> Vec<PathBuf> {
        let folder = Path::new(FOLDER).join(kind).join(target);
        let Ok(files) = fs::read_dir(folder) else { return Vec::new() };
        files.map(|file| file.unwrap().path()).collect()
    }

    #[test]
    fn what_fuzzing_found_and_what_it_begins_with_holds() {
        for (name, judge) in TARGETS {
            let seeds = inputs("corpus", name);
            assert!(!seeds.is_empty(), "target `{name}` has no seeds in fuzz/corpus/{name}/");
            assert!(std::panic::catch_unwind(|| judge(b"")).is_ok(), "target `{name}` on nothing");
            for path in seeds.into_iter().chain(inputs("regressions", name)) {
                let data = fs::read(&path).unwrap();
                let judged = std::panic::catch_unwind(|| judge(&data));
                assert!(judged.is_ok(), "target `{name}` fails on {}", path.display());
            }
        }
    }

    #[test]
    fn each_target_is_run() {
        let programs = fs::read_dir(Path::new(FOLDER).join("targets")).unwrap();
        let mut programs: Vec<String> = programs
            .map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        programs.sort();
        assert_eq!(programs, TARGETS.map(|(name, _)| name.to_owned()));
        let manifest = fs::read_to_string(Path::new(FOLDER).join("Cargo.toml")).unwrap();
        for name in programs {
            assert!(manifest.contains(&format!("path = \"targets/{name}.rs\"")), "{name}");
        }
    }
}
