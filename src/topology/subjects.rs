//! The schemas that a topology reads topics with, as far as its files can be read: what `schema pull` fetches.

use std::cell::RefCell;

use super::parse;
use super::sources::{SchemaFile, Sources};
use super::spec::Body;
use super::terms::{SubjectNaming, ValueFormat};

/// A schema of a topic's events.
#[derive(Clone, Debug)]
pub struct WantedSchema {
    /// As the topology names it.
    pub topic: String,
    pub naming: SubjectNaming,
    /// As the topology names it, `OrderPlaced.avsc`.
    pub file: String,
    /// None where there is no such file yet.
    pub found: Option<SchemaFile>,
}

/// Returns the schemas of the topics whose values are Avro, in the order of the files.
pub fn wanted_schemas(sources: &Sources) -> Vec<WantedSchema> {
    let spec = parse::parse(sources, &RefCell::default());
    let mut wanted = Vec::new();
    for body in spec.nodes.iter().filter_map(|node| node.body.as_ref()) {
        let (Body::StreamOfTopic(topic) | Body::TableOfTopic(topic) | Body::GlobalTable(topic)) = body else {
            continue;
        };
        if topic.value_format != ValueFormat::Avro {
            continue;
        }
        wanted.extend(topic.schemas.iter().map(|file| WantedSchema {
            topic: topic.topic.value.clone(),
            naming: topic.subjects,
            file: file.value.clone(),
            found: sources.schemas.iter().find(|schema| schema.name == file.value).cloned(),
        }));
    }
    wanted
}
