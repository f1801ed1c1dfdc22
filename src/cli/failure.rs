//! How a command fails: what the person reads, what a program reads, and the exit code.

use std::io;
use std::process::ExitCode;

use serde::Serialize;

use crate::base::error::ClientError;
use crate::client;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server refused the request.
    Refused(ClientError),
    /// Something here went wrong: a file that cannot be read, a port that is taken.
    Failed(String),
    /// The command line, the environment or the configuration is wrong.
    Usage(String),
    /// No server answers.
    Connect(String),
    /// The connection was lost before the answer came.
    OutcomeUnknown(String),
    /// A data directory is damaged.
    Damaged(String),
    /// Everything has been said already; only the exit code is left.
    Said(u8),
    /// Nobody reads our output any more, which is no fault.
    BrokenPipe,
}

impl Failure {
    /// The exit code, as documented in the help.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::BrokenPipe => 0,
            Self::Refused(_) | Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Connect(_) => 3,
            Self::OutcomeUnknown(_) => 4,
            Self::Damaged(_) => 5,
            Self::Said(code) => *code,
        }
    }

    /// The stable word of `--json`: that of the protocol's table for what a server refused.
    fn word(&self) -> &'static str {
        match self {
            Self::Refused(error) => error.code.word(),
            Self::Failed(_) | Self::Said(_) | Self::BrokenPipe => "failed",
            Self::Usage(_) => "usage",
            Self::Connect(_) => "cannot-connect",
            Self::OutcomeUnknown(_) => "outcome-unknown",
            Self::Damaged(_) => "damaged",
        }
    }

    /// The text for the person; nothing where nothing is to be said.
    pub(crate) fn message(&self) -> Option<&str> {
        match self {
            Self::Refused(error) => Some(&error.message),
            Self::Failed(text)
            | Self::Usage(text)
            | Self::Connect(text)
            | Self::OutcomeUnknown(text)
            | Self::Damaged(text) => Some(text),
            Self::Said(_) | Self::BrokenPipe => None,
        }
    }

    /// `{"error":{"code","word","message"}}`; `code` is 0 for what is not in the protocol's table.
    pub(crate) fn json(&self) -> Option<String> {
        let message = self.message()?;
        let code = match self {
            Self::Refused(error) => error.code.number(),
            _ => 0,
        };
        serde_json::to_string(&ErrorLine { error: Told { code, word: self.word(), message } }).ok()
    }

    /// Writes what is to be said to stderr.
    pub(crate) fn say(&self, json: bool) {
        if json {
            if let Some(text) = self.json() {
                eprintln!("{text}");
            }
        } else if let Self::Refused(error) = self {
            eprintln!("postdate: {error}");
        } else if let Some(text) = self.message() {
            eprintln!("postdate: {text}");
        }
    }

    /// Says what is to be said and ends with the exit code.
    pub(crate) fn report(&self, json: bool) -> ExitCode {
        self.say(json);
        ExitCode::from(self.code())
    }
}

/// An error for programs.
#[derive(Debug, Serialize)]
struct ErrorLine<'a> {
    error: Told<'a>,
}

#[derive(Debug, Serialize)]
struct Told<'a> {
    code: u16,
    word: &'static str,
    message: &'a str,
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::Refused(error)
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Self {
        let text = error.to_string();
        match error {
            client::Error::Refused(error) => Self::Refused(error),
            client::Error::OutcomeUnknown => Self::OutcomeUnknown(text),
            client::Error::Connect { .. } => {
                Self::Connect(format!("{text}; start a server with `postdate serve`"))
            }
            client::Error::Disconnected => Self::Connect(text),
            _ => Self::Failed(text),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::BrokenPipe
        } else {
            Self::Failed(error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Code;

    #[test]
    fn exit_codes_and_words_are_the_documented_ones() {
        let table = [
            (Failure::BrokenPipe, 0, "failed"),
            (Failure::Refused(Code::DelayTooLong.into()), 1, "delay-too-long"),
            (Failure::Failed("x".into()), 1, "failed"),
            (Failure::Usage("x".into()), 2, "usage"),
            (Failure::Connect("x".into()), 3, "cannot-connect"),
            (Failure::OutcomeUnknown("x".into()), 4, "outcome-unknown"),
            (Failure::Damaged("x".into()), 5, "damaged"),
        ];
        for (failure, code, word) in table {
            assert_eq!((failure.code(), failure.word()), (code, word), "{failure:?}");
        }
        assert_eq!(Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).code(), 0);
    }

    #[test]
    fn an_error_as_json_has_exactly_three_keys() {
        let text = Failure::Refused(Code::DelayTooLong.into()).json().unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let error = value["error"].as_object().unwrap();
        assert_eq!(error.keys().collect::<Vec<_>>(), ["code", "message", "word"]);
        assert_eq!(error["code"], 30);
        assert_eq!(Failure::Said(1).json(), None);
    }
}
