//! `postdate serve`

mod limits;
mod stop;

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use serde::Serialize;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Runtime;

use crate::cli::config::Config;
use crate::cli::failure::Failure;
use crate::cli::output::{Out, count_of};
use crate::cli::time::now_ms;
use crate::cli::{logging, progress};
use crate::env::{Disk, OsClock};
use crate::front::{self, FrontConfig};
use crate::journal::JournalError;
use crate::journal::home::HomeError;
use crate::shard::{self, OpenError, Shard, ShardOptions};

/// Connections that the operating system may hold for us until they are accepted.
const BACKLOG: u32 = 1024;

#[derive(Debug, Args)]
#[command(after_help = "\
Settings come from flags, then from the environment (POSTDATE_LISTEN, POSTDATE_MAX_MEMORY_MIB …),
then from the file; --print-config shows all of them with their meaning, unit, default and bounds.

Ctrl-C and SIGTERM stop the server in good order: it takes no more requests, answers what it has
taken, syncs, and exits with 0. A second one stops it at once; what was acknowledged is safe.
SIGUSR1 lets messages due \"at\" a time fire again after the wall clock jumped ahead and was not
believed; without it they wait ten minutes.

JSON: {listening: {binary}, data_dir} when it is ready

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
        let addresses = addresses(&config.listen)?;
        refuse_strangers(&config.listen, &addresses, self.insecure)?;
        limits::raise_open_files(config.max_connections);

        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(config.front_threads())
            .thread_name("postdate-front")
            .enable_all()
            .build()?;
        // The port is taken before the recovery, so that a port in use is told at once; nobody is
        // let in until everything is recovered.
        let socket = bind(&addresses)?;
        let started = Instant::now();
        let shard = open(&config, disk)?;
        let listener = {
            let _guard = runtime.enter();
            socket.listen(BACKLOG).map_err(|error| cannot_listen(&config.listen, &error))?
        };
        let address = listener.local_addr()?;
        // Whoever has started us may have stopped reading; the server runs all the same.
        let _ = ready(&mut out, address, &config, &shard, started);
        let settings =
            FrontConfig { max_connections: config.max_connections, ..FrontConfig::new(now_ms) };
        run_until_stopped(&runtime, listener, settings, shard)
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

fn addresses(listen: &str) -> Result<Vec<SocketAddr>, Failure> {
    let found: Vec<_> = listen
        .to_socket_addrs()
        .map_err(|error| Failure::Failed(format!("cannot find the address {listen}: {error}")))?
        .collect();
    if found.is_empty() {
        return Err(Failure::Failed(format!("the name in {listen} has no address")));
    }
    Ok(found)
}

/// Without authentication only this machine may come in.
fn refuse_strangers(listen: &str, addresses: &[SocketAddr], insecure: bool) -> Result<(), Failure> {
    if addresses.iter().all(|address| address.ip().is_loopback()) {
        return Ok(());
    }
    if insecure {
        tracing::warn!(listen, "everybody who reaches this address may read, publish and delete");
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "{listen} can be reached by others, and there is no authentication yet; listen on \
         127.0.0.1, or add --insecure when the network is trusted"
    )))
}

/// Takes the port without letting anybody in.
fn bind(addresses: &[SocketAddr]) -> Result<TcpSocket, Failure> {
    let mut failure = Failure::Failed("there is no address to listen on".into());
    for address in addresses {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let bound = socket.and_then(|socket| {
            // A port whose last connections linger is free for a restart.
            socket.set_reuseaddr(true)?;
            socket.bind(*address)?;
            Ok(socket)
        });
        match bound {
            Ok(socket) => return Ok(socket),
            Err(error) => failure = cannot_listen(&address.to_string(), &error),
        }
    }
    Err(failure)
}

fn cannot_listen(address: &str, error: &std::io::Error) -> Failure {
    let advice = match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            "; another server runs there: stop it, or choose another port with --listen"
        }
        std::io::ErrorKind::PermissionDenied => "; choose a port above 1023 with --listen",
        _ => "",
    };
    Failure::Failed(format!("cannot listen on {address}: {error}{advice}"))
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
struct ReadyLine {
    listening: Listening,
    data_dir: String,
}

#[derive(Debug, Serialize)]
struct Listening {
    binary: String,
}

fn ready(
    out: &mut Out,
    address: SocketAddr,
    config: &Config,
    shard: &Shard,
    started: Instant,
) -> std::io::Result<()> {
    let data_dir = absolute(&config.data_dir);
    let line = ReadyLine {
        listening: Listening { binary: address.to_string() },
        data_dir: data_dir.display().to_string(),
    };
    out.either(&line, || {
        let recovery = shard.recovery();
        let mut lines = vec![
            format!("Postdate {} is ready on {address}", env!("CARGO_PKG_VERSION")),
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
    listener: TcpListener,
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
        let stopped = async {
            tokio::select! {
                () = stop => {}
                () = stop::when_failed(|| shard.failed()) => {
                    tracing::error!("storage failed: telling clients and stopping");
                }
            }
        };
        // Drains by itself, in bounded time.
        front::serve(listener, shard.broker(), settings, stopped).await;
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
