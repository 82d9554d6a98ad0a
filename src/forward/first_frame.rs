//! Whether the first frame of an HTTP/2 server has come: its settings (RFC 9113 §3.4).
//!
//! hyper tells what they say, and not when they have been said: it has understood them once it asks for
//! what comes behind them.

use std::io;

use tokio::sync::oneshot;

use super::overheard::{Ear, Overheard};

/// The head of a frame: its length is in the first three bytes (RFC 9113 §4.1).
const HEAD: usize = 9;

/// Reads along at the beginning of a stream.
#[derive(Debug)]
pub(super) struct FirstFrame {
    /// The bytes of the length, and how many bytes have come.
    length: [u8; 3],
    came: usize,
    understood: Option<oneshot::Sender<()>>,
}

/// The stream, read along, and what is ready when its first frame has come and was understood.
pub(super) fn listen<S>(stream: S) -> (Overheard<S, FirstFrame>, oneshot::Receiver<()>) {
    let (ear, understood) = FirstFrame::new();
    (Overheard { stream, ear }, understood)
}

impl FirstFrame {
    fn new() -> (Self, oneshot::Receiver<()>) {
        let (understood, waits) = oneshot::channel();
        (Self { length: [0; 3], came: 0, understood: Some(understood) }, waits)
    }
}

impl Ear for FirstFrame {
    fn asked(&mut self) {
        let [a, b, c] = self.length;
        let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
        let is_whole = self.came >= HEAD && self.came - HEAD >= length;
        if let Some(understood) = self.understood.take_if(|_| is_whole) {
            // Whoever waited may have gone.
            understood.send(()).unwrap_or_default();
        }
    }

    fn heard(&mut self, came: Result<&[u8], &io::Error>) {
        let bytes = came.unwrap_or_default();
        if self.understood.is_none() {
            return;
        }
        for (place, byte) in self.length.iter_mut().skip(self.came).zip(bytes) {
            *place = *byte;
        }
        self.came = self.came.saturating_add(bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_understood_when_more_is_asked_for_than_it() {
        let empty = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        let settings = [&[0, 0, 6, 4, 0, 0, 0, 0, 0][..], &[0, 8, 0, 0, 0, 1]].concat();
        for (frame, piece) in [(&empty[..], 1), (&settings, 1), (&settings, 4), (&settings, 100)] {
            let (mut first_frame, mut understood) = FirstFrame::new();
            for bytes in frame.chunks(piece) {
                first_frame.asked();
                assert!(understood.try_recv().is_err(), "{piece}");
                first_frame.heard(Ok(bytes));
            }
            assert!(understood.try_recv().is_err(), "{piece}");
            first_frame.asked();
            assert!(understood.try_recv().is_ok(), "{piece}");
        }
    }
}
