//! CONNECT: who is there, and in which version.

use super::names::Names;
use super::pulse::Wish;
use super::{KNOWN, Moment, Session, Stage};
use crate::base::error::{ClientError, Code};
use crate::base::limits;
use crate::wire::stomp::{Command, Frame, Version};

/// Headers of CONNECT that may carry a token, in the order they are looked at.
const TOKEN_HEADERS: [&str; 4] = ["Authorization", "authorization", "X-Auth-Token", "token"];

/// What a client says about who it is. All of it as sent.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// `login`.
    pub login: Option<String>,
    /// `passcode`.
    pub passcode: Option<String>,
    /// A token in one of the headers people use, without the word `Bearer`.
    pub token: Option<String>,
}

impl std::fmt::Debug for Credentials {
    /// Says only what is there: secrets are not for logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("login", &self.login)
            .field("passcode", &self.passcode.is_some())
            .field("token", &self.token.is_some())
            .finish()
    }
}

impl Session {
    pub(super) fn connect(&mut self, frame: &Frame) -> Result<(), ClientError> {
        let Some(version) = Version::agreed(frame.get("accept-version")) else {
            let accept = frame.get("accept-version").unwrap_or_default();
            let all = Version::TEXT;
            let why = format!("no version of {accept:?} is spoken here; {all} are");
            let error = ClientError::new(Code::UnsupportedVersion, why);
            self.refuse_with(error, None, Some(("version", all)));
            return Ok(());
        };
        // In 1.0 there is no such thing.
        self.heart_beat = match version {
            Version::V10 => Wish::default(),
            _ => Wish::parse(frame.get("heart-beat"))?,
        };
        let client = frame.get("client-id").unwrap_or_default();
        if client.len() > limits::CLIENT_NAME_BYTES_MAX {
            let max = limits::CLIENT_NAME_BYTES_MAX;
            let why =
                format!("the client-id has {} bytes; at most {max} are allowed", client.len());
            return Err(ClientError::new(Code::BadHeader, why));
        }
        self.client = client.into();
        let text = |name: &str| frame.get(name).map(ToOwned::to_owned);
        let token = TOKEN_HEADERS.iter().find_map(|name| frame.get(name));
        self.credentials = Some(Credentials {
            login: text("login"),
            passcode: text("passcode"),
            token: token.map(|token| token.strip_prefix("Bearer ").unwrap_or(token).trim().into()),
        });
        self.version = version;
        self.stage = Stage::Judging;
        Ok(())
    }

    /// Who wants to come in, once CONNECT is there. [`Self::admit`] or [`Self::turn_away`] is to follow.
    pub fn take_credentials(&mut self) -> Option<Credentials> {
        self.credentials.take()
    }

    /// The client is this user. Empty: it is nobody in particular.
    pub fn admit(&mut self, user: &str, now: Moment) {
        if self.stage != Stage::Judging {
            return;
        }
        self.names = Names::new(&self.name, user);
        self.decoder.agree(self.version, KNOWN);
        let own_ms = self.settings.heart_beat_ms;
        self.pulse.agree(self.heart_beat, own_ms, now.mono_ms);
        let offered = match self.version {
            Version::V10 => "0,0".to_owned(),
            _ => format!("{own_ms},{own_ms}"),
        };
        // Some clients of 1.0 fail without what only 1.1 knows.
        let mut connected = Frame::new(Command::Connected)
            .with("version", self.version.as_str())
            .with("session", &self.name)
            .with("server", &self.settings.server)
            .with("heart-beat", &offered);
        if !user.is_empty() {
            connected.headers.add("user-name", user);
        }
        self.write(&connected);
        self.stage = Stage::Open;
        self.work(now);
    }

    /// The client may not come in.
    pub fn turn_away(&mut self, error: ClientError) {
        self.refuse(error, None);
    }
}
