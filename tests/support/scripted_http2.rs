//! An upstream that speaks HTTP/2 frame by frame, with prior knowledge: one that refuses streams,
//! sends GOAWAY as it likes and takes as few streams at a time as the test wants.
//!
//! Of a request it knows the connection, the stream and the bytes of its body.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::watch;

use super::gate::Gate;
use super::servers::Server;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const NO_ERROR: u32 = 0;
const REFUSED_STREAM: u32 = 7;

/// What becomes of a stream.
#[derive(Clone, Debug)]
pub enum Act {
    /// 200 with a short body, once the request is whole.
    Answer,
    /// The same, once the gate is open.
    Held(Gate),
    /// A status without a body. Of 503 and 504, which have no short form, only 503 is known.
    Unavailable,
    /// `RST_STREAM` with `REFUSED_STREAM`, once the request is whole.
    Refuse,
    /// `RST_STREAM` with `INTERNAL_ERROR`.
    Fail,
    /// GOAWAY whose last stream is the one before; this one is not looked at.
    GoAwayBefore,
    /// GOAWAY whose last stream is this one, and then its answer.
    GoAwayBehind,
    /// GOAWAY whose last stream is this one, and then the end of the connection.
    GoAwayAndClose,
    /// The end of the connection.
    Close,
    /// Nothing more is read or said on the connection, which stays open.
    Freeze,
}

/// A request, as far as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenStream {
    /// Counts the connections, from 0.
    pub connection: usize,
    pub stream: u32,
    pub body: Vec<u8>,
}

/// The upstream; see the module.
pub struct ScriptedHttp2 {
    server: Server,
    shared: Arc<Shared>,
}

struct Shared {
    acts: Mutex<VecDeque<Act>>,
    seen: watch::Sender<Vec<SeenStream>>,
    connections: AtomicUsize,
    open: watch::Sender<usize>,
    most_streams: u32,
}

impl ScriptedHttp2 {
    /// Starts one that takes `most_streams` at a time on a connection, and answers 200 to
    /// whatever has no act of its own.
    pub fn start(most_streams: u32) -> Self {
        let shared = Arc::new(Shared {
            acts: Mutex::default(),
            seen: watch::Sender::new(Vec::new()),
            connections: AtomicUsize::new(0),
            open: watch::Sender::new(0),
            most_streams,
        });
        let serving = Arc::clone(&shared);
        let server = Server::start(Arc::new(move |stream| {
            let shared = Arc::clone(&serving);
            Box::pin(async move {
                shared.open.send_modify(|open| *open += 1);
                // A connection that breaks is part of what is tested.
                serve(&shared, stream).await.unwrap_or_default();
                shared.open.send_modify(|open| *open -= 1);
            })
        }));
        Self { server, shared }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// What becomes of the next streams that have no act yet.
    pub fn act(&self, acts: impl IntoIterator<Item = Act>) {
        self.shared.acts.lock().unwrap().extend(acts);
    }

    /// The requests whose end has come, in that order.
    pub fn seen(&self) -> Vec<SeenStream> {
        self.shared.seen.borrow().clone()
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Waits until so many connections are open.
    pub async fn open_when(&self, count: usize) {
        let mut open = self.shared.open.subscribe();
        super::within("connections", open.wait_for(|open| *open == count)).await.unwrap();
    }
}

async fn frame(
    out: &mut OwnedWriteHalf,
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &[u8],
) -> std::io::Result<()> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    out.write_all(&frame).await
}

async fn go_away(out: &mut OwnedWriteHalf, last: u32) -> std::io::Result<()> {
    let payload = [last.to_be_bytes(), NO_ERROR.to_be_bytes()].concat();
    frame(out, 7, 0, 0, &payload).await
}

async fn answer(out: &mut OwnedWriteHalf, stream: u32) -> std::io::Result<()> {
    // `:status: 200` of the static table.
    frame(out, 1, 4, stream, &[0x88]).await?;
    frame(out, 0, 1, stream, b"ok").await
}

async fn serve(shared: &Arc<Shared>, stream: TcpStream) -> std::io::Result<()> {
    let connection = shared.connections.fetch_add(1, Ordering::SeqCst);
    let (mut read, out) = stream.into_split();
    let out = Arc::new(tokio::sync::Mutex::new(out));
    let mut preface = [0; PREFACE.len()];
    read.read_exact(&mut preface).await?;
    assert_eq!(preface, PREFACE, "the gateway speaks HTTP/2");
    let settings = [&[0, 3][..], &shared.most_streams.to_be_bytes()].concat();
    frame(&mut *out.lock().await, 4, 0, 0, &settings).await?;
    let mut bodies = std::collections::HashMap::<u32, Vec<u8>>::new();
    loop {
        let mut head = [0; 9];
        read.read_exact(&mut head).await?;
        let [a, b, c, kind, flags, id @ ..] = head;
        let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap()];
        read.read_exact(&mut payload).await?;
        let id = u32::from_be_bytes(id);
        match kind {
            0 => {
                bodies.entry(id).or_default().extend_from_slice(&payload);
                let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
                for of in [0, id].into_iter().filter(|_| !payload.is_empty()) {
                    frame(&mut *out.lock().await, 8, 0, of, &size).await?;
                }
            }
            1 => drop(bodies.entry(id).or_default()),
            4 if flags & 1 == 0 => frame(&mut *out.lock().await, 4, 1, 0, &[]).await?,
            6 if flags & 1 == 0 => frame(&mut *out.lock().await, 6, 1, 0, &payload).await?,
            _ => {}
        }
        if !(kind <= 1 && flags & 1 == 1) {
            continue;
        }
        let body = bodies.remove(&id).unwrap();
        shared.seen.send_modify(|seen| seen.push(SeenStream { connection, stream: id, body }));
        let act = shared.acts.lock().unwrap().pop_front().unwrap_or(Act::Answer);
        let mut writer = out.lock().await;
        match act {
            Act::Answer => answer(&mut writer, id).await?,
            Act::Held(gate) => {
                let out = Arc::clone(&out);
                tokio::spawn(async move {
                    gate.pass().await;
                    // The gateway may have given up.
                    answer(&mut *out.lock().await, id).await.ok();
                });
            }
            // A literal with the name of `:status` in the static table.
            Act::Unavailable => {
                frame(&mut writer, 1, 5, id, &[0x08, 3, b'5', b'0', b'3']).await?;
            }
            Act::Refuse => frame(&mut writer, 3, 0, id, &REFUSED_STREAM.to_be_bytes()).await?,
            Act::Fail => frame(&mut writer, 3, 0, id, &2_u32.to_be_bytes()).await?,
            Act::GoAwayBefore => go_away(&mut writer, id.saturating_sub(2)).await?,
            Act::GoAwayBehind => {
                go_away(&mut writer, id).await?;
                answer(&mut writer, id).await?;
            }
            Act::GoAwayAndClose => {
                go_away(&mut writer, id).await?;
                return Ok(());
            }
            Act::Close => return Ok(()),
            Act::Freeze => std::future::pending().await,
        }
    }
}
