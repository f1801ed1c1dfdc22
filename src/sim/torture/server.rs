//! The server as a child process, and the signals it gets.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::time::sleep;

use super::wall::{self, FakeWall};

/// How often a file or a process is looked at that something is awaited of.
const LOOK: Duration = Duration::from_millis(2);
/// Longest time a server may take to recover or to stop: far more than the small data sets need,
/// also on a machine that has much else to do.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// How a server is started.
#[derive(Debug)]
pub(super) struct Start<'a> {
    /// The program and what it gets before the arguments of the server.
    pub(super) command: &'a [OsString],
    /// Holds the log, and what the server says on standard output.
    pub(super) home: &'a Path,
    pub(super) data: &'a Path,
    pub(super) settings: &'a [String],
    /// A system call that fails from its n-th time on, put in by strace.
    pub(super) fault: Option<&'a str>,
    /// A wall clock of its own.
    pub(super) wall: Option<&'a FakeWall>,
}

/// The system calls that are made to fail.
const FAILING_CALLS: &str = "trace=pwrite64,fdatasync";

/// A server, ready or not. Killed when dropped.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    said: PathBuf,
    log: PathBuf,
    /// The calls that failed, one a line, if some were to.
    failed: Option<PathBuf>,
    /// Its wall clock is its own.
    fakes_wall: bool,
}

impl Server {
    /// Starts the process and does not wait for it.
    pub(super) fn spawn(start: &Start<'_>) -> io::Result<Self> {
        use std::os::unix::process::CommandExt;
        let failed = start.fault.map(|_| start.home.join("strace"));
        let mut all: Vec<OsString> = Vec::new();
        if let (Some(fault), Some(failed)) = (start.fault, &failed) {
            // The file first: who looks into it must not find what an earlier server met.
            File::create(failed)?;
            let strace =
                ["strace", "-f", "-qq", "-y", "-Z", "-e", FAILING_CALLS, "-e", fault, "-o"];
            all.extend(strace.map(OsString::from));
            all.push(failed.into());
        }
        all.extend(start.command.iter().cloned());
        let (program, first) = all.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let (said, log) = (start.home.join("said"), start.home.join("log"));
        let child = Command::new(program)
            .args(first)
            .args([
                "serve",
                "--json",
                "--log",
                "warn",
                "--listen",
                "127.0.0.1:0",
                "--http",
                "off",
                "--stomp",
                "off",
                "--data-dir",
            ])
            .arg(start.data)
            .args(start.settings.iter().flat_map(|setting| ["--set", setting]))
            .envs(start.wall.into_iter().flat_map(FakeWall::environment))
            .stdin(Stdio::null())
            .stdout(File::create(&said)?)
            .stderr(File::create(&log)?)
            // So that a signal reaches the server also where strace stands in between.
            .process_group(0)
            .spawn()?;
        Ok(Self { child, said, log, failed, fakes_wall: start.wall.is_some() })
    }

    /// Waits until it listens; its address.
    ///
    /// # Errors
    /// Why it ended, or that it takes too long.
    pub(super) async fn ready(&mut self) -> Result<String, String> {
        let begun = Instant::now();
        loop {
            let line = std::fs::read_to_string(&self.said).map_err(|error| error.to_string())?;
            if line.ends_with('\n') {
                let ready: serde_json::Value = serde_json::from_str(&line)
                    .map_err(|error| format!("said {line:?} when it was ready: {error}"))?;
                let address = ready["listening"]["binary"].as_str();
                return address.map(str::to_owned).ok_or(format!("told no address: {line}"));
            }
            if let Some(status) = self.ended().map_err(|error| error.to_string())? {
                return Err(format!("did not start, {status}: {}", self.log()));
            }
            if begun.elapsed() > PATIENCE {
                return Err(format!("is not ready after {} s: {}", PATIENCE.as_secs(), self.log()));
            }
            sleep(LOOK).await;
        }
    }

    /// Its exit status, if it has ended.
    pub(super) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Whether a write to the journal in use was made to fail: then it must end by itself.
    /// Writes elsewhere it may try again, or go on without.
    pub(super) fn met_its_error(&self) -> io::Result<bool> {
        let Some(failed) = &self.failed else { return Ok(false) };
        let calls = std::fs::read(failed)?;
        Ok(String::from_utf8_lossy(&calls).lines().any(must_end))
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// When that takes too long.
    pub(super) async fn end(&mut self, patience: Duration) -> io::Result<ExitStatus> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if begun.elapsed() > patience {
                return Err(io::ErrorKind::TimedOut.into());
            }
            sleep(LOOK).await;
        }
    }

    /// Sends a signal.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process_group(Pid::from_child(&self.child), signal)?)
    }

    /// SIGKILL, and wait until it is gone.
    pub(super) fn kill(&mut self) -> io::Result<ExitStatus> {
        // Nothing to be killed is left when it has ended by itself.
        let _ = self.signal(Signal::KILL);
        self.child.wait()
    }

    /// What it said on standard error.
    pub(super) fn log(&self) -> String {
        std::fs::read(&self.log)
            .map_or_else(|error| error.to_string(), |log| String::from_utf8_lossy(&log).into())
    }
}

/// Whether a line of strace, which names the files, tells of such a write. Spares have other names.
fn must_end(line: &str) -> bool {
    let segment = line.split_once("/journal/").and_then(|(_, name)| name.split_once(".wal>"));
    line.ends_with("(INJECTED)")
        && line.contains("pwrite64(")
        && segment.is_some_and(|(name, _)| name.bytes().all(|byte| byte.is_ascii_digit()))
}

impl Drop for Server {
    fn drop(&mut self) {
        // After it was waited for, its number may be another's.
        if matches!(self.ended(), Ok(None)) {
            let _ = self.kill();
        }
        if self.fakes_wall {
            wall::sweep(self.child.id());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: only a failed write to a segment in use counts. Method: lines as strace writes them.
    #[test]
    fn a_failed_write_to_the_journal_is_known() {
        let line = |call: &str, file: &str, end: &str| {
            format!(
                "77 {call}(9</d/journal/{file}>, \"\"..., 4096, 4096) = -1 EIO (Input/output error){end}"
            )
        };
        let segment = "00000000000000000007.wal";
        assert!(must_end(&line("pwrite64", segment, " (INJECTED)")));
        assert!(!must_end(&line("pwrite64", segment, "")));
        assert!(!must_end(&line("fdatasync", segment, " (INJECTED)")));
        assert!(!must_end(&line("pwrite64", "spare-3.wal", " (INJECTED)")));
        assert!(!must_end("77 pwrite64(9</d/store/7.seg>, 1) = -1 EIO (I/O error) (INJECTED)"));
    }
}
