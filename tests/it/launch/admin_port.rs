//! The admin port at a reload.

use super::{ANY, closed, file};
use crate::support::client::Client;
use crate::support::gateway::Gateway;
use crate::support::raw::Raw;
use crate::support::upstream::Upstream;

async fn status(connection: &mut Raw, token: &str) -> Option<u16> {
    let request = format!(
        "GET /api/v1/nothing HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    connection.send(request.as_bytes()).await;
    connection.reply().await.map(|reply| reply.status)
}

#[tokio::test]
async fn a_new_token_holds_at_once_on_the_same_socket() {
    let upstream = Upstream::start();
    let with = |port: u16, token: &str| {
        let admin = format!("admin: {{ address: \"127.0.0.1:{port}\", token: \"${{{token}}}\" }}");
        file(&[ANY], &upstream, &admin)
    };
    let variables = [("OLD", "old-admin-token"), ("NEW", "new-admin-token")];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let gateway = Gateway::start_in(&variables, &with(0, "OLD"));
    let admin = gateway.admin_address();
    let mut before = Raw::connect(admin).await;
    assert_eq!(status(&mut before, "old-admin-token").await, Some(404));
    gateway.write_file(&with(0, "NEW"));
    gateway.reload();
    assert_eq!(gateway.running().admin_address(), Some(admin));
    // The old connection is closed: nothing is opened by the old token on it either.
    assert!(before.is_closed().await);
    let mut after = Raw::connect(admin).await;
    assert_eq!(status(&mut after, "old-admin-token").await, Some(401));
    assert_eq!(status(&mut Raw::connect(admin).await, "new-admin-token").await, Some(404));
}

#[tokio::test]
async fn it_moves_and_goes_and_comes() {
    let upstream = Upstream::start();
    let at =
        |address: &str| file(&[ANY], &upstream, &format!("admin: {{ address: \"{address}\" }}"));
    let gateway = Gateway::start(&at("127.0.0.1:0"));
    let first = gateway.admin_address();
    let mut client = Client::http1(gateway.address()).await;
    assert_eq!(client.get("/here").await.status, 204);

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    gateway.write_file(&at(&taken.local_addr().unwrap().to_string()));
    let problems = gateway.try_reload().unwrap_err();
    assert!(
        problems.contains("can't listen on") && problems.contains("routes.yaml:3:"),
        "{problems}"
    );
    assert_eq!(gateway.running().admin_address(), Some(first));

    gateway.write_file(&at("127.0.0.2:0"));
    let changes = gateway.reload();
    assert_eq!(changes.settings.changed, ["admin"]);
    closed(first).await;
    let second = gateway.running().admin_address().unwrap();
    let mut admin = Client::http1(second).await;
    admin.is_not_a_gateway();
    assert_eq!(admin.get("/livez").await.status, 200);

    gateway.write_file(&at("off"));
    gateway.reload();
    closed(second).await;
    assert_eq!(gateway.running().admin_address(), None);
    gateway.write_file(&at("127.0.0.1:0"));
    gateway.reload();
    let third = gateway.running().admin_address().unwrap();
    let mut admin = Client::http1(third).await;
    admin.is_not_a_gateway();
    assert_eq!(admin.get("/readyz").await.status, 200);
    assert_eq!(client.get("/here").await.status, 204);
}
