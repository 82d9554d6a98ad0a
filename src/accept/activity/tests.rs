//! The times of a connection, by a clock that stands.

use super::*;
use crate::accept::tests::settings;

const S: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn each_phase_has_its_own_time() {
    // 10 s for a head, 75 s between requests.
    let settings = settings();
    let activity = Arc::new(Activity::new(Instant::now()));
    let judge = || activity.judge(Instant::now(), &settings);
    let after = |by: Duration| tokio::time::advance(by);

    after(9 * S).await;
    assert_eq!(judge(), Verdict::LookAgain(Instant::now() + S));
    after(S).await;
    assert_eq!(judge(), Verdict::Overdue);
    assert!(!activity.head_has_begun());

    assert!(!activity.rests(Instant::now(), S), "a head is due");
    activity.reads(Place::Between);
    let request = activity.request();
    after(1000 * S).await;
    assert_eq!(judge(), Verdict::LookAgain(Instant::now() + 10 * S));
    assert!(!activity.rests(Instant::now(), S), "a request is being answered");
    drop(request);
    after(74 * S).await;
    assert!(activity.rests(Instant::now(), 74 * S));
    assert!(!activity.rests(Instant::now(), 75 * S));
    assert_eq!(judge(), Verdict::LookAgain(Instant::now() + S));
    activity.heard();
    activity.reads(Place::Head);
    after(9 * S).await;
    assert_eq!(judge(), Verdict::LookAgain(Instant::now() + S));
    activity.reads(Place::Head);
    after(S).await;
    assert_eq!(judge(), Verdict::Overdue);
    assert!(activity.head_has_begun());

    activity.reads(Place::Between);
    drop(activity.request());
    after(75 * S).await;
    assert_eq!(judge(), Verdict::Idle);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_not_idle_while_its_last_bytes_wait_for_the_caller() {
    let settings = settings();
    let activity = Arc::new(Activity::new(Instant::now()));
    activity.reads(Place::Between);
    drop(activity.request());
    activity.writes(true);
    tokio::time::advance(1000 * S).await;
    assert!(matches!(activity.judge(Instant::now(), &settings), Verdict::LookAgain(_)));
    assert!(!activity.rests(Instant::now(), S));
    activity.writes(false);
    tokio::time::advance(74 * S).await;
    assert_eq!(activity.judge(Instant::now(), &settings), Verdict::LookAgain(Instant::now() + S));
    tokio::time::advance(S).await;
    assert_eq!(activity.judge(Instant::now(), &settings), Verdict::Idle);
}

#[tokio::test(start_paused = true)]
async fn a_head_of_http2_has_its_time_also_beside_other_requests() {
    let settings = settings();
    let activity = Arc::new(Activity::new(Instant::now()));
    activity.multiplexed();
    let judge = || activity.judge(Instant::now(), &settings);
    let _other = activity.request();
    activity.fields_are_due(Some(Instant::now()));
    tokio::time::advance(9 * S).await;
    assert_eq!(judge(), Verdict::LookAgain(Instant::now() + S));
    tokio::time::advance(S).await;
    assert_eq!(judge(), Verdict::Overdue);
    assert!(activity.head_has_begun());
    activity.fields_are_due(None);
    assert!(matches!(judge(), Verdict::LookAgain(_)));
    assert!(!activity.head_has_begun());
}

#[tokio::test(start_paused = true)]
async fn bytes_of_http2_are_no_head() {
    let settings = settings();
    let activity = Arc::new(Activity::new(Instant::now()));
    activity.multiplexed();
    activity.heard();
    tokio::time::advance(74 * S).await;
    activity.heard();
    assert_eq!(activity.judge(Instant::now(), &settings), Verdict::LookAgain(Instant::now() + S));
    tokio::time::advance(S).await;
    assert_eq!(activity.judge(Instant::now(), &settings), Verdict::Idle);
}

#[tokio::test(start_paused = true)]
async fn a_body_behind_its_answer_is_neither_idle_nor_a_head() {
    let settings = settings();
    let activity = Arc::new(Activity::new(Instant::now()));
    let judge = || activity.judge(Instant::now(), &settings);
    activity.reads(Place::Body);
    drop(activity.request());
    for _ in 0..9 {
        tokio::time::advance(100 * S).await;
        activity.heard();
        activity.reads(Place::Body);
        assert!(matches!(judge(), Verdict::LookAgain(_)));
        assert!(!activity.rests(Instant::now(), Duration::ZERO));
        assert!(!activity.may_rest(Instant::now()) && !activity.head_has_begun());
    }
    // Its end came, and the parser has used it up.
    activity.reads(Place::Between);
    assert!(!activity.may_rest(Instant::now()));
    tokio::time::advance(limits::REST_AFTER).await;
    assert!(activity.may_rest(Instant::now()));
    tokio::time::advance(75 * S).await;
    assert_eq!(judge(), Verdict::Idle);
}

#[tokio::test(start_paused = true)]
async fn who_closes_awaits_no_body() {
    let activity = Arc::new(Activity::new(Instant::now()));
    activity.reads(Place::Body);
    drop(activity.request());
    assert!(!activity.rests(Instant::now(), Duration::ZERO));
    activity.shuts();
    assert!(activity.rests(Instant::now(), Duration::ZERO));
    assert!(!activity.may_rest(Instant::now() + S));
}
