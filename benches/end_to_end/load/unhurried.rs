//! Loads that are not about how much: connections that stay and do nothing, connections that come
//! and go, and probes that look in now and then.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::connection::ask;
use super::{Load, Phase, State, To, join};
use crate::Failure;
use crate::case::Transport;

/// Most requests of a connection that comes and goes.
const MOST_REQUESTS: usize = 50;

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// A connection on which nothing happens any more.
pub(crate) struct Held(Box<dyn Stream>);

impl Held {
    /// Whether the other end still holds it, too, and has said nothing.
    pub(crate) async fn is_open(&mut self) -> bool {
        let mut byte = [0; 1];
        // Reading nothing for no time at all is what an idle connection does.
        tokio::time::timeout(Duration::ZERO, self.0.read(&mut byte)).await.is_err()
    }
}

impl Load {
    /// Makes `count` connections, sends one request on each, and holds them.
    pub(crate) async fn hold(&self, count: usize) -> Result<Vec<Held>, Failure> {
        self.state.phase.set(Phase::Unmeasured);
        let mut lanes = JoinSet::new();
        for lane in 0..self.lanes.connections {
            let (state, to) = (Rc::clone(&self.state), self.to.clone());
            let numbers = (lane..count).step_by(self.lanes.connections);
            lanes.spawn_local(async move {
                let mut held = Vec::new();
                for number in numbers {
                    let planned = state.plan.get(number % state.plan.len()).ok_or("no users")?;
                    let mut stream = open(&to).await?;
                    let mut buffer = BytesMut::new();
                    ask(&state, &mut stream, &mut buffer, planned, Instant::now()).await?;
                    held.push(Held(stream));
                }
                Ok::<_, Failure>(held)
            });
        }
        let mut all = Vec::with_capacity(count);
        while let Some(held) = lanes.join_next().await {
            all.extend(held??);
        }
        self.fail_if_wrong()?;
        Ok(all)
    }

    /// For `duration`, connections with a few requests each, for users of a `window` that depends on
    /// the part of the time that is over. Calls `sample` every now and then.
    pub(crate) async fn come_and_go(
        &self,
        duration: Duration,
        window: impl Fn(f64) -> Range<usize>,
        every: Duration,
        mut sample: impl FnMut() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.state.phase.set(Phase::Unmeasured);
        self.turn_to(window(0.0));
        let mut connections = JoinSet::new();
        for seed in (0..).take(self.lanes.connections) {
            let (state, to) = (Rc::clone(&self.state), self.to.clone());
            connections.spawn_local(visit(state, to, fastrand::Rng::with_seed(seed)));
        }
        let began = Instant::now();
        while began.elapsed() < duration {
            tokio::time::sleep(every).await;
            self.turn_to(window(began.elapsed().div_duration_f64(duration).min(1.0)));
            sample()?;
            self.fail_if_wrong()?;
        }
        self.state.phase.set(Phase::Ended);
        join(connections).await
    }

    /// One request every `pause` on each connection, for `duration` and for as long as `goes_on`;
    /// gives their latencies.
    pub(crate) async fn probe(
        &self,
        duration: Duration,
        pause: Duration,
        goes_on: &Rc<Cell<bool>>,
    ) -> Result<Vec<Duration>, Failure> {
        self.state.phase.set(Phase::Measured);
        let mut connections = JoinSet::new();
        for number in 0..self.lanes.connections {
            let (state, to) = (Rc::clone(&self.state), self.to.clone());
            let goes_on = Rc::clone(goes_on);
            connections.spawn_local(async move {
                let mut stream = open(&to).await?;
                let mut buffer = BytesMut::new();
                let planned = state.plan.get(number % state.plan.len()).ok_or("no users")?;
                let began = Instant::now();
                while began.elapsed() < duration || goes_on.get() {
                    ask(&state, &mut stream, &mut buffer, planned, Instant::now()).await?;
                    tokio::time::sleep(pause).await;
                }
                Ok(())
            });
        }
        join(connections).await?;
        self.fail_if_wrong()?;
        Ok(self.state.latencies.take())
    }

    fn turn_to(&self, window: Range<usize>) {
        self.state.next.set(window.start);
        self.state.end.set(window.end.min(self.users()));
    }
}

async fn visit(state: Rc<State>, to: To, mut random: fastrand::Rng) -> Result<(), Failure> {
    while state.phase.get() != Phase::Ended {
        let mut stream = open(&to).await?;
        let mut buffer = BytesMut::new();
        for _ in 0..random.usize(1..=MOST_REQUESTS) {
            let number = random.usize(state.next.get()..state.end.get());
            let planned = state.plan.get(number).ok_or("no such user")?;
            ask(&state, &mut stream, &mut buffer, planned, Instant::now()).await?;
        }
    }
    Ok(())
}

async fn open(to: &To) -> Result<Box<dyn Stream>, Failure> {
    let stream = TcpStream::connect(to.address).await?;
    stream.set_nodelay(true)?;
    Ok(match to.transport {
        Transport::Clear => Box::new(stream),
        Transport::TlsHttp1 | Transport::TlsHttp2 => {
            Box::new(to.tls.handshake(stream, Transport::TlsHttp1).await?)
        }
    })
}
