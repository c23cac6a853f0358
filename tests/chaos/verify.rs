//! The verifier: reads what is committed with a client of its own, decodes it by itself, and compares with the ledger. It shares no code
//! with the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};

use super::load::Entry;

const WAIT: Duration = Duration::from_secs(10);
const WINDOW_MS: i64 = 10_000;
const GRACE_MS: i64 = 5_000;

/// A client that asks what a group has committed, without waiting for a commit that is under way.
fn client(servers: &str, group: &str) -> BaseConsumer {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", servers).set("group.id", group).set("isolation.level", "read_uncommitted");
    settings.create().unwrap()
}

/// Looks at a cluster from outside.
pub(crate) struct Verifier {
    servers: String,
    application_id: String,
    group: BaseConsumer,
    /// What the ends of the input were a while ago.
    ends: Vec<(Instant, Vec<i64>)>,
}

impl Verifier {
    pub(crate) fn new(servers: &str, application_id: &str) -> Self {
        Self {
            servers: servers.to_owned(),
            application_id: application_id.to_owned(),
            group: client(servers, application_id),
            ends: Vec::new(),
        }
    }

    /// Only what comes from here on counts as lag: what was there before a blow says nothing of how it is got over.
    pub(crate) fn begin(&mut self) {
        self.ends.clear();
    }

    fn topic(&self, name: &str) -> String {
        format!("{}-{name}", self.application_id)
    }

    /// How far the group is behind the ends of the input, as they were `ago`; none while nobody answers.
    pub(crate) fn lag(&mut self, partitions: i32, ago: Duration) -> Option<i64> {
        let lag = self.ask_for_lag(partitions, ago);
        if lag.is_err() {
            // A client that met a partition without a leader may take it for unknown ever after.
            self.group = client(&self.servers, &self.application_id);
        }
        lag.ok().flatten()
    }

    /// The same; none while it is not known yet what the ends were then.
    fn ask_for_lag(&mut self, partitions: i32, ago: Duration) -> Result<Option<i64>, KafkaError> {
        let topic = self.topic("orders");
        let mut ends = Vec::new();
        for partition in 0..partitions {
            ends.push(self.group.fetch_watermarks(&topic, partition, WAIT)?.1);
        }
        self.ends.push((Instant::now(), ends));
        let Some(before) = self.ends.iter().rposition(|(at, _)| at.elapsed() >= ago) else { return Ok(None) };
        self.ends.drain(..before);
        let mut asked = TopicPartitionList::new();
        asked.add_partition_range(&topic, 0, partitions - 1);
        let committed = self.group.committed_offsets(asked, WAIT)?;
        let of = |(partition, end): (usize, &i64)| {
            let offset = match committed.find_partition(&topic, partition as i32)?.offset() {
                Offset::Offset(offset) => offset,
                _ => 0,
            };
            Some((end - offset).max(0))
        };
        Ok(self.ends[0].1.iter().enumerate().map(of).sum())
    }

    /// What the lag is made of, for a person: ends, and offsets or why there are none.
    pub(crate) fn told(&self, partitions: i32) -> String {
        let topic = self.topic("orders");
        let ends = (0..partitions).map(|partition| self.group.fetch_watermarks(&topic, partition, WAIT));
        let mut asked = TopicPartitionList::new();
        asked.add_partition_range(&topic, 0, partitions - 1);
        format!("ends {:?}, committed {:?}", ends.collect::<Vec<_>>(), self.group.committed_offsets(asked, WAIT))
    }

    /// All committed records of a topic, partition by partition: key and value.
    fn read(&self, topic: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.servers)
            .set("group.id", "verifier")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .create()
            .unwrap();
        let metadata = consumer.fetch_metadata(Some(topic), WAIT).unwrap();
        let partitions = metadata.topics()[0].partitions().len() as i32;
        let mut places = TopicPartitionList::new();
        places.add_partition_range(topic, 0, partitions - 1);
        places.set_all_offsets(Offset::Beginning).unwrap();
        consumer.assign(&places).unwrap();
        let (mut by_partition, mut open) = (vec![Vec::new(); partitions as usize], partitions);
        let begun = Instant::now();
        while open > 0 {
            assert!(begun.elapsed() < Duration::from_secs(120), "`{topic}` has no end");
            match consumer.poll(Duration::from_millis(200)) {
                Some(Ok(record)) => {
                    let bytes = |bytes: Option<&[u8]>| bytes.unwrap_or_default().to_vec();
                    by_partition[record.partition() as usize].push((bytes(record.key()), bytes(record.payload())));
                }
                Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
                Some(Err(_)) | None => {}
            }
        }
        by_partition.into_iter().flatten().collect()
    }

    /// Holds what is there against the ledger, and tells all that is wrong.
    pub(crate) fn compare(&self, ledger: &[Entry]) -> Result<(), String> {
        let outcomes = [self.input(ledger), self.large(ledger), self.totals(ledger), self.closed(ledger)];
        let problems: Vec<String> = outcomes.into_iter().filter_map(Result::err).collect();
        if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
    }

    /// The input is the ledger: who wrote it and the brokers did their part.
    fn input(&self, ledger: &[Entry]) -> Result<(), String> {
        let number = |value: &[u8]| {
            let order: serde_json::Value = serde_json::from_slice(value).map_err(|error| error.to_string())?;
            order["n"].as_i64().ok_or_else(|| format!("an order without number: {order}"))
        };
        let orders = self.read(&self.topic("orders"));
        let mut found = orders.iter().map(|(_, value)| number(value)).collect::<Result<Vec<i64>, String>>()?;
        found.sort_unstable();
        let wanted: Vec<i64> = ledger.iter().map(|entry| entry.n).collect();
        same("orders of the input", &wanted, &found)
    }

    /// Each large order is there once.
    fn large(&self, ledger: &[Entry]) -> Result<(), String> {
        let mut found: Vec<i64> = Vec::new();
        for (_, value) in self.read(&self.topic("large")) {
            let mut fields = Fields::new(&value);
            let _amount = fields.long();
            found.push(fields.long());
        }
        found.sort_unstable();
        let wanted: Vec<i64> = ledger.iter().filter(|entry| entry.amount > 900).map(|entry| entry.n).collect();
        same("large orders", &wanted, &found)
    }

    /// Each item's count only grows, and comes to the ledger's: nothing is lost, nothing doubled.
    fn totals(&self, ledger: &[Entry]) -> Result<(), String> {
        let mut found: BTreeMap<String, (i64, i64)> = BTreeMap::new();
        for (key, value) in self.read(&self.topic("totals")) {
            let mut fields = Fields::new(&value);
            let amount = fields.long();
            let total = (fields.long(), amount);
            let item = String::from_utf8_lossy(&key).into_owned();
            let before = found.insert(item.clone(), total);
            if before.is_some_and(|before| before.0 >= total.0) {
                return Err(format!("the total of {item} went from {before:?} to {total:?}"));
            }
        }
        let mut wanted: BTreeMap<String, (i64, i64)> = BTreeMap::new();
        for entry in ledger {
            let total = wanted.entry(entry.item.clone()).or_default();
            *total = (total.0 + 1, total.1 + entry.amount);
        }
        if found == wanted { Ok(()) } else { Err(format!("the totals are {found:?}, by the ledger {wanted:?}")) }
    }

    /// Each window has closed once, with what was in it.
    fn closed(&self, ledger: &[Entry]) -> Result<(), String> {
        let mut found = Vec::new();
        for (_, value) in self.read(&self.topic("closed")) {
            let mut fields = Fields::new(&value);
            let (amount, item) = (fields.long(), fields.text());
            // Times are microseconds in Avro here.
            let (orders, start) = (fields.long(), fields.long() / 1000);
            found.push((item, start, orders, amount));
        }
        found.sort();
        let mut windows: BTreeMap<(String, i64), (i64, i64)> = BTreeMap::new();
        for entry in ledger {
            let start = entry.at.div_euclid(WINDOW_MS) * WINDOW_MS;
            let window = windows.entry((entry.item.clone(), start)).or_default();
            *window = (window.0 + 1, window.1 + entry.amount);
        }
        // The last orders have it everywhere.
        let time = ledger.last().map_or(0, |entry| entry.at);
        let wanted: Vec<(String, i64, i64, i64)> = windows
            .into_iter()
            .filter(|((_, start), _)| start + WINDOW_MS + GRACE_MS <= time)
            .map(|((item, start), (orders, amount))| (item, start, orders, amount))
            .collect();
        same("closed windows", &wanted, &found)
    }
}

/// Holds two sorted lists against each other.
fn same<T: Ord + Clone + std::fmt::Debug>(what: &str, wanted: &[T], found: &[T]) -> Result<(), String> {
    if wanted == found {
        return Ok(());
    }
    let (a, b): (BTreeSet<T>, BTreeSet<T>) = (wanted.iter().cloned().collect(), found.iter().cloned().collect());
    let doubled = found.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| &pair[0]);
    Err(format!(
        "{what}: {} by the ledger, {} found; lost {:?}, too many {:?}, {} doubled {:?}",
        wanted.len(),
        found.len(),
        a.difference(&b).take(5).collect::<Vec<_>>(),
        b.difference(&a).take(5).collect::<Vec<_>>(),
        found.len() - b.len(),
        doubled.take(5).collect::<Vec<_>>(),
    ))
}

/// Reads the fields of a framed Avro record, one after the other: of a record that is made of a row they stand in order of their names.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn new(value: &'a [u8]) -> Self {
        assert_eq!(value.first(), Some(&0), "a frame begins with 0");
        Self(&value[5..])
    }

    fn long(&mut self) -> i64 {
        let (mut raw, mut shift) = (0_u64, 0);
        loop {
            let byte = self.0[0];
            self.0 = &self.0[1..];
            raw |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return (raw >> 1) as i64 ^ -((raw & 1) as i64);
            }
        }
    }

    fn text(&mut self) -> String {
        let length = self.long() as usize;
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        String::from_utf8(text.to_vec()).unwrap()
    }
}
