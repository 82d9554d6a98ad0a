//! The page for people at `/`: which files it is made of, and what a browser may do with them.
//!
//! It is the same for everybody and holds no data, so it is open like health. It calls the API as any
//! other client would, and what the API refuses it does not have. The browser is told to load
//! nothing from elsewhere, to run no script but these, and (trusted types) to let no text become
//! markup: a route's name, or the path of a refused request, was written by somebody else.

use http::{HeaderValue, Response, StatusCode, header};

use crate::admin::respond;
use crate::body::Body;

/// A file of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct File {
    path: &'static str,
    media_type: &'static str,
    text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

const FILES: [File; 9] = [
    File { path: "/", media_type: HTML, text: include_str!("page/page.html") },
    File { path: "/page/page.css", media_type: CSS, text: include_str!("page/page.css") },
    File { path: "/page/main.js", media_type: JS, text: include_str!("page/main.js") },
    File { path: "/page/api.js", media_type: JS, text: include_str!("page/api.js") },
    File { path: "/page/history.js", media_type: JS, text: include_str!("page/history.js") },
    File { path: "/page/charts.js", media_type: JS, text: include_str!("page/charts.js") },
    File { path: "/page/sections.js", media_type: JS, text: include_str!("page/sections.js") },
    File { path: "/page/state.js", media_type: JS, text: include_str!("page/state.js") },
    File { path: "/page/elements.js", media_type: JS, text: include_str!("page/elements.js") },
];

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src data:; base-uri 'none'; frame-ancestors 'none'; form-action 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'";

impl File {
    pub(super) fn at(path: &str) -> Option<Self> {
        FILES.into_iter().find(|file| file.path == path)
    }

    pub(super) fn answer(self) -> Response<Body> {
        let mut response = respond(StatusCode::OK, self.media_type, self.text);
        let policy = HeaderValue::from_static(POLICY);
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that is named in another, and not served, is a page that does not work.
    #[test]
    fn what_the_files_name_is_served() {
        let mut named = 0;
        for file in FILES {
            for piece in file.text.split(['"', '\'']) {
                let path = match piece.strip_prefix("./") {
                    Some(module) => format!("/page/{module}"),
                    None if piece.starts_with("page/") => format!("/{piece}"),
                    None => continue,
                };
                assert!(File::at(&path).is_some(), "{} names {path}", file.path);
                named += 1;
            }
        }
        assert!(named >= FILES.len() - 1, "each file is named by another");
    }

    #[test]
    fn nothing_in_the_files_makes_markup_of_text_or_names_another_place() {
        for file in FILES {
            for forbidden in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                " style=",
                "onclick=",
                "https://",
                "//cdn",
                "localStorage",
                "document.cookie",
            ] {
                assert!(!file.text.contains(forbidden), "{} has {forbidden}", file.path);
            }
        }
        assert_eq!(File::at("/page/"), None);
        assert_eq!(File::at("/page/page.html"), None);
    }
}
