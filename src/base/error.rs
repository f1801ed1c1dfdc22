//! The one numbered table of client errors, shared by every protocol.
//!
//! A code is permanent once released: never renumbered, never reused. The text tells the person
//! what to do; internal detail goes to the log, not to clients.

use std::fmt;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $word:literal, $advice:literal;)+) => {
        /// A client error's number.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[repr(u16)]
        pub enum Code { $($(#[doc = $doc])+ $name = $number,)+ }

        impl Code {
            /// Every code, in order.
            pub const ALL: &[Code] = &[$(Code::$name,)+];

            /// The stable word of the code, for logs and JSON.
            #[must_use]
            pub fn word(self) -> &'static str { match self { $(Self::$name => $word,)+ } }

            /// What the person who gets this error can do about it.
            #[must_use]
            pub fn advice(self) -> &'static str { match self { $(Self::$name => $advice,)+ } }

            /// The code with this number.
            #[must_use]
            pub fn from_number(number: u16) -> Option<Self> {
                match number { $($number => Some(Self::$name),)+ _ => None }
            }
        }
    };
}

codes! {
    /// A frame or a body that does not follow the protocol.
    Malformed = 1, "malformed", "fix the client: the bytes do not follow the protocol document";
    /// A frame longer than allowed.
    FrameTooLarge = 2, "frame-too-large", "send smaller frames or fewer messages per batch";
    /// A frame whose checksum does not match.
    BadChecksum = 3, "bad-checksum", "check the network path or the client's crc32, then connect again";
    /// A request type this server does not know.
    UnknownRequest = 4, "unknown-request", "use a request type of this protocol version, or upgrade the server";
    /// A protocol version this server does not speak.
    UnsupportedVersion = 5, "unsupported-version", "use a client for a protocol version this server speaks";
    /// A request before `hello`, or a second `hello`.
    HelloExpected = 6, "hello-expected", "send hello once, as the first request of a connection";
    /// Too many connections.
    TooManyConnections = 7, "too-many-connections", "close idle connections or raise max_connections";
    /// The server is stopping.
    ShuttingDown = 8, "shutting-down", "connect again in a moment";
    /// A batch with no items or too many.
    BadBatch = 9, "bad-batch", "send between 1 and the documented number of items in a batch";
    /// A destination name that is not legal.
    BadDestination = 10, "bad-destination", "use a name like /queue/orders or /topic/news";
    /// No such destination.
    DestinationNotFound = 11, "destination-not-found", "check the name, or create the destination first";
    /// The limit of destinations is reached.
    TooManyDestinations = 12, "too-many-destinations", "delete unused destinations or raise max_destinations";
    /// The request does not fit the kind of destination.
    WrongKind = 13, "wrong-kind", "use a queue where a queue is needed, a topic where a topic is needed";
    /// The destination holds as many messages as it may.
    DestinationFull = 14, "destination-full", "consume, cancel or purge its messages, or raise its limit";
    /// A body over the limit.
    BodyTooLarge = 20, "body-too-large", "send a smaller body, or store it elsewhere and send a reference";
    /// A key or header over the limit, or not UTF-8.
    BadHeader = 21, "bad-header", "use fewer or shorter headers, in UTF-8";
    /// A priority outside 0..=9.
    BadPriority = 22, "bad-priority", "use a priority from 0 to 9";
    /// A deduplication id that is empty or too long.
    BadDedupId = 23, "bad-dedup-id", "use a dedup id of 1 to 128 bytes";
    /// A delay over 40 days.
    DelayTooLong = 30, "delay-too-long", "use a delay of at most 40 days";
    /// A delay that is negative, overflows, or has no meaning.
    BadDelay = 31, "bad-delay", "use a delay that is not negative, or a time in ms since the Unix epoch";
    /// A delay level outside 1..=18.
    BadLevel = 32, "bad-level", "use a delay level from 1 to 18";
    /// A rule of a recurring schedule that has no meaning, never comes, or is beyond its limits.
    BadSchedule = 33, "bad-schedule", "use a period of 1 s to 40 days, or a cron expression and an IANA time zone";
    /// An id that is not a message id.
    BadId = 40, "bad-id", "use the 26-character id that publish answered with";
    /// No such subscription in this session.
    SubscriptionNotFound = 50, "subscription-not-found", "subscribe first, with this subscription number";
    /// A subscription number already used in this session.
    SubscriptionExists = 51, "subscription-exists", "use another subscription number or unsubscribe first";
    /// The limit of subscriptions is reached.
    TooManySubscriptions = 52, "too-many-subscriptions", "use fewer subscriptions per connection";
    /// A durable subscription that another session holds.
    SubscriptionBusy = 53, "subscription-busy", "close the other consumer or use another name";
    /// An acknowledgement of a delivery this session may not acknowledge, or another's temporary queue.
    NotYours = 54, "not-yours", "use what is your session's own: messages delivered to it, its temporary queues";
    /// A credit of zero or over the limit.
    BadCredit = 55, "bad-credit", "grant a credit between 1 and the documented limit";
    /// The token or the passcode is none that is known here, or not this user's.
    NotAllowed = 56, "not-allowed", "connect with a token that this server knows, and with its user's name or none";
    /// The disk is full.
    DiskFull = 60, "disk-full", "free disk space; acknowledgements and cancels still work";
    /// The memory for pending messages is used up.
    MemoryFull = 61, "memory-full", "consume or cancel messages, or raise memory_mib";
    /// A write failed; the shard takes nothing more until restart.
    StorageFailed = 62, "storage-failed", "see the server log, repair the disk, restart the server";
    /// The server has too much work queued.
    Overloaded = 63, "overloaded", "slow down and try again";
    /// No backup was made.
    BackupFailed = 64, "backup-failed", "do what the text says, and ask again; the data itself was not touched";
    /// Something that should not happen.
    Internal = 70, "internal", "see the server log and report it";
}

impl Code {
    /// The number of the code.
    #[must_use]
    pub fn number(self) -> u16 {
        self as u16
    }
}

/// An error a client gets: a number for programs, a text for the person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientError {
    /// Which error.
    pub code: Code,
    /// What happened, in words of the request.
    pub message: String,
}

impl ClientError {
    /// An error with a text of its own.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<Code> for ClientError {
    /// The error with the table's advice as text.
    fn from(code: Code) -> Self {
        Self::new(code, code.advice())
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (error {}, {})", self.message, self.code.number(), self.code.word())
    }
}

impl std::error::Error for ClientError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_words_are_unique_and_read_back() {
        let mut words = std::collections::BTreeSet::new();
        for &code in Code::ALL {
            assert_eq!(Code::from_number(code.number()), Some(code));
            assert!(words.insert(code.word()));
            assert!(!code.advice().is_empty());
        }
        assert_eq!(Code::from_number(0), None);
    }
}
