//! What an upstream says without being asked is nobody's answer: it stands behind an answer, or comes
//! between two requests, and the next caller, who may be another, must not get it.

use std::net::SocketAddr;

use http::{Method, Request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::open;
use crate::support::client::{Client, Reply};
use crate::support::gateway::Gateway;
use crate::support::within;

/// Answers that leave their connection open, and what asks for them.
const ANSWERS: [(Method, &str); 5] = [
    (Method::GET, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nown"),
    (Method::POST, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nown"),
    (Method::GET, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nown\r\n0\r\n\r\n"),
    (Method::GET, "HTTP/1.1 204 No Content\r\n\r\n"),
    (Method::HEAD, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n"),
];

/// What nobody asked for.
const STRAYS: [&str; 5] = [
    "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret",
    "HTTP/1.1 204 No Content\r\n\r\n",
    // The beginning of one, and what an answer may have before it.
    "HTTP/1.1 200 OK\r\nx-secret: 1\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "secret",
];

/// When it comes.
#[derive(Clone, Copy, Debug)]
enum Stray {
    /// In one piece with the answer.
    Behind,
    /// When the caller has that.
    Later,
}

/// A request on a connection of its own, under way.
fn call(gateway: SocketAddr, method: &Method) -> JoinHandle<Reply> {
    let request = Request::builder().method(method).uri("/x");
    tokio::spawn(async move { Client::http1(gateway).await.send(request, "").await })
}

async fn accepted(listener: &TcpListener) -> TcpStream {
    within("a connection of the gateway", listener.accept()).await.unwrap().0
}

/// Waits for the head of a request.
async fn asked(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within("a request", stream.read_u8()).await.unwrap());
    }
}

async fn nobody_gets(stray: &str, comes: Stray, first: (&Method, &str), next: &Method) {
    let shown = format!("{} {comes:?} {first:?} {next}", stray.escape_debug());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let gateway = Gateway::start(&open(&url, "protocol: http1", ""));

    let (method, answer) = first;
    let caller = call(gateway.address(), method);
    let mut kept = accepted(&listener).await;
    asked(&mut kept).await;
    match comes {
        Stray::Behind => kept.write_all(format!("{answer}{stray}").as_bytes()).await.unwrap(),
        Stray::Later => kept.write_all(answer.as_bytes()).await.unwrap(),
    }
    let reply = within("the first answer", caller).await.unwrap();
    assert!(reply.status.is_success() && !reply.body.starts_with(b"sec"), "{shown}");
    if let Stray::Later = comes {
        kept.write_all(stray.as_bytes()).await.unwrap();
    }

    let caller = call(gateway.address(), next);
    let mut new = accepted(&listener).await;
    asked(&mut new).await;
    new.write_all(b"HTTP/1.1 201 Created\r\nx-own: 1\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    let reply = within("the next answer", caller).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.header("x-own")), (201, Some("1")), "{shown}");
    assert_eq!(reply.header("x-secret"), None, "{shown}");
    // No byte of a request went over the one that can't be trusted.
    let mut rest = Vec::new();
    within("its end", kept.read_to_end(&mut rest)).await.unwrap_or_default();
    assert!(rest.is_empty(), "{shown}");
}

#[tokio::test]
async fn what_stands_behind_an_answer_is_nobodys() {
    for (method, answer) in &ANSWERS {
        for stray in STRAYS {
            nobody_gets(stray, Stray::Behind, (method, answer), &Method::GET).await;
        }
        nobody_gets(STRAYS[0], Stray::Behind, (method, answer), &Method::POST).await;
    }
}

#[tokio::test]
async fn what_comes_between_two_requests_is_nobodys() {
    for (method, answer) in &ANSWERS {
        for stray in STRAYS {
            nobody_gets(stray, Stray::Later, (method, answer), &Method::GET).await;
        }
        nobody_gets(STRAYS[0], Stray::Later, (method, answer), &Method::POST).await;
    }
}
