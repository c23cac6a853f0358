//! Joins by foreign key on the walk: subscriptions go out and come in, responses go back.

use crate::operator::{self, DropReason, RecordContext, Referred, Response, Row};
use crate::plan::{ForeignJoin, Input, JoinKind, Subscribe, Subscriptions};

use super::{At, Graph, Step};

impl Graph {
    pub(super) fn subscribe(&mut self, at: At<'_>, node: &Subscribe, row: &Row<'_>, context: &RecordContext) -> Step {
        let partition = self.task.partition;
        let said = operator::subscribe(node, row, partition, context, &mut self.evaluator);
        let said = said.map_err(|error| at.failed(error))?;
        if said.is_empty() && row.slots.is_some() && row.latest && node.kind == JoinKind::Inner {
            return self.drop_row(at, DropReason::NullKey);
        }
        for (key, slots) in &said {
            let (key, slots) = (Some(key.as_slice()), Some(slots.as_slice()));
            let said = Row { key, key_format: &node.format, layout: node.layout, slots, previous: None, ..*row };
            self.pass(at, &said, context)?;
        }
        Ok(())
    }

    pub(super) fn subscriptions(
        &mut self,
        at: At<'_>,
        node: &Subscriptions,
        row: &Row<'_>,
        context: &RecordContext,
    ) -> Step {
        if at.input == Input::Left {
            let response =
                operator::take_subscription(node, row, &mut self.stores).map_err(|error| at.failed(error))?;
            return response.iter().try_for_each(|response| self.respond(at, node, row, response, context));
        }
        let mut from = None;
        loop {
            let answered = operator::answer_subscriptions(node, row, from, &mut self.stores);
            let (responses, next) = answered.map_err(|error| at.failed(error))?;
            responses.iter().try_for_each(|response| self.respond(at, node, row, response, context))?;
            if next.is_none() {
                return Ok(());
            }
            from = next;
        }
    }

    fn respond(
        &mut self,
        at: At<'_>,
        node: &Subscriptions,
        row: &Row<'_>,
        response: &Response,
        context: &RecordContext,
    ) -> Step {
        let (key, slots) = (Some(response.key.as_slice()), Some(response.slots.as_slice()));
        let (timestamp, previous) = (response.timestamp, None);
        self.pass(at, &Row { key, layout: node.layout, slots, timestamp, previous, ..*row }, context)
    }

    pub(super) fn foreign_join(
        &mut self,
        at: At<'_>,
        node: &ForeignJoin,
        row: &Row<'_>,
        context: &RecordContext,
    ) -> Step {
        let (stores, evaluator) = (&mut self.stores, &mut self.evaluator);
        let referred = match at.input {
            Input::Left => operator::join_unreferred(node, row, context, evaluator),
            Input::Right => operator::join_response(node, row, context, stores, evaluator),
        };
        match referred.map_err(|error| at.failed(error))? {
            Referred::Nothing => Ok(()),
            Referred::Result(result) => {
                let slots = result.as_deref();
                self.pass(at, &Row { layout: node.layout, slots, previous: None, latest: true, ..*row }, context)
            }
        }
    }
}
