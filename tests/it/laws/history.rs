//! State is the fold of history, at every moment and every version.

use proptest::prelude::*;
use serde_json::{Value as Json, json};
use tidemill::base::time::Timestamp;
use tidemill::runtime::service::{At, Reach, Read, ReadError, ReadKind};
use tidemill::testing::{Input, World};

use super::{ORDERS_AND_ITEMS, input, topology_of, world_of};

const NODES: &str = r#"
[entity.totals]
from = "orders"
schema = "Totals.avsc"
history = "forever"

[entity.totals.apply.Order.set]
rows = 'state.rows + 1'
total = 'state.total + event.amount'
most = 'math.greatest(state.most, event.amount)'
last = 'event.customer'
"#;

#[derive(Clone, Debug)]
struct Event {
    key: usize,
    amount: i64,
    customer: usize,
    at: i64,
}

const KEYS: [&str; 3] = ["a", "b", "c"];
const CUSTOMERS: [&str; 3] = ["x", "y", "z"];

/// Out of order, by a little.
fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = (0..3_usize, -9..9_i64, 0..3_usize, 0..6_i64, 0..9_i64);
    prop::collection::vec(event, 1..40).prop_map(|events| {
        let mut now = 10;
        let mut made = |(key, amount, customer, later, late)| {
            now += later;
            Event { key, amount, customer, at: now - late }
        };
        events.into_iter().map(&mut made).collect()
    })
}

fn order(event: &Event) -> Input {
    let value = json!({"amount": event.amount, "customer": (CUSTOMERS[event.customer])});
    input("orders", KEYS[event.key], Some(value), event.at)
}

/// The state after these events; none before the first.
fn fold<'a>(events: impl IntoIterator<Item = &'a Event>) -> Option<Json> {
    let mut events = events.into_iter().peekable();
    events.peek()?;
    let (mut rows, mut total, mut most, mut last) = (0, 0, 0, "");
    for event in events {
        (rows, total, most, last) = (rows + 1, total + event.amount, event.amount.max(most), CUSTOMERS[event.customer]);
    }
    Some(json!({"rows": rows, "total": total, "most": most, "last": last}))
}

fn read(world: &World, what: ReadKind) -> Option<Json> {
    match world.read(&Read { what, wait_for: Vec::new(), reach: Reach::Anywhere, stale: false }) {
        Ok(answer) => Some(answer),
        Err(ReadError::NotFound { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

fn state(world: &World, key: &str, at: At) -> Option<Json> {
    let what = ReadKind::Entity { entity: "totals".to_owned(), key: key.to_owned(), at };
    read(world, what).map(|answer| answer["state"].clone())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn state_is_the_fold_of_history(events in events(), restart in any::<prop::sample::Index>(), moments in prop::collection::vec(0..150_i64, 8)) {
        let mut world = world_of(&topology_of(&ORDERS_AND_ITEMS[..1], NODES, &[], &[]));
        let restart = restart.index(events.len());
        for (place, event) in events.iter().enumerate() {
            if place == restart {
                world.restart().unwrap();
            }
            world.feed(&order(event)).unwrap();
        }
        // When each event was recorded: time never goes back.
        let recorded: Vec<i64> = events.iter().scan(i64::MIN, |most, event| {
            *most = event.at.max(*most);
            Some(*most)
        }).collect();
        for (number, key) in KEYS.iter().enumerate() {
            let own: Vec<&Event> = events.iter().filter(|event| event.key == number).collect();
            prop_assert_eq!(state(&world, key, At::Now), fold(own.iter().copied()), "key {}", key);
            let what = ReadKind::History { entity: "totals".to_owned(), key: (*key).to_owned(), limit: 1000, cursor: None };
            let history = read(&world, what).map_or(Vec::new(), |answer| answer["versions"].as_array().unwrap().clone());
            prop_assert_eq!(history.len(), own.len());
            for (version, shown) in (1..).zip(&history) {
                let prefix = fold(own[..version].iter().copied());
                prop_assert_eq!(Some(&shown["state"]), prefix.as_ref(), "key {}, version {}", key, version);
                prop_assert_eq!(&shown["version"], &json!(version));
                prop_assert_eq!(state(&world, key, At::Version(version as u64)), prefix);
            }
            for moment in &moments {
                let known = events.iter().zip(&recorded).filter(|(event, recorded)| event.key == number && *recorded <= moment);
                let found = state(&world, key, At::AsOf(Timestamp(*moment).to_date_time()));
                prop_assert_eq!(found, fold(known.map(|(event, _)| event)), "key {}, as of {}", key, moment);
            }
        }
    }
}
