//! The `postdate` command; everything it does is in [`postdate::cli`].

use std::process::ExitCode;

/// Messages come and go by the million, made on one thread and freed on another: an allocator that
/// gives memory back keeps what is resident near what is in use.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    postdate::cli::main()
}
