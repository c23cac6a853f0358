//! Fits a plan to an environment: topics under the names they have there, another application id. Meaning and fingerprint stay.

use std::collections::BTreeMap;

use crate::base::ids::Topic;
use crate::plan::model::{ErrorAction, NodeKind, OnError, Partitions, Payload, Plan, TopicPlan, TopicRole};

impl Plan {
    /// Gives the topics that others read and write the names they have in this environment; our own keep theirs.
    pub fn bind(&mut self, bound: &dyn Fn(&str) -> String) {
        self.rename_topics(&|topic, role| match role {
            TopicRole::Source | TopicRole::Sink | TopicRole::DeadLetter => Topic::new(bound(topic.as_str())),
            TopicRole::Repartition | TopicRole::Changelog | TopicRole::Meta | TopicRole::Instances => topic.clone(),
        });
    }

    /// Runs the same topology as another application: another group, other topics of its own.
    pub fn rename_application(&mut self, application_id: &str) {
        let old = format!("{}-", self.application_id);
        self.rename_topics(&|topic, role| match (role, topic.as_str().strip_prefix(&old)) {
            (TopicRole::Repartition | TopicRole::Changelog | TopicRole::Meta | TopicRole::Instances, Some(rest)) => {
                Topic::new(format!("{application_id}-{rest}"))
            }
            _ => topic.clone(),
        });
        self.application_id = application_id.to_owned();
    }

    fn rename_topics(&mut self, renamed: &dyn Fn(&Topic, TopicRole) -> Topic) {
        let names: BTreeMap<Topic, Topic> =
            self.topics.iter().map(|(topic, planned)| (topic.clone(), renamed(topic, planned.role))).collect();
        let rename = |topic: &mut Topic| {
            if let Some(new) = names.get(topic) {
                *topic = new.clone();
            }
        };
        let rename_action = |on_error: &mut OnError| {
            if let ErrorAction::DeadLetter { topic } = &mut on_error.action {
                rename(topic);
            }
        };
        for sub in &mut self.sub_topologies {
            rename(&mut sub.meta_topic);
            for source in &mut sub.sources {
                rename(&mut source.topic);
                rename_action(&mut source.on_decode_error);
                if let Payload::Internal { upstream, .. } = &mut source.payload {
                    upstream.iter_mut().for_each(|upstream| rename(&mut upstream.partitions_of));
                }
            }
            for node in &mut sub.nodes {
                rename_action(&mut node.on_process_error);
                rename_action(&mut node.on_produce_error);
                if let NodeKind::Sink { topic, .. } | NodeKind::Repartition { topic, .. } = &mut node.kind {
                    rename(topic);
                }
            }
            sub.stores.iter_mut().for_each(|store| rename(&mut store.changelog));
        }
        for table in &mut self.global_tables {
            rename(&mut table.source.topic);
            rename_action(&mut table.source.on_decode_error);
            rename(&mut table.store.changelog);
        }
        self.topics = std::mem::take(&mut self.topics)
            .into_iter()
            .map(|(mut topic, TopicPlan { role, mut partitions, configs })| {
                rename(&mut topic);
                if let Partitions::MaxOf(others) = &mut partitions {
                    others.iter_mut().for_each(rename);
                }
                (topic, TopicPlan { role, partitions, configs })
            })
            .collect();
    }
}
