//! A proxy in its seat: a process of its own on its own core, ended when the seat is dropped.
//!
//! It knows how each proxy is started, when it is ready, and how one sees that its access log
//! and metrics are on; not what is asked of it.

use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, io};

use tempfile::TempDir;

use crate::settings::{Case, Proxy, Settings};
use crate::users::{CLIENT_ID, CLIENT_SECRET, INBOUND_SCOPE, TENANT, UPSTREAM_SCOPE};
use crate::{Failure, bare_proxy, load, report};

/// A debug build on a busy machine is ready in a second.
const READY_TIMEOUT: Duration = Duration::from_secs(20);
const READY_POLL: Duration = Duration::from_millis(20);
/// How much of the end of a failed proxy's log is shown, in lines.
const SHOWN_LINES: usize = 40;

/// Where the loopback world is.
#[derive(Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) upstream: SocketAddr,
    pub(crate) provider: SocketAddr,
}

impl Addresses {
    /// Scheme and address of the provider.
    pub(crate) fn authority(self) -> String {
        format!("http://{}", self.provider)
    }
}

/// A running proxy.
pub(crate) struct Seat {
    proxy: Proxy,
    pub(crate) address: SocketAddr,
    /// Where `/readyz` is; of the bare proxy it is the upstream's, through the proxy.
    ready: SocketAddr,
    child: Child,
    /// Its stderr. Opened to append, so that it can be emptied while it is written.
    log: File,
    dir: TempDir,
}

impl Seat {
    /// Starts `proxy` and waits until it is ready.
    pub(crate) async fn start(
        settings: &Settings,
        proxy: Proxy,
        addresses: Addresses,
    ) -> Result<Self, Failure> {
        let dir = tempfile::tempdir()?;
        let (address, admin) = two_free_addresses()?;
        let log = OpenOptions::new().create(true).append(true).open(dir.path().join("log"))?;
        let mut command = command(settings);
        match proxy {
            Proxy::Gateway => {
                let routes = dir.path().join("routes.yaml");
                fs::write(&routes, routes_file(address, admin, addresses))?;
                command.arg(&settings.gateway).arg("run").arg("-c").arg(&routes);
                command.env("BENCH_SECRET", CLIENT_SECRET);
                for name in ["OBO_GATEWAY_CONFIG", "OBO_GATEWAY_LOG", "RUST_LOG"] {
                    command.env_remove(name);
                }
            }
            Proxy::Bare => {
                command.arg(std::env::current_exe()?).arg(bare_proxy::COMMAND);
                command.arg(address.to_string()).arg(addresses.upstream.to_string());
                command.arg(addresses.authority());
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.try_clone()?);
        let child = command
            .spawn()
            .map_err(|error| format!("`setpriv` (package util-linux) can't be run: {error}"))?;
        let ready = match proxy {
            Proxy::Gateway => admin,
            Proxy::Bare => address,
        };
        let mut seat = Self { proxy, address, ready, child, log, dir };
        seat.wait_until_ready().await?;
        Ok(seat)
    }

    /// The proxy's process: the wrappers replace themselves by it.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Forgets what was logged.
    pub(crate) fn empty_log(&self) -> io::Result<()> {
        self.log.set_len(0)
    }

    /// # Errors
    ///
    /// If a proxy that has an access log wrote none since it was emptied.
    pub(crate) fn fail_if_log_is_empty(&self) -> Result<(), Failure> {
        match self.proxy {
            Proxy::Gateway if self.log.metadata()?.len() == 0 => {
                Err("the gateway wrote no access log in a round".into())
            }
            Proxy::Gateway | Proxy::Bare => Ok(()),
        }
    }

    /// The requests of the case's route in the proxy's metrics; `None` if it has none.
    pub(crate) async fn requests_counted(&self, case: Case) -> Result<Option<u64>, Failure> {
        match self.proxy {
            Proxy::Bare => Ok(None),
            Proxy::Gateway => {
                let (_, text) = load::get(self.ready, "/metrics").await?;
                let route = format!("route=\"{}\"", case.name());
                let counts = text
                    .lines()
                    .filter(|line| line.starts_with("obo_gateway_requests_total{"))
                    .filter(|line| line.contains(&route))
                    .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
                Ok(Some(counts.sum()))
            }
        }
    }

    async fn wait_until_ready(&mut self) -> Result<(), Failure> {
        let began = Instant::now();
        loop {
            let answer = match load::get(self.ready, "/readyz").await {
                Ok((200, _)) => return Ok(()),
                Ok((status, body)) => format!("`/readyz` answers {status}: {body}"),
                Err(error) => format!("`/readyz` on {}: {error}", self.ready),
            };
            if let Some(status) = self.child.try_wait()? {
                return Err(self.failed(&format!("ended before it was ready ({status})")));
            }
            if began.elapsed() > READY_TIMEOUT {
                return Err(self.failed(&format!("is not ready after {READY_TIMEOUT:?}; {answer}")));
            }
            tokio::time::sleep(READY_POLL).await;
        }
    }

    /// What happened to the proxy, with the end of its log.
    fn failed(&self, what: &str) -> Failure {
        let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let shown = lines.get(lines.len().saturating_sub(SHOWN_LINES)..).unwrap_or_default();
        format!("`{}` {what}; its log:\n{}", self.proxy.name(), shown.join("\n")).into()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            report::say_failure(&error);
        }
    }
}

/// Starts on the proxy's core and dies with this process, also when that is killed.
fn command(settings: &Settings) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if let Some(cores) = settings.cores {
        command.args(["taskset", "-c", &cores.proxy.to_string()]);
    }
    command
}

/// Two ports that were free a moment ago; both are held until both are known.
fn two_free_addresses() -> io::Result<(SocketAddr, SocketAddr)> {
    let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let second = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok((first.local_addr()?, second.local_addr()?))
}

/// What an operator would write, with metrics and access log on. Routes are named as cases are.
fn routes_file(address: SocketAddr, admin: SocketAddr, addresses: Addresses) -> String {
    let authority = addresses.authority();
    let upstream = addresses.upstream;
    let (plain, swap) = (Case::Plain.name(), Case::Swap.name());
    format!(
        "listeners:
  - address: {address}
admin:
  address: {admin}
server:
  workers: 1
providers:
  entra:
    type: entra
    tenant: {TENANT}
    authority: {authority}
    client_id: {CLIENT_ID}
    credential:
      client_secret: ${{BENCH_SECRET}}
upstreams:
  {plain}:
    url: http://{upstream}
  {swap}:
    url: http://{upstream}
    token:
      on_behalf_of:
        scopes: [\"{UPSTREAM_SCOPE}\"]
routes:
  - name: {plain}
    match: {{ path: \"/{plain}/{{*rest}}\" }}
    auth: none
    upstream: {plain}
  - name: {swap}
    match: {{ path: \"/{swap}/{{*rest}}\" }}
    auth: {{ providers: [entra], scopes: [{INBOUND_SCOPE}] }}
    upstream: {swap}
telemetry:
  access_log: true
"
    )
}
