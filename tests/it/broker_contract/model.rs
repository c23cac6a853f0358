//! The local broker against a model of a few lines: two transactional producers and a plain one write at random to two
//! partitions; after every step both isolations show exactly what the model says, and the end is where it says.

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use tidemill::base::ids::{Offset, Topic};
use tidemill::base::record::Written;
use tidemill::broker::local::LocalBroker;
use tidemill::broker::{Commit, Event, Isolation, Producer};

use super::kit::*;

const PARTITIONS: usize = 2;
const PRODUCERS: usize = 2;

#[derive(Clone, Copy, Debug)]
enum Action {
    Begin(usize),
    Send(usize, usize, u8),
    Commit(usize),
    Abort(usize),
    /// A newer producer under the same id.
    Replace(usize),
    Plain(usize, u8),
    /// The broker is closed and opened again; in memory, only the producers are.
    Reopen,
}

fn action() -> impl Strategy<Value = Action> {
    let (producer, partition) = (|| 0..PRODUCERS, || 0..PARTITIONS);
    prop_oneof![
        4 => producer().prop_map(Action::Begin),
        6 => (producer(), partition(), 1..4_u8).prop_map(|(p, to, count)| Action::Send(p, to, count)),
        3 => producer().prop_map(Action::Commit),
        2 => producer().prop_map(Action::Abort),
        1 => producer().prop_map(Action::Replace),
        3 => (partition(), 1..4_u8).prop_map(|(to, count)| Action::Plain(to, count)),
        1 => Just(Action::Reopen),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open,
    Committed,
    Aborted,
}

/// What stands at an offset.
#[derive(Clone, Debug)]
enum Slot {
    Marker,
    Record { transaction: Option<usize>, value: String },
}

#[derive(Debug, Default)]
struct Model {
    slots: [Vec<Slot>; PARTITIONS],
    fates: Vec<Fate>,
    open: [Option<usize>; PRODUCERS],
}

impl Model {
    fn end(&mut self, producer: usize, fate: Fate) {
        let Some(transaction) = self.open[producer].take() else { return };
        self.fates[transaction] = fate;
        for slots in &mut self.slots {
            let wrote = |slot: &Slot| matches!(slot, Slot::Record { transaction: Some(t), .. } if *t == transaction);
            if slots.iter().any(wrote) {
                slots.push(Slot::Marker);
            }
        }
    }

    /// Offsets and values that are shown, and the end of what is.
    fn shown(&self, partition: usize, isolation: Isolation) -> (Vec<(i64, String)>, i64) {
        let slots = &self.slots[partition];
        let is =
            |slot: &Slot, fate| matches!(slot, Slot::Record { transaction: Some(t), .. } if self.fates[*t] == fate);
        let end = match isolation {
            Isolation::ReadCommitted => slots.iter().position(|slot| is(slot, Fate::Open)).unwrap_or(slots.len()),
            Isolation::ReadUncommitted => slots.len(),
        };
        let hidden = |slot: &Slot| isolation == Isolation::ReadCommitted && is(slot, Fate::Aborted);
        let records = slots[..end].iter().enumerate().filter(|(_, slot)| !hidden(slot));
        let records = records.filter_map(|(offset, slot)| match slot {
            Slot::Marker => None,
            Slot::Record { value, .. } => Some((offset as i64, value.clone())),
        });
        (records.collect(), end as i64)
    }
}

struct Run<'a> {
    directory: Option<&'a Path>,
    broker: LocalBroker,
    producers: Vec<Box<dyn Producer>>,
    topic: Topic,
    model: Model,
    sent: usize,
}

fn open(directory: Option<&Path>) -> LocalBroker {
    directory.map_or_else(LocalBroker::in_memory, |directory| LocalBroker::open(directory).unwrap())
}

impl<'a> Run<'a> {
    fn new(directory: Option<&'a Path>) -> Self {
        let broker = open(directory);
        let topic = create(&broker, "t", PARTITIONS as u32, &[]);
        let mut run = Self { directory, broker, producers: Vec::new(), topic, model: Model::default(), sent: 0 };
        run.make_producers();
        run
    }

    fn make_producers(&mut self) {
        self.producers = (0..PRODUCERS).map(|number| transactional(&self.broker, &format!("p{number}"))).collect();
    }

    fn write(&mut self, transaction: Option<usize>, partition: usize, count: u8) -> Vec<String> {
        let values: Vec<String> = (0..count).map(|index| format!("{}", self.sent + usize::from(index))).collect();
        self.sent += usize::from(count);
        let slots = values.iter().map(|value| Slot::Record { transaction, value: value.clone() });
        self.model.slots[partition].extend(slots);
        values
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Begin(p) if self.model.open[p].is_none() => {
                self.producers[p].begin().unwrap();
                self.model.open[p] = Some(self.model.fates.len());
                self.model.fates.push(Fate::Open);
            }
            Action::Send(p, partition, count) if self.model.open[p].is_some() => {
                let values = self.write(self.model.open[p], partition, count);
                let records = values.iter().map(|value| record(&self.topic, partition as i32, value));
                send(&mut *self.producers[p], records.collect::<Vec<_>>());
            }
            Action::Commit(p) if self.model.open[p].is_some() => {
                let last = |partition: usize| {
                    let mine = |slot: &Slot| matches!(slot, Slot::Record { transaction, .. } if *transaction == self.model.open[p]);
                    let slots = &self.model.slots[partition];
                    let last = Offset(slots.iter().rposition(mine)? as i64);
                    let records = slots.iter().filter(|slot| mine(slot)).count() as u64;
                    Some(Written { partition: place(&self.topic, partition as i32), last, records })
                };
                let expected: Vec<_> = (0..PARTITIONS).filter_map(last).collect();
                let told = commit(&mut *self.producers[p], Commit::default()).unwrap().written;
                assert_eq!(told, expected);
                self.model.end(p, Fate::Committed);
            }
            Action::Abort(p) => {
                self.producers[p].abort(WAIT).unwrap();
                self.model.end(p, Fate::Aborted);
            }
            Action::Replace(p) => {
                self.producers[p] = transactional(&self.broker, &format!("p{p}"));
                self.model.end(p, Fate::Aborted);
            }
            Action::Plain(partition, count) => {
                for value in self.write(None, partition, count) {
                    let outgoing = record(&self.topic, partition as i32, &value);
                    plain(&self.broker).send_and_wait(outgoing, WAIT).unwrap();
                }
            }
            Action::Reopen => {
                self.producers.clear();
                (0..PRODUCERS).for_each(|p| self.model.end(p, Fate::Aborted));
                if self.directory.is_some() {
                    // The lock goes with the last handle.
                    self.broker = LocalBroker::in_memory();
                    self.broker = open(self.directory);
                }
                self.make_producers();
            }
            Action::Begin(_) | Action::Send(..) | Action::Commit(_) => {}
        }
    }

    fn check(&self) {
        for (partition, isolation) in
            (0..PARTITIONS).flat_map(|p| [(p, Isolation::ReadCommitted), (p, Isolation::ReadUncommitted)])
        {
            let place = place(&self.topic, partition as i32);
            let mut reader = consumer(&self.broker, isolation);
            reader.assign(&[(place.clone(), Offset(0))]).unwrap();
            let (mut records, mut events) = (Vec::new(), Vec::new());
            let end = loop {
                reader.poll(Duration::ZERO, &mut events).unwrap();
                let mut end = None;
                for event in events.drain(..) {
                    match event {
                        Event::Records(fetched) => {
                            records.extend(fetched.records.iter().map(|record| (record.offset.0, value(record))));
                        }
                        Event::EndOfPartition { position, .. } => end = Some(position.0),
                        Event::Assigned(_) | Event::Revoked(_) | Event::Lost(_) => panic!("there is no group"),
                    }
                }
                if let Some(end) = end {
                    break end;
                }
            };
            assert_eq!((records, end), self.model.shown(partition, isolation), "partition {partition}, {isolation:?}");
            let high = reader.watermarks(&place, WAIT).unwrap().high.0;
            assert_eq!(high, self.model.slots[partition].len() as i64);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn memory_shows_what_the_model_shows(actions in proptest::collection::vec(action(), 1..60)) {
        let mut run = Run::new(None);
        for action in actions {
            run.act(action);
            run.check();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn disk_shows_what_the_model_shows(actions in proptest::collection::vec(action(), 1..60)) {
        let directory = tempfile::tempdir().unwrap();
        let mut run = Run::new(Some(directory.path()));
        for action in actions {
            run.act(action);
            run.check();
        }
    }
}
