//! The `postdate` command; everything it does is in [`postdate::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    postdate::cli::main()
}
