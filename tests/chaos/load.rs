//! The load: orders at a steady pace, each written down in a ledger. Its client is librdkafka itself, as any producer's is.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::json;
use tidemill::base::rng::Rng;

pub(crate) const PARTITIONS: i32 = 3;
const ITEMS: u64 = 7;
const START_MS: i64 = 1_700_000_000_000;
/// From one order's time to the next one's.
const PACE_MS: i64 = 200;

/// An order, as the ledger has it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) n: i64,
    pub(crate) item: String,
    pub(crate) amount: i64,
    pub(crate) at: i64,
    pub(crate) partition: i32,
}

/// Somebody who orders without end.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    ledger: Arc<Mutex<Vec<Entry>>>,
    thread: JoinHandle<()>,
}

impl Load {
    /// Begins; each partition has so many customers.
    pub(crate) fn start(servers: &str, topic: &str, per_second: u64, customers: u64) -> Self {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", servers)
            .set("enable.idempotence", "true")
            // With more of them, orders are written twice now and then where a partition's leader changes (librdkafka's issue 4953).
            .set("max.in.flight.requests.per.connection", "1")
            .set("message.timeout.ms", "0")
            .set("reconnect.backoff.max.ms", "500")
            .create()
            .unwrap();
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let ledger = Arc::new(Mutex::new(Vec::new()));
        let (stopped, counted, book, topic) =
            (Arc::clone(&stop), Arc::clone(&written), Arc::clone(&ledger), topic.to_owned());
        let thread = std::thread::spawn(move || {
            let mut rng = Rng::new(23);
            let begun = Instant::now();
            let write = |entry: Entry, rng: &mut Rng| {
                // A customer's orders are in one partition.
                let customer = i64::from(entry.partition) + i64::from(PARTITIONS) * rng.below(customers) as i64;
                order(&producer, &topic, &entry, &format!("c{customer}"));
                book.lock().unwrap().push(entry);
                counted.fetch_add(1, Ordering::Relaxed);
                producer.poll(Duration::ZERO);
            };
            let mut n = 0;
            while !stopped.load(Ordering::Relaxed) {
                write(entry(n, &mut rng), &mut rng);
                let due = Duration::from_micros(1_000_000 / per_second * n as u64);
                std::thread::park_timeout(due.saturating_sub(begun.elapsed()));
                n += 1;
            }
            last(n).for_each(|entry| write(entry, &mut rng));
            producer.flush(Duration::from_secs(120)).unwrap();
        });
        Self { stop, written, ledger, thread }
    }

    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Ends it; every order is acknowledged when this returns.
    pub(crate) fn stop(self) -> Vec<Entry> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        std::mem::take(&mut *self.ledger.lock().unwrap())
    }
}

fn entry(n: i64, rng: &mut Rng) -> Entry {
    let amount = rng.below(1000) as i64;
    let (item, partition) = (rng.below(ITEMS), rng.below(PARTITIONS as u64) as i32);
    Entry { n, item: format!("i{item}"), amount, at: START_MS + n * PACE_MS, partition }
}

/// The last orders, from number `n` on: of each item in each partition, all of one time. So time ends at the same for every task.
fn last(n: i64) -> impl Iterator<Item = Entry> {
    let places = (0..ITEMS).flat_map(|item| (0..PARTITIONS).map(move |partition| (item, partition)));
    let at = START_MS + n * PACE_MS;
    let entry = move |(n, (item, partition))| Entry { n, item: format!("i{item}"), amount: 1, at, partition };
    (n..).zip(places).map(entry)
}

fn order(producer: &BaseProducer, topic: &str, entry: &Entry, customer: &str) {
    let value = json!({"n": entry.n, "item": entry.item, "amount": entry.amount}).to_string();
    let mut record = BaseRecord::to(topic).key(customer).payload(&value).partition(entry.partition).timestamp(entry.at);
    while let Err((_, refused)) = producer.send(record) {
        // The queue is full while no broker answers.
        producer.poll(Duration::from_millis(10));
        record = refused;
    }
}
