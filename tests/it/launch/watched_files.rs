//! Files that are replaced as Kubernetes, editors and slow writers do it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use super::{ANY, file, logged, reloads};
use crate::support::client::Client;
use crate::support::gateway::Gateway;
use crate::support::upstream::Upstream;
use crate::support::within;

/// A certificate and its key in the folder `version` of a mounted secret; gives the certificate.
fn write_pair(mount: &Path, version: &str) -> String {
    let folder = mount.join(version);
    fs::create_dir(&folder).unwrap();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    fs::write(folder.join("tls.crt"), made.cert.pem()).unwrap();
    fs::write(folder.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    made.cert.pem()
}

#[tokio::test]
async fn a_mounted_secret_is_swapped_as_a_whole() {
    let upstream = Upstream::start();
    let mount = tempfile::tempdir().unwrap();
    let at = |name: &str| mount.path().join(name);
    let old = write_pair(mount.path(), "..2026_01");
    symlink("..2026_01", at("..data")).unwrap();
    for name in ["tls.crt", "tls.key"] {
        symlink(format!("..data/{name}"), at(name)).unwrap();
    }
    let path = mount.path().display();
    let tls =
        format!("{ANY}, tls: {{ cert_file: \"{path}/tls.crt\", key_file: \"{path}/tls.key\" }}");
    let gateway = Gateway::start(&file(&[&tls], &upstream, ""));
    gateway.watch();
    let mut before = Client::tls(gateway.address(), &old, None).await;
    assert_eq!(before.get("/here").await.status, 204);

    let new = write_pair(mount.path(), "..2026_02");
    symlink("..2026_02", at("..data_tmp")).unwrap();
    fs::rename(at("..data_tmp"), at("..data")).unwrap();
    fs::remove_dir_all(at("..2026_01")).unwrap();
    gateway.metrics_when("obo_gateway_config_reloads_total{outcome=\"success\"} 1").await;
    let mut after = Client::tls(gateway.address(), &new, None).await;
    assert_eq!(after.get("/here").await.status, 204);
    assert_eq!(before.get("/here").await.status, 204, "who is in stays");
    let lines = reloads(&gateway, 1).await;
    let address = ANY.split('"').nth(1).unwrap();
    assert!(lines[0].contains("tls.crt`") && lines[0].contains("tls.key` changed:"), "{lines:?}");
    let files = format!("in force: files: changed {path}/tls.crt, {path}/tls.key; ");
    assert!(lines[0].contains(&files), "{lines:?}");
    assert!(lines[0].ends_with(&format!("listeners: changed {address}")), "{lines:?}");
}

#[tokio::test]
async fn a_file_that_is_half_written_changes_nothing_until_it_is_whole() {
    let upstream = Upstream::start();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let first = write_pair(folder.path(), "pair");
    let path = at("pair").display().to_string();
    let tls =
        format!("{ANY}, tls: {{ cert_file: \"{path}/tls.crt\", key_file: \"{path}/tls.key\" }}");
    let gateway = Gateway::start(&file(&[&tls], &upstream, ""));
    gateway.watch();
    let second = write_pair(folder.path(), "other");
    let [chain, key] = ["tls.crt", "tls.key"].map(|name| fs::read(at("other").join(name)).unwrap());
    // The middle of a PEM, for as long as the writer likes.
    // It gets there at once: how many looks fall between here and there is not for the test to say.
    fs::write(at("half"), &chain[..chain.len() / 2]).unwrap();
    fs::rename(at("half"), at("pair/tls.crt")).unwrap();
    gateway.metrics_when("obo_gateway_config_reloads_total{outcome=\"failure\"} 1").await;
    let mut client = Client::tls(gateway.address(), &first, None).await;
    assert_eq!(client.get("/here").await.status, 204, "the pair before stays");
    assert!(reloads(&gateway, 1).await[0].contains("tls.crt` is not valid PEM"));
    // Between the two the watch may look, and refuse the pair that does not fit.
    fs::write(at("pair/tls.key"), &key).unwrap();
    fs::write(at("pair/tls.crt"), &chain).unwrap();
    gateway.metrics_when("obo_gateway_config_reloads_total{outcome=\"success\"} 1").await;
    let mut client = Client::tls(gateway.address(), &second, None).await;
    assert_eq!(client.get("/here").await.status, 204);
}

#[tokio::test]
async fn what_drains_looks_at_no_file_any_more_and_reads_none() {
    let upstream = Upstream::start();
    let folder = tempfile::tempdir().unwrap();
    write_pair(folder.path(), "pair");
    let path = folder.path().join("pair").display().to_string();
    let tls =
        format!("{ANY}, tls: {{ cert_file: \"{path}/tls.crt\", key_file: \"{path}/tls.key\" }}");
    let gateway = Gateway::start(&file(&[&tls], &upstream, ""));
    let watching = gateway.watch();
    let held = gateway.hold_file();
    let runs = gateway.ask_reload("SIGHUP");
    gateway.file_is_read(2).await;
    let waits = gateway.ask_reload("SIGHUP");
    let drained = gateway.drain();
    within("the drain", drained).await.unwrap();
    fs::write(folder.path().join("pair/tls.crt"), "changed").unwrap();
    within("the watch to end", watching).await.unwrap();
    drop(held);
    assert!(within("the one that ran", runs).await.is_none());
    assert!(within("the one that waited", waits).await.is_none());
    assert!(within("one that comes later", gateway.ask_reload("SIGHUP")).await.is_none());
    assert_eq!(gateway.file_reads(), 2);
    let log = gateway.log().text();
    assert!(
        log.contains("SIGHUP: the routes file was read again and is not put in force"),
        "{log}"
    );
    assert!(!log.contains("is in force:"), "{log}");
    assert!(gateway.running().last_reload().is_none());
}

#[tokio::test]
async fn a_reload_that_hangs_is_said_once_it_has_taken_too_long() {
    let upstream = Upstream::start();
    let gateway = Gateway::start_in_virtual_time(&file(&[ANY], &upstream, ""));
    let hangs = "SIGHUP: the reload has not ended for 30 s: it is reading the routes file";
    let held = gateway.hold_file();
    let reload = gateway.ask_reload("SIGHUP");
    gateway.file_is_read(2).await;
    gateway.pass(Duration::from_secs(29)).await;
    assert_eq!(gateway.client().await.get("/here").await.status, 204);
    assert!(!gateway.log().text().contains("has not ended"));
    gateway.pass(Duration::from_secs(1)).await;
    logged(&gateway, hangs).await;
    gateway.pass(Duration::from_mins(10)).await;
    assert_eq!(gateway.client().await.get("/here").await.status, 204);
    drop(held);
    assert!(within("the reload", reload).await.is_some());
    assert_eq!(gateway.log().text().matches("has not ended").count(), 1);

    // One that ends in time is not said.
    let held = gateway.hold_file();
    let reload = gateway.ask_reload("SIGHUP");
    gateway.file_is_read(3).await;
    gateway.pass(Duration::from_secs(29)).await;
    drop(held);
    assert!(within("the reload", reload).await.is_some());
    gateway.pass(Duration::from_mins(1)).await;
    assert_eq!(gateway.client().await.get("/here").await.status, 204);
    assert_eq!(gateway.log().text().matches("has not ended").count(), 1);
}
