//! `POST /api/v1/reload`: a good file, a bad one, two at once, and one too late.

use futures_util::poll;
use http::Request;
use serde_json::{Value, json};

use super::{API_KEY, GRAPH, OPEN, file, start};
use crate::support::admin::Admin;
use crate::support::gate::Gate;
use crate::support::gateway::Gateway;
use crate::support::provider::Provider;
use crate::support::upstream::{Answer, Upstream};
use crate::support::within;

const MORE: &str = "{ name: more, match: { path: /more }, auth: none, respond: { status: 204 } }";

#[tokio::test]
async fn a_good_file_is_in_force_and_the_answer_says_what_changed() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let gateway = start(&provider, &upstream, "");
    let (mut admin, mut client) = (Admin::of(&gateway).await, gateway.client().await);
    assert_eq!(client.get("/more").await.status, 404);
    gateway.write_file(&file(&provider, &upstream, "", &[GRAPH, MORE]));

    let reply = admin.reload().await;
    assert_eq!(reply.status, 200);
    let answer = reply.json();
    assert_eq!(answer["changes"]["routes"]["added"], json!(["more"]));
    assert_eq!(answer["changes"]["routes"]["removed"], json!(["open"]));
    assert_eq!(answer["summary"], "routes: added more, removed open");
    client.is_not_a_gateway();
    assert_eq!(client.get("/more").await.status, 204);
    assert!(answer["warnings"].as_array().unwrap().iter().all(|it| it["severity"] == "warning"));

    let config = admin.get("config").await;
    assert_eq!(config["last_reload"]["outcome"], "success");
    assert_eq!(config["last_reload"]["changes"], answer["changes"]);
    assert_eq!(config["loaded_at"], answer["loaded_at"]);
    assert_eq!(config["reloads"], json!({ "success": 1, "failure": 0 }));
    let names = |answer: &Value| -> Vec<Value> {
        answer["routes"].as_array().unwrap().iter().map(|it| it["name"].clone()).collect()
    };
    assert_eq!(names(&admin.get("routes").await), ["graph", "more"]);

    let again = admin.reload().await.json();
    assert_eq!(again["summary"], "nothing");
    assert!(
        gateway
            .log()
            .text()
            .contains("the admin API: the routes file was read again and is in force")
    );
}

#[tokio::test]
async fn a_file_that_changed_alone_is_named() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("said");
    std::fs::write(&path, "before").unwrap();
    let said = format!(
        "{{ name: said, match: {{ path: /said }}, auth: none, respond: {{ status: 200, body: \"${{file:{}}}\" }} }}",
        path.display()
    );
    let gateway = Gateway::start(&file(&provider, &upstream, "", &[GRAPH, &said]));
    let mut admin = Admin::of(&gateway).await;
    let unchanged = admin.reload().await.json();
    assert_eq!(unchanged["changes"]["files"], json!([]));

    std::fs::write(&path, "behind").unwrap();
    let answer = admin.reload().await.json();
    assert_eq!(answer["changes"]["files"], json!([path]));
    let config = admin.get("config").await;
    assert_eq!(config["last_reload"]["changes"], answer["changes"]);
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_the_answer_says_where_it_is_bad() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let gateway = start(&provider, &upstream, "");
    let mut admin = Admin::of(&gateway).await;
    let before = admin.get("config").await;
    let bad = [
        "{ name: open, match: { path: /open }, auth: none, upstream: keyd }",
        "{ name: b, match: { path: /b }, auht: none, upstream: keyed }",
    ];
    gateway.write_file(&file(&provider, &upstream, "", &bad));

    let reply = admin.reload().await;
    assert_eq!(reply.outcome(), (422, "invalid_config".to_owned()));
    let answer = reply.json();
    let text = answer["text"].as_str().unwrap();
    let problems = answer["problems"].as_array().unwrap();
    assert!(problems.iter().filter(|it| it["severity"] == "error").count() >= 2, "{text}");
    for problem in problems {
        assert!(problem["hint"].is_string() || problem["severity"] == "warning", "{problem}");
        let (line, column) = (&problem["line"], &problem["column"]);
        assert!(text.contains(&format!("routes.yaml:{line}:{column}: ")), "{problem} in {text}");
    }
    assert!(text.contains("`auht`") && text.contains("did you mean"), "{text}");
    assert!(!text.contains(API_KEY));

    let after = admin.get("config").await;
    assert_eq!((&after["config"], &after["loaded_at"]), (&before["config"], &before["loaded_at"]));
    assert_eq!(after["last_reload"]["outcome"], "failure");
    assert_eq!(after["last_reload"]["problems"], answer["problems"]);
    assert_eq!(after["last_reload"]["text"], answer["text"]);
    assert_eq!(after["reloads"], json!({ "success": 0, "failure": 1 }));
    assert_eq!(gateway.client().await.get("/open").await.status, 200);

    // What others reload is shown too, and a good file takes the place of the failure.
    gateway.write_file(&file(&provider, &upstream, "", &[GRAPH, OPEN]));
    gateway.reload();
    let mended = admin.get("config").await;
    assert_eq!(mended["last_reload"]["outcome"], "success");
    assert_eq!(mended["reloads"], json!({ "success": 1, "failure": 1 }));
}

#[tokio::test]
async fn one_runs_and_all_who_ask_meanwhile_share_the_next() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let gateway = start(&provider, &upstream, "");
    let mut admins = Vec::new();
    for _ in 0..6 {
        admins.push(Admin::of(&gateway).await);
    }
    let mut held = gateway.hold_file();
    let mut first = Box::pin(gateway.ask_reload("SIGHUP"));
    gateway.file_is_read(2).await;
    let mut rest: Vec<_> = admins.iter_mut().map(|admin| Box::pin(admin.reload())).collect();
    let mut again: Vec<_> = (0..1000).map(|_| Box::pin(gateway.ask_reload("SIGHUP"))).collect();
    // The requests are on their way once another answer of the admin port is there: none of theirs is.
    for _ in 0..10 {
        Admin::of(&gateway).await.get("config").await;
        for reply in &mut rest {
            assert!(poll!(reply).is_pending());
        }
    }
    assert!(poll!(&mut first).is_pending() && poll!(&mut again[0]).is_pending());
    assert_eq!(gateway.file_reads(), 2, "one thread hangs, and no other");
    held.write(&file(&provider, &upstream, "", &[GRAPH, OPEN, MORE]));
    drop(held);
    let replies = within("the answers", futures_util::future::join_all(rest)).await;
    for reply in replies {
        assert_eq!((reply.status.as_u16(), &reply.json()["summary"]), (200, &json!("nothing")));
    }
    let first = within("the first", first).await.unwrap();
    assert_eq!(
        (&*first.cause, &first.changes.routes.added[..]),
        ("SIGHUP", &["more".to_owned()][..])
    );
    let last = within("the last", again.pop().unwrap()).await.unwrap();
    assert!(last.cause.contains("SIGHUP") && last.changes.is_empty(), "{last:?}");
    // Requests that came late may have needed a third.
    assert!((3..=4).contains(&gateway.file_reads()), "{}", gateway.file_reads());
}

#[tokio::test]
async fn it_takes_a_post_without_a_body() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let gateway = start(&provider, &upstream, "");
    let mut admin = Admin::of(&gateway).await;
    for method in ["GET", "HEAD", "PUT", "DELETE"] {
        let request = Request::builder().method(method).uri("/api/v1/reload");
        let reply = admin.send(request, "").await;
        assert_eq!((reply.status.as_u16(), reply.header("allow")), (405, Some("POST")));
    }
    let post = || Request::post("/api/v1/reload");
    assert_eq!(admin.send(post(), "{}").await.status, 200);
    assert_eq!(admin.send(post(), "{\"a\":1}").await.outcome().0, 400);
    let with_query = Request::post("/api/v1/reload?force=true");
    assert_eq!(admin.send(with_query, "").await.outcome().0, 400);
    let large = " ".repeat(4 * 1024 + 1);
    let reply = admin.send(post(), &large).await;
    assert_eq!(reply.outcome(), (413, "body_too_large".to_owned()));
    let reloads = Admin::of(&gateway).await.get("config").await["reloads"].clone();
    assert_eq!(reloads, json!({ "success": 1, "failure": 0 }));
}

#[tokio::test]
async fn what_drains_is_not_changed_any_more_but_still_shown() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let gateway = start(&provider, &upstream, "");
    gateway.ready().await;
    let held = Gate::new();
    upstream.answer({
        let held = held.clone();
        move |_| Answer::ok("late").held_by(&held)
    });
    let (mut admin, mut client) = (Admin::of(&gateway).await, gateway.client().await);
    let mut slow = Box::pin(client.get("/open"));
    tokio::select! {
        _ = &mut slow => panic!("it is held"),
        () = held.arrived(1) => {}
    }
    let mut drain = Box::pin(gateway.running().drain());
    assert!(poll!(&mut drain).is_pending());
    let beside = async {
        let reply = admin.reload().await;
        assert_eq!(reply.outcome(), (503, "shutting_down".to_owned()));
        assert!(reply.header("retry-after").is_some());
        let stats = admin.get("stats").await;
        assert_eq!(stats["not_ready"], json!(["the gateway is shutting down"]));
        assert_eq!(stats["requests_in_flight"], 1);
        held.open();
        assert_eq!(slow.await.status, 200);
    };
    let (cut_off, ()) = tokio::join!(within("the drain", drain), beside);
    assert_eq!(cut_off.requests, 0);
}
