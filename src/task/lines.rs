//! Lines of the log that rows ask for: so many a second and node at most; the next line tells how many were left out.
//!
//! A line says that a row was worked on, not that what it did is committed: after a failure the row, and its line, may come again.

use crate::base::time::Timestamp;
use crate::base::value::Text;
use crate::plan::{LogLevel, NodeIndex};

/// A line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    pub node: Text,
    pub level: LogLevel,
    pub message: String,
    /// Lines of the node that were left out before this one.
    pub left_out: u64,
}

/// The lines that wait to be written, and how many each node has had in the running second.
#[derive(Debug)]
pub(super) struct Lines {
    waiting: Vec<LogLine>,
    nodes: Vec<Second>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Second {
    second: i64,
    lines: u32,
    left_out: u64,
}

impl Lines {
    pub(super) fn new(nodes: usize) -> Self {
        Self { waiting: Vec::new(), nodes: vec![Second::default(); nodes] }
    }

    /// Tells whether a node may write another line at `now`; counts the one that it may not.
    pub(super) fn has_room(&mut self, node: NodeIndex, most: u32, now: Timestamp) -> bool {
        let of = &mut self.nodes[usize::from(node.0)];
        let second = now.0.div_euclid(1000);
        if of.second != second {
            (of.second, of.lines) = (second, 0);
        }
        if of.lines >= most {
            of.left_out += 1;
            return false;
        }
        of.lines += 1;
        true
    }

    pub(super) fn push(&mut self, node: NodeIndex, name: Text, level: LogLevel, message: String) {
        let left_out = std::mem::take(&mut self.nodes[usize::from(node.0)].left_out);
        self.waiting.push(LogLine { node: name, level, message, left_out });
    }

    /// How many lines wait: what [`Lines::truncate`] goes back to.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn truncate(&mut self, kept: usize) {
        self.waiting.truncate(kept);
    }

    pub(super) fn take(&mut self) -> Vec<LogLine> {
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_so_many_lines_a_second_and_then_tells_what_was_left_out() {
        let mut lines = Lines::new(2);
        let say = |lines: &mut Lines, node: u16, now: i64| {
            let node = NodeIndex(node);
            if lines.has_room(node, 2, Timestamp(now)) {
                lines.push(node, Text::new("seen"), LogLevel::Info, now.to_string());
            }
        };
        for now in [0, 10, 20, 999] {
            say(&mut lines, 0, now);
        }
        say(&mut lines, 1, 999);
        say(&mut lines, 0, 1000);
        say(&mut lines, 0, 1001);
        let told: Vec<(String, u64)> = lines.take().into_iter().map(|line| (line.message, line.left_out)).collect();
        let wanted = [("0", 0), ("10", 0), ("999", 0), ("1000", 2), ("1001", 0)];
        assert_eq!(told, wanted.map(|(message, left_out)| (message.to_owned(), left_out)));
        assert!(lines.take().is_empty());
    }
}
