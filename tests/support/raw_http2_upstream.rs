//! An upstream that speaks HTTP/2 in frames as the test writes them: answers that a library would
//! not give, and ends that it would not make.

use super::talk::Talking;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
pub const GOAWAY: u8 = 7;
pub const END_STREAM: u8 = 1;
const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// `CANCEL` (RFC 9113 §7).
pub const CANCEL: u32 = 8;

/// One connection of the gateway's.
pub struct Http2Talking(Talking);

/// A frame that came.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Http2Talking {
    /// Exchanges preface and settings.
    pub async fn begin(mut talking: Talking) -> Self {
        assert!(talking.exactly(24).await.starts_with(b"PRI * HTTP/2.0"));
        let mut peer = Self(talking);
        peer.send(SETTINGS, 0, 0, &[]).await;
        peer.send(SETTINGS, ACK, 0, &[]).await;
        peer
    }

    /// Sends a frame.
    pub async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        self.0.say(frame).await;
    }

    /// Sends a head, an informational one too, or trailers; `flags` beside `END_HEADERS`.
    pub async fn fields(&mut self, flags: u8, stream: u32, fields: &[(&str, &str)]) {
        let mut block = Vec::new();
        for (name, value) in fields {
            // A literal that is not indexed, with a new name, neither of them compressed.
            block.push(0);
            for text in [name, value] {
                block.push(u8::try_from(text.len()).unwrap());
                block.extend_from_slice(text.as_bytes());
            }
        }
        self.send(HEADERS, END_HEADERS | flags, stream, &block).await;
    }

    /// The next frame of this kind; others are passed over.
    pub async fn next(&mut self, kind: u8) -> Frame {
        loop {
            let head = self.0.exactly(9).await;
            let number =
                |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
            let payload = self.0.exactly(number(&head[..3]) as usize).await;
            let frame =
                Frame { kind: head[3], flags: head[4], stream: number(&head[5..]), payload };
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// Ends our side without a word.
    pub async fn finish(&mut self) {
        self.0.finish().await;
    }
}
