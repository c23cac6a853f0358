//! A consumer's callbacks. They run inside `poll`, on its thread, and leave what happened in an inbox; while the consumer closes
//! nobody would empty it, and rebalances are answered on the spot.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Statistics, TopicPartitionList};

use super::convert::partitions_of;
use super::figures::FigureSink;
use crate::base::ids::TopicPartition;

/// What the callbacks leave for `poll`.
#[derive(Default)]
pub(super) struct Inbox {
    pub(super) rebalances: VecDeque<Rebalance>,
    /// What the last error event said: rdkafka passes on its code only.
    pub(super) reason: String,
}

pub(super) enum Rebalance {
    Assigned(Vec<TopicPartition>),
    Revoked(Vec<TopicPartition>),
    Lost(Vec<TopicPartition>),
}

/// The callbacks' end. They run inside `poll`, on its thread.
pub(super) struct Callbacks {
    pub(super) inbox: Arc<Mutex<Inbox>>,
    /// Once set, rebalances are answered on the spot: nobody is there to do it.
    pub(super) closing: Arc<AtomicBool>,
    pub(super) figures: FigureSink,
}

impl Callbacks {
    fn inbox(&self) -> std::sync::MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Callbacks {
    fn stats(&self, statistics: Statistics) {
        self.figures.take(&statistics);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        super::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        super::log_error(&error, reason);
        self.inbox().reason = reason.to_owned();
    }
}

impl ConsumerContext for Callbacks {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, error: RDKafkaRespErr, list: &mut TopicPartitionList) {
        if self.closing.load(Ordering::Acquire) {
            if let Err(error) = give_up(consumer, list) {
                tracing::debug!(%error, "answering a rebalance while closing");
            }
            return;
        }
        let partitions = partitions_of(list);
        let rebalance = if error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            Rebalance::Assigned(partitions)
        } else if consumer.assignment_lost() {
            Rebalance::Lost(partitions)
        } else {
            Rebalance::Revoked(partitions)
        };
        self.inbox().rebalances.push_back(rebalance);
    }
}

/// Takes partitions from the client, as the protocol wants it.
pub(super) fn give_up(consumer: &BaseConsumer<Callbacks>, list: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.unassign(),
    }
}
