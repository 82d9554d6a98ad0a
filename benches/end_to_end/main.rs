//! What a request costs: the gateway beside a bare hyper-util proxy, in the same run.
//!
//! The load, the upstream and the provider live in this process, on one thread and one core;
//! each proxy is a process of its own on another core, and the CPU time that the kernel
//! accounts to it, divided by the requests it answered, is the figure to trust. Rounds are
//! taken in turn, so that whatever else the machine does meets both proxies alike.
//!
//! It decides how cases are run and when a run does not count: an answer that is not the
//! upstream's, an upstream that did not see the outbound token of just that user, an exchange
//! in a round that should be served from the cache, an access log or metrics that were off.
//! It does not know how either proxy works. `benches/README.md` says how to run and read it.

mod bare_proxy;
mod load;
mod process;
mod provider;
mod report;
mod seat;
mod serve;
mod settings;
mod upstream;
mod users;

use std::error::Error;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

use crate::load::Load;
use crate::process::CpuTime;
use crate::provider::Provider;
use crate::report::{Report, Round, Row};
use crate::seat::{Addresses, Seat};
use crate::settings::{Case, Settings};
use crate::upstream::Upstream;
use crate::users::Users;

/// Why the bench could not measure; a sentence for whoever started it.
type Failure = Box<dyn Error + Send + Sync>;

/// Load before the first round of a proxy, and at the start of each round, that is not
/// measured: connections are made and caches of the CPU are filled.
const RAMP: Duration = Duration::from_millis(300);

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
    Ok(if report.holds(settings.max_ratio) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The loopback world that a proxy stands in.
struct World {
    users: Rc<Users>,
    upstream: Rc<Upstream>,
    provider: Rc<Provider>,
    addresses: Addresses,
}

async fn bench(settings: &Settings, conditions: &str) -> Result<Report, Failure> {
    let upstream_listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let provider_listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let addresses = Addresses {
        upstream: upstream_listener.local_addr()?,
        provider: provider_listener.local_addr()?,
    };
    report::progress(&format!("signing {} tokens", settings.users));
    let users = Rc::new(Users::make(&addresses.authority(), settings.users)?);
    let world = World {
        upstream: Rc::new(Upstream::new(Rc::clone(&users))),
        provider: Rc::new(Provider::new(Rc::clone(&users), addresses.authority())),
        users,
        addresses,
    };
    Rc::clone(&world.upstream).serve(upstream_listener);
    Rc::clone(&world.provider).serve(provider_listener);

    let mut report = Report::new(conditions, &world.users);
    for case in &settings.cases {
        report.rows.extend(run_case(settings, *case, &world).await?);
    }
    Ok(report)
}

/// Runs one case with fresh proxies and gives a row for each.
async fn run_case(settings: &Settings, case: Case, world: &World) -> Result<Vec<Row>, Failure> {
    let mut contestants = Vec::new();
    for proxy in &settings.proxies {
        report::progress(&format!("{}: starting and warming up {}", case.name(), proxy.name()));
        let seat = Seat::start(settings, *proxy, world.addresses).await?;
        let load = Load::new(case, &world.users, seat.address, settings.connections);
        let mut row = Row::new(case, *proxy);
        warm_up(settings, case, world, &load, &mut row).await?;
        contestants.push((seat, load, row));
    }
    for number in 1..=settings.rounds {
        for (seat, load, row) in &mut contestants {
            let round = measure(settings, world, seat, load).await?;
            report::progress(&format!(
                "{}: round {number} of {}: {}: {:.2} us a request, {:.0} requests/s",
                case.name(),
                settings.rounds,
                row.proxy.name(),
                round.cpu_us(),
                round.per_second(),
            ));
            row.rounds.push(round);
        }
    }
    let mut rows = Vec::new();
    for (seat, load, mut row) in contestants {
        row.peak_kib = process::peak_memory_kib(seat.pid())?;
        row.wrong = load.wrong();
        if let Some(counted) = seat.requests_counted(case).await?
            && counted != load.answered()
        {
            return Err(format!(
                "`{}` answered {} requests of route `{}`, but its metrics count {counted}",
                row.proxy.name(),
                load.answered(),
                case.name(),
            )
            .into());
        }
        rows.push(row);
    }
    Ok(rows)
}

/// One request for each user, so that every token is cached, then load until it runs evenly.
async fn warm_up(
    settings: &Settings,
    case: Case,
    world: &World,
    load: &Load,
    row: &mut Row,
) -> Result<(), Failure> {
    let before = world.provider.exchanges();
    load.each_user_once().await?;
    let exchanges = world.provider.exchanges() - before;
    let wanted = match case {
        Case::Plain => 0,
        Case::Swap => settings.users,
    };
    load.fail_if_wrong()?;
    if exchanges != wanted {
        return Err(format!(
            "`{}` made {exchanges} exchanges for the first requests of {} users, wanted {wanted}",
            row.proxy.name(),
            settings.users,
        )
        .into());
    }
    load.run_for(RAMP, Duration::ZERO, || Ok(())).await?;
    load.fail_if_wrong()
}

/// One round: load for the ramp, then for the measured time.
async fn measure(
    settings: &Settings,
    world: &World,
    seat: &Seat,
    load: &Load,
) -> Result<Round, Failure> {
    let exchanges = world.provider.exchanges();
    let arrived = world.upstream.requests();
    let answered = load.answered();
    seat.empty_log()?;

    let mut marks = Vec::with_capacity(2);
    let latencies = load
        .run_for(RAMP, settings.round, || {
            let load_cpu = CpuTime::of(std::process::id())?;
            marks.push((Instant::now(), CpuTime::of(seat.pid())?, load_cpu));
            Ok(())
        })
        .await?;
    let [(began, proxy_before, load_before), (ended, proxy_after, load_after)] = marks.as_slice()
    else {
        return Err("a round has a beginning and an end".into());
    };

    load.fail_if_wrong()?;
    if world.provider.exchanges() != exchanges {
        return Err("an exchange in a round: the tokens of all users were to be cached".into());
    }
    let (arrived, answered) = (world.upstream.requests() - arrived, load.answered() - answered);
    if arrived != answered {
        return Err(format!("{answered} answers, but {arrived} requests at the upstream").into());
    }
    seat.fail_if_log_is_empty()?;
    Ok(Round::new(
        *ended - *began,
        *proxy_after - *proxy_before,
        *load_after - *load_before,
        latencies,
    ))
}
