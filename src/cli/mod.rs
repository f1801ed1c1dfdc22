//! F6: the `postdate` command. One file per command; what they share is in `output` (the JSON
//! contract), `failure` (errors and exit codes), `time` and `connect`.

mod backup;
mod bench;
mod cancel;
mod config;
mod connect;
mod create;
mod delete;
mod destinations;
mod failure;
mod limit;
mod lines;
mod list;
mod logging;
mod output;
mod pause;
mod progress;
mod publish;
mod purge;
mod query;
mod reschedule;
mod resume;
mod serve;
mod stats;
mod subscribe;
#[cfg(test)]
mod tests;
mod time;
mod verify;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};

use crate::env::{Disk, OsDisk};
use failure::Failure;
use output::Out;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  refused by the server, or failed
  2  the command line or the configuration is wrong
  3  no server answers
  4  the connection was lost before the answer came: the outcome is unknown
  5  the data directory is damaged

Examples:
  postdate serve
  postdate publish /queue/hello 'good morning' --in 10s
  postdate subscribe /queue/hello

With --json every result is one JSON object a line on stdout, and every error is
{\"error\":{\"code\",\"word\",\"message\"}} on stderr; code is 0 for what is not in the error table
of the protocol. Times are ms since 1970 in JSON and UTC elsewhere.";

/// A durable delayed-message queue: holds each message safely until it is due.
#[derive(Debug, Parser)]
#[command(name = "postdate", version, after_help = EXIT_CODES, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Write JSON for programs, one object a line
    #[arg(long, global = true)]
    json: bool,
}

/// How a client command finds its server.
#[derive(Debug, Clone, Args)]
struct Server {
    /// Address of the server
    #[arg(long, value_name = "HOST:PORT", env = "POSTDATE_SERVER")]
    #[arg(default_value = "127.0.0.1:7700")]
    server: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a server
    Serve(serve::Serve),
    /// Hand messages over, for now or for later
    Publish(publish::Publish),
    /// Receive messages and acknowledge them
    Subscribe(subscribe::Subscribe),
    /// Tell where messages stand
    Query(query::Query),
    /// Cancel scheduled messages
    Cancel(cancel::Cancel),
    /// Give a scheduled message another due time; it keeps its id
    Reschedule(reschedule::Reschedule),
    /// List scheduled messages in order of due time
    List(list::List),
    /// List destinations with their counts
    Destinations(destinations::Destinations),
    /// Create a destination
    Create(create::Create),
    /// Delete a destination and everything in it
    Delete(delete::Delete),
    /// Drop the messages of a destination
    Purge(purge::Purge),
    /// Hand out nothing of a destination for now
    Pause(pause::Pause),
    /// Hand out messages of a paused destination again
    Resume(resume::Resume),
    /// Limit how much a destination holds, and for how long
    Limit(limit::Limit),
    /// Show the counters of the server
    Stats(stats::Stats),
    /// Copy the data of a running server
    Backup(backup::Backup),
    /// Check a data directory offline, changing nothing
    Verify(verify::Verify),
    /// Measure a server
    Bench(bench::Bench),
}

/// Runs the command of this process's command line; the whole of `main`.
#[must_use]
pub fn main() -> ExitCode {
    main_on(Arc::new(OsDisk::default()), std::env::args_os())
}

/// Runs a command line, the name of the program first; a server has its data on this disk.
#[must_use]
pub fn main_on(disk: Arc<dyn Disk>, arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return wrong_usage(&error),
    };
    let json = cli.json;
    match run(cli, disk) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(json),
    }
}

/// Help and version are asked for and go to stdout; the rest is an error of usage.
fn wrong_usage(error: &clap::Error) -> ExitCode {
    // The command line could not be read, so the flag is looked for by itself.
    if error.use_stderr() && std::env::args_os().any(|argument| argument == "--json") {
        let text = error.render().to_string();
        let text = text.trim().trim_start_matches("error: ");
        return Failure::Usage(text.to_owned()).report(true);
    }
    // Nothing can be done when nobody reads it.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

fn run(cli: Cli, disk: Arc<dyn Disk>) -> Result<(), Failure> {
    let out = Out::new(cli.json);
    match cli.command {
        Command::Serve(command) => command.run(out, disk),
        Command::Verify(command) => command.run(out),
        Command::Bench(command) => command.run(out),
        Command::Publish(command) => client_runtime(command.run(out)),
        Command::Subscribe(command) => client_runtime(command.run(out)),
        Command::Query(command) => client_runtime(command.run(out)),
        Command::Cancel(command) => client_runtime(command.run(out)),
        Command::Reschedule(command) => client_runtime(command.run(out)),
        Command::List(command) => client_runtime(command.run(out)),
        Command::Destinations(command) => client_runtime(command.run(out)),
        Command::Create(command) => client_runtime(command.run(out)),
        Command::Delete(command) => client_runtime(command.run(out)),
        Command::Purge(command) => client_runtime(command.run(out)),
        Command::Pause(command) => client_runtime(command.run(out)),
        Command::Resume(command) => client_runtime(command.run(out)),
        Command::Limit(command) => client_runtime(command.run(out)),
        Command::Stats(command) => client_runtime(command.run(out)),
        Command::Backup(command) => client_runtime(command.run(out)),
    }
}

/// Client commands need one thread; the server has the others.
fn client_runtime(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    // A log line of the client library (a lost connection, a new try) is worth reading.
    logging::start(&std::env::var("POSTDATE_LOG").unwrap_or_else(|_| "warn".into()))
        .map_err(|why| Failure::Usage(format!("environment variable POSTDATE_LOG: {why}")))?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}
