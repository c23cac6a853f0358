//! Nodes that hold rows until a time comes: suppress, dedupe, timers.

use crate::base::time::Timestamp;
use crate::base::value::Value;
use crate::operator::{self, DropReason, HeldRow, Holding, RecordContext, Row, WindowSpan, key_bytes};
use crate::plan::{
    Clock, Dedupe, Held, Input, KeyFormat, NodeIndex, NodeKind, SubTopology, Suppress, SuppressBounds, SuppressUntil,
    TIMER_SYSTEM_FIELDS, Timer, WhenFull,
};
use crate::store::keys::{self, KeyReader};
use crate::task::lineage;

use super::{At, Graph, NodeError, Step};

impl Graph {
    /// Holds a row.
    pub(super) fn hold(
        &mut self,
        at: At<'_>,
        held: &Held,
        what: &[u8],
        due: Timestamp,
        timestamp: Timestamp,
        fields: Option<&[Value]>,
    ) -> Result<Holding, NodeError> {
        let holding = operator::hold(held, what, due, timestamp, fields, &mut self.stores);
        let holding = holding.map_err(|error| at.failed(error))?;
        if let Some(due) = holding.due {
            let next = &mut self.times.next_due[at.slot()];
            *next = (*next).min(due);
        }
        Ok(holding)
    }

    /// Takes out what is due at `time`, a part at a time; none when nothing is.
    pub(super) fn released(
        &mut self,
        at: At<'_>,
        held: &Held,
        time: Timestamp,
        most: Option<usize>,
    ) -> Result<Option<Vec<HeldRow>>, NodeError> {
        if self.times.next_due[at.slot()] > time {
            return Ok(None);
        }
        let from = self.times.next_due[at.slot()];
        let released = operator::release(held, from, time, most, &mut self.stores).map_err(|error| at.failed(error))?;
        self.times.next_due[at.slot()] = released.next.unwrap_or(Timestamp(i64::MAX));
        Ok(Some(released.rows))
    }

    pub(super) fn suppress(&mut self, at: At<'_>, node: &Suppress, row: &Row<'_>, context: &RecordContext) -> Step {
        let Some(key) = row.key else { return self.drop_row(at, DropReason::NullKey) };
        let due = match (node.until, row.window) {
            (SuppressUntil::WindowClose(window), Some(span)) => span.closes_at(&window),
            (SuppressUntil::WindowClose(_), None) => row.timestamp,
            (SuppressUntil::Time(span), _) => row.timestamp.saturating_add(span),
        };
        let holding = self.hold(at, &node.held, &named(key, row.window), due, row.timestamp, row.slots)?;
        self.times.sequence[at.slot()] += u64::from(holding.due.is_some());
        let bytes = &mut self.times.bytes[at.slot()];
        *bytes = bytes.saturating_add(holding.bytes).saturating_sub(holding.bytes_before);
        self.let_through(at, node, row.key_format, context)
    }

    /// Lets through what was held for long enough, and what there is no room for.
    pub(super) fn let_through(
        &mut self,
        at: At<'_>,
        node: &Suppress,
        key_format: &KeyFormat,
        context: &RecordContext,
    ) -> Step {
        let time = self.operator_time(at.index);
        while let Some(rows) = self.released(at, &node.held, time, None)? {
            self.suppressed(at, node, key_format, &rows, context)?;
        }
        while self.is_over(at, &node.bounds) {
            if node.bounds.when_full == WhenFull::Stop {
                let (rows, bytes) = (self.times.sequence[at.slot()], self.times.bytes[at.slot()]);
                let message =
                    format!("`{}` holds {rows} rows of {bytes} bytes, which is too much (E1006)", at.node.name);
                return Err(at.failed(operator::Error::Record { message }));
            }
            let rows = self.released(at, &node.held, Timestamp(i64::MAX), Some(1))?.unwrap_or_default();
            if rows.is_empty() {
                break;
            }
            self.suppressed(at, node, key_format, &rows, context)?;
        }
        Ok(())
    }

    /// Tells whether more is held than there is room for (`KTableSuppressProcessor.overCapacity`).
    fn is_over(&self, at: At<'_>, bounds: &SuppressBounds) -> bool {
        bounds.records_max.is_some_and(|most| self.times.sequence[at.slot()] > most)
            || bounds.bytes_max.is_some_and(|most| self.times.bytes[at.slot()] > most)
    }

    fn suppressed(
        &mut self,
        at: At<'_>,
        node: &Suppress,
        key_format: &KeyFormat,
        rows: &[HeldRow],
        context: &RecordContext,
    ) -> Step {
        let count = &mut self.times.sequence[at.slot()];
        *count = count.saturating_sub(rows.len() as u64);
        let bytes = &mut self.times.bytes[at.slot()];
        *bytes = bytes.saturating_sub(rows.iter().map(|row| row.bytes).sum());
        let context = &context.of_time();
        for held in rows {
            // A window that is no more has no final result.
            if held.fields.is_none() && matches!(node.until, SuppressUntil::WindowClose(_)) {
                continue;
            }
            let Some((key, window)) = name_of(&held.what) else { continue };
            let row = Row {
                key: Some(&key),
                key_format,
                layout: node.layout,
                slots: held.fields.as_deref(),
                timestamp: held.timestamp,
                window,
                previous: None,
                latest: true,
            };
            self.pass_result(at, &row, context)?;
        }
        Ok(())
    }

    /// Passes a row whose id has not come within the span.
    pub(super) fn dedupe(&mut self, at: At<'_>, node: &Dedupe, row: &Row<'_>, context: &RecordContext) -> Step {
        let Some(expression) = node.id.get(row.layout) else { return Ok(()) };
        if row.slots.is_none() {
            return self.drop_row(at, DropReason::NullValue);
        }
        self.forget(at, node)?;
        let id = self.evaluator.eval(expression, row, &[], context).map_err(|error| at.failed(error))?;
        let format = if matches!(id, Value::Int(_)) {
            KeyFormat::Long
        } else if matches!(id, Value::Bytes(_)) {
            KeyFormat::Bytes
        } else {
            KeyFormat::String
        };
        let mut what = Vec::new();
        key_bytes(&id, &format, &mut what).map_err(|error| at.failed(error))?;
        let seen = operator::is_held(&node.held, &what, &mut self.stores).map_err(|error| at.failed(error))?;
        if seen.is_some_and(|first| row.timestamp < first.saturating_add(node.within)) {
            return self.drop_row(at, DropReason::Duplicate);
        }
        let due = row.timestamp.saturating_add(node.within);
        self.hold(at, &node.held, &what, due, row.timestamp, Some(&[]))?;
        self.pass(at, row, context)
    }

    fn forget(&mut self, at: At<'_>, node: &Dedupe) -> Step {
        let time = self.operator_time(at.index);
        while self.released(at, &node.held, time, None)?.is_some() {}
        Ok(())
    }

    /// A row of the left side sets the key's timer anew, one of the right side cancels it.
    pub(super) fn timer(&mut self, at: At<'_>, node: &Timer, row: &Row<'_>, context: &RecordContext) -> Step {
        let Some(key) = row.key else { return self.drop_row(at, DropReason::NullKey) };
        self.ring(at, node, row.key_format, context)?;
        if at.input == Input::Right {
            return operator::drop_held(&node.held, key, &mut self.stores)
                .map(|_| ())
                .map_err(|error| at.failed(error));
        }
        let Some(fields) = node.fields.get(row.layout) else { return Ok(()) };
        if row.slots.is_none() {
            return self.drop_row(at, DropReason::NullValue);
        }
        let mut slots = Vec::with_capacity(fields.len());
        for field in fields {
            slots.push(self.evaluator.eval(field, row, &[], context).map_err(|error| at.failed(error))?);
        }
        slots.extend(lineage::kept(context));
        operator::drop_held(&node.held, key, &mut self.stores).map_err(|error| at.failed(error))?;
        let from = match node.clock {
            Clock::Stream => row.timestamp,
            Clock::Wall => self.now,
        };
        self.hold(at, &node.held, key, from.saturating_add(node.after), row.timestamp, Some(&slots))?;
        Ok(())
    }

    /// Sends the rows of timers that have run out; each has the time that it was set to.
    pub(super) fn ring(&mut self, at: At<'_>, node: &Timer, key_format: &KeyFormat, context: &RecordContext) -> Step {
        let time = match node.clock {
            Clock::Stream => self.operator_time(at.index),
            Clock::Wall => self.now,
        };
        while let Some(rows) = self.released(at, &node.held, time, None)? {
            for held in rows {
                let fields = held.fields.as_deref().unwrap_or_default();
                let (slots, origin) = fields.split_at(fields.len().saturating_sub(TIMER_SYSTEM_FIELDS.len()));
                let row = Row {
                    key: Some(&held.what),
                    key_format,
                    layout: node.layout,
                    slots: Some(slots),
                    timestamp: held.due,
                    window: None,
                    previous: None,
                    latest: true,
                };
                self.pass_result(at, &row, &lineage::given_back(context, origin))?;
            }
        }
        Ok(())
    }

    /// Tells whether a timer that goes by the wall clock may have run out.
    pub(in crate::task) fn rings_at(&self, plan: &SubTopology, now: Timestamp) -> bool {
        plan.nodes.iter().enumerate().any(|(slot, node)| by_the_wall(&node.kind) && self.times.next_due[slot] <= now)
    }

    /// Lets the timers that go by the wall clock ring; `begin` has been told the time.
    pub(in crate::task) fn ring_all(&mut self, plan: &SubTopology, context: &RecordContext) -> Step {
        for slot in 0..plan.nodes.len() {
            let at = At::new(plan, NodeIndex(slot as u16));
            if let NodeKind::Timer(timer) = &at.node.kind
                && timer.clock == Clock::Wall
            {
                let format = &plan.stores[usize::from(timer.held.store.0)].key;
                self.ring(at, timer, format, context)?;
            }
        }
        Ok(())
    }
}

fn by_the_wall(kind: &NodeKind) -> bool {
    matches!(kind, NodeKind::Timer(timer) if timer.clock == Clock::Wall)
}

/// What a row is held under: its key, and its window where it has one. Sorts by key, then by window.
fn named(key: &[u8], window: Option<WindowSpan>) -> Vec<u8> {
    let mut what = keys::key_prefix(key);
    if let Some(span) = window {
        keys::push_i64(&mut what, span.start.0);
        keys::push_i64(&mut what, span.end.0);
    }
    what
}

fn name_of(what: &[u8]) -> Option<(Vec<u8>, Option<WindowSpan>)> {
    let mut reader = KeyReader::new(what);
    let key = reader.bytes().ok()?;
    let Ok(start) = reader.i64() else { return Some((key, None)) };
    let end = reader.i64().ok()?;
    Some((key, Some(WindowSpan { start: Timestamp(start), end: Timestamp(end) })))
}
