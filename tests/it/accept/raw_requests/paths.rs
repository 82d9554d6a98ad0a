//! Spellings of paths.

use super::Expect::{Cut, Forwarded, Refused};
use super::{Expect, Row, row, target};

/// No spelling of a path reaches what `/open/admin` guards.
pub(super) fn paths() -> Vec<Row> {
    const BAD: Expect = Refused(&[400]);
    // The guarded route asks for a token.
    const GUARDED: Expect = Refused(&[401]);
    vec![
        target("as it stands", GUARDED, "/open/admin/x"),
        target("without what follows", GUARDED, "/open/admin"),
        target("two slashes", GUARDED, "/open//admin/x"),
        target("slashes in front", GUARDED, "//open/admin/x"),
        target("a dot segment", GUARDED, "/open/./admin/x"),
        target("two dots", GUARDED, "/open/y/../admin/x"),
        target("encoded dots", GUARDED, "/open/y/%2e%2E/admin/x"),
        target("a half-encoded dot segment", GUARDED, "/open/y/.%2e/admin/x"),
        target("dots beyond the root", GUARDED, "/../../open/admin/x"),
        target("an encoded letter", GUARDED, "/open/%61dmin/x"),
        target("all letters encoded", GUARDED, "/%6f%70%65%6e/%61%64%6d%69%6e/x"),
        target("a letter encoded twice", BAD, "/open/%2561dmin/x"),
        target("an encoded slash", BAD, "/open%2fadmin/x"),
        target("an encoded slash in capitals", BAD, "/open%2Fadmin/x"),
        target("an encoded slash behind two dots", BAD, "/open/y/..%2fadmin/x"),
        target("a slash encoded twice", BAD, "/open/y%252f..%252fadmin/x"),
        target("a backslash", BAD, "/open/y\\..\\admin/x"),
        target("an encoded backslash", BAD, "/open/y%5c..%5cadmin/x"),
        target("dots with a parameter", BAD, "/open/y/..;x/admin/x"),
        target("dots with an empty parameter", BAD, "/open/y/..;/admin/x"),
        target("one dot with a parameter", BAD, "/open/.;x/admin/x"),
        target("a parameter on a segment", BAD, "/open/admin;x/y"),
        target("a parameter on the segment before", Refused(&[400, 404]), "/open;x/admin/y"),
        target("an encoded semicolon behind dots", BAD, "/open/y/..%3bx/admin/x"),
        target("NUL, encoded", BAD, "/open/y%00/../admin/x"),
        target("an encoded line end", BAD, "/open/y%0d%0ax"),
        target("an encoded DEL", BAD, "/open/y%7f"),
        target("a raw hash", BAD, "/open/y#/admin"),
        target("half an escape", BAD, "/open/y%2"),
        target("an escape that is none", BAD, "/open/y%zz"),
        target("overlong UTF-8: a slash", BAD, "/open%c0%afadmin/x"),
        target("overlong UTF-8: a dot", BAD, "/open/y/%c0%ae%c0%ae/admin"),
        target("invalid UTF-8", BAD, "/open/y%ff"),
        target("a surrogate", BAD, "/open/y%ed%a0%80"),
        row(
            "a raw byte beyond ASCII",
            Refused(&[400]),
            b"GET /open/y\xff HTTP/1.1\r\nhost: gateway\r\n\r\n",
        ),
        row("a raw control byte", Cut, b"GET /open/y\x01 HTTP/1.1\r\nhost: gateway\r\n\r\n"),
        target("two dots out of the open route", Refused(&[404]), "/open/../elsewhere"),
        target("another case is another path", Refused(&[404]), "/OPEN/x"),
        target("a path that begins alike", Refused(&[404]), "/opener/x"),
        target("good UTF-8, encoded", Forwarded("/open/%C3%A9", 0), "/open/%C3%A9"),
        target("an unreserved escape is decoded", Forwarded("/open/a~b", 0), "/open/a%7Eb"),
        target(
            "the query goes as it came",
            Forwarded("/open/x?a=%2e%2e/%2F&&b=..//%zz", 0),
            "/open/x?a=%2e%2e/%2F&&b=..//%zz",
        ),
        target("an empty query", Forwarded("/open/x?", 0), "/open/x?"),
        target("a slash at the end stays", Forwarded("/open/x/", 0), "/open/x/"),
    ]
}
