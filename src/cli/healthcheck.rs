//! `healthcheck`: asks `/readyz` of the configured admin address, for containers that have no
//! curl. Says on stdout what came, and exits with 0 only for "ready", said as a gateway says it: what another
//! program answers at that address is no answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::run::File;
use crate::body::BoxError;
use crate::chain::with_sources;
use crate::config::{self, Problems, resolve};
use crate::launch::Origin;

/// In all; Docker and Kubernetes give a probe a few seconds.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Largest answer; the reasons of a hundred providers.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

pub(super) fn main(config: &str) -> ExitCode {
    let asked = admin_address(config);
    let admin = match asked {
        Ok(Some(admin)) => admin,
        Ok(None) => {
            return super::failure("there is no admin port to ask: `admin.address` is `off`");
        }
        Err(problems) => {
            super::to_stderr(&problems.to_string());
            return ExitCode::FAILURE;
        }
    };
    if admin.port() == 0 {
        return super::failure(
            "the gateway chooses its admin port at each start, as `admin.address` has port 0: write the port that is to be asked",
        );
    }
    let address = reachable(admin);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return super::failure(&format!("no runtime: {error}")),
    };
    let asked = runtime.block_on(async { tokio::time::timeout(TIMEOUT, ask(address)).await });
    match asked {
        Ok(Ok((status, answer))) => match standing(status, &answer) {
            Some(Standing::Ready) => {
                super::to_stdout(&format!("{answer}\n"));
                ExitCode::SUCCESS
            }
            Some(Standing::NotReady) => {
                super::to_stdout(&format!("{answer}\n"));
                ExitCode::FAILURE
            }
            None => super::failure(&format!(
                "`http://{address}/readyz` answered {}, and not as a gateway does: another program listens there; compare `admin.address` with that of the gateway that runs",
                status.as_u16()
            )),
        },
        Ok(Err(error)) => super::failure(&format!(
            "`http://{address}/readyz` can't be asked: {}",
            with_sources(error.as_ref())
        )),
        Err(_elapsed) => super::failure(&format!(
            "`http://{address}/readyz` did not answer within {} s",
            TIMEOUT.as_secs()
        )),
    }
}

/// Where the file says that the admin port is. What else is wrong with the file is not asked: a
/// gateway that serves on with the one before is healthy.
fn admin_address(config: &str) -> Result<Option<SocketAddr>, Problems> {
    let origin = File::new(config);
    let source = origin.source()?;
    let reading = config::read(&source.text, &source.name, &origin.environment(&source));
    let Some(file) = reading.file else { return Err(reading.problems) };
    Ok(resolve::admin_address(&file))
}

/// Where an address that stands for all of the machine can be reached from the machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// What a gateway says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Ready,
    NotReady,
}

/// What an answer says; `None` if it is not a gateway's.
fn standing(status: StatusCode, answer: &str) -> Option<Standing> {
    let said: Value = serde_json::from_str(answer).ok()?;
    match (status, said.get("status")?.as_str()?) {
        (StatusCode::OK, "ready") => Some(Standing::Ready),
        (StatusCode::SERVICE_UNAVAILABLE, "not_ready") => Some(Standing::NotReady),
        _ => None,
    }
}

/// What it says.
async fn ask(address: SocketAddr) -> Result<(StatusCode, String), BoxError> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get("/readyz").header(http::header::HOST, address.to_string());
    let response = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_gateways_own_words_count() {
        let said =
            |status: u16, answer: &str| standing(StatusCode::from_u16(status).unwrap(), answer);
        assert_eq!(said(200, r#"{"status":"ready"}"#), Some(Standing::Ready));
        let waiting = r#"{"status":"not_ready","reasons":["no keys yet"]}"#;
        assert_eq!(said(503, waiting), Some(Standing::NotReady));
        for (status, answer) in [
            (200, ""),
            (200, "ok"),
            (200, "{}"),
            (200, r#"{"status":"up"}"#),
            (200, waiting),
            (204, ""),
            (404, r#"{"status":404}"#),
            (503, r#"{"status":"ready"}"#),
            (503, "Service Unavailable"),
        ] {
            assert_eq!(said(status, answer), None, "{status} {answer}");
        }
    }
}
