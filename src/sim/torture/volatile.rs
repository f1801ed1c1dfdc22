//! The server on a disk that forgets what is not synced: the program of the loop, started again as
//! a server.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use crate::cli;
use crate::sim::VolatileDisk;

/// Runs a command line of `postdate`, without its name, on a [`VolatileDisk`].
///
/// `staging` is where that disk keeps what has no durable name. With a seed, parts of what is not
/// synced are written back all the same.
#[must_use]
pub fn serve_volatile(staging: &Path, torn: Option<u64>, arguments: Vec<OsString>) -> ExitCode {
    let disk = match torn {
        None => VolatileDisk::new(staging),
        Some(seed) => VolatileDisk::torn(staging, seed),
    };
    match disk {
        Ok(disk) => {
            cli::main_on(Arc::new(disk), std::iter::once("postdate".into()).chain(arguments))
        }
        Err(error) => {
            eprintln!("torture: cannot use {}: {error}", staging.display());
            ExitCode::from(2)
        }
    }
}
