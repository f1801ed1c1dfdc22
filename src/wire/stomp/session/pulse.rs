//! Heart-beats: how long either side may be silent.

use crate::base::error::{ClientError, Code};

/// Longest silence that a client may announce or ask for, ms.
const SILENCE_MAX_MS: u64 = 24 * 3_600_000;
/// What a client's silence may be beyond twice what was agreed on, ms.
const GRACE_MS: u64 = 1_000;

/// The two numbers of a `heart-beat` header, ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Wish {
    /// So often its sender can be heard; 0 cannot promise anything.
    pub(super) gives_ms: u64,
    /// So often it wants to hear the other side; 0 does not want to.
    pub(super) wants_ms: u64,
}

impl Wish {
    /// Reads a header; without one there are no heart-beats.
    pub(super) fn parse(text: Option<&str>) -> Result<Self, ClientError> {
        let Some(text) = text else { return Ok(Self::default()) };
        let number = |part: &str| part.trim().parse().ok().filter(|ms| *ms <= SILENCE_MAX_MS);
        text.split_once(',')
            .and_then(|(gives, wants)| {
                Some(Self { gives_ms: number(gives)?, wants_ms: number(wants)? })
            })
            .ok_or_else(|| {
                let why =
                    format!("heart-beat is {text:?}; write two numbers of ms, as 10000,10000");
                ClientError::new(Code::Malformed, why)
            })
    }
}

/// Who was heard when. Times are ms on a monotonic clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pulse {
    /// The client is to hear something this often; 0 need not.
    send_ms: u64,
    /// It is to be heard this often; 0 need not.
    expect_ms: u64,
    sent_at: u64,
    heard_at: u64,
}

impl Pulse {
    pub(super) fn new(now_ms: u64) -> Self {
        Self { send_ms: 0, expect_ms: 0, sent_at: now_ms, heard_at: now_ms }
    }

    /// The session has begun; `server_ms` is what the server can and wants.
    pub(super) fn agree(&mut self, client: Wish, server_ms: u64, now_ms: u64) {
        let agreed = |one: u64, other: u64| if one == 0 || other == 0 { 0 } else { one.max(other) };
        self.send_ms = agreed(server_ms, client.wants_ms);
        self.expect_ms = agreed(client.gives_ms, server_ms);
        (self.sent_at, self.heard_at) = (now_ms, now_ms);
    }

    pub(super) fn heard(&mut self, now_ms: u64) {
        self.heard_at = now_ms;
    }

    pub(super) fn sent(&mut self, now_ms: u64) {
        self.sent_at = now_ms;
    }

    /// When a heart-beat is to be sent: a little earlier than promised, because the way takes its time.
    fn beat_at(&self) -> Option<u64> {
        (self.send_ms > 0).then(|| self.sent_at.saturating_add(self.send_ms * 4 / 5))
    }

    /// When the client is taken for gone.
    fn gone_at(&self) -> Option<u64> {
        let most = 2 * self.expect_ms + GRACE_MS;
        (self.expect_ms > 0).then(|| self.heard_at.saturating_add(most))
    }

    pub(super) fn next(&self) -> Option<u64> {
        [self.beat_at(), self.gone_at()].into_iter().flatten().min()
    }

    pub(super) fn beats(&self, now_ms: u64) -> bool {
        self.beat_at().is_some_and(|at| at <= now_ms)
    }

    /// How long the client was silent, when that is too long, ms.
    pub(super) fn gone(&self, now_ms: u64) -> Option<u64> {
        self.gone_at().filter(|at| *at <= now_ms).map(|_| now_ms - self.heard_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what is malformed is an error and never a crash (pitfall 11). Method: both kinds.
    #[test]
    fn the_header_is_two_numbers() {
        let parse = |text| Wish::parse(Some(text)).map(|wish| (wish.gives_ms, wish.wants_ms));
        assert_eq!(parse("0,0"), Ok((0, 0)));
        assert_eq!(parse("10000, 5000 "), Ok((10_000, 5_000)), "blanks do not matter");
        assert_eq!(Wish::parse(None), Ok(Wish::default()));
        let bad = [
            "5000",
            "a,b",
            "1,2,3",
            "-1,0",
            "",
            ",",
            "99999999999999999999,1",
            "1.5,1",
            "86400001,0",
        ];
        for text in bad {
            assert_eq!(parse(text).unwrap_err().code, Code::Malformed, "{text}");
        }
    }

    /// Goal: each side keeps to the slower of what one gives and the other wants; 0 turns a direction off.
    /// Method: the table of the specification, at the ms before and of each deadline.
    #[test]
    fn each_direction_keeps_to_the_slower() {
        let agreed = |gives_ms, wants_ms, server_ms| {
            let mut pulse = Pulse::new(0);
            pulse.agree(Wish { gives_ms, wants_ms }, server_ms, 1_000);
            (pulse.beat_at(), pulse.gone_at())
        };
        assert_eq!(agreed(0, 0, 10_000), (None, None));
        assert_eq!(agreed(5_000, 5_000, 0), (None, None));
        assert_eq!(agreed(1, 1, 10_000), (Some(9_000), Some(22_000)));
        assert_eq!(agreed(60_000, 0, 10_000), (None, Some(122_000)));
        assert_eq!(agreed(0, 60_000, 10_000), (Some(49_000), None));

        let mut pulse = Pulse::new(0);
        pulse.agree(Wish { gives_ms: 10_000, wants_ms: 10_000 }, 10_000, 0);
        assert_eq!(pulse.next(), Some(8_000));
        assert!(!pulse.beats(7_999) && pulse.beats(8_000));
        pulse.sent(8_000);
        assert!(!pulse.beats(15_999) && pulse.beats(16_000));
        assert_eq!((pulse.gone(20_999), pulse.gone(21_000)), (None, Some(21_000)));
        pulse.heard(20_999);
        assert_eq!(pulse.gone(41_998), None);
    }
}
