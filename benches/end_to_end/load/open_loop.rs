//! The open loop: requests are due at times that don't depend on answers, as those of many callers
//! who know nothing of each other (Poisson). A latency counts from when its request was due, so a
//! proxy that stops is charged with all who came meanwhile.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::connection::ask;
use super::{Load, Phase, State, To, join};
use crate::Failure;

/// Requests that are due and not sent yet.
struct Due {
    queue: RefCell<VecDeque<(Instant, usize)>>,
    arrived: Notify,
}

impl Load {
    /// `rate` requests a second on average for `ramp`, then for `measured`; gives the latencies of
    /// those that were answered in the measured time.
    pub(crate) async fn open_loop(
        &self,
        rate: f64,
        ramp: Duration,
        measured: Duration,
    ) -> Result<Vec<Duration>, Failure> {
        let due = Rc::new(Due { queue: RefCell::default(), arrived: Notify::new() });
        self.state.phase.set(Phase::Unmeasured);
        let mut connections = JoinSet::new();
        for _ in 0..self.lanes.connections {
            let (state, due) = (Rc::clone(&self.state), Rc::clone(&due));
            connections.spawn_local(serve_the_due(state, due, self.to.clone()));
        }
        let mut random = fastrand::Rng::with_seed(7);
        let began = Instant::now();
        let (measure_from, end) = (began + ramp, began + ramp + measured);
        let mut next = began;
        // Spins, because timers of a millisecond would bundle what is to come singly.
        while next < end {
            if Instant::now() < next {
                tokio::task::yield_now().await;
                continue;
            }
            if next >= measure_from {
                self.state.phase.set(Phase::Measured);
            }
            due.queue.borrow_mut().push_back((next, random.usize(..self.users())));
            due.arrived.notify_one();
            next += Duration::from_secs_f64(-(1.0 - random.f64()).ln() / rate);
        }
        while !due.queue.borrow().is_empty() && connections.len() == self.lanes.connections {
            tokio::task::yield_now().await;
        }
        self.state.phase.set(Phase::Ended);
        due.arrived.notify_waiters();
        // Whoever was not waiting yet finds the phase ended.
        join(connections).await?;
        Ok(self.state.latencies.take())
    }
}

async fn serve_the_due(state: Rc<State>, due: Rc<Due>, to: To) -> Result<(), Failure> {
    let mut stream = TcpStream::connect(to.address).await?;
    stream.set_nodelay(true)?;
    let mut buffer = BytesMut::new();
    loop {
        let arrived = due.arrived.notified();
        let next = due.queue.borrow_mut().pop_front();
        match next {
            Some((since, number)) => {
                let planned = state.plan.get(number).ok_or("no such user")?;
                ask(&state, &mut stream, &mut buffer, planned, since).await?;
            }
            None if state.phase.get() == Phase::Ended => return Ok(()),
            None => arrived.await,
        }
    }
}
