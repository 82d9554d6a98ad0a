//! A proxy in its seat: a process of its own on its own core, ended when the seat is dropped.
//!
//! It knows how each proxy is started, when it is ready, and how one sees that its access log
//! and metrics are on; not what is asked of it.

use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, io};

use tempfile::TempDir;

use crate::case::{Proxy, Route};
use crate::routes_file::Written;
use crate::settings::Settings;
use crate::users::{CLIENT_SECRET, Users};
use crate::{Failure, bare_proxy, envoy, load, nginx, report};

/// A debug build on a busy machine is ready in a second.
const READY_TIMEOUT: Duration = Duration::from_mins(1);
const READY_POLL: Duration = Duration::from_millis(1);
/// The gateway writes what it logged 100 times a second; this is for a busy machine.
const LOG_TIMEOUT: Duration = Duration::from_secs(10);
const LOG_POLL: Duration = Duration::from_millis(5);
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

/// Which proxy, and how it is set up.
pub(crate) struct Sitting {
    pub(crate) proxy: Proxy,
    pub(crate) written: Written,
}

/// A running proxy.
pub(crate) struct Seat {
    proxy: Proxy,
    pub(crate) address: SocketAddr,
    /// Where `/readyz` is; of proxies without an admin port it is the upstream's, through the proxy.
    pub(crate) admin: SocketAddr,
    /// From before the process was made to ready.
    pub(crate) ready_after: Duration,
    child: Child,
    /// Its stderr. Opened to append, so that it can be emptied while it is written.
    log: File,
    dir: TempDir,
}

impl Seat {
    /// Starts a proxy and waits until it is ready.
    pub(crate) async fn start(
        settings: &Settings,
        sitting: &Sitting,
        addresses: Addresses,
        users: &Users,
    ) -> Result<Self, Failure> {
        let dir = tempfile::tempdir()?;
        let proxy = sitting.proxy;
        let (address, admin) = two_free_addresses()?;
        let log = OpenOptions::new().create(true).append(true).open(dir.path().join("log"))?;
        let mut command = command(settings, sitting.written.workers);
        let mut ready = admin;
        match proxy {
            Proxy::Gateway => {
                let routes = dir.path().join(ROUTES_FILE);
                fs::write(&routes, sitting.written.text(address, admin, addresses))?;
                command.arg(&settings.gateway).arg("run").arg("-c").arg(&routes);
                command.env("BENCH_SECRET", CLIENT_SECRET);
                for name in ["OBO_GATEWAY_CONFIG", "OBO_GATEWAY_LOG", "RUST_LOG"] {
                    command.env_remove(name);
                }
            }
            Proxy::Bare => {
                command.arg(std::env::current_exe()?).arg(bare_proxy::COMMAND);
                command.arg(address.to_string()).arg(admin.to_string());
                command.arg(addresses.upstream.to_string()).arg(addresses.authority());
                if let Some(files) = &sitting.written.tls {
                    command.arg(&files.chain).arg(&files.key);
                }
            }
            Proxy::Nginx => {
                ready = address;
                let program = installed(settings.nginx.as_deref(), "nginx")?;
                nginx::prepare(&mut command, program, dir.path(), address, addresses, users)?;
            }
            Proxy::Envoy => {
                ready = address;
                let program = installed(settings.envoy.as_deref(), "envoy")?;
                envoy::prepare(&mut command, program, dir.path(), address, addresses, users)?;
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.try_clone()?);
        let began = Instant::now();
        let child = command
            .spawn()
            .map_err(|error| format!("`setpriv` (package util-linux) can't be run: {error}"))?;
        let ready_after = Duration::ZERO;
        let mut seat = Self { proxy, address, admin: ready, ready_after, child, log, dir };
        seat.wait_until_ready().await?;
        seat.ready_after = began.elapsed();
        Ok(seat)
    }

    /// The proxy's process: the wrappers replace themselves by it.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Puts another routes file in place of the gateway's.
    pub(crate) fn rewrite(&self, written: &Written, addresses: Addresses) -> io::Result<()> {
        let text = written.text(self.address, self.admin, addresses);
        let next = self.dir.path().join("next.yaml");
        fs::write(&next, text)?;
        fs::rename(next, self.dir.path().join(ROUTES_FILE))
    }

    /// Forgets what was logged.
    pub(crate) fn empty_log(&self) -> io::Result<()> {
        self.log.set_len(0)
    }

    /// Waits for the first lines since the log was emptied: they come in batches.
    ///
    /// # Errors
    ///
    /// If a proxy that has an access log writes none.
    pub(crate) async fn fail_if_log_stays_empty(&self) -> Result<(), Failure> {
        match self.proxy {
            Proxy::Bare | Proxy::Nginx | Proxy::Envoy => Ok(()),
            Proxy::Gateway => {
                let began = Instant::now();
                while self.log.metadata()?.len() == 0 {
                    if began.elapsed() > LOG_TIMEOUT {
                        return Err("the gateway wrote no access log in a round".into());
                    }
                    tokio::time::sleep(LOG_POLL).await;
                }
                Ok(())
            }
        }
    }

    /// # Errors
    ///
    /// If the proxy counts the requests of each route, and others of `route` than `answered` with 200.
    pub(crate) async fn fail_if_miscounted(
        &self,
        route: Route,
        answered: u64,
    ) -> Result<(), Failure> {
        match self.proxy {
            Proxy::Bare | Proxy::Nginx | Proxy::Envoy => Ok(()),
            Proxy::Gateway => {
                let (_, text) = load::get(self.admin, "/metrics").await?;
                let route = format!("route=\"{}\"", route.name());
                let counts = text
                    .lines()
                    .filter(|line| line.starts_with("obo_gateway_requests_total{"))
                    .filter(|line| line.contains(&route) && line.contains("status=\"200\""))
                    .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
                let counted: u64 = counts.sum();
                if counted == answered {
                    return Ok(());
                }
                Err(format!(
                    "the gateway answered {answered} requests of {route}, but its metrics count {counted}"
                )
                .into())
            }
        }
    }

    async fn wait_until_ready(&mut self) -> Result<(), Failure> {
        let began = Instant::now();
        loop {
            let answer = match load::get(self.admin, "/readyz").await {
                Ok((200, _)) => return Ok(()),
                Ok((status, body)) => format!("`/readyz` answers {status}: {body}"),
                Err(error) => format!("`/readyz` on {}: {error}", self.admin),
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

const ROUTES_FILE: &str = "routes.yaml";

/// Starts on the proxy's core, or on both for two workers, and dies with this process, also when
/// that is killed.
fn command(settings: &Settings, workers: usize) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if let Some(cores) = settings.cores {
        let list = if workers > 1 {
            format!("{},{}", cores.proxy, cores.load)
        } else {
            cores.proxy.to_string()
        };
        command.args(["taskset", "-c", &list]);
    }
    command
}

fn installed<'a>(program: Option<&'a Path>, name: &str) -> Result<&'a Path, Failure> {
    program.ok_or_else(|| {
        format!("where is {name}? Give `--{name} PATH`; `benches/run --install` installs it").into()
    })
}

/// Two ports that were free a moment ago; both are held until both are known.
fn two_free_addresses() -> io::Result<(SocketAddr, SocketAddr)> {
    let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let second = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok((first.local_addr()?, second.local_addr()?))
}
