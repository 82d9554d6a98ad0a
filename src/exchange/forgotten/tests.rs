//! What is forgotten, and what is not: tags, marks, and clocks that differ.

use super::*;
use crate::identity::{CallerKind, Claims};

pub(in crate::exchange) fn identity(tenant: Option<&str>, user: &str) -> Identity {
    Identity {
        provider: "p".into(),
        issuer: "https://p.example".into(),
        tenant: tenant.map(str::to_owned),
        user: Some(user.to_owned()),
        client_id: None,
        kind: CallerKind::User,
        scopes: Vec::new(),
        roles: Vec::new(),
        claims: Claims::default(),
        expires_at: UnixTime(0),
    }
}

pub(in crate::exchange) fn of_tenant(tenant: &str, oid: &str) -> Forgetting {
    let whose = Whose::OfTenant { tenant: tenant.to_owned(), oid: oid.to_owned() };
    Forgetting { upstream: None, whose: Some(whose) }
}

fn of_upstream(upstream: &str) -> Forgetting {
    Forgetting { upstream: Some(upstream.to_owned()), whose: None }
}

fn place(number: u64) -> Position {
    Position::of_bytes(u128::from(number).to_be_bytes())
}

fn mark(nonce: u8, at: u64, position: Option<u64>) -> Mark {
    Mark { nonce: [nonce; 16], at: UnixTime(at), position: position.map(place) }
}

#[test]
fn a_forgetting_is_about_what_it_names_and_nothing_else() {
    let tagger = Tagger::default();
    let alice = tagger.tags("u", Some(&identity(Some("t"), "alice")));
    let own = tagger.tags("u", None);
    let of_oidc = tagger.tags("u", Some(&identity(None, "alice")));
    let matches = |forgetting: &Forgetting, tags: Tags| {
        tags.abouts().contains(&tagger.about(forgetting.digests()))
    };
    let whose = Whose::OfProvider { provider: "p".into(), user: "alice".into() };
    let at_upstream =
        |upstream: &str| Forgetting { upstream: Some(upstream.into()), ..of_tenant("t", "alice") };
    for (forgetting, expected) in [
        (Forgetting::default(), [true, true, true]),
        (of_upstream("u"), [true, true, true]),
        (of_upstream("v"), [false, false, false]),
        (of_tenant("t", "alice"), [true, false, false]),
        (of_tenant("T", "ALICE"), [true, false, false]),
        (of_tenant("s", "alice"), [false, false, false]),
        (of_tenant("t", "bob"), [false, false, false]),
        (Forgetting { upstream: None, whose: Some(whose) }, [false, false, true]),
        (at_upstream("u"), [true, false, false]),
        (at_upstream("v"), [false, false, false]),
    ] {
        let found = [alice, own, of_oidc].map(|tags| matches(&forgetting, tags));
        assert_eq!(found, expected, "{forgetting:?}");
    }
}

#[test]
fn an_exchange_that_was_under_way_hears_of_it() {
    let (tagger, mut forgotten) = (Tagger::default(), Forgotten::default());
    let tags = tagger.tags("u", None);
    let about = tagger.about(of_upstream("u").digests());
    let before = forgotten.moment();
    assert!(forgotten.add(tagger.about(of_upstream("v").digests()), mark(1, 10, None)));
    assert!(!forgotten.since(before, tags), "it was about another");
    assert!(forgotten.add(about, mark(2, 10, None)));
    assert!(forgotten.since(before, tags));
    assert!(!forgotten.since(forgotten.moment(), tags));
    assert!(!forgotten.add(about, mark(2, 10, Some(5))), "the same, as all are told of it");
    assert!(!forgotten.since(forgotten.moment(), tags));
}

#[test]
fn of_the_store_is_taken_what_was_asked_for_behind_the_mark() {
    let skew = limits::SHARED_CLOCK_SKEW.as_secs();
    let (tagger, mut forgotten) = (Tagger::default(), Forgotten::default());
    let tags = tagger.tags("u", None);
    forgotten.add(About::ALL, mark(1, 1000, Some(7)));
    let held = |asked_at, heard| forgotten.holds_back(tags, UnixTime(asked_at), place(heard));
    assert!(held(1000, 6) && !held(1000, 7), "the one who asked knew of it");
    assert!(held(1000 + skew, 6) && !held(1001 + skew, 6), "it was later by any clock");
    assert!(!held(1000 - skew, 7) && held(999 - skew, 7), "it was earlier by any clock");
    forgotten.add(About::ALL, mark(2, 1000, None));
    let held = |asked_at, heard| forgotten.holds_back(tags, UnixTime(asked_at), place(heard));
    assert!(held(1000, 7), "nobody was told of the second one");
    assert!(!held(1001 + skew, 7));
    forgotten.told(About::ALL, [2; 16], place(9));
    let held = |asked_at, heard| forgotten.holds_back(tags, UnixTime(asked_at), place(heard));
    assert!(held(1000, 8) && !held(1000, 9));
}

#[test]
fn what_is_read_twice_drops_nothing_again() {
    let mut forgotten = Forgotten::default();
    assert!(forgotten.add(About::ALL, mark(8, 10, None)));
    assert!(forgotten.add(About::ALL, mark(9, 10, None)), "asked for twice in a second");
    assert!(forgotten.add(About::ALL, mark(1, 10, Some(5))));
    assert!(forgotten.add(About::ALL, mark(2, 20, Some(6))));
    assert!(!forgotten.add(About::ALL, mark(1, 10, Some(5))));
    assert!(!forgotten.add(About::ALL, mark(2, 20, Some(6))));
    assert!(forgotten.add(About::ALL, mark(3, 30, Some(1))), "the store lost what it had");
}

#[test]
fn marks_without_room_hold_back_more_and_not_less() {
    let (tagger, mut forgotten) = (Tagger::default(), Forgotten::default());
    let about = |number: usize| tagger.about(of_upstream(&number.to_string()).digests());
    let last = limits::MAX_FORGETTINGS + 5;
    let before = forgotten.moment();
    for number in 0..=last {
        let at = UnixTime(1000 + number as u64);
        assert!(forgotten.add(about(number), Mark { at, ..mark(1, 0, None) }));
    }
    assert_eq!(forgotten.marks.len(), limits::MAX_FORGETTINGS);
    assert_eq!(forgotten.by_age.len(), limits::MAX_FORGETTINGS);
    let other = tagger.tags("other", None);
    let held = |asked_at| forgotten.holds_back(other, UnixTime(asked_at), Position::default());
    let skew = limits::SHARED_CLOCK_SKEW.as_secs();
    assert!(held(1006 + skew) && !held(1007 + skew), "the seven oldest are one");
    assert!(forgotten.since(before, other));
    assert!(forgotten.add(About::ALL, mark(2, 5000, None)));
    assert_eq!((forgotten.marks.len(), forgotten.by_age.len()), (1, 1));
}
