//! Joins on the walk: of a stream with a table, of two streams, of two tables.

use crate::base::time::{SpanMs, Timestamp};
use crate::limits::TIDY_EVERY_ROWS;
use crate::operator::{self, Joined, JoinedRow, Met, RecordContext, Row, SideTimes, TableChange};
use crate::plan::{GlobalJoin, Held, Input, KeyFormat, LayoutId, StreamJoin, StreamTableJoin, TableJoin};
use crate::store::keys::{self, KeyReader};

use super::{At, Graph, Step};

impl Graph {
    pub(super) fn join(&mut self, at: At<'_>, join: &StreamTableJoin, row: &Row<'_>, context: &RecordContext) -> Step {
        if let Some((grace, held)) = &join.grace {
            return self.join_in_time(at, join, *grace, held, row, context);
        }
        self.join_now(at, join, row, context)
    }

    /// Rows wait for versions of the table that come late, then go in the order of their times and keys; one that is late itself does not
    /// wait (`KStreamKTableJoinProcessor`).
    fn join_in_time(
        &mut self,
        at: At<'_>,
        join: &StreamTableJoin,
        grace: SpanMs,
        held: &Held,
        row: &Row<'_>,
        context: &RecordContext,
    ) -> Step {
        let due = row.timestamp.saturating_add(grace);
        match (row.key, row.slots) {
            (Some(key), Some(slots)) if due > self.operator_time(at.index) => {
                self.times.sequence[at.slot()] += 1;
                let mut what = keys::key_prefix(key);
                keys::push_u64(&mut what, self.times.sequence[at.slot()]);
                self.hold(at, held, &what, due, row.timestamp, Some(slots))?;
            }
            (_, _) => self.join_now(at, join, row, context)?,
        }
        self.join_due(at, join, held, row.key_format, row.layout, context)
    }

    /// Joins the rows that have waited long enough; they have one layout.
    pub(super) fn join_due(
        &mut self,
        at: At<'_>,
        join: &StreamTableJoin,
        held: &Held,
        key_format: &KeyFormat,
        layout: LayoutId,
        context: &RecordContext,
    ) -> Step {
        let time = self.operator_time(at.index);
        while let Some(rows) = self.released(at, held, time, None)? {
            for waited in rows {
                let key = KeyReader::new(&waited.what).bytes().map_err(|error| at.failed(error))?;
                let row = Row {
                    key: Some(&key),
                    key_format,
                    layout,
                    slots: waited.fields.as_deref(),
                    timestamp: waited.timestamp,
                    window: None,
                    previous: None,
                    latest: true,
                };
                self.alone(at, &row, context, |graph| graph.join_now(at, join, &row, context))?;
            }
        }
        Ok(())
    }

    fn join_now(&mut self, at: At<'_>, join: &StreamTableJoin, row: &Row<'_>, context: &RecordContext) -> Step {
        let mut slots = self.pool.pop().unwrap_or_default();
        let table_time =
            join.table.versioned.map_or(Timestamp::UNKNOWN, |of| self.times.nodes[usize::from(of.table.0)]);
        let (stores, evaluator) = (&mut self.stores, &mut self.evaluator);
        let joined = operator::join(join, row, table_time, context, stores, evaluator, &mut slots);
        match joined.map_err(|error| at.failed(error))? {
            Joined::Dropped(reason) => self.drop_row(at, reason)?,
            Joined::NoMatch => {}
            Joined::Row => self.pass(at, &Row { layout: join.layout, slots: Some(&slots), ..*row }, context)?,
        }
        self.pool.push(slots);
        Ok(())
    }

    pub(super) fn global_join(
        &mut self,
        at: At<'_>,
        join: &GlobalJoin,
        row: &Row<'_>,
        context: &RecordContext,
    ) -> Step {
        let mut slots = self.pool.pop().unwrap_or_default();
        let stores = &self.resolved.globals;
        let joined = operator::join_global(join, row, context, stores, &mut self.evaluator, &mut slots);
        match joined.map_err(|error| at.failed(error))? {
            Joined::Dropped(reason) => self.drop_row(at, reason)?,
            Joined::NoMatch => {}
            Joined::Row => self.pass(at, &Row { layout: join.layout, slots: Some(&slots), ..*row }, context)?,
        }
        self.pool.push(slots);
        Ok(())
    }

    pub(super) fn table_join(&mut self, at: At<'_>, join: &TableJoin, row: &Row<'_>, context: &RecordContext) -> Step {
        let change = operator::join_tables(join, at.input, row, context, &mut self.stores, &mut self.evaluator);
        match change.map_err(|error| at.failed(error))? {
            TableChange::Unchanged => Ok(()),
            TableChange::Dropped(reason) => self.drop_row(at, reason),
            TableChange::Changed { row: joined, previous, timestamp } => {
                let (slots, previous) = (joined.as_deref(), previous.as_deref());
                self.pass(at, &Row { layout: join.layout, slots, previous, timestamp, window: None, ..*row }, context)
            }
        }
    }

    pub(super) fn stream_join(
        &mut self,
        at: At<'_>,
        join: &StreamJoin,
        row: &Row<'_>,
        context: &RecordContext,
    ) -> Step {
        if row.slots.is_some() && row.key.is_some() {
            let seen = match at.input {
                Input::Left => &mut self.times.left[at.slot()],
                Input::Right => &mut self.times.right[at.slot()],
            };
            *seen = (*seen).max(row.timestamp);
            self.sweep_join(at, join, row.key_format, context)?;
        }
        let times = self.side_times(at);
        self.times.sequence[at.slot()] += 1;
        let sequence = self.times.sequence[at.slot()];
        if sequence.is_multiple_of(TIDY_EVERY_ROWS) {
            for (side, place, time) in [(Input::Left, 0, times.left), (Input::Right, 1, times.right)] {
                let tidying = &mut self.tidying[at.slot()][place];
                operator::tidy_up(join, side, time, tidying, &mut self.stores).map_err(|error| at.failed(error))?;
            }
        }
        let (stores, evaluator) = (&mut self.stores, &mut self.evaluator);
        let joined = operator::join_streams(join, at.input, row, sequence, times, context, stores, evaluator);
        match joined.map_err(|error| at.failed(error))? {
            Met::Dropped(reason) => self.drop_row(at, reason),
            Met::Rows { results, due } => {
                if let Some(due) = due {
                    let next = &mut self.times.next_due[at.slot()];
                    *next = (*next).min(due);
                }
                self.send_joined(at, join, row.key_format, &results, context)
            }
        }
    }

    /// Looks at the rows of a join that are due by its time.
    pub(super) fn sweep_join(
        &mut self,
        at: At<'_>,
        join: &StreamJoin,
        format: &KeyFormat,
        context: &RecordContext,
    ) -> Step {
        let times = self.side_times(at);
        while self.times.next_due[at.slot()] <= times.operator {
            let from = self.times.next_due[at.slot()];
            let swept = operator::sweep_join(join, from, times, &mut self.stores);
            let swept = swept.map_err(|error| at.failed(error))?;
            self.times.next_due[at.slot()] = swept.next.unwrap_or(Timestamp(i64::MAX));
            for unmatched in &swept.unmatched {
                let row = Row {
                    key: Some(&unmatched.key),
                    key_format: format,
                    layout: join.layout,
                    slots: None,
                    timestamp: unmatched.timestamp,
                    window: None,
                    previous: None,
                    latest: true,
                };
                self.alone(at, &row, context, |graph| {
                    let joined = operator::join_alone(join, unmatched, format, context, &mut graph.evaluator);
                    let joined = joined.map_err(|error| at.failed(error))?;
                    graph.pass_result(at, &Row { slots: Some(&joined.slots), ..row }, context)
                })?;
            }
        }
        Ok(())
    }

    fn send_joined(
        &mut self,
        at: At<'_>,
        join: &StreamJoin,
        key_format: &KeyFormat,
        results: &[JoinedRow],
        context: &RecordContext,
    ) -> Step {
        for result in results {
            let row = Row {
                key: result.key.as_deref(),
                key_format,
                layout: join.layout,
                slots: Some(&result.slots),
                timestamp: result.timestamp,
                window: None,
                previous: None,
                latest: true,
            };
            self.pass(at, &row, context)?;
        }
        Ok(())
    }

    /// A side is no further than the operator: behind a repartition, its slowest upstream task (D12).
    fn side_times(&self, at: At<'_>) -> SideTimes {
        let operator = self.operator_time(at.index);
        let side = |seen: &[Timestamp]| seen[at.slot()].min(operator);
        SideTimes { left: side(&self.times.left), right: side(&self.times.right), operator }
    }
}
