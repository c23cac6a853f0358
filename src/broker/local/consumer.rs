//! A consumer: where it stands in each partition, and what its group tells it.
//!
//! Under the lock it only learns where records are; files are read and records decoded beside it. Group events come alone in
//! a call, before any records, so that nothing is handed out of a partition after it was revoked.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{Offset, Topic, TopicPartition};
use crate::broker::local::Shared;
use crate::broker::local::batch::Cursor;
use crate::broker::local::faults::Step;
use crate::broker::local::groups::{GroupEvent, MemberId, Membership};
use crate::broker::local::log::{Chunk, Source, is_shown};
use crate::broker::local::segments::{self, Parsed};
use crate::broker::local::state::{State, unknown};
use crate::broker::{
    Consumer, ConsumerSettings, Error, Event, Fetched, GroupMetadata, GroupSettings, Isolation, Leave, Watermarks,
};
use crate::limits;

/// Reads a [`super::LocalBroker`].
#[derive(Debug)]
pub(super) struct LocalConsumer {
    shared: Arc<Shared>,
    isolation: Isolation,
    group: Option<GroupSettings>,
    prefetch_bytes_max: usize,
    member: Option<MemberId>,
    /// Of the assignment that was handed out last.
    generation: u64,
    assigned: BTreeMap<TopicPartition, Reading>,
    /// The partition that was served last; the next call begins behind it.
    served: Option<TopicPartition>,
}

/// One assigned partition.
#[derive(Debug)]
struct Reading {
    incarnation: u64,
    /// Offset of the next record to hand out, or a little before it.
    position: i64,
    /// Where the next fetch begins: the position, once `ready` is empty.
    fetched_to: i64,
    ready: VecDeque<Cursor>,
    flow: Flow,
    /// The end that `EndOfPartition` was said for.
    end_said: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Reading,
    Paused,
    /// Revoked, or an error was reported: nothing comes until it is assigned or sought again.
    Stopped,
}

/// What the look under the lock found for a partition.
#[derive(Debug)]
enum Look {
    /// Nothing that was not said.
    Nothing,
    /// Records are ready, or can be fetched.
    Records,
    End,
    Failed(Error),
}

impl Reading {
    fn at(incarnation: u64, offset: Offset) -> Self {
        Self {
            incarnation,
            position: offset.0,
            fetched_to: offset.0,
            ready: VecDeque::new(),
            flow: Flow::Reading,
            end_said: None,
        }
    }

    fn look(&self, state: &State, place: &TopicPartition, isolation: Isolation) -> Look {
        if self.flow != Flow::Reading {
            return Look::Nothing;
        }
        if !self.ready.is_empty() {
            return Look::Records;
        }
        let topic = state.topics.get(&place.topic).filter(|topic| topic.incarnation == self.incarnation);
        let Some(log) = topic.and_then(|topic| topic.partitions.get(place.partition.index())) else {
            return Look::Failed(unknown(&place.topic));
        };
        if self.fetched_to < log.low() || self.fetched_to > log.high() {
            return Look::Failed(Error::OffsetOutOfRange { partition: place.clone(), offset: Offset(self.fetched_to) });
        }
        match self.end_said {
            _ if self.fetched_to < log.visible_end(isolation) => Look::Records,
            Some(end) if end == self.fetched_to => Look::Nothing,
            Some(_) | None => Look::End,
        }
    }

    /// Says where the next records are; none when there are some ready.
    fn source(&self, state: &State, place: &TopicPartition, isolation: Isolation, bytes_max: usize) -> Option<Source> {
        if !self.ready.is_empty() {
            return None;
        }
        state.log(place).ok()?.read(self.fetched_to, isolation, bytes_max)
    }

    /// Makes what a source holds ready.
    fn take(&mut self, source: Source, isolation: Isolation, place: &TopicPartition) -> Result<(), Error> {
        match source {
            Source::Memory { batches, next } => {
                self.ready.extend(batches.into_iter().map(|batch| batch.into_cursor()));
                self.fetched_to = next;
                Ok(())
            }
            Source::Disk(chunk) => self.take_chunk(&chunk, isolation, place),
        }
    }

    /// Reads pieces of a segment until one gets further than where this reader stands.
    fn take_chunk(&mut self, chunk: &Chunk, isolation: Isolation, place: &TopicPartition) -> Result<(), Error> {
        let (mut at, mut left, mut want) = (chunk.at, chunk.available_bytes, chunk.bytes_max);
        let start = self.fetched_to;
        while self.fetched_to == start {
            if left == 0 {
                self.fetched_to = chunk.segment_end.max(start);
                return Ok(());
            }
            let length = want.min(usize::try_from(left).unwrap_or(usize::MAX));
            let bytes = segments::read_at(&chunk.file, at, length)
                .map_err(|error| Error::Storage { message: format!("cannot read `{place}`: {error}") })?;
            let mut used = 0;
            want = chunk.bytes_max;
            while used < bytes.len() {
                match segments::parse(&bytes, used) {
                    Parsed::Batch(batch) if batch.base >= chunk.visible_end => {
                        self.fetched_to = chunk.visible_end;
                        return Ok(());
                    }
                    Parsed::Batch(batch) => {
                        used += batch.bytes.len();
                        if batch.last < start {
                            continue;
                        }
                        self.fetched_to = batch.last + 1;
                        if is_shown(batch.kind, batch.transaction, isolation, &chunk.aborted) {
                            self.ready.push_back(batch.into_cursor());
                        }
                    }
                    Parsed::Incomplete { needed_bytes } if (used + needed_bytes) as u64 <= left => {
                        want = want.max(needed_bytes);
                        break;
                    }
                    Parsed::Incomplete { .. } | Parsed::Garbage | Parsed::Damaged { .. } => {
                        return Err(segments::corrupt(&format!("the segment file of `{place}`"), at + used as u64));
                    }
                }
            }
            at += used as u64;
            left -= used as u64;
        }
        if at == chunk.at + chunk.available_bytes {
            self.fetched_to = self.fetched_to.max(chunk.segment_end.min(chunk.visible_end));
        }
        Ok(())
    }

    /// Hands out ready records within the budgets.
    fn hand_out(&mut self, budget: &mut Budget, place: &TopicPartition) -> Result<Option<Fetched>, Error> {
        let mut records = Vec::new();
        while let Some(cursor) = self.ready.front_mut() {
            if records.len() >= limits::LOCAL_FETCH_RECORDS_MAX || budget.is_spent() {
                break;
            }
            let next = cursor
                .next(self.position)
                .map_err(|_| Error::Storage { message: format!("a batch of `{place}` holds no records") })?;
            match next {
                None => {
                    self.ready.pop_front();
                }
                Some(record) => {
                    budget.spend(record.size_bytes());
                    self.position = record.offset.0 + 1;
                    records.push(record);
                }
            }
        }
        if self.ready.is_empty() {
            self.position = self.fetched_to;
        }
        Ok((!records.is_empty()).then(|| Fetched { partition: place.clone(), records }))
    }
}

/// What one `poll` may still hand out.
#[derive(Debug)]
struct Budget {
    records: usize,
    bytes: usize,
}

impl Budget {
    fn is_spent(&self) -> bool {
        self.records == 0 || self.bytes == 0
    }

    fn spend(&mut self, bytes: usize) {
        self.records = self.records.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl LocalConsumer {
    pub(super) fn new(shared: Arc<Shared>, settings: &ConsumerSettings) -> Self {
        Self {
            shared,
            isolation: settings.isolation,
            group: settings.group.clone(),
            prefetch_bytes_max: settings.prefetch_bytes_max,
            member: None,
            generation: 0,
            assigned: BTreeMap::new(),
            served: None,
        }
    }

    fn group(&self) -> Result<&GroupSettings, Error> {
        self.group.as_ref().ok_or_else(|| Error::Invalid { message: "the consumer has no group".to_owned() })
    }

    fn membership(&self) -> Option<Membership> {
        let group_id = self.group.as_ref()?.group_id.clone();
        Some(Membership { group_id, member: self.member, generation: self.generation })
    }

    fn reading(&mut self, partition: &TopicPartition) -> Result<&mut Reading, Error> {
        self.assigned
            .get_mut(partition)
            .ok_or_else(|| Error::Invalid { message: format!("`{partition}` is not assigned") })
    }

    fn has_group_news(&self, state: &State) -> bool {
        match (&self.group, self.member) {
            (Some(group), Some(id)) => state.groups.get(&group.group_id).is_none_or(|group| group.has_event(id)),
            _ => false,
        }
    }

    fn has_news(&self, state: &State) -> bool {
        let sees = |place, reading: &Reading| !matches!(reading.look(state, place, self.isolation), Look::Nothing);
        self.has_group_news(state) || self.assigned.iter().any(|(place, reading)| sees(place, reading))
    }

    fn group_events(&mut self, state: &mut State, events: &mut Vec<Event>) -> Result<Told, Error> {
        let (Some(settings), Some(id)) = (&self.group, self.member) else { return Ok(Told::Nothing) };
        let Some(group) = state.groups.get_mut(&settings.group_id) else { return Ok(Told::Nothing) };
        let mut told = Told::Nothing;
        while let Some(event) = group.next_event(id)? {
            told = Told::Something;
            match event {
                GroupEvent::Assigned { generation, partitions } => {
                    self.generation = generation;
                    events.push(Event::Assigned(partitions));
                }
                GroupEvent::Revoked(partitions) => {
                    for partition in &partitions {
                        if let Some(reading) = self.assigned.get_mut(partition) {
                            reading.flow = Flow::Stopped;
                        }
                    }
                    events.push(Event::Revoked(partitions));
                }
            }
        }
        Ok(told)
    }

    /// Returns the bytes that one partition may have ready, so that all together keep to the setting.
    fn fetch_bytes_max(&self) -> usize {
        let share = self.prefetch_bytes_max / self.assigned.len().max(1);
        share.clamp(limits::LOCAL_FETCH_BYTES_MIN, limits::LOCAL_CHUNK_BYTES)
    }

    /// Looks at every partition, beginning behind the one served last.
    fn look_around(&self, state: &State) -> Vec<(TopicPartition, Look, Option<Source>)> {
        let served = self.served.as_ref();
        let behind = self.assigned.range((served.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded));
        let before = self.assigned.iter().take_while(|(place, _)| served.is_some_and(|served| *place <= served));
        let (mut looks, mut sources) = (Vec::new(), 0);
        for (place, reading) in behind.chain(before) {
            let look = reading.look(state, place, self.isolation);
            let source = match look {
                Look::Nothing => continue,
                Look::Records if sources == limits::LOCAL_POLL_PARTITIONS_MAX => continue,
                Look::Records => {
                    sources += 1;
                    reading.source(state, place, self.isolation, self.fetch_bytes_max())
                }
                Look::End | Look::Failed(_) => None,
            };
            looks.push((place.clone(), look, source));
        }
        looks
    }

    fn handle_look(
        &mut self,
        place: &TopicPartition,
        look: Look,
        source: Option<Source>,
        out: &mut Out<'_>,
    ) -> Result<(), Error> {
        let isolation = self.isolation;
        let reading = self.reading(place)?;
        match look {
            Look::Nothing => Ok(()),
            Look::Failed(error) => {
                reading.flow = Flow::Stopped;
                Err(error)
            }
            Look::End => {
                reading.end_said = Some(reading.fetched_to);
                let position = Offset(reading.fetched_to);
                out.events.push(Event::EndOfPartition { partition: place.clone(), position });
                Ok(())
            }
            Look::Records if out.budget.is_spent() => Ok(()),
            Look::Records => {
                if let Some(source) = source {
                    reading.take(source, isolation, place)?;
                }
                if let Some(fetched) = reading.hand_out(&mut out.budget, place)? {
                    out.events.push(Event::Records(fetched));
                    self.served = Some(place.clone());
                }
                Ok(())
            }
        }
    }

    fn leave(&mut self) {
        let (Some(settings), Some(id)) = (&self.group, self.member.take()) else { return };
        let Ok(mut state) = self.shared.state.lock() else { return };
        state.with_group(&settings.group_id, |group, counts| group.leave(id, counts));
        drop(state);
        self.shared.changed.notify_all();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Something,
}

struct Out<'a> {
    events: &'a mut Vec<Event>,
    budget: Budget,
}

impl Consumer for LocalConsumer {
    fn subscribe(&mut self, topics: &[Topic]) -> Result<(), Error> {
        let GroupSettings { group_id, instance_id, .. } = self.group()?.clone();
        let mut state = self.shared.lock();
        let id = match self.member {
            Some(id) => id,
            None => {
                state.members += 1;
                MemberId(state.members)
            }
        };
        state.with_group(&group_id, |group, counts| group.join(id, instance_id.as_deref(), topics, counts));
        drop(state);
        self.member = Some(id);
        self.shared.changed.notify_all();
        Ok(())
    }

    fn assign(&mut self, positions: &[(TopicPartition, Offset)]) -> Result<(), Error> {
        let state = self.shared.lock();
        let mut readings = Vec::with_capacity(positions.len());
        for (place, offset) in positions {
            if self.assigned.contains_key(place) {
                return Err(Error::Invalid { message: format!("`{place}` is assigned already") });
            }
            state.log(place)?;
            let incarnation = state.topics.get(&place.topic).map_or(0, |topic| topic.incarnation);
            readings.push((place.clone(), Reading::at(incarnation, *offset)));
        }
        drop(state);
        self.assigned.extend(readings);
        Ok(())
    }

    fn unassign(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        for partition in partitions {
            self.assigned.remove(partition);
        }
        if let (Some(settings), Some(id)) = (&self.group, self.member) {
            self.shared.lock().with_group(&settings.group_id, |group, counts| group.release(id, partitions, counts));
            self.shared.changed.notify_all();
        }
        Ok(())
    }

    fn poll(&mut self, wait: Duration, events: &mut Vec<Event>) -> Result<(), Error> {
        self.shared.strike(Step::Poll)?;
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        if !wait.is_zero() {
            state = shared.wait_while(state, wait, |state| !self.has_news(state));
        }
        if self.group_events(&mut state, events)? == Told::Something {
            return Ok(());
        }
        let looks = self.look_around(&state);
        drop(state);
        let budget = Budget { records: limits::LOCAL_POLL_RECORDS_MAX, bytes: limits::LOCAL_POLL_BYTES_MAX };
        let mut out = Out { events, budget };
        let mut outcome = Ok(());
        for (place, look, source) in looks {
            // One error at a time: the next poll finds the other.
            if outcome.is_err() && matches!(look, Look::Failed(_)) {
                continue;
            }
            let handled = self.handle_look(&place, look, source, &mut out);
            outcome = mem::replace(&mut outcome, Ok(())).and(handled);
        }
        outcome
    }

    fn poll_group(&mut self, wait: Duration, events: &mut Vec<Event>) -> Result<(), Error> {
        self.shared.strike(Step::Poll)?;
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        if !wait.is_zero() {
            state = shared.wait_while(state, wait, |state| !self.has_group_news(state));
        }
        self.group_events(&mut state, events).map(drop)
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        for partition in partitions {
            let reading = self.reading(partition)?;
            if reading.flow == Flow::Reading {
                reading.flow = Flow::Paused;
            }
        }
        Ok(())
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        for partition in partitions {
            let reading = self.reading(partition)?;
            if reading.flow == Flow::Paused {
                reading.flow = Flow::Reading;
            }
        }
        Ok(())
    }

    fn seek(&mut self, partition: &TopicPartition, offset: Offset) -> Result<(), Error> {
        let reading = self.reading(partition)?;
        let paused = reading.flow == Flow::Paused;
        *reading = Reading::at(reading.incarnation, offset);
        if paused {
            reading.flow = Flow::Paused;
        }
        Ok(())
    }

    fn committed(&mut self, partitions: &[TopicPartition], wait: Duration) -> Result<Vec<Option<Offset>>, Error> {
        let group_id = &self.group()?.group_id;
        let unstable = |state: &State| state.groups.get(group_id).is_some_and(|group| group.has_pending(partitions));
        let state = self.shared.wait_while(self.shared.lock(), wait, unstable);
        if unstable(&state) {
            return Err(Error::Unavailable { message: "a transaction is about to change these offsets".to_owned() });
        }
        let group = state.groups.get(group_id);
        Ok(partitions.iter().map(|place| group.and_then(|group| group.offsets.get(place).copied())).collect())
    }

    fn watermarks(&mut self, partition: &TopicPartition, _wait: Duration) -> Result<Watermarks, Error> {
        let state = self.shared.lock();
        let log = state.log(partition)?;
        Ok(Watermarks { low: Offset(log.low()), high: Offset(log.high()) })
    }

    fn commit(&mut self, offsets: &[(TopicPartition, Offset)], _wait: Duration) -> Result<(), Error> {
        let group_id = self.group()?.group_id.clone();
        let mut state = self.shared.lock();
        if let Some(membership) = self.membership() {
            state.check_membership(&membership).map_err(|message| Error::Fenced { message })?;
        }
        state.commit_offsets(&group_id, offsets)
    }

    fn group_metadata(&self) -> Option<GroupMetadata> {
        self.membership().map(|membership| GroupMetadata(Box::new(membership)))
    }

    fn close(mut self: Box<Self>, _leave: Leave) {
        self.leave();
    }
}

impl Drop for LocalConsumer {
    fn drop(&mut self) {
        self.leave();
    }
}
