//! The settings of a server: defaults, then a TOML file, then the environment, then flags.
//!
//! Each setting is one row of the table in [`settings`]: its name, its documentation, how it is
//! judged and how it is shown. File, environment and flags are judged by the same row.

mod settings;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use crate::base::config::{Durability, ShardConfig};
use crate::base::limits;
use settings::SETTINGS;

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    /// Directory that holds the messages.
    pub(crate) data_dir: PathBuf,
    /// Address of the binary protocol, `HOST:PORT`.
    pub(crate) listen: String,
    /// Address of HTTP, `HOST:PORT`; `None` when there is none.
    pub(crate) http_listen: Option<String>,
    /// Origins whose web pages may connect.
    pub(crate) http_origins: Vec<String>,
    /// Where STOMP over TCP listens, `host:port`; not at all when there is none.
    pub(crate) stomp_listen: Option<String>,
    /// SHA-256 of tokens that STOMP clients may come with, and whose they are.
    pub(crate) stomp_tokens: BTreeMap<[u8; 32], String>,
    /// What an acknowledgement survives.
    pub(crate) durability: Mode,
    /// Time between syncs in the mode `interval`, ms.
    pub(crate) sync_interval_ms: u64,
    /// Settings of the shard; its durability is the two fields above.
    pub(crate) shard: ShardConfig,
    /// Most connections at once.
    pub(crate) max_connections: usize,
    /// Threads that serve connections; 0 takes the processors less one.
    pub(crate) front_threads: usize,
    /// Level of the log.
    pub(crate) log: String,
}

/// Durability by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Synced before every acknowledgement.
    Always,
    /// Synced every so often.
    Interval,
    /// Synced when the operating system likes.
    Os,
}

impl Mode {
    const ALL: [(&'static str, Self); 3] =
        [("always", Self::Always), ("interval", Self::Interval), ("os", Self::Os)];

    /// The name in the configuration.
    pub(crate) fn word(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, mode)| *mode == self).map_or("", |(word, _)| word)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: "./postdate-data".into(),
            listen: "127.0.0.1:7700".into(),
            http_listen: Some("127.0.0.1:7780".into()),
            http_origins: Vec::new(),
            stomp_listen: Some("127.0.0.1:61613".into()),
            stomp_tokens: BTreeMap::new(),
            durability: Mode::Always,
            sync_interval_ms: 1_000,
            shard: ShardConfig::default(),
            max_connections: limits::CONNECTIONS_MAX,
            front_threads: 0,
            log: "info".into(),
        }
    }
}

impl Config {
    /// The settings of the shard.
    pub(crate) fn shard_config(&self) -> ShardConfig {
        let durability = match self.durability {
            Mode::Always => Durability::Always,
            Mode::Interval => Durability::Interval { every_ms: self.sync_interval_ms },
            Mode::Os => Durability::Os,
        };
        ShardConfig { durability, ..self.shard.clone() }
    }

    /// Threads that serve connections.
    pub(crate) fn front_threads(&self) -> usize {
        match self.front_threads {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get() - 1).max(1),
            threads => threads,
        }
    }

    /// The settings as a file with its documentation; reading it gives the same settings.
    pub(crate) fn to_toml(&self) -> String {
        let mut text = String::from(
            "# The configuration of a Postdate server: postdate serve --config FILE\n\
             #\n\
             # Everything is optional. Flags win over the environment (POSTDATE_ and the name in\n\
             # capitals, for example POSTDATE_MEMORY_MIB), which wins over this file.\n",
        );
        let mut section = "";
        for setting in SETTINGS {
            let (in_section, name) = setting.name.rsplit_once('.').unwrap_or(("", setting.name));
            text.push('\n');
            if in_section != section {
                section = in_section;
                text.push_str(&format!("[{section}]\n\n"));
            }
            for line in setting.doc.lines() {
                text.push_str(&format!("# {line}\n"));
            }
            text.push_str(&format!("{name} = {}\n", (setting.show)(self)));
        }
        text
    }

    /// Takes over what a file says.
    ///
    /// # Errors
    /// The first thing wrong in it, with its line.
    pub(crate) fn apply_file(&mut self, file: &Path, text: &str) -> Result<(), ConfigError> {
        let at = |offset: usize| Origin::File {
            file: file.to_owned(),
            line: 1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count(),
        };
        let table = DeTable::parse(text).map_err(|error| ConfigError {
            origin: at(error.span().map_or(0, |span| span.start)),
            why: error.message().to_owned(),
        })?;
        let mut entries = Vec::new();
        for (name, value) in table.get_ref() {
            let section = format!("{}.", name.get_ref());
            match value.get_ref() {
                DeValue::Table(inner) if SETTINGS.iter().any(|s| s.name.starts_with(&section)) => {
                    for (name, value) in inner {
                        entries.push((format!("{section}{}", name.get_ref()), name.span(), value));
                    }
                }
                _ => entries.push((name.get_ref().to_string(), name.span(), value)),
            }
        }
        // In order of the file, so that the first fault is the one a reader meets first.
        entries.sort_by_key(|(_, span, _)| span.start);
        for (name, span, value) in entries {
            let mut list = Vec::new();
            let input = match value.get_ref() {
                DeValue::String(text) => Input::Text(text),
                DeValue::Integer(integer) => {
                    i128::from_str_radix(integer.as_str(), integer.radix())
                        .map_or(Input::Other("a huge integer"), Input::Integer)
                }
                DeValue::Boolean(_) => Input::Other("a boolean"),
                DeValue::Float(_) => Input::Other("a number with a point"),
                DeValue::Datetime(_) => Input::Other("a date"),
                DeValue::Array(values) => {
                    for value in values {
                        if let DeValue::String(text) = value.get_ref() {
                            list.push(text.as_ref());
                        }
                    }
                    let texts = list.len() == values.len();
                    if texts { Input::List(&list) } else { Input::Other("a list of other things") }
                }
                DeValue::Table(_) => Input::Other("a table"),
            };
            // A bad name is shown where it stands, a bad value where the value stands.
            let known = SETTINGS.iter().any(|setting| setting.name == name);
            let offset = if known { value.span().start } else { span.start };
            self.apply(&name, input).map_err(|why| ConfigError { origin: at(offset), why })?;
        }
        Ok(())
    }

    /// Takes over what the environment says; `read` looks a variable up.
    ///
    /// # Errors
    /// The first bad value, with its variable.
    pub(crate) fn apply_environment(
        &mut self,
        read: impl Fn(&str) -> Option<String>,
    ) -> Result<(), ConfigError> {
        for setting in SETTINGS {
            let name = setting.name.to_ascii_uppercase().replace('.', "_");
            let variable = format!("POSTDATE_{name}");
            if let Some(value) = read(&variable) {
                self.apply(setting.name, Input::Text(&value))
                    .map_err(|why| ConfigError { origin: Origin::Variable(variable), why })?;
            }
        }
        Ok(())
    }

    /// Takes over a flag.
    ///
    /// # Errors
    /// When its name or value is bad.
    pub(crate) fn apply_flag(
        &mut self,
        flag: &str,
        name: &str,
        value: &str,
    ) -> Result<(), ConfigError> {
        self.apply(name, Input::Text(value))
            .map_err(|why| ConfigError { origin: Origin::Flag(flag.to_owned()), why })
    }

    fn apply(&mut self, name: &str, input: Input<'_>) -> Result<(), String> {
        let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) else {
            let known: Vec<_> = SETTINGS.iter().map(|setting| setting.name).collect();
            return Err(format!("unknown setting `{name}`; there are: {}", known.join(", ")));
        };
        (setting.set)(self, input).map_err(|why| format!("{name}: {why}"))
    }
}

/// A value as it was given.
#[derive(Debug, Clone, Copy)]
enum Input<'a> {
    Text(&'a str),
    Integer(i128),
    List(&'a [&'a str]),
    /// Something no setting takes, with its name.
    Other(&'static str),
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A line of a file; the first is 1.
    File { file: PathBuf, line: usize },
    /// A variable of the environment.
    Variable(String),
    /// A flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line } => write!(f, "{}, line {line}", file.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(flag) => write!(f, "{flag}"),
        }
    }
}

/// A setting that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {why}")]
pub(crate) struct ConfigError {
    /// Where it stands.
    pub(crate) origin: Origin,
    /// What is wrong, with the name of the setting.
    pub(crate) why: String,
}
