//! Joins of a stream with a table: what the sides must be, and what the joined row holds.

use super::super::graph::{Join, Nature, NodeId, NodeKind, Rows, Variant};
use super::super::resolve::Item;
use super::super::spec::JoinSpec;
use super::super::terms::JoinKind;
use super::expressions::{Scope, all};
use super::{Checker, Made};
use crate::base::types::{Field, RecordType, Type};
use crate::error::codes;
use std::sync::Arc;

impl Checker<'_> {
    pub(super) fn join(&self, item: &Item<'_>, join: &JoinSpec, left_id: NodeId, right_id: NodeId) -> Made {
        let (left, right) = (self.rows(left_id), self.rows(right_id));
        self.sides(join, left, right_id);
        let row = right.variants.first().map(|variant| Arc::clone(&variant.record))?;
        let row = Type::Record(match join.kind {
            JoinKind::Inner => row,
            JoinKind::Left => maybe_absent(&row),
        });
        // Behind a repartition there is no window.
        let scope = Scope::row("left", left).with("right", row);
        let scope = if left.rekeyed { scope.rekeyed(left.key) } else { scope };
        let (fields, record) = self.selected(&item.name.value, &join.select, &all(&left.variants), &scope)?;
        let rows = Rows {
            variants: vec![Variant { record, schema: None }],
            key: left.key,
            rekeyed: false,
            windowed: left.windowed,
            nature: Nature::Stream,
        };
        Some((NodeKind::Join(Join { left: left_id, right: right_id, kind: join.kind, fields }), rows))
    }

    /// Left a stream, right a table, both by the same kind of key.
    fn sides(&self, join: &JoinSpec, left: &Rows, right_id: NodeId) {
        let right = self.rows(right_id);
        if left.nature == Nature::Table {
            let message = format!("`{}` is a table: a join of two tables is not yet supported", join.left.value);
            let help = format!(
                "to look `{}` up whenever `{}` changes, put a stream between: `[stream.…]` with `from = \"{}\"`",
                join.right.value, join.left.value, join.left.value
            );
            self.error(codes::NOT_YET_SUPPORTED, join.left.place, message, help);
        }
        match &self.nodes[right_id.0].kind {
            NodeKind::Table(_) => {}
            NodeKind::Aggregate(_) | NodeKind::Entity(_) if !right.windowed => {
                let message =
                    format!("looking up an aggregate or entity, `{}`, is not yet supported", join.right.value);
                let help = format!("keep a table of it: `[table.…]` with `from = \"{}\"`", join.right.value);
                self.error(codes::NOT_YET_SUPPORTED, join.right.place, message, help);
            }
            NodeKind::Source(_)
            | NodeKind::Stream(_)
            | NodeKind::Case { .. }
            | NodeKind::Merge { .. }
            | NodeKind::Entity(_)
            | NodeKind::Aggregate(_)
            | NodeKind::Join(_)
            | NodeKind::Sink(_) => {
                let message = format!("the right side of a join is a table, and `{}` is a stream", join.right.value);
                let help = "make it a `[table.…]`, or swap the sides; a join of two streams is not yet supported";
                self.error(codes::JOIN_SIDES, join.right.place, message, help);
            }
        }
        if left.key != right.key {
            let message = format!(
                "the keys do not match: `{}` has {} keys, `{}` has {}",
                join.left.value,
                left.key.name(),
                join.right.value,
                right.key.name()
            );
            let help =
                "rows meet by the bytes of their keys: re-key the left side with `select_key`, or mend `key_format`";
            self.error(codes::JOIN_SIDES, join.left.place, message, help);
        }
    }
}

/// The right row of a left join: where there is none, each of its fields is null.
fn maybe_absent(row: &RecordType) -> Arc<RecordType> {
    let fields = row
        .fields()
        .iter()
        .map(|field| Field { name: field.name.clone(), field_type: field.field_type.clone().optional() });
    RecordType::new(&row.name, fields.collect())
}
