//! A plan as text. The text is stable: it says all that the plan means and nothing else, so that golden files hold it,
//! and a plan's fingerprint is the fingerprint of its text.

mod held;
mod words;

use std::fmt::{self, Write};

use crate::avro::Schema;
use crate::base::value::Value;
use crate::plan::model::{
    Aggregate, Child, Deciding, Entity, Expression, Flatten, Given, GlobalTable, JoinSide, JoinWindow, Keep, LayoutId,
    Log, Node, NodeIndex, NodeKind, OnError, Partitions, Payload, PerLayout, Plan, Reader, ResultField, Retry, Source,
    Store, StoreKind, StoreRef, StreamTableJoin, SubTopology, ValueFormat, Window, WindowShape, Writer,
};

use words::{action, key, role, written_events};
pub(super) use words::{kind, written_keys};

/// Describes a plan, for `graph` and for golden files.
pub fn explain(plan: &Plan) -> String {
    let mut out = Out { text: String::new(), fingerprints: Fingerprints::Hidden };
    out.plan(plan).expect("writing into a string does not fail");
    out.text
}

/// Returns the fingerprint of a plan's meaning.
pub(super) fn fingerprint(plan: &Plan) -> u64 {
    let mut out = Out { text: String::new(), fingerprints: Fingerprints::Shown };
    out.plan(plan).expect("writing into a string does not fail");
    // 64-bit FNV-1a: the same on every machine and in every version.
    out.text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Returns what a node does, line by line, without the numbers of layouts and without where its rows go: what stays the same when
/// other nodes come and go.
pub(super) fn node_text(plan: &Plan, sub: &SubTopology, node: &Node) -> Vec<String> {
    let mut out = Out { text: String::new(), fingerprints: Fingerprints::Hidden };
    out.node(plan, sub, node).expect("writing into a string does not fail");
    let name = format!(" {}", node.name);
    let lines = out.text.lines().map(str::trim).filter(|line| !line.starts_with('→'));
    lines.map(|line| without_numbers(&line.replace(&name, ""))).collect()
}

/// `#3 shop.Order: all` → `shop.Order: all`
fn without_numbers(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('#') {
        let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        text.push_str(if digits > 0 { before.strip_suffix(", ").unwrap_or(before) } else { before });
        if digits == 0 {
            text.push('#');
        }
        rest = &after[digits..];
        rest = rest.strip_prefix(' ').filter(|_| digits > 0).unwrap_or(rest);
    }
    text + rest
}

/// Whether schemas are shown with their fingerprints. People do not want them; a plan's fingerprint needs them.
#[derive(Clone, Copy, PartialEq)]
enum Fingerprints {
    Shown,
    Hidden,
}

struct Out {
    text: String,
    fingerprints: Fingerprints,
}

impl Out {
    fn plan(&mut self, plan: &Plan) -> fmt::Result {
        writeln!(self.text, "application {}", plan.application_id)?;
        for sub in &plan.sub_topologies {
            self.sub_topology(plan, sub)?;
        }
        for table in &plan.global_tables {
            self.global_table(table)?;
        }
        writeln!(self.text, "\ntopics")?;
        for (topic, planned) in &plan.topics {
            write!(self.text, "  {topic}: {}, ", role(planned.role))?;
            match &planned.partitions {
                Partitions::Existing => write!(self.text, "partitions as they are")?,
                Partitions::MaxOf(topics) => {
                    let topics: Vec<&str> = topics.iter().map(|topic| topic.as_str()).collect();
                    write!(self.text, "partitions of {}", topics.join(", "))?;
                }
                Partitions::Fixed(count) => write!(self.text, "{count} partitions")?,
            }
            for (name, value) in &planned.configs {
                write!(self.text, ", {name}={value}")?;
            }
            writeln!(self.text)?;
        }
        Ok(())
    }

    fn global_table(&mut self, table: &GlobalTable) -> fmt::Result {
        let GlobalTable { source, store } = table;
        let topic = &source.topic;
        writeln!(self.text, "\nglobal table {}: all of topic {topic}, {}", store.name, read_as(source))?;
        let fields = store.row.fields().iter().map(|field| format!("{} {}", field.name, field.field_type));
        let schema = self.schema(&store.row);
        writeln!(self.text, "  {schema}: {}", fields.collect::<Vec<_>>().join(", "))?;
        self.on_error("a record that cannot be decoded", &source.on_decode_error)
    }

    fn sub_topology(&mut self, plan: &Plan, sub: &SubTopology) -> fmt::Result {
        writeln!(self.text, "\nsub-topology {}", sub.name)?;
        for source in &sub.sources {
            self.source(sub, source)?;
        }
        for node in &sub.nodes {
            self.node(plan, sub, node)?;
        }
        for store in &sub.stores {
            self.store(store)?;
        }
        Ok(())
    }

    fn source(&mut self, sub: &SubTopology, source: &Source) -> fmt::Result {
        write!(self.text, "  source {}: ", source.name)?;
        if source.name != source.topic.as_str() {
            write!(self.text, "topic {}, ", source.topic)?;
        }
        write!(self.text, "{}", read_as(source))?;
        if let Some(idle) = source.idle {
            write!(self.text, ", idle after {idle}")?;
        }
        writeln!(self.text)?;
        for reader in source.payload.readers() {
            self.reader(sub, reader)?;
        }
        if let Payload::Internal { upstream, .. } = &source.payload {
            for writer in upstream {
                let time = if writer.marks { "" } else { ", without its time" };
                writeln!(
                    self.text,
                    "    written by {}, a task for each partition of {}{time}",
                    writer.sub_topology, writer.partitions_of
                )?;
            }
        }
        self.per_layout(sub, &source.timestamp, |out, expression| {
            write!(out.text, "timestamp {}", written(expression))
        })?;
        self.on_error("a record that cannot be decoded", &source.on_decode_error)?;
        self.children(sub, &source.children)
    }

    fn reader(&mut self, sub: &SubTopology, reader: &Reader) -> fmt::Result {
        let layout = &sub.layouts[usize::from(reader.layout.0)];
        let slots: Vec<&str> = layout.slots.iter().map(|field| field.name.as_str()).collect();
        let schema = self.schema(&reader.schema);
        writeln!(self.text, "    {schema} as #{}: {}", reader.layout.0, listed(&slots))
    }

    fn node(&mut self, plan: &Plan, sub: &SubTopology, node: &Node) -> fmt::Result {
        write!(self.text, "  {} {}", kind(&node.kind), node.name)?;
        match &node.kind {
            NodeKind::Filter { predicate, deletes, .. } => {
                writeln!(self.text, "{}", if *deletes { ": others are deleted" } else { "" })?;
                self.per_layout(sub, predicate, |out, predicate| match predicate {
                    Some(expression) => write!(out.text, "where {}", written(expression)),
                    None => write!(out.text, "all"),
                })?;
            }
            NodeKind::Select { fields, layout } => {
                writeln!(self.text, ": #{}", layout.0)?;
                self.fields(sub, fields, *layout)?;
            }
            NodeKind::Flatten(flatten) => self.flatten(sub, flatten)?,
            NodeKind::Log(log) => self.log(sub, log)?,
            NodeKind::Rekey { key: expressions, format } => {
                writeln!(self.text, ": {} keys", key(format))?;
                self.per_layout(sub, expressions, |out, expression| write!(out.text, "key {}", written(expression)))?;
            }
            NodeKind::Regroup { key: expression, format, layout } => {
                let keys = key(format);
                writeln!(self.text, ": changes of a table, {keys} keys, #{}: {}", layout.0, written(expression))?;
            }
            NodeKind::Repartition { topic, writers, to, .. } => {
                let to = if to.is_some() { ", to the partition of who asked" } else { "" };
                writeln!(self.text, ": topic {topic}{to}")?;
                self.per_layout(sub, writers, Self::writer)?;
            }
            NodeKind::Sink { topic, key, cloud_events, writers, .. } => {
                writeln!(self.text, ": topic {topic}{}{}", written_keys(*key), written_events(*cloud_events))?;
                self.per_layout(sub, writers, Self::writer)?;
            }
            NodeKind::Table { store, layout, expiry } => {
                let ttl = expiry.map_or_else(String::new, |expiry| format!(", rows for {}", expiry.ttl));
                writeln!(self.text, ": store {}, #{}{ttl}", sub.stores[usize::from(store.0)].name, layout.0)?;
            }
            NodeKind::VersionedTable { store, layout, retention } => {
                let store = &sub.stores[usize::from(store.0)].name;
                writeln!(self.text, ": store {store}, #{}, every row for {retention}", layout.0)?;
            }
            NodeKind::Aggregate(aggregate) => self.aggregate(sub, aggregate)?,
            NodeKind::StreamTableJoin(_)
            | NodeKind::GlobalJoin(_)
            | NodeKind::StreamJoin(_)
            | NodeKind::Subscribe(_)
            | NodeKind::Subscriptions(_)
            | NodeKind::ForeignJoin(_)
            | NodeKind::TableJoin(_) => self.any_join(plan, sub, &node.kind)?,
            NodeKind::Suppress(_) | NodeKind::Dedupe(_) | NodeKind::Timer(_) | NodeKind::Punctuate(_) => {
                self.holding(sub, &node.kind)?;
            }
            NodeKind::Entity(entity) => self.entity(sub, entity)?,
            NodeKind::Merge => writeln!(self.text)?,
        }
        self.on_error("a record that fails", &node.on_process_error)?;
        if matches!(node.kind, NodeKind::Sink { .. } | NodeKind::Repartition { .. }) {
            self.on_error("a row that cannot be written", &node.on_produce_error)?;
        }
        self.children(sub, &node.children)
    }

    fn log(&mut self, sub: &SubTopology, log: &Log) -> fmt::Result {
        writeln!(self.text, ": {}, {} lines a second at most", log.level.name(), log.lines_per_second)?;
        self.per_layout(sub, &log.message, |out, message| write!(out.text, "{}", written(message)))
    }

    fn flatten(&mut self, sub: &SubTopology, flatten: &Flatten) -> fmt::Result {
        writeln!(self.text, ": #{}", flatten.layout.0)?;
        self.per_layout(sub, &flatten.list, |out, list| write!(out.text, "for each of {}", written(list)))?;
        if let Some((keys, format)) = &flatten.key {
            let name = key(format);
            self.per_layout(sub, keys, |out, key| write!(out.text, "{name} key {}", written(key)))?;
        }
        self.fields(sub, &flatten.fields, flatten.layout)
    }

    fn on_error(&mut self, what: &str, on_error: &OnError) -> fmt::Result {
        if *on_error == OnError::default() {
            return Ok(());
        }
        write!(self.text, "    on {what}: ")?;
        if let Some(Retry { attempts, backoff }) = on_error.retry {
            write!(self.text, "try again {attempts} times from {backoff} on, then ")?;
        }
        writeln!(self.text, "{}", action(&on_error.action))
    }

    fn writer(&mut self, writer: &Writer) -> fmt::Result {
        let fields: Vec<&str> = writer.schema.fields().iter().map(|field| field.name.as_str()).collect();
        let schema = self.schema(&writer.schema);
        write!(self.text, "as {schema}: {}", listed(&fields))?;
        if writer.format != ValueFormat::Avro {
            write!(self.text, ", {}", writer.format.name())?;
        }
        match &writer.subject {
            Some(subject) => write!(self.text, ", subject {subject}"),
            None => Ok(()),
        }
    }

    fn aggregate(&mut self, sub: &SubTopology, aggregate: &Aggregate) -> fmt::Result {
        let store = &sub.stores[usize::from(aggregate.store.0)];
        write!(self.text, ": store {}, #{}, {}", store.name, aggregate.layout.0, aggregate.emit.name())?;
        if let Some(window) = &aggregate.window {
            write!(self.text, ", {}", windows(window))?;
        }
        writeln!(self.text)?;
        let state = store.row.fields();
        self.per_layout(sub, &aggregate.updates, |out, updates| {
            for (index, update) in updates.iter().enumerate() {
                let argument = update.argument.as_ref().map_or_else(String::new, written);
                let separator = if index == 0 { "" } else { ", " };
                let (name, function) = (&state[update.slot].name, update.function.name());
                write!(out.text, "{separator}{name} ← {function}({argument})")?;
            }
            Ok(())
        })?;
        let layout = &sub.layouts[usize::from(aggregate.layout.0)];
        let results = layout.slots.iter().zip(&aggregate.results).map(|(field, result)| match result {
            ResultField::Slot(slot) if state[*slot].name == field.name => field.name.to_string(),
            ResultField::Slot(slot) => format!("{} = {}", field.name, state[*slot].name),
            ResultField::Size(slot) => format!("{} = size of {}", field.name, state[*slot].name),
            ResultField::Least(slot) => format!("{} = least of {}", field.name, state[*slot].name),
            ResultField::Greatest(slot) => format!("{} = greatest of {}", field.name, state[*slot].name),
            ResultField::Different(slot) => format!("{} = different of {}", field.name, state[*slot].name),
            ResultField::Mean { sum, count } => {
                format!("{} = {} / {}", field.name, state[*sum].name, state[*count].name)
            }
        });
        writeln!(self.text, "    gives {}", results.collect::<Vec<_>>().join(", "))
    }

    /// What a join brings together.
    fn any_join(&mut self, plan: &Plan, sub: &SubTopology, kind: &NodeKind) -> fmt::Result {
        if let NodeKind::StreamTableJoin(join) = kind {
            self.join(sub, join)?;
        }
        if let NodeKind::GlobalJoin(join) = kind {
            let table = &plan.global_tables[usize::from(join.table.0)].store.name;
            writeln!(self.text, ": {} with global table {table}, #{}", join.kind.name(), join.layout.0)?;
            self.per_layout(sub, &join.refers_to, |out, expression| write!(out.text, "key {}", written(expression)))?;
            self.fields(sub, &join.fields, join.layout)?;
        }
        if let NodeKind::StreamJoin(join) = kind {
            let JoinWindow { before, after, grace } = join.window;
            writeln!(
                self.text,
                ": {} of streams, right from {before} before to {after} after, grace {grace}, #{}",
                join.kind.name(),
                join.layout.0
            )?;
            self.joined(sub, &join.fields, join.layout)?;
        }
        let store = |store: StoreRef| &sub.stores[usize::from(store.0)].name;
        if let NodeKind::Subscribe(subscribe) = kind {
            let (key, layout) = (written(&subscribe.refers_to), subscribe.layout.0);
            writeln!(self.text, ": {} by {key}, {} keys, #{layout}", subscribe.kind.name(), subscribe.format.name())?;
        }
        if let NodeKind::Subscriptions(subscriptions) = kind {
            let (own, right) = (store(subscriptions.store), store(subscriptions.right.store));
            writeln!(self.text, ": store {own}, to store {right}, #{}", subscriptions.layout.0)?;
        }
        if let NodeKind::ForeignJoin(join) = kind {
            let left = store(join.left.store);
            writeln!(self.text, ": {} of store {left} with responses, #{}", join.kind.name(), join.layout.0)?;
            self.joined(sub, &join.fields, join.layout)?;
        }
        if let NodeKind::TableJoin(join) = kind {
            let store = |side: &JoinSide| sub.stores[usize::from(side.store.0)].name.clone();
            let (left, right) = (store(&join.left), store(&join.right));
            writeln!(self.text, ": {} of stores {left} and {right}, #{}", join.kind.name(), join.layout.0)?;
            self.joined(sub, &join.fields, join.layout)?;
        }
        Ok(())
    }

    fn join(&mut self, sub: &SubTopology, join: &StreamTableJoin) -> fmt::Result {
        let store = &sub.stores[usize::from(join.table.store.0)].name;
        let when = if join.table.versioned.is_some() { ", as of the row's timestamp" } else { "" };
        let waits = join.grace.as_ref().map_or_else(String::new, |(grace, _)| format!(", after {grace}"));
        writeln!(self.text, ": {} with store {store}{when}{waits}, #{}", join.kind.name(), join.layout.0)?;
        self.fields(sub, &join.fields, join.layout)
    }

    fn entity(&mut self, sub: &SubTopology, entity: &Entity) -> fmt::Result {
        let store = &sub.stores[usize::from(entity.store.0)].name;
        write!(self.text, ": store {store}, #{}", entity.layout.0)?;
        if let Some(history) = &entity.history {
            let name = &sub.stores[usize::from(history.store.0)].name;
            match history.keep {
                Keep::Forever => write!(self.text, ", history in {name} for ever")?,
                Keep::For(span) => write!(self.text, ", history in {name} for {span}")?,
            }
            if !history.headers.is_empty() {
                write!(self.text, " with headers {}", history.headers.join(", "))?;
            }
        }
        writeln!(self.text)?;
        let state = &sub.layouts[usize::from(entity.layout.0)].slots;
        self.per_layout(sub, &entity.apply, |out, set| {
            for (index, (field, expression)) in set.iter().enumerate() {
                let separator = if index == 0 { "" } else { ", " };
                write!(out.text, "{separator}{} = {}", state[*field].name, written(expression))?;
            }
            Ok(())
        })?;
        let begins: Vec<String> = state
            .iter()
            .zip(&entity.initial)
            .filter(|(_, value)| !value.is_null())
            .map(|(field, value)| format!("{} = {}", field.name, literal(value)))
            .collect();
        if !begins.is_empty() {
            writeln!(self.text, "    begins with {}", begins.join(", "))?;
        }
        entity.deciding.as_ref().map_or(Ok(()), |deciding| self.deciding(sub, deciding))
    }

    fn deciding(&mut self, sub: &SubTopology, deciding: &Deciding) -> fmt::Result {
        let node = |index: NodeIndex| &sub.nodes[usize::from(index.0)].name;
        let answers = &sub.stores[usize::from(deciding.answers.store.0)].name;
        let commands = &sub.sources[usize::from(deciding.commands_source.0)].name;
        write!(self.text, "    decides {commands}, remembers answers in {answers} for {}", deciding.within)?;
        write!(self.text, ", gives events to {}", node(deciding.events))?;
        match deciding.replies {
            Some(replies) => writeln!(self.text, ", answers to {}", node(replies))?,
            None => writeln!(self.text)?,
        }
        self.per_layout(sub, &deciding.decisions, |out, decision| {
            for rule in &decision.reject {
                write!(out.text, "{} refuses when {}; ", rule.code, written(&rule.when))?;
            }
            for (index, emission) in decision.emit.iter().enumerate() {
                let given = emission.fields.iter().map(|(name, _, given)| match given {
                    Given::Expression(expression) => format!("{name} = {}", written(expression)),
                    Given::Default(value) => format!("{name} = {}", literal(value)),
                });
                let given = given.collect::<Vec<_>>().join(", ");
                let separator = if index == 0 { "" } else { "; " };
                write!(out.text, "{separator}gives {} {{ {given} }}", emission.event)?;
                if let Some(when) = &emission.when {
                    write!(out.text, " when {}", written(when))?;
                }
            }
            Ok(())
        })
    }

    fn fields(&mut self, sub: &SubTopology, fields: &PerLayout<Vec<Expression>>, made: LayoutId) -> fmt::Result {
        self.per_layout(sub, fields, |out, expressions| write!(out.text, "{}", made_of(sub, expressions, made)))
    }

    /// The fields of a row that is made of two.
    fn joined(&mut self, sub: &SubTopology, fields: &[Expression], made: LayoutId) -> fmt::Result {
        writeln!(self.text, "    {}", made_of(sub, fields, made))
    }

    fn per_layout<T>(
        &mut self,
        sub: &SubTopology,
        entries: &PerLayout<T>,
        describe: impl Fn(&mut Self, &T) -> fmt::Result,
    ) -> fmt::Result {
        for (layout, entry) in entries.iter() {
            write!(self.text, "    #{} {}: ", layout.0, sub.layouts[usize::from(layout.0)].type_name)?;
            describe(self, entry)?;
            writeln!(self.text)?;
        }
        Ok(())
    }

    fn children(&mut self, sub: &SubTopology, children: &[Child]) -> fmt::Result {
        let names = children.iter().map(|child| {
            let node = &sub.nodes[usize::from(child.node.0)];
            format!("{} {}", kind(&node.kind), node.name)
        });
        let names: Vec<String> = names.collect();
        if names.is_empty() { Ok(()) } else { writeln!(self.text, "    → {}", names.join(", ")) }
    }

    fn store(&mut self, store: &Store) -> fmt::Result {
        let kind = match &store.kind {
            StoreKind::KeyValue => "newest row per key".to_owned(),
            StoreKind::Window(window) => format!("row per key and window, {}", windows(window)),
            StoreKind::Versioned { retention } => format!("every row per key for {retention}"),
            StoreKind::Entity => "state per key".to_owned(),
            StoreKind::History => "every version per key".to_owned(),
            StoreKind::Due => "when to look at which row".to_owned(),
            StoreKind::Subscriptions => "who refers to which row".to_owned(),
            StoreKind::JoinSide | StoreKind::Waiting => "row per key and time".to_owned(),
        };
        let schema = self.schema(&store.row);
        writeln!(self.text, "  store {}: {kind}, {} keys, changelog {}", store.name, key(&store.key), store.changelog)?;
        let fields = store.row.fields().iter().map(|field| format!("{} {}", field.name, field.field_type));
        writeln!(self.text, "    {schema}: {}", fields.collect::<Vec<_>>().join(", "))
    }

    fn schema(&self, schema: &Schema) -> String {
        let name = schema.full_name().unwrap_or_default();
        match self.fingerprints {
            Fingerprints::Hidden => name.to_owned(),
            Fingerprints::Shown => format!("{name}:{:016x}", schema.fingerprint()),
        }
    }
}

/// The formats of a source's keys and values.
fn read_as(source: &Source) -> String {
    let format = match &source.payload {
        Payload::Registry { .. } => "avro",
        Payload::Internal { .. } => "internal avro",
        Payload::Json { .. } => "json",
        Payload::Scalar { format, .. } => format.name(),
    };
    let framed = if source.framed_keys { "avro " } else { "" };
    let events = if source.cloud_events { ", cloud events" } else { "" };
    format!("{framed}{} keys, {format}{events}", key(&source.key))
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() { "no field".to_owned() } else { names.join(", ") }
}

/// An expression's text without white space that means nothing.
pub(super) fn written(expression: &Expression) -> String {
    let mut tidy = String::new();
    let mut quote: Option<char> = None;
    let mut characters = expression.text.trim().chars().peekable();
    while let Some(character) = characters.next() {
        match quote {
            Some(open) => {
                tidy.push(character);
                if character == '\\' {
                    tidy.extend(characters.next());
                } else if character == open {
                    quote = None;
                }
            }
            None if character.is_whitespace() => {
                while characters.next_if(|next| next.is_whitespace()).is_some() {}
                tidy.push(' ');
            }
            None => {
                quote = Some(character).filter(|character| matches!(character, '"' | '\''));
                tidy.push(character);
            }
        }
    }
    tidy
}

/// A value as an expression would write it, as far as expressions can.
fn literal(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => format!("{value}u"),
        Value::Double(value) => format!("{value:?}"),
        Value::String(text) => format!("{text:?}"),
        Value::DateTime(moment) => moment.to_string(),
        Value::TimeDelta(delta) => delta.to_string(),
        Value::Decimal(number) => number.to_string(),
        Value::Bytes(_) | Value::List(_) | Value::Map(_) | Value::Record(_) | Value::Union(_) => format!("{value:?}"),
    }
}

fn made_of(sub: &SubTopology, fields: &[Expression], made: LayoutId) -> String {
    let slots = sub.layouts[usize::from(made.0)].slots.iter().zip(fields);
    let fields: Vec<String> =
        slots.map(|(field, expression)| format!("{} = {}", field.name, written(expression))).collect();
    fields.join(", ")
}

fn windows(window: &Window) -> String {
    let shape = match window.shape {
        WindowShape::Hopping { size, advance } if size == advance => format!("windows of {size}"),
        WindowShape::Hopping { size, advance } => format!("windows of {size} every {advance}"),
        WindowShape::Sliding { difference } => format!("sliding windows of {difference}"),
        WindowShape::Session { gap } => format!("sessions with gaps up to {gap}"),
    };
    format!("{shape}, grace {}, kept {}", window.grace, window.retention)
}
