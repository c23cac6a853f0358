//! Spec → graph: shapes, expressions, schemas, keys, sides of joins. A node whose rows cannot be known is reported and left out, and
//! what it feeds is looked at no further, so that one mistake is told once. Any other mistake is reported and the node kept,
//! for the sake of those that it feeds: with an error the graph is thrown away in the end.

use std::cell::RefCell;
use std::sync::Arc;

use super::graph::{Graph, Nature, Node, NodeId, NodeKind, Rows, Source, Table, TableInput, Variant};
use super::resolve::{Item, Resolved, resolve};
use super::sources::{Located, Place, Sources};
use super::spec::{Body, ExpressionText, FromSpec, Spec, TopicSpec};
use super::terms::{ErrorAction, KeyFormat, OnError};
use crate::avro::Datums;
use crate::base::diag::{Diagnostic, Span};
use crate::base::ids::Topic;
use crate::base::types::{Field, RecordType, Type};
use crate::base::value::Text;
use crate::error::{Code, codes};

mod aggregates;
mod deciding;
mod entities;
mod expressions;
mod joins;
mod schemas;
mod sinks;
mod streams;
mod times;
mod usage;

use expressions::Scope;
use schemas::Schemas;

/// Checks a spec. The graph is whole only when nothing in `findings` is an error.
pub(super) fn check(sources: &Sources, spec: &Spec, findings: &RefCell<Vec<Diagnostic>>) -> Graph {
    let schemas = schemas::read(sources, spec, findings);
    let resolved = resolve(spec, findings);
    let mut checker = Checker { spec, schemas, findings, nodes: Vec::new(), ids: vec![None; resolved.items.len()] };
    for &index in &resolved.order {
        checker.item(index, &resolved);
    }
    usage::topics_read_once(&checker.nodes, findings);
    usage::histories_on_tables(&checker.nodes, findings);
    usage::unused(&resolved, findings);
    let application_id = spec.application_id.as_ref().map_or_else(String::new, |id| id.value.clone());
    Graph { application_id, nodes: checker.nodes }
}

struct Checker<'a> {
    spec: &'a Spec,
    schemas: Schemas,
    findings: &'a RefCell<Vec<Diagnostic>>,
    nodes: Vec<Node>,
    /// By item; none where a node is wrong or not reached yet.
    ids: Vec<Option<NodeId>>,
}

/// What a checked table amounts to.
type Made = Option<(NodeKind, Rows)>;

impl Checker<'_> {
    fn item(&mut self, index: usize, resolved: &Resolved<'_>) {
        let item = &resolved.items[index];
        let Some(body) = &item.spec.body else { return };
        let inputs: Option<Vec<NodeId>> = item.inputs.iter().map(|input| self.ids[(*input)?]).collect();
        let Some(inputs) = inputs else { return };
        if self.takes_global_rows(body, &inputs) {
            return;
        }
        let Some((kind, rows)) = self.body(item, body, &inputs) else { return };
        let spec = item.spec;
        let defaults = &self.spec.defaults;
        let said = |own: &Option<OnError>, default: &Option<OnError>| {
            own.clone().or_else(|| default.clone()).unwrap_or_default()
        };
        let on_process_error = said(&spec.on_error.process, &defaults.process);
        let on_produce_error = said(&spec.on_error.produce, &defaults.produce);
        self.ids[index] = Some(NodeId(self.nodes.len()));
        let name = Text::new(&item.name.value);
        let was = item.spec.was.as_ref().filter(|_| item.case.is_none()).map(|was| Text::new(&was.value));
        self.nodes.push(Node { name, was, place: item.name.place, kind, rows, on_process_error, on_produce_error });
    }

    fn body(&self, item: &Item<'_>, body: &Body, inputs: &[NodeId]) -> Made {
        match (body, inputs) {
            (Body::StreamOfTopic(topic), _) => {
                let (source, rows) = self.source(item, topic, Nature::Stream)?;
                Some((NodeKind::Source(source), rows))
            }
            (Body::TableOfTopic(topic), _) => {
                let (source, rows) = self.source(item, topic, Nature::Table)?;
                let input = TableInput::Topic(source);
                Some((
                    NodeKind::Table(Table {
                        input,
                        filter: None,
                        shape: None,
                        versioned: topic.versioned,
                        ttl: topic.ttl,
                    }),
                    rows,
                ))
            }
            (Body::GlobalTable(topic), _) => {
                let (source, rows) = self.source(item, topic, Nature::Global)?;
                if let ErrorAction::DeadLetter { .. } = source.on_decode_error.action {
                    let message = "a global table has no dead letters: every instance would write the same";
                    let help = "say `on_error.decode = { action = \"skip\" }`, or `{ action = \"stop_task\" }`";
                    self.error(codes::GLOBAL_TABLE_MISUSE, item.name.place, message, help);
                }
                if source.on_decode_error.retry.is_some() {
                    let message = "a global table has no retries: what cannot be decoded now cannot be later";
                    let help = "say `on_error.decode = { action = \"skip\" }`, or `{ action = \"stop_task\" }`";
                    self.error(codes::GLOBAL_TABLE_MISUSE, item.name.place, message, help);
                }
                Some((NodeKind::GlobalTable(source), rows))
            }
            (Body::StreamFrom(stream), [from]) => self.stream(item, stream, *from),
            (Body::TableFrom(table), [from]) => self.table_from(item, table, *from),
            (Body::Entity(entity), [from]) => self.entity(item, entity, *from, None),
            (Body::Entity(entity), [from, commands]) => self.entity(item, entity, *from, Some(*commands)),
            (Body::Aggregate(aggregate), [from]) => self.aggregate(item, aggregate, *from),
            (Body::Merge { from }, ids) => self.merge(item, from, ids),
            (Body::Branch(branch), [from]) => self.case(branch, item.case.unwrap_or(0), *from),
            (Body::Join(join), [left, right]) => self.join(item, join, *left, *right),
            (Body::Suppress(suppress), [from]) => self.suppress(suppress, *from),
            (Body::Dedupe(dedupe), [from]) => self.dedupe(dedupe, *from),
            (Body::Timer(timer), [from]) => self.timer(item, timer, *from, None),
            (Body::Timer(timer), [from, cancel]) => self.timer(item, timer, *from, Some(*cancel)),
            (Body::Punctuate(punctuate), [table]) => self.punctuate(item, punctuate, *table),
            (Body::Log(log), [from]) => self.log(log, *from),
            (Body::Sink(sink), [from]) => self.sink(item, sink, *from),
            // Every body has as many inputs as it names.
            (
                Body::StreamFrom(_)
                | Body::TableFrom(_)
                | Body::Entity(_)
                | Body::Aggregate(_)
                | Body::Branch(_)
                | Body::Join(_)
                | Body::Suppress(_)
                | Body::Dedupe(_)
                | Body::Timer(_)
                | Body::Punctuate(_)
                | Body::Log(_)
                | Body::Sink(_),
                _,
            ) => None,
        }
    }

    /// Reports a global table that stands where rows are taken from: only a join looks up in it, on its right.
    fn takes_global_rows(&self, body: &Body, inputs: &[NodeId]) -> bool {
        let looks_up = |place: usize| matches!(body, Body::Join(_)) && place == 1;
        let taken = body
            .inputs()
            .into_iter()
            .zip(inputs)
            .enumerate()
            .filter(|(place, (_, id))| self.rows(**id).nature == Nature::Global && !looks_up(*place));
        let mut found = false;
        for (_, (name, _)) in taken {
            let message = format!("`{}` is a global table: it gives no rows, it is looked up in", name.value);
            let help = "put it on the right of a stream's join, or make it a `[table.…]`";
            self.error(codes::GLOBAL_TABLE_MISUSE, name.place, message, help);
            found = true;
        }
        found
    }

    fn rows(&self, id: NodeId) -> &Rows {
        &self.nodes[id.0].rows
    }

    fn report(&self, place: Place, diagnostic: Diagnostic) {
        self.findings.borrow_mut().push(diagnostic.placed(place.file, 0));
    }

    fn error(&self, code: Code, place: Place, message: impl Into<String>, help: impl Into<String>) {
        self.report(place, Diagnostic::error(code, place.span, message).help(help));
    }

    fn source(&self, item: &Item<'_>, topic: &TopicSpec, nature: Nature) -> Option<(Source, Rows)> {
        let mut variants: Vec<Variant> = Vec::new();
        let mut whole = true;
        for named in &topic.schemas {
            let Some((schema, record)) = self.schemas.record(named) else {
                whole = false;
                continue;
            };
            if variants.iter().any(|known| *known.name() == record.name) {
                let message = format!("two schemas of `{}` define `{}`", item.name.value, record.name);
                self.error(codes::SHAPES_DIFFER, named.place, message, "keep the one that the topology should read");
                continue;
            }
            variants.push(Variant { record, schema: Some(schema), scalar: false });
        }
        if !whole {
            return None;
        }
        if let Some((name, of)) = topic.value_format.scalar() {
            variants.push(Variant::scalar(name, of));
        }
        let key = match &topic.key_schema {
            None => topic.key_format.clone(),
            Some(named) => self.record_keys(named)?,
        };
        // A framed key has another partition than the bare one: what meets other rows goes through a repartition first.
        let rekeyed = topic.framed_key.is_some();
        let rows = Rows { variants, key, rekeyed, windowed: None, nature };
        let timestamp = match &topic.timestamp {
            None => None,
            Some(text) => {
                let scope = Scope::row("value", &rows);
                let all = expressions::all(&rows.variants);
                self.expression_of_kind(text, &all, &scope, &expressions::TIMESTAMP)
            }
        };
        let on_error = &item.spec.on_error;
        let on_decode_error = on_error.decode.clone().or_else(|| self.spec.defaults.decode.clone()).unwrap_or_default();
        let source = Source {
            topic: Topic::new(&topic.topic.value),
            subjects: topic.subjects,
            value_format: topic.value_format,
            framed_keys: topic.framed_key.is_some(),
            cloud_events: topic.cloud_events,
            timestamp,
            idle: topic.idle,
            on_decode_error,
        };
        Some((source, rows))
    }

    /// Keys of a schema file.
    fn record_keys(&self, named: &Located<String>) -> Option<KeyFormat> {
        let (schema, record) = self.schemas.record(named)?;
        if record.fields().is_empty() {
            let help = "without fields there is one key only: name what rows are known by";
            self.error(codes::SCHEMA_NOT_A_RECORD, named.place, "the key's record has no fields", help);
            return None;
        }
        // A schema that was read reads itself.
        Datums::new(schema).map(KeyFormat::Record).ok()
    }

    fn table_from(&self, item: &Item<'_>, table: &FromSpec, from: NodeId) -> Made {
        let input = self.rows(from);
        self.unwindowed(input, table.from.place, "a table");
        if input.variants.len() > 1 {
            let names: Vec<&str> = input.variants.iter().map(Variant::short_name).collect();
            let message = format!("the rows of `{}` have several types: `{}`", table.from.value, names.join("`, `"));
            let help = "a table's rows have one shape: put a stream between that keeps one type (`on`) or gives one (`select`)";
            self.error(codes::SHAPES_DIFFER, item.name.place, message, help);
            return None;
        }
        let (taking, scope) = (expressions::all(&input.variants), Scope::row("value", input));
        let predicate = |text: &ExpressionText| {
            let predicate = self.expression_as(text, &taking, &scope, &Type::Bool)?;
            Some(predicate.into_iter().map(|expression| expression.map(Some)).collect())
        };
        let filter = table.filter.as_ref().and_then(predicate);
        let (shape, variants) = match &table.shape {
            Some(shape) => {
                let (shape, variants) = self.shape(item, shape, input, &taking, &scope)?;
                (Some(shape), variants)
            }
            None => (None, input.variants.clone()),
        };
        let rows = Rows { variants, nature: Nature::Table, rekeyed: false, windowed: None, key: input.key.clone() };
        // A versioned table stays one when it is filtered or shaped (`KTableImpl.doFilter`, `doMapValues`).
        let inherited = if let NodeKind::Table(of) = &self.nodes[from.0].kind { of.versioned } else { None };
        let versioned = if table.ttl.is_some() { None } else { table.versioned.or(inherited) };
        let (input, ttl) = (TableInput::From(from), table.ttl);
        Some((NodeKind::Table(Table { input, filter, shape, versioned, ttl }), rows))
    }

    /// Refuses windowed rows where a key alone has to name the row.
    fn unwindowed(&self, rows: &Rows, place: Place, what: &str) {
        if rows.windowed.is_some() {
            let message = format!("{what} keeps one row per key, and these rows belong to windows");
            self.error(codes::WINDOW_MISUSE, place, message, "re-key them first: a stream with `select_key`");
        }
    }

    /// Makes a derived record type; its fields must be such that Avro can hold them.
    fn derived(&self, name: &str, fields: Vec<(Located<String>, Type)>) -> Option<Arc<RecordType>> {
        let typed: Vec<(Text, Type)> =
            fields.iter().map(|(name, field_type)| (Text::new(&name.value), field_type.clone())).collect();
        let mut sound = true;
        for (field, pair) in fields.iter().map(|(name, _)| name).zip(&typed) {
            if field.value.starts_with('_') || !super::parse::is_avro_name(&field.value) {
                let message = format!("`{}` cannot be a field's name", field.value);
                let help = "fields have letters, digits and `_`, and begin with a letter";
                self.error(codes::NAME_NOT_ALLOWED, field.place, message, help);
                sound = false;
            } else if let Err(error) = crate::avro::Schema::record_of(name, std::slice::from_ref(pair)) {
                self.error(
                    codes::EXPRESSION_WRONG_TYPE,
                    field.place,
                    error.to_string(),
                    "give it another type: `int(…)`",
                );
                sound = false;
            }
        }
        if let (true, Some((first, _)), Err(error)) =
            (sound, fields.first(), crate::avro::Schema::record_of(name, &typed))
        {
            self.error(
                codes::EXPRESSION_WRONG_TYPE,
                first.place,
                error.to_string(),
                "give the fields types that agree",
            );
            sound = false;
        }
        let fields = typed.into_iter().map(|(name, field_type)| Field { name, field_type }).collect();
        sound.then(|| RecordType::new(name, fields))
    }

    /// Finds the variants that a list of event types names, by short or full name.
    fn variants_named(&self, rows: &Rows, names: &[Located<String>], from: &str) -> Option<Vec<usize>> {
        let found: Vec<Option<usize>> = names.iter().map(|name| self.variant_named(rows, name, from)).collect();
        found.into_iter().collect()
    }

    fn variant_named(&self, rows: &Rows, name: &Located<String>, from: &str) -> Option<usize> {
        self.variant_of(rows, name, &format!("`{from}` has no event type"), codes::UNKNOWN_EVENT_TYPE)
    }

    /// Finds the variant that a name stands for, or reports why there is none; `none` says that there is no such.
    fn variant_of(&self, rows: &Rows, name: &Located<String>, none: &str, code: Code) -> Option<usize> {
        let exact = rows.variants.iter().position(|variant| *variant.name() == name.value);
        let short: Vec<usize> =
            (0..rows.variants.len()).filter(|index| rows.variants[*index].short_name() == name.value).collect();
        match (exact, short.as_slice()) {
            (Some(index), _) | (None, &[index]) => Some(index),
            (None, []) => {
                let message = format!("{none} `{}`", name.value);
                let known = rows.variants.iter().map(Variant::short_name);
                let help = crate::base::diag::suggestion(&name.value, known);
                self.error(code, name.place, message, help);
                None
            }
            (None, several) => {
                let full: Vec<&str> = several.iter().map(|index| rows.variants[*index].name().as_str()).collect();
                let message = format!("`{}` is the name of several event types", name.value);
                let help = format!("write it in full: \"{}\"", full.join("\" or \""));
                self.error(code, name.place, message, help);
                None
            }
        }
    }
}

/// Where the text of an expression stands in its file.
fn text_place(text: &ExpressionText) -> Place {
    match text.start {
        Some(start) => Place { file: text.place.file, span: Span::new(start, start + text.text.len()) },
        None => text.place,
    }
}
