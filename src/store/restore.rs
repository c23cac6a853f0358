//! Decides whether a local store may go on from where it stands in its changelog, or must be set aside and restored in full.
//!
//! Pure: facts in, decision out. Reading the changelog up to its high watermark is the caller's.

use crate::base::ids::Offset;
use crate::base::time::Timestamp;
use crate::limits::{DELETE_RETENTION_DEFAULT_MS, RESTORE_MARGIN_MAX_MS};
use crate::store::{ChangelogPosition, SetAsideReason};

/// What is known about a store and its changelog before a restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreFacts {
    /// Where the local store stands; none: there is nothing local.
    pub local: Option<ChangelogPosition>,
    /// The changelog topic's incarnation, where the broker tells it.
    pub topic_id: Option<String>,
    /// The changelog's first offset.
    pub low: Offset,
    /// The changelog's high watermark, read after the transactions of this task were settled.
    pub high: Offset,
    /// Wall clock of the last moment at which the local store was durable and complete.
    pub last_durable: Option<Timestamp>,
    /// Wall clock.
    pub now: Timestamp,
    /// The changelog's `delete.retention.ms`; none: the broker does not tell, Kafka's default counts.
    pub delete_retention_ms: Option<i64>,
}

/// How to bring a store up to its changelog's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing is missing.
    UpToDate,
    /// Apply the records from this offset on.
    Continue { from: Offset },
    /// Apply all records from the first on; a local store, if there is one, is set aside first.
    FromStart { set_aside: Option<SetAsideReason> },
}

/// Decides how to restore a store.
pub fn decide(facts: &RestoreFacts) -> Decision {
    let Some(local) = &facts.local else { return Decision::FromStart { set_aside: None } };
    let aside = |reason| Decision::FromStart { set_aside: Some(reason) };
    if let (Some(then), Some(today)) = (&local.topic_id, &facts.topic_id)
        && then != today
    {
        return aside(SetAsideReason::TopicReplaced);
    }
    if local.offset > facts.high {
        return aside(SetAsideReason::BeyondEnd);
    }
    if local.offset < facts.low {
        return aside(SetAsideReason::BelowLogStart);
    }
    if local.offset == facts.high {
        return Decision::UpToDate;
    }
    if tombstones_may_be_gone(facts) {
        return aside(SetAsideReason::TooOld);
    }
    Decision::Continue { from: local.offset }
}

/// A tombstone stays readable for `delete.retention.ms`; a store that was away for longer may never learn of a deletion.
fn tombstones_may_be_gone(facts: &RestoreFacts) -> bool {
    let Some(durable) = facts.last_durable else { return true };
    let retention_ms = facts.delete_retention_ms.unwrap_or(DELETE_RETENTION_DEFAULT_MS).max(0);
    // A tenth for clocks that disagree and for commits on their way, but no more than an hour.
    let margin_ms = (retention_ms / 10).min(RESTORE_MARGIN_MAX_MS);
    let age_ms = facts.now.0.saturating_sub(durable.0);
    // A mark from the future says that clocks were changed, not that the store is fresh.
    age_ms > retention_ms - margin_ms || age_ms < -margin_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;

    fn facts() -> RestoreFacts {
        RestoreFacts {
            local: Some(ChangelogPosition { topic_id: Some("a".to_owned()), offset: Offset(50) }),
            topic_id: Some("a".to_owned()),
            low: Offset(10),
            high: Offset(100),
            last_durable: Some(Timestamp(1000 * HOUR_MS)),
            now: Timestamp(1001 * HOUR_MS),
            delete_retention_ms: Some(24 * HOUR_MS),
        }
    }

    fn local(topic_id: Option<&str>, offset: i64) -> Option<ChangelogPosition> {
        Some(ChangelogPosition { topic_id: topic_id.map(str::to_owned), offset: Offset(offset) })
    }

    #[test]
    fn each_fact_decides_as_the_design_says() {
        use SetAsideReason::{BelowLogStart, BeyondEnd, TooOld, TopicReplaced};
        let aside = |reason| Decision::FromStart { set_aside: Some(reason) };
        let go_on = |from| Decision::Continue { from: Offset(from) };
        let at = |hours| Timestamp(hours * HOUR_MS);
        let cases = [
            ("all well", facts(), go_on(50)),
            ("nothing local", RestoreFacts { local: None, ..facts() }, Decision::FromStart { set_aside: None }),
            ("at the end", RestoreFacts { local: local(Some("a"), 100), ..facts() }, Decision::UpToDate),
            (
                "at the end, however old",
                RestoreFacts { local: local(Some("a"), 100), now: at(9000), ..facts() },
                Decision::UpToDate,
            ),
            ("other topic", RestoreFacts { topic_id: Some("b".to_owned()), ..facts() }, aside(TopicReplaced)),
            (
                "other topic, same end",
                RestoreFacts { topic_id: Some("b".to_owned()), local: local(Some("a"), 100), ..facts() },
                aside(TopicReplaced),
            ),
            ("broker without ids", RestoreFacts { topic_id: None, ..facts() }, go_on(50)),
            ("store without id", RestoreFacts { local: local(None, 50), ..facts() }, go_on(50)),
            ("beyond the end", RestoreFacts { local: local(Some("a"), 101), ..facts() }, aside(BeyondEnd)),
            ("at the log start", RestoreFacts { local: local(Some("a"), 10), ..facts() }, go_on(10)),
            ("below the log start", RestoreFacts { local: local(Some("a"), 9), ..facts() }, aside(BelowLogStart)),
            ("never durable", RestoreFacts { last_durable: None, ..facts() }, aside(TooOld)),
            ("just young enough", RestoreFacts { now: at(1023), ..facts() }, go_on(50)),
            ("too old less the margin", RestoreFacts { now: Timestamp(at(1023).0 + 1), ..facts() }, aside(TooOld)),
            ("clock a little back", RestoreFacts { now: at(999), ..facts() }, go_on(50)),
            ("clock far back", RestoreFacts { now: at(990), ..facts() }, aside(TooOld)),
            ("default retention", RestoreFacts { delete_retention_ms: None, now: at(1023), ..facts() }, go_on(50)),
            ("no retention", RestoreFacts { delete_retention_ms: Some(0), ..facts() }, aside(TooOld)),
        ];
        for (name, facts, expected) in cases {
            assert_eq!(decide(&facts), expected, "{name}");
        }
    }
}
