//! Names and settings of internal topics and stores, from the topology's names alone.

use std::collections::BTreeMap;

use crate::base::ids::Topic;
use crate::base::value::Text;
use crate::plan::model::SubTopology;
use crate::topology::{Graph, Node};

/// Makes the names of one application's internal topics.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub application_id: String,
}

impl Names {
    pub(super) fn repartition(&self, node: &str) -> Topic {
        Topic::new(format!("{}-{node}-repartition", self.application_id))
    }

    pub(super) fn changelog(&self, store: &str) -> Topic {
        Topic::new(format!("{}-{store}-changelog", self.application_id))
    }

    pub(super) fn instances(&self) -> Topic {
        Topic::new(format!("{}-instances", self.application_id))
    }

    pub(super) fn meta(&self, sub_topology: &str) -> Topic {
        Topic::new(format!("{}-{sub_topology}-meta", self.application_id))
    }
}

/// Gives nodes that were renamed, and their stores, the names that they have now; what they are kept as stays.
pub(super) fn rename(graph: &Graph, sub: &mut SubTopology) {
    // What belongs to a node is called after it: `totals_due` is of `totals`, unless there is a `totals_due`.
    let new_name = |kept: &Text| {
        let belongs = |node: &&Node| {
            kept.strip_prefix(node.kept_name().as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
        };
        let node = graph.nodes.iter().filter(belongs).max_by_key(|node| node.kept_name().len())?;
        let rest = &kept[node.kept_name().len()..];
        node.was.as_ref().map(|_| Text::from(format!("{}{rest}", node.name)))
    };
    let names = sub.nodes.iter_mut().map(|node| (&node.kept_as, &mut node.name));
    let names = names.chain(sub.stores.iter_mut().map(|store| (&store.kept_as, &mut store.name)));
    for (kept_as, name) in names {
        if let Some(new) = new_name(kept_as) {
            *name = new;
        }
    }
    for source in &mut sub.sources {
        // One that reads a repartition topic is called as the topic.
        if let Some(new) = new_name(&source.name).filter(|_| source.name != source.topic.as_str()) {
            source.name = new;
        }
    }
}

/// Returns the name of an entity's history store.
pub(super) fn history_store(entity: &str) -> Text {
    Text::from(format!("{entity}_history"))
}

/// Returns the name of the store that remembers an entity's answers to commands.
pub(super) fn answers_store(entity: &str) -> Text {
    Text::from(format!("{entity}_answers"))
}

/// Returns the name of what writes an entity's events.
pub(super) fn decided_by(entity: &str) -> Text {
    Text::from(format!("{entity}_events"))
}

/// Returns the name of what writes an entity's replies.
pub(super) fn replies_of(entity: &str) -> Text {
    Text::from(format!("{entity}_replies"))
}

/// Returns the name of the store that keeps a node's rows where it has none to look up in.
pub(super) fn kept_rows(node: &str) -> Text {
    Text::from(format!("{node}_rows"))
}

/// Returns the name of what a join keeps of its left side's rows.
pub(super) fn left_of(join: &str) -> Text {
    Text::from(format!("{join}_left"))
}

/// Returns the name of what a join keeps of its right side's rows.
pub(super) fn right_of(join: &str) -> Text {
    Text::from(format!("{join}_right"))
}

/// Returns the name of what a join by foreign key keeps of who refers to which row, and of the topic that says it.
pub(super) fn subscriptions_of(join: &str) -> Text {
    Text::from(format!("{join}_subscriptions"))
}

/// Returns what the topic is named by that brings a join by foreign key its responses.
pub(super) fn responses_of(join: &str) -> Text {
    Text::from(format!("{join}_responses"))
}

/// Returns the name of the index that says when to look at a store's rows.
pub(super) fn due_store(store: &str) -> Text {
    Text::from(format!("{store}_due"))
}

/// Bytes after which a repartition topic begins a new segment, so that what was worked on can be deleted (Kafka Streams: 50 MB).
const REPARTITION_SEGMENT_BYTES: u32 = 52_428_800;

/// Settings of changelogs and meta topics: the newest record per key for ever; expiry is by our own tombstones, since the
/// broker's clock knows nothing of stream time. The record's timestamp is the row's.
pub(super) fn compacted() -> BTreeMap<String, String> {
    configs(&[("cleanup.policy", "compact"), ("retention.ms", "-1"), ("message.timestamp.type", "CreateTime")])
}

/// Bytes after which the topic of the instances begins a new segment: the newest one is never compacted, and every start reads it.
const INSTANCES_SEGMENT_BYTES: u32 = 1_048_576;

/// Settings of the topic in which instances say what they are: the newest record of each, dated by the broker, whose clock is the
/// one that all of them are judged by.
pub(super) fn instances() -> BTreeMap<String, String> {
    configs(&[
        ("cleanup.policy", "compact"),
        ("retention.ms", "-1"),
        ("segment.bytes", &INSTANCES_SEGMENT_BYTES.to_string()),
        ("message.timestamp.type", "LogAppendTime"),
    ])
}

/// Settings of repartition topics: nothing goes by age, since a backlog may be old.
pub(super) fn repartition() -> BTreeMap<String, String> {
    configs(&[
        ("cleanup.policy", "delete"),
        ("retention.ms", "-1"),
        ("segment.bytes", &REPARTITION_SEGMENT_BYTES.to_string()),
        ("message.timestamp.type", "CreateTime"),
    ])
}

fn configs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
