//! `dev-idp token`: prints a token that a running development provider mints.
//!
//! The keys of the development provider are made anew at each start, so that a token of another process
//! would not be believed: the running one is asked.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use http::StatusCode;
use url::form_urlencoded::Serializer;

use super::run;
use super::{DevIdpArguments, DevTokenArguments};
use crate::authn::fetch::{FetchError, Fetcher};
use crate::chain::with_sources;
use crate::dev::DevError;
use crate::trust::Roots;

/// It is on this machine, and mints a token in a few milliseconds.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Largest CA file in bytes; that of `dev-idp` has one certificate.
const MAX_CA_BYTES: u64 = 1024 * 1024;

pub(super) fn main(arguments: &DevIdpArguments, wanted: &DevTokenArguments) -> ExitCode {
    let runtime = match run::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return super::failure(&format!("no runtime: {error}")),
    };
    match runtime.block_on(mint(arguments, wanted)) {
        Ok(token) => {
            super::to_stdout(&format!("{token}\n"));
            ExitCode::SUCCESS
        }
        Err(why) => super::failure(&why),
    }
}

async fn mint(arguments: &DevIdpArguments, wanted: &DevTokenArguments) -> Result<String, String> {
    let address = arguments.address;
    if !address.ip().to_canonical().is_loopback() {
        return Err(DevError::NotLoopback(address).to_string());
    }
    let (base, roots) = match &arguments.ca_file {
        // By the address, not by `localhost`, which may be another one; the certificate has both.
        Some(file) => (format!("https://{address}"), roots(file)?),
        None => (format!("http://{address}"), Roots::Only(Vec::new())),
    };
    let fetcher = Fetcher::new(&roots, TIMEOUT).map_err(|error| with_sources(&error))?;
    let answer = fetcher.json(&format!("{base}/dev/token?{}", query(wanted))).await;
    let answer = answer.map_err(|error| absent(&base, address, arguments.tls, &error))?;
    let text = String::from_utf8_lossy(&answer.body);
    let text = text.trim();
    let looks_like_a_token =
        text.split('.').count() == 3 && text.bytes().all(|b| b.is_ascii_graphic());
    match answer.status {
        StatusCode::OK if looks_like_a_token => Ok(text.to_owned()),
        // Its own words, in which it says what it knows.
        StatusCode::BAD_REQUEST if !text.is_empty() => Err(said(text)),
        status => Err(format!(
            "what answers at {base} is no development provider (status {}): start `obo-gateway dev-idp` at another `--address`, and name it here",
            status.as_u16()
        )),
    }
}

fn query(wanted: &DevTokenArguments) -> String {
    let DevTokenArguments { user, client, scope, expires_in, claims } = wanted;
    let expires_in = expires_in.map(|seconds| seconds.to_string());
    let parameters = [
        ("user", user.as_deref()),
        ("client", client.as_deref()),
        ("scope", scope.as_deref()),
        ("expires_in", expires_in.as_deref()),
        ("claims", claims.as_deref()),
    ];
    let mut query = Serializer::new(String::new());
    for (name, value) in parameters {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    query.finish()
}

fn roots(file: &Path) -> Result<Roots, String> {
    let shown = file.display();
    let read = std::fs::metadata(file).and_then(|of| match of.len() {
        0..=MAX_CA_BYTES if of.is_file() => std::fs::read(file),
        _ => Err(std::io::Error::other("it is no file of that kind")),
    });
    let pem = read.map_err(|error| {
        format!("can't read `{shown}`: {error}; name the file that `dev-idp --tls --ca-file` wrote")
    })?;
    Roots::from_pem(&pem).map_err(|error| format!("`{shown}`: {}", with_sources(&error)))
}

/// Nobody answers as a development provider does.
fn absent(base: &str, address: SocketAddr, tls: bool, error: &FetchError) -> String {
    let port = if address.port() == 9010 { String::new() } else { format!(" --address {address}") };
    let hint = if tls {
        format!(
            "start one with `obo-gateway dev-idp{port} --tls --ca-file FILE`, and name the file that it wrote"
        )
    } else {
        format!(
            "start one with `obo-gateway dev-idp{port}` (or `demo`); if it serves https, add `--tls --ca-file FILE`"
        )
    };
    format!("no development provider answers at {base}: {}\nhint: {hint}", with_sources(error))
}

/// The words of whoever answered, on one line.
fn said(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect()
}
