//! What things of a plan are called in its text.

use crate::plan::model::{ContentMode, ErrorAction, KeyFormat, NodeKind, SinkKey, TopicRole};

pub(super) fn action(action: &ErrorAction) -> String {
    match action {
        ErrorAction::StopTask => "stop the task".to_owned(),
        ErrorAction::Skip => "skip it".to_owned(),
        ErrorAction::DeadLetter { topic } => format!("dead letter to {topic}"),
    }
}

pub(in crate::plan) fn written_keys(key: SinkKey) -> &'static str {
    match key {
        SinkKey::Plain => "",
        SinkKey::Start { .. } | SinkKey::EndAndStart => ", windows in keys",
        SinkKey::Avro => ", avro keys",
    }
}

pub(super) fn written_events(mode: Option<ContentMode>) -> &'static str {
    match mode {
        None => "",
        Some(ContentMode::Binary) => ", cloud events",
        Some(ContentMode::Structured) => ", structured cloud events",
    }
}

pub(super) fn key(format: &KeyFormat) -> &str {
    format.name()
}

pub(in crate::plan) fn kind(kind: &NodeKind) -> &'static str {
    match kind {
        NodeKind::Filter { .. } => "filter",
        NodeKind::Select { .. } => "select",
        NodeKind::Flatten(_) => "flatten",
        NodeKind::Log(_) => "log",
        NodeKind::Rekey { .. } | NodeKind::Regroup { .. } => "re-key",
        NodeKind::Repartition { .. } => "repartition",
        NodeKind::Sink { .. } => "sink",
        NodeKind::Table { .. } => "table",
        NodeKind::VersionedTable { .. } => "versioned table",
        NodeKind::Aggregate(_) => "aggregate",
        NodeKind::StreamTableJoin(_)
        | NodeKind::GlobalJoin(_)
        | NodeKind::StreamJoin(_)
        | NodeKind::TableJoin(_)
        | NodeKind::ForeignJoin(_) => "join",
        NodeKind::Subscribe(_) => "subscribe",
        NodeKind::Subscriptions(_) => "subscriptions",
        NodeKind::Suppress(_) => "suppress",
        NodeKind::Dedupe(_) => "dedupe",
        NodeKind::Timer(_) => "timer",
        NodeKind::Punctuate(_) => "punctuate",
        NodeKind::Entity(_) => "entity",
        NodeKind::Merge => "merge",
    }
}

pub(super) fn role(role: TopicRole) -> &'static str {
    match role {
        TopicRole::Source => "source",
        TopicRole::Sink => "sink",
        TopicRole::DeadLetter => "dead letters",
        TopicRole::Repartition => "repartition",
        TopicRole::Changelog => "changelog",
        TopicRole::Meta => "meta",
        TopicRole::Instances => "instances",
    }
}
