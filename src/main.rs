//! The `postern` program; everything it does is in the library.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// Tests and benchmarks of the library keep the system's.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    postern::app::run()
}
