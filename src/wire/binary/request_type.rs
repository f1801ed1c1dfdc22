//! Request type numbers, and which command travels under which.

use crate::base::command::Command;
use crate::base::message::{Delay, MessageBatch};

macro_rules! request_types {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $word:literal;)+) => {
        /// Request type numbers. They are permanent.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum RequestType { $($(#[doc = $doc])+ $name = $number,)+ }

        impl RequestType {
            /// Every request type, in order of number.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The name of the request, as in the protocol document.
            #[must_use]
            pub fn word(self) -> &'static str { match self { $(Self::$name => $word,)+ } }

            /// The request type with this number.
            #[must_use]
            pub fn from_number(number: i32) -> Option<Self> {
                match number { $($number => Some(Self::$name),)+ _ => None }
            }
        }
    };
}

request_types! {
    /// Messages for now.
    Produce = 1, "produce";
    /// Read a topic from an offset.
    Fetch = 2, "fetch";
    /// List destinations.
    ListDestinations = 3, "list destinations";
    /// Create a destination.
    CreateDestination = 4, "create destination";
    /// Delete a destination.
    DeleteDestination = 5, "delete destination";
    /// Begin to receive.
    Subscribe = 10, "subscribe";
    /// Stop to receive.
    Unsubscribe = 11, "unsubscribe";
    /// A sign of life.
    Heartbeat = 12, "heartbeat";
    /// Acknowledge deliveries.
    Acknowledge = 13, "acknowledge";
    /// Reject deliveries.
    Reject = 14, "reject";
    /// Describe a destination.
    DescribeDestination = 15, "describe destination";
    /// Drop messages of a destination.
    PurgeDestination = 16, "purge destination";
    /// Hand out nothing of a destination, or hand out again.
    PauseDestination = 17, "pause destination";
    /// Set the limits of a destination.
    LimitDestination = 18, "limit destination";
    /// Copy the data directory.
    Backup = 19, "backup";
    /// Messages, each for now or later.
    DelayedProduce = 26, "delayed produce";
    /// States of messages.
    Query = 27, "query";
    /// Cancel messages.
    Cancel = 28, "cancel";
    /// Give messages another due time.
    Reschedule = 29, "reschedule";
    /// Messages that come again and again.
    Repeat = 30, "repeat";
    /// Publish, acknowledge and reject, all or nothing.
    Transaction = 31, "transaction";
    /// List scheduled messages.
    ListScheduled = 37, "list scheduled";
    /// Counters of the server.
    Stats = 38, "stats";
    /// The first request of a connection.
    Hello = 40, "hello";
}

impl RequestType {
    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> i32 {
        i32::from(self as u8)
    }

    /// The request type that carries this command. A produce with any delay is a
    /// [`Self::DelayedProduce`].
    #[must_use]
    pub fn of(command: &Command) -> Self {
        match command {
            Command::Produce { batch, .. } if is_delayed(batch) => Self::DelayedProduce,
            Command::Produce { .. } => Self::Produce,
            Command::Repeat { .. } => Self::Repeat,
            Command::Transaction { .. } => Self::Transaction,
            Command::Query { .. } => Self::Query,
            Command::Cancel { .. } => Self::Cancel,
            Command::Reschedule { .. } => Self::Reschedule,
            Command::Subscribe(_) => Self::Subscribe,
            Command::Unsubscribe { .. } => Self::Unsubscribe,
            Command::Acknowledge { .. } => Self::Acknowledge,
            Command::Reject { .. } => Self::Reject,
            Command::List { .. } => Self::ListScheduled,
            Command::Fetch { .. } => Self::Fetch,
            Command::ListDestinations { .. } => Self::ListDestinations,
            Command::CreateDestination { .. } => Self::CreateDestination,
            Command::DeleteDestination { .. } => Self::DeleteDestination,
            Command::DescribeDestination { .. } => Self::DescribeDestination,
            Command::PurgeDestination { .. } => Self::PurgeDestination,
            Command::PauseDestination { .. } => Self::PauseDestination,
            Command::LimitDestination { .. } => Self::LimitDestination,
            Command::Backup { .. } => Self::Backup,
            Command::Stats => Self::Stats,
        }
    }
}

/// Whether any message of the batch has a delay.
pub(super) fn is_delayed(batch: &MessageBatch) -> bool {
    batch.iter().any(|message| message.delay != Delay::None)
}
