//! What librdkafka counts of each client, as its latest statistics said.
//!
//! Invariant: a client that is gone is not shown any more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rdkafka::Statistics;

use crate::broker::{BrokerFigures, ClientFigures};

/// The figures of all clients of a cluster, by client name.
#[derive(Debug, Default)]
pub(super) struct Figures(Mutex<BTreeMap<String, ClientFigures>>);

impl Figures {
    /// Returns the latest figures of every client that is there.
    pub(super) fn all(&self) -> Vec<ClientFigures> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, ClientFigures>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where one client's statistics go; lives in its callbacks, so it goes with the client.
#[derive(Debug)]
pub(super) struct FigureSink {
    figures: Arc<Figures>,
    /// librdkafka's name of the client, once it has said it.
    name: OnceLock<String>,
}

impl FigureSink {
    pub(super) fn new(figures: &Arc<Figures>) -> Self {
        Self { figures: Arc::clone(figures), name: OnceLock::new() }
    }

    pub(super) fn take(&self, statistics: &Statistics) {
        let name = self.name.get_or_init(|| statistics.name.clone());
        self.figures.lock().insert(name.clone(), figures_of(statistics));
    }
}

impl Drop for FigureSink {
    fn drop(&mut self) {
        if let Some(name) = self.name.get() {
            self.figures.lock().remove(name);
        }
    }
}

fn figures_of(statistics: &Statistics) -> ClientFigures {
    let count = |number: i64| number.max(0).unsigned_abs();
    let broker = |broker: &rdkafka::statistics::Broker| BrokerFigures {
        broker: broker.nodename.clone(),
        round_trip_seconds: broker.rtt.as_ref().map(|window| window.avg as f64 / 1e6),
        connected: broker.state == "UP",
    };
    // Bootstrap entries and the coordinator's stand beside the brokers themselves.
    let mut brokers: Vec<BrokerFigures> =
        statistics.brokers.values().filter(|broker| broker.nodeid >= 0).map(broker).collect();
    brokers.sort_by(|left, right| left.broker.cmp(&right.broker));
    brokers.dedup_by(|left, right| left.broker == right.broker);
    ClientFigures {
        client: statistics.name.clone(),
        requests: count(statistics.tx),
        sent_bytes: count(statistics.tx_bytes),
        responses: count(statistics.rx),
        received_bytes: count(statistics.rx_bytes),
        output_records: statistics.msg_cnt,
        output_bytes: statistics.msg_size,
        reply_operations: count(statistics.replyq),
        brokers,
    }
}
