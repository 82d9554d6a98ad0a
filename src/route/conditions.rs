//! What a route asks of a request beside host and path: method, headers and query.

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Method};
use url::form_urlencoded;

/// Whether a route with these `methods` takes `method`; none listed takes all, GET takes HEAD
/// (RFC 9110 §9.3.2: HEAD is GET without the body).
pub fn method_fits(methods: &[Method], method: &Method) -> bool {
    methods.is_empty()
        || methods.contains(method)
        || (*method == Method::HEAD && methods.contains(&Method::GET))
}

/// Whether some method is taken by both lists of a route with methods.
pub(super) fn methods_overlap(one: &[Method], other: &[Method]) -> bool {
    one.iter().any(|method| method_fits(other, method))
        || other.iter().any(|method| method_fits(one, method))
}

/// Whether each header has the wanted value. Several lines of one name are one list, as they
/// are for every reader of the message (RFC 9110 §5.3): a second line never hides the first. Space
/// around a value is no part of it (§5.5); HTTP/2 may carry it to us, and an HTTP/1.1 upstream
/// would not see it.
pub(super) fn headers_fit(wanted: &[(HeaderName, String)], headers: &HeaderMap) -> bool {
    wanted.iter().all(|(name, wanted)| {
        let mut lines = headers.get_all(name).iter();
        let Some(first) = lines.next() else { return false };
        let Some(second) = lines.next() else { return value(first) == wanted.as_bytes() };
        let mut joined = value(first).to_vec();
        for line in std::iter::once(second).chain(lines) {
            joined.extend_from_slice(b", ");
            joined.extend_from_slice(value(line));
        }
        joined == wanted.as_bytes()
    })
}

fn value(line: &HeaderValue) -> &[u8] {
    line.as_bytes().trim_ascii()
}

/// Whether each key stands in the query, and each time with the wanted value, form-decoded (`+`
/// is a space). Each time, because of a repeated key some upstreams read the first value and
/// others the last.
pub(super) fn query_fits(wanted: &[(String, String)], query: Option<&str>) -> bool {
    wanted.iter().all(|(key, value)| {
        let mut values = form_urlencoded::parse(query.unwrap_or_default().as_bytes())
            .filter_map(|(found, value)| (found == key.as_str()).then_some(value))
            .peekable();
        values.peek().is_some() && values.all(|is| is == value.as_str())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn get_takes_head_and_no_list_takes_all() {
        assert!(method_fits(&[], &Method::DELETE));
        assert!(method_fits(&[Method::GET], &Method::HEAD));
        assert!(!method_fits(&[Method::HEAD], &Method::GET));
        assert!(!method_fits(&[Method::GET], &Method::POST));
        assert!(methods_overlap(&[Method::GET], &[Method::HEAD]));
        assert!(!methods_overlap(&[Method::GET], &[Method::POST, Method::PUT]));
    }

    #[test]
    fn headers_are_compared_whole() {
        let wanted = [(HeaderName::from_static("x-v"), "2".to_owned())];
        let mut headers = HeaderMap::new();
        assert!(!headers_fit(&wanted, &headers));
        headers.append("x-v", HeaderValue::from_static("2"));
        assert!(headers_fit(&wanted, &headers));
        headers.insert("x-v", HeaderValue::from_static(" 2\t"));
        assert!(headers_fit(&wanted, &headers));
        headers.append("x-v", HeaderValue::from_static("3"));
        assert!(!headers_fit(&wanted, &headers));
        let list = [(HeaderName::from_static("x-v"), "2, 3".to_owned())];
        assert!(headers_fit(&list, &headers));
    }

    #[test]
    fn a_query_condition_holds_at_every_occurrence() {
        let wanted = [("b c".to_owned(), "1&2".to_owned())];
        assert!(query_fits(&wanted, Some("a=0&b%20c=1%262")));
        assert!(query_fits(&wanted, Some("b+c=1%262&a=0&b%20c=1%262")));
        assert!(!query_fits(&wanted, Some("b+c=0&b%20c=1%262")));
        assert!(!query_fits(&wanted, Some("b%20c=1%262&b+c=0")));
        assert!(!query_fits(&wanted, Some("b%20c=1%262&b+c")));
        assert!(!query_fits(&wanted, Some("a=0")));
        assert!(!query_fits(&wanted, Some("b+c=1&2")));
        assert!(!query_fits(&wanted, None));
        assert!(query_fits(&[], None));
    }
}
