//! Where a task starts: which meta is the newest, and at which offset each input is read on. Pure decisions over facts that
//! the host has gathered after the transactional id was fenced and the group's offsets were stable.

use serde::{Deserialize, Serialize};

use crate::base::ids::Offset;
use crate::task::times::TaskMeta;

/// A task's meta row at rest: the meta, and how much of the meta topic it has seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AtRest {
    pub meta: TaskMeta,
    /// Next offset of the meta topic's partition; none when it is not known.
    pub next_offset: Option<i64>,
}

impl AtRest {
    /// Returns the row's bytes.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("maps from text to numbers are JSON")
    }

    /// Reads the row's bytes.
    ///
    /// # Errors
    /// Says what is wrong with them.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|error| format!("the task's meta row at rest: {error}"))
    }
}

/// Where an input's reading starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartOffset {
    At(Offset),
    /// The committed offset is not in the topic any more, or not yet: somebody deleted what was to be read next, or the topic was
    /// made anew. Never reset in silence.
    OutOfRange(Offset),
    /// There is no committed offset, and the settings say that this is an error.
    Missing,
}

/// What a first start does, when neither the group nor the meta topic knows an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstStart {
    Earliest,
    Latest,
    Error,
}

/// Decides where an input is read on: the group's offset, else the meta's (group offsets expire), else as on a first start.
/// `low` and `high` are the ends of the partition.
pub fn start_offset(
    group: Option<Offset>,
    meta: Option<Offset>,
    first_start: FirstStart,
    low: Offset,
    high: Offset,
) -> StartOffset {
    match (group.or(meta), first_start) {
        (Some(offset), _) if offset < low || offset > high => StartOffset::OutOfRange(offset),
        (Some(offset), _) => StartOffset::At(offset),
        (None, FirstStart::Earliest) => StartOffset::At(low),
        (None, FirstStart::Latest) => StartOffset::At(high),
        (None, FirstStart::Error) => StartOffset::Missing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_offsets_come_first_then_meta_then_the_setting() {
        let start = |group: Option<i64>, meta: Option<i64>, first| {
            start_offset(group.map(Offset), meta.map(Offset), first, Offset(10), Offset(20))
        };
        assert_eq!(start(Some(12), Some(15), FirstStart::Error), StartOffset::At(Offset(12)));
        assert_eq!(start(None, Some(15), FirstStart::Error), StartOffset::At(Offset(15)));
        assert_eq!(start(None, None, FirstStart::Earliest), StartOffset::At(Offset(10)));
        assert_eq!(start(None, None, FirstStart::Latest), StartOffset::At(Offset(20)));
        assert_eq!(start(None, None, FirstStart::Error), StartOffset::Missing);
    }

    #[test]
    fn an_offset_outside_the_topic_is_never_reset_in_silence() {
        let start = |group| start_offset(Some(Offset(group)), None, FirstStart::Earliest, Offset(10), Offset(20));
        assert_eq!(start(9), StartOffset::OutOfRange(Offset(9)));
        assert_eq!(start(21), StartOffset::OutOfRange(Offset(21)));
        assert_eq!(start(20), StartOffset::At(Offset(20)));
    }
}
