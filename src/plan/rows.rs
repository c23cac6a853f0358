//! What the rows of stores look like: the state of aggregates, entities and their histories; and what rows have in a field that
//! was added after they were written: what a fresh one would have.

use std::sync::Arc;

use crate::avro::{RowField, Schema, SchemaError};
use crate::base::types::Type;
use crate::base::value::{Text, Value};
use crate::plan::model::{
    ENTITY_SYSTEM_FIELDS, HELD_SYSTEM_FIELDS, HISTORY_SYSTEM_FIELDS, JOIN_SYSTEM_FIELDS, KeyFormat, ResultField,
    StateField, StoreKind, Window, WindowShape,
};
use crate::topology::{Aggregate, AggregateField, AggregateFunction, Entity};

/// An aggregate's state row.
#[derive(Debug)]
pub(super) struct AggregateState {
    pub fields: Vec<RowField>,
    pub initial: Vec<Value>,
    pub results: Vec<ResultField>,
    /// One for each of the aggregate's fields.
    pub places: Vec<StateField>,
}

/// Lays out an aggregate's state: a field for each function, two for an average (`<name>_sum`, a double, and `<name>_count`).
pub(super) fn aggregate_state(aggregate: &Aggregate) -> AggregateState {
    let mut state = AggregateState { fields: Vec::new(), initial: Vec::new(), results: Vec::new(), places: Vec::new() };
    for field in &aggregate.fields {
        let slot = state.fields.len();
        state.places.push(StateField { function: field.function, slot });
        state.results.push(match field.function {
            AggregateFunction::Avg => ResultField::Mean { sum: slot, count: slot + 1 },
            AggregateFunction::CountDistinct if aggregate.of_table => ResultField::Different(slot),
            AggregateFunction::CountDistinct => ResultField::Size(slot),
            AggregateFunction::Min if aggregate.of_table => ResultField::Least(slot),
            AggregateFunction::Max if aggregate.of_table => ResultField::Greatest(slot),
            AggregateFunction::Fold
            | AggregateFunction::Collect
            | AggregateFunction::Count
            | AggregateFunction::Sum
            | AggregateFunction::Min
            | AggregateFunction::Max
            | AggregateFunction::First
            | AggregateFunction::Last => ResultField::Slot(slot),
        });
        for (name, field_type, initial) in state_fields(field, aggregate.of_table) {
            state.fields.push(RowField {
                initial: Some(initial.clone()),
                meaning: Some(field.function.name()),
                ..RowField::new(name, field_type)
            });
            state.initial.push(initial);
        }
    }
    state
}

fn state_fields(field: &AggregateField, of_table: bool) -> Vec<(Text, Type, Value)> {
    let name = &field.name;
    // What goes away again must be known: all values of the rows that are there.
    let keeps_all = matches!(field.function, AggregateFunction::Min | AggregateFunction::Max);
    if of_table && keeps_all {
        let list = Type::List(Arc::new(field.argument.clone()));
        return vec![(name.clone(), list, Value::List(Arc::from([])))];
    }
    match field.function {
        AggregateFunction::Count => vec![(name.clone(), Type::Int, Value::Int(0))],
        AggregateFunction::Fold => {
            let initial = field.initial.clone().unwrap_or_default();
            vec![(name.clone(), field.argument.clone(), initial)]
        }
        AggregateFunction::Sum => {
            let zero = if field.argument == Type::Double { Value::Double(0.0) } else { Value::Int(0) };
            vec![(name.clone(), field.argument.clone(), zero)]
        }
        AggregateFunction::Avg => vec![
            (Text::from(format!("{name}_sum")), Type::Double, Value::Double(0.0)),
            (Text::from(format!("{name}_count")), Type::Int, Value::Int(0)),
        ],
        AggregateFunction::Min | AggregateFunction::Max | AggregateFunction::First | AggregateFunction::Last => {
            vec![(name.clone(), field.argument.clone().optional(), Value::Null)]
        }
        AggregateFunction::Collect | AggregateFunction::CountDistinct => {
            let list = Type::List(Arc::new(field.argument.clone()));
            vec![(name.clone(), list, Value::List(Arc::from([])))]
        }
    }
}

/// A row that a join of streams keeps of one side.
pub(super) fn joined_row(name: &str, fields: Vec<RowField>) -> Result<Schema, SchemaError> {
    let system = JOIN_SYSTEM_FIELDS.map(|field| RowField::new(field, Type::Bool));
    Schema::row_of(name, &system.into_iter().chain(fields).collect::<Vec<_>>())
}

/// A row that says who refers to another: the digest of that row, and its partition.
pub(super) fn subscription_row(name: &str) -> Result<Schema, SchemaError> {
    Schema::row_of(name, &[RowField::new("digest", Type::Int.optional()), RowField::new("partition", Type::Int)])
}

/// A row that is held until a time comes; a deletion has no fields.
pub(super) fn held_row(name: &str, fields: Vec<RowField>) -> Result<Schema, SchemaError> {
    let system = HELD_SYSTEM_FIELDS.into_iter().zip([Type::Int, Type::Bool]).map(|(name, of)| RowField::new(name, of));
    let own = fields.into_iter().map(|field| RowField { field_type: field.field_type.clone().optional(), ..field });
    Schema::row_of(name, &system.chain(own).collect::<Vec<_>>())
}

/// The row of an index of what is due: whether only its deletion is.
pub(super) fn due_row(name: &str) -> Result<Schema, SchemaError> {
    Schema::row_of(name, &[RowField::new("done", Type::Bool)])
}

/// The row of an entity's store: its version, then the state's fields.
pub(super) fn entity_row(name: &str, entity: &Entity) -> Result<Schema, SchemaError> {
    row(name, ENTITY_SYSTEM_FIELDS.map(|field| RowField::new(field, Type::Int)), entity)
}

/// The row of a history store: the coordinates of the event, then the state after it.
///
/// `_schema_id` is null for values without a registry's id (JSON); `_occurred` is the record's timestamp, `_recorded` the
/// running maximum that views of the past go by, `_processed` the wall clock; `_headers` has those that the entity keeps.
pub(super) fn history_row(name: &str, entity: &Entity) -> Result<Schema, SchemaError> {
    let headers = Type::Map(Arc::new(Type::Bytes));
    let types = [
        Type::String,
        Type::Int,
        Type::Int,
        Type::String,
        Type::Int.optional(),
        Type::DateTime,
        Type::DateTime,
        Type::DateTime,
        headers,
    ];
    row(name, HISTORY_SYSTEM_FIELDS.into_iter().zip(types).map(|(name, of)| RowField::new(name, of)), entity)
}

fn row(name: &str, system: impl IntoIterator<Item = RowField>, entity: &Entity) -> Result<Schema, SchemaError> {
    let state =
        entity.state.fields().iter().zip(&entity.initial).enumerate().map(|(index, (field, initial))| RowField {
            initial: Some(initial.clone()),
            origin: Some((entity.state.clone(), index)),
            ..RowField::new(&field.name, field.field_type.clone())
        });
    Schema::row_of(name, &system.into_iter().chain(state).collect::<Vec<_>>())
}

/// Notes what the keys of a store's rows say: rows are not found under keys that are made in another way.
pub(super) fn keyed(row: &Schema, key: &KeyFormat, kind: &StoreKind) -> Result<Schema, SchemaError> {
    let rows = match kind {
        StoreKind::KeyValue => "a row a key".to_owned(),
        StoreKind::Window(Window { shape, .. }) => match shape {
            WindowShape::Hopping { size, advance } if size == advance => format!("tumbling windows of {size}"),
            WindowShape::Hopping { size, advance } => format!("hopping windows of {size} each {advance}"),
            WindowShape::Sliding { difference } => format!("sliding windows of {difference}"),
            WindowShape::Session { gap } => format!("sessions with gaps of {gap}"),
        },
        StoreKind::Versioned { .. } => "versions".to_owned(),
        StoreKind::Entity => "a state a key".to_owned(),
        StoreKind::History => "history".to_owned(),
        StoreKind::Due => "what is due".to_owned(),
        StoreKind::JoinSide | StoreKind::Waiting => "what waits".to_owned(),
        StoreKind::Subscriptions => "who refers to it".to_owned(),
    };
    let keys = match key {
        KeyFormat::String | KeyFormat::Long | KeyFormat::Bytes => key.name(),
        KeyFormat::Record(datums) => datums.schema().canonical_form(),
    };
    row.with_meaning(&format!("{keys} keys, {rows}"))
}
