//! Positions, entries and what is told of them.

use super::*;
use crate::shared_store::EncryptionKey;

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
fn entries_of_another_form_have_a_place_and_say_nothing() {
    let entry = |fields: &[&str]| {
        let fields = fields.iter().map(|it| text(it)).collect();
        Answer::Array(vec![text("5-1"), Answer::Array(fields)])
    };
    let good = entry(&["v", "sealed"]);
    assert_eq!(parts(&good).unwrap().1, Some(b"sealed".as_slice()));
    for fields in [&["w", "sealed"][..], &["v"], &[], &["v", "a", "v", "b"]] {
        assert_eq!(parts(&entry(fields)).unwrap().1, None, "{fields:?}");
    }
    assert!(parts(&Answer::Array(vec![text("x")])).is_none());
    assert!(parts(&Answer::Nil).is_none());
    let answer = Answer::Array(vec![Answer::Array(vec![
        text("name"),
        Answer::Array(vec![good.clone(), good]),
    ])]);
    assert_eq!(entries_of(answer).len(), 2);
    assert!(entries_of(Answer::Nil).is_empty());
}

#[test]
fn an_entry_that_is_none_of_ours_does_not_say_how_far_was_heard() {
    let at = |milliseconds| Position { milliseconds, sequence: 3 };
    let notices = [9, 7].map(|place| Notice { position: at(place), plain: Vec::new() });
    for part in [Part::All, Part::Newest, Part::Next] {
        assert_eq!(until(&notices, at(u64::MAX), part), at(9), "{part:?}");
        assert!(until(&[], at(u64::MAX), part) < at(1), "{part:?}");
    }
    assert_ne!(until(&[], at(7), Part::Newest), until(&[], at(8), Part::Newest));
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
    let board = Board::new("p:", Arc::clone(&keyring), audiences);
    let sealed = keyring.seal(&name("p:"), b"notice").unwrap();
    let entry = |id: &str, sealed: &[u8]| {
        let fields = vec![text(FIELD), Answer::BulkString(sealed.to_vec())];
        Answer::Array(vec![text(id), Answer::Array(fields)])
    };
    let entries = [entry("5-1", &sealed), entry("18446744073709551615-1", b"junk")];
    let mut at = Position::default();
    board.tell(&entries, &mut at, Part::All).await;
    assert_eq!(at.milliseconds, u64::MAX);
    let heard = listener.0.lock().unwrap();
    let [heard] = heard.as_slice() else { panic!("{heard:?}") };
    assert_eq!(heard.until, Position { milliseconds: 5, sequence: 1 });
    assert_eq!(heard.notices.len(), 1);
}
