//! The life of a message as a table: which states there are and which moves are legal.
//!
//! ```text
//!            ┌──────────────┐ reschedule
//!            ▼              │
//! produce ─> scheduled ─────┴── cancel ──> cancelled
//!     │         │ fire
//!     │ at once ▼          deliver             acknowledge
//!     └──────> ready ──────────────> in flight ───────────> acknowledged
//!               │ ▲ ▲                    │  │
//!               │ │ └─ timeout, reject,──┘  └─ too many failures, reject for good ─> dead
//!               │ │     session lost
//!               │ └ (a dead letter is ready in its /dlq/ destination)
//!               └─ expire ─> expired
//!
//! A recurring schedule stays scheduled from run to run: ─> scheduled ─ last run ─> ended
//! ```

/// Where a message stands, as told to clients. The numbers are those of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum State {
    /// Accepted, durable, not due yet.
    Scheduled = 1,
    /// Due and in its destination, not being delivered.
    Ready = 2,
    /// Handed to a subscriber, acknowledgement awaited.
    InFlight = 3,
    /// Acknowledged.
    Acknowledged = 4,
    /// Cancelled before it was due.
    Cancelled = 5,
    /// Its time to live passed before it was delivered, or the age that its destination allows.
    Expired = 6,
    /// Given up after too many failures; it is in the dead letters of its destination.
    Dead = 7,
    /// Was here once; what became of it is no longer remembered.
    Gone = 8,
    /// Never existed here.
    Unknown = 9,
    /// A recurring schedule whose last run has come.
    Ended = 10,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 10] = [
        Self::Scheduled,
        Self::Ready,
        Self::InFlight,
        Self::Acknowledged,
        Self::Cancelled,
        Self::Expired,
        Self::Dead,
        Self::Gone,
        Self::Unknown,
        Self::Ended,
    ];

    /// The word used in answers.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Ready => "ready",
            Self::InFlight => "in flight",
            Self::Acknowledged => "acknowledged",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Dead => "dead",
            Self::Gone => "gone",
            Self::Unknown => "unknown",
            Self::Ended => "ended",
        }
    }

    /// The state with this protocol number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|s| *s as u8 == number)
    }

    /// Whether a message may move from this state to `next`.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        use State::{Acknowledged, Cancelled, Dead, Expired, InFlight, Ready, Scheduled};
        matches!(
            (self, next),
            (Scheduled, Scheduled | Ready | Dead | Cancelled)
                // Scheduled to Dead: published straight to a dead letter destination.
                | (Ready, InFlight | Acknowledged | Expired | Dead)
                | (InFlight, Ready | Acknowledged | Expired | Dead)
                | (Dead, InFlight | Acknowledged | Expired)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_the_end() {
        use State::{Acknowledged, Cancelled, Ended, Expired, Gone};
        for end in [Acknowledged, Cancelled, Expired, Gone, Ended] {
            assert!(State::ALL.iter().all(|next| !end.may_become(*next)), "{end:?}");
        }
    }

    #[test]
    fn numbers_read_back() {
        for state in State::ALL {
            assert_eq!(State::from_number(state as u8), Some(state));
        }
        assert_eq!(State::from_number(0), None);
        assert_eq!(State::from_number(11), None);
    }
}
