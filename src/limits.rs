//! Every bound in one place, unit last. Each says what happens when it is met.

/// Nesting of an expression; deeper is refused at `check`.
pub const EXPRESSION_DEPTH_MAX: usize = 64;

/// Bytes of one expression's text; longer is refused at `check`.
pub const EXPRESSION_BYTES_MAX: usize = 16 * 1024;

/// Steps of one evaluation: operations in macros, and 16 bytes or one item that an operation goes through there. An expression that
/// may take more is refused at `check`; one that does take more is an evaluation error.
pub const EXPRESSION_STEPS_MAX: u64 = 50_000_000;

/// Steps that a pattern of `matches` takes to compile, where it is not literal.
pub const EXPRESSION_PATTERN_STEPS: u64 = 20_000;

/// Items that a list or map is taken to have where `check` counts steps and its size is not known.
pub const EXPRESSION_ITEMS_ASSUMED: u64 = 1000;

/// Nesting of a decoded datum (records, lists, maps); a record nested deeper is a decode error.
pub const DATUM_DEPTH_MAX: usize = 64;

/// Rows of closed or expired windows handled in one step; more are handled in the steps that follow at once.
pub const WINDOW_CLOSE_ROWS_MAX: usize = 1000;

/// Records a task processes before its thread looks at its other duties again.
pub const TASK_RUN_RECORDS_MAX: usize = 1000;

/// Entries that a buffer of a task or a store keeps room for from one commit to the next. What it has grown beyond is given back: tasks
/// have their turns one after the other, and all of them together would keep the room of as many turns.
pub const KEPT_ENTRIES: usize = 256;

/// Records of a task's first turn; a turn that takes less than [`TASK_RUN_MS`] is followed by one of twice as many.
pub const TASK_RUN_RECORDS_MIN: usize = 16;

/// Milliseconds that a task's turn may take; after a longer one it gets half as many records.
pub const TASK_RUN_MS: u128 = 50;

/// Milliseconds that a thread works on its tasks before it polls again; the tasks behind have their turn first then.
pub const PROCESS_MS: u128 = 500;

/// Bytes of the budget that nobody gets: what a process has before its first record, code, threads, the clients' own.
pub const PROCESS_BYTES: usize = 44 * 1024 * 1024;

/// Bytes that wait in a thread's source queues at most, whatever the budget, and at least; above, records stay with the client.
pub const QUEUED_BYTES_MAX: usize = 32 * 1024 * 1024;
pub const QUEUED_BYTES_MIN: usize = 1024 * 1024;

/// One partition's part of it at least, however many there are. With that, it is paused while another has nothing; resumed at half.
pub const SOURCE_QUEUE_BYTES_MIN: usize = 64 * 1024;

/// Bytes of sends and state that a thread's tasks hold uncommitted at most, whatever the budget; above, they stop processing until a
/// commit has finished.
pub const GENERATION_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes that one consumer fetches ahead at most, whatever the budget, and at least.
pub const PREFETCH_BYTES_MAX: usize = 64 * 1024 * 1024;
pub const PREFETCH_BYTES_MIN: usize = 1024 * 1024;

/// Bytes that wait in one producer to be sent at most, whatever the budget, and at least: it takes the largest record.
pub const PRODUCER_QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
pub const PRODUCER_QUEUE_BYTES_MIN: usize = 4 * 1024 * 1024;

/// Bytes of decoded rows that a task may keep at least, however small the budget and however many the tasks.
pub const ROW_CACHE_BYTES_MIN: usize = 256 * 1024;

/// A single wait for the broker; a stop and the heartbeat are seen between two.
pub const BROKER_WAIT_SLICE: std::time::Duration = std::time::Duration::from_millis(200);

/// How long the broker may wait for more records before it says that a partition is at its end, where a read is over there: what is
/// restored, a page of a topic. Kafka's default of half a second is for those that read on.
pub const END_WAIT: std::time::Duration = std::time::Duration::from_millis(10);

/// The same where the instances of an application listen to each other: a start waits for the end, and all listen on.
pub const INSTANCES_END_WAIT: std::time::Duration = std::time::Duration::from_millis(100);

/// How long a broker call is tried before the thread joins anew.
pub const BROKER_WAIT_MAX: std::time::Duration = std::time::Duration::from_secs(30);

/// A single wait for the registry.
pub const REGISTRY_WAIT: std::time::Duration = std::time::Duration::from_secs(5);

/// Schemas that are registered at once at a start; the others wait.
pub const REGISTRATIONS_AT_ONCE: usize = 8;

/// How often an id that the registry does not know is asked for; then the records that carry it are decode errors.
pub const SCHEMA_UNKNOWN_TRIES_MAX: u32 = 8;

/// How long the answer that there is no such schema is given to all who ask; then the registry is asked again.
pub const SCHEMA_FAILURE_KEPT: std::time::Duration = std::time::Duration::from_secs(2);

/// Wait before a task is tried again whose state could not be read or written; doubles each time.
pub const STATE_RETRY_MS: i64 = 1000;

/// Longest such wait.
pub const STATE_RETRY_MAX_MS: i64 = 60_000;

/// Reads a stream thread answers between two batches.
pub const READS_PER_TURN_MAX: usize = 64;

/// Versions or rows of one answer; more come by cursor.
pub const READ_ROWS_MAX: usize = 10_000;

/// Versions that `blame` looks at.
pub const BLAME_VERSIONS_MAX: usize = 10_000;

/// Steps of the cache's hand per insertion; a cache full of uncommitted rows grows past its budget instead of searching longer.
pub const CACHE_EVICTION_STEPS_MAX: usize = 64;

/// Bytes of a row with its key, unless the changelog's `max.message.bytes` says otherwise; larger is refused at the write.
/// Kafka's default is 1,048,588 for a batch with its head.
pub const ROW_BYTES_MAX: usize = 1_000_000;

/// Bytes of committed rows of one task that wait for the backend at most, whatever the budget; at this they are written.
pub const WRITE_BEHIND_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The same at least: smaller batches sort badly.
pub const WRITE_BEHIND_BYTES_MIN: usize = 256 * 1024;

/// Milliseconds that committed rows wait for the backend; longer batches sort better.
pub const WRITE_BEHIND_MS_MAX: i64 = 5_000;

/// Bytes written to the backend since its last flush; at this a flush starts. A crash replays them from the changelog.
pub const FLUSH_DISTANCE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Milliseconds since the last flush while something is unflushed; at this a flush starts.
pub const FLUSH_DISTANCE_MS_MAX: i64 = 60_000;

/// Milliseconds between two looks at whether a flush in the background has failed.
pub const BACKGROUND_CHECK_MS: i64 = 1_000;

/// Milliseconds between two marks of an idle task that its stores are complete; the mark decides whether they are believed
/// after a pause.
pub const DURABLE_MARK_MS_MAX: i64 = 3_600_000;

/// Kafka's default of `delete.retention.ms`, where the broker does not tell.
pub const DELETE_RETENTION_DEFAULT_MS: i64 = 86_400_000;

/// Most of `delete.retention.ms` that is given away for clocks that disagree.
pub const RESTORE_MARGIN_MAX_MS: i64 = 3_600_000;

/// Files that one task's RocksDB keeps open; further ones are opened when read.
pub const ROCKS_OPEN_FILES_MAX: i32 = 256;

/// Bytes of one RocksDB memtable at most, whatever the budget, and at least; at its size it is flushed in the background.
pub const ROCKS_MEMTABLE_BYTES_MAX: usize = 32 * 1024 * 1024;
pub const ROCKS_MEMTABLE_BYTES_MIN: usize = 1024 * 1024;

/// Looks, 10 ms apart, at a database that waits for a merge of files and has none under way; then the task's state counts as failed, and is tried
/// again as on a disk that is full. Merges of other tasks may be in front for a while.
pub const ROCKS_IDLE_LOOKS_MAX: u32 = 3000;

/// Bytes that a load in bulk gathers at most before they are sorted and handed to RocksDB as a file; all loads of a process share half of what
/// RocksDB may take, and each has [`ROCKS_MEMTABLE_BYTES_MIN`] at least.
pub const ROCKS_RUN_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Versions of one key that a write looks at for trimming; the rest waits for the next write.
pub const VERSIONS_TRIMMED_MAX: usize = 64;

/// Nesting of a schema's types, references followed; a schema nested deeper does not parse.
pub const SCHEMA_DEPTH_MAX: usize = 200;

/// Items without bytes (nulls, empty records) in one datum's lists; with more, a decode error. A few bytes could ask for
/// 2^63 of them.
pub const EMPTY_ITEMS_MAX: usize = 1024;

/// Bytes of an application id and of a node's name; longer is refused at `check`. Kafka allows 249 for a topic, and internal
/// topics are `<application id>-<node>_subscriptions-repartition` at the longest.
pub const TOPOLOGY_NAME_BYTES_MAX: usize = 100;

/// Text or bytes that one operation of an expression builds; longer is an evaluation error.
pub const EXPRESSION_TEXT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A compiled pattern of `matches`; larger is refused at `check`, or an evaluation error when the pattern is not literal.
pub const EXPRESSION_REGEX_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of records in one batch of the local broker; the batch is closed behind the record that goes beyond.
pub const LOCAL_BATCH_BYTES_MAX: usize = 256 * 1024;

/// Bytes of a partition that the local broker keeps in memory beside its files; older batches are read from the files.
pub const LOCAL_TAIL_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of a partition that wait for a commit; more are written before it.
pub const LOCAL_UNWRITTEN_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of one segment file of the local broker; the next write begins another file.
pub const LOCAL_SEGMENT_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// Bytes of a segment between two entries of its index in memory; a read begins at most so far before its offset.
pub const LOCAL_INDEX_BYTES: u64 = 32 * 1024;

/// Bytes fetched ahead of a partition by the local broker at most; a larger batch is read whole.
pub const LOCAL_CHUNK_BYTES: usize = 512 * 1024;

/// Bytes of the local broker's journal; a longer one is replaced by what it comes to.
pub const LOCAL_JOURNAL_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Bytes of a partition that compaction at open leaves alone.
pub const LOCAL_COMPACT_BYTES_MIN: u64 = 1024 * 1024;

/// Records that one `poll` of the local broker hands out of one partition; more come with the next call.
pub const LOCAL_FETCH_RECORDS_MAX: usize = 1000;

/// Records that one `poll` of the local broker hands out; more come with the next call.
pub const LOCAL_POLL_RECORDS_MAX: usize = 4000;

/// Bytes that one `poll` of the local broker hands out, to within one record; more come with the next call.
pub const LOCAL_POLL_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Partitions of one topic of the local broker; more are refused.
pub const LOCAL_PARTITIONS_MAX: u32 = 1024;

/// Partitions that one `poll` of the local broker hands records out of; the others come with the next call.
pub const LOCAL_POLL_PARTITIONS_MAX: usize = 16;

/// Bytes of one secret's file; a larger one is refused at start.
pub const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Half of this machine's memory when nothing tells how much there is.
pub const MEMORY_BUDGET_FALLBACK_BYTES: u64 = 512 * 1024 * 1024;

/// Least `state.restore_bytes_per_second`; less is refused at start.
pub const RESTORE_BYTES_PER_SECOND_MIN: u64 = 64 * 1024;

/// Records that a restore takes in at once at most where `state.restore_bytes_per_second` is set; more are taken in in turn.
pub const PACED_RECORDS_MAX: usize = 256;

/// Milliseconds between two flushes while a store is restored slowly; a fast restore flushes by [`FLUSH_DISTANCE_BYTES_MAX`]. A crash
/// has the restore go on from the last one.
pub const RESTORE_FLUSH_MS: i64 = 5_000;

/// Milliseconds between two lines of the log about a task that is being restored.
pub const RESTORE_SAY_MS: i64 = 5_000;

/// Offsets from which on a restore is a load in bulk: rows are sorted outside of RocksDB, which merges files more rarely until it is over.
pub const BULK_RESTORE_OFFSETS: u64 = 100_000;

/// Records that a restore in bulk takes in at once; more are taken in in turn, so that what is read of them stays in the processor's caches.
pub const BULK_RECORDS_MAX: usize = 512;

/// Tasks whose changelogs a thread reads at once, those with the least to read first; with a rate to keep to, one.
pub const RESTORES_AT_ONCE: usize = 16;

/// Tasks whose restore a thread begins in one turn: each asks the broker for the ends of its changelogs. The others wait for the next.
pub const RESTORES_BEGUN_PER_TURN: usize = 8;

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

/// Bytes fetched ahead of a partition by the local broker, however many partitions share the consumer's prefetch.
pub const LOCAL_FETCH_BYTES_MIN: usize = 32 * 1024;

/// Bytes of records in one page of a topic; the page ends with the record that reaches it.
pub const TOPIC_PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Milliseconds in which the end of every assigned partition is looked at once, for the lag.
pub const LAG_ROUND_MS: i64 = 5000;

/// Milliseconds between two looks at whether the source topics are still what they were.
pub const SOURCES_LOOK_MS: i64 = 10_000;

/// Milliseconds for which a source topic must be missed to be taken for deleted: a broker that has just started may not know it yet.
pub const SOURCE_MISSED_MS: i64 = 10_000;

/// Turns in which a topology under test must come to rest after an event; one that does not fails its test.
pub const STEPPED_TURNS_MAX: usize = 10_000;

/// Greatest `attempts` of a retry in `on_error`; more are refused at `check`.
pub const RETRY_ATTEMPTS_MAX: u32 = 1000;

/// Longest wait between two attempts; a `backoff` beyond is refused at `check`, and doubling stops here.
pub const RETRY_BACKOFF_MAX_MS: i64 = 5 * 60 * 1000;

/// Time after which a topic that took nothing is tried again.
pub const REFUSED_TOPIC_MS: i64 = 30_000;

/// Bytes of open dead letters of one topic that are looked at; with more, what there is must be deleted first.
pub const DEAD_LETTERS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Dead letters that are settled in one transaction; more are settled in the ones that follow.
pub const DEAD_LETTERS_AT_ONCE_MAX: usize = 500;

/// Rows that a join of streams looks at, at once, for those that are past their time; it goes on with a later row.
pub const TIDY_ROWS_MAX: usize = 256;

/// Rows that a join of streams takes between two looks for what is past its time.
pub const TIDY_EVERY_ROWS: u64 = 64;

/// Rows of a store that a node looks at, at once, when it goes through all of them.
pub const SCAN_ROWS_MAX: usize = 256;

/// Elements that `flatten` makes rows of, a list; a row whose list has more is the record's failure (`E1005`).
pub const FLATTEN_ROWS_MAX: usize = 65_536;

/// Bytes that the elements of one list may send; a row whose elements send more is the record's failure (`E1005`).
pub const FLATTEN_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Lines a second that a `log` writes, a task, unless `lines_per_second` says otherwise.
pub const LOG_LINES_PER_SECOND_DEFAULT: u32 = 10;

/// Greatest `lines_per_second`.
pub const LOG_LINES_PER_SECOND_MAX: u32 = 1000;

/// Bytes of a line's message; what is longer is cut off.
pub const LOG_MESSAGE_BYTES_MAX: usize = 4096;

/// Values that `collect` and `count_distinct` keep a key; the row that would be one more is the record's failure (`E1004`).
pub const COLLECT_VALUES_MAX: usize = 1000;

/// How long the answer to a command is remembered where `commands.within` does not say it: a day.
pub const COMMANDS_WITHIN_DEFAULT_MS: i64 = 86_400_000;

/// Bytes of a command's id, `command-id` or `ce_id`; a longer one is the record's failure (`E1010`).
pub const COMMAND_ID_BYTES_MAX: usize = 256;

/// Milliseconds between two words of an instance about itself when nothing has changed.
pub const INSTANCE_HEARTBEAT_MS: i64 = 3_000;

/// Milliseconds by which an instance's last word is older than the newest of all, by the broker's clock; beyond, it is taken for dead:
/// nothing is asked of it, and no standby is placed on it. A session's time-out and a heartbeat, at least: it is not given up before the
/// group gives it up.
pub const INSTANCE_SILENCE_MAX_MS: i64 = 15_000;

/// Milliseconds of silence, by its own clock, after which an instance claims its place anew: less than what makes it look dead, so that it
/// knows before the others take over.
pub const CLAIM_LAPSE_MS: i64 = 10_000;

/// Bytes of a topology's text that instances tell each other; a larger one is not told, and not compared with others.
pub const DEPLOYED_BYTES_MAX: usize = 512 * 1024;

/// Milliseconds of silence after which the others say of an instance that it has left: a week. Its name will not come back.
pub const INSTANCE_FORGOTTEN_MS: i64 = 7 * 86_400_000;

/// How long one word of an instance about itself may take; then it is said anew, or, when the instance stops, said by its silence.
pub const INSTANCE_WRITE_WAIT: std::time::Duration = std::time::Duration::from_secs(2);

/// How long connecting to another instance may take; then it does not answer.
pub const PEER_CONNECT_WAIT: std::time::Duration = std::time::Duration::from_secs(2);

/// What another instance may take beyond the wait that it is given; then it does not answer.
pub const PEER_ANSWER_MARGIN: std::time::Duration = std::time::Duration::from_secs(2);

/// Greatest `num_standby_replicas`; more is refused at start.
pub const STANDBY_REPLICAS_MAX: usize = 16;

/// Milliseconds between two looks at where a partition ends that a standby follows; each look is at one of them.
pub const STANDBY_LOOK_MS: i64 = 500;
