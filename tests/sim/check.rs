//! What must be true of a world, whatever befell it.
//!
//! `exactly_once`: what stands of each task, replayed without interruption over the same records in the same order with the same commit
//! points, sends what is in the topics, no less and no more, and comes to the same times. Every input is in exactly one
//! generation that stands, and the group's offsets are those of the newest one. Always: what is at rest is the fold of its
//! changelog at its offset. `at_least_once`: the same or repeats, never a gap.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;
use tidemill::base::ids::{Offset, Partition, TaskId, Topic, TopicPartition};
use tidemill::base::record::{Headers, Outgoing, Record};
use tidemill::base::time::Timestamp;
use tidemill::broker::{Broker, ConsumerSettings, Event, Isolation};
use tidemill::plan::{StoreKind, TopicRole};
use tidemill::runtime::{Guarantee, Stepped};
use tidemill::store::StoreIndex;
use tidemill::task::{MARKER_HEADER, TaskMeta};

use super::disk::Disk;
use super::history::{Act, Generation};
use super::run::World;

type Logs = BTreeMap<TopicPartition, Vec<Record>>;

/// What of a record is compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    key: Option<Bytes>,
    value: Option<Bytes>,
    at: i64,
    headers: Vec<(String, Option<Bytes>)>,
}

impl Line {
    fn new(key: &Option<Bytes>, value: &Option<Bytes>, at: Timestamp, headers: &Headers) -> Self {
        let header = |header: &tidemill::base::record::Header| (header.name.to_string(), header.value.clone());
        Self { key: key.clone(), value: value.clone(), at: at.0, headers: headers.iter().map(header).collect() }
    }

    fn of(record: &Record) -> Self {
        Self::new(&record.key, &record.value, record.timestamp, &record.headers)
    }

    fn sent(record: &Outgoing) -> Self {
        Self::new(&record.key, &record.value, record.timestamp, &record.headers)
    }

    fn is_marker(&self) -> bool {
        self.headers.iter().any(|(name, _)| name == MARKER_HEADER)
    }
}

/// Reads what of a partition a `read_committed` reader sees.
fn read(broker: &dyn Broker, place: &TopicPartition) -> Vec<Record> {
    let settings = ConsumerSettings {
        group: None,
        isolation: Isolation::ReadCommitted,
        prefetch_bytes_max: 1 << 20,
        end_wait: None,
    };
    let mut consumer = broker.consumer(&settings).unwrap();
    consumer.assign(&[(place.clone(), Offset(0))]).unwrap();
    let (mut records, mut events, mut ended) = (Vec::new(), Vec::new(), false);
    while !ended {
        consumer.poll(Duration::ZERO, &mut events).unwrap();
        ended = events.is_empty();
        for event in events.drain(..) {
            match event {
                Event::Records(fetched) => records.extend(fetched.records),
                Event::EndOfPartition { .. } => ended = true,
                Event::Assigned(_) | Event::Revoked(_) | Event::Lost(_) => {}
            }
        }
    }
    records
}

/// Everything that is in the plan's topics.
fn logs(world: &World) -> Logs {
    let mut admin = world.net.local.admin().unwrap();
    let topics: Vec<_> = world.workload.plan.topics.keys().cloned().collect();
    let described = admin.describe(&topics, Duration::ZERO).unwrap();
    let mut logs = Logs::new();
    for (topic, found) in topics.into_iter().zip(described) {
        for partition in 0..found.map_or(0, |found| found.partitions) {
            let place = TopicPartition { topic: topic.clone(), partition: Partition(partition as i32) };
            let records = read(&world.net.local, &place);
            logs.insert(place, records);
        }
    }
    logs
}

/// Looks at a world that has come to rest.
pub(crate) fn all(world: &mut World) -> Result<(), String> {
    let (onlooker, logs) = (world.onlooker(), logs(world));
    inputs(world, &logs)?;
    letters(world, &logs)?;
    match world.shape.guarantee {
        Guarantee::ExactlyOnce => outputs(world, &onlooker, &logs)?,
        Guarantee::AtLeastOnce => {}
    }
    let ended = if world.fates.chance(1, 2) { world.end() } else { world.disks() };
    for disk in ended {
        folds(&onlooker, world, &disk)?;
    }
    Ok(())
}

/// Every input is worked off, once, in its order, and the group's offsets say so.
fn inputs(world: &World, logs: &Logs) -> Result<(), String> {
    let standing = world.history.standing();
    let mut group = world.net.local.consumer(&world.group()).unwrap();
    for sub in &world.workload.plan.sub_topologies {
        for source in &sub.sources {
            for (place, records) in logs.iter().filter(|(place, _)| place.topic == source.topic) {
                let task = TaskId::new(sub.name.as_str(), place.partition.0).to_string();
                let generations = standing.get(&task).map_or(&[][..], Vec::as_slice);
                let there: Vec<i64> = records.iter().map(|record| record.offset.0).collect();
                let taken = match world.shape.guarantee {
                    Guarantee::ExactlyOnce => taken(generations, place),
                    Guarantee::AtLeastOnce => world.history.sealed_once(&task, &place.topic),
                };
                if taken != there {
                    return Err(format!("{task} took {taken:?} of `{place}`, where {there:?} are"));
                }
                if world.shape.guarantee == Guarantee::AtLeastOnce {
                    continue;
                }
                let committed = group.committed(std::slice::from_ref(place), Duration::ZERO).unwrap()[0];
                let next = committed.map_or(0, |offset| offset.0);
                if there.last().is_some_and(|last| next <= *last) {
                    return Err(format!("the group is at {next} of `{place}`, where {there:?} are"));
                }
                let said = generations.last().and_then(|last| last.meta.offsets.get(place.topic.as_str()));
                if said.copied() != committed.map(|offset| offset.0) {
                    return Err(format!("the group is at {committed:?} of `{place}`, the task's meta says {said:?}"));
                }
            }
        }
    }
    Ok(())
}

/// The offsets that generations have taken of a partition, in order.
fn taken(generations: &[Generation], place: &TopicPartition) -> Vec<i64> {
    let acts = generations.iter().flat_map(|generation| &generation.acts);
    let of_it = |act: &Act| match act {
        Act::Took { topic, offset, .. } if *topic == place.topic => Some(offset.0),
        Act::Took { .. } | Act::Rang { .. } | Act::DidChore { .. } => None,
    };
    acts.filter_map(of_it).collect()
}

/// What nobody can read is in the dead-letter topic.
fn letters(world: &World, logs: &Logs) -> Result<(), String> {
    let letters: Vec<&Record> =
        logs.iter().filter(|(place, _)| place.topic.as_str() == "letters").flat_map(|(_, records)| records).collect();
    let bad = world.workload.bad();
    let enough = match world.shape.guarantee {
        Guarantee::ExactlyOnce => letters.len() == bad,
        Guarantee::AtLeastOnce => letters.len() >= bad,
    };
    if enough { Ok(()) } else { Err(format!("{} dead letters of {bad} records that nobody can read", letters.len())) }
}

/// Replays what stands and holds it against what is in the topics.
fn outputs(world: &World, onlooker: &Stepped, logs: &Logs) -> Result<(), String> {
    let standing = world.history.standing();
    let mut wanted: BTreeMap<TopicPartition, BTreeMap<String, Vec<Line>>> = BTreeMap::new();
    for (sub_topology, partition) in tasks(world, logs) {
        let id = TaskId::new(&sub_topology, partition);
        let Some(generations) = standing.get(&id.to_string()) else { continue };
        let failed = |error: tidemill::runtime::Error| format!("the replay of {id}: {error}");
        let mut replay = onlooker.replay(&id).map_err(failed)?;
        for generation in generations {
            for act in &generation.acts {
                match act {
                    Act::Rang { now } => replay.ring(*now).map_err(failed)?,
                    Act::DidChore { now } => replay.do_chore(*now).map_err(failed)?,
                    Act::Took { topic, offset, now } => {
                        let place = TopicPartition { topic: topic.clone(), partition: id.partition };
                        let record = logs[&place].iter().find(|record| record.offset == *offset);
                        let record =
                            record.ok_or_else(|| format!("{id} took {place}@{offset}, which was never committed"))?;
                        replay.take(&place, record.clone(), *now).map_err(failed)?;
                    }
                }
            }
            for record in replay.commit(generation.sealed_at).map_err(failed)? {
                let place = TopicPartition { topic: record.topic.clone(), partition: record.partition };
                wanted.entry(place).or_default().entry(id.to_string()).or_default().push(Line::sent(&record));
            }
        }
        metas(&id, replay.meta(), generations)?;
        counted(&id, generations, &replay.stats().consumed)?;
    }
    for (place, records) in logs {
        match world.workload.plan.topics[&place.topic].role {
            TopicRole::Source | TopicRole::Meta | TopicRole::Instances => {}
            // When a join of streams lets go of rows that are past their time depends on when it was started.
            TopicRole::Changelog if is_of_a_join(world, &place.topic) => {}
            _ => compare(place, records, wanted.remove(place).unwrap_or_default())?,
        }
    }
    Ok(())
}

fn is_of_a_join(world: &World, topic: &Topic) -> bool {
    let mut stores = world.workload.plan.sub_topologies.iter().flat_map(|sub| &sub.stores);
    stores.any(|store| store.changelog == *topic && matches!(store.kind, StoreKind::JoinSide))
}

fn tasks(world: &World, logs: &Logs) -> BTreeSet<(String, i32)> {
    let subs = world.workload.plan.sub_topologies.iter();
    let of = |sub: &tidemill::plan::SubTopology| {
        let places = logs.keys().filter(|place| sub.sources.iter().any(|source| source.topic == place.topic));
        places.map(|place| (sub.name.to_string(), place.partition.0)).collect::<Vec<_>>()
    };
    subs.flat_map(of).collect()
}

/// The times of a replay are those that were committed.
fn metas(id: &TaskId, replayed: &TaskMeta, generations: &[Generation]) -> Result<(), String> {
    let Some(last) = generations.last() else { return Ok(()) };
    let of = |meta: &TaskMeta| (meta.commit_sequence, meta.stream_time, meta.recorded, meta.nodes.clone());
    if of(replayed) == of(&last.meta) {
        return Ok(());
    }
    Err(format!("{id} committed the times {:?}, its replay comes to {:?}", of(&last.meta), of(replayed)))
}

/// Nothing is left uncounted: each record that was taken is.
fn counted(id: &TaskId, generations: &[Generation], consumed: &[u64]) -> Result<(), String> {
    let took = generations.iter().flat_map(|generation| &generation.acts).filter(|act| matches!(act, Act::Took { .. }));
    let (took, counted) = (took.count() as u64, consumed.iter().sum::<u64>());
    // Markers of upstream tasks are taken and not counted.
    if counted <= took { Ok(()) } else { Err(format!("{id} counted {counted} records and took {took}")) }
}

/// What is in a partition is what its writers sent: all of it, and each writer's in its order for each key.
fn compare(place: &TopicPartition, found: &[Record], wanted: BTreeMap<String, Vec<Line>>) -> Result<(), String> {
    // A deletion is dated with the newest row that its writer knows of; that one has forgotten older ones when it was started anew.
    let dated = |mut line: Line| {
        line.at = if line.value.is_some() { line.at } else { 0 };
        line
    };
    let found: Vec<Line> = found.iter().map(Line::of).filter(|line| !line.is_marker()).map(dated).collect();
    let of_writer = |lines: Vec<Line>| lines.into_iter().filter(|line| !line.is_marker()).map(dated).collect();
    let writers: Vec<Vec<Line>> = wanted.into_values().map(of_writer).collect();
    if let [only] = writers.as_slice() {
        return if *only == found { Ok(()) } else { Err(difference(place, only, &found)) };
    }
    let (mut all, mut sorted): (Vec<Line>, Vec<Line>) = (writers.into_iter().flatten().collect(), found);
    all.sort();
    sorted.sort();
    if all == sorted { Ok(()) } else { Err(difference(place, &all, &sorted)) }
}

fn difference(place: &TopicPartition, wanted: &[Line], found: &[Line]) -> String {
    let at = wanted.iter().zip(found).take_while(|(a, b)| a == b).count();
    format!(
        "`{place}` has {} records, uninterrupted it has {}; the first that differs is number {at}: {:?}, uninterrupted {:?}",
        found.len(),
        wanted.len(),
        found.get(at),
        wanted.get(at)
    )
}

/// What is at rest on a disk is the fold of each changelog at the offset beside it.
pub(crate) fn folds(onlooker: &Stepped, world: &World, disk: &Disk) -> Result<(), String> {
    for (task, space) in disk.at_rest() {
        let sub = world.workload.plan.sub_topologies.iter().find(|sub| *sub.name == *task.sub_topology);
        let Some(sub) = sub else { return Err(format!("a folder of {task}, which is no task")) };
        let stores = onlooker.look_into(&task, Box::new(space)).map_err(|error| format!("{task}: {error}"))?;
        for (index, store) in sub.stores.iter().enumerate() {
            let index = StoreIndex(index as u16);
            let next = stores.position(index).map_or(0, |position| position.offset.0);
            let place = TopicPartition { topic: store.changelog.clone(), partition: task.partition };
            let mut fold: BTreeMap<Bytes, Bytes> = BTreeMap::new();
            for record in read(&world.net.local, &place).into_iter().filter(|record| record.offset.0 < next) {
                let key = record.key.unwrap_or_default();
                match record.value {
                    Some(value) => drop(fold.insert(key, value)),
                    None => drop(fold.remove(&key)),
                }
            }
            let mut at_rest: BTreeMap<Bytes, Bytes> = BTreeMap::new();
            let scanned = stores.scan_at_rest(index, &mut |key, value| {
                at_rest.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
                ControlFlow::Continue(())
            });
            scanned.map_err(|error| format!("{task}: {error}"))?;
            if fold != at_rest {
                let (fold, at_rest): (BTreeSet<_>, BTreeSet<_>) =
                    (fold.into_iter().collect(), at_rest.into_iter().collect());
                return Err(format!(
                    "store `{}` of {task} is not the fold of its changelog up to {next}: only in the fold {:?}, only at rest {:?}",
                    store.name,
                    fold.difference(&at_rest).next(),
                    at_rest.difference(&fold).next(),
                ));
            }
        }
    }
    Ok(())
}

/// The keys and values of the topics that no state has a part in: with `at_least_once` they repeat, and none is missing.
pub(crate) fn stateless(world: &World) -> BTreeSet<(String, Option<Bytes>, Option<Bytes>)> {
    let mut found = BTreeSet::new();
    for (place, records) in logs(world) {
        if ["large", "letters"].contains(&place.topic.as_str()) {
            found.extend(records.into_iter().map(|record| (place.topic.to_string(), record.key, record.value)));
        }
    }
    found
}

/// The last value of each key of the topics that do not depend on the tasks' speeds.
pub(crate) fn finals(world: &World) -> BTreeMap<(String, Option<Bytes>), Option<Bytes>> {
    let mut finals = BTreeMap::new();
    for (place, records) in logs(world) {
        if world.workload.finals.contains(&place.topic.as_str()) {
            for record in records {
                finals.insert((place.topic.to_string(), record.key), record.value);
            }
        }
    }
    finals
}
