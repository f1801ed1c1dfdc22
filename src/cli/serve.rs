//! `postdate serve`

mod limits;
mod listeners;
mod stop;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use serde::Serialize;
use tokio::runtime::Runtime;
use tokio::sync::watch;

pub(super) use self::limits::raise_open_files;
use self::listeners::{Bound, Listeners, Listening, Place};
use crate::cli::config::Config;
use crate::cli::failure::Failure;
use crate::cli::output::{Out, count_of};
use crate::cli::time::now_ms;
use crate::cli::{logging, progress};
use crate::env::{Disk, OsClock};
use crate::front::{self, FrontConfig, HttpConfig};
use crate::journal::JournalError;
use crate::journal::home::HomeError;
use crate::shard::{self, OpenError, Shard, ShardOptions};

#[derive(Debug, Args)]
#[command(after_help = "\
Settings come from flags, then from the environment (POSTDATE_LISTEN, POSTDATE_MEMORY_MIB …),
then from the file; --print-config shows all of them with their meaning, unit, default and bounds.

Ctrl-C and SIGTERM stop the server in good order: it takes no more requests, answers what it has
taken, syncs, and exits with 0. A second one stops it at once; what was acknowledged is safe.
SIGUSR1 lets messages due \"at\" a time fire again after the wall clock jumped ahead and was not
believed; without it they wait ten minutes.

JSON: {listening: {binary, http, stomp}, data_dir} when it is ready; what is off is missing

Examples:
  postdate serve
  postdate serve --data-dir /var/lib/postdate --listen 127.0.0.1:7700
  postdate serve --config postdate.toml --set memory_mib=1024
  postdate serve --recovery truncate-tail   (after a copy: give up what is behind damage)
  postdate serve --print-config > postdate.toml")]
pub(super) struct Serve {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory that holds the messages [default: ./postdate-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Address to listen on; port 0 takes a free one [default: 127.0.0.1:7700]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Address of HTTP (health, WebSocket, SockJS), or off; port 0 takes a free one
    /// [default: 127.0.0.1:7780]
    #[arg(long, value_name = "HOST:PORT")]
    http: Option<String>,
    /// Address of STOMP over TCP, or off; port 0 takes a free one [default: 127.0.0.1:61613]
    #[arg(long, value_name = "HOST:PORT")]
    stomp: Option<String>,
    /// What to do when data is damaged: strict (stop), truncate-tail or skip-damaged; the last two
    /// lose messages [default: strict]
    #[arg(long, value_name = "POLICY")]
    recovery: Option<String>,
    /// What goes to the log on stderr: error, warn, info, debug, trace or off [default: info]
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
    /// Any other setting of the configuration; may be given many times
    #[arg(long = "set", value_name = "NAME=VALUE")]
    settings: Vec<String>,
    /// Listen on an address that others can reach, although there is no authentication yet
    #[arg(long)]
    insecure: bool,
    /// Print the settings in force as a documented file, and end
    #[arg(long)]
    print_config: bool,
}

impl Serve {
    pub(super) fn run(self, mut out: Out, disk: Arc<dyn Disk>) -> Result<(), Failure> {
        let config = self.settings_in_force(|name| std::env::var(name).ok())?;
        if self.print_config {
            out.text(config.to_toml().trim_end())?;
            return Ok(out.flush()?);
        }
        logging::start(&config.log).map_err(Failure::Usage)?;
        let binary = Place::find("--listen", &config.listen, self.insecure)?;
        let http = config.http_listen.as_ref();
        let http = http.map(|listen| Place::find("--http", listen, self.insecure)).transpose()?;
        let stomp = config.stomp_listen.as_ref();
        let stomp =
            stomp.map(|listen| Place::find("--stomp", listen, self.insecure)).transpose()?;
        raise_open_files(config.max_connections);

        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(config.front_threads())
            .thread_name("postdate-front")
            .enable_all()
            .build()?;
        // The ports are taken before the recovery, so that a port in use is told at once; nobody is
        // let in until everything is recovered.
        let binary = binary.bind()?;
        let http = http.map(Place::bind).transpose()?;
        let stomp = stomp.map(Place::bind).transpose()?;
        let started = Instant::now();
        let shard = open(&config, disk)?;
        let listeners = {
            let _guard = runtime.enter();
            let http = http.map(Bound::listen).transpose()?;
            let stomp = stomp.map(Bound::listen).transpose()?;
            Listeners { binary: binary.listen()?, http, stomp }
        };
        let listening = listeners.addresses()?;
        // Whoever has started us may have stopped reading; the server runs all the same.
        let _ = ready(&mut out, &listening, &config, &shard, started);
        let settings = FrontConfig {
            max_connections: config.max_connections,
            http: HttpConfig { origins: config.http_origins, ..HttpConfig::default() },
            tokens: config.stomp_tokens,
            ..FrontConfig::new(now_ms)
        };
        run_until_stopped(&runtime, listeners, settings, shard)
    }

    fn settings_in_force(
        &self,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Config, Failure> {
        let usage = |error: &dyn std::fmt::Display| Failure::Usage(error.to_string());
        let mut config = Config::default();
        if let Some(path) = &self.config {
            let text = std::fs::read_to_string(path).map_err(|error| {
                Failure::Usage(format!("cannot read {}: {error}", path.display()))
            })?;
            config.apply_file(path, &text).map_err(|error| usage(&error))?;
        }
        config.apply_environment(environment).map_err(|error| usage(&error))?;
        for setting in &self.settings {
            let Some((name, value)) = setting.split_once('=') else {
                return Err(Failure::Usage(format!("--set {setting}: write NAME=VALUE")));
            };
            config.apply_flag("--set", name, value).map_err(|error| usage(&error))?;
        }
        let flags = [
            ("--data-dir", "data_dir", &self.data_dir),
            ("--listen", "listen", &self.listen),
            ("--http", "http.listen", &self.http),
            ("--stomp", "stomp.listen", &self.stomp),
            ("--recovery", "recovery", &self.recovery),
            ("--log", "log", &self.log),
        ];
        for (flag, name, value) in flags {
            if let Some(value) = value {
                config.apply_flag(flag, name, value).map_err(|error| usage(&error))?;
            }
        }
        Ok(config)
    }
}

fn open(config: &Config, disk: Arc<dyn Disk>) -> Result<Shard, Failure> {
    let options = ShardOptions { data_dir: config.data_dir.clone(), config: config.shard_config() };
    let bar = progress::bytes("recovering", Some(0));
    let shard = shard::open(disk, Arc::new(OsClock), options, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    shard.map_err(|error| cannot_open(&error))
}

/// What stopped the opening: damage has an exit code of its own.
fn cannot_open(error: &OpenError) -> Failure {
    use JournalError::{Corrupt, Missing, Replay};
    let text = error.to_string();
    match error {
        OpenError::Journal(Corrupt { .. } | Missing { .. } | Replay { .. })
        | OpenError::Home(HomeError::BadFormat(_)) => Failure::Damaged(text),
        _ => Failure::Failed(text),
    }
}

/// The line of `serve --json`.
#[derive(Debug, Serialize)]
struct ReadyLine<'a> {
    listening: &'a Listening,
    data_dir: String,
}

fn ready(
    out: &mut Out,
    listening: &Listening,
    config: &Config,
    shard: &Shard,
    started: Instant,
) -> std::io::Result<()> {
    let data_dir = absolute(&config.data_dir);
    let line = ReadyLine { listening, data_dir: data_dir.display().to_string() };
    let address = listening.binary;
    out.either(&line, || {
        let recovery = shard.recovery();
        let mut lines = vec![
            format!("Postdate {} is ready on {address}", env!("CARGO_PKG_VERSION")),
            match listening.http {
                Some(http) => format!("  http       http://{http}/"),
                None => "  http       off".into(),
            },
            format!("  data       {}", data_dir.display()),
            format!("  durability {}", config.durability.word()),
            format!(
                "  recovered  {} in {:.2} s",
                count_of(recovery.messages, "message"),
                started.elapsed().as_secs_f64()
            ),
        ];
        if recovery.torn_bytes > 0 {
            lines.push(format!(
                "             {} of an unfinished, unacknowledged write were dropped",
                count_of(recovery.torn_bytes, "byte")
            ));
        }
        let server = match address.port() {
            7700 if address.ip().is_loopback() => String::new(),
            _ => format!(" --server {address}"),
        };
        lines.push("Try, in another terminal:".into());
        lines.push(format!("  postdate subscribe /queue/hello{server}"));
        lines.push(format!("  postdate publish /queue/hello 'good morning' --in 10s{server}"));
        lines.push("Ctrl-C stops it in good order.".into());
        lines.join("\n")
    })?;
    out.flush()
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Serves until a signal comes or the shard fails, then drains.
fn run_until_stopped(
    runtime: &Runtime,
    listeners: Listeners,
    settings: FrontConfig,
    shard: Shard,
) -> Result<(), Failure> {
    let served: Result<(), Failure> = runtime.block_on(async {
        let stop = stop::on_signals()?;
        let clock = shard.broker();
        stop::on_release(move || {
            tracing::info!("told to believe the wall clock");
            if let Err(error) = clock.release_clock() {
                tracing::warn!(%error, "the wall clock could not be released");
            }
        })?;
        let (stop_all, stopping) = watch::channel(false);
        let stopped = async {
            tokio::select! {
                () = stop => {}
                () = stop::when_failed(|| shard.failed()) => {
                    tracing::error!("storage failed: telling clients and stopping");
                }
            }
            stop_all.send_replace(true);
        };
        let told = || {
            let mut stopping = stopping.clone();
            // The sender outlives them.
            async move { drop(stopping.wait_for(|stop| *stop).await) }
        };
        let binary = front::serve(listeners.binary, shard.broker(), settings.clone(), told());
        let sessions = front::stomp(front::sessions_of(shard.broker()), &settings);
        let stomp = async {
            if let Some(listener) = listeners.stomp {
                front::serve_stomp(listener, Arc::clone(&sessions), settings.clone(), told()).await;
            }
        };
        let http = async {
            if let Some(listener) = listeners.http {
                let sessions = Arc::clone(&sessions);
                front::serve_http(listener, settings.clone(), Some(sessions), told()).await;
            }
        };
        // They drain by themselves, in bounded time.
        tokio::join!(stopped, binary, http, stomp);
        Ok(())
    });
    let failed = shard.failed();
    let ended = shard.shutdown();
    served?;
    if let Err(error) = ended {
        return Err(Failure::Failed(error.to_string()));
    }
    if failed {
        return Err(Failure::Failed("storage failed; see the log, repair, and start again".into()));
    }
    tracing::info!("stopped in good order");
    Ok(())
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
