//! The records both sides are given, and what must come of them.

use std::time::Duration;

use ahash::AHashMap;
use anyhow::{Result, anyhow, ensure};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Message, Offset, TopicPartitionList};
use tidemill::avro::{DecodePlan, Encoder, Schema, frame};
use tidemill::base::hash::partition_of;
use tidemill::base::ids::SchemaId;
use tidemill::base::rng::Rng;
use tidemill::base::time::DateTime;
use tidemill::base::value::Value;

use crate::cluster::{Cluster, PARTITIONS};

pub(crate) const ORDER: &str = include_str!("topology/Order.avsc");
pub(crate) const TOTAL: &str = include_str!("topology/Total.avsc");

/// 2026-01-01: the first order's time. Each one is a millisecond later.
const START_MS: i64 = 1_767_225_600_000;
const WAIT: Duration = Duration::from_secs(60);

/// Per customer: how many orders over 10, and their sum.
pub(crate) type Totals = AHashMap<Box<str>, (i64, f64)>;

/// A customer's order, framed for the topic.
#[derive(Debug)]
pub(crate) struct Orders {
    encoder: Encoder,
    schema_id: SchemaId,
    rng: Rng,
    keys: u64,
    count: i64,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) customer: String,
    pub(crate) amount: f64,
    pub(crate) framed: Vec<u8>,
}

impl Orders {
    pub(crate) fn new(schema_id: SchemaId, keys: u64, seed: u64) -> Result<Self> {
        Ok(Self { encoder: Encoder::compile(&Schema::parse(ORDER)?), schema_id, rng: Rng::new(seed), keys, count: 0 })
    }

    /// Makes the next order, of 45 bytes on average with its frame.
    pub(crate) fn next(&mut self, at_ms: i64) -> Result<Order> {
        let customer = format!("c{:07}", self.rng.below(self.keys));
        let amount = self.rng.below(100_000) as f64 / 100.0;
        let note = if self.rng.chance(1, 10) { Value::text("leave at door") } else { Value::Null };
        let slots = [
            Value::Int(1_000_000 + self.count),
            Value::text(&customer),
            Value::Double(amount),
            Value::Int(1 + self.rng.below(9).cast_signed()),
            Value::text(["EUR", "USD", "GBP", "JPY"][self.rng.below(4) as usize]),
            Value::Bool(self.rng.chance(1, 5)),
            Value::DateTime(DateTime::from_units(at_ms, 1000)),
            note,
        ];
        self.count += 1;
        let mut framed = Vec::with_capacity(64);
        frame::write(self.schema_id, &mut framed);
        self.encoder.encode(&slots, &mut framed)?;
        Ok(Order { customer, amount, framed })
    }
}

/// Writes one order, waiting while the producer's queue is full.
pub(crate) fn send(producer: &BaseProducer, topic: &str, order: &Order, at_ms: i64) -> Result<()> {
    let partition = partition_of(order.customer.as_bytes(), PARTITIONS).0;
    let mut record =
        BaseRecord::to(topic).partition(partition).key(&order.customer).payload(&order.framed).timestamp(at_ms);
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), same)) => {
                record = same;
                producer.poll(Duration::from_millis(10));
            }
            Err((error, _)) => return Err(error.into()),
        }
    }
}

/// Fills a topic and returns what the totals must be.
pub(crate) fn generate(cluster: &Cluster, topic: &str, schema_id: SchemaId, records: u64, keys: u64) -> Result<Totals> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &cluster.brokers)
        .set("enable.idempotence", "true")
        .set("compression.type", "lz4")
        .set("linger.ms", "20")
        .set("batch.size", "262144")
        .create()?;
    let mut orders = Orders::new(schema_id, keys, 42)?;
    let mut totals = Totals::new();
    for index in 0..records.cast_signed() {
        let at_ms = START_MS + index;
        let order = orders.next(at_ms)?;
        send(&producer, topic, &order, at_ms)?;
        if index % 1000 == 0 {
            producer.poll(Duration::ZERO);
        }
        if order.amount > 10.0 {
            let (count, sum) = totals.entry(order.customer.into_boxed_str()).or_insert((0, 0.0));
            *count += 1;
            *sum += order.amount;
        }
    }
    producer.flush(WAIT)?;
    Ok(totals)
}

/// Writes an order to every partition that is too small to count.
pub(crate) fn write_one_each(cluster: &Cluster, topic: &str, schema_id: SchemaId) -> Result<()> {
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &cluster.brokers).create()?;
    let mut orders = Orders::new(schema_id, 1, 42)?;
    for partition in 0..PARTITIONS.cast_signed() {
        let small = loop {
            let order = orders.next(START_MS)?;
            if order.amount <= 10.0 {
                break order;
            }
        };
        let record = BaseRecord::to(topic).partition(partition).key(&small.customer).payload(&small.framed);
        producer.send(record.timestamp(START_MS)).map_err(|(error, _)| error)?;
    }
    Ok(producer.flush(WAIT)?)
}

/// Opens a reader of committed records on all partitions of a topic.
pub(crate) fn reader(cluster: &Cluster, topic: &str) -> Result<BaseConsumer> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &cluster.brokers)
        .set("group.id", "reader")
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("fetch.queue.backoff.ms", "5")
        .create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(topic, partition.cast_signed(), Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    Ok(consumer)
}

/// Reads the totals that a contender wrote, up to the topic's end: the last one of each customer holds. Returns with them how
/// many records there were.
pub(crate) fn written(cluster: &Cluster, topic: &str) -> Result<(Totals, u64)> {
    let consumer = reader(cluster, topic)?;
    let schema = Schema::parse(TOTAL)?;
    let plan = DecodePlan::compile(&schema, &schema, &[0, 1])?;
    let mut slots = vec![Value::Null; plan.width()];
    let (mut totals, mut records, mut ends) = (Totals::new(), 0, 0);
    while ends < PARTITIONS {
        match consumer.poll(WAIT) {
            None => return Err(anyhow!("`{topic}` gives nothing for {WAIT:?}")),
            Some(Err(KafkaError::PartitionEOF(_))) => ends += 1,
            Some(Err(error)) => return Err(error.into()),
            Some(Ok(message)) => {
                let (_, datum) = frame::split(message.payload().unwrap_or_default())?;
                plan.decode(datum, &mut slots)?;
                let (Some(orders), Some(amount)) = (slots[0].as_int(), slots[1].as_double()) else {
                    return Err(anyhow!("a total without its figures: {slots:?}"));
                };
                let customer = std::str::from_utf8(message.key().unwrap_or_default())?;
                records += 1;
                match totals.get_mut(customer) {
                    Some(total) => *total = (orders, amount),
                    None => drop(totals.insert(customer.into(), (orders, amount))),
                }
            }
        }
    }
    Ok((totals, records))
}

/// Checks that what came out is what had to. A customer's orders are added up in the order of their partition by everyone, so
/// the sums are equal to the last bit.
pub(crate) fn compare(wanted: &Totals, written: &Totals) -> Result<()> {
    for (customer, total) in wanted {
        let found = written.get(customer);
        ensure!(found == Some(total), "the total of {customer} must be {total:?}, and is {found:?}");
    }
    ensure!(wanted.len() == written.len(), "{} customers, not {}", written.len(), wanted.len());
    Ok(())
}
