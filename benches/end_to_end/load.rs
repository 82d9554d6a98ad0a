//! The load: a closed loop over keep-alive connections, with no HTTP library in between.
//!
//! Each connection sends a request that was made beforehand, reads the answer and compares
//! its beginning with what the upstream must have said to that user, then sends the next. It
//! knows of HTTP/1.1 only what the answers need: a status, a `Content-Length`, a body.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::Failure;
use crate::settings::Case;
use crate::upstream::{Credential, opening};
use crate::users::Users;

/// No answer takes longer, on loopback; one that does is a proxy that hangs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How much of a wrong answer is shown.
const SHOWN_BYTES: usize = 800;

/// Space for one answer: its head and 1 KiB.
const BUFFER_BYTES: usize = 8 * 1024;

/// The requests of one case to one proxy, and what came of them.
pub(crate) struct Load {
    address: SocketAddr,
    connections: usize,
    state: Rc<State>,
}

struct State {
    plan: Vec<Planned>,
    /// The next of [`Load::each_user_once`].
    next: Cell<usize>,
    phase: Cell<Phase>,
    answered: Cell<u64>,
    wrong: Cell<u64>,
    first_wrong: RefCell<Option<String>>,
    latencies: RefCell<Vec<Duration>>,
}

/// The request of one user and how the body of its answer has to begin.
struct Planned {
    request: Vec<u8>,
    opening: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Answers count, their latencies don't.
    Unmeasured,
    Measured,
    Ended,
}

/// In which order a connection takes the users.
#[derive(Clone, Copy)]
enum Order {
    EachOnce,
    Random { seed: u64 },
}

impl Load {
    /// Prepares the requests of all users for the proxy at `address`.
    pub(crate) fn new(case: Case, users: &Users, address: SocketAddr, connections: usize) -> Self {
        let plan = users.iter().enumerate().map(|(number, user)| {
            let (authorization, credential) = match case {
                Case::Plain => (String::new(), Credential::Absent),
                Case::Swap => (
                    format!("authorization: Bearer {}\r\n", user.inbound),
                    Credential::OfTheUser,
                ),
            };
            let request = format!(
                "GET /{}/{number} HTTP/1.1\r\nhost: {address}\r\nuser-agent: bench\r\naccept: */*\r\n{authorization}\r\n",
                case.name(),
            );
            Planned { request: request.into_bytes(), opening: opening(number, credential) }
        });
        let state = Rc::new(State {
            plan: plan.collect(),
            next: Cell::new(0),
            phase: Cell::new(Phase::Unmeasured),
            answered: Cell::new(0),
            wrong: Cell::new(0),
            first_wrong: RefCell::new(None),
            latencies: RefCell::new(Vec::new()),
        });
        Self { address, connections, state }
    }

    /// Answers so far, right or wrong.
    pub(crate) fn answered(&self) -> u64 {
        self.state.answered.get()
    }

    /// Answers so far that were not the upstream's to that user with the right token.
    pub(crate) fn wrong(&self) -> u64 {
        self.state.wrong.get()
    }

    /// # Errors
    ///
    /// If an answer was wrong; shows the first.
    pub(crate) fn fail_if_wrong(&self) -> Result<(), Failure> {
        match self.state.first_wrong.borrow().as_deref() {
            None => Ok(()),
            Some(first) => Err(format!(
                "{} of {} answers are not what the upstream had to say; the first:\n{first}",
                self.wrong(),
                self.answered(),
            )
            .into()),
        }
    }

    /// Sends one request for each user and waits for the answers.
    pub(crate) async fn each_user_once(&self) -> Result<(), Failure> {
        self.state.next.set(0);
        self.state.phase.set(Phase::Unmeasured);
        join(self.connect(|_| Order::EachOnce)).await
    }

    /// Loads the proxy for `ramp`, then for `measured`; calls `mark` when the measured time
    /// begins and when it ends. Gives the latencies of the answers in between.
    pub(crate) async fn run_for(
        &self,
        ramp: Duration,
        measured: Duration,
        mut mark: impl FnMut() -> Result<(), Failure>,
    ) -> Result<Vec<Duration>, Failure> {
        self.state.phase.set(Phase::Unmeasured);
        let mut connections = self.connect(|number| Order::Random { seed: number });
        or_first_end(&mut connections, ramp).await?;
        if !measured.is_zero() {
            mark()?;
            self.state.phase.set(Phase::Measured);
            or_first_end(&mut connections, measured).await?;
            mark()?;
        }
        self.state.phase.set(Phase::Ended);
        join(connections).await?;
        Ok(self.state.latencies.take())
    }

    fn connect(&self, order: impl Fn(u64) -> Order) -> JoinSet<Result<(), Failure>> {
        let mut connections = JoinSet::new();
        for number in (0..).take(self.connections) {
            let state = Rc::clone(&self.state);
            connections.spawn_local(state.converse(self.address, order(number)));
        }
        connections
    }
}

/// Waits for `time`, or for the first connection that ends: none should, so that is a failure.
async fn or_first_end(
    connections: &mut JoinSet<Result<(), Failure>>,
    time: Duration,
) -> Result<(), Failure> {
    match tokio::time::timeout(time, connections.join_next()).await {
        Err(_elapsed) => Ok(()),
        Ok(Some(ended)) => ended?.and(Err("a connection of the load ended early".into())),
        Ok(None) => Err("the load has no connections".into()),
    }
}

async fn join(mut connections: JoinSet<Result<(), Failure>>) -> Result<(), Failure> {
    let all = async {
        while let Some(ended) = connections.join_next().await {
            ended??;
        }
        Ok(())
    };
    // Each user once is at most some seconds of work for one core.
    tokio::time::timeout(ANSWER_TIMEOUT * 6, all)
        .await
        .map_err(|_elapsed| "the proxy left a request without an answer for a minute")?
}

impl State {
    /// One connection: request after request until the phase, or the list of users, ends.
    async fn converse(self: Rc<Self>, address: SocketAddr, order: Order) -> Result<(), Failure> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut random = match order {
            Order::EachOnce => None,
            Order::Random { seed } => Some(fastrand::Rng::with_seed(seed)),
        };
        let mut buffer = BytesMut::with_capacity(BUFFER_BYTES);
        while self.phase.get() != Phase::Ended {
            let number = if let Some(random) = &mut random {
                random.usize(..self.plan.len())
            } else {
                self.next.replace(self.next.get() + 1)
            };
            let Some(planned) = self.plan.get(number) else { return Ok(()) };
            let sent = Instant::now();
            stream.write_all(&planned.request).await?;
            let answer = receive(&mut stream, &mut buffer).await?;
            if self.phase.get() == Phase::Measured {
                self.latencies.borrow_mut().push(sent.elapsed());
            }
            self.answered.set(self.answered.get() + 1);
            let body = buffer.get(answer.body_start..).unwrap_or_default();
            if answer.status != 200 || !body.starts_with(&planned.opening) {
                self.wrong.set(self.wrong.get() + 1);
                self.first_wrong.borrow_mut().get_or_insert_with(|| shown(&buffer));
            }
            buffer.clear();
        }
        Ok(())
    }
}

/// Where the parts of an answer are in the buffer.
struct Answer {
    status: u16,
    body_start: usize,
    end: usize,
}

/// Reads one whole answer into `buffer`, which is empty before.
async fn receive(stream: &mut TcpStream, buffer: &mut BytesMut) -> Result<Answer, Failure> {
    let mut found = None;
    loop {
        if stream.read_buf(buffer).await? == 0 {
            return Err(format!(
                "the proxy closed a connection where an answer was due, after: {}",
                shown(buffer)
            )
            .into());
        }
        if found.is_none() {
            found = parse_head(buffer)?;
        }
        match found {
            Some(answer) if answer.end == buffer.len() => return Ok(answer),
            Some(answer) if answer.end < buffer.len() => {
                return Err(format!("bytes behind the end of an answer: {}", shown(buffer)).into());
            }
            still_short => found = still_short,
        }
    }
}

/// The head at the start of `bytes`, if all of it is there.
fn parse_head(bytes: &[u8]) -> Result<Option<Answer>, Failure> {
    let Some(head_end) = memmem::find(bytes, b"\r\n\r\n") else { return Ok(None) };
    // Both proxies write names in lower case; the rest is for answers that are wrong anyway.
    let head = bytes.get(..head_end).unwrap_or_default();
    let length = match content_length(head) {
        None => content_length(&head.to_ascii_lowercase()),
        found => found,
    };
    let status = head
        .strip_prefix(b"HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
        .and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    match (status, length) {
        (Some(status), Some(length)) => {
            let body_start = head_end + 4;
            Ok(Some(Answer { status, body_start, end: body_start + length }))
        }
        _ => Err(format!("an answer without status or Content-Length: {}", shown(bytes)).into()),
    }
}

fn content_length(head: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"\r\ncontent-length: ";
    let rest = head.get(memmem::find(head, NAME)? + NAME.len()..)?;
    let line = memchr::memchr(b'\r', rest).map_or(Some(rest), |end| rest.get(..end))?;
    std::str::from_utf8(line).ok()?.trim().parse().ok()
}

fn shown(bytes: &[u8]) -> String {
    let bytes = bytes.get(..SHOWN_BYTES).unwrap_or(bytes);
    String::from_utf8_lossy(bytes).trim_end_matches('.').to_owned()
}

/// One GET on a connection of its own: status and body. For readiness and metrics.
pub(crate) async fn get(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer: io::Result<String> = tokio::time::timeout(ANSWER_TIMEOUT, exchange).await?;
    let answer = answer?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    status
        .map(|status| (status, body.to_owned()))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no HTTP answer"))
}
