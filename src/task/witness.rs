//! Who sees what a task does, in its order: the simulator, which replays the committed part of it without interruption and
//! compares. Nothing is decided here.

use std::fmt;

use crate::base::ids::{Offset, TaskId, Topic};
use crate::base::time::Timestamp;
use crate::task::TaskMeta;

/// Something a task did. `now` is the wall clock that it was told.
#[derive(Clone, Copy, Debug)]
pub enum Seen<'a> {
    /// It stands where it committed last: it was made of its stores.
    Started,
    /// It worked a record off, or took a marker.
    Took { topic: &'a Topic, offset: Offset, now: Timestamp },
    /// It looked for timers that ring by the wall clock.
    Rang { now: Timestamp },
    /// It did a part of what time brings to its tables.
    DidChore { now: Timestamp },
    /// It closed a generation.
    Sealed { meta: &'a TaskMeta, now: Timestamp },
    /// It went back to its last commit.
    Rewound,
}

/// Is told what tasks do.
pub trait Witness: Send + Sync + fmt::Debug {
    /// A task did something.
    fn sees(&self, task: &TaskId, seen: Seen<'_>);
}
