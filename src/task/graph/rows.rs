//! Nodes that look at one row at a time and keep nothing: elements of lists, lines of the log.

use crate::base::value::Value;
use crate::limits::{FLATTEN_BYTES_MAX, FLATTEN_ROWS_MAX, LOG_MESSAGE_BYTES_MAX};
use crate::operator::{self, DropReason, RecordContext, Row, key_bytes};
use crate::plan::{Flatten, Log};

use super::{At, Graph, Step};

impl Graph {
    /// Makes a row of each element of a list, in its order (Kafka Streams' `KStreamFlatMap`).
    pub(super) fn flatten(&mut self, at: At<'_>, node: &Flatten, row: &Row<'_>, context: &RecordContext) -> Step {
        let (Some(list), Some(fields)) = (node.list.get(row.layout), node.fields.get(row.layout)) else {
            return Ok(());
        };
        if row.slots.is_none() {
            return self.drop_row(at, DropReason::NullValue);
        }
        let list = self.evaluator.eval(list, row, &[], context).map_err(|error| at.failed(error))?;
        let Value::List(elements) = list else { return Ok(()) };
        let too_much = |what: String| {
            let message = format!("`flatten` of one row gives {what} (E1005)");
            Err(at.failed(operator::Error::Record { message }))
        };
        if elements.len() > FLATTEN_ROWS_MAX {
            return too_much(format!("{} rows, {FLATTEN_ROWS_MAX} is the most", elements.len()));
        }
        let sent_before = self.out_bytes;
        for element in elements.iter() {
            let element = if let (Value::Record(fields), true) = (element, node.of_records) {
                &**fields
            } else {
                std::slice::from_ref(element)
            };
            let mut slots = self.pool.pop().unwrap_or_default();
            slots.clear();
            for field in fields {
                let value = self.evaluator.eval(field, row, element, context);
                slots.push(value.map_err(|error| at.failed(error))?);
            }
            let made = Row { layout: node.layout, slots: Some(&slots), ..*row };
            match node.key.as_ref().and_then(|(key, format)| Some((key.get(row.layout)?, format))) {
                None => self.pass(at, &made, context)?,
                Some((key, format)) => {
                    let key = self.evaluator.eval(key, row, element, context).map_err(|error| at.failed(error))?;
                    let mut bytes = Vec::new();
                    key_bytes(&key, format, &mut bytes).map_err(|error| at.failed(error))?;
                    self.pass(at, &Row { key: Some(&bytes), key_format: format, window: None, ..made }, context)?;
                }
            }
            self.pool.push(slots);
            if self.out_bytes.saturating_sub(sent_before) > FLATTEN_BYTES_MAX {
                return too_much(format!("more than {FLATTEN_BYTES_MAX} bytes"));
            }
        }
        Ok(())
    }

    /// Passes a row on, and writes a line for it where the second has room (Kafka Streams' `KStream.peek`).
    pub(super) fn log(&mut self, at: At<'_>, node: &Log, row: &Row<'_>, context: &RecordContext) -> Step {
        if let Some(message) = node.message.get(row.layout)
            && self.lines.has_room(at.index, node.lines_per_second, self.now)
        {
            let said = match row.slots {
                None => Value::text("a row without value"),
                Some(_) => self.evaluator.eval(message, row, &[], context).map_err(|error| at.failed(error))?,
            };
            let text = said.as_str().unwrap_or_default();
            let text = text[..text.floor_char_boundary(LOG_MESSAGE_BYTES_MAX)].to_owned();
            self.lines.push(at.index, at.node.name.clone(), node.level, text);
        }
        self.pass(at, row, context)
    }
}
