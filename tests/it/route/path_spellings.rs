//! Spellings of paths: what the upstream saw of each, and by which route, or that it saw nothing.

use http::Request;

use crate::support::gateway::Gateway;
use crate::support::raw::Raw;
use crate::support::upstream::Upstream;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comes {
    /// Forwarded by this route, as this.
    By(&'static str, &'static str),
    /// Refused with this status; the upstream saw nothing.
    Refused(u16),
}

use Comes::{By, Refused};

/// 400: it can be read in two ways.
const BAD: Comes = Refused(400);
/// 401: it is what the guarded route guards.
const GUARDED: Comes = Refused(401);

/// Open routes around guarded ones; each says by a header which one it is.
fn routes_file(upstream: &Upstream) -> String {
    let url = upstream.url();
    let route = |name: &str, matching: &str, auth: &str| {
        format!(
            "  - {{ name: {name}, match: {{ {matching} }}, auth: {auth}, upstream: plain, \
             request_headers: {{ set: {{ x-route: {name} }} }} }}\n"
        )
    };
    let routes = [
        route("open", r#"path: "/open/{*rest}""#, "none"),
        route("admin", r#"path: "/open/admin/{*rest}""#, "any"),
        route("one", r#"path: "/one/{name}/x""#, "none"),
        route("keep", r#"path: "/keep/{*rest}""#, "none, encoded_slashes: keep"),
        route("kept", r#"path: "/keep/secret/{*rest}""#, "any, encoded_slashes: keep"),
        route("fold", r#"path: "/fold/{*rest}", ignore_case: true"#, "none"),
        route("folded", r#"path: "/fold/Admin/{*rest}", ignore_case: true"#, "any"),
    ];
    format!(
        r#"
listeners: [{{ address: "127.0.0.1:0" }}]
admin: {{ address: "127.0.0.1:0" }}
providers:
  sso: {{ type: oidc, issuer: "http://127.0.0.1:1/realms/main", audiences: [orders] }}
upstreams:
  plain: {{ url: "{url}" }}
routes:
{}"#,
        routes.concat()
    )
}

const TABLE: &[(&str, Comes)] = &[
    // As it stands.
    ("/open/x", By("open", "/open/x")),
    ("/open", By("open", "/open")),
    ("/open/", By("open", "/open/")),
    ("/open/administrator", By("open", "/open/administrator")),
    ("/open/Admin/x", By("open", "/open/Admin/x")),
    ("/open/admin", GUARDED),
    ("/open/admin/", GUARDED),
    ("/open/admin/x", GUARDED),
    ("/OPEN/x", Refused(404)),
    ("/", Refused(404)),
    // Empty segments.
    ("//open/x", By("open", "/open/x")),
    ("/open//x", By("open", "/open/x")),
    ("/open/x//", By("open", "/open/x/")),
    ("/open//admin/x", GUARDED),
    ("///open///admin///x", GUARDED),
    // Dot segments.
    ("/open/./x", By("open", "/open/x")),
    ("/open/y/../x", By("open", "/open/x")),
    ("/open/x/.", By("open", "/open/x/")),
    ("/open/x/..", By("open", "/open/")),
    ("/../open/x", By("open", "/open/x")),
    ("/open/.../x", By("open", "/open/.../x")),
    ("/open/..x", By("open", "/open/..x")),
    ("/open/.well-known", By("open", "/open/.well-known")),
    ("/open/./admin/x", GUARDED),
    ("/open/y/../admin/x", GUARDED),
    ("/one/../open/admin/x", GUARDED),
    ("/open/admin/../x", By("open", "/open/x")),
    ("/open/..", Refused(404)),
    ("/open/../elsewhere", Refused(404)),
    // Escapes of what needs none.
    ("/open/%78", By("open", "/open/x")),
    ("/%6Fpen/x", By("open", "/open/x")),
    ("/open/%7Euser", By("open", "/open/~user")),
    ("/open/%61dmin/x", GUARDED),
    ("/%6f%70%65%6e/%61%64%6d%69%6e", GUARDED),
    ("/open/%2e/admin/x", GUARDED),
    ("/open/y/%2e%2E/admin/x", GUARDED),
    ("/open/y/.%2e/admin/x", GUARDED),
    // Escapes that stay.
    ("/open/a%20b", By("open", "/open/a%20b")),
    ("/open/%c3%A9", By("open", "/open/%c3%A9")),
    ("/open/%3D%26", By("open", "/open/%3D%26")),
    ("/open/100%25", By("open", "/open/100%25")),
    ("/open/a%3Fb", By("open", "/open/a%3Fb")),
    // Escapes of escapes.
    ("/open/%2541", By("open", "/open/%2541")),
    ("/open/%2561dmin/x", BAD),
    ("/open/%25%36%31dmin/x", BAD),
    ("/open/%252561dmin/x", BAD),
    ("/open/y/%252e%252e/admin/x", BAD),
    ("/open/y%252f..%252fadmin/x", BAD),
    // Slashes that are none, and backslashes.
    ("/open%2Fx", BAD),
    ("/open/a%2fb", BAD),
    ("/open%2Fadmin/x", BAD),
    ("/open/y/..%2Fadmin/x", BAD),
    ("/open/a%5Cb", BAD),
    ("/open\\admin\\x", BAD),
    ("/open/y\\..\\admin", BAD),
    ("/open/y/..%5cadmin", BAD),
    // Parameters.
    ("/open/x;v=1", By("open", "/open/x;v=1")),
    ("/open/x;v=1/y;w", By("open", "/open/x;v=1/y;w")),
    ("/open/x;..", By("open", "/open/x;..")),
    ("/open/admin;v=1", BAD),
    ("/open/admin;/x", BAD),
    ("/open/;/admin/x", BAD),
    ("/open/y/..;/admin/x", BAD),
    ("/open/y/..;v=1/admin", BAD),
    ("/open/y/.;/admin", BAD),
    ("/open/y/..%3B/admin/x", BAD),
    ("/open/admin%3Bv=1/x", BAD),
    ("/open/admin%253B/x", BAD),
    ("/open;v/admin/x", BAD),
    // What ends a path for somebody.
    ("/open/x%00", BAD),
    ("/open/admin%00/x", BAD),
    ("/open/x%0d%0a", BAD),
    ("/open/x%7f", BAD),
    ("/open/x%1F", BAD),
    ("/open/x#/admin", BAD),
    ("/open/admin%3Fx", BAD),
    ("/open/admin%23x", BAD),
    // What is no escape, and no UTF-8.
    ("/open/%", BAD),
    ("/open/%4", BAD),
    ("/open/%zz", BAD),
    ("/open/%u0061dmin", BAD),
    ("/open%c0%afadmin", BAD),
    ("/open/y/%c0%ae%c0%ae/admin", BAD),
    ("/open/y/%e0%80%ae/admin", BAD),
    ("/open/%ff", BAD),
    ("/open/%ed%a0%80", BAD),
    ("/open/%25c0%25ae%25c0%25ae/admin", BAD),
    // One segment for a name, and not two.
    ("/one/a/x", By("one", "/one/a/x")),
    ("/one/a%20b/x", By("one", "/one/a%20b/x")),
    ("/one/a%2Fb/x", BAD),
    ("/one/../x", Refused(404)),
    ("/one//x", Refused(404)),
    // A route that keeps encoded slashes.
    ("/keep/a%2Fb", By("keep", "/keep/a%2Fb")),
    ("/keep/a%2fb%5Cc", By("keep", "/keep/a%2fb%5Cc")),
    ("/keep/secret/x", GUARDED),
    ("/keep/secret%2Fx", BAD),
    ("/keep/y/..%2Fsecret/x", BAD),
    ("/keep/y%2F..%2Fsecret", BAD),
    ("/keep%2Fsecret/x", BAD),
    ("/keep/%2Fsecret/x", BAD),
    ("/keep/secret%5Cx", BAD),
    // A route that ignores case.
    ("/FOLD/x", By("fold", "/FOLD/x")),
    ("/fold/admins", By("fold", "/fold/admins")),
    ("/fold/admin/x", GUARDED),
    ("/fold/ADMIN/x", GUARDED),
    ("/Fold/aDMIN", GUARDED),
    ("/fold/%41DMIN/x", GUARDED),
    ("/fold/ADMIN;v/x", BAD),
    ("/fold/%2541dmin/x", BAD),
    // The query is nobody's path.
    ("/open/x?../../admin", By("open", "/open/x?../../admin")),
    ("/open/x?a=%2e%2e%2Fadmin", By("open", "/open/x?a=%2e%2e%2Fadmin")),
    ("/open/admin?x", GUARDED),
];

#[tokio::test]
async fn each_spelling_comes_to_what_the_table_says() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes_file(&upstream));
    assert!(TABLE.len() >= 60, "{} spellings", TABLE.len());
    let mut wrong = Vec::new();
    for (spelling, comes) in TABLE {
        let before = upstream.count();
        let mut raw = Raw::connect(gateway.address()).await;
        let head = format!("GET {spelling} HTTP/1.1\r\nhost: gateway\r\n\r\n");
        raw.send(head.as_bytes()).await;
        let status = raw.reply().await.map(|reply| reply.status);
        let seen: Vec<_> = upstream.seen()[before..]
            .iter()
            .map(|seen| (seen.value("x-route").unwrap(), seen.target.clone()))
            .collect();
        let fine = match *comes {
            By(route, target) => {
                status == Some(200) && seen == [(route.to_owned(), target.to_owned())]
            }
            Refused(refused) => status == Some(refused) && seen.is_empty(),
        };
        if !fine {
            wrong.push(format!(
                "{spelling}: {comes:?}, but {status:?}, and the upstream saw {seen:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{} spellings:\n{}", wrong.len(), wrong.join("\n"));
}

/// The same over HTTP/2, where hyper reads the path otherwise: a fragment is cut off.
#[tokio::test]
async fn http2_makes_no_difference() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes_file(&upstream));
    let mut client = gateway.client_http2().await;
    let mut wrong = Vec::new();
    for (spelling, comes) in TABLE.iter().filter(|(spelling, _)| !spelling.contains('#')) {
        let before = upstream.count();
        let Ok(uri) = spelling.parse::<http::Uri>() else {
            // No client of this library could send it; the raw client above did.
            assert_eq!(*comes, BAD, "{spelling}");
            continue;
        };
        let status = client.send(Request::get(uri), "").await.status.as_u16();
        let seen: Vec<_> =
            upstream.seen()[before..].iter().map(|seen| seen.target.clone()).collect();
        let fine = match *comes {
            By(_, target) => status == 200 && seen == [target],
            Refused(refused) => status == refused && seen.is_empty(),
        };
        if !fine {
            wrong.push(format!(
                "{spelling}: {comes:?}, but {status}, and the upstream saw {seen:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{} spellings:\n{}", wrong.len(), wrong.join("\n"));
}
