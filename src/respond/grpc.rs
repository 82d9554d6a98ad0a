//! A refusal as gRPC has it: `Trailers-Only` of its HTTP/2 mapping. The HTTP status is 200, and
//! what happened is in `grpc-status` and `grpc-message`; a client library tells its program of
//! these two, while of any other status it makes what it likes.

use std::fmt::Write as _;

use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Response, StatusCode};

use crate::body::Body;
use crate::rejection::{Code, Rejection};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Whether this is the media type of gRPC itself: `application/grpc`, alone or with the name of
/// what its messages are made of. gRPC-Web is another protocol, and takes the HTTP status.
pub(super) fn is_grpc(content_type: &HeaderValue) -> bool {
    const NAME: &[u8] = b"application/grpc";
    let text = content_type.as_bytes();
    text.get(..NAME.len()).is_some_and(|start| start.eq_ignore_ascii_case(NAME))
        && matches!(text.get(NAME.len()), None | Some(b'+' | b';' | b' ' | b'\t'))
}

/// Makes the answer to a refusal one that gRPC reads. What else is in its head stays: the
/// challenge, `Retry-After`, `Cache-Control`.
pub(super) fn trailers_only(response: &mut Response<Body>, rejection: &Rejection) {
    *response.body_mut() = Body::empty();
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_STATUS, HeaderValue::from_static(status(rejection.code())));
    let title = rejection.code().answer().title;
    let detail = rejection.detail();
    super::insert(headers, GRPC_MESSAGE, escaped(if detail.is_empty() { title } else { detail }));
}

/// The status of gRPC that says the same (`google.rpc.Code`).
///
/// Where gRPC's own table of HTTP statuses (`http-grpc-status-mapping.md`) is for clients that
/// know nothing but the status, we know more: a limit is `RESOURCE_EXHAUSTED`, which libraries do
/// not retry unasked, and a time that ran out is `DEADLINE_EXCEEDED`. What the table says of 400 is
/// kept: the application has no part in a malformed request, so it is not `INVALID_ARGUMENT`.
fn status(code: Code) -> &'static str {
    const DEADLINE_EXCEEDED: &str = "4";
    const PERMISSION_DENIED: &str = "7";
    const RESOURCE_EXHAUSTED: &str = "8";
    const UNIMPLEMENTED: &str = "12";
    const INTERNAL: &str = "13";
    const UNAVAILABLE: &str = "14";
    const UNAUTHENTICATED: &str = "16";
    match code {
        Code::TokenMissing | Code::TokenInvalid | Code::TokenExpired | Code::ClaimsChallenge => {
            UNAUTHENTICATED
        }
        Code::InsufficientScope | Code::CallerNotAllowed | Code::ConsentRequired => {
            PERMISSION_DENIED
        }
        Code::RouteNotFound | Code::MethodNotAllowed => UNIMPLEMENTED,
        Code::BodyTooLarge | Code::HeadersTooLarge | Code::RateLimited => RESOURCE_EXHAUSTED,
        Code::RequestTimeout | Code::UpstreamTimeout => DEADLINE_EXCEEDED,
        Code::BadRequest | Code::Internal => INTERNAL,
        Code::UpstreamUnreachable
        | Code::ExchangeFailed
        | Code::ProviderUnavailable
        | Code::UpstreamOverloaded => UNAVAILABLE,
    }
}

/// `Percent-Encoded` of gRPC's HTTP/2 mapping: what is not printable ASCII, and `%`, as UTF-8
/// bytes in hexadecimal.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | 0..b' ' | 0x7f.. => {
                // Writing to a string does not fail.
                write!(escaped, "%{byte:02X}").unwrap_or_default();
            }
            b' '..=b'~' => escaped.push(char::from(byte)),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_media_type_of_grpc_and_none_that_looks_like_it() {
        for (text, grpc) in [
            ("application/grpc", true),
            ("Application/gRPC+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/grpcx", false),
            ("application/grp", false),
            ("text/plain", false),
        ] {
            assert_eq!(is_grpc(&HeaderValue::from_static(text)), grpc, "{text}");
        }
    }

    #[test]
    fn messages_are_printable_ascii() {
        for (text, sent) in [
            ("The token is bad.", "The token is bad."),
            ("~ }", "~ }"),
            ("100 %", "100 %25"),
            ("a\r\nb\u{7f}", "a%0D%0Ab%7F"),
            ("ü€", "%C3%BC%E2%82%AC"),
        ] {
            assert_eq!(escaped(text), sent);
            HeaderValue::from_str(sent).unwrap();
        }
    }

    #[test]
    fn statuses_that_client_libraries_act_on() {
        for (code, number) in [
            (Code::TokenExpired, "16"),
            (Code::InsufficientScope, "7"),
            (Code::RouteNotFound, "12"),
            (Code::BodyTooLarge, "8"),
            (Code::RateLimited, "8"),
            (Code::UpstreamTimeout, "4"),
            (Code::ProviderUnavailable, "14"),
            (Code::Internal, "13"),
        ] {
            assert_eq!(status(code), number, "{code:?}");
        }
    }
}
