//! Table-table join by foreign key: a left row refers to a right one, many to the same.
//!
//! Rules are Kafka Streams' (`internals/foreignkeyjoin`, null foreign keys as of its PR 19303). The left table's task says to the right
//! row's task who refers to it; that one keeps it and answers, at once and with every change of its row. A response carries the digest of
//! the left row that it is for and is dropped when that row has changed since: then another is on its way.
//!
//! Other than there, a subscription is always answered, also when there is no right row: what becomes of the left row hangs on no answer
//! that was given to an earlier one. The table of results lets nothing on that changes nothing (D6).

use std::ops::ControlFlow;

use super::digest::digest;
use crate::base::ids::Partition;
use crate::base::time::{SpanMs, Timestamp};
use crate::base::value::Value;
use crate::limits::WINDOW_CLOSE_ROWS_MAX;
use crate::operator::{Error, Evaluator, RecordContext, Row, key_bytes};
use crate::plan::{
    Expression, ForeignJoin, JoinSide, KeyFormat, RESPONSE_FIELDS, SUBSCRIPTION_FIELDS, Subscribe, SubscriptionAction,
    Subscriptions,
};
use crate::store::versioned::Versioned;
use crate::store::{self, StoreIndex, TaskStores, keys};

/// What is said to the task of a right row: its key, and the subscription's fields.
pub type Said = (Vec<u8>, [Value; SUBSCRIPTION_FIELDS.len()]);

/// Says what a change of a left row means for those that it referred to and refers to now.
///
/// # Errors
/// An expression that fails: of the record.
pub fn subscribe(
    node: &Subscribe,
    row: &Row<'_>,
    partition: Partition,
    context: &RecordContext,
    evaluator: &mut Evaluator,
) -> Result<Vec<Said>, Error> {
    let Some(key) = row.key.filter(|_| row.latest) else { return Ok(Vec::new()) };
    let mut referred = |slots: Option<&[Value]>| -> Result<Option<Vec<u8>>, Error> {
        let Some(slots) = slots else { return Ok(None) };
        refers_to(&node.refers_to, &node.format, &Row { slots: Some(slots), ..*row }, context, evaluator)
    };
    let (before, now) = (referred(row.previous)?, referred(row.slots)?);
    let digest = row.slots.map_or(Value::Null, |slots| Value::Int(digest(&node.left_fields, slots)));
    let said = |referred: Vec<u8>, action: SubscriptionAction| -> Said {
        let partition = Value::Int(i64::from(partition.0));
        (referred, [Value::Bytes(key.into()), partition, digest.clone(), Value::Int(action as i64)])
    };
    let mut all = Vec::new();
    if let Some(before) = before.filter(|before| now.as_ref() != Some(before)) {
        // The result of an inner join goes with the reference; that of a left one has a row all the same.
        let goes = now.is_none() && !node.kind.keeps_left();
        let action = if goes { SubscriptionAction::UnsubscribeAndAnswer } else { SubscriptionAction::Unsubscribe };
        all.push(said(before, action));
    }
    all.extend(now.map(|now| said(now, SubscriptionAction::Subscribe)));
    Ok(all)
}

/// The key of the right row that a left one refers to.
fn refers_to(
    expression: &Expression,
    format: &KeyFormat,
    row: &Row<'_>,
    context: &RecordContext,
    evaluator: &mut Evaluator,
) -> Result<Option<Vec<u8>>, Error> {
    let value = evaluator.eval(expression, row, &[], context)?;
    if value.is_null() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    key_bytes(&value, format, &mut bytes)?;
    Ok(Some(bytes))
}

/// A response: the left row's key, and its fields.
#[derive(Debug, PartialEq)]
pub struct Response {
    pub key: Vec<u8>,
    pub slots: Vec<Value>,
    pub timestamp: Timestamp,
}

/// Takes a subscription in and answers it.
///
/// # Errors
/// A subscription that is none; the store's own.
pub fn take_subscription(
    node: &Subscriptions,
    row: &Row<'_>,
    stores: &mut TaskStores,
) -> Result<Option<Response>, Error> {
    let (Some(referred), Some([Value::Bytes(key), partition, digest, Value::Int(action)])) = (row.key, row.slots)
    else {
        return Err(Error::Record { message: "this is no subscription".to_owned() });
    };
    let Some(action) = SubscriptionAction::of(*action) else {
        let message = format!("a subscription with action {action}, which this version does not know");
        return Err(Error::Record { message });
    };
    let mut store_key = keys::key_prefix(referred);
    store_key.extend_from_slice(key);
    let subscribes = action == SubscriptionAction::Subscribe;
    let kept = || store::Row::new(row.timestamp, [digest.clone(), partition.clone()]);
    stores.put(StoreIndex(node.store.0), &store_key, subscribes.then(kept))?;
    if action == SubscriptionAction::Unsubscribe {
        return Ok(None);
    }
    let right = newest(&node.right, referred, stores)?;
    let timestamp = right.as_ref().map_or(row.timestamp, |right| right.timestamp.max(row.timestamp));
    let right = right.filter(|_| subscribes);
    let right = right.as_ref().map(|right| &*right.fields);
    Ok(Some(response(node, key.to_vec(), [partition, digest], right, timestamp)))
}

/// Answers those that refer to a right row that has changed, from `from` on: at most [`WINDOW_CLOSE_ROWS_MAX`] of them, and where to go on.
///
/// # Errors
/// The store's.
pub fn answer_subscriptions(
    node: &Subscriptions,
    row: &Row<'_>,
    from: Option<Vec<u8>>,
    stores: &mut TaskStores,
) -> Result<(Vec<Response>, Option<Vec<u8>>), Error> {
    let Some(key) = row.key.filter(|_| row.latest) else { return Ok((Vec::new(), None)) };
    let prefix = keys::key_prefix(key);
    let (from, to) = (from.unwrap_or_else(|| prefix.clone()), keys::prefix_end(&prefix));
    let (mut responses, mut next) = (Vec::new(), None);
    stores.range(StoreIndex(node.store.0), &from, to.as_deref(), &mut |store_key, kept| {
        if responses.len() == WINDOW_CLOSE_ROWS_MAX {
            next = Some(store_key.to_vec());
            return ControlFlow::Break(());
        }
        let [digest, partition] = [&kept.fields[0], &kept.fields[1]];
        let key = store_key[prefix.len()..].to_vec();
        responses.push(response(node, key, [partition, digest], row.slots, row.timestamp));
        ControlFlow::Continue(())
    })?;
    Ok((responses, next))
}

fn response(
    node: &Subscriptions,
    key: Vec<u8>,
    [partition, digest]: [&Value; 2],
    right: Option<&[Value]>,
    timestamp: Timestamp,
) -> Response {
    let system: [Value; RESPONSE_FIELDS.len()] = [partition.clone(), digest.clone(), Value::Bool(right.is_some())];
    let mut slots: Vec<Value> = system.into();
    match right {
        Some(right) => slots.extend_from_slice(right),
        None => slots.resize(slots.len() + node.right.slots, Value::Null),
    }
    Response { key, slots, timestamp }
}

/// What a response, or a change of the left row that needs none, does to the result.
#[derive(Debug, PartialEq)]
pub enum Referred {
    /// The left row has changed since, or a response is on its way.
    Nothing,
    /// The result's row; none deletes it.
    Result(Option<Vec<Value>>),
}

/// Joins a response with the left row that it is for.
///
/// # Errors
/// An expression that fails: of the record. The store's own.
pub fn join_response(
    node: &ForeignJoin,
    row: &Row<'_>,
    context: &RecordContext,
    stores: &mut TaskStores,
    evaluator: &mut Evaluator,
) -> Result<Referred, Error> {
    let (Some(key), Some(response)) = (row.key, row.slots) else { return Ok(Referred::Nothing) };
    let left = newest(&node.left, key, stores)?;
    let now = left.as_ref().map_or(Value::Null, |left| Value::Int(digest(&node.left_fields, &left.fields)));
    if response[node.digest] != now {
        return Ok(Referred::Nothing);
    }
    let there = response[node.there] == Value::Bool(true);
    match &left {
        Some(left) if there || node.kind.keeps_left() => {
            let left = Row { slots: Some(&left.fields), ..*row };
            joined(node, &left, response, context, evaluator)
        }
        Some(_) | None => Ok(Referred::Result(None)),
    }
}

/// Joins a changed left row that refers to none, where that has a result: no task has to be asked.
///
/// # Errors
/// An expression that fails: of the record.
pub fn join_unreferred(
    node: &ForeignJoin,
    row: &Row<'_>,
    context: &RecordContext,
    evaluator: &mut Evaluator,
) -> Result<Referred, Error> {
    if !row.latest {
        return Ok(Referred::Nothing);
    }
    let mut refers = |slots: Option<&[Value]>| -> Result<bool, Error> {
        let Some(slots) = slots else { return Ok(false) };
        Ok(!evaluator.eval(&node.refers_to, &Row { slots: Some(slots), ..*row }, &[], context)?.is_null())
    };
    if refers(row.slots)? {
        return Ok(Referred::Nothing);
    }
    if !node.kind.keeps_left() {
        // The answer to the reference that went before, if one is under way, is for a row that is no more: nothing else would delete.
        return Ok(if refers(row.previous)? { Referred::Nothing } else { Referred::Result(None) });
    }
    if row.slots.is_none() {
        return Ok(Referred::Result(None));
    }
    joined(node, row, &vec![Value::Null; node.response_slots], context, evaluator)
}

fn joined(
    node: &ForeignJoin,
    left: &Row<'_>,
    response: &[Value],
    context: &RecordContext,
    evaluator: &mut Evaluator,
) -> Result<Referred, Error> {
    let fields = node.fields.iter().map(|field| evaluator.eval(field, left, response, context));
    Ok(Referred::Result(Some(fields.collect::<Result<_, _>>()?)))
}

/// The newest row of a table.
fn newest(side: &JoinSide, key: &[u8], stores: &mut TaskStores) -> Result<Option<store::Row>, Error> {
    let index = StoreIndex(side.store.0);
    let found = if side.versioned {
        Versioned { index, history: SpanMs(i64::MAX) }.latest(stores, key)?
    } else {
        stores.get(index, key)?
    };
    Ok(found)
}
