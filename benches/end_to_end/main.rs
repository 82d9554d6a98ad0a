//! What a request costs: the gateway beside a bare hyper-util proxy, in the same run.
//!
//! The load, the upstream and the provider live in this process, on one thread and one core;
//! each proxy is a process of its own on another core, and the CPU time that the kernel
//! accounts to it, divided by the requests it answered, is the figure to trust. Rounds are
//! taken in turn, so that whatever else the machine does meets both proxies alike.
//!
//! It decides which module runs a case; when a run does not count is decided in `contest.rs`.
//! It does not know how any proxy works. `benches/README.md` says how to run and read it.

mod bare_proxy;
mod case;
mod churn;
mod closed;
mod contest;
mod envoy;
mod first_sight;
mod idle;
mod latency;
mod load;
mod nginx;
mod process;
mod provider;
mod reload;
mod report;
mod routes_file;
mod seat;
mod serve;
mod settings;
mod start;
mod tls;
mod upstream;
mod users;

use std::error::Error;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::rc::Rc;

use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

use crate::case::Case;
use crate::provider::Provider;
use crate::report::{Report, Section};
use crate::seat::Addresses;
use crate::settings::Settings;
use crate::tls::{CertificateFiles, TlsClient};
use crate::upstream::Upstream;
use crate::users::{LIFETIME_SECONDS, Users};

/// Why the bench could not measure; a sentence for whoever started it.
type Failure = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let outcome = if arguments.next().as_deref() == Some(bare_proxy::COMMAND) {
        bare_proxy::run(arguments).map(|()| ExitCode::SUCCESS)
    } else {
        run(&Settings::parse())
    };
    outcome.unwrap_or_else(|failure| {
        report::say_failure(&*failure);
        ExitCode::FAILURE
    })
}

fn run(settings: &Settings) -> Result<ExitCode, Failure> {
    if settings.cases.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let conditions = report::conditions(settings);
    // Before the runtime, because threads inherit it.
    if let Some(cores) = settings.cores {
        process::pin_this_process(cores.load)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = LocalSet::new().block_on(&runtime, async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        // Dropping the bench ends the proxies.
        tokio::select! {
            report = bench(settings, &conditions) => report,
            _ = terminate.recv() => Err("ended by SIGTERM".into()),
            _ = interrupt.recv() => Err("ended by SIGINT".into()),
        }
    })?;
    report.print();
    let holds = report.holds(settings.max_ratio, settings.strict);
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The loopback world that a proxy stands in.
struct World {
    users: Rc<Users>,
    upstream: Rc<Upstream>,
    provider: Rc<Provider>,
    addresses: Addresses,
    certificate: CertificateFiles,
    tls: TlsClient,
    /// Holds the certificate.
    _dir: TempDir,
}

impl World {
    /// With `users` users, of whom the one of number n has a token for `lifetime_seconds(n)`.
    async fn make(users: usize, lifetime_seconds: impl Fn(usize) -> u64) -> Result<Self, Failure> {
        let upstream_listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let provider_listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addresses = Addresses {
            upstream: upstream_listener.local_addr()?,
            provider: provider_listener.local_addr()?,
        };
        report::progress(&format!("signing {users} tokens"));
        let users = Rc::new(Users::make(&addresses.authority(), users, lifetime_seconds)?);
        let dir = tempfile::tempdir()?;
        let (certificate, tls) = tls::make(dir.path())?;
        let world = Self {
            upstream: Rc::new(Upstream::new(Rc::clone(&users))),
            provider: Rc::new(Provider::new(Rc::clone(&users), addresses.authority())),
            users,
            addresses,
            certificate,
            tls,
            _dir: dir,
        };
        Rc::clone(&world.upstream).serve(upstream_listener);
        Rc::clone(&world.provider).serve(provider_listener);
        Ok(world)
    }
}

async fn bench(settings: &Settings, conditions: &str) -> Result<Report, Failure> {
    let users = settings.cases.iter().map(|case| settings.users_of(*case)).max();
    let world = World::make(users.unwrap_or(1), |_| LIFETIME_SECONDS).await?;
    let mut report = Report::new(conditions, &world.users);
    for case in &settings.cases {
        let section = run_case(settings, *case, &world)
            .await
            .map_err(|failure| format!("{}: {failure}", case.name()))?;
        report.sections.push(section);
    }
    Ok(report)
}

async fn run_case(settings: &Settings, case: Case, world: &World) -> Result<Section, Failure> {
    match case {
        Case::Plain
        | Case::Swap
        | Case::Swap1
        | Case::Swap50000
        | Case::TlsHttp1
        | Case::TlsHttp2
        | Case::Down
        | Case::Up
        | Case::TwoWorkers => closed::run(settings, case, world).await,
        Case::FirstSight | Case::Checked => first_sight::run(settings, case, world).await,
        Case::Latency => latency::run(settings, world).await,
        Case::IdlePlain | Case::IdleTls => idle::run(settings, case, world).await,
        Case::Churn => churn::run(settings).await,
        Case::Start => start::run(settings, world).await,
        Case::Reload => reload::run(settings, world).await,
    }
}
