//! argv → `cli::run` → exit code.

use std::process::ExitCode;

/// Also the allocator of RocksDB and librdkafka: glibc's keeps what their threads free, and takes longer for it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    ExitCode::from(tidemill::cli::run(std::env::args_os()))
}
