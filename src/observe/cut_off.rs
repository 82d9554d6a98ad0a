//! Whether what is dropped just now is cut off by the gateway, which ends, and not given up by its
//! caller.
//!
//! A record ends where its request is dropped, and nobody is there to ask why. Whoever drops says it
//! around the drop, on the thread that does it: a request costs nothing for that.

use std::cell::Cell;

/// Why, for operators.
pub(crate) const REASON: &str = "cut off: the gateway ended, and `shutdown_grace` was over";

thread_local! {
    static CUTTING: Cell<bool> = const { Cell::new(false) };
}

/// Once it has begun, what this thread drops is cut off, until this is dropped: without a wait between.
#[derive(Debug, Default)]
pub(crate) struct Cut(bool);

impl Cut {
    pub(crate) fn begin(&mut self) {
        self.0 = true;
        CUTTING.set(true);
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        if self.0 {
            CUTTING.set(false);
        }
    }
}

/// What `drops` drops is cut off.
pub(crate) fn during(drops: impl FnOnce()) {
    let mut cut = Cut::default();
    cut.begin();
    drops();
}

/// Whether it is.
pub(crate) fn is_cut() -> bool {
    CUTTING.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_for_what_is_dropped_within_and_nothing_after() {
        assert!(!is_cut());
        during(|| assert!(is_cut()));
        assert!(!is_cut());
        let mut cut = Cut::default();
        assert!(!is_cut(), "it has not begun");
        cut.begin();
        assert!(is_cut());
        drop(cut);
        assert!(!is_cut());
    }
}
