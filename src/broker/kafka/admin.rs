//! Topics and groups: looked at, made and deleted. Calls wait on the caller's thread; rdkafka's own thread receives the answers.
//!
//! Decides when a change counts as done: when the broker's metadata show it. Not here: which topics there should be.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, NewPartitions, NewTopic as RdNewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::metadata::Metadata;

use super::convert::list_at;
use super::{Cluster, Deadline, Logging, config, error, native};
use crate::base::ids::{Offset, Topic, TopicPartition};
use crate::broker::{Admin, Error, NewTopic, TopicDescription, TopicIdentity};

/// Between two looks at whether a change has arrived.
const LOOK_AGAIN: Duration = Duration::from_millis(30);

/// An admin client of a Kafka cluster.
pub(super) struct KafkaAdmin {
    client: AdminClient<Logging>,
    cluster: Arc<Cluster>,
}

impl fmt::Debug for KafkaAdmin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KafkaAdmin")
    }
}

impl KafkaAdmin {
    pub(super) fn new(cluster: Arc<Cluster>) -> Result<Self, Error> {
        let client = AdminClient::from_config_and_context(&config::admin(&cluster.settings), Logging)
            .map_err(|e| error::refused(&e))?;
        Ok(Self { client, cluster })
    }

    /// Asks for all topics: asking for one that does not exist may create it.
    fn metadata(&self, deadline: Deadline) -> Result<Metadata, Error> {
        self.client.inner().fetch_metadata(None, deadline.left()).map_err(|e| error::map(&e, None))
    }

    fn configs(
        &self,
        topics: &[&Topic],
        deadline: Deadline,
    ) -> Result<HashMap<Topic, BTreeMap<String, String>>, Error> {
        let mut configs = HashMap::new();
        if topics.is_empty() {
            return Ok(configs);
        }
        let specifiers: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic.as_str())).collect();
        let answers = block_on(self.client.describe_configs(&specifiers, &options(deadline)), deadline)?;
        for (topic, answer) in topics.iter().zip(answers) {
            let entries = match answer {
                Ok(resource) => resource.entries,
                Err(code) => {
                    tracing::debug!(%topic, %code, "the broker does not tell a topic's configs");
                    Vec::new()
                }
            };
            let known: BTreeMap<String, String> =
                entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect();
            if let Some(limit) = known.get("max.message.bytes").and_then(|text| text.parse().ok()) {
                self.cluster.remember_limit(topic, limit);
            }
            configs.insert((*topic).clone(), known);
        }
        Ok(configs)
    }

    /// Looks at the metadata until `arrived` says yes.
    fn await_metadata(&self, deadline: Deadline, arrived: impl Fn(&Metadata) -> bool) -> Result<(), Error> {
        loop {
            if arrived(&self.metadata(deadline)?) {
                return Ok(());
            }
            if deadline.passed() {
                return Err(Error::Unavailable { message: "the change has not arrived yet".into() });
            }
            deadline.pause(LOOK_AGAIN);
        }
    }
}

impl Admin for KafkaAdmin {
    fn describe(&mut self, topics: &[Topic], wait: Duration) -> Result<Vec<Option<TopicDescription>>, Error> {
        let deadline = Deadline::after(wait);
        let metadata = self.metadata(deadline)?;
        let partitions: HashMap<&str, usize> = metadata
            .topics()
            .iter()
            .filter(|topic| topic.error().is_none())
            .map(|topic| (topic.name(), topic.partitions().len()))
            .collect();
        let existing: Vec<&Topic> = topics.iter().filter(|topic| partitions.contains_key(topic.as_str())).collect();
        let mut configs = self.configs(&existing, deadline)?;
        let mut told = native::topic_identities(self.client.inner(), &existing, deadline.left());
        let described = topics.iter().map(|topic| {
            let count = partitions.get(topic.as_str())?;
            Some(TopicDescription {
                topic: topic.clone(),
                id: told.remove(topic).flatten().and_then(|identity| identity.id),
                partitions: u32::try_from(*count).unwrap_or(u32::MAX),
                configs: configs.remove(topic).unwrap_or_default(),
            })
        });
        Ok(described.collect())
    }

    fn identify(&mut self, topics: &[Topic], wait: Duration) -> Result<Vec<Option<TopicIdentity>>, Error> {
        let wanted: Vec<&Topic> = topics.iter().collect();
        let mut told = native::topic_identities(self.client.inner(), &wanted, wait);
        let one = |topic: &Topic| {
            let message = || format!("the broker does not tell what topic `{topic}` is");
            told.remove(topic).ok_or_else(|| Error::Unavailable { message: message() })
        };
        topics.iter().map(one).collect()
    }

    fn list(&mut self, wait: Duration) -> Result<Vec<Topic>, Error> {
        let metadata = self.metadata(Deadline::after(wait))?;
        let names = metadata.topics().iter().filter(|topic| topic.error().is_none()).map(|topic| topic.name());
        let mut topics: Vec<Topic> = names.filter(|name| !name.starts_with("__")).map(Topic::new).collect();
        topics.sort();
        Ok(topics)
    }

    fn create(&mut self, topic: &NewTopic, wait: Duration) -> Result<(), Error> {
        let deadline = Deadline::after(wait);
        let name = topic.topic.as_str();
        let partitions = i32::try_from(topic.partitions).map_err(|_| invalid("too many partitions"))?;
        let replication = topic.replication_factor.map_or(-1, i32::from);
        let mut wanted = RdNewTopic::new(name, partitions, TopicReplication::Fixed(replication));
        for (key, value) in &topic.configs {
            wanted = wanted.set(key, value);
        }
        let answers = block_on(self.client.create_topics([&wanted], &options(deadline)), deadline)?;
        for answer in answers {
            match answer {
                Ok(_) | Err((_, Code::TopicAlreadyExists)) => {}
                Err((_, code)) => return Err(code_error(code, &topic.topic, "creating")),
            }
        }
        self.await_metadata(deadline, |metadata| {
            metadata.topics().iter().any(|known| {
                let led = known.partitions().iter().all(|partition| partition.leader() >= 0);
                known.name() == name && known.error().is_none() && !known.partitions().is_empty() && led
            })
        })?;
        // So that producers know what the topic takes.
        self.configs(&[&topic.topic], deadline).map(drop)
    }

    fn add_partitions(&mut self, topic: &Topic, total: u32, wait: Duration) -> Result<(), Error> {
        let deadline = Deadline::after(wait);
        let count = usize::try_from(total).map_err(|_| invalid("too many partitions"))?;
        let wanted = [NewPartitions::new(topic.as_str(), count)];
        for answer in block_on(self.client.create_partitions(&wanted, &options(deadline)), deadline)? {
            answer.map_err(|(_, code)| code_error(code, topic, "adding partitions to"))?;
        }
        self.await_metadata(deadline, |metadata| {
            metadata.topics().iter().any(|known| {
                let led = known.partitions().iter().filter(|partition| partition.leader() >= 0).count();
                known.name() == topic.as_str() && led >= count
            })
        })
    }

    fn delete(&mut self, topic: &Topic, wait: Duration) -> Result<(), Error> {
        let deadline = Deadline::after(wait);
        let answers = block_on(self.client.delete_topics(&[topic.as_str()], &options(deadline)), deadline)?;
        for answer in answers {
            match answer {
                Ok(_) | Err((_, Code::UnknownTopicOrPartition | Code::UnknownTopic)) => {}
                Err((_, code)) => return Err(code_error(code, topic, "deleting")),
            }
        }
        self.await_metadata(deadline, |metadata| {
            !metadata.topics().iter().any(|known| known.name() == topic.as_str() && known.error().is_none())
        })
    }

    fn delete_records(&mut self, before: &[(TopicPartition, Offset)], wait: Duration) -> Result<(), Error> {
        if before.is_empty() {
            return Ok(());
        }
        let deadline = Deadline::after(wait);
        let offsets = list_at(before.iter().map(|(partition, offset)| (partition, *offset)))?;
        let answer = block_on(self.client.delete_records(&offsets, &options(deadline)), deadline)?;
        for (partition, _) in before {
            if let Some(element) = answer.find_partition(partition.topic.as_str(), partition.partition.0) {
                element.error().map_err(|e| error::map(&e, Some(&partition.topic)))?;
            }
        }
        Ok(())
    }

    fn delete_group(&mut self, group_id: &str, wait: Duration) -> Result<(), Error> {
        let deadline = Deadline::after(wait);
        let answers = block_on(self.client.delete_groups(&[group_id], &options(deadline)), deadline)?;
        for answer in answers {
            match answer {
                Ok(_) | Err((_, Code::GroupIdNotFound)) => {}
                Err((_, code)) => {
                    return Err(error::from_code(code, None, format!("deleting group `{group_id}`: {code}")));
                }
            }
        }
        Ok(())
    }
}

fn code_error(code: Code, topic: &Topic, doing: &str) -> Error {
    error::from_code(code, Some(topic), format!("{doing} topic `{topic}`: {code}"))
}

fn invalid(message: &str) -> Error {
    Error::Invalid { message: message.to_owned() }
}

fn options(deadline: Deadline) -> AdminOptions {
    let left = deadline.left().max(Duration::from_millis(1));
    AdminOptions::new().request_timeout(Some(left)).operation_timeout(Some(left))
}

/// Wakes the thread that waits for a future.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for an answer on this thread.
fn block_on<T>(answer: impl Future<Output = KafkaResult<T>>, deadline: Deadline) -> Result<T, Error> {
    let mut answer = pin!(answer);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(outcome) = answer.as_mut().poll(&mut context) {
            return outcome.map_err(|e| error::map(&e, None));
        }
        if deadline.passed() {
            return Err(Error::Unavailable { message: "no answer from the broker".into() });
        }
        deadline.pause(super::SLICE);
    }
}
