//! Stream-time markers: how a task tells the readers of a repartition topic how far it is, also when it sends nothing (D12).
//!
//! A marker is a record without key and value; everything stands in one header:
//!
//! ```text
//! __tidemill_stream_time = format (1) ‖ state (1: 0 = idle, 1 = at) ‖ stream time (8, big-endian) ‖ partition (4) ‖ sub-topology
//! ```

use bytes::Bytes;

use crate::base::ids::TaskId;
use crate::base::record::{Header, Headers};
use crate::base::time::Timestamp;
use crate::base::value::Text;
use crate::task::times::UpstreamTime;

/// The header's name.
pub const MARKER_HEADER: &str = "__tidemill_stream_time";

const FORMAT: u8 = 1;

/// Makes the headers of a marker from `task`; none as `time` says that the task is idle.
pub(super) fn encode(task: &TaskId, time: Option<Timestamp>) -> Headers {
    let mut bytes = vec![FORMAT, u8::from(time.is_some())];
    bytes.extend_from_slice(&time.unwrap_or(Timestamp::UNKNOWN).0.to_be_bytes());
    bytes.extend_from_slice(&task.partition.0.to_be_bytes());
    bytes.extend_from_slice(task.sub_topology.as_bytes());
    Headers::new(vec![Header { name: Text::new(MARKER_HEADER), value: Some(Bytes::from(bytes)) }])
}

/// Reads a marker: which task it is from, and how far that task is. None for an ordinary record, or a marker of a format that
/// this version does not know.
pub(super) fn decode(headers: &Headers) -> Option<(TaskId, UpstreamTime)> {
    let bytes = headers.last(MARKER_HEADER)?.value.as_ref()?;
    let (head, sub_topology) = bytes.split_at_checked(14)?;
    if head[0] != FORMAT {
        return None;
    }
    let time = i64::from_be_bytes(head[2..10].try_into().ok()?);
    let partition = i32::from_be_bytes(head[10..14].try_into().ok()?);
    let task = TaskId::new(std::str::from_utf8(sub_topology).ok()?, partition);
    Some((task, if head[1] == 1 { UpstreamTime::At(time) } else { UpstreamTime::Idle }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_reads_back_what_was_written() {
        let task = TaskId::new("origin_totals", 3);
        assert_eq!(decode(&encode(&task, Some(Timestamp(-5)))), Some((task.clone(), UpstreamTime::At(-5))));
        assert_eq!(decode(&encode(&task, None)), Some((task, UpstreamTime::Idle)));
        assert_eq!(decode(&Headers::default()), None);
    }
}
