//! argv → `cli::run` → exit code.

use std::process::ExitCode;

/// Also the allocator of RocksDB and librdkafka: glibc's keeps what their threads free, and takes longer for it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What jemalloc reads under this name before `main`: memory that was freed goes back to the system after a second, not after ten, so
/// that it does not count against `memory.budget` beside what is held. `MALLOC_CONF` in the environment wins.
#[expect(unsafe_code, reason = "a name that jemalloc alone looks for")]
#[unsafe(export_name = "malloc_conf")]
pub static MALLOC_CONF: &[u8] = b"dirty_decay_ms:1000,muzzy_decay_ms:0\0";

fn main() -> ExitCode {
    ExitCode::from(tidemill::cli::run(std::env::args_os()))
}
