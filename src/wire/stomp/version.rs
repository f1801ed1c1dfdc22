//! Versions and how one is agreed on.

/// A version of STOMP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// 1.0: no escapes, no heart-beats, no NACK.
    V10,
    /// 1.1.
    V11,
    /// 1.2.
    V12,
}

impl Version {
    /// All of them, the lowest first.
    pub const ALL: [Self; 3] = [Self::V10, Self::V11, Self::V12];
    /// As a header says them.
    pub const TEXT: &str = "1.0,1.1,1.2";

    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V10 => "1.0",
            Self::V11 => "1.1",
            Self::V12 => "1.2",
        }
    }

    /// The highest version that both sides speak. `accept` is the header `accept-version`, in any order,
    /// with versions nobody knows; without it a client speaks 1.0. `None`: there is no such version.
    #[must_use]
    pub fn agreed(accept: Option<&str>) -> Option<Self> {
        let Some(accept) = accept else { return Some(Self::V10) };
        let offered = |version: &Self| accept.split(',').any(|one| one.trim() == version.as_str());
        Self::ALL.into_iter().rev().find(offered)
    }

    /// The WebSocket sub-protocol of this version.
    #[must_use]
    pub fn subprotocol(self) -> &'static str {
        match self {
            Self::V10 => "v10.stomp",
            Self::V11 => "v11.stomp",
            Self::V12 => "v12.stomp",
        }
    }

    /// The sub-protocol to echo: the highest among those offered, in whatever order.
    #[must_use]
    pub fn offered_in(subprotocols: &str) -> Option<Self> {
        let offered =
            |version: &Self| subprotocols.split(',').any(|one| one.trim() == version.subprotocol());
        Self::ALL.into_iter().rev().find(offered)
    }
}
