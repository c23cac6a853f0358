//! The admin client: topics and groups of the local broker. Everything is done when the call returns; no wait is used up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{Offset, Topic, TopicPartition};
use crate::broker::local::Shared;
use crate::broker::local::state::{DELETE_RETENTION_MS_DEFAULT, RECORD_BYTES_DEFAULT, State};
use crate::broker::{Admin, Error, NewTopic, TopicDescription};

/// Looks at and changes a [`super::LocalBroker`].
#[derive(Debug)]
pub(super) struct LocalAdmin {
    shared: Arc<Shared>,
}

impl LocalAdmin {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Changes something and wakes whoever waits for it.
    fn change(&self, change: impl FnOnce(&mut State) -> Result<(), Error>) -> Result<(), Error> {
        let outcome = change(&mut self.shared.lock());
        self.shared.changed.notify_all();
        outcome
    }
}

impl Admin for LocalAdmin {
    fn describe(&mut self, topics: &[Topic], _wait: Duration) -> Result<Vec<Option<TopicDescription>>, Error> {
        let state = self.shared.lock();
        let describe = |topic: &Topic| {
            let found = state.topics.get(topic)?;
            // `retention.ms` says what is so: nothing is ever deleted by time.
            let mut configs: BTreeMap<String, String> = [
                ("cleanup.policy", "delete".to_owned()),
                ("retention.ms", "-1".to_owned()),
                ("max.message.bytes", RECORD_BYTES_DEFAULT.to_string()),
                ("message.timestamp.type", "CreateTime".to_owned()),
                ("delete.retention.ms", DELETE_RETENTION_MS_DEFAULT.to_string()),
            ]
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
            configs.extend(found.configs.clone());
            Some(TopicDescription {
                topic: topic.clone(),
                id: Some(format!("{:016x}-{}", self.shared.broker_id, found.incarnation)),
                partitions: found.partitions.len() as u32,
                configs,
            })
        };
        Ok(topics.iter().map(describe).collect())
    }

    fn list(&mut self, _wait: Duration) -> Result<Vec<Topic>, Error> {
        let state = self.shared.lock();
        Ok(state.topics.keys().filter(|topic| !topic.as_str().starts_with("__")).cloned().collect())
    }

    fn create(&mut self, topic: &NewTopic, _wait: Duration) -> Result<(), Error> {
        self.change(|state| state.create_topic(topic))
    }

    fn add_partitions(&mut self, topic: &Topic, total: u32, _wait: Duration) -> Result<(), Error> {
        self.change(|state| state.add_partitions(topic, total))
    }

    fn delete(&mut self, topic: &Topic, _wait: Duration) -> Result<(), Error> {
        self.change(|state| state.delete_topic(topic))
    }

    fn delete_records(&mut self, before: &[(TopicPartition, Offset)], _wait: Duration) -> Result<(), Error> {
        self.change(|state| state.delete_records(before))
    }

    fn delete_group(&mut self, group_id: &str, _wait: Duration) -> Result<(), Error> {
        self.change(|state| state.delete_group(group_id))
    }
}
