//! Nodes that make rows of rows one at a time, with nothing kept: what an element of a list becomes, what a line of the log says.

use super::{Expression, KeyFormat, LayoutId, LogLevel, PerLayout};

/// Makes a row of each element of a list.
#[derive(Debug)]
pub struct Flatten {
    pub list: PerLayout<Expression>,
    /// Elements are records, whose fields are the slots of `OTHER`; else the element is its one slot.
    pub of_records: bool,
    /// By the input row's layout; `ROW` is that row, `OTHER` the element.
    pub fields: PerLayout<Vec<Expression>>,
    /// The new key, over the same two.
    pub key: Option<(PerLayout<Expression>, KeyFormat)>,
    pub layout: LayoutId,
}

/// Passes rows on and writes a line of the log for each, so many a second at most.
#[derive(Debug)]
pub struct Log {
    pub message: PerLayout<Expression>,
    pub level: LogLevel,
    pub lines_per_second: u32,
}
