//! Reads of committed state, answered by the thread that owns the store, in the JSON form of the HTTP interface.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::mpsc::SyncSender;

use serde_json::{Map, Value as Json, json};

use crate::avro::to_json;
use crate::base::diag::suggestion;
use crate::base::ids::{Offset, Partition, TaskId, TopicPartition};
use crate::base::time::{DateTime, Timestamp};
use crate::base::types::Type;
use crate::base::value::Value;
use crate::entity::{self, Version};
use crate::error::{Code, codes};
use crate::limits;
use crate::operator::{WindowSpan, key_value, result_row, span_of, split_window_key, window_key};
use crate::plan::{
    Aggregate, ENTITY_SYSTEM_FIELDS, Entity, HELD_SYSTEM_FIELDS, HISTORY_SYSTEM_FIELDS, NodeKind, Plan, Store,
    StoreKind, SubTopology, Window, WindowShape,
};
use crate::runtime::key_text::{key_of_cursor, key_of_text};
use crate::runtime::restorer::Restorer;
use crate::runtime::service::{At, Read, ReadError, ReadKind};
use crate::runtime::shared::Shared;
use crate::runtime::thread::Slot;
use crate::store::{self, Row, StoreIndex, TaskStores, keys};
use crate::task::{Followed, ReadFrom};

/// What a thread is asked for.
#[derive(Debug)]
pub(super) enum Request {
    Read(Ask),
    /// Let a task go on that is quarantined; the reply is whether it was.
    Release {
        task: TaskId,
        inputs: Option<ReadFrom>,
        reply: SyncSender<bool>,
    },
}

/// A read on its way to the thread that owns the task.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) task: TaskId,
    pub(super) read: Read,
    pub(super) reply: SyncSender<Reply>,
}

/// What the thread says.
#[derive(Debug)]
pub(super) enum Reply {
    Answer(Json),
    /// An input that the read waits for is not in yet.
    NotYet,
    Failed(ReadError),
}

impl Ask {
    pub(super) fn answer(self, shared: &Shared, slots: &BTreeMap<TaskId, Slot>, restorer: &Restorer) {
        let reply = match slots.get(&self.task) {
            Some(slot) if !self.inputs_are_in(slot) => Reply::NotYet,
            Some(slot) => match answer_of(&shared.plan, slot, &self.read) {
                Ok(json) => Reply::Answer(json),
                Err(error) => Reply::Failed(error),
            },
            None => {
                let what = if restorer.restores(&self.task) { "is being restored" } else { "is not here" };
                Reply::Failed(unavailable(format!("task `{}` {what}", self.task)))
            }
        };
        // Nobody waits any more: the answer is of no use.
        drop(self.reply.try_send(reply));
    }

    fn inputs_are_in(&self, slot: &Slot) -> bool {
        let committed = slot.task.committed_meta();
        self.read.wait_for.iter().all(|(partition, offset)| {
            partition.partition != self.task.partition
                || !slot.task.sub_topology().sources.iter().any(|source| source.topic == partition.topic)
                || committed.offsets.get(partition.topic.as_str()).is_some_and(|next| *next > offset.0)
        })
    }
}

fn unavailable(detail: String) -> ReadError {
    ReadError::Unavailable { code: codes::READ_UNAVAILABLE, detail }
}

fn not_found(code: Code, detail: String) -> ReadError {
    ReadError::NotFound { code, detail }
}

fn failed(error: &store::Error) -> ReadError {
    ReadError::Failed { code: error.code(), detail: error.to_string(), kind: error.kind() }
}

/// Which tasks a read concerns: the one that has the key, or all of the store's.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Concerns {
    Key {
        sub_topology: usize,
        key: Vec<u8>,
    },
    All {
        sub_topology: usize,
    },
    /// A global table; of all its keys the key is empty.
    Global {
        table: usize,
        key: Vec<u8>,
    },
}

/// Finds what a read is about, or says that there is no such thing.
pub(super) fn concerns(plan: &Plan, read: &ReadKind) -> Result<Concerns, ReadError> {
    let (name, key) = match read {
        ReadKind::Key { store, key, .. } => (store, Some(key)),
        ReadKind::Keys { store, .. } => (store, None),
        ReadKind::Entity { entity, key, .. }
        | ReadKind::History { entity, key, .. }
        | ReadKind::Blame { entity, key }
        | ReadKind::Answer { entity, key, .. } => (entity, Some(key)),
    };
    for (sub_topology, sub) in plan.sub_topologies.iter().enumerate() {
        if let Some(store) = sub.stores.iter().find(|store| store.name == *name) {
            return match key {
                None => Ok(Concerns::All { sub_topology }),
                Some(key) => Ok(Concerns::Key { sub_topology, key: key_of_text(key, &store.key)? }),
            };
        }
    }
    if let Some(table) = plan.global_tables.iter().position(|table| table.store.name == *name) {
        let format = &plan.global_tables[table].store.key;
        let key = key.map(|key| key_of_text(key, format)).transpose()?.unwrap_or_default();
        return Ok(Concerns::Global { table, key });
    }
    let stores = plan.sub_topologies.iter().flat_map(|sub| &sub.stores);
    let stores = stores.chain(plan.global_tables.iter().map(|table| &table.store));
    let names: Vec<&str> = stores.map(|store| store.name.as_str()).collect();
    let what = match read {
        ReadKind::Key { .. } | ReadKind::Keys { .. } => "store",
        ReadKind::Entity { .. } | ReadKind::History { .. } | ReadKind::Blame { .. } | ReadKind::Answer { .. } => {
            "entity"
        }
    };
    Err(not_found(codes::READ_UNKNOWN_STORE, format!("there is no {what} `{name}`; {}", suggestion(name, names))))
}

/// The partition that has a key among `tasks`.
pub(super) fn partition_of_key(key: &[u8], tasks: u32) -> Partition {
    crate::base::hash::partition_of(key, tasks)
}

fn answer_of(plan: &Plan, slot: &Slot, read: &Read) -> Result<Json, ReadError> {
    answer(plan, slot.task.sub_topology(), slot.task.stores(), read)
}

/// Answers a read from the committed rows of a task's stores.
pub(super) fn answer(plan: &Plan, sub: &SubTopology, stores: &TaskStores, read: &Read) -> Result<Json, ReadError> {
    let concerned = concerns(plan, &read.what)?;
    let key: &[u8] = match &concerned {
        Concerns::Key { key, .. } => key,
        Concerns::All { .. } | Concerns::Global { .. } => &[],
    };
    match &read.what {
        ReadKind::Key { store, from, to, .. } => {
            let view = View::of(sub, store)?;
            match &view.store.kind {
                StoreKind::Window(window) => view.windows(window, key, *from, *to, stores),
                StoreKind::Versioned { .. } => view.as_of(key, to.or(*from), stores),
                StoreKind::KeyValue
                | StoreKind::Entity
                | StoreKind::History
                | StoreKind::Due
                | StoreKind::Subscriptions
                | StoreKind::JoinSide
                | StoreKind::Waiting => view.key(key, stores),
            }
        }
        ReadKind::Keys { store, prefix, limit, cursor } => {
            View::of(sub, store)?.scan(prefix, *limit, cursor.as_deref(), stores)
        }
        ReadKind::Entity { entity, at, .. } => entity_at(sub, entity, key, *at, stores),
        ReadKind::History { entity, limit, cursor, .. } => {
            entity_history(sub, entity, key, *limit, cursor.as_deref(), stores)
        }
        ReadKind::Blame { entity, .. } => entity_blame(sub, entity, key, stores),
        ReadKind::Answer { entity, id, .. } => entity_answer(sub, entity, key, id, stores),
    }
}

/// Answers a read of a global table; none while an input that it waits for is not in.
pub(super) fn answer_global(shared: &Shared, table: usize, key: &[u8], read: &Read) -> Result<Option<Json>, ReadError> {
    let table = (&shared.plan.global_tables[table], StoreIndex(table as u16));
    let answered = shared.cluster.globals.with(|stores| {
        let followed = Followed::decode(stores.committed_meta()).unwrap_or_default();
        let is_in = |(place, offset): &(TopicPartition, Offset)| {
            place.topic != table.0.source.topic
                || followed.offset(place.topic.as_str(), place.partition).is_some_and(|next| next > *offset)
        };
        if !read.wait_for.iter().all(is_in) {
            return Ok(None);
        }
        let view = View::of_store(&table.0.store, table.1);
        match &read.what {
            ReadKind::Key { .. } => view.key(key, stores),
            ReadKind::Keys { prefix, limit, cursor, .. } => view.scan(prefix, *limit, cursor.as_deref(), stores),
            ReadKind::Entity { entity, .. }
            | ReadKind::History { entity, .. }
            | ReadKind::Blame { entity, .. }
            | ReadKind::Answer { entity, .. } => Err(no_entity(entity)),
        }
        .map(Some)
    });
    answered.unwrap_or_else(|error| Err(failed(&error)))
}

fn no_entity(name: &str) -> ReadError {
    not_found(codes::READ_UNKNOWN_STORE, format!("`{name}` is a store, but no entity"))
}

/// Answers a read from threads that have all tasks between them.
pub(super) fn read_here<'a>(
    shared: &Shared,
    threads: impl Iterator<Item = &'a BTreeMap<TaskId, Slot>>,
    read: &Read,
) -> Result<Json, ReadError> {
    let threads: Vec<&BTreeMap<TaskId, Slot>> = threads.collect();
    let of = |sub_topology: usize, partition: Partition| {
        let task = shared.task_id(sub_topology, partition);
        let found = threads.iter().find_map(|slots| slots.get(&task));
        found.ok_or_else(|| unavailable(format!("task `{task}` is not here")))
    };
    match concerns(&shared.plan, &read.what)? {
        Concerns::Key { sub_topology, key } => {
            let partition = partition_of_key(&key, shared.cluster.tasks_of(sub_topology));
            answer_of(&shared.plan, of(sub_topology, partition)?, read)
        }
        Concerns::All { sub_topology } => {
            let mut rows = Vec::new();
            for partition in 0..shared.cluster.tasks_of(sub_topology) {
                let mut found = answer_of(&shared.plan, of(sub_topology, Partition(partition as i32))?, read)?;
                if let Some(Json::Array(keys)) = found.get_mut("keys") {
                    rows.append(keys);
                }
            }
            Ok(json!({ "keys": rows }))
        }
        Concerns::Global { table, key } => {
            let answer = answer_global(shared, table, &key, read)?;
            answer.ok_or_else(|| unavailable("the inputs of `wait_for` are not in yet".to_owned()))
        }
    }
}

/// A store as the outside sees it: an aggregate's results, not its inner state; an entity's state, not its version.
struct View<'a> {
    store: &'a Store,
    index: StoreIndex,
    aggregate: Option<&'a Aggregate>,
    fields: Vec<(String, Type)>,
    /// Fields of the row that are not shown, at its front.
    hidden: usize,
}

impl<'a> View<'a> {
    fn of(sub: &'a SubTopology, name: &str) -> Result<Self, ReadError> {
        let at = sub.stores.iter().position(|store| store.name == name);
        let at = at.ok_or_else(|| unavailable(format!("store `{name}` is not in this task")))?;
        let store = &sub.stores[at];
        let aggregates = sub
            .nodes
            .iter()
            .filter_map(|node| if let NodeKind::Aggregate(aggregate) = &node.kind { Some(&**aggregate) } else { None });
        let aggregate = aggregates.into_iter().find(|aggregate| usize::from(aggregate.store.0) == at);
        let named = |fields: &[crate::base::types::Field]| {
            fields.iter().map(|field| (field.name.to_string(), field.field_type.clone())).collect::<Vec<_>>()
        };
        let hidden = match store.kind {
            StoreKind::Entity => ENTITY_SYSTEM_FIELDS.len(),
            StoreKind::KeyValue
            | StoreKind::Window(_)
            | StoreKind::Versioned { .. }
            | StoreKind::History
            | StoreKind::Due
            | StoreKind::Subscriptions
            | StoreKind::JoinSide
            | StoreKind::Waiting => 0,
        };
        let fields = match (aggregate, store.row.value_type()) {
            (Some(aggregate), _) => named(&sub.layouts[usize::from(aggregate.layout.0)].slots),
            (None, Type::Record(record)) => named(&record.fields()[hidden..]),
            (None, _) => Vec::new(),
        };
        Ok(Self { store, index: StoreIndex(at as u16), aggregate, fields, hidden })
    }

    /// A store whose rows are shown as they are.
    fn of_store(store: &'a Store, index: StoreIndex) -> Self {
        let fields = store.row.fields();
        let fields = fields.iter().map(|field| (field.name.to_string(), field.field_type.clone())).collect();
        Self { store, index, aggregate: None, fields, hidden: 0 }
    }

    fn value(&self, row: &Row) -> Json {
        let mut results = Vec::new();
        let values: &[Value] = match self.aggregate {
            Some(aggregate) => {
                result_row(aggregate, &row.fields, &mut results);
                &results
            }
            None => row.fields.get(self.hidden..).unwrap_or(&[]),
        };
        fields_json(&self.fields, values)
    }

    fn key(&self, key: &[u8], stores: &TaskStores) -> Result<Json, ReadError> {
        let row = stores.get_committed(self.index, key).map_err(|error| failed(&error))?;
        let row = row.ok_or_else(|| self.no_key(key))?;
        Ok(json!({ "key": self.key_json(key), "value": self.value(&row), "timestamp": row.timestamp.to_string() }))
    }

    fn no_key(&self, key: &[u8]) -> ReadError {
        not_found(
            codes::READ_UNKNOWN_KEY,
            format!("store `{}` has no key `{}`", self.store.name, String::from_utf8_lossy(key)),
        )
    }

    fn key_json(&self, key: &[u8]) -> Json {
        let value = key_value(Some(key), &self.store.key);
        value.map_or(Json::Null, |value| to_json(&value, &self.store.key.key_type()))
    }

    fn windows(
        &self,
        window: &Window,
        key: &[u8],
        from: Option<DateTime>,
        to: Option<DateTime>,
        stores: &TaskStores,
    ) -> Result<Json, ReadError> {
        let first = from.map_or(Timestamp(i64::MIN), DateTime::to_timestamp);
        let end = to.map(DateTime::to_timestamp);
        let (first, last) = match window.shape {
            // By time, then by key: all keys of the span are looked at.
            WindowShape::Hopping { .. } => (keys::windowed(first, b""), end.map(|end| keys::windowed(end, b""))),
            WindowShape::Sliding { .. } | WindowShape::Session { .. } => {
                let all = keys::prefix_end(&keys::key_prefix(key));
                (window_key(window, first, key), end.map(|end| window_key(window, end, key)).or(all))
            }
        };
        let mut windows = Vec::new();
        stores
            .range_committed(self.index, &first, last.as_deref(), &mut |store_key, row| {
                if let Some((found, start)) = split_window_key(window, store_key)
                    && found == key
                {
                    windows.push(self.window_json(span_of(window, start, row.timestamp), row));
                }
                if windows.len() == limits::READ_ROWS_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .map_err(|error| failed(&error))?;
        if windows.is_empty() && from.is_none() && to.is_none() {
            return Err(self.no_key(key));
        }
        Ok(json!({ "key": self.key_json(key), "windows": windows }))
    }

    fn window_json(&self, span: WindowSpan, row: &Row) -> Json {
        json!({ "start": span.start.to_string(), "end": span.end.to_string(), "value": self.value(row) })
    }

    /// A versioned table's row as of a moment, or its newest.
    fn as_of(&self, key: &[u8], at: Option<DateTime>, stores: &TaskStores) -> Result<Json, ReadError> {
        let until = at.map_or(Timestamp(i64::MAX - 1), DateTime::to_timestamp);
        let (from, to) = (keys::timed(key, Timestamp(i64::MIN)), keys::timed(key, Timestamp(until.0 + 1)));
        let mut found = None;
        stores
            .range_committed_reverse(self.index, &from, Some(&to), &mut |_, row| {
                found = Some(row.clone());
                ControlFlow::Break(())
            })
            .map_err(|error| failed(&error))?;
        match found.filter(|row| !row.fields.is_empty()) {
            None => Err(self.no_key(key)),
            Some(row) => Ok(
                json!({ "key": self.key_json(key), "value": self.value(&row), "timestamp": row.timestamp.to_string() }),
            ),
        }
    }

    fn scan(&self, prefix: &str, limit: usize, cursor: Option<&str>, stores: &TaskStores) -> Result<Json, ReadError> {
        let windowed = match &self.store.kind {
            StoreKind::Window(window) => Some(window),
            StoreKind::KeyValue
            | StoreKind::Versioned { .. }
            | StoreKind::Entity
            | StoreKind::History
            | StoreKind::Due
            | StoreKind::Subscriptions
            | StoreKind::JoinSide
            | StoreKind::Waiting => None,
        };
        let from = match cursor {
            Some(cursor) => [&key_of_cursor(cursor, &self.store.key)?[..], &[0]].concat(),
            None if windowed.is_some() => Vec::new(),
            None => prefix.as_bytes().to_vec(),
        };
        let mut rows = Vec::new();
        stores
            .range_committed(self.index, &from, None, &mut |store_key, row| {
                if rows.len() == limit.min(limits::READ_ROWS_MAX) {
                    return ControlFlow::Break(());
                }
                let (key, span) = match windowed {
                    Some(window) => match split_window_key(window, store_key) {
                        Some((key, start)) => (Cow::Owned(key), Some(span_of(window, start, row.timestamp))),
                        None => return ControlFlow::Continue(()),
                    },
                    None => (Cow::Borrowed(store_key), None),
                };
                if !key.starts_with(prefix.as_bytes()) {
                    return if windowed.is_some() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) };
                }
                let mut shown = Map::new();
                shown.insert("key".to_owned(), self.key_json(&key));
                if let Some(span) = span {
                    shown.insert(
                        "window".to_owned(),
                        json!({ "start": span.start.to_string(), "end": span.end.to_string() }),
                    );
                }
                shown.insert("value".to_owned(), self.value(row));
                shown.insert("timestamp".to_owned(), Json::String(row.timestamp.to_string()));
                rows.push(Json::Object(shown));
                ControlFlow::Continue(())
            })
            .map_err(|error| failed(&error))?;
        Ok(json!({ "keys": rows }))
    }
}

fn fields_json(fields: &[(String, Type)], values: &[Value]) -> Json {
    let shown = fields.iter().zip(values).map(|((name, field_type), value)| (name.clone(), to_json(value, field_type)));
    Json::Object(shown.collect())
}

fn entity_of<'a>(sub: &'a SubTopology, name: &str) -> Result<(&'a Entity, View<'a>), ReadError> {
    let named = sub.nodes.iter().filter(|node| node.name == name);
    let node = named
        .into_iter()
        .find_map(|node| if let NodeKind::Entity(entity) = &node.kind { Some(&**entity) } else { None });
    let entity = node.ok_or_else(|| no_entity(name))?;
    Ok((entity, View::of(sub, name)?))
}

fn version_json(view: &View<'_>, key: &[u8], version: &Version) -> Json {
    json!({
        "key": view.key_json(key),
        "version": version.version,
        "state": fields_json(&view.fields, &version.state),
        "event": event_json(version),
    })
}

/// The event's coordinates: topic, partition, offset, type, timestamp, recorded, processed, schema id, headers.
fn event_json(version: &Version) -> Json {
    if version.event.len() < HISTORY_SYSTEM_FIELDS.len() {
        return Json::Null;
    }
    let shown = |index: usize, shape: &Type| to_json(&version.event[index], shape);
    let headers = Type::Map(std::sync::Arc::new(Type::Bytes));
    // An event that was decided here is in its topic; where, is known when it has come back.
    let offset =
        if version.event[2] == Value::Int(entity::OFFSET_UNKNOWN.0) { Json::Null } else { shown(2, &Type::Int) };
    json!({
        "topic": shown(0, &Type::String),
        "partition": shown(1, &Type::Int),
        "offset": offset,
        "type": shown(3, &Type::String),
        "schema_id": shown(4, &Type::Int),
        "timestamp": shown(5, &Type::DateTime),
        "recorded": shown(6, &Type::DateTime),
        "processed": shown(7, &Type::DateTime),
        "headers": shown(8, &headers),
    })
}

fn entity_at(sub: &SubTopology, name: &str, key: &[u8], at: At, stores: &TaskStores) -> Result<Json, ReadError> {
    let (entity, view) = entity_of(sub, name)?;
    let newest = entity::current(entity, key, stores).map_err(|error| failed(&error))?;
    let newest = newest.ok_or_else(|| view.no_key(key))?;
    let found = match at {
        At::Now => Some(newest),
        At::Version(version) if version == newest.version => Some(newest),
        At::Version(version) => entity::version_number(entity, key, version, stores).map_err(|error| failed(&error))?,
        At::AsOf(moment) => entity::version_as_of(entity, key, moment, stores).map_err(|error| failed(&error))?,
    };
    match found {
        Some(version) => Ok(version_json(&view, key, &version)),
        None if entity.history.is_none() => Err(not_found(
            codes::READ_NO_HISTORY,
            format!("entity `{name}` keeps no history: set `history` to read its past"),
        )),
        None => Err(not_found(
            codes::READ_UNKNOWN_KEY,
            format!("`{}` had no version then, or it is no longer kept", String::from_utf8_lossy(key)),
        )),
    }
}

fn entity_history(
    sub: &SubTopology,
    name: &str,
    key: &[u8],
    limit: usize,
    cursor: Option<&str>,
    stores: &TaskStores,
) -> Result<Json, ReadError> {
    let (entity, view) = entity_of(sub, name)?;
    let invalid =
        || ReadError::Invalid { code: codes::READ_INVALID, detail: "the cursor is not one of ours".to_owned() };
    let first = cursor.map_or(Ok(1), |cursor| cursor.parse::<u64>().map_err(|_| invalid()))?;
    let limit = limit.min(limits::READ_ROWS_MAX);
    let versions = entity::history(entity, key, first, limit, stores).map_err(|error| failed(&error))?;
    if versions.is_empty() && first == 1 {
        return Err(view.no_key(key));
    }
    let next = (versions.len() == limit).then(|| versions.last().map(|version| (version.version + 1).to_string()));
    let shown: Vec<Json> = versions.iter().map(|version| version_json(&view, key, version)).collect();
    let mut answer = json!({ "versions": shown });
    if let (Some(next), Some(answer)) = (next.flatten(), answer.as_object_mut()) {
        answer.insert("cursor".to_owned(), Json::String(next));
    }
    Ok(answer)
}

/// The answer to a command, as long as it is remembered.
fn entity_answer(sub: &SubTopology, name: &str, key: &[u8], id: &str, stores: &TaskStores) -> Result<Json, ReadError> {
    let (entity, _) = entity_of(sub, name)?;
    let Some(deciding) = &entity.deciding else {
        return Err(not_found(codes::NO_SUCH_COMMAND, format!("entity `{name}` takes no commands")));
    };
    let what = entity::answer_key(key, id);
    let row = stores.get_committed(StoreIndex(deciding.answers.store.0), &what).map_err(|error| failed(&error))?;
    let text = row.as_ref().and_then(|row| row.fields[HELD_SYSTEM_FIELDS.len()].as_str());
    let answer = text.and_then(|text| serde_json::from_str(text).ok());
    let shown = String::from_utf8_lossy(key);
    let missing =
        || format!("`{name}` of key `{shown}` has no answer to a command `{id}`, or it is remembered no more");
    answer.ok_or_else(|| not_found(codes::READ_UNKNOWN_KEY, missing()))
}

fn entity_blame(sub: &SubTopology, name: &str, key: &[u8], stores: &TaskStores) -> Result<Json, ReadError> {
    let (entity, view) = entity_of(sub, name)?;
    let blamed = entity::blame(entity, key, limits::BLAME_VERSIONS_MAX, stores).map_err(|error| failed(&error))?;
    let blamed = blamed.ok_or_else(|| view.no_key(key))?;
    let newest = entity::current(entity, key, stores).map_err(|error| failed(&error))?;
    let state = newest.map(|version| version.state).unwrap_or_default();
    let mut fields = Map::new();
    for (((name, field_type), by), value) in view.fields.iter().zip(blamed).zip(&state) {
        let (version, event) = match &by {
            Some(version) => (json!(version.version), event_json(version)),
            None => (Json::Null, Json::Null),
        };
        let shown = json!({ "value": to_json(value, field_type), "version": version, "event": event });
        fields.insert(name.clone(), shown);
    }
    Ok(json!({ "key": view.key_json(key), "fields": fields }))
}
