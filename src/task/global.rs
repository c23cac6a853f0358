//! Global tables: records of whole topics become rows that every task of the process looks up.
//!
//! The host gives records ([`GlobalTables::take`]) of all partitions, whenever they come; each batch is applied at once, outside of any
//! transaction, with how far it goes. No time plays a part. Not here: who reads the topics, and from where on.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Error;
use super::decode::{Decoded, SourceDecoder};
use crate::base::ids::{Offset, Partition, SchemaId, TaskId};
use crate::base::record::Record;
use crate::base::time::Timestamp;
use crate::base::value::Value;
use crate::operator::DropReason;
use crate::plan::{ErrorAction, Plan};
use crate::store::global::GlobalStores;
use crate::store::{self, SetAsideReason, StoreIndex};

/// The layout of [`Followed`] that this version writes.
const FOLLOWED_FORMAT: u32 = 1;

/// The name of the folder, and of what stands for a task in messages.
pub const GLOBAL: &str = "global";

/// How far each partition of each global table's topic is in its store: kept with the rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Followed {
    format: u32,
    /// The next offset, by topic and partition.
    offsets: BTreeMap<String, BTreeMap<i32, i64>>,
}

impl Default for Followed {
    fn default() -> Self {
        Self { format: FOLLOWED_FORMAT, offsets: BTreeMap::new() }
    }
}

impl Followed {
    /// Reads what is kept; nothing is kept of stores that were never written.
    ///
    /// # Errors
    /// Says what is wrong with it, a newer format included.
    pub fn decode(bytes: Option<&[u8]>) -> Result<Self, String> {
        let Some(bytes) = bytes else { return Ok(Self::default()) };
        let followed: Self =
            serde_json::from_slice(bytes).map_err(|error| format!("how far global tables are: {error}"))?;
        if followed.format > FOLLOWED_FORMAT {
            let found = followed.format;
            return Err(format!(
                "how far global tables are has format {found}, this version reads up to {FOLLOWED_FORMAT}"
            ));
        }
        Ok(followed)
    }

    /// Returns the next offset of a partition; none for one that was never read.
    pub fn offset(&self, topic: &str, partition: Partition) -> Option<Offset> {
        self.offsets.get(topic)?.get(&partition.0).copied().map(Offset)
    }

    fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("maps from text to numbers are JSON")
    }

    /// A store has one position: of a topic with several partitions, the sum.
    fn sum(&self, topic: &str) -> Offset {
        Offset(self.offsets.get(topic).map_or(0, |partitions| partitions.values().sum()))
    }
}

/// How far a call of [`GlobalTables::take`] came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Took {
    All,
    /// The first record that is left has a schema that is not known yet: call [`GlobalTables::learn_schema`], then again.
    NeedsSchema(SchemaId),
}

/// Plain counters of a global table.
#[derive(Clone, Debug, Default)]
pub struct GlobalStats {
    /// Records consumed, by partition.
    pub consumed: BTreeMap<Partition, u64>,
    pub dropped: [u64; DropReason::ALL.len()],
}

/// The global tables of a plan, and their stores.
#[derive(Debug)]
pub struct GlobalTables {
    plan: Arc<Plan>,
    stores: GlobalStores,
    followed: Followed,
    tables: Vec<Table>,
}

#[derive(Debug)]
struct Table {
    decoder: SourceDecoder,
    slots: Vec<Value>,
    stats: GlobalStats,
}

impl GlobalTables {
    /// Takes over stores that were opened, in the order of the plan's global tables.
    ///
    /// # Errors
    /// A plan that does not fit itself; stores that cannot be read.
    pub fn new(plan: Arc<Plan>, stores: GlobalStores) -> Result<Self, Error> {
        let followed = stores.with(|stores| Followed::decode(stores.committed_meta())).map_err(failed)?;
        let corrupt = |message| failed(store::Error::Corrupt { message });
        let table = |table: &crate::plan::GlobalTable| {
            let decoder = SourceDecoder::new(&table.source).map_err(bug)?;
            Ok(Table { decoder, slots: Vec::new(), stats: GlobalStats::default() })
        };
        let tables = plan.global_tables.iter().map(table).collect::<Result<_, Error>>()?;
        Ok(Self { followed: followed.map_err(corrupt)?, plan, stores, tables })
    }

    /// Returns the next offset of a partition; none for one that was never read.
    pub fn position(&self, table: usize, partition: Partition) -> Option<Offset> {
        self.followed.offset(self.plan.global_tables[table].source.topic.as_str(), partition)
    }

    /// Returns a table's counters.
    pub fn stats(&self, table: usize) -> &GlobalStats {
        &self.tables[table].stats
    }

    /// Empties a table: its topic is read again from its beginning.
    ///
    /// # Errors
    /// The stores'.
    pub fn set_aside(&mut self, table: usize, reason: SetAsideReason) -> Result<(), Error> {
        self.followed.offsets.remove(self.plan.global_tables[table].source.topic.as_str());
        let index = StoreIndex(table as u16);
        self.stores.with(|stores| stores.set_aside(index, reason)).and_then(|aside| aside).map_err(failed)
    }

    /// Takes the schema of an id that [`Took::NeedsSchema`] asked for, or why it cannot be had.
    pub fn learn_schema(&mut self, id: SchemaId, schema: Result<&str, &str>) {
        for table in &mut self.tables {
            table.decoder.learn(id, schema);
        }
    }

    /// Applies records of one partition, from the front, in one write with how far it goes.
    ///
    /// # Errors
    /// A record that must not be passed over, after all before it were applied; the stores'.
    pub fn take(&mut self, table: usize, partition: Partition, records: &mut VecDeque<Record>) -> Result<Took, Error> {
        let mut rows = Vec::with_capacity(records.len());
        let mut next = None;
        let mut took = Ok(Took::All);
        while let Some(record) = records.front() {
            match self.row(table, partition, record) {
                Ok(Some(row)) => rows.push(row),
                Ok(None) => {}
                Err(Stop::NeedsSchema(id)) => {
                    took = Ok(Took::NeedsSchema(id));
                    break;
                }
                Err(Stop::Failed(error)) => {
                    took = Err(error);
                    break;
                }
            }
            *self.tables[table].stats.consumed.entry(partition).or_default() += 1;
            next = Some(record.offset.next());
            records.pop_front();
        }
        if let Some(next) = next {
            self.apply(table, partition, rows, next)?;
        }
        took
    }

    /// Notes that a partition has been handed out up to `position`, whatever stands there.
    ///
    /// # Errors
    /// The stores'.
    pub fn reached_end(&mut self, table: usize, partition: Partition, position: Offset) -> Result<(), Error> {
        if self.position(table, partition) == Some(position) {
            return Ok(());
        }
        self.apply(table, partition, Vec::new(), position)
    }

    /// Writes behind as [`store::TaskStores::write_behind`].
    ///
    /// # Errors
    /// The stores'.
    pub fn write_behind(&mut self, now: Timestamp, force: bool) -> Result<(), Error> {
        let written = self.stores.with(|stores| stores.write_behind(now, force));
        written.and_then(|written| written).map(|_| ()).map_err(failed)
    }

    /// What a record does to its table's store; none where it is dropped.
    fn row(&mut self, table: usize, partition: Partition, record: &Record) -> Result<Option<Change>, Stop> {
        let Table { decoder, slots, stats } = &mut self.tables[table];
        let (bare_key, decoded) = match decoder.bare_key(record) {
            Ok(bare_key) => (bare_key, decoder.decode(record, slots)),
            Err(decoded) => (None, decoded),
        };
        let key = bare_key.as_deref().or(record.key.as_deref());
        let reason = match decoded {
            Decoded::NeedsSchema(id) => return Err(Stop::NeedsSchema(id)),
            Decoded::Row { .. } | Decoded::Tombstone if key.is_none() => DropReason::NullKey,
            decoded @ (Decoded::Row { .. } | Decoded::Tombstone) => {
                let timestamp = Timestamp(record.timestamp.0.max(0));
                let there = matches!(decoded, Decoded::Row { .. });
                let row = there.then(|| store::Row { timestamp, fields: Arc::from(slots.as_slice()) });
                return Ok(Some((key.unwrap_or_default().to_vec(), row)));
            }
            Decoded::Undeclared => DropReason::UndeclaredType,
            Decoded::Failed(message) => {
                let table = &self.plan.global_tables[table];
                match table.source.on_decode_error.action {
                    ErrorAction::Skip => DropReason::Decode,
                    ErrorAction::StopTask | ErrorAction::DeadLetter { .. } => {
                        return Err(Stop::Failed(Error::Stopped {
                            task: TaskId { sub_topology: Arc::from(GLOBAL), partition },
                            node: table.store.name.to_string(),
                            topic: table.source.topic.clone(),
                            partition,
                            offset: record.offset,
                            reason: DropReason::Decode,
                            message,
                        }));
                    }
                }
            }
        };
        stats.dropped[reason as usize] += 1;
        Ok(None)
    }

    fn apply(&mut self, table: usize, partition: Partition, rows: Vec<Change>, next: Offset) -> Result<(), Error> {
        let topic = self.plan.global_tables[table].source.topic.as_str();
        self.followed.offsets.entry(topic.to_owned()).or_default().insert(partition.0, next.0);
        let (index, followed) = (StoreIndex(table as u16), &self.followed);
        let applied = self.stores.with(|stores| {
            for (key, row) in rows {
                stores.put(index, &key, row)?;
            }
            // The topic is the changelog: there is nobody to hand the rows to.
            stores.seal(&mut |_, _, _, _| {})?;
            stores.confirm(&[(index, followed.sum(topic))], &followed.encode());
            Ok(())
        });
        applied.and_then(|applied| applied).map_err(failed)
    }
}

/// A key and its row; none deletes.
type Change = (Vec<u8>, Option<store::Row>);

/// Why a record is not passed.
enum Stop {
    NeedsSchema(SchemaId),
    Failed(Error),
}

fn failed(source: store::Error) -> Error {
    Error::Store { task: task(), source }
}

fn bug(message: String) -> Error {
    Error::Bug { task: task(), message }
}

fn task() -> TaskId {
    TaskId { sub_topology: Arc::from(GLOBAL), partition: Partition(0) }
}
