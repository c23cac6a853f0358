//! What becomes of topics: how their records are read, and whether those who read what is written into them still can.

use std::collections::{BTreeMap, BTreeSet};

use super::{Change, Comparison, Noted, Subject, Verdict, said};
use crate::avro::{Schema, can_read};
use crate::base::ids::Topic;
use crate::plan::explain::written_keys;
use crate::plan::model::{ContentMode, NodeKind, Payload, Plan, TopicRole, Writer};

impl Comparison<'_> {
    pub(super) fn topics(&self) -> Vec<Change> {
        let mut changes = Vec::new();
        let names: BTreeSet<&Topic> = self.old.topics.keys().chain(self.new.topics.keys()).collect();
        for topic in names {
            let mut noted = Noted::new();
            match (self.old.topics.get(topic), self.new.topics.get(topic)) {
                (None, Some(planned)) => match planned.role {
                    TopicRole::Source => noted.note(Verdict::Upgrades, "new: read from where `auto_offset_reset` says"),
                    TopicRole::Sink | TopicRole::DeadLetter => {
                        noted.note(Verdict::Upgrades, "new: written to from now on")
                    }
                    TopicRole::Repartition | TopicRole::Changelog | TopicRole::Meta | TopicRole::Instances => {
                        noted.note(Verdict::Upgrades, "new: created at the start");
                    }
                },
                (Some(planned), None) => match planned.role {
                    TopicRole::Sink => noted.note(Verdict::BreaksReaders, "nothing is written to it any more"),
                    TopicRole::Source => noted.note(Verdict::Upgrades, "no longer read"),
                    TopicRole::DeadLetter => noted.note(Verdict::Upgrades, "no dead letters come any more"),
                    TopicRole::Repartition | TopicRole::Changelog | TopicRole::Meta | TopicRole::Instances => {
                        noted.note(Verdict::Upgrades, "no longer used; it stays until it is deleted");
                    }
                },
                (Some(was), Some(is)) => {
                    if was.configs != is.configs {
                        noted.note(Verdict::Upgrades, "its settings differ: an existing topic keeps those that it has");
                    }
                    if was.role != is.role {
                        noted.note(Verdict::Upgrades, "it is used for something else");
                    }
                    self.read_as(topic, &mut noted);
                    self.written_as(topic, &mut noted);
                }
                (None, None) => {}
            }
            changes.push(noted.of(Subject::Topic, topic.as_str()));
        }
        changes
    }

    /// How a topic's records are read.
    fn read_as(&self, topic: &Topic, noted: &mut Noted) {
        let reader = |plan: &Plan| -> Option<(String, Vec<Schema>, bool)> {
            let mut sources = plan.sub_topologies.iter().flat_map(|sub| &sub.sources);
            let source = sources.find(|source| source.topic == *topic)?;
            let (format, internal) = match &source.payload {
                Payload::Registry { .. } => ("avro", false),
                Payload::Internal { .. } => ("internal", true),
                Payload::Json { .. } => ("json", false),
                Payload::Scalar { format, .. } => (format.name(), false),
            };
            let schemas = source.payload.readers().iter().map(|reader| reader.schema.clone()).collect();
            Some((format!("{} keys, {format} values", source.key.name()), schemas, internal))
        };
        let (Some((was, before, _)), Some((is, after, internal))) = (reader(self.old), reader(self.new)) else {
            return;
        };
        if was != is {
            noted.note(
                Verdict::Upgrades,
                format!("it is read as {is}, and was as {was}: records that are in it must be so"),
            );
        }
        if before == after {
            return;
        }
        if internal {
            let drain = "rows on their way in it have the old shape: let the running version work them off (stop what feeds it, wait until its lag is 0), then start the new one";
            noted.note(Verdict::Upgrades, drain);
            return;
        }
        for (schema, name) in after.iter().filter_map(|schema| Some((schema, schema.full_name()?))) {
            match before.iter().find(|known| known.full_name() == Some(name)) {
                None => noted.note(Verdict::Upgrades, format!("events of type `{name}` are read, too")),
                Some(known) if known == schema => {}
                Some(known) => {
                    let problems = can_read(schema, known);
                    if problems.is_empty() {
                        noted.note(
                            Verdict::Upgrades,
                            format!("`{name}` is read under another schema, which takes the events that are there"),
                        );
                    } else {
                        noted.note(
                            Verdict::Rebuilds,
                            format!("events of type `{name}` that are there cannot be read: {}", said(&problems)),
                        );
                    }
                }
            }
        }
        for name in before.iter().filter_map(Schema::full_name) {
            if !after.iter().any(|schema| schema.full_name() == Some(name)) {
                noted.note(Verdict::Upgrades, format!("events of type `{name}` are passed over from now on"));
            }
        }
    }

    /// How records are written into a topic that others read.
    fn written_as(&self, topic: &Topic, noted: &mut Noted) {
        let (before, after) = (written(self.old, topic), written(self.new, topic));
        if before.is_empty() && after.is_empty() {
            return;
        }
        let differs = |what: &str, of: &dyn Fn(&Written<'_>) -> Vec<String>, noted: &mut Noted| {
            let all = |sinks: &[Written<'_>]| sinks.iter().flat_map(of).collect::<BTreeSet<String>>();
            let (was, is) = (all(&before), all(&after));
            if was != is {
                let listed = |ways: BTreeSet<String>| ways.into_iter().collect::<Vec<_>>().join("; ");
                let note = format!("its {what} are written as {}, and were as {}", listed(is), listed(was));
                noted.note(Verdict::BreaksReaders, note);
            }
        };
        differs("keys", &|sink| vec![sink.keys.clone()], noted);
        differs("values", &|sink| sink.values(), noted);
        let types = |sinks: &[Written<'_>]| -> BTreeMap<String, (Schema, Option<String>)> {
            let writers = sinks.iter().flat_map(|sink| sink.writers.iter());
            writers
                .map(|writer| {
                    (
                        writer.schema.full_name().unwrap_or_default().to_owned(),
                        (writer.schema.clone(), writer.subject.clone()),
                    )
                })
                .collect()
        };
        let (before, after) = (types(&before), types(&after));
        for (name, (schema, subject)) in &after {
            let Some((known, known_subject)) = before.get(name) else {
                noted.note(Verdict::Upgrades, format!("records of type `{name}` are written, too"));
                continue;
            };
            if subject != known_subject {
                let shown = |subject: &Option<String>| subject.clone().unwrap_or_default();
                noted.note(
                    Verdict::Upgrades,
                    format!(
                        "`{name}` is registered under subject `{}`, and was under `{}`",
                        shown(subject),
                        shown(known_subject)
                    ),
                );
            }
            if schema == known {
                continue;
            }
            let (forward, backward) = (can_read(known, schema), can_read(schema, known));
            if !forward.is_empty() {
                noted.note(
                    Verdict::BreaksReaders,
                    format!("readers of `{name}` as it was cannot read it as it is: {}", said(&forward)),
                );
            }
            if !backward.is_empty() {
                noted.note(
                    Verdict::BreaksReaders,
                    format!("readers of `{name}` as it is cannot read what is there: {}", said(&backward)),
                );
            }
            if forward.is_empty() && backward.is_empty() {
                noted.note(Verdict::Upgrades, format!("`{name}` has another schema; readers of either read both"));
            }
        }
        for name in before.keys().filter(|name| !after.contains_key(*name)) {
            noted.note(Verdict::BreaksReaders, format!("records of type `{name}` are no longer written"));
        }
    }
}

/// How a sink writes records.
struct Written<'a> {
    keys: String,
    cloud_events: Option<ContentMode>,
    writers: Vec<&'a Writer>,
}

impl Written<'_> {
    fn values(&self) -> Vec<String> {
        let events = match self.cloud_events {
            None => "",
            Some(ContentMode::Binary) => " in CloudEvents",
            Some(ContentMode::Structured) => " in structured CloudEvents",
        };
        self.writers.iter().map(|writer| format!("{}{events}", writer.format.name())).collect()
    }
}

fn written<'a>(plan: &'a Plan, topic: &Topic) -> Vec<Written<'a>> {
    let nodes = plan.sub_topologies.iter().flat_map(|sub| &sub.nodes);
    let sinks = nodes.filter_map(|node| {
        let NodeKind::Sink { topic: to, format, key, cloud_events, writers } = &node.kind else { return None };
        let keys = format!("{}{}", format.name(), written_keys(*key));
        let writers = writers.iter().map(|(_, writer)| writer).collect();
        (to == topic).then_some(Written { keys, cloud_events: *cloud_events, writers })
    });
    sinks.collect()
}
