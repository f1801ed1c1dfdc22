//! The real server as a child process.
#![allow(dead_code, reason = "each test uses its part")]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

/// A running `postdate serve` on a free port. Killed when dropped.
pub(crate) struct Server {
    child: Child,
    /// `ip:port` of the binary protocol.
    pub(crate) address: String,
    /// `ip:port` of STOMP over TCP.
    pub(crate) stomp: String,
}

impl Server {
    /// Starts a server on a data directory and waits until it listens.
    pub(crate) fn start(data_dir: &Path, extra: &[&str]) -> Self {
        Self::try_start(data_dir, extra).unwrap_or_else(|error| panic!("no server: {error}"))
    }

    /// The same; what the server said on standard error when it refused to start.
    pub(crate) fn try_start(data_dir: &Path, extra: &[&str]) -> Result<Self, String> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_postdate"))
            .args([
                "serve",
                "--json",
                "--listen",
                "127.0.0.1:0",
                "--http",
                "127.0.0.1:0",
                "--stomp",
                "127.0.0.1:0",
                "--data-dir",
            ])
            .arg(data_dir)
            .args(extra)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| error.to_string())?;
        let mut line = String::new();
        let stdout = child.stdout.take().ok_or("no standard output")?;
        let mut stdout = BufReader::new(stdout);
        stdout.read_line(&mut line).map_err(|error| error.to_string())?;
        let mut stderr = child.stderr.take().ok_or("no standard error")?;
        if line.is_empty() {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            let status = child.wait().map_err(|error| error.to_string())?;
            return Err(format!("{status}: {text}"));
        }
        // Somebody must read its log, or it would stop at a full pipe.
        std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
        let ready: serde_json::Value =
            serde_json::from_str(&line).map_err(|error| error.to_string())?;
        let listening = |what: &str| {
            let address = ready["listening"][what].as_str().ok_or("no address")?;
            Ok::<_, String>(address.to_string())
        };
        let (address, stomp) = (listening("binary")?, listening("stomp")?);
        Ok(Self { child, address, stomp })
    }

    /// SIGKILL, and wait until it is gone.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and its exit status.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(sent.is_ok_and(|status| status.success()), "could not send SIGTERM");
        self.child.wait().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The wall clock in ms.
pub(crate) fn wall_ms() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "an outsider's clock")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// Runs `postdate` with arguments: exit code, standard output, standard error.
pub(crate) fn run(args: &[&str]) -> (i32, String, String) {
    run_with_input(args, "")
}

/// The same, with something on standard input.
pub(crate) fn run_with_input(args: &[&str], input: &str) -> (i32, String, String) {
    use std::io::Write;
    let mut child = Command::new(env!("CARGO_BIN_EXE_postdate"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{error}"));
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_string();
        std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    }
    let output = child.wait_with_output().unwrap_or_else(|error| panic!("{error}"));
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}
