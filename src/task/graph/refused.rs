//! What topics do not take, as far as it is known: records that are too large, and all of them when a topic is gone or not ours to
//! write to. The broker says so when a generation has been sent; the generation is done again, and now the record that makes such a row
//! meets the refusal on its walk, where its node's `on_error.produce` decides about it and nothing else.

use crate::base::ids::Topic;
use crate::base::time::{SpanMs, Timestamp};
use crate::limits::REFUSED_TOPIC_MS;
use crate::operator::{self, DropReason};
use crate::plan::{NodeKind, SubTopology};
use crate::store::StoreIndex;

use super::{DeadLetterTopic, Graph, Resolved};

/// What the broker said about a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A record of so many bytes is too large.
    TooLarge { size_bytes: usize },
    /// It takes nothing, or nothing without a key.
    All { keyless: bool, message: String },
}

/// What a task writes to a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    Nothing,
    /// Rows of its nodes: `on_error.produce` decides about each.
    Rows,
    /// Dead letters: the record that would have become one stops the task.
    DeadLetters,
    /// A store's rows: one that is too large is its record's failure.
    Changelog,
    /// How far it is: without that it cannot go on.
    Meta,
}

/// What is known.
#[derive(Debug)]
pub(super) struct Refusals {
    /// By node: the largest record its topic takes.
    bytes_max: Vec<usize>,
    dead_letters: Vec<DeadLetterTopic>,
    /// Topics that take nothing, with why and since when.
    all: Vec<Refused>,
}

#[derive(Debug)]
struct Refused {
    topic: Topic,
    keyless: bool,
    message: String,
    since: Timestamp,
}

impl Refusals {
    pub(super) fn new(resolved: &Resolved) -> Self {
        let (bytes_max, dead_letters) = (resolved.record_bytes_max.clone(), resolved.dead_letters.clone());
        Self { bytes_max, dead_letters, all: Vec::new() }
    }

    /// Checks a row that a node wants to write.
    pub(super) fn check(
        &self,
        node: usize,
        topic: &Topic,
        keyless: bool,
        size_bytes: usize,
    ) -> Result<(), operator::Error> {
        let bytes_max = self.bytes_max[node];
        if size_bytes > bytes_max {
            let message = format!("the row has {size_bytes} bytes, topic `{topic}` takes {bytes_max} (E1003)");
            return Err(operator::Error::Produce { reason: DropReason::TooLarge, message });
        }
        match self.refused(topic, keyless) {
            None => Ok(()),
            Some(message) => Err(operator::Error::Produce { reason: DropReason::Produce, message: message.to_owned() }),
        }
    }

    fn refused(&self, topic: &Topic, keyless: bool) -> Option<&str> {
        let refused = self.all.iter().find(|refused| refused.topic == *topic && (keyless || !refused.keyless));
        refused.map(|refused| refused.message.as_str())
    }

    /// Returns a dead-letter topic as it stands, or why it takes nothing.
    pub(super) fn dead_letter_topic(&self, topic: &Topic, keyless: bool) -> Result<DeadLetterTopic, String> {
        if let Some(message) = self.refused(topic, keyless) {
            return Err(message.to_owned());
        }
        let known = self.dead_letters.iter().find(|known| known.topic == *topic);
        known.cloned().ok_or_else(|| format!("there is no topic `{topic}`"))
    }

    /// Takes note of what the broker said; `nodes` are those that write to the topic.
    pub(super) fn add(&mut self, topic: &Topic, refusal: &Refusal, nodes: impl Iterator<Item = usize>, now: Timestamp) {
        match refusal {
            Refusal::TooLarge { size_bytes } => {
                let bytes_max = size_bytes.saturating_sub(1);
                for node in nodes {
                    self.bytes_max[node] = self.bytes_max[node].min(bytes_max);
                }
                for known in self.dead_letters.iter_mut().filter(|known| known.topic == *topic) {
                    known.record_bytes_max = known.record_bytes_max.min(bytes_max);
                }
            }
            Refusal::All { keyless, message } => {
                self.all.retain(|refused| refused.topic != *topic);
                let (topic, message) = (topic.clone(), message.clone());
                self.all.push(Refused { topic, keyless: *keyless, message, since: now });
            }
        }
    }

    /// Topics that took nothing are tried again: after a while, or at once.
    pub(super) fn forget(&mut self, now: Timestamp, at_once: bool) {
        self.all.retain(|refused| !at_once && refused.since.saturating_add(SpanMs(REFUSED_TOPIC_MS)) > now);
    }
}

impl Graph {
    pub(in crate::task) fn writes(&self, plan: &SubTopology, topic: &Topic) -> Writes {
        if plan.nodes.iter().any(|node| writes_rows(&node.kind, topic)) {
            Writes::Rows
        } else if plan.stores.iter().any(|store| store.changelog == *topic) {
            Writes::Changelog
        } else if plan.meta_topic == *topic {
            Writes::Meta
        } else if self.resolved.dead_letters.iter().any(|known| known.topic == *topic) {
            Writes::DeadLetters
        } else {
            Writes::Nothing
        }
    }

    pub(in crate::task) fn refused(&mut self, plan: &SubTopology, topic: &Topic, refusal: &Refusal, now: Timestamp) {
        let nodes = plan.nodes.iter().enumerate().filter(|(_, node)| writes_rows(&node.kind, topic));
        self.refusals.add(topic, refusal, nodes.map(|(index, _)| index), now);
        if let Refusal::TooLarge { size_bytes } = refusal {
            for (index, _) in plan.stores.iter().enumerate().filter(|(_, store)| store.changelog == *topic) {
                self.stores.set_row_bytes_max(StoreIndex(index as u16), size_bytes.saturating_sub(1));
            }
        }
    }

    pub(in crate::task) fn forget_refusals(&mut self, now: Timestamp, at_once: bool) {
        self.refusals.forget(now, at_once);
    }

    pub(in crate::task) fn dead_letter_topic(&self, topic: &Topic, keyless: bool) -> Result<DeadLetterTopic, String> {
        self.refusals.dead_letter_topic(topic, keyless)
    }
}

fn writes_rows(kind: &NodeKind, topic: &Topic) -> bool {
    matches!(kind, NodeKind::Sink { topic: written, .. } | NodeKind::Repartition { topic: written, .. } if written == topic)
}
