//! Ends a connection when it has to go: when its caller is too slow or says nothing, and when the
//! listener or the gateway ends.
//!
//! At such an end nothing that is on its way should be lost. Over HTTP/2 a GOAWAY says so much; over
//! HTTP/1.1 nobody knows before an answer says `Connection: close`, so that one without a request
//! stays for a moment, in which one is still answered.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::HttpService;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::accept::Settings;
use crate::accept::activity::{Activity, Verdict};
use crate::accept::drain::Drain;
use crate::accept::seldom::Seldom;
use crate::accept::streams::{Link, Streams};
use crate::limits;
use crate::observe::cut_off::Cut;

/// A connection that can be told to end after what is in flight.
pub(super) trait Ending: Future<Output = hyper::Result<()>> {
    /// What it is while it rests.
    type Rested;

    fn end(self: Pin<&mut Self>);

    /// Lets it rest between two requests; it goes on if it is of a kind that never does.
    fn rest(self: Pin<Box<Self>>) -> Result<Self::Rested, Pin<Box<Self>>>;
}

impl<I, S> Ending for http1::UpgradeableConnection<I, S>
where
    S: HttpService<hyper::body::Incoming, Error = Infallible>,
    S::ResBody: 'static,
    <S::ResBody as http_body::Body>::Error: Into<crate::body::BoxError>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    type Rested = Pin<Box<Self>>;

    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }

    fn rest(self: Pin<Box<Self>>) -> Result<Self::Rested, Pin<Box<Self>>> {
        Ok(self)
    }
}

impl<I, S, E> Ending for http2::Connection<I, S, E>
where
    S: HttpService<hyper::body::Incoming, Error = Infallible>,
    S::ResBody: 'static,
    <S::ResBody as http_body::Body>::Error: Into<crate::body::BoxError>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    E: hyper::rt::bounds::Http2ServerConnExec<S::Future, S::ResBody>,
{
    /// Its parser knows what lasts as long as the connection.
    type Rested = Infallible;

    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }

    fn rest(self: Pin<Box<Self>>) -> Result<Self::Rested, Pin<Box<Self>>> {
        Err(self)
    }
}

/// Why a connection is not driven any more.
pub(super) enum Driven<R> {
    /// It has ended; with what broke it, if anything did.
    Ended(Option<hyper::Error>),
    /// It has been between two requests of HTTP/1.1 for some time.
    Rests(R),
}

/// Sees to it that a connection ends when it has to.
pub(super) async fn drive<C: Ending>(
    connection: Pin<Box<C>>,
    activity: &Activity,
    streams: Option<&Streams>,
    settings: &Settings,
    drain: &Drain,
) -> Driven<C::Rested> {
    // Dropped behind the connection.
    let mut cut = Cut::default();
    let mut connection = connection;
    let mut cutting = pin!(Seldom::new(drain.cutting()));
    let mut closing = pin!(Seldom::new(drain.closing()));
    let mut look = pin!(Seldom::new(sleep_until(Instant::now() + settings.header_timeout)));
    look_first(activity, settings, look.as_mut());
    let mut ends_by: Option<Instant> = None;
    // When a look last found that the caller does not keep up with what is written.
    let mut clogged: Option<Instant> = None;
    let mut told = false;
    // Once the end has begun: when it is asked again whether a request is on its way.
    let mut leaves_at: Option<Instant> = None;
    if drain.has_begun() {
        // Its first answer may be there before anything else is looked at.
        activity.close();
    }
    // HTTP/2 has a farewell behind which requests that were on their way are still answered. But one
    // that comes in the end would hear it before it had asked for anything.
    let says_farewell = streams.is_some() && !drain.has_begun() || drain.moment().is_zero();
    loop {
        tokio::select! {
            biased;
            ended = &mut connection => {
                let ended = ended.inspect_err(|error| tracing::debug!(%error, "a connection broke"));
                return Driven::Ended(ended.err());
            }
            () = &mut cutting => {
                cut_off(connection.as_mut(), activity, streams, drain).await;
                cut.begin();
                return Driven::Ended(None);
            }
            () = &mut closing, if !told => {
                told = true;
                activity.close();
                let now = Instant::now();
                if says_farewell {
                    connection.as_mut().end();
                    // HTTP/2 ends when the caller answers the farewell. Who has been at rest has
                    // nothing to wait for, and may have vanished: it must not use up the grace.
                    if activity.rests(now, limits::CLOSING_TIMEOUT) {
                        ends_by = Some(now + limits::CLOSING_TIMEOUT);
                        look.as_mut().reset(now + limits::CLOSING_TIMEOUT);
                    }
                } else {
                    let at = now + drain.moment();
                    leaves_at = Some(at);
                    look_by(look.as_mut(), at);
                }
            }
            () = &mut look => {
                let now = Instant::now();
                if ends_by.is_some_and(|by| by <= now) {
                    if !activity.is_busy() {
                        return Driven::Ended(None);
                    }
                    // A request that was on its way is answered; its last bytes are not cut off.
                    ends_by = None;
                }
                if leaves_at.is_some_and(|at| at <= now) {
                    if activity.is_silent() {
                        return Driven::Ended(None);
                    }
                    let rests = activity.rests(now, drain.moment());
                    if rests || streams.is_some() {
                        leaves_at = None;
                        connection.as_mut().end();
                    } else {
                        // The answer under way, if its head was out already, did not say that it is
                        // the last one: behind it comes a moment too.
                        leaves_at = Some(now + drain.moment());
                    }
                    if rests {
                        ends_by.get_or_insert(now + limits::CLOSING_TIMEOUT);
                    }
                }
                let patience = settings.body_idle_timeout;
                let link = link(activity, &mut clogged, now, patience);
                let due = streams.and_then(|streams| streams.end_stalled(now, patience, link));
                match activity.judge(now, settings) {
                    Verdict::LookAgain(at) => {
                        if !told && activity.may_rest(now) {
                            match connection.rest() {
                                Ok(rested) => return Driven::Rests(rested),
                                Err(goes_on) => connection = goes_on,
                            }
                        }
                        let at = due.map_or(at, |due| due.min(at));
                        look.as_mut().reset(at.min(activity.rest_look(now)));
                    }
                    Verdict::Idle => {
                        told = true;
                        connection.as_mut().end();
                        ends_by.get_or_insert(now + limits::CLOSING_TIMEOUT);
                        look.as_mut().reset(now + limits::CLOSING_TIMEOUT);
                    }
                    // Not a byte of a head: there is nobody to tell.
                    Verdict::Overdue if !activity.head_has_begun() => return Driven::Ended(None),
                    Verdict::Overdue => {
                        activity.give_up_head();
                        ends_by.get_or_insert(now + limits::CLOSING_TIMEOUT);
                        look.as_mut().reset(now + limits::CLOSING_TIMEOUT);
                    }
                }
                for at in [ends_by, leaves_at].into_iter().flatten() {
                    look_by(look.as_mut(), at);
                }
            }
        }
    }
}

/// The grace is over: what is left is counted, and dropped next.
async fn cut_off<C: Ending>(
    mut connection: Pin<&mut C>,
    activity: &Activity,
    streams: Option<&Streams>,
    drain: &Drain,
) {
    if activity.is_silent() || activity.rests(Instant::now(), Duration::ZERO) {
        // Nobody waits for anything.
        return;
    }
    let tunnels = activity.tunnels();
    if let Some(streams) = streams {
        if tunnels > 0 {
            // They say goodbye over this connection; once all have, it ends by itself.
            connection.as_mut().end();
            let said = timeout(limits::UPGRADE_FAREWELL, connection).await;
            said.unwrap_or(Ok(())).unwrap_or_default();
        }
        streams.cut();
    }
    let gone = tunnels.saturating_sub(activity.tunnels());
    drain.cut_off(activity.requests() + gone);
}

/// How the caller keeps up with what is written; `clogged` is when it last did not.
fn link(
    activity: &Activity,
    clogged: &mut Option<Instant>,
    now: Instant,
    patience: Duration,
) -> Link {
    if activity.is_writing() {
        *clogged = Some(now);
    }
    match *clogged {
        Some(at) if now < at + patience => Link::Clogged,
        Some(_) | None => Link::Flows,
    }
}

/// Looks at `at`, unless it does so before.
fn look_by(look: Pin<&mut Seldom<Sleep>>, at: Instant) {
    if at < look.deadline() {
        look.reset(at);
    }
}

/// The first look: the head may be due sooner than in a whole `header_timeout`.
fn look_first(activity: &Activity, settings: &Settings, look: Pin<&mut Seldom<Sleep>>) {
    match activity.judge(Instant::now(), settings) {
        Verdict::LookAgain(at) => look.reset(at.min(activity.rest_look(Instant::now()))),
        Verdict::Idle | Verdict::Overdue => look.reset(Instant::now()),
    }
}
