//! Runs the kill loop: the real server, killed at random, held against what it has answered.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use postdate::sim::torture::{self, Cruelty, Medium, Options, Report, TortureError, Until};

/// The real server on a real disk, killed, stopped and held up at random moments under load; a
/// ledger holds what it answers and delivers against what it has acknowledged.
///
/// Exit code 0 when everything held; 1 when something did not: then the data and the last log of
/// the server stay; 2 when it could not run.
#[derive(Parser)]
#[command(
    name = "torture",
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  torture --minutes 10                       ten minutes, the server beside this program
  torture --minutes 600 --seed 7 --strace    a night, with writes that fail
  torture --minutes 10 --volatile            every kill is a power cut
  torture --minutes 10 --clock               the wall clock is stepped under the server
  sudo torture --minutes 10 --full-disk      a disk that is full, or read-only, now and then
  torture --minutes 1 --data-dir /mnt/x --keep"
)]
struct Args {
    /// Go on for so long
    #[arg(long, value_name = "M", default_value_t = 1.0)]
    minutes: f64,
    /// Seed of what is random here; the machine adds chances of its own
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The server's binary [default: postdate, beside this program]
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,
    /// An empty directory to work in [default: one of its own among the temporary files]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Keep the directory also when everything held
    #[arg(long)]
    keep: bool,
    /// In some lives let system calls fail; needs strace
    #[arg(long)]
    strace: bool,
    /// Let every kill be a power cut: what was not synced is gone, or a random part of it is
    #[arg(long, conflicts_with_all = ["strace", "full_disk"])]
    volatile: bool,
    /// Step the wall clock under the server; needs libfaketime
    #[arg(long, conflicts_with_all = ["strace", "full_disk"])]
    clock: bool,
    /// On a small file system in memory, which is full or read-only in some lives; needs root
    #[arg(long)]
    full_disk: bool,
    #[command(subcommand)]
    child: Option<ChildProcess>,
}

/// What this program starts of itself.
#[derive(Subcommand)]
enum ChildProcess {
    /// A server on a volatile disk
    #[command(hide = true)]
    ServeVolatile {
        #[arg(long)]
        staging: PathBuf,
        #[arg(long)]
        torn: Option<u64>,
        /// The command line of postdate
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    let mut args = Args::parse();
    if let Some(ChildProcess::ServeVolatile { staging, torn, arguments }) = args.child.take() {
        return torture::serve_volatile(&staging, torn, arguments);
    }
    let options = match options(&args) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("torture: {why}");
            return ExitCode::from(2);
        }
    };
    match torture::run(&options) {
        Ok(report) => tell(&report, &options.home, !args.keep),
        Err(why) => could_not(&why, &options.home),
    }
}

/// What was asked for.
fn options(args: &Args) -> Result<Options, String> {
    let beside = || {
        let own = std::env::current_exe().map_err(|error| error.to_string())?;
        Ok::<_, String>(own.with_file_name("postdate"))
    };
    let server = args.server.clone().map_or_else(beside, Ok)?;
    if !server.is_file() {
        let server = server.display();
        return Err(format!("{server} is no server; build it, or name another with --server"));
    }
    let own = format!("postdate-torture-{}", std::process::id());
    let home = args.data_dir.clone().unwrap_or_else(|| std::env::temp_dir().join(own));
    if std::fs::read_dir(&home).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(format!("{} is not empty; the ledger begins with nothing", home.display()));
    }
    let medium = if args.volatile {
        Medium::Volatile { program: std::env::current_exe().map_err(|error| error.to_string())? }
    } else if args.full_disk {
        Medium::Small
    } else {
        Medium::Plain
    };
    let clock = if args.clock { Some(torture::find_libfaketime()?) } else { None };
    let time = Duration::try_from_secs_f64(args.minutes * 60.0)
        .map_err(|error| format!("--minutes {}: {error}", args.minutes))?;
    Ok(Options {
        server,
        home,
        seed: args.seed,
        until: Until::Time(time),
        cruelty: if args.strace { Cruelty::WriteErrors } else { Cruelty::All },
        medium,
        clock,
        talk: true,
    })
}

fn tell(report: &Report, home: &Path, remove: bool) -> ExitCode {
    println!("{report}");
    if report.counts.violations > 0 {
        eprintln!("torture: data and log are in {}", home.display());
        return ExitCode::FAILURE;
    }
    if remove && let Err(error) = std::fs::remove_dir_all(home) {
        eprintln!("torture: cannot remove {}: {error}", home.display());
    }
    ExitCode::SUCCESS
}

fn could_not(why: &TortureError, home: &Path) -> ExitCode {
    eprintln!("torture: {why}; data and log are in {}", home.display());
    ExitCode::from(2)
}
