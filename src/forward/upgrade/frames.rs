//! Where the frames of a WebSocket begin and end (RFC 6455 §5.2).
//!
//! Only their heads are read, and nothing is judged: what is wrong with a frame is for the two
//! who speak. A stream of which the end of a frame can't be told any more is [`Frames::is_lost`].

/// Follows one direction of a WebSocket.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Frames {
    state: State,
    closed: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// In a head, of which so many bytes have come; none: between two frames.
    Head { bytes: [u8; 10], have: u8 },
    /// In a payload, or in the mask before it.
    Payload { left: u64 },
    /// Behind a length that there is not.
    Lost,
}

impl Default for State {
    fn default() -> Self {
        Self::Head { bytes: [0; 10], have: 0 }
    }
}

impl Frames {
    /// Whether a frame has just ended, or none has begun.
    pub(super) fn between(&self) -> bool {
        matches!(self.state, State::Head { have: 0, .. })
    }

    /// Whether a Close frame has begun: nothing may be said behind it (RFC 6455 §5.5.1).
    pub(super) fn closed(&self) -> bool {
        self.closed
    }

    /// Whether the end of the current frame will never be known.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self.state, State::Lost)
    }

    /// Takes in `bytes`.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = self.finish_frame(bytes);
            bytes = bytes.get(taken..).unwrap_or_default();
        }
    }

    /// Takes in `bytes` up to the end of the first frame that ends in them, and says how many.
    pub(super) fn finish_frame(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while let Some(&byte) = bytes.get(taken) {
            match &mut self.state {
                State::Head { bytes: head, have } => {
                    if let Some(place) = head.get_mut(usize::from(*have)) {
                        *place = byte;
                    }
                    *have += 1;
                    taken += 1;
                    let Some(state) = behind_head(*head, *have) else { continue };
                    self.closed |= head.first().is_some_and(|first| first & 0x0f == 8);
                    self.state = state;
                }
                State::Payload { left } => {
                    let rest = bytes.len() - taken;
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(rest);
                    *left -= here as u64;
                    taken += here;
                    if *left == 0 {
                        self.state = State::default();
                    }
                }
                State::Lost => return bytes.len(),
            }
            if self.between() {
                break;
            }
        }
        taken
    }
}

/// What follows a head, once it is whole.
fn behind_head(head: [u8; 10], have: u8) -> Option<State> {
    let [_, second, longer @ ..] = head;
    let [high, low, ..] = longer;
    let (needed, length) = match second & 0x7f {
        126 => (4, u64::from(u16::from_be_bytes([high, low]))),
        127 => (10, u64::from_be_bytes(longer)),
        short => (2, u64::from(short)),
    };
    if have < needed {
        return None;
    }
    // The highest bit of a length is 0 (RFC 6455 §5.2).
    if length > i64::MAX as u64 {
        return Some(State::Lost);
    }
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    Some(match length + mask {
        0 => State::default(),
        left => State::Payload { left },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where frames end in `bytes`, read whole and byte by byte.
    fn ends(bytes: &[u8]) -> Vec<usize> {
        let (mut frames, mut at, mut ends) = (Frames::default(), 0, Vec::new());
        while at < bytes.len() {
            at += frames.finish_frame(&bytes[at..]);
            if frames.between() {
                ends.push(at);
            }
        }
        let (mut slow, mut slowly) = (Frames::default(), Vec::new());
        for (index, byte) in bytes.iter().enumerate() {
            slow.follow(&[*byte]);
            if slow.between() {
                slowly.push(index + 1);
            }
        }
        assert_eq!(ends, slowly);
        assert_eq!((frames.closed(), frames.is_lost()), (slow.closed(), slow.is_lost()));
        ends
    }

    #[test]
    fn frames_of_each_length_end_where_they_end() {
        assert_eq!(ends(b"\x81\x00\x81\x02ab\x89\x80mask"), [2, 6, 12]);
        assert_eq!(ends(b"\x81\x82maskab\x81"), [8]);
        let mut long = b"\x82\x7e\x01\x00".to_vec();
        long.resize(4 + 256, 0);
        long.extend_from_slice(b"\x82\xff\x00\x00\x00\x00\x00\x01\x00\x00mask");
        long.resize(260 + 14 + 65536, 0);
        assert_eq!(ends(&long), [260, 260 + 14 + 65536]);
        // Longer than need be, and empty.
        assert_eq!(ends(b"\x82\x7e\x00\x00\x82\x7f\0\0\0\0\0\0\0\0"), [4, 14]);
    }

    #[test]
    fn a_close_frame_is_noticed_and_a_payload_is_not_taken_for_one() {
        let mut frames = Frames::default();
        frames.follow(b"\x81\x02\x88\x00");
        assert!(frames.between() && !frames.closed());
        frames.follow(b"\x88\x02\x03");
        assert!(!frames.between() && frames.closed());
    }

    #[test]
    fn a_length_that_there_is_not_is_lost_for_good() {
        let mut frames = Frames::default();
        frames.follow(b"\x82\x7f\x80\0\0\0\0\0\0\0");
        assert!(frames.is_lost());
        frames.follow(b"\x81\x00");
        assert!(frames.is_lost() && !frames.between());
        let mut frames = Frames::default();
        frames.follow(b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff");
        assert!(!frames.is_lost() && !frames.between());
    }
}
