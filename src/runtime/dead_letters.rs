//! Dead letters, for people: which there are, what is in one, and what is done about them: sent back to where they came from, or
//! dropped.
//!
//! A letter that is done with is marked by a record behind it in its own partition; the letters that are open are the fold of the
//! partition. Invariant: the mark and the record that is sent back are of one transaction, under one transactional id of the
//! application, and the letters are read after that id was fenced: so a crash, or two people at once, neither loses nor doubles one.
//! (With `at_least_once` there are no transactions: a crash between the two sends it back again.)

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tracing::info;

use crate::base::ids::{Offset, Partition, Topic, TopicPartition};
use crate::base::record::{Header, Headers, Outgoing, Record};
use crate::base::time::Timestamp;
use crate::broker::{
    self, Broker, Commit, CommitProgress, Consumer, ConsumerSettings, Event, Isolation, Leave, Producer,
    ProducerSettings, TopicDescription,
};
use crate::crash::{self, Step};
use crate::error::codes;
use crate::limits;
use crate::runtime::clock::{self, Stopwatch};
use crate::runtime::options::{Guarantee, Options};
use crate::runtime::service::{LetterAction, LetterPlace, LetterQuery, Letters, ReadError};
use crate::task::{NODE_HEADER, REASON_HEADER};

/// What was done about a letter: the header of the mark.
const MARK_HEADER: &str = "__tidemill.dlq.mark";
/// The letter's offset in the mark's partition.
const MARKED_HEADER: &str = "__tidemill.dlq.offset";
/// What failure headers begin with; they are no part of the record.
const OF_FAILURE: [&str; 2] = ["__streams.errors.", "__tidemill.errors."];

/// Decodes the value of a letter that came from this topic.
pub(super) type Decode<'a> = dyn Fn(&str, &[u8]) -> Result<Json, String> + 'a;

/// Looks at the dead letters of an application, and settles them.
#[derive(Debug)]
pub(super) struct DeadLetters {
    broker: Arc<dyn Broker>,
    application_id: String,
    guarantee: Guarantee,
    transaction_timeout: Duration,
}

/// A letter that nothing was done about yet.
#[derive(Clone, Debug)]
struct Open {
    place: TopicPartition,
    record: Record,
}

/// Where a letter came from.
struct Origin {
    place: TopicPartition,
    offset: i64,
}

impl DeadLetters {
    pub(super) fn new(broker: Arc<dyn Broker>, options: &Options) -> Self {
        Self {
            broker,
            application_id: options.application_id.clone(),
            guarantee: options.guarantee,
            transaction_timeout: options.transaction_timeout,
        }
    }

    /// Counts the open letters of a topic by reason, and shows a page of them, oldest first by partition.
    pub(super) fn list(&self, topic: &str, query: &LetterQuery, wait: Duration) -> Result<Json, ReadError> {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        let (mut shown, mut more, open) = (Vec::new(), false, self.open(topic, wait)?);
        for open in &open {
            let reason = open.reason();
            let wanted = query.reason.as_ref().is_none_or(|wanted| wanted == reason)
                && query.after.as_ref().is_none_or(|after| open.at() > *after);
            *counts.entry(reason.to_owned()).or_default() += 1;
            if wanted && shown.len() == query.limit {
                more = true;
            } else if wanted {
                shown.push(open.shown());
            }
        }
        let cursor = shown.last().filter(|_| more).map(|last: &Json| last["letter"].clone());
        Ok(json!({ "topic": topic, "open": open.len(), "reasons": counts, "letters": shown, "cursor": cursor }))
    }

    /// Returns one letter with where it came from; `decoded` shows its value as far as that is possible.
    pub(super) fn show(
        &self,
        topic: &str,
        letter: &LetterPlace,
        wait: Duration,
        decoded: &Decode<'_>,
    ) -> Result<Json, ReadError> {
        let found = self.open(topic, wait)?.into_iter().find(|open| open.at() == *letter);
        let Some(open) = found else {
            let detail = format!("topic `{topic}` has no open dead letter `{letter}`: it is settled, or never was");
            return Err(ReadError::NotFound { code: codes::DEAD_LETTER_UNKNOWN, detail });
        };
        let mut shown = open.shown();
        let origin = open.record.headers.text("__streams.errors.topic").unwrap_or_default();
        let value = open.record.value.as_deref();
        let (value, undecoded) = match value.map(|bytes| decoded(origin, bytes)) {
            None => (Json::Null, Json::Null),
            Some(Ok(value)) => (value, Json::Null),
            Some(Err(why)) => (Json::Null, Json::String(why)),
        };
        if let Some(fields) = shown.as_object_mut() {
            fields.insert("value".to_owned(), value);
            fields.insert("undecoded".to_owned(), undecoded);
            let bytes = open.record.value.as_deref().map_or(Json::Null, super::topics::text);
            fields.insert("bytes".to_owned(), bytes);
            fields.insert("headers".to_owned(), super::topics::headers(&open.record.headers));
        }
        Ok(shown)
    }

    /// Sends letters back to where they came from, or drops them.
    pub(super) fn settle(
        &self,
        topic: &str,
        letters: &Letters,
        action: LetterAction,
        wait: Duration,
    ) -> Result<Json, ReadError> {
        let watch = Stopwatch::start();
        let mut producer = self.producer(wait)?;
        // Read after the fence: what another one committed is seen, what it had not committed never will be.
        let mut open = self.open(topic, wait)?;
        let mut refused = Vec::new();
        match letters {
            Letters::Named(places) => {
                for place in places {
                    if !open.iter().any(|open| open.at() == *place) {
                        let why = "it is settled, or never was".to_owned();
                        refused.push(json!({ "letter": place.to_string(), "why": why }));
                    }
                }
                open.retain(|open| places.contains(&open.at()));
            }
            Letters::All { reason: None } => {}
            Letters::All { reason: Some(reason) } => {
                open.retain(|open| open.reason() == reason);
            }
        }
        let mut settled = 0;
        let mut ready = Vec::new();
        let mut partitions = BTreeMap::new();
        for letter in open {
            match self.answer(&letter, action, &mut partitions, wait)? {
                Ok(records) => ready.push(records),
                Err(why) => refused.push(json!({ "letter": letter.at().to_string(), "why": why })),
            }
        }
        let mut left = ready.len();
        let mut batch = (VecDeque::new(), VecDeque::new());
        for (back, mark) in ready {
            batch.0.extend(back);
            batch.1.push_back(mark);
            left -= 1;
            if batch.1.len() == limits::DEAD_LETTERS_AT_ONCE_MAX || left == 0 {
                let (back, marks) = std::mem::take(&mut batch);
                let count = marks.len();
                self.write(&mut *producer, back, marks, wait.saturating_sub(watch.elapsed()))?;
                settled += count;
            }
        }
        info!(topic, settled, refused = refused.len(), action = action.word(), "settled dead letters");
        let exactly_once = self.guarantee == Guarantee::ExactlyOnce;
        Ok(json!({
            "topic": topic, "action": action.word(), "settled": settled, "refused": refused, "exactly_once": exactly_once,
        }))
    }

    fn describe(&self, topic: &Topic, wait: Duration) -> Result<Option<TopicDescription>, ReadError> {
        let described = self.broker.admin().and_then(|mut admin| admin.describe(std::slice::from_ref(topic), wait));
        Ok(described.map_err(|error| failed(&error))?.into_iter().flatten().next())
    }

    /// What settling a letter writes: the record that goes back, if one does, and the mark. Or why it cannot be. `partitions` is what is
    /// known of topics so far.
    fn answer(
        &self,
        letter: &Open,
        action: LetterAction,
        partitions: &mut BTreeMap<Topic, usize>,
        wait: Duration,
    ) -> Result<Result<(Option<Outgoing>, Outgoing), String>, ReadError> {
        let mark = letter.mark(action);
        if action == LetterAction::Drop {
            return Ok(Ok((None, mark)));
        }
        if letter.record.headers.text("__streams.errors.exception") == Some("tidemill.ResultError") {
            let why = "it is a result, which no record at hand made: there is no record to send back; drop it";
            return Ok(Err(why.to_owned()));
        }
        let Some(Origin { place, .. }) = letter.origin() else {
            return Ok(Err("its headers do not say where it came from".to_owned()));
        };
        let count = match partitions.get(&place.topic) {
            Some(known) => *known,
            None => {
                let found = self.describe(&place.topic, wait)?.map_or(0, |found| found.partitions as usize);
                partitions.insert(place.topic.clone(), found);
                found
            }
        };
        if place.partition.index() >= count {
            return Ok(Err(format!("`{place}` is not there any more")));
        }
        Ok(Ok((Some(letter.original(place)), mark)))
    }

    fn producer(&self, wait: Duration) -> Result<Box<dyn Producer>, ReadError> {
        let exactly_once = self.guarantee == Guarantee::ExactlyOnce;
        let settings = ProducerSettings {
            transactional_id: exactly_once.then(|| format!("{}-dlq", self.application_id)),
            transaction_timeout: exactly_once.then_some(self.transaction_timeout),
            queue_bytes_max: None,
        };
        let mut producer = self.broker.producer(&settings).map_err(|error| failed(&error))?;
        if exactly_once {
            producer.init_transactions(wait).map_err(|error| failed(&error))?;
        }
        Ok(producer)
    }

    fn write(
        &self,
        producer: &mut dyn Producer,
        back: VecDeque<Outgoing>,
        marks: VecDeque<Outgoing>,
        wait: Duration,
    ) -> Result<(), ReadError> {
        let written = if self.guarantee == Guarantee::ExactlyOnce {
            producer.begin().map_err(|error| failed(&error))?;
            send_all(producer, [back, marks].into_iter().flatten().collect(), wait)
        } else {
            // First what goes back, acknowledged; then the marks: rather twice than not at all.
            send_all(producer, back, wait).and_then(|()| send_all(producer, marks, wait))
        };
        written.map_err(|error| {
            drop(producer.abort(limits::BROKER_WAIT_SLICE));
            failed(&error)
        })
    }

    /// The letters of a topic that nothing was done about, in order of partition and offset.
    fn open(&self, topic: &str, wait: Duration) -> Result<Vec<Open>, ReadError> {
        let name = Topic::new(topic);
        let Some(found) = self.describe(&name, wait)? else {
            return Err(ReadError::NotFound {
                code: codes::TOPIC_MISSING,
                detail: format!("there is no topic `{topic}`"),
            });
        };
        let settings = ConsumerSettings {
            group: None,
            isolation: Isolation::ReadCommitted,
            prefetch_bytes_max: limits::TOPIC_PAGE_BYTES_MAX,
            end_wait: Some(limits::END_WAIT),
        };
        let mut consumer = self.broker.consumer(&settings).map_err(|error| failed(&error))?;
        let mut open = Vec::new();
        let mut bytes = 0;
        for partition in 0..found.partitions {
            let place = TopicPartition { topic: name.clone(), partition: Partition(partition as i32) };
            let letters = read_open(&mut *consumer, &place, wait, &mut bytes)?;
            open.extend(letters.into_values().map(|record| Open { place: place.clone(), record }));
        }
        consumer.close(Leave::Group);
        Ok(open)
    }
}

/// Folds one partition: letters, less those that are marked.
fn read_open(
    consumer: &mut dyn Consumer,
    place: &TopicPartition,
    wait: Duration,
    bytes: &mut usize,
) -> Result<BTreeMap<Offset, Record>, ReadError> {
    let ends = consumer.watermarks(place, wait).map_err(|error| failed(&error))?;
    let mut open = BTreeMap::new();
    if ends.low >= ends.high {
        return Ok(open);
    }
    consumer.assign(&[(place.clone(), ends.low)]).map_err(|error| failed(&error))?;
    let (watch, mut events, mut at_end) = (Stopwatch::start(), Vec::new(), false);
    while !at_end {
        if watch.elapsed() >= wait {
            let detail = format!("`{place}` could not be read to its end in time");
            return Err(ReadError::Unavailable { code: codes::READ_UNAVAILABLE, detail });
        }
        consumer.poll(Duration::from_millis(100), &mut events).map_err(|error| failed(&error))?;
        for event in events.drain(..) {
            match event {
                Event::Records(fetched) => {
                    for record in fetched.records {
                        fold(&mut open, record, bytes);
                    }
                }
                Event::EndOfPartition { position, .. } => at_end |= position >= ends.high,
                Event::Assigned(_) | Event::Revoked(_) | Event::Lost(_) => {}
            }
        }
        if *bytes > limits::DEAD_LETTERS_BYTES_MAX {
            let most = limits::DEAD_LETTERS_BYTES_MAX / 1024 / 1024;
            let detail = format!(
                "topic `{}` has more than {most} MiB of open dead letters: delete its records up to an offset first",
                place.topic
            );
            return Err(ReadError::Invalid { code: codes::DEAD_LETTER_UNKNOWN, detail });
        }
    }
    consumer.unassign(std::slice::from_ref(place)).map_err(|error| failed(&error))?;
    Ok(open)
}

fn fold(open: &mut BTreeMap<Offset, Record>, record: Record, bytes: &mut usize) {
    if record.headers.text(MARK_HEADER).is_some() {
        let marked = record.headers.text(MARKED_HEADER).and_then(|offset| offset.parse().ok());
        if let Some(settled) = marked.and_then(|offset| open.remove(&Offset(offset))) {
            *bytes -= settled.size_bytes().min(*bytes);
        }
    } else if record.headers.text("__streams.errors.topic").is_some() {
        *bytes += record.size_bytes();
        open.insert(record.offset, record);
    }
}

/// Writes records and waits for the end of it.
fn send_all(producer: &mut dyn Producer, mut records: VecDeque<Outgoing>, wait: Duration) -> Result<(), broker::Error> {
    let watch = Stopwatch::start();
    let late = || broker::Error::Unavailable { message: "the broker did not take all in time".to_owned() };
    while !records.is_empty() {
        producer.send(&mut records)?;
        if watch.elapsed() >= wait {
            return Err(late());
        }
        if !records.is_empty() {
            clock::pause(Duration::from_millis(5));
        }
    }
    crash::at(Step::LettersSent);
    producer.commit(Commit::default());
    while watch.elapsed() < wait {
        match producer.poll_commit(limits::BROKER_WAIT_SLICE) {
            CommitProgress::Finished(outcome) => {
                crash::at(Step::LettersSettled);
                return outcome.map(drop);
            }
            CommitProgress::Pending => {}
            CommitProgress::Idle => break,
        }
    }
    Err(broker::Error::OutcomeUnknown { message: "look again which letters are open".to_owned() })
}

impl Open {
    fn at(&self) -> LetterPlace {
        LetterPlace { partition: self.place.partition.0, offset: self.record.offset.0 }
    }

    fn origin(&self) -> Option<Origin> {
        let number = |name: &str| self.record.headers.text(name)?.parse::<i64>().ok();
        let partition = i32::try_from(number("__streams.errors.partition")?).ok()?;
        let topic = self.record.headers.text("__streams.errors.topic")?;
        Some(Origin {
            place: TopicPartition::new(Topic::new(topic), partition),
            offset: number("__streams.errors.offset")?,
        })
    }

    fn reason(&self) -> &str {
        self.record.headers.text(REASON_HEADER).unwrap_or("unknown")
    }

    fn shown(&self) -> Json {
        let from = self.origin().map(|Origin { place, offset }| {
            json!({ "topic": place.topic.as_str(), "partition": place.partition.0, "offset": offset })
        });
        json!({
            "letter": self.at().to_string(),
            "reason": self.reason(),
            "node": self.record.headers.text(NODE_HEADER),
            "message": self.record.headers.text("__streams.errors.message"),
            "from": from,
            "timestamp": self.record.timestamp.to_string(),
            "key": self.record.key.as_deref().map_or(Json::Null, super::topics::text),
        })
    }

    /// The record as it was, for the partition that it came from: its key may have been put there by another rule than ours.
    fn original(&self, place: TopicPartition) -> Outgoing {
        let of_failure = |header: &&Header| OF_FAILURE.iter().any(|prefix| header.name.starts_with(prefix));
        let headers = self.record.headers.iter().filter(|header| !of_failure(header)).cloned().collect();
        Outgoing {
            topic: place.topic,
            partition: place.partition,
            timestamp: Timestamp(self.record.timestamp.0.max(0)),
            key: self.record.key.clone(),
            value: self.record.value.clone(),
            headers: Headers::new(headers),
        }
    }

    fn mark(&self, action: LetterAction) -> Outgoing {
        let offset = self.record.offset.to_string();
        let headers = vec![Header::text(MARK_HEADER, action.past()), Header::text(MARKED_HEADER, offset)];
        Outgoing {
            topic: self.place.topic.clone(),
            partition: self.place.partition,
            timestamp: clock::now(),
            key: None,
            value: None,
            headers: Headers::new(headers),
        }
    }
}

fn failed(error: &broker::Error) -> ReadError {
    let code = error.code().unwrap_or(codes::READ_UNAVAILABLE);
    ReadError::Unavailable { code, detail: error.to_string() }
}
