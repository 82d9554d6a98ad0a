//! Reads along on an HTTP/2 connection and finds callers who flood it.
//!
//! There are frames that cost a caller a few bytes and us work, and that may come without end:
//! streams opened and reset (CVE-2023-44487), SETTINGS and PING that want an answer (CVE-2019-9512,
//! -9515), frames that say nothing (CVE-2019-9518), windows opened byte by byte. h2 bounds what it
//! keeps of some of them, and none by the time that they take. So the heads of frames are
//! counted here, second by second, on their way into h2; whoever sends more of a kind than any use
//! of it needs is told to go away. It also says whether the head of a request has begun and not
//! ended, which is hidden in h2.
//!
//! It knows nothing of what frames mean, keeps 9 bytes of them, and allocates nothing.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits;

/// What is wrong with a connection: a sentence for the operator.
pub(crate) type Fault = &'static str;

/// Length, kind, flags and stream (RFC 9113 §4.1).
const HEAD_BYTES: usize = 9;
/// What a connection begins with.
const PREFACE_BYTES: u32 = 24;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Kinds of frames that are counted, with their number in a second and what more of them are called.
const COUNTED: [(u32, Fault); 7] = [
    (limits::MAX_H2_RESETS, "too many streams were reset (rapid reset)"),
    (limits::MAX_H2_SETTINGS, "too many SETTINGS frames"),
    (limits::MAX_H2_PINGS, "too many PING frames"),
    (limits::MAX_H2_EMPTY_DATA, "too many empty DATA frames"),
    (limits::MAX_H2_CONTINUATIONS, "too many CONTINUATION frames"),
    (limits::MAX_H2_PRIORITIES, "too many PRIORITY frames"),
    (limits::MAX_H2_OTHERS, "too many frames that mean nothing to a server"),
];
const RESETS: usize = 0;
const SETTINGS_FRAMES: usize = 1;
const PINGS: usize = 2;
const EMPTY_DATA: usize = 3;
const CONTINUATIONS: usize = 4;
const PRIORITIES: usize = 5;
const OTHERS: usize = 6;

/// Follows the frames of a caller.
#[derive(Debug)]
pub(crate) struct Frames {
    /// The head of a frame, as far as it has come.
    head: [u8; HEAD_BYTES],
    have: usize,
    /// Of the preface, or of a frame's payload.
    left: u32,
    /// When the head of a request, or trailers, began that have not ended.
    fields_since: Option<Instant>,
    /// The frame whose payload is being passed over is the last of those fields.
    ends_fields: bool,
    /// The second that is counted.
    since: Instant,
    counts: [u32; COUNTED.len()],
    /// `WINDOW_UPDATE` frames that may still come.
    windows: u32,
    /// Written bytes that no such frame was allowed for yet.
    written: usize,
    last_stream: u32,
}

impl Frames {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            head: [0; HEAD_BYTES],
            have: 0,
            left: PREFACE_BYTES,
            fields_since: None,
            ends_fields: false,
            since: now,
            counts: [0; COUNTED.len()],
            windows: limits::MAX_H2_WINDOW_UPDATES,
            written: 0,
            last_stream: 0,
        }
    }

    /// Reads on.
    ///
    /// # Errors
    ///
    /// There were too many of a kind; nothing more is to be read.
    pub(crate) fn read(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), Fault> {
        self.tick(now);
        loop {
            let payload = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
            self.left -= u32::try_from(payload).unwrap_or(self.left);
            bytes = bytes.get(payload..).unwrap_or_default();
            if self.left == 0 && self.ends_fields {
                (self.fields_since, self.ends_fields) = (None, false);
            }
            if bytes.is_empty() {
                return Ok(());
            }
            let room = self.head.get_mut(self.have..).unwrap_or_default();
            let part = room.len().min(bytes.len());
            let (of_head, rest) = bytes.split_at(part);
            for (to, from) in room.iter_mut().zip(of_head) {
                *to = *from;
            }
            self.have += part;
            bytes = rest;
            if self.have == HEAD_BYTES {
                self.have = 0;
                self.begin(now)?;
            }
        }
    }

    /// So many bytes were written to the caller, who will open windows for them.
    pub(crate) fn wrote(&mut self, bytes: usize) {
        self.written = self.written.saturating_add(bytes);
    }

    /// When the fields of a request, or its trailers, began that have not ended.
    pub(crate) fn fields_since(&self) -> Option<Instant> {
        self.fields_since
    }

    /// The last stream that the caller opened: what GOAWAY names.
    pub(crate) fn last_stream(&self) -> u32 {
        self.last_stream
    }

    fn tick(&mut self, now: Instant) {
        // A window is opened for what was written, a little later.
        let earned = self.written / limits::H2_BYTES_PER_WINDOW_UPDATE;
        if earned > 0 {
            self.written %= limits::H2_BYTES_PER_WINDOW_UPDATE;
            let windows = self.windows.saturating_add(u32::try_from(earned).unwrap_or(u32::MAX));
            self.windows = windows.min(limits::MAX_H2_SAVED_WINDOW_UPDATES);
        }
        if now.saturating_duration_since(self.since) >= Duration::from_secs(1) {
            self.since = now;
            self.counts = [0; COUNTED.len()];
            self.windows = self.windows.max(limits::MAX_H2_WINDOW_UPDATES);
        }
    }

    /// Takes the head of a frame.
    fn begin(&mut self, now: Instant) -> Result<(), Fault> {
        let [a, b, c, kind, flags, stream @ ..] = self.head;
        self.left = u32::from_be_bytes([0, a, b, c]);
        let stream = u32::from_be_bytes(stream) & 0x7fff_ffff;
        match kind {
            DATA if self.left == 0 && flags & END_STREAM == 0 => self.count(EMPTY_DATA)?,
            DATA => {}
            HEADERS => {
                self.last_stream = self.last_stream.max(stream);
                self.fields_since = Some(now);
                self.ends_fields = flags & END_HEADERS != 0;
            }
            CONTINUATION => {
                self.count(CONTINUATIONS)?;
                self.ends_fields = flags & END_HEADERS != 0;
            }
            PRIORITY => self.count(PRIORITIES)?,
            RST_STREAM => self.count(RESETS)?,
            SETTINGS => self.count(SETTINGS_FRAMES)?,
            PING => self.count(PINGS)?,
            WINDOW_UPDATE => {
                self.windows =
                    self.windows.checked_sub(1).ok_or("too many WINDOW_UPDATE frames")?;
            }
            // GOAWAY may come again, PUSH_PROMISE is an error, and what is unknown is passed over.
            _ => self.count(OTHERS)?,
        }
        Ok(())
    }

    fn count(&mut self, kind: usize) -> Result<(), Fault> {
        let (Some(count), Some((most, fault))) = (self.counts.get_mut(kind), COUNTED.get(kind))
        else {
            return Ok(());
        };
        *count += 1;
        if *count > *most { Err(fault) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        frame
    }

    /// Behind the preface.
    fn frames() -> (Frames, Instant) {
        let now = Instant::now();
        let mut frames = Frames::new(now);
        frames.read(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", now).unwrap();
        (frames, now)
    }

    #[test]
    fn each_kind_has_its_number_in_a_second() {
        const S: Duration = Duration::from_secs(1);
        for (kind, flags, payload, most) in [
            (RST_STREAM, 0, &[0; 4][..], limits::MAX_H2_RESETS),
            (SETTINGS, 0, &[], limits::MAX_H2_SETTINGS),
            (SETTINGS, 1, &[], limits::MAX_H2_SETTINGS),
            (PING, 0, &[0; 8], limits::MAX_H2_PINGS),
            (PING, 1, &[0; 8], limits::MAX_H2_PINGS),
            (DATA, 0, &[], limits::MAX_H2_EMPTY_DATA),
            (CONTINUATION, 0, &[], limits::MAX_H2_CONTINUATIONS),
            (PRIORITY, 0, &[0; 5], limits::MAX_H2_PRIORITIES),
            (WINDOW_UPDATE, 0, &[0; 4], limits::MAX_H2_WINDOW_UPDATES),
            (7, 0, &[0; 8], limits::MAX_H2_OTHERS),
            (0xf0, 0, &[0; 100], limits::MAX_H2_OTHERS),
        ] {
            let one = frame(kind, flags, 1, payload);
            let all = one.repeat(most as usize);
            // Whole and in pieces that cut heads and payloads.
            for piece in [all.len(), 5, 1] {
                let (mut frames, now) = frames();
                let mut read = |bytes: &[u8], now| {
                    bytes.chunks(piece).try_for_each(|piece| frames.read(piece, now))
                };
                assert_eq!(read(&all, now), Ok(()), "kind {kind}");
                assert_eq!(read(&all, now + S), Ok(()), "kind {kind}, a second later");
                assert!(read(&one, now + S).is_err(), "kind {kind}, one more");
            }
        }
    }

    #[test]
    fn what_moves_data_is_not_counted() {
        let (mut frames, now) = frames();
        for _ in 0..100_000 {
            frames.read(&frame(HEADERS, END_HEADERS, 1, &[0x82]), now).unwrap();
            frames.read(&frame(DATA, 0, 1, b"a"), now).unwrap();
            frames.read(&frame(DATA, END_STREAM, 1, b""), now).unwrap();
        }
    }

    #[test]
    fn windows_may_be_opened_for_what_was_written() {
        let (mut frames, now) = frames();
        let one = frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]);
        for _ in 0..100 {
            frames.wrote(limits::H2_BYTES_PER_WINDOW_UPDATE * 1000);
            frames.read(&one.repeat(1000), now).unwrap();
        }
        frames.read(&one.repeat(limits::MAX_H2_WINDOW_UPDATES as usize), now).unwrap();
        assert!(frames.read(&one, now).is_err());
        // What is saved has an end.
        let (mut frames, now) = self::frames();
        frames.wrote(usize::MAX);
        let saved = limits::MAX_H2_SAVED_WINDOW_UPDATES as usize;
        frames.read(&one.repeat(saved), now).unwrap();
        assert!(frames.read(&one, now).is_err());
    }

    #[test]
    fn a_payload_is_not_taken_for_a_frame() {
        let (mut frames, now) = frames();
        let pings = frame(PING, 0, 0, &[0; 8]).repeat(600);
        for piece in frame(DATA, 0, 1, &pings).chunks(7) {
            frames.read(piece, now).unwrap();
        }
    }

    #[test]
    fn each_head_has_a_time_of_its_own() {
        let (mut frames, now) = frames();
        let later = now + Duration::from_secs(9);
        let head = frame(HEADERS, END_HEADERS, 1, b"abc");
        let (first, end) = head.split_at(10);
        frames.read(first, now).unwrap();
        assert_eq!(frames.fields_since(), Some(now));
        // It ends, and the next one begins, in one piece.
        frames.read(&[end, first].concat(), later).unwrap();
        assert_eq!(frames.fields_since(), Some(later));
    }

    #[test]
    fn fields_begin_with_a_frames_head_and_end_with_its_payload() {
        let (mut frames, now) = frames();
        let mut is_in_fields = |bytes: &[u8]| {
            frames.read(bytes, now).unwrap();
            (frames.fields_since().is_some(), frames.last_stream())
        };
        let whole = frame(HEADERS, END_HEADERS, 1, b"abc");
        assert_eq!(is_in_fields(&whole), (false, 1));
        let one = frame(HEADERS, 0, 3, b"abc");
        assert_eq!(is_in_fields(&one[..8]), (false, 1));
        assert_eq!(is_in_fields(&one[8..]), (true, 3), "its last frame has not come");
        assert_eq!(is_in_fields(&frame(CONTINUATION, 0, 3, b"abc")), (true, 3));
        let last = frame(CONTINUATION, END_HEADERS, 3, b"abc");
        assert_eq!(is_in_fields(&last[..11]), (true, 3), "its last byte has not come");
        assert_eq!(is_in_fields(&last[11..]), (false, 3));
        assert_eq!(is_in_fields(&frame(HEADERS, END_HEADERS, 5, b"")), (false, 5));
    }
}
