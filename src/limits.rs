//! Every bound in one place, unit last. Each says what happens when it is met.

/// Nesting of an expression; deeper is refused at `check`.
pub const EXPRESSION_DEPTH_MAX: usize = 64;

/// Bytes of one expression's text; longer is refused at `check`.
pub const EXPRESSION_BYTES_MAX: usize = 16 * 1024;

/// Nesting of a decoded datum (records, lists, maps); a record nested deeper is a decode error.
pub const DATUM_DEPTH_MAX: usize = 64;

/// Bytes of one secret's file; a larger one is refused at start.
pub const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Half of this machine's memory when nothing tells how much there is.
pub const MEMORY_BUDGET_FALLBACK_BYTES: u64 = 512 * 1024 * 1024;

/// Least `memory.budget`; less is refused at start, and the default never goes below.
pub const MEMORY_BUDGET_MIN_BYTES: u64 = 64 * 1024 * 1024;

/// Least `commit_interval`; less is refused at start.
pub const COMMIT_INTERVAL_MIN_MS: i64 = 10;

/// Greatest `commit_interval`; more is refused at start.
pub const COMMIT_INTERVAL_MAX_MS: i64 = 10 * 60 * 1000;

/// Least `registry.timeout`; less is refused at start.
pub const REGISTRY_TIMEOUT_MIN_MS: i64 = 100;

/// Greatest `registry.timeout`; more is refused at start.
pub const REGISTRY_TIMEOUT_MAX_MS: i64 = 5 * 60 * 1000;

/// Greatest `num_stream_threads`; more is refused at start.
pub const STREAM_THREADS_MAX: usize = 256;

/// Reads and writes over HTTP that the daemon works on at once; more wait, then are told 503.
pub const HTTP_REQUESTS_AT_ONCE_MAX: usize = 64;

/// Time a request waits for its turn; then it is told 503.
pub const HTTP_TURN_WAIT_MAX_MS: u64 = 2000;

/// Bytes of a POST's body; a larger one is refused with 413.
pub const HTTP_BODY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Events in one POST; more are refused with 413.
pub const HTTP_EVENTS_MAX: usize = 10_000;

/// Rows of a page unless `limit` says otherwise.
pub const HTTP_PAGE_ROWS_DEFAULT: usize = 100;

/// Greatest `limit`; more is refused with 400.
pub const HTTP_PAGE_ROWS_MAX: usize = 1000;

/// Inputs that one read may wait for; more are refused with 400.
pub const HTTP_WAIT_FOR_MAX: usize = 64;

/// Time a read waits for `wait_for` unless `wait` says otherwise.
pub const HTTP_WAIT_DEFAULT_MS: u64 = 5000;

/// Greatest `wait`; more is refused with 400.
pub const HTTP_WAIT_MAX_MS: u64 = 30_000;

/// Time open requests have to end when the daemon stops; then they are cut off.
pub const HTTP_STOP_WAIT_MAX_MS: u64 = 3000;
