//! A server of this binary as a child process.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{self, Command, Stdio};

use serde::Deserialize;

use crate::cli::failure::Failure;

/// What is read of the line that says the server is ready.
#[derive(Debug, Deserialize)]
struct Ready {
    listening: Listening,
}

#[derive(Debug, Deserialize)]
struct Listening {
    binary: String,
}

/// A running server; killed when dropped.
#[derive(Debug)]
pub(super) struct Child {
    process: process::Child,
    /// Where it listens.
    pub(super) address: String,
}

impl Child {
    /// Starts a server on a directory and waits until it is ready.
    pub(super) fn start(data_dir: &Path, settings: &[String]) -> Result<Self, Failure> {
        let cannot = |error: std::io::Error| {
            Failure::Failed(format!("cannot start a server of this binary: {error}"))
        };
        let mut command = Command::new(std::env::current_exe().map_err(cannot)?);
        command.args([
            "serve",
            "--json",
            "--listen",
            "127.0.0.1:0",
            "--http",
            "off",
            "--stomp",
            "off",
            "--log",
            "warn",
        ]);
        command.arg("--data-dir").arg(data_dir);
        for setting in settings {
            command.args(["--set", setting]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let process = command.spawn().map_err(cannot)?;
        let mut child = Self { process, address: String::new() };
        let mut line = String::new();
        if let Some(stdout) = child.process.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let ready: Ready = serde_json::from_str(&line).map_err(|_| {
            Failure::Failed("the server did not become ready; see its message above".into())
        })?;
        child.address = ready.listening.binary;
        Ok(child)
    }

    /// Kills it with SIGKILL.
    pub(super) fn kill(mut self) -> Result<(), Failure> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// Anonymous resident memory, where the system tells.
    pub(super) fn anonymous_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).ok()?;
        anonymous_of(&status)
    }
}

fn anonymous_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended already, which is what is wanted.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anonymous_memory_is_read() {
        let status = "VmRSS:\t    900 kB\nRssAnon:\t     512 kB\nRssFile:\t 8 kB\n";
        assert_eq!(anonymous_of(status), Some(512 * 1024));
        assert_eq!(anonymous_of("VmRSS:\t 9 kB\n"), None);
    }
}
