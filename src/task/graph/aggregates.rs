//! Aggregates on the walk: a row is folded, results go on when `emit` says so, windows close as time passes.

use crate::base::time::Timestamp;
use crate::operator::{self, DropReason, Emitted, Folded, Folding, Hops, RecordContext, Row};
use crate::plan::{Aggregate, Emit, Held, KeyFormat, NodeIndex, NodeKind, SourceIndex, StoreRef, SubTopology, Window};
use crate::store::StoreIndex;

use super::{At, Graph, Step};

impl Graph {
    pub(super) fn aggregate(&mut self, at: At<'_>, node: &Aggregate, row: &Row<'_>, context: &RecordContext) -> Step {
        let operator_time = self.operator_time(at.index);
        let (mut opened, mut changed) = (std::mem::take(&mut self.opened), std::mem::take(&mut self.changed));
        opened.clear();
        changed.clear();
        let folding = Folding {
            row,
            context,
            operator_time,
            stores: &mut self.stores,
            evaluator: &mut self.evaluator,
            opened: &mut opened,
            changed: &mut changed,
        };
        match operator::aggregate(node, folding).map_err(|error| at.failed(error))? {
            Folded::Untouched => {}
            Folded::Dropped(reason) => self.drop_row(at, reason)?,
            Folded::Done { late } => (0..late).for_each(|_| self.count_drop(at.index, DropReason::Late)),
        }
        if let (Some(window), Some(index), Some(key)) = (&node.window, node.due, row.key) {
            for span in &opened {
                let due = operator::schedule(window, index, *span, key, &mut self.stores);
                let due = due.map_err(|error| at.failed(error))?;
                let next = &mut self.times.next_due[at.slot()];
                *next = (*next).min(due);
            }
        }
        if let (Emit::OnUpdate, Some(key)) = (node.emit, row.key) {
            for change in &changed {
                let result = operator::updated(node, key, change, &mut self.stores);
                if let Some(result) = result.map_err(|error| at.failed(error))? {
                    self.emit(at, node, row.key_format, &result, context)?;
                }
            }
        }
        (self.opened, self.changed) = (opened, changed);
        self.close_windows(at, node, row.key_format, context)
    }

    /// Sends an aggregate's result on to its children.
    fn emit(
        &mut self,
        at: At<'_>,
        node: &Aggregate,
        key_format: &KeyFormat,
        result: &Emitted,
        context: &RecordContext,
    ) -> Step {
        self.with_result(node, key_format, result, |graph, row| graph.pass(at, row, context))
    }

    /// The same for a result that no record at hand made.
    fn emit_alone(
        &mut self,
        at: At<'_>,
        node: &Aggregate,
        key_format: &KeyFormat,
        result: &Emitted,
        context: &RecordContext,
    ) -> Step {
        self.with_result(node, key_format, result, |graph, row| graph.pass_result(at, row, context))
    }

    fn with_result(
        &mut self,
        node: &Aggregate,
        key_format: &KeyFormat,
        result: &Emitted,
        send: impl FnOnce(&mut Self, &Row<'_>) -> Step,
    ) -> Step {
        let mut slots = self.pool.pop().unwrap_or_default();
        if let Some(state) = &result.state {
            operator::result_row(node, state, &mut slots);
        }
        let row = Row {
            key: Some(&result.key),
            key_format,
            layout: node.layout,
            slots: result.state.is_some().then_some(slots.as_slice()),
            timestamp: result.timestamp,
            window: result.window,
            previous: None,
            latest: true,
        };
        send(self, &row)?;
        self.pool.push(slots);
        Ok(())
    }

    fn close_windows(&mut self, at: At<'_>, node: &Aggregate, format: &KeyFormat, context: &RecordContext) -> Step {
        let Some(window) = &node.window else { return Ok(()) };
        match (Hops::of(window), node.due) {
            (Some(hops), _) => self.close_hops(at, node, window, hops, format, context),
            (None, Some(index)) => self.sweep(at, node, window, index, format, context),
            (None, None) => Ok(()),
        }
    }

    fn close_hops(
        &mut self,
        at: At<'_>,
        node: &Aggregate,
        window: &Window,
        hops: Hops,
        format: &KeyFormat,
        context: &RecordContext,
    ) -> Step {
        let time = self.operator_time(at.index);
        let open = hops.first_open_start(window, time);
        if open <= self.times.closed_until[at.slot()] {
            return Ok(());
        }
        if node.emit == Emit::OnClose {
            let end = crate::store::keys::windowed(open, b"");
            let mut from = crate::store::keys::windowed(self.times.closed_until[at.slot()], b"");
            while from < end {
                let closed = operator::close_hops(node, window, hops, &from, time, &mut self.stores);
                let (closed, next) = closed.map_err(|error| at.failed(error))?;
                self.emit_closed(at, node, format, &closed, context)?;
                from = next;
            }
        }
        let before = std::mem::replace(&mut self.times.closed_until[at.slot()], open);
        loop {
            let expired = operator::expire_hops(node, window, hops, before, time, &mut self.stores);
            if expired.map_err(|error| at.failed(error))? == 0 {
                return Ok(());
            }
        }
    }

    /// Looks at the windows that are due: sessions and sliding windows.
    fn sweep(
        &mut self,
        at: At<'_>,
        node: &Aggregate,
        window: &Window,
        index: StoreRef,
        format: &KeyFormat,
        context: &RecordContext,
    ) -> Step {
        let time = self.operator_time(at.index);
        while self.times.next_due[at.slot()] <= time {
            let from = self.times.next_due[at.slot()];
            let swept = operator::sweep(node, window, index, from, time, &mut self.stores);
            let swept = swept.map_err(|error| at.failed(error))?;
            self.times.next_due[at.slot()] = swept.next.unwrap_or(Timestamp(i64::MAX));
            if node.emit == Emit::OnClose {
                self.emit_closed(at, node, format, &swept.closed, context)?;
            }
        }
        Ok(())
    }

    /// Final results: time has made them, whatever record moved it.
    fn emit_closed(
        &mut self,
        at: At<'_>,
        node: &Aggregate,
        format: &KeyFormat,
        closed: &[Emitted],
        context: &RecordContext,
    ) -> Step {
        if closed.is_empty() {
            return Ok(());
        }
        let context = context.of_time();
        closed.iter().try_for_each(|result| self.emit_alone(at, node, format, result, &context))
    }

    /// D12: the largest timestamp the node has seen, held back by the slowest live upstream task behind a repartition.
    pub(super) fn operator_time(&self, index: NodeIndex) -> Timestamp {
        let slot = usize::from(index.0);
        self.bounded_by[slot]
            .iter()
            .filter_map(|source| self.times.slowest_upstream(*source))
            .fold(self.times.nodes[slot], Timestamp::min)
    }

    /// The upstream tasks of `source` have moved: windows behind it may close.
    pub(in crate::task) fn upstream_moved(
        &mut self,
        plan: &SubTopology,
        source: SourceIndex,
        context: &RecordContext,
    ) -> Step {
        for slot in 0..plan.nodes.len() {
            let at = At::new(plan, NodeIndex(slot as u16));
            if !self.bounded_by[slot].contains(&source) {
                continue;
            }
            if let NodeKind::Aggregate(node) = &at.node.kind {
                let format = &plan.stores[usize::from(node.store.0)].key;
                self.close_windows(at, node, format, context)?;
            } else if let NodeKind::StreamJoin(join) = &at.node.kind {
                let format = &plan.stores[usize::from(join.left.store.0)].key;
                self.sweep_join(at, join, format, context)?;
            } else {
                self.let_go(at, plan, context)?;
            }
        }
        Ok(())
    }

    /// Lets go of what a node holds, as far as time has come.
    fn let_go(&mut self, at: At<'_>, plan: &SubTopology, context: &RecordContext) -> Step {
        let format = |held: &Held| &plan.stores[usize::from(held.store.0)].key;
        if let NodeKind::Suppress(suppress) = &at.node.kind {
            self.let_through(at, suppress, format(&suppress.held), context)
        } else if let NodeKind::Timer(timer) = &at.node.kind {
            self.ring(at, timer, format(&timer.held), context)
        } else if let NodeKind::StreamTableJoin(join) = &at.node.kind
            && let (Some((_, held)), Some((layout, _))) = (&join.grace, join.fields.iter().next())
        {
            self.join_due(at, join, held, format(held), layout, context)
        } else {
            Ok(())
        }
    }

    /// Emits the results that waited for the commit, in order of first change.
    pub(in crate::task) fn flush_results(&mut self, plan: &SubTopology, context: &RecordContext) -> Step {
        let context = &context.of_time();
        for slot in 0..plan.nodes.len() {
            let at = At::new(plan, NodeIndex(slot as u16));
            let NodeKind::Aggregate(node) = &at.node.kind else { continue };
            if node.emit != Emit::OnCommit {
                continue;
            }
            let format = &plan.stores[usize::from(node.store.0)].key;
            // Its store is written by this node alone, so what changed there is what waits for the commit.
            for (store_key, row) in self.stores.changed(StoreIndex(node.store.0)) {
                for result in self.at_commit(at, node, &store_key, row)? {
                    self.emit_alone(at, node, format, &result, context)?;
                }
            }
        }
        Ok(())
    }

    /// What a changed row of an aggregate's store has to say: its result, or that what was said of it is no more.
    fn at_commit(
        &mut self,
        at: At<'_>,
        node: &Aggregate,
        store_key: &[u8],
        row: Option<crate::store::Row>,
    ) -> Result<Vec<Emitted>, super::NodeError> {
        let split = |window: &Window| operator::split_window_key(window, store_key);
        let (key, window_start) = match &node.window {
            None => (store_key.to_vec(), None),
            Some(window) => match split(window) {
                Some((key, start)) => (key, Some((window, start))),
                None => return Ok(Vec::new()),
            },
        };
        let span =
            |timestamp: Timestamp| window_start.map(|(window, start)| operator::span_of(window, start, timestamp));
        let mut results = Vec::new();
        if node.due.is_some() {
            // A session that grew or became part of another had another end, or is no more.
            let known = self.stores.get_committed(StoreIndex(node.store.0), store_key);
            let known = known.map_err(|error| at.failed(error))?;
            if let Some(known) = known
                && row.as_ref().is_none_or(|row| span(row.timestamp) != span(known.timestamp))
                && !self.is_kept_no_longer(at, node, span(known.timestamp))
            {
                let (window, timestamp) = (span(known.timestamp), known.timestamp);
                results.push(Emitted { key: key.clone(), window, state: None, timestamp });
            }
        }
        if let Some(row) = row {
            let (window, timestamp) = (span(row.timestamp), row.timestamp);
            results.push(Emitted { key, window, state: Some(row.fields), timestamp });
        }
        Ok(results)
    }

    /// A row that went because its retention is over was right to the end.
    fn is_kept_no_longer(&self, at: At<'_>, node: &Aggregate, span: Option<operator::WindowSpan>) -> bool {
        let time = self.operator_time(at.index);
        matches!((&node.window, span), (Some(window), Some(span)) if span.kept_until(window) <= time)
    }
}
