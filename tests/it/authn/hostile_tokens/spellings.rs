//! How a token is presented, and what is no signed token at all.

use http::HeaderValue;
use serde_json::json;

use super::Expect::Forwarded;
use super::{INVALID, MALFORMED, MISSING, Presented, Row, any, at, fields, fields_at, row, text};
use crate::support::keys::{self, encode};
use crate::support::token::{self, Token, bearer};

/// How the token is presented.
pub(super) fn header_forms() -> Vec<Row> {
    vec![
        row("no header", MISSING, |_| fields(&[])),
        row("no header on an open route", Forwarded, |_| fields_at("/open/x", &[])),
        row("a token on an open route is removed unread", Forwarded, |i| {
            fields_at("/open/x", &[bearer(&i.v2().build()).as_bytes()])
        }),
        row("nonsense on an open route is removed unread", Forwarded, |_| {
            fields_at("/open/x", &[b"Bearer not one token"])
        }),
        row("two fields on an open route", MALFORMED, |_| {
            fields_at("/open/x", &[b"Basic eDp5", b"Basic eDp5"])
        }),
        row("the scheme in lower case", Forwarded, |i| {
            fields(&[bearer(&i.v2().build()).replace("Bearer", "bearer").as_bytes()])
        }),
        row("the scheme in upper case", Forwarded, |i| {
            fields(&[bearer(&i.v2().build()).replace("Bearer", "BEARER").as_bytes()])
        }),
        row("scheme Basic", MISSING, |_| fields(&[b"Basic eDp5"])),
        row("scheme Negotiate with a token", MISSING, |i| {
            fields(&[bearer(&i.v2().build()).replace("Bearer", "Negotiate").as_bytes()])
        }),
        row("scheme DPoP with a plain token", INVALID, |i| {
            fields(&[bearer(&i.v2().build()).replace("Bearer", "DPoP").as_bytes()])
        }),
        row("the scheme alone", MALFORMED, |_| fields(&[b"Bearer"])),
        row("the scheme and no space", MISSING, |i| {
            fields(&[bearer(&i.v2().build()).replace("Bearer ", "Bearer").as_bytes()])
        }),
        row("a token without a scheme", MISSING, |i| fields(&[i.v2().build().as_bytes()])),
        row("two tokens", MALFORMED, |i| text(&[i.v2().build(), i.v2().build()].join(" "))),
        row("two tokens with a comma", MALFORMED, |i| {
            text(&[i.v2().build(), i.v2().build()].join(", "))
        }),
        row("a comma and another scheme", MALFORMED, |i| text(&(i.v2().build() + ", Basic eDp5"))),
        row("a parameter behind the token", MALFORMED, |i| text(&(i.v2().build() + "; x=y"))),
        row("a tab for the space", MALFORMED, |i| {
            fields(&[bearer(&i.v2().build()).replace(' ', "\t").as_bytes()])
        }),
        row("quotes around the token", MALFORMED, |i| text(&format!("\"{}\"", i.v2().build()))),
        row("a byte beyond ASCII in the token", MALFORMED, |_| {
            fields(&[b"Bearer abc\xff.def.ghi"])
        }),
        row("two fields, the same", MALFORMED, |i| {
            let value = bearer(&i.v2().build());
            fields(&[value.as_bytes(), value.as_bytes()])
        }),
        row("two fields, the good one first", MALFORMED, |i| {
            fields(&[bearer(&i.v2().build()).as_bytes(), b"Bearer x"])
        }),
        row("two fields, the good one last", MALFORMED, |i| {
            fields(&[b"Basic eDp5", bearer(&i.v2().build()).as_bytes()])
        }),
        row("in the query", MISSING, |_| Presented {
            target: "/any/x?access_token=abc.def.ghi".to_owned(),
            ..fields(&[])
        }),
        row("in the form", MISSING, |i| {
            let mut presented = fields(&[]);
            presented.form = format!("access_token={}", i.v2().build());
            presented.headers.insert(
                "content-type",
                HeaderValue::from_static("application/x-www-form-urlencoded"),
            );
            presented
        }),
        row("in the cookie", MISSING, |_| {
            let mut presented = fields(&[]);
            presented
                .headers
                .insert("cookie", HeaderValue::from_static("access_token=abc.def.ghi"));
            presented
        }),
        row("in `Proxy-Authorization`", MISSING, |_| {
            let mut presented = fields(&[]);
            presented
                .headers
                .insert("proxy-authorization", HeaderValue::from_static("Bearer abc.def.ghi"));
            presented
        }),
    ]
}

/// What is no signed token at all, and signatures that don't hold.
pub(super) fn token_forms() -> Vec<Row> {
    vec![
        row("a good v2 token", Forwarded, |i| any(&i.v2())),
        row("a good v2 token, swapped", Forwarded, |i| at("/swap/x", &i.v2())),
        row("a good v1 token", Forwarded, |_| any(&Token::entra_v1())),
        row("a good v1 token, swapped", Forwarded, |_| at("/swap/x", &Token::entra_v1())),
        row("a good OIDC token", Forwarded, |i| any(&i.oidc())),
        row("an opaque token", INVALID, |_| text("mF_9.B5f-4.1JqM-opaque")),
        row("one part", INVALID, |_| text("abcdef")),
        row("two parts", INVALID, |i| text(i.v2().build().rsplit_once('.').unwrap().0)),
        row("four parts", INVALID, |i| text(&(i.v2().build() + ".abcd"))),
        row("five parts: an encrypted token", INVALID, |_| {
            let header =
                encode(json!({"alg": "RSA-OAEP", "enc": "A256GCM", "kid": "kid-rsa"}).to_string());
            text(&format!("{header}.abcd.abcd.abcd.abcd"))
        }),
        row("three empty parts", INVALID, |_| text("..")),
        row("no payload", INVALID, |i| {
            text(&token::with_part(&i.v2().build(), 1, |_| String::new()))
        }),
        row("padding", INVALID, |i| text(&(i.v2().build() + "="))),
        row("base64, not base64url", INVALID, |i| {
            text(&token::with_part(&i.v2().build(), 2, |part| format!("+/{}", &part[2..])))
        }),
        row("a tilde in the payload", INVALID, |i| {
            text(&token::with_part(&i.v2().build(), 1, |part| format!("{part}~")))
        }),
        row("bits beyond the signature's end", INVALID, |i| {
            text(&token::with_part(&i.v2().build(), 2, nonzero_tail))
        }),
        row("a flipped bit in the signature", INVALID, |i| {
            text(&token::with_flipped_bit(&i.v2().build()))
        }),
        row("half a signature", INVALID, |i| {
            text(&token::with_part(&i.v2().build(), 2, |part| part[..part.len() / 2].to_owned()))
        }),
        row("the signature gone", INVALID, |i| {
            text(&token::with_part(&i.v2().build(), 2, |_| String::new()))
        }),
        row("the signature of another token", INVALID, |i| {
            let other = i.v2().user("somebody-else").build();
            let signature = other.rsplit_once('.').unwrap().1.to_owned();
            text(&token::with_part(&i.v2().build(), 2, |_| signature))
        }),
        row("another payload under a good signature", INVALID, |i| {
            let other = i.v2().claim("roles", json!(["Admin"])).build();
            let payload = other.split('.').nth(1).unwrap().to_owned();
            text(&token::with_part(&i.v2().build(), 1, |_| payload))
        }),
        row("signed by a key that is not published, under a published name", INVALID, |i| {
            any(&i.v2().forged_by(&keys::rsa_other()))
        }),
        row("the header is no JSON", INVALID, |i| any(&i.v2().raw_header("nonsense"))),
        row("the header is an array", INVALID, |i| any(&i.v2().raw_header(r#"["RS256"]"#))),
        row("the payload is no JSON", INVALID, |i| any(&i.v2().raw_claims("nonsense"))),
        row("the payload is an array", INVALID, |i| any(&i.v2().raw_claims("[]"))),
        row("the payload is null", INVALID, |i| any(&i.v2().raw_claims("null"))),
        row("something behind the payload's object", INVALID, |i| {
            let claims = serde_json::to_string(i.v2().claims()).unwrap();
            any(&i.v2().raw_claims(claims + "{}"))
        }),
        row("invalid UTF-8 in the payload", INVALID, |i| {
            let header = json!({"typ": "JWT", "alg": "RS256", "kid": "kid-rsa"}).to_string();
            let claims = serde_json::to_string(&i.v2().claim("name", "#").claims()).unwrap();
            let claims: Vec<u8> =
                claims.bytes().map(|byte| if byte == b'#' { 0xff } else { byte }).collect();
            text(&i.v2().build_parts(header.as_bytes(), &claims))
        }),
        row("JSON a hundred deep", INVALID, |i| {
            any(&i.v2().also_claims(&format!(r#""x":{}{}"#, "[".repeat(100), "]".repeat(100))))
        }),
        row("16 KiB, just allowed", Forwarded, |i| text(&i.v2().build_sized(16 * 1024))),
        row("more than 16 KiB", INVALID, |i| text(&i.v2().build_sized(16 * 1024 + 4))),
    ]
}

/// `part` with the bits set that base64url of 256 bytes leaves over.
pub(super) fn nonzero_tail(part: &str) -> String {
    let (start, last) = part.split_at(part.len() - 1);
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let index = alphabet.find(last).unwrap();
    format!("{start}{}", &alphabet[index + 1..index + 2])
}
