//! The first line of a frame.

macro_rules! commands {
    ($($(#[doc = $doc:literal])+ $name:ident = $word:literal;)+) => {
        /// What a frame is. Case counts.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Command { $($(#[doc = $doc])+ $name,)+ }

        impl Command {
            /// Every command.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// As it is written.
            #[must_use]
            pub fn word(self) -> &'static str { match self { $(Self::$name => $word,)+ } }

            /// The command with this word.
            #[must_use]
            pub fn of(word: &[u8]) -> Option<Self> {
                Self::ALL.iter().copied().find(|command| command.word().as_bytes() == word)
            }
        }
    };
}

commands! {
    /// Client: begins a session.
    Connect = "CONNECT";
    /// Client: the same, by its newer name.
    Stomp = "STOMP";
    /// Client: a message.
    Send = "SEND";
    /// Client: wants messages.
    Subscribe = "SUBSCRIBE";
    /// Client: wants them no more.
    Unsubscribe = "UNSUBSCRIBE";
    /// Client: has done with a message.
    Ack = "ACK";
    /// Client: cannot do with a message.
    Nack = "NACK";
    /// Client: begins a transaction.
    Begin = "BEGIN";
    /// Client: does what it holds.
    Commit = "COMMIT";
    /// Client: forgets what it holds.
    Abort = "ABORT";
    /// Client: ends the session.
    Disconnect = "DISCONNECT";
    /// Server: the session has begun.
    Connected = "CONNECTED";
    /// Server: a message.
    Message = "MESSAGE";
    /// Server: a frame was done.
    Receipt = "RECEIPT";
    /// Server: a frame was not done, and the connection ends.
    Error = "ERROR";
}

impl Command {
    /// Longest word.
    pub(super) const WORD_BYTES_MAX: usize = 11;

    /// Whether a frame of it may have a body.
    #[must_use]
    pub fn may_have_body(self) -> bool {
        matches!(self, Self::Send | Self::Message | Self::Error)
    }

    /// Whether its headers are written as they are, in every version: 1.0 has no escapes, and these frames
    /// come before another version is agreed on.
    #[must_use]
    pub fn is_raw(self) -> bool {
        matches!(self, Self::Connect | Self::Stomp | Self::Connected)
    }
}
