//! The contract of the seam on a real Apache Kafka, which the test command starts: `TIDEMILL_TEST_KAFKA=host:port`.
//!
//! With the classic group protocol, whose assignments are whole; the cooperative one is in `kafka_adapter`.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "helpers of tests")]

use std::collections::BTreeMap;

use tidemill::broker::kafka::{KafkaBroker, KafkaSettings};

use crate::broker_contract::{contract_tests, kit};

fn cluster() -> KafkaBroker {
    let bootstrap_servers = std::env::var("TIDEMILL_TEST_KAFKA")
        .expect("TIDEMILL_TEST_KAFKA=host:port names a real Kafka: run `make test`");
    let settings = KafkaSettings { bootstrap_servers, properties: BTreeMap::new(), client_id: "tidemill-test".into() };
    KafkaBroker::new(settings).unwrap()
}

contract_tests!(classic, || (cluster(), ()));
