//! What the server takes the wall clock to be, as an outsider knows it: his own clock, which nobody
//! steps, and how far the server's is from it.

/// One offset, and when it was in force, ms by the outsider's clock.
#[derive(Debug, Clone, Copy)]
struct Span {
    from_ms: u64,
    /// `u64::MAX` for the one in force.
    to_ms: u64,
    offset_ms: i64,
}

impl Span {
    /// When the server's wall showed `at_ms` in it, ms by the outsider's clock, looking no further back
    /// than `since_ms`. Not before `from_ms`, and possibly after the end.
    fn shows(&self, at_ms: u64, since_ms: u64) -> u64 {
        at_ms.saturating_add_signed(-self.offset_ms).max(self.from_ms).max(since_ms)
    }
}

/// The server's wall over time. During a step two spans overlap: nobody knows which of the two the
/// server reads.
#[derive(Debug)]
pub(super) struct Believed {
    spans: Vec<Span>,
}

impl Believed {
    /// A wall that shows the truth.
    pub(super) fn new() -> Self {
        Self { spans: vec![Span { from_ms: 0, to_ms: u64::MAX, offset_ms: 0 }] }
    }

    /// From now on the server may follow a wall that is so far from the truth.
    pub(super) fn begin(&mut self, now_ms: u64, offset_ms: i64) {
        self.spans.push(Span { from_ms: now_ms, to_ms: u64::MAX, offset_ms });
    }

    /// From now on it follows no other.
    pub(super) fn settle(&mut self, now_ms: u64) {
        let Some((_, before)) = self.spans.split_last_mut() else { return };
        for span in before.iter_mut().filter(|span| span.to_ms == u64::MAX) {
            span.to_ms = now_ms;
        }
    }

    /// Forgets what is over.
    pub(super) fn forget(&mut self) {
        self.spans.retain(|span| span.to_ms == u64::MAX);
    }

    /// Whether the server's wall has shown `at_ms` between `since_ms` and `now_ms`, which are of the
    /// outsider's clock.
    pub(super) fn has_shown(&self, at_ms: u64, since_ms: u64, now_ms: u64) -> bool {
        self.spans.iter().any(|span| span.shows(at_ms, since_ms) <= span.to_ms.min(now_ms))
    }

    /// Since when the server's wall shows `at_ms`, by the outsider's clock; looking no further back
    /// than `since_ms` and the last step.
    pub(super) fn shows_since(&self, at_ms: u64, since_ms: u64) -> u64 {
        self.spans.last().map_or(since_ms, |span| span.shows(at_ms, since_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: it is known when a wall that is stepped has shown a time. Method: a wall that is an hour
    /// ahead from 1 000 to 2 000, and 500 behind from then on.
    #[test]
    fn it_is_known_when_a_wall_has_shown_a_time() {
        let mut believed = Believed::new();
        believed.begin(1_000, 3_600_000);
        believed.settle(1_001);
        assert!(believed.has_shown(3_601_500, 0, 1_500), "an hour ahead");
        assert!(!believed.has_shown(3_601_600, 0, 1_500), "not yet");
        believed.begin(2_000, -500);
        believed.settle(2_001);
        assert!(believed.has_shown(3_601_500, 0, 2_500), "before it was stepped back");
        assert!(!believed.has_shown(3_601_500, 2_100, 2_500), "nobody had asked then");
        assert!(!believed.has_shown(3_603_000, 0, 9_000), "the step back came first");
        assert!(
            believed.has_shown(1_900, 2_100, 2_400) && !believed.has_shown(1_901, 2_100, 2_400)
        );
        assert_eq!(believed.shows_since(3_000, 0), 3_500);
        assert_eq!((believed.shows_since(10, 0), believed.shows_since(10, 2_700)), (2_000, 2_700));
        believed.forget();
        assert!(!believed.has_shown(3_601_500, 0, 2_500) && believed.has_shown(1_900, 0, 2_400));
    }
}
