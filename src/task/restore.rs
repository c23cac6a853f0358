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
    /// The topic was deleted and made anew: the committed offset counts records of the old one.
    Replaced(Offset),
    /// The committed offset is not in the topic any more, or not yet: somebody deleted what was to be read next. Never reset in
    /// silence.
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

/// What somebody who has looked says to do with an input that cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    /// From the first record that is there.
    Earliest,
    /// From what comes from now on.
    Latest,
    /// Where the committed offset says: the topic that was made anew holds the same records at the same offsets.
    Committed,
}

/// What is known of an input when its task starts.
#[derive(Clone, Copy, Debug)]
pub struct InputFacts {
    /// The group's offset.
    pub group: Option<Offset>,
    /// The meta's: group offsets expire.
    pub meta: Option<Offset>,
    /// The topic is not the one that the offsets are of.
    pub replaced: bool,
    pub first_start: FirstStart,
    pub told: Option<ReadFrom>,
    /// The ends of the partition.
    pub low: Offset,
    pub high: Offset,
}

/// Decides where an input is read on: the group's offset, else the meta's, else as on a first start; where that cannot be, as somebody
/// has said.
pub fn start_offset(facts: &InputFacts) -> StartOffset {
    let InputFacts { group, meta, replaced, first_start, told, low, high } = *facts;
    let start = match (group.or(meta), first_start) {
        (Some(offset), _) if replaced && told != Some(ReadFrom::Committed) => StartOffset::Replaced(offset),
        (Some(offset), _) if offset < low || offset > high => StartOffset::OutOfRange(offset),
        (Some(offset), _) => StartOffset::At(offset),
        (None, FirstStart::Earliest) => StartOffset::At(low),
        (None, FirstStart::Latest) => StartOffset::At(high),
        (None, FirstStart::Error) => StartOffset::Missing,
    };
    match (start, told) {
        (StartOffset::At(_), _) | (_, None | Some(ReadFrom::Committed)) => start,
        (_, Some(ReadFrom::Earliest)) => StartOffset::At(low),
        (_, Some(ReadFrom::Latest)) => StartOffset::At(high),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> InputFacts {
        let (group, meta, told) = (None, None, None);
        InputFacts {
            group,
            meta,
            replaced: false,
            first_start: FirstStart::Error,
            told,
            low: Offset(10),
            high: Offset(20),
        }
    }

    #[test]
    fn group_offsets_come_first_then_meta_then_the_setting() {
        let start = |group: Option<i64>, meta: Option<i64>, first_start| {
            start_offset(&InputFacts { group: group.map(Offset), meta: meta.map(Offset), first_start, ..facts() })
        };
        assert_eq!(start(Some(12), Some(15), FirstStart::Error), StartOffset::At(Offset(12)));
        assert_eq!(start(None, Some(15), FirstStart::Error), StartOffset::At(Offset(15)));
        assert_eq!(start(None, None, FirstStart::Earliest), StartOffset::At(Offset(10)));
        assert_eq!(start(None, None, FirstStart::Latest), StartOffset::At(Offset(20)));
        assert_eq!(start(None, None, FirstStart::Error), StartOffset::Missing);
    }

    #[test]
    fn an_offset_outside_the_topic_is_never_reset_in_silence() {
        let start = |group| {
            let first_start = FirstStart::Earliest;
            start_offset(&InputFacts { group: Some(Offset(group)), first_start, ..facts() })
        };
        assert_eq!(start(9), StartOffset::OutOfRange(Offset(9)));
        assert_eq!(start(21), StartOffset::OutOfRange(Offset(21)));
        assert_eq!(start(20), StartOffset::At(Offset(20)));
    }

    #[test]
    fn somebody_who_looked_decides_where_an_input_is_read_on_that_cannot_be_otherwise() {
        let at = |offset| StartOffset::At(Offset(offset));
        let replaced = InputFacts { meta: Some(Offset(12)), replaced: true, ..facts() };
        let outside = InputFacts { group: Some(Offset(9)), ..facts() };
        let fine = InputFacts { group: Some(Offset(15)), ..facts() };
        let lost = InputFacts { replaced: true, ..outside };
        let out_of_range = StartOffset::OutOfRange(Offset(9));
        let cases = [
            (replaced, StartOffset::Replaced(Offset(12)), at(10), at(20), at(12)),
            (outside, out_of_range, at(10), at(20), out_of_range),
            (lost, StartOffset::Replaced(Offset(9)), at(10), at(20), out_of_range),
            (facts(), StartOffset::Missing, at(10), at(20), StartOffset::Missing),
            (fine, at(15), at(15), at(15), at(15)),
        ];
        for (facts, untold, earliest, latest, committed) in cases {
            let start = |told| start_offset(&InputFacts { told, ..facts });
            assert_eq!(start(None), untold, "{facts:?}");
            assert_eq!(start(Some(ReadFrom::Earliest)), earliest, "{facts:?}");
            assert_eq!(start(Some(ReadFrom::Latest)), latest, "{facts:?}");
            assert_eq!(start(Some(ReadFrom::Committed)), committed, "{facts:?}");
        }
    }
}
