//! The server as a child process, and the signals it gets.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::time::sleep;

/// How often a file or a process is looked at that something is awaited of.
const LOOK: Duration = Duration::from_millis(2);
/// Longest time a server may take to recover or to stop: far more than the small data sets need,
/// also on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a server is started.
#[derive(Debug)]
pub(super) struct Start<'a> {
    pub(super) binary: &'a Path,
    /// Holds the data directory, the log, and what the server says on standard output.
    pub(super) home: &'a Path,
    pub(super) settings: &'a [String],
    /// A system call that fails from its n-th time on, put in by strace.
    pub(super) fault: Option<&'a str>,
}

/// A server, ready or not. Killed when dropped.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    said: PathBuf,
    log: PathBuf,
}

impl Server {
    /// Starts the process and does not wait for it.
    pub(super) fn spawn(start: &Start<'_>) -> io::Result<Self> {
        use std::os::unix::process::CommandExt;
        let mut command = match start.fault {
            None => Command::new(start.binary),
            Some(fault) => {
                let mut strace = Command::new("strace");
                strace.args(["-f", "-qq", "-o", "/dev/null", "-e", fault]).arg(start.binary);
                strace
            }
        };
        let (said, log) = (start.home.join("said"), start.home.join("log"));
        let child = command
            .args(["serve", "--json", "--log", "warn", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(start.home.join("data"))
            .args(start.settings.iter().flat_map(|setting| ["--set", setting]))
            .stdin(Stdio::null())
            .stdout(File::create(&said)?)
            .stderr(File::create(&log)?)
            // So that a signal reaches the server also where strace stands in between.
            .process_group(0)
            .spawn()?;
        Ok(Self { child, said, log })
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

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// When that takes too long.
    pub(super) async fn end(&mut self) -> io::Result<ExitStatus> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if begun.elapsed() > PATIENCE {
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

impl Drop for Server {
    fn drop(&mut self) {
        // After it was waited for, its number may be another's.
        if matches!(self.ended(), Ok(None)) {
            let _ = self.kill();
        }
    }
}
