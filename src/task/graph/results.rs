//! Rows that no record at hand made: a window that closed, a timer that rang, what was held, what waited for the commit. When
//! something fails behind such a row, the row is what is given up: the record that happened to move the time is not to blame, and
//! would be followed by others that meet the same row again.
//!
//! Where everything behind stops the task when it fails, nothing is kept apart and it costs nothing.

use crate::operator::{self, DropReason, RecordContext, Row};
use crate::plan::{Child, ErrorAction, NodeIndex, NodeKind, SubTopology};
use crate::task::failure::letter;

use super::{At, Graph, NodeError, Step};

impl Graph {
    /// Hands such a row to the node's children.
    pub(super) fn pass_result(&mut self, at: At<'_>, row: &Row<'_>, context: &RecordContext) -> Step {
        self.alone(at, row, context, |graph| graph.pass(at, row, context))
    }

    /// Works on such a row, at the node itself and behind it; it is what stands or falls.
    pub(super) fn alone(
        &mut self,
        at: At<'_>,
        row: &Row<'_>,
        context: &RecordContext,
        work: impl FnOnce(&mut Self) -> Step,
    ) -> Step {
        if !self.passes_failures[at.slot()] {
            return work(self);
        }
        self.save();
        match work(self) {
            Ok(()) => {
                self.finish();
                Ok(())
            }
            Err(NodeError { node, error: operator::Error::Record { message } }) => {
                self.undo_last();
                self.give_up(at.plan, node, DropReason::Process, message, row, context)
            }
            Err(NodeError { node, error: operator::Error::Produce { reason, message } }) => {
                self.undo_last();
                self.give_up(at.plan, node, reason, message, row, context)
            }
            Err(failed @ NodeError { error: operator::Error::Store(_) | operator::Error::Stop { .. }, .. }) => {
                Err(failed)
            }
        }
    }

    /// Does with the row what the node that failed says. Trying again is of no use: the same row gives the same result.
    fn give_up(
        &mut self,
        plan: &SubTopology,
        node: NodeIndex,
        reason: DropReason,
        message: String,
        row: &Row<'_>,
        context: &RecordContext,
    ) -> Step {
        let failed = &plan.nodes[usize::from(node.0)];
        let on_error = match reason {
            DropReason::TooLarge | DropReason::Produce => &failed.on_produce_error,
            DropReason::NullKey
            | DropReason::NullValue
            | DropReason::Late
            | DropReason::UndeclaredType
            | DropReason::Decode
            | DropReason::Process
            | DropReason::Future
            | DropReason::Duplicate => &failed.on_process_error,
        };
        let stop = |message: String| Err(NodeError { node, error: operator::Error::Stop { message } });
        match &on_error.action {
            ErrorAction::StopTask => return stop(message),
            ErrorAction::Skip => {}
            ErrorAction::DeadLetter { topic } => {
                let target = match self.refusals.dead_letter_topic(topic, row.key.is_none()) {
                    Ok(target) => target,
                    Err(why) => return stop(format!("{message}; {why}")),
                };
                let fields = &plan.layouts[usize::from(row.layout.0)].slots;
                let letter = letter(&self.task, &failed.name, reason, &message, context).of_row(&target, row, fields);
                if letter.size_bytes() > target.record_bytes_max {
                    return stop(format!("{message}; {}", too_large(letter.size_bytes(), &target)));
                }
                self.push_out(letter);
                self.failures[usize::from(node.0)].dead_letters[reason as usize] += 1;
            }
        }
        self.failures[usize::from(node.0)].drop_one(reason);
        Ok(())
    }
}

/// Why a dead letter cannot be written.
pub(in crate::task) fn too_large(size_bytes: usize, target: &super::DeadLetterTopic) -> String {
    let super::DeadLetterTopic { topic, record_bytes_max, .. } = target;
    format!("the dead letter has {size_bytes} bytes, topic `{topic}` takes {record_bytes_max} (E1003)")
}

/// For each node, whether it or a node that a row of its comes to does otherwise than stop the task.
pub(super) fn passes_failures(plan: &SubTopology) -> Vec<bool> {
    let own = |index: usize| {
        let node = &plan.nodes[index];
        let passes = |action: &ErrorAction| *action != ErrorAction::StopTask;
        let writes = matches!(node.kind, NodeKind::Sink { .. } | NodeKind::Repartition { .. });
        passes(&node.on_process_error.action) || (writes && passes(&node.on_produce_error.action))
    };
    let mut passes: Vec<bool> = (0..plan.nodes.len()).map(own).collect();
    loop {
        let before = passes.clone();
        for (index, node) in plan.nodes.iter().enumerate() {
            passes[index] |= node.children.iter().any(|Child { node, .. }| passes[usize::from(node.0)]);
        }
        if passes == before {
            return passes;
        }
    }
}
