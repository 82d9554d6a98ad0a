//! Who may ask by way of a browser: the admin port's own page, and no other.
//!
//! Any site that an operator looks at can have the browser send requests to loopback, and, by
//! letting its own name lead there (DNS rebinding), even read the answers. So where no token
//! guards the port, the `Host` must be an address or a loopback name: those no site can have.
//! With `admin.token` any name will do, such as that of a Kubernetes Service or an ingress: a
//! site has no token to show, and a browser sends none by itself.
//!
//! A browser says where a request comes from, in `Sec-Fetch-Site` or in `Origin`. One that comes
//! from elsewhere is refused, with the token too. Who is no browser says neither, and is let pass,
//! unless it sends a form: that is all a page could send by a browser that says nothing.

use std::net::IpAddr;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::rejection::{Code, Rejection};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// That the request was sent to an address or to a loopback name.
pub(super) fn check_host(parts: &Parts) -> Result<(), Rejection> {
    let mut hosts = hosts(parts).peekable();
    if hosts.peek().is_some() && hosts.all(|host| host.is_some_and(is_ours)) {
        return Ok(());
    }
    Err(Rejection::new(
        Code::CallerNotAllowed,
        "Without `admin.token` this is answered by address or as `localhost` only, not by any \
         other name. Use one of these, or set `admin.token`.",
        "",
    ))
}

/// That a request that a browser sends comes from a page of this port, or from a person. A page of
/// another site may still lead somebody here: that shows nothing to it.
pub(super) fn check_site(parts: &Parts) -> Result<(), Rejection> {
    let only = |name| {
        let mut values = parts.headers.get_all(name).iter();
        values.next().map(|value| values.next().is_none().then_some(value))
    };
    let is_same = match (only(SEC_FETCH_SITE), only(header::ORIGIN)) {
        (Some(site), _) => site.is_some_and(|site| site == "same-origin" || site == "none"),
        (None, Some(origin)) => origin.is_some_and(|origin| is_origin_of(origin, parts)),
        (None, None) => true,
    };
    if is_same {
        return Ok(());
    }
    Err(Rejection::new(Code::CallerNotAllowed, "This is not answered to pages of other sites.", ""))
}

/// That the request is none that a page can have a browser send without saying so: a form.
pub(super) fn check_form(headers: &HeaderMap) -> Result<(), Rejection> {
    // Who says where it comes from was looked at.
    if headers.contains_key(SEC_FETCH_SITE) || headers.contains_key(header::ORIGIN) {
        return Ok(());
    }
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    if types.all(|media_type| !is_of_a_form(media_type)) {
        return Ok(());
    }
    Err(Rejection::new(
        Code::CallerNotAllowed,
        "This takes no form: send no body and no `Content-Type`, or `application/json`.",
        "",
    ))
}

/// The types that need no preflight (Fetch, "CORS-safelisted request-header"), and what is none.
fn is_of_a_form(media_type: &HeaderValue) -> bool {
    let Ok(media_type) = media_type.to_str() else { return true };
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    !essence.eq_ignore_ascii_case("application/json")
}

/// The hosts that the request names: of its target, and of `Host`.
fn hosts(parts: &Parts) -> impl Iterator<Item = Option<&str>> {
    let target = parts.uri.authority().map(|authority| Some(authority.as_str()));
    let fields = parts.headers.get_all(header::HOST).iter();
    target.into_iter().chain(fields.map(|host| host.to_str().ok()))
}

fn is_ours(authority: &str) -> bool {
    let Some(host) = host_of(authority) else { return false };
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if address.parse::<IpAddr>().is_ok() {
        return true;
    }
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// The host of `host[:port]`.
fn host_of(authority: &str) -> Option<&str> {
    if authority.contains('@') {
        return None;
    }
    let end_of_address = authority.rfind(']').map_or(0, |at| at + 1);
    match authority.get(end_of_address..)?.rfind(':') {
        Some(colon) => {
            let (host, port) = authority.split_at_checked(end_of_address + colon)?;
            port.get(1..)?.bytes().all(|byte| byte.is_ascii_digit()).then_some(host)
        }
        None => Some(authority),
    }
}

/// Whether `origin` is that of the place that the request was sent to.
fn is_origin_of(origin: &HeaderValue, parts: &Parts) -> bool {
    let Ok(origin) = origin.to_str() else { return false };
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let is_same = |host: &str| {
        let default = match scheme {
            "http" => ":80",
            "https" => ":443",
            _ => return false,
        };
        let bare = |authority: &str| {
            authority.strip_suffix(default).unwrap_or(authority).to_ascii_lowercase()
        };
        bare(authority) == bare(host)
    };
    let mut hosts = hosts(parts).peekable();
    hosts.peek().is_some() && hosts.all(|host| host.is_some_and(is_same))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn parts(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn without_a_token_it_is_asked_by_address_or_as_localhost() {
        for host in [
            "127.0.0.1:9901",
            "127.0.0.1",
            "[::1]:9901",
            "[::1]",
            "10.0.0.7:80",
            "localhost",
            "LOCALHOST:9901",
            "localhost.:1",
            "gateway.localhost:9901",
        ] {
            check_host(&parts("/", &[("host", host)])).expect(host);
            check_host(&parts(&format!("http://{host}/"), &[])).expect(host);
        }
        for host in [
            "evil.example:9901",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "evillocalhost",
            "localhost:9901x",
            "127.0.0.1@evil.example",
            "0x7f000001",
            "[::1]evil.example",
            "[::1",
            "",
            ".",
        ] {
            check_host(&parts("/", &[("host", host)])).expect_err(host);
        }
        check_host(&parts("/", &[])).expect_err("no host");
        let two = parts("http://localhost/", &[("host", "evil.example")]);
        check_host(&two).expect_err("two hosts");
    }

    #[test]
    fn pages_of_other_sites_are_not_answered() {
        let host = ("host", "localhost:9901");
        for headers in [
            &[][..],
            &[("sec-fetch-site", "same-origin")],
            &[("sec-fetch-site", "none")],
            &[("origin", "http://localhost:9901")],
            &[("origin", "HTTP://x"), ("sec-fetch-site", "same-origin")],
        ] {
            let headers: Vec<_> = headers.iter().copied().chain([host]).collect();
            check_site(&parts("/", &headers)).unwrap_or_else(|_| panic!("{headers:?}"));
        }
        check_site(&parts("/", &[("origin", "https://a.example"), ("host", "a.example:443")]))
            .expect("the port of the scheme is left out");
        for headers in [
            &[("sec-fetch-site", "cross-site")][..],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "none")],
            &[("origin", "null")],
            &[("origin", "http://localhost:3000")],
            &[("origin", "http://localhost")],
            &[("origin", "http://evil.example")],
            &[("origin", "ftp://localhost:9901")],
            &[("origin", "http://localhost:9901"), ("origin", "http://localhost:9901")],
        ] {
            let headers: Vec<_> = headers.iter().copied().chain([host]).collect();
            assert!(check_site(&parts("/", &headers)).is_err(), "{headers:?}");
        }
    }

    #[test]
    fn a_form_is_no_request_for_a_reload() {
        let check = |headers: &[(&str, &str)]| check_form(&parts("/", headers).headers);
        for media_type in [
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "text/plain",
            "text/plain;application/json",
            "",
        ] {
            assert!(check(&[("content-type", media_type)]).is_err(), "{media_type}");
        }
        check(&[]).unwrap();
        check(&[("content-type", "application/json; charset=utf-8")]).unwrap();
        let own = ("origin", "http://localhost:9901");
        check(&[own, ("content-type", "text/plain")]).unwrap();
    }
}
