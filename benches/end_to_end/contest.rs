//! Contestants: a proxy in its seat with the load for it, and the rules that make a measurement of it
//! count.
//!
//! It decides what is wrong with a run: a forged token that passes, an answer that is not the
//! upstream's, an upstream that did not see the outbound token of just that user, an exchange too many
//! or too few, an access log or metrics that were off.

use std::time::{Duration, Instant};

use crate::case::{Case, Payload, Proxy, Route, Transport};
use crate::load::{self, Asked, Lanes, Load, To};
use crate::process::{self, CpuTime};
use crate::report::{self, Round};
use crate::routes_file::{self, Written};
use crate::seat::{Seat, Sitting};
use crate::settings::Settings;
use crate::upstream::Credential;
use crate::{Failure, World};

/// Connections and streams of `tls-http2`.
const HTTP2_LANES: Lanes = Lanes { connections: 10, streams: 20 };
/// Connections of the cases with large bodies.
const DOWN_CONNECTIONS: usize = 8;
const UP_CONNECTIONS: usize = 4;

/// A proxy, and the load for it.
pub(crate) struct Contestant {
    pub(crate) case: Case,
    pub(crate) proxy: Proxy,
    pub(crate) workers: usize,
    pub(crate) seat: Seat,
    pub(crate) load: Load,
}

/// What the counters said when something began.
struct Before {
    exchanges: usize,
    arrived: u64,
    answered: u64,
}

impl Contestant {
    /// Starts `proxy` for `case` and plans its requests; it is asked nothing yet but whether it is
    /// ready and whether it takes a forged token.
    pub(crate) async fn start(
        settings: &Settings,
        case: Case,
        proxy: Proxy,
        workers: usize,
        world: &World,
    ) -> Result<Self, Failure> {
        if !proxy.can_run(case) {
            return Err(format!("`{}` is not set up for `{}`", proxy.name(), case.name()).into());
        }
        let tls = case.transport().is_tls().then(|| world.certificate.clone());
        let written = Written { tls, workers, ..Written::default() };
        let sitting = Sitting { proxy, written };
        let seat = Seat::start(settings, &sitting, world.addresses, &world.users).await?;
        if case.route() != Route::Plain && case.transport() == Transport::Clear {
            let forged = world.users.forged().ok_or("no token to forge")?;
            if !load::refuses(seat.address, &routes_file::path(case.route()), &forged).await? {
                return Err(format!("`{}` took a forged token", proxy.name()).into());
            }
        }
        let mut asked = Asked::new(case.route(), case.payload(), case.transport());
        if proxy == Proxy::Envoy && case.route() == Route::Swap {
            asked.credential = Credential::Shared;
        }
        let to = To { address: seat.address, transport: case.transport(), tls: world.tls.clone() };
        let users = world.users.iter().take(settings.users_of(case));
        let load = Load::new(asked, users, to, lanes(settings, case))?;
        Ok(Self { case, proxy, workers, seat, load })
    }

    /// As rows call it.
    pub(crate) fn name(&self) -> String {
        if self.workers == 1 {
            self.proxy.name().to_owned()
        } else {
            format!("{}, {} workers", self.proxy.name(), self.workers)
        }
    }

    /// One request for each user, so that every token is cached, then load until it runs evenly.
    pub(crate) async fn warm_up(&self, settings: &Settings, world: &World) -> Result<(), Failure> {
        let wanted = match (self.proxy, self.case.route()) {
            (Proxy::Envoy, _) | (_, Route::Plain | Route::Checked) => 0,
            (Proxy::Gateway | Proxy::Bare | Proxy::Nginx, Route::Swap) => self.load.users(),
        };
        let before = self.before(world);
        self.load.each_once(0..self.load.users()).await?;
        self.load.run_for(settings.ramp, Duration::ZERO, || Ok(())).await?;
        self.fail_unless_exact(world, &before, wanted)
    }

    /// One round of the closed loop: load for the ramp, then for the measured time; nothing is
    /// exchanged.
    pub(crate) async fn round(&self, settings: &Settings, world: &World) -> Result<Round, Failure> {
        let before = self.before(world);
        self.seat.empty_log()?;
        let mut marks = Vec::with_capacity(2);
        // Two workers have the load's core as well.
        let _awake = (self.workers == 1).then(load::awake);
        let latencies = self
            .load
            .run_for(settings.ramp, settings.round, || {
                marks.push(self.mark()?);
                Ok(())
            })
            .await?;
        self.fail_unless_exact(world, &before, 0)?;
        self.seat.fail_if_log_stays_empty().await?;
        let [began, ended] = marks.as_slice() else {
            return Err("a round has a beginning and an end".into());
        };
        Ok(Round::new(ended.0 - began.0, ended.1 - began.1, ended.2 - began.2, latencies))
    }

    /// Sends the requests of `users`, of whom `exchanged` have to be exchanged, as one round.
    pub(crate) async fn once(
        &self,
        world: &World,
        users: std::ops::Range<usize>,
        exchanged: usize,
    ) -> Result<Round, Failure> {
        let before = self.before(world);
        self.seat.empty_log()?;
        let began = self.mark()?;
        let latencies = self.load.each_once(users).await?;
        let ended = self.mark()?;
        self.fail_unless_exact(world, &before, exchanged)?;
        self.seat.fail_if_log_stays_empty().await?;
        Ok(Round::new(ended.0 - began.0, ended.1 - began.1, ended.2 - began.2, latencies))
    }

    /// Requests at times of their own, `rate` a second; gives a round whose latencies count from then.
    pub(crate) async fn open_loop(
        &self,
        settings: &Settings,
        world: &World,
        rate: f64,
    ) -> Result<Round, Failure> {
        let before = self.before(world);
        self.seat.empty_log()?;
        let began = self.mark()?;
        let latencies = self.load.open_loop(rate, settings.ramp, settings.round).await?;
        let ended = self.mark()?;
        self.fail_unless_exact(world, &before, 0)?;
        self.seat.fail_if_log_stays_empty().await?;
        Ok(Round::new(ended.0 - began.0, ended.1 - began.1, ended.2 - began.2, latencies))
    }

    /// The last look: whether the proxy counted as we did.
    pub(crate) async fn finish(&self) -> Result<(), Failure> {
        self.seat.fail_if_miscounted(self.case.route(), self.load.answered()).await
    }

    /// Time, CPU of the proxy, CPU of the load.
    fn mark(&self) -> Result<(Instant, CpuTime, CpuTime), Failure> {
        let load = CpuTime::of(std::process::id())?;
        Ok((Instant::now(), CpuTime::of(self.seat.pid())?, load))
    }

    /// The peak of resident memory, in MiB.
    pub(crate) fn peak_mib(&self) -> Result<String, Failure> {
        let kib = process::peak_memory_kib(self.seat.pid())?;
        Ok(format!("{}.{}", kib / 1024, kib % 1024 * 10 / 1024))
    }

    fn before(&self, world: &World) -> Before {
        Before {
            exchanges: world.provider.exchanges(),
            arrived: world.upstream.requests(),
            answered: self.load.answered(),
        }
    }

    /// # Errors
    ///
    /// If an answer was wrong, the upstream saw another number of requests than there were answers,
    /// or the provider other than `due` exchanges.
    fn fail_unless_exact(&self, world: &World, before: &Before, due: usize) -> Result<(), Failure> {
        self.load.fail_if_wrong()?;
        let exchanges = world.provider.exchanges() - before.exchanges;
        let name = self.proxy.name();
        if exchanges != due {
            return Err(format!("`{name}` made {exchanges} exchanges where {due} were due").into());
        }
        let arrived = world.upstream.requests() - before.arrived;
        let answered = self.load.answered() - before.answered;
        if arrived != answered {
            return Err(format!(
                "`{name}` gave {answered} answers, but {arrived} requests reached the upstream"
            )
            .into());
        }
        Ok(())
    }
}

fn lanes(settings: &Settings, case: Case) -> Lanes {
    match (case.transport(), case.payload()) {
        (Transport::TlsHttp2, _) => {
            Lanes { connections: HTTP2_LANES.connections.min(settings.connections), ..HTTP2_LANES }
        }
        (_, Payload::Small) => Lanes { connections: settings.connections, streams: 1 },
        (_, Payload::Down) => Lanes { connections: DOWN_CONNECTIONS, streams: 1 },
        (_, Payload::Up) => Lanes { connections: UP_CONNECTIONS, streams: 1 },
    }
}

/// Tells what a round of `contestant` gave.
pub(crate) fn say_round(
    settings: &Settings,
    contestant: &Contestant,
    number: usize,
    round: &Round,
) {
    report::progress(&format!(
        "{}: round {number} of {}: {}: {:.2} us a request, {:.0} requests/s",
        contestant.case.name(),
        settings.rounds,
        contestant.name(),
        round.cpu_us(),
        round.per_second(),
    ));
}
