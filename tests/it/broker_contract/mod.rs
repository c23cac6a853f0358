//! What every broker behind the seam must do, as functions over `dyn Broker`; each runs on every implementation.
//!
//! Waits are bounded and nothing sleeps: a case polls until it has seen what it waits for, on a broker with real latencies
//! too. `unique` goes into every name, so that cases can share a cluster.

#![expect(clippy::unwrap_used, reason = "a case that cannot go on fails")]

pub(crate) mod groups;
pub(crate) mod kit;
mod local;
mod model;
pub(crate) mod records;
pub(crate) mod topics;
pub(crate) mod transactions;

/// Names every case once and runs it on what `$broker` makes: `contract_tests!(some_module, || make_a_broker())`.
///
/// `$broker` returns a pair: a `Broker`, and whatever must outlive it.
macro_rules! contract_tests {
    ($module:ident, $broker:expr) => {
        mod $module {
            use super::*;

            contract_tests!(@cases $broker;
                transactions::contract_commit_shows_and_abort_hides,
                transactions::contract_open_transaction_holds_back_later_records,
                transactions::contract_newer_producer_fences_the_older,
                transactions::contract_offsets_commit_with_the_transaction_or_not_at_all,
                transactions::contract_stale_generation_cannot_commit_offsets,
                transactions::contract_acknowledged_tells_what_was_written,
                transactions::contract_end_is_said_behind_markers_and_aborted_records,
                groups::contract_each_record_is_processed_once_across_a_rebalance,
                groups::contract_range_aligns_equal_numbers_of_two_topics,
                groups::contract_member_that_leaves_is_replaced,
                groups::contract_group_with_members_is_not_deleted,
                groups::contract_consumer_commits_are_kept_and_fenced,
                records::contract_records_come_back_as_they_were_sent,
                records::contract_send_and_wait_returns_the_offset,
                records::contract_seek_pause_and_resume,
                records::contract_records_stay_while_only_the_group_is_asked,
                records::contract_offset_that_is_not_there_is_an_error,
                records::contract_record_above_the_limit_is_refused,
                topics::contract_topics_are_created_described_listed_deleted,
                topics::contract_topic_made_anew_has_another_id,
                topics::contract_topic_that_is_given_partitions_keeps_what_it_has,
                topics::contract_compacted_topic_is_accepted,
                topics::contract_deleted_records_are_gone,
                topics::contract_append_time_never_goes_back,
            );
        }
    };
    (@cases $broker:expr; $($file:ident :: $case:ident,)*) => {
        $(
            #[test]
            fn $case() {
                let (broker, _kept) = $broker();
                let unique = format!("{}-{}", stringify!($case).replace('_', "-"), kit::run_id());
                crate::broker_contract::$file::$case(&broker, &unique);
            }
        )*
    };
}

#[allow(unused_imports, reason = "for the wrappers of brokers that need a server")]
pub(crate) use contract_tests;

contract_tests!(in_memory, || (tidemill::broker::local::LocalBroker::in_memory(), ()));

contract_tests!(on_disk, || {
    let directory = tempfile::tempdir().unwrap();
    (tidemill::broker::local::LocalBroker::open(directory.path()).unwrap(), directory)
});
