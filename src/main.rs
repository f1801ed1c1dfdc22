//! The `postdate` command; everything it does is in [`postdate::cli`].

use std::process::ExitCode;

/// Messages come and go by the million, made on one thread and freed on another. This allocator has a
/// thread of its own that gives memory back, also when nobody allocates any more.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    postdate::cli::main()
}
