//! HTTP/2 frames as they are written: for what no client library would send.
//!
//! Fields are sent as plain literals. Of an answer only the status is understood, and only
//! where it is one of those in HPACK's static table (RFC 7541, appendix A).

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// One connection.
pub struct RawHttp2 {
    stream: TcpStream,
    /// The peer's settings, by their number (RFC 9113 §6.5.2).
    pub settings: Vec<(u16, u32)>,
    /// The streams that the peer has reset so far, and with which error code.
    pub resets: Vec<(u32, u32)>,
}

/// What became of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An answer; 0 for a status that is not in the static table.
    Answered(u16),
    /// Reset with this error code.
    Reset(u32),
    /// The whole connection ends with this error code.
    GoneAway(u32),
    /// The connection was closed without a word.
    Closed,
}

/// Whether more of a message follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum More {
    Follows,
    Ends,
}

impl RawHttp2 {
    /// Connects and exchanges settings.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::connect_with(address, &[]).await
    }

    /// Connects and lets the peer send no byte of a body (`SETTINGS_INITIAL_WINDOW_SIZE` of 0).
    pub async fn connect_without_window(address: SocketAddr) -> Self {
        Self::connect_with(address, &[0, 4, 0, 0, 0, 0]).await
    }

    async fn connect_with(address: SocketAddr, settings: &[u8]) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(PREFACE).await.unwrap();
        let mut connection = Self { stream, settings: Vec::new(), resets: Vec::new() };
        connection.frame(SETTINGS, 0, 0, settings).await;
        let (kind, flags, _, payload) = connection.read().await.expect("settings come first");
        assert_eq!((kind, flags), (SETTINGS, 0));
        connection.settings = payload
            .chunks(6)
            .map(|setting| {
                let (id, value) = setting.split_at(2);
                (
                    u16::from_be_bytes(id.try_into().unwrap()),
                    u32::from_be_bytes(value.try_into().unwrap()),
                )
            })
            .collect();
        connection.frame(SETTINGS, ACK, 0, &[]).await;
        connection
    }

    /// Sends a head, or trailers, as one frame.
    pub async fn headers(&mut self, stream: u32, fields: &[(&str, &str)], more: More) {
        let block = block(fields);
        let end = if more == More::Ends { END_STREAM } else { 0 };
        self.frame(HEADERS, END_HEADERS | end, stream, &block).await;
    }

    /// Sends a piece of a body.
    pub async fn data(&mut self, stream: u32, bytes: &[u8], more: More) {
        let end = if more == More::Ends { END_STREAM } else { 0 };
        self.frame(DATA, end, stream, bytes).await;
    }

    /// Resets `stream` with this error code (RFC 9113 §7).
    pub async fn reset(&mut self, stream: u32, code: u32) {
        self.frame(RST_STREAM, 0, stream, &code.to_be_bytes()).await;
    }

    /// Lets the peer send so many more bytes of a body; of all together on stream 0.
    pub async fn window(&mut self, stream: u32, bytes: u32) {
        self.frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes()).await;
    }

    /// What becomes of `stream`; frames of others are passed over.
    pub async fn outcome(&mut self, stream: u32) -> Outcome {
        let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
        loop {
            let Some((kind, _, of, payload)) = self.read().await else { return Outcome::Closed };
            match kind {
                HEADERS if of == stream => return Outcome::Answered(status(&payload)),
                RST_STREAM if of == stream => return Outcome::Reset(number(&payload)),
                GOAWAY if number(&payload[4..8]) != 0 => {
                    return Outcome::GoneAway(number(&payload[4..8]));
                }
                _ => {}
            }
        }
    }

    /// The next `length` bytes of the body of `stream`; frames of others are passed over. Fewer, if
    /// the body ends before.
    ///
    /// # Panics
    ///
    /// When the connection ends, or the stream is reset.
    pub async fn body(&mut self, stream: u32, length: usize) -> Vec<u8> {
        let mut body = Vec::new();
        while body.len() < length {
            let (kind, flags, of, payload) = self.read().await.expect("the connection is open");
            assert!((kind, of) != (RST_STREAM, stream), "reset: {payload:?}");
            if (kind, of) == (DATA, stream) {
                body.extend(payload);
                if flags & END_STREAM != 0 {
                    break;
                }
            }
        }
        body
    }

    /// Reads until the peer closes. Nothing is answered: not the pings either.
    pub async fn closed(&mut self) {
        while self.read().await.is_some() {}
    }

    /// Sends a frame of any kind.
    pub async fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.send(&frame(kind, flags, stream, payload)).await;
    }

    /// Sends `bytes`, whatever they are. A peer who has closed is no failure: what it said before is
    /// still read.
    pub async fn send(&mut self, bytes: &[u8]) {
        super::within("the peer to take the bytes", self.stream.write_all(bytes)).await.ok();
    }

    /// The first error of `stream` or of the connection, whatever was answered before it.
    pub async fn fault(&mut self, stream: u32) -> Outcome {
        loop {
            let outcome = self.outcome(stream).await;
            if !matches!(outcome, Outcome::Answered(_)) {
                return outcome;
            }
        }
    }

    /// The next stream that is reset, and its error code.
    ///
    /// # Panics
    ///
    /// When the connection ends before.
    pub async fn next_reset(&mut self) -> (u32, u32) {
        loop {
            let (kind, _, of, payload) = self.read().await.expect("the connection is open");
            if kind == RST_STREAM {
                return (of, u32::from_be_bytes(payload.try_into().unwrap()));
            }
        }
    }

    /// Whether a PING is answered; pings of the peer are not.
    pub async fn answers_ping(&mut self) -> bool {
        const MARK: [u8; 8] = *b"are you?";
        self.frame(PING, 0, 0, &MARK).await;
        while let Some((kind, flags, _, payload)) = self.read().await {
            if kind == GOAWAY {
                return false;
            }
            if kind == PING && flags & ACK != 0 && payload == MARK {
                return true;
            }
        }
        false
    }

    /// With what the peer ends the connection: the code of its last GOAWAY and, behind it, a close.
    /// `None` if it closes without one.
    pub async fn farewell(&mut self) -> Option<u32> {
        let mut code = None;
        while let Some((kind, _, _, payload)) = self.read().await {
            if kind == GOAWAY {
                code = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
            }
        }
        code
    }

    /// Kind, flags, stream and payload; `None` at the end.
    async fn read(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        let read = super::within("a frame", self.stream.read_exact(&mut head)).await;
        read.ok()?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap();
        let mut payload = vec![0; length];
        super::within("a payload", self.stream.read_exact(&mut payload)).await.ok()?;
        let stream = u32::from_be_bytes(stream);
        if kind == RST_STREAM {
            self.resets.push((stream, u32::from_be_bytes(payload[..4].try_into().unwrap())));
        }
        Some((kind, flags, stream, payload))
    }
}

/// A length, with a prefix of 7 bits (RFC 7541 §5.1).
fn integer(block: &mut Vec<u8>, mut number: usize) {
    if number < 127 {
        block.push(u8::try_from(number).unwrap());
        return;
    }
    block.push(127);
    number -= 127;
    while number >= 128 {
        block.push(u8::try_from(number % 128 + 128).unwrap());
        number /= 128;
    }
    block.push(u8::try_from(number).unwrap());
}

/// A frame as bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// Fields as HPACK: literals that are not indexed, with new names, none of it compressed.
pub fn block<T: AsRef<[u8]>>(fields: &[(T, T)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name.as_ref(), value.as_ref()] {
            integer(&mut block, text.len());
            block.extend_from_slice(text);
        }
    }
    block
}

/// The status that a block begins with.
fn status(block: &[u8]) -> u16 {
    // A change of the table's size may come first.
    let field = block.iter().find(|byte| **byte & 0xe0 != 0x20).copied();
    match field {
        Some(0x88) => 200,
        Some(0x8c) => 400,
        Some(0x8d) => 404,
        _ => 0,
    }
}
