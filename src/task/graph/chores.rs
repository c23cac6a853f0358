//! What time brings to tables: rows that have been kept for long enough go, nodes go through a table's rows again and again.
//!
//! Going through a table is done in parts, between records: no record is worked on before the whole table was gone through, so that
//! the same input gives the same output however the parts fall. How far it came is committed like all times.

use crate::base::ids::{Offset, Partition, Topic};
use crate::base::record::Headers;
use crate::base::time::Timestamp;
use crate::base::value::{Text, Value};
use crate::operator::{self, RecordContext, Row};
use crate::plan::{Clock, Expiry, NodeIndex, NodeKind, Punctuate, StoreRef, SubTopology};

use super::{At, Graph, Step};

/// The nodes of a sub-topology that time brings something to.
#[derive(Debug, Default)]
pub(super) struct Chores {
    expiring: Vec<NodeIndex>,
    punctuating: Vec<NodeIndex>,
}

impl Chores {
    pub(super) fn of(plan: &SubTopology) -> Self {
        let mut chores = Self::default();
        for (index, node) in plan.nodes.iter().enumerate() {
            let index = NodeIndex(index as u16);
            if matches!(&node.kind, NodeKind::Table { expiry: Some(_), .. }) {
                chores.expiring.push(index);
            } else if matches!(&node.kind, NodeKind::Punctuate(_)) {
                chores.punctuating.push(index);
            }
        }
        chores
    }
}

impl Graph {
    /// How far the task is: the largest timestamp it has worked on, held back by the slowest upstream task of any input (D12).
    pub(super) fn task_time(&self) -> Timestamp {
        let sources = 0..self.times.upstream.len();
        let slowest = sources.filter_map(|source| self.times.slowest_upstream(crate::plan::SourceIndex(source as u16)));
        slowest.fold(self.times.stream, Timestamp::min)
    }

    /// Lets rows go that have been kept for as long as their tables say.
    pub(in crate::task) fn expire(&mut self, plan: &SubTopology, context: &RecordContext) -> Step {
        for place in 0..self.chores.expiring.len() {
            let at = At::new(plan, self.chores.expiring[place]);
            if let NodeKind::Table { store, expiry: Some(expiry), layout } = &at.node.kind {
                let time = self.task_time();
                while self.times.next_due[at.slot()] <= time && time != Timestamp::UNKNOWN {
                    let from = self.times.next_due[at.slot()];
                    let expired = operator::expire(*store, expiry, from, time, &mut self.stores);
                    let (rows, next) = expired.map_err(|error| at.failed(error))?;
                    self.times.next_due[at.slot()] = next.unwrap_or(Timestamp(i64::MAX));
                    let context = &context.of_time();
                    for expired in rows {
                        let row = Row {
                            key: Some(&expired.key),
                            key_format: &plan.stores[usize::from(store.0)].key,
                            layout: *layout,
                            slots: None,
                            timestamp: expired.at,
                            window: None,
                            previous: Some(&expired.fields),
                            latest: true,
                        };
                        self.pass_result(at, &row, context)?;
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn upsert_expiring(
        &mut self,
        at: At<'_>,
        store: StoreRef,
        expiry: &Expiry,
        row: &Row<'_>,
        context: &RecordContext,
    ) -> Step {
        let time = self.task_time();
        let upserted = operator::upsert_expiring(store, expiry, time, row, &mut self.stores);
        let (upserted, due) = upserted.map_err(|error| at.failed(error))?;
        if let Some(due) = due {
            let next = &mut self.times.next_due[at.slot()];
            *next = (*next).min(due);
        }
        self.table_changed(at, upserted, row, context)
    }

    /// The first node that has something to do before the next record.
    pub(in crate::task) fn next_chore(&self, plan: &SubTopology, now: Timestamp) -> Option<NodeIndex> {
        let kind = |index: &NodeIndex| &plan.nodes[usize::from(index.0)].kind;
        let lacks_index = |index: &&NodeIndex| {
            let indexed_for = self.times.closed_until[usize::from(index.0)];
            matches!(kind(index), NodeKind::Table { expiry: Some(expiry), .. } if indexed_for.0 != expiry.ttl.0)
        };
        let is_due =
            |index: &&NodeIndex| matches!(kind(index), NodeKind::Punctuate(node) if self.is_due(**index, node, now));
        let lacking = self.chores.expiring.iter().find(lacks_index);
        lacking.or_else(|| self.chores.punctuating.iter().find(is_due)).copied()
    }

    /// Does a part of what a node has to do before the next record.
    pub(in crate::task) fn chore(&mut self, plan: &SubTopology, node: NodeIndex) -> Step {
        let at = At::new(plan, node);
        if let NodeKind::Table { store, expiry: Some(expiry), .. } = &at.node.kind {
            let from = self.times.cursor[at.slot()].take().unwrap_or_default();
            let next = operator::index_expiry(*store, expiry, &from, &mut self.stores);
            let next = next.map_err(|error| at.failed(error))?;
            if next.is_none() {
                self.times.closed_until[at.slot()] = Timestamp(expiry.ttl.0);
                self.times.next_due[at.slot()] = Timestamp::UNKNOWN;
            }
            self.times.cursor[at.slot()] = next;
        }
        if let NodeKind::Punctuate(punctuate) = &at.node.kind {
            if self.times.cursor[at.slot()].is_none() && !self.begins(at, punctuate) {
                return Ok(());
            }
            self.punctuate(at, punctuate)?;
        }
        Ok(())
    }

    fn clock(&self, punctuate: &Punctuate, now: Timestamp) -> Timestamp {
        match punctuate.clock {
            Clock::Stream => self.task_time(),
            Clock::Wall => now,
        }
    }

    /// Tells whether a node is to go through its table, or on with it, or does not know yet when it will.
    fn is_due(&self, index: NodeIndex, punctuate: &Punctuate, now: Timestamp) -> bool {
        let (slot, time) = (usize::from(index.0), self.clock(punctuate, now));
        time != Timestamp::UNKNOWN && (self.times.cursor[slot].is_some() || self.times.closed_until[slot] <= time)
    }

    /// Sets when a node goes through its table next (`PunctuationSchedule`); tells whether it does so now. By the rows' times the
    /// first time is the epoch, by the clock one span from the start on; spans that were missed are not made up for.
    fn begins(&mut self, at: At<'_>, punctuate: &Punctuate) -> bool {
        let (every, time) = (punctuate.every.0.max(1), self.clock(punctuate, self.now));
        let next = &mut self.times.closed_until[at.slot()];
        let due = match (punctuate.clock, *next) {
            (Clock::Wall, Timestamp::UNKNOWN) => {
                *next = time.saturating_add(punctuate.every);
                return false;
            }
            (Clock::Stream, Timestamp::UNKNOWN) => 0,
            (Clock::Stream | Clock::Wall, next) => next.0,
        };
        let missed = time.0.saturating_sub(due) / every;
        *next = Timestamp(due.saturating_add(missed.saturating_add(1).saturating_mul(every)));
        self.times.nodes[at.slot()] = time;
        true
    }

    /// Goes on through a table from where it stands.
    fn punctuate(&mut self, at: At<'_>, node: &Punctuate) -> Step {
        let time = self.times.nodes[at.slot()];
        let from = self.times.cursor[at.slot()].take().unwrap_or_default();
        let part = operator::scan(&node.table, &from, &mut self.stores).map_err(|error| at.failed(error))?;
        self.times.cursor[at.slot()] = part.next;
        let context = RecordContext {
            topic: Topic::new(""),
            partition: Partition(self.task.partition.0),
            offset: Offset(-1),
            timestamp: time,
            type_name: Text::default(),
            schema_id: None,
            headers: Headers::default(),
        };
        for (key, fields) in &part.rows {
            let row = Row {
                key: Some(key),
                key_format: &at.plan.stores[usize::from(node.table.store.0)].key,
                layout: node.row,
                slots: Some(fields),
                timestamp: time,
                window: None,
                previous: None,
                latest: true,
            };
            self.alone(at, &row, &context, |graph| {
                let made = graph.made(node, &row, &context).map_err(|error| at.failed(error))?;
                let Some(slots) = made else { return Ok(()) };
                graph.pass(at, &Row { layout: node.layout, slots: Some(&slots), ..row }, &context)
            })?;
        }
        Ok(())
    }

    fn made(
        &mut self,
        node: &Punctuate,
        row: &Row<'_>,
        context: &RecordContext,
    ) -> Result<Option<Vec<Value>>, operator::Error> {
        if let Some(filter) = &node.filter
            && !self.evaluator.test(filter, row, context)?
        {
            return Ok(None);
        }
        node.fields
            .iter()
            .map(|field| self.evaluator.eval(field, row, &[], context))
            .collect::<Result<_, _>>()
            .map(Some)
    }
}
