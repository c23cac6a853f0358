//! What the cluster and the registry say about a plan: topics are created and verified, partition counts agreed, schemas
//! registered, before the first thread starts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tracing::{info, warn};

use crate::base::ids::{SchemaId, Topic, TopicPartition};
use crate::broker::{Admin, Broker, NewTopic, TopicDescription, TopicIdentity};
use crate::error::codes;
use crate::limits;
use crate::operator::{KeyWriter, RowWriter};
use crate::plan::{
    Keep, KeyFormat, Node, NodeKind, Partitions, Payload, PerLayout, Plan, SinkKey, SubTopology, TopicPlan, TopicRole,
    Writer,
};
use crate::registry::Registry;
use crate::runtime::Error;
use crate::runtime::options::Options;
use crate::store::global::GlobalStores;
use crate::task::{DeadLetterTopic, Resolved};

/// Kafka's own default of `max.message.bytes`.
const RECORD_BYTES_MAX_DEFAULT: usize = 1_048_588;

/// What a batch adds to a record.
const BATCH_OVERHEAD_BYTES: usize = 512;

/// The plan as it stands in a cluster.
#[derive(Debug)]
pub(super) struct Cluster {
    /// By sub-topology.
    pub(super) resolved: Vec<Arc<Resolved>>,
    /// By sub-topology.
    pub(super) names: Vec<Arc<str>>,
    /// What the group subscribes to.
    pub(super) input_topics: Vec<Topic>,
    /// The global tables' stores, once they are opened.
    pub(super) globals: GlobalStores,
    topics: BTreeMap<Topic, TopicDescription>,
    sub_topology_by_topic: BTreeMap<Topic, usize>,
    tasks: Vec<u32>,
}

impl Cluster {
    /// Creates what is missing and may be created, verifies what there is, registers what is written.
    ///
    /// # Errors
    /// A topic that is missing or does not fit, with the page that helps; the broker's; the registry's.
    pub(super) fn prepare(
        plan: &Plan,
        broker: &dyn Broker,
        registry: &dyn Registry,
        options: &Options,
    ) -> Result<Self, Error> {
        let mut admin = broker.admin()?;
        let names: Vec<Topic> = plan.topics.keys().cloned().collect();
        let described = admin.describe(&names, limits::BROKER_WAIT_MAX)?;
        let existing: BTreeMap<Topic, TopicDescription> =
            names.iter().cloned().zip(described).filter_map(|(topic, found)| Some((topic, found?))).collect();
        let counts = partition_counts(plan, &existing, options)?;
        plan.sub_topologies.iter().try_for_each(|sub| partitioned_alike(sub, &counts))?;
        plan.sub_topologies.iter().try_for_each(|sub| counted_as_before(plan, sub, &existing, &counts))?;
        let mut created = false;
        for (topic, planned) in &plan.topics {
            match existing.get(topic) {
                Some(found) => verify(topic, planned, found, counts[topic])?,
                None => {
                    create(&mut *admin, topic, planned, counts[topic], options)?;
                    created = true;
                }
            }
        }
        let topics = if created {
            let described = admin.describe(&names, limits::BROKER_WAIT_MAX)?;
            names.into_iter().zip(described).filter_map(|(topic, found)| Some((topic, found?))).collect()
        } else {
            existing
        };
        warn_about_history(plan, &topics);
        let mut cluster = Self {
            resolved: Vec::new(),
            names: plan.sub_topologies.iter().map(|sub| Arc::from(sub.name.as_str())).collect(),
            input_topics: inputs(plan),
            sub_topology_by_topic: plan
                .sub_topologies
                .iter()
                .enumerate()
                .flat_map(|(index, sub)| sub.sources.iter().map(move |source| (source.topic.clone(), index)))
                .collect(),
            tasks: plan
                .sub_topologies
                .iter()
                .map(|sub| sub.sources.iter().map(|source| counts[&source.topic]).max().unwrap_or(0))
                .collect(),
            globals: GlobalStores::default(),
            topics,
        };
        let registered = register(plan, registry)?;
        cluster.resolved = plan
            .sub_topologies
            .iter()
            .map(|sub| cluster.resolve(plan, sub, &registered).map(Arc::new))
            .collect::<Result<_, _>>()?;
        Ok(cluster)
    }

    fn resolve(&self, plan: &Plan, sub: &SubTopology, registered: &Registered) -> Result<Resolved, Error> {
        let mut resolved = Resolved { globals: self.globals.clone(), ..Resolved::default() };
        for node in &sub.nodes {
            let target = target(node);
            resolved.partitions.push(target.map_or(0, |(topic, _)| self.partitions(topic)));
            resolved.record_bytes_max.push(target.map_or(usize::MAX, |(topic, _)| self.record_bytes_max(topic)));
            let mut writers = PerLayout::default();
            for (layout, writer) in target.iter().flat_map(|(_, writers)| writers.iter()) {
                writers.set(layout, RowWriter::new(writer, row_schema(writer).map(|schema| registered[&schema])));
            }
            resolved.writers.push(writers);
            resolved.key_writers.push(key_writer(node, registered)?);
        }
        for source in &sub.sources {
            resolved.source_ids.push(self.topic_id(&source.topic));
            let upstream = match &source.payload {
                Payload::Internal { upstream, .. } => upstream
                    .iter()
                    .filter(|upstream| upstream.marks)
                    .map(|upstream| {
                        let by_name = |sub: &SubTopology| sub.name == upstream.sub_topology;
                        let index = plan.sub_topologies.iter().position(by_name);
                        let tasks = index.map_or_else(|| self.partitions(&upstream.partitions_of), |i| self.tasks[i]);
                        (upstream.sub_topology.to_string(), tasks as usize)
                    })
                    .collect(),
                Payload::Registry { .. } | Payload::Json { .. } | Payload::Scalar { .. } => Vec::new(),
            };
            resolved.upstream.push(upstream);
        }
        resolved.dead_letters = plan
            .topics
            .iter()
            .filter(|(_, planned)| planned.role == TopicRole::DeadLetter)
            .map(|(topic, _)| DeadLetterTopic {
                topic: topic.clone(),
                partitions: self.partitions(topic),
                record_bytes_max: self.record_bytes_max(topic),
            })
            .collect();
        Ok(resolved)
    }

    pub(super) fn partitions(&self, topic: &Topic) -> u32 {
        self.topics.get(topic).map_or(0, |topic| topic.partitions)
    }

    pub(super) fn has_partition(&self, partition: &TopicPartition) -> bool {
        partition.partition.index() < self.partitions(&partition.topic) as usize
    }

    /// How many tasks a sub-topology has.
    pub(super) fn tasks_of(&self, sub_topology: usize) -> u32 {
        self.tasks[sub_topology]
    }

    pub(super) fn sub_topology_of(&self, topic: &Topic) -> Option<usize> {
        self.sub_topology_by_topic.get(topic).copied()
    }

    pub(super) fn topic_id(&self, topic: &Topic) -> Option<String> {
        self.topics.get(topic)?.id.clone()
    }

    /// Returns what the topics that are read were when the daemon started.
    pub(super) fn read_topics(&self, plan: &Plan) -> BTreeMap<Topic, TopicIdentity> {
        let globals = plan.global_tables.iter().map(|table| &table.source.topic);
        let known = |topic: &Topic| {
            let found = self.topics.get(topic)?;
            Some((topic.clone(), TopicIdentity { id: found.id.clone(), partitions: found.partitions }))
        };
        self.input_topics.iter().chain(globals).filter_map(known).collect()
    }

    pub(super) fn delete_retention_ms(&self, topic: &Topic) -> Option<i64> {
        self.topics.get(topic)?.configs.get("delete.retention.ms")?.parse().ok()
    }

    /// The largest record a topic takes, less what a batch adds.
    pub(super) fn record_bytes_max(&self, topic: &Topic) -> usize {
        let said = self.topics.get(topic).and_then(|topic| topic.configs.get("max.message.bytes")?.parse().ok());
        said.unwrap_or(RECORD_BYTES_MAX_DEFAULT).saturating_sub(BATCH_OVERHEAD_BYTES)
    }
}

fn inputs(plan: &Plan) -> Vec<Topic> {
    let topics: BTreeSet<Topic> =
        plan.sub_topologies.iter().flat_map(|sub| sub.sources.iter().map(|source| source.topic.clone())).collect();
    topics.into_iter().collect()
}

fn target(node: &Node) -> Option<(&Topic, &PerLayout<Writer>)> {
    let (NodeKind::Sink { topic, writers, .. } | NodeKind::Repartition { topic, writers, .. }) = &node.kind else {
        return None;
    };
    Some((topic, writers))
}

/// Ids by subject and schema.
type Registered = BTreeMap<(String, String), SchemaId>;

/// Registers every schema that results are written under.
fn register(plan: &Plan, registry: &dyn Registry) -> Result<Registered, Error> {
    let mut wanted: Vec<(String, String)> = Vec::new();
    for node in plan.sub_topologies.iter().flat_map(|sub| &sub.nodes) {
        let rows = target(node)
            .into_iter()
            .flat_map(|(_, writers)| writers.iter())
            .filter_map(|(_, writer)| row_schema(writer));
        for schema in rows.chain(key_schema(node).map(|(_, schema)| schema)) {
            if !wanted.contains(&schema) {
                wanted.push(schema);
            }
        }
    }
    let ids = registry.register_all(&wanted, limits::BROKER_WAIT_MAX)?;
    let mut registered = Registered::new();
    for (schema, id) in wanted.into_iter().zip(ids) {
        info!(subject = schema.0, id = id.0, "registered a schema");
        registered.insert(schema, id);
    }
    Ok(registered)
}

/// Subject and schema of the rows that a writer writes, where they are registered.
fn row_schema(writer: &Writer) -> Option<(String, String)> {
    Some((writer.subject.as_ref()?.to_string(), writer.schema.text().to_owned()))
}

/// Format, subject and schema of the keys that a sink writes, where they are Avro.
fn key_schema(node: &Node) -> Option<(&KeyFormat, (String, String))> {
    let NodeKind::Sink { topic, format, key: SinkKey::Avro, .. } = &node.kind else { return None };
    Some((format, (format!("{topic}-key"), format.schema_text().to_owned())))
}

fn key_writer(node: &Node, registered: &Registered) -> Result<Option<KeyWriter>, Error> {
    let Some((format, schema)) = key_schema(node) else { return Ok(None) };
    KeyWriter::new(format, registered[&schema]).map(Some).map_err(|error| Error::Bug { message: error.to_string() })
}

/// How many partitions each topic has or is to get. Topics that must match others get as many as the largest of them.
fn partition_counts(
    plan: &Plan,
    existing: &BTreeMap<Topic, TopicDescription>,
    options: &Options,
) -> Result<BTreeMap<Topic, u32>, Error> {
    let mut counts = BTreeMap::new();
    for (topic, planned) in &plan.topics {
        let count = match (&planned.partitions, existing.get(topic), planned.role) {
            (Partitions::Fixed(count), ..) => *count,
            (Partitions::Existing, Some(found), _) => found.partitions,
            (Partitions::Existing, None, TopicRole::Source) => {
                return Err(Error::Refused {
                    code: codes::TOPIC_MISSING,
                    message: format!("there is no topic `{topic}`, which the topology reads"),
                });
            }
            (Partitions::Existing, None, _) => options.default_partitions,
            (Partitions::MaxOf(_), ..) => continue,
        };
        counts.insert(topic.clone(), count);
    }
    // Chains of repartition topics settle in as many rounds as there are topics at most.
    for _ in 0..plan.topics.len() {
        for (topic, planned) in &plan.topics {
            if let Partitions::MaxOf(others) = &planned.partitions
                && !counts.contains_key(topic)
                && let Some(count) = others.iter().map(|other| counts.get(other).copied()).collect::<Option<Vec<u32>>>()
            {
                counts.insert(topic.clone(), count.into_iter().max().unwrap_or(1));
            }
        }
    }
    match plan.topics.keys().find(|topic| !counts.contains_key(*topic)) {
        Some(topic) => Err(Error::Bug { message: format!("the partition count of `{topic}` depends on itself") }),
        None => Ok(counts),
    }
}

/// Rows of one key meet in one task only where the topics that they come from are partitioned alike (Kafka Streams'
/// `CopartitionedTopicsEnforcer`).
fn partitioned_alike(sub: &SubTopology, counts: &BTreeMap<Topic, u32>) -> Result<(), Error> {
    let fed = sub.fed_by();
    for (index, node) in sub.nodes.iter().enumerate() {
        let looked_up = node.kind.looks_up();
        if looked_up.is_empty() && node.kind.keeps().is_empty() {
            continue;
        }
        let owners = sub
            .nodes
            .iter()
            .enumerate()
            .filter(|(_, owner)| owner.kind.keeps().iter().any(|store| looked_up.contains(store)));
        let nodes = owners.map(|(owner, _)| owner).chain([index]);
        let sources: BTreeSet<usize> =
            nodes.flat_map(|node| fed[node].iter().map(|source| usize::from(source.0))).collect();
        let mut topics = sources.iter().map(|source| &sub.sources[*source].topic);
        let Some(first) = topics.next() else { continue };
        if let Some(other) = topics.find(|topic| counts[*topic] != counts[first]) {
            let message = format!(
                "topics `{first}` ({} partitions) and `{other}` ({}) meet in `{}`: rows of one key would be in different tasks; \
                 give them the same number, or re-key one of them (`select_key = 'string(key)'`), which sends it through a \
                 repartition topic",
                counts[first], counts[other], node.name
            );
            return Err(Error::Refused { code: codes::TOPIC_MISMATCH, message });
        }
    }
    Ok(())
}

/// The tasks of a sub-topology are counted once and for all: its meta topic has a partition for each.
fn counted_as_before(
    plan: &Plan,
    sub: &SubTopology,
    existing: &BTreeMap<Topic, TopicDescription>,
    counts: &BTreeMap<Topic, u32>,
) -> Result<(), Error> {
    let (meta, count) = (&sub.meta_topic, counts[&sub.meta_topic]);
    let Some(begun) = existing.get(meta).map(|found| found.partitions).filter(|begun| *begun != count) else {
        return Ok(());
    };
    // Through repartition topics, which get as many as what they are fed from.
    let mut behind = vec![meta];
    while let Some(topic) = behind.pop() {
        let planned = &plan.topics[topic];
        match &planned.partitions {
            Partitions::MaxOf(others) => behind.extend(others),
            Partitions::Existing if planned.role == TopicRole::Source && counts[topic] == count => {
                let message = format!(
                    "topic `{topic}` has {count} partitions, `{meta}` was made for {begun}: keys would be in other tasks than their state"
                );
                return Err(Error::Refused { code: codes::SOURCE_REPARTITIONED, message });
            }
            Partitions::Existing | Partitions::Fixed(_) => {}
        }
    }
    Ok(())
}

fn verify(topic: &Topic, planned: &TopicPlan, found: &TopicDescription, count: u32) -> Result<(), Error> {
    let refused = |message| Err(Error::Refused { code: codes::TOPIC_MISMATCH, message });
    if found.partitions != count {
        return refused(format!(
            "topic `{topic}` has {} partitions, the topology needs {count}: its keys would be in the wrong place",
            found.partitions
        ));
    }
    let Some((policy, wanted)) = found.configs.get("cleanup.policy").zip(planned.configs.get("cleanup.policy")) else {
        return Ok(());
    };
    if policy != wanted {
        return refused(format!("topic `{topic}` has `cleanup.policy={policy}`, it must be `{wanted}`"));
    }
    Ok(())
}

fn create(
    admin: &mut dyn Admin,
    topic: &Topic,
    planned: &TopicPlan,
    partitions: u32,
    options: &Options,
) -> Result<(), Error> {
    if !options.create_topics {
        return Err(Error::Refused {
            code: codes::TOPIC_MISSING,
            message: format!("there is no topic `{topic}` ({:?}), and `topics.create` is off", planned.role),
        });
    }
    info!(%topic, partitions, role = ?planned.role, "creating a topic");
    let mut configs = planned.configs.clone();
    // Outputs carry the time of their events, which a replay takes from long ago: a broker's default of days, counted from
    // there, would delete them as they come. Who owns the topic may set a retention afterwards; only a creation says this.
    for (name, value) in [("retention.ms", "-1"), ("message.timestamp.type", "CreateTime")] {
        configs.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    }
    admin.create(
        &NewTopic { topic: topic.clone(), partitions, replication_factor: options.replication_factor, configs },
        limits::BROKER_WAIT_MAX,
    )?;
    Ok(())
}

/// A history that is to be kept for ever stands on a topic that forgets: a lost changelog could not be rebuilt from it.
fn warn_about_history(plan: &Plan, topics: &BTreeMap<Topic, TopicDescription>) {
    for sub in &plan.sub_topologies {
        let forever = sub.nodes.iter().find(|node| {
            matches!(&node.kind, NodeKind::Entity(entity)
                if entity.history.as_ref().is_some_and(|history| history.keep == Keep::Forever))
        });
        let Some(entity) = forever else { continue };
        for source in &sub.sources {
            let Some(found) = topics.get(&source.topic) else { continue };
            let config = |name: &str| found.configs.get(name).map_or("", String::as_str);
            if config("cleanup.policy").contains("compact") {
                warn!(entity = %entity.name, topic = %source.topic, "history is kept for ever, but its topic is compacted: a replay would miss events (E0604)");
            } else if !config("retention.ms").is_empty() && config("retention.ms") != "-1" {
                warn!(entity = %entity.name, topic = %source.topic, retention_ms = config("retention.ms"), "history is kept for ever, but its topic forgets: a replay would miss events (E0604)");
            }
        }
    }
}
