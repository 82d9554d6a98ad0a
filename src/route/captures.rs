//! What the names of a route's path stood for in one request.
//!
//! Places in the canonical path, not copies of it: a lookup allocates nothing for them.

use std::ops::Range;

use crate::limits::MAX_PATTERN_NAMES;

/// The places of `{name}` and `{*name}` in a canonical path, in the order of
/// [`PathPattern::names`](crate::route::PathPattern::names).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Captures {
    ranges: [(u32, u32); MAX_PATTERN_NAMES],
    len: usize,
}

impl Captures {
    /// The text of name number `index` in `path`, the path that was looked up.
    pub fn text<'p>(&self, index: usize, path: &'p str) -> Option<&'p str> {
        path.get(self.range(index)?)
    }

    /// The place of name number `index`, in bytes of the canonical path.
    pub fn range(&self, index: usize) -> Option<Range<usize>> {
        let (start, end) = *self.ranges.get(..self.len)?.get(index)?;
        Some(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
    }

    /// Remembers one more place. Patterns have no more names than there is room for, and
    /// paths are shorter than 64 KiB (`http::Uri`), so that nothing is ever left out.
    pub(super) fn push(&mut self, place: Range<usize>) {
        if let (Ok(start), Ok(end), Some(slot)) =
            (u32::try_from(place.start), u32::try_from(place.end), self.ranges.get_mut(self.len))
        {
            *slot = (start, end);
            self.len += 1;
        }
    }

    /// Forgets the last place: the lookup goes back.
    pub(super) fn pop(&mut self) {
        self.len = self.len.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_kept_in_order_and_only_those_that_stand() {
        let mut captures = Captures::default();
        captures.push(1..3);
        captures.push(4..5);
        captures.push(5..5);
        captures.pop();
        assert_eq!(captures.text(0, "/ab/c"), Some("ab"));
        assert_eq!(captures.text(1, "/ab/c"), Some("c"));
        assert_eq!(captures.text(2, "/ab/c"), None);
    }
}
