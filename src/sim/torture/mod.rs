//! The kill loop: the real server on a real disk, real clients, and a ledger of what was
//! acknowledged to them. The server is killed, stopped and held up at random moments, started
//! again with other settings, and what it answers and delivers is held against the ledger.
//!
//! A kill leaves the page cache alone: on the disk as it is, this is about crashes of the process and
//! about real threads, sockets and files. On a [`VolatileDisk`](crate::sim::VolatileDisk) a kill is
//! a loss of power too.

mod believed;
mod ledger;
mod load;
mod report;
mod server;
mod small;
mod steps;
mod trouble;
mod volatile;
mod wall;

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::sleep;

use self::ledger::{Ledger, Place};
use self::load::Shared;
pub use self::report::{Counts, Report};
use self::server::{Server, Start};
use self::small::SmallDisk;
use self::trouble::Trouble;
pub use self::volatile::serve_volatile;
use self::wall::FakeWall;
pub use self::wall::find_libfaketime;
use crate::sim::random::Random;

/// Lives between two rests.
const LIVES_A_REST: u64 = 40;
/// Between two looks at something that must change by itself.
const PAUSE: Duration = Duration::from_millis(20);
/// Longest time until everything is at rest; delays are far shorter.
const REST_PATIENCE: Duration = Duration::from_secs(120);
/// Longest time until a server has ended whose journal cannot be written.
const FAULT_PATIENCE: Duration = Duration::from_secs(20);
/// Longest time until publishing goes on when there is space again.
const SPACE_PATIENCE: Duration = Duration::from_secs(20);

/// When the loop ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// After so many kills.
    Kills(u64),
    /// After so long, and the rest that follows.
    Time(Duration),
}

/// What is done to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cruelty {
    /// SIGKILL, with one choice of settings.
    Kills,
    /// Also SIGTERM, SIGSTOP, kills while it starts, any settings, more or fewer clients.
    All,
    /// All of that, and system calls that fail: needs `strace`.
    WriteErrors,
}

/// Where the server has its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Medium {
    /// On the disk as it is.
    Plain,
    /// On a [`VolatileDisk`](crate::sim::VolatileDisk): a kill is a loss of power.
    Volatile {
        /// A program that runs [`serve_volatile`] when it is called with the arguments
        /// `serve-volatile --staging DIR [--torn SEED] --` and those of the server.
        program: PathBuf,
    },
    /// On a small file system of its own, which is full or read-only now and then: for root.
    Small,
}

/// How the loop runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server's binary.
    pub server: PathBuf,
    /// Directory for the data and the last log; created when missing, and kept.
    pub home: PathBuf,
    /// Seed of what is random here. When something happens is up to the machine all the same.
    pub seed: u64,
    /// When it ends.
    pub until: Until,
    /// What is done.
    pub cruelty: Cruelty,
    /// Where the data are.
    pub medium: Medium,
    /// libfaketime, if the wall clock is to be stepped under the server; see [`find_libfaketime`].
    pub clock: Option<PathBuf>,
    /// Tell about each rest on standard error.
    pub talk: bool,
}

/// Why the loop could not run; what the server does wrong is in the report.
#[derive(Debug, thiserror::Error)]
pub enum TortureError {
    /// The process, its files or its signals could not be had.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Somebody does not want to wait for the end.
    #[error("interrupted")]
    Interrupted,
}

fn failed(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> TortureError {
    let what = what.into();
    move |source| TortureError::Io { what, source }
}

/// Runs the loop; it ends early, behind the life in which it happened, with a violation.
///
/// # Errors
/// [`TortureError`], when there is no server to be started or no directory to be had.
pub fn run(options: &Options) -> Result<Report, TortureError> {
    std::fs::create_dir_all(&options.home).map_err(failed(options.home.display().to_string()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(failed("cannot start threads"))?;
    let begun = Instant::now();
    let small = match options.medium {
        Medium::Small => {
            let dir = options.home.join("small");
            Some(
                SmallDisk::mount(dir.clone())
                    .map_err(failed(format!("mount {}", dir.display())))?,
            )
        }
        Medium::Plain | Medium::Volatile { .. } => None,
    };
    let wall = options.clock.clone().map(|library| FakeWall::new(library, &options.home));
    let wall = wall.transpose().map_err(failed("cannot step the wall"))?;
    let mut torture = Torture {
        options,
        small,
        wall,
        ledger: Arc::new(Mutex::new(Ledger::new(options.clock.is_some()))),
        random: Random::new(options.seed, "torture"),
        begun,
    };
    // Dropped when it is interrupted, and with it the server and what is mounted.
    runtime.block_on(async {
        let mut term = signal(SignalKind::terminate()).map_err(failed("SIGTERM"))?;
        tokio::select! {
            ended = torture.run() => ended,
            _ = tokio::signal::ctrl_c() => Err(TortureError::Interrupted),
            _ = term.recv() => Err(TortureError::Interrupted),
        }
    })?;
    let ledger = torture.ledger.lock();
    let violations = ledger.violations().to_vec();
    if let Some(small) = torture.small.as_mut().filter(|_| !violations.is_empty()) {
        small.keep();
    }
    Ok(Report { took: begun.elapsed(), counts: ledger.counts, violations })
}

struct Torture<'a> {
    options: &'a Options,
    small: Option<SmallDisk>,
    wall: Option<FakeWall>,
    ledger: Shared,
    random: Random,
    begun: Instant,
}

/// How a life ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Kill,
    KillWhileStarting,
    Stop,
    /// By itself, on a write error; by a kill when none has come.
    Fault,
}

impl Torture<'_> {
    async fn run(&mut self) -> Result<(), TortureError> {
        let mut since_rest = 0;
        loop {
            let counts = self.ledger.lock().counts;
            let over = match self.options.until {
                Until::Kills(kills) => counts.kills >= kills,
                Until::Time(time) => self.begun.elapsed() >= time,
            };
            since_rest += 1;
            let full = self.ledger.lock().is_full();
            if over || full || since_rest > LIVES_A_REST {
                since_rest = 0;
                self.life_of_rest().await?;
            } else {
                self.life().await?;
            }
            let ledger = self.ledger.lock();
            if over || !ledger.violations().is_empty() {
                return Ok(());
            }
            if self.options.talk && since_rest == 0 {
                let Counts { lives, accepted, deliveries, .. } = ledger.counts;
                let s = self.begun.elapsed().as_secs();
                eprintln!("{s} s: {lives} lives, {accepted} accepted, {deliveries} deliveries");
            }
        }
    }

    /// Clients at work, and an end.
    async fn life(&mut self) -> Result<(), TortureError> {
        let end = self.choose_end();
        let fault = (end == End::Fault).then(|| self.choose_fault());
        let trouble = self.choose_trouble();
        if self.begin_trouble(trouble).await? {
            return Ok(());
        }
        let mut server = self.spawn(fault.as_deref())?;
        if end == End::KillWhileStarting {
            sleep(Duration::from_millis(self.random.below(120))).await;
            let status = server.kill().map_err(failed("kill"))?;
            self.ledger.lock().counts.early_kills += 1;
            self.judge_end(&server, End::Kill, status);
            return self.end_trouble();
        }
        let mut tasks = JoinSet::new();
        let ready = server.ready().await;
        match &ready {
            Ok(address) => self.start_load(&mut tasks, address),
            // It may need space to start.
            Err(_) if trouble == Trouble::FullAtStart => {
                self.judge_refusal(&mut server)?;
                return self.end_trouble();
            }
            // It may have met its write error while it started.
            Err(_) if end == End::Fault => {}
            Err(why) => {
                self.ledger.lock().violation(format!("the server {why}"));
                return Ok(());
            }
        }
        // The moment of the end is what is random here; nothing waits for it to have passed.
        self.sleep(100, 1_000).await;
        if let Ok(address) = &ready {
            self.have_trouble(trouble, address, end).await?;
            self.step_wall(&server, address).await?;
        }
        if end != End::Fault && self.options.cruelty != Cruelty::Kills && self.random.percent(15) {
            server.signal(Signal::STOP).map_err(failed("SIGSTOP"))?;
            self.sleep(20, 500).await;
            server.signal(Signal::CONT).map_err(failed("SIGCONT"))?;
            self.ledger.lock().counts.pauses += 1;
            self.sleep(0, 300).await;
        }
        self.end_life(&mut server, end).await?;
        self.join(tasks).await;
        self.end_trouble()
    }

    /// Consumers alone, until nothing is left and everything can be judged.
    async fn life_of_rest(&mut self) -> Result<(), TortureError> {
        let mut server = self.spawn(None)?;
        let address = match server.ready().await {
            Ok(address) => address,
            Err(why) => {
                self.ledger.lock().violation(format!("the server {why}"));
                return Ok(());
            }
        };
        let mut tasks = JoinSet::new();
        for place in [Place::Queue, Place::Queue, Place::Queue, Place::Topic, Place::Side] {
            self.start_consumer(&mut tasks, &address, place);
        }
        self.raise_wall(&server, &address).await?;
        let rest = load::rest(&address, &self.ledger, REST_PATIENCE).await;
        {
            let mut ledger = self.ledger.lock();
            match rest {
                Ok(()) => ledger.rest(),
                Err(why) => ledger.violation(why),
            }
            if let Some(wall) = &mut self.wall {
                wall.most_s = wall.shown_s;
            }
        }
        let end = if self.options.cruelty == Cruelty::Kills { End::Kill } else { End::Stop };
        self.end_life(&mut server, end).await?;
        self.join(tasks).await;
        Ok(())
    }

    fn choose_end(&mut self) -> End {
        let dice = self.random.below(100);
        match self.options.cruelty {
            Cruelty::Kills => End::Kill,
            Cruelty::WriteErrors if dice < 20 => End::Fault,
            _ if dice < 65 => End::Kill,
            _ if dice < 80 => End::KillWhileStarting,
            _ => End::Stop,
        }
    }

    /// Writes of the journal, or syncs of the store.
    fn choose_fault(&mut self) -> String {
        let (call, first) = if self.random.percent(70) {
            ("pwrite64", 1 + self.random.below(600))
        } else {
            ("fdatasync", 1 + self.random.below(10))
        };
        format!("inject={call}:error=EIO:when={first}+")
    }

    fn spawn(&mut self, fault: Option<&str>) -> Result<Server, TortureError> {
        self.settle_wall()?;
        // Little memory and a short journal: written out as often as can be, so that kills come in
        // the middle of that too.
        let (memory, tail) = match self.options.cruelty {
            Cruelty::Kills => (16, 1),
            _ => (*self.random.pick(&[16, 16, 24, 64]), *self.random.pick(&[1, 1, 2, 8])),
        };
        let mut settings = vec![format!("memory_mib={memory}"), format!("journal_tail_mib={tail}")];
        if self.small.is_some() {
            settings.push("segment_mib=40".into());
        }
        let home = &self.options.home;
        let data = self.small.as_ref().map_or_else(|| home.join("data"), SmallDisk::data);
        let command = self.command();
        self.ledger.lock().counts.lives += 1;
        let (settings, wall) = (&settings, self.wall.as_ref());
        Server::spawn(&Start { command: &command, home, data: &data, settings, fault, wall })
            .map_err(failed(format!("cannot start {}", command[0].display())))
    }

    /// The server's program, and what it gets first.
    fn command(&mut self) -> Vec<OsString> {
        let Medium::Volatile { program } = &self.options.medium else {
            return vec![self.options.server.clone().into()];
        };
        let mut command = vec![program.into(), "serve-volatile".into(), "--staging".into()];
        command.push(self.options.home.join("unsynced").into());
        // Of what is not synced, nothing survives one half of the lives, and anything the other.
        if self.random.coin() {
            command.extend(["--torn".into(), self.random.next().to_string().into()]);
        }
        command.push("--".into());
        command
    }

    fn start_load(&mut self, tasks: &mut JoinSet<()>, address: &str) {
        let kind = self.options.cruelty == Cruelty::Kills;
        let (producers, consumers) =
            if kind { (3, 2) } else { (1 + self.random.below(4), 1 + self.random.below(3)) };
        for _ in 0..consumers {
            self.start_consumer(tasks, address, Place::Queue);
        }
        self.start_consumer(tasks, address, Place::Topic);
        for _ in 0..producers {
            tasks.spawn(load::produce(address.into(), self.ledger.clone(), self.fork()));
        }
        tasks.spawn(load::change(address.into(), self.ledger.clone(), self.fork()));
        tasks.spawn(load::purge(address.into(), self.ledger.clone(), self.fork()));
    }

    fn start_consumer(&mut self, tasks: &mut JoinSet<()>, address: &str, place: Place) {
        tasks.spawn(load::consume(address.into(), self.ledger.clone(), place, self.fork()));
    }

    fn fork(&mut self) -> Random {
        Random::new(self.random.next(), "client")
    }

    async fn sleep(&mut self, from_ms: u64, to_ms: u64) {
        sleep(Duration::from_millis(from_ms + self.random.below(to_ms - from_ms))).await;
    }

    /// Ends the server, and holds how it ended against what it should.
    async fn end_life(&mut self, server: &mut Server, end: End) -> Result<(), TortureError> {
        if let Some(status) = server.ended().map_err(failed("wait"))? {
            self.judge_end(server, end, status);
            return Ok(());
        }
        if server.met_its_error().map_err(failed("strace"))? {
            match server.end(FAULT_PATIENCE).await {
                Ok(status) => self.judge_end(server, end, status),
                Err(_) => {
                    let log = server.log();
                    let what = "the server goes on although its journal cannot be written";
                    self.ledger.lock().violation(format!("{what}; {log}"));
                }
            }
            return Ok(());
        }
        let (end, status) = match end {
            End::Kill | End::KillWhileStarting => (End::Kill, server.kill()),
            // The error has not come, or not where it must end the server.
            End::Fault => (End::Kill, server.kill()),
            End::Stop => {
                server.signal(Signal::TERM).map_err(failed("SIGTERM"))?;
                let ended = server.end(server::PATIENCE).await;
                if ended.is_err() {
                    self.ledger.lock().violation("the server did not stop on SIGTERM".into());
                    return Ok(());
                }
                (End::Stop, ended)
            }
        };
        let status = status.map_err(failed("wait"))?;
        let mut ledger = self.ledger.lock();
        ledger.counts.kills += u64::from(end == End::Kill);
        ledger.counts.stops += u64::from(end == End::Stop);
        drop(ledger);
        self.judge_end(server, end, status);
        Ok(())
    }

    fn judge_end(&self, server: &Server, end: End, status: std::process::ExitStatus) {
        let mut ledger = self.ledger.lock();
        let log = server.log();
        let good = match end {
            End::Kill | End::KillWhileStarting => status.signal() == Some(Signal::KILL.as_raw()),
            End::Stop => status.success(),
            End::Fault => status.code() == Some(1),
        };
        ledger.counts.faults += u64::from(end == End::Fault && good);
        if !good || log.contains("panicked at") {
            ledger.violation(format!("the server ended with {status}, wanted: {end:?}; {log}"));
        }
    }

    async fn join(&self, mut tasks: JoinSet<()>) {
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                self.ledger.lock().violation(format!("a client: {error}"));
            }
        }
    }
}
