//! Positions, entries and what is told of them.

use std::sync::Mutex;

use redis::Value as Answer;

use super::board::until;
use super::stream::{entries_of, parts};
use super::*;
use crate::clock::UnixTime;
use crate::observe::Metrics;
use crate::shared_store::EncryptionKey;
use crate::shared_store::seal::Keyring;

const NOW: UnixTime = UnixTime(1_800_000_000);

fn text(text: &str) -> Answer {
    Answer::BulkString(text.as_bytes().to_vec())
}

#[test]
fn positions_are_in_the_order_of_the_store() {
    let of = |id| Position::of(&text(id));
    let (one, two, three) = (of("9-0").unwrap(), of("9-10").unwrap(), of("10-2").unwrap());
    assert!(Position::default() < one && one < two && two < three);
    for position in [one, two, three] {
        assert_eq!(Position::of_bytes(position.to_bytes()), position);
        let id = position.to_string();
        assert_eq!(Position::of(&text(&id)), Some(position));
    }
    for id in ["", "9", "9-", "x-1", "9-1-1", "-"] {
        assert_eq!(of(id), None, "{id}");
    }
}

#[test]
fn before_and_after_a_position_is_another_one_unless_it_is_the_last() {
    let at = |milliseconds, sequence| Position { milliseconds, sequence };
    for (one, two) in [(at(0, 0), at(0, 1)), (at(4, u64::MAX), at(5, 0))] {
        assert_eq!((one.next(), two.previous()), (Some(two), Some(one)));
    }
    assert_eq!(at(u64::MAX, u64::MAX).next(), None);
    assert_eq!(at(0, 0).previous(), None);
}

#[test]
fn entries_of_another_form_have_a_place_and_say_nothing() {
    let entry = |sealed: Answer| Answer::Array(vec![text("5-1"), sealed]);
    let good = entry(text("sealed"));
    assert_eq!(parts(&good).unwrap().1, Some(b"sealed".as_slice()));
    for other in [Answer::Int(0), Answer::Nil, Answer::Array(Vec::new())] {
        assert_eq!(parts(&entry(other.clone())).unwrap().1, None, "{other:?}");
    }
    assert!(parts(&Answer::Array(vec![text("x")])).is_none());
    assert!(parts(&Answer::Nil).is_none());
    assert_eq!(entries_of(Answer::Array(vec![good.clone(), good])).len(), 2);
    assert!(entries_of(Answer::Nil).is_empty());
}

#[test]
fn an_entry_that_is_none_of_ours_does_not_say_how_far_was_heard() {
    let at = |milliseconds| Position { milliseconds, sequence: 3 };
    let notices = [9, 7].map(|place| Notice { position: at(place), plain: Vec::new() });
    for part in [Part::All, Part::Newest, Part::Next] {
        assert_eq!(until(&notices, at(u64::MAX), part, NOW), at(9), "{part:?}");
        assert!(until(&[], at(u64::MAX), part, NOW) < at(1), "{part:?}");
    }
    assert_ne!(until(&[], at(7), Part::Newest, NOW), until(&[], at(8), Part::Newest, NOW));
}

#[test]
fn a_copy_of_a_notice_where_the_store_has_put_none_yet_does_not_say_how_far_was_heard() {
    let at = |seconds: u64| Position { milliseconds: seconds * 1000 + 999, sequence: u64::MAX };
    let latest = NOW.plus(limits::SHARED_CLOCK_SKEW).0;
    let heard = |place| {
        let notices = [at(5), at(place)].map(|position| Notice { position, plain: Vec::new() });
        until(&notices, at(u64::MAX / 1001), Part::Next, NOW)
    };
    assert_eq!(heard(latest), at(latest));
    assert_eq!(heard(latest + 1), at(5));
}

/// Who listens, for a test.
#[derive(Default)]
struct Listener(Mutex<Vec<Heard>>);

impl Audience for Listener {
    fn reached(&self) {}

    fn hear(&self, heard: Heard) {
        self.0.lock().unwrap().push(heard);
    }
}

#[tokio::test]
async fn entries_that_cannot_be_opened_are_read_past_and_not_counted_as_heard() {
    let key = EncryptionKey::parse(&"k".repeat(43)).unwrap();
    let keyring = Arc::new(Keyring::new(&[key]).unwrap());
    let listener = Arc::new(Listener::default());
    let audiences = Audiences::default();
    let audience: Weak<dyn Audience> =
        Arc::downgrade(&(Arc::clone(&listener) as Arc<dyn Audience>));
    audiences.get_or_init(|| audience);
    let metrics = Metrics::default();
    let board = Board::new("p:", Arc::clone(&keyring), audiences, metrics.clone());
    let sealed = keyring.seal(&Board::name_in("p:"), b"notice").unwrap();
    let entry = |id: &str, sealed: &[u8]| {
        Answer::Array(vec![text(id), Answer::BulkString(sealed.to_vec())])
    };
    let entries = [entry("5-1", &sealed), entry("18446744073709551615-1", b"junk")];
    let mut at = Position::default();
    board.tell(&entries, &mut at, Part::All).await;
    assert_eq!(at.milliseconds, u64::MAX);
    let heard = listener.0.lock().unwrap();
    let [heard] = heard.as_slice() else { panic!("{heard:?}") };
    assert_eq!(heard.until, Position { milliseconds: 5, sequence: 1 });
    assert_eq!(heard.notices.len(), 1);
    let text = metrics.encode();
    let counted = "{operation=\"forget\",outcome=\"unreadable\"} 1\n";
    assert!(text.contains(counted), "{text}");
}
