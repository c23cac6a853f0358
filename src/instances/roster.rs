//! All instances, as the topic tells: the fold of its records.
//!
//! Time is the broker's alone: an instance lives while its newest record is not much older than the newest of all. Every living one
//! writes at an interval, the reader too; so the newest record is about now, and a broker that is away makes nobody look dead.
//! Invariant: two that have read up to the same offset have equal rosters.

use std::collections::BTreeMap;

use crate::base::ids::{Offset, TaskId};
use crate::base::record::Record;
use crate::base::time::Timestamp;
use crate::instances::Announcement;
use crate::limits;

/// An instance, with when and where in the topic it spoke last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub said: Announcement,
    /// By the broker's clock.
    pub at: Timestamp,
    pub offset: Offset,
    /// Where it claimed that it may process; none while it waits.
    pub claim: Option<Offset>,
}

/// What the keys of records begin with that tell a shape's topology; no instance's id has it.
const SHAPE: char = '/';

/// All instances that have not left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    entries: BTreeMap<String, Entry>,
    /// By fingerprint: the topology's text, as whoever runs it tells it.
    shapes: BTreeMap<String, Vec<u8>>,
    /// The broker's time of the newest record.
    newest: Option<Timestamp>,
}

impl Roster {
    /// Takes the next record of the topic.
    ///
    /// # Errors
    /// It is no announcement of a format that is known: the instance is as if it had said nothing.
    pub fn take(&mut self, record: &Record) -> Result<(), String> {
        self.newest = self.newest.max(Some(record.timestamp));
        let Some(instance) = record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok()) else {
            return Err("it has no instance's id as key".to_owned());
        };
        if let Some(fingerprint) = instance.strip_prefix(SHAPE) {
            match &record.value {
                Some(text) => drop(self.shapes.insert(fingerprint.to_owned(), text.to_vec())),
                None => drop(self.shapes.remove(fingerprint)),
            }
            return Ok(());
        }
        let Some(value) = &record.value else {
            self.entries.remove(instance);
            return Ok(());
        };
        match Announcement::decode(instance, value) {
            Ok(said) => {
                let claim = said.processes.then(|| self.claim(&said, record.offset));
                let entry = Entry { said, at: record.timestamp, offset: record.offset, claim };
                self.entries.insert(instance.to_owned(), entry);
                Ok(())
            }
            Err(why) => {
                self.entries.remove(instance);
                Err(format!("instance `{instance}`: {why}"))
            }
        }
    }

    /// Returns where an instance that says at `offset` that it may process, or claims to, has claimed it: where it first said so, or says
    /// it did where that was compacted away. One that claims anew, or was taken for dead in between, comes behind those that have claimed
    /// meanwhile.
    fn claim(&self, said: &Announcement, offset: Offset) -> Offset {
        match (self.entries.get(&said.instance), said.claim) {
            (Some(before), _) if !self.is_alive(before) => offset,
            (Some(before), None) if before.said.claim.is_some() => offset,
            (before, known) => before.and_then(|before| before.claim).or_else(|| known.map(Offset)).unwrap_or(offset),
        }
    }

    /// Returns what an instance said last, dead or not.
    pub fn entry(&self, instance: &str) -> Option<&Entry> {
        self.entries.get(instance)
    }

    /// Returns all that have not left, the dead included, by id.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// Returns those that live, by id.
    pub fn living(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().filter(|entry| self.is_alive(entry))
    }

    /// Tells whether an instance spoke at most [`limits::INSTANCE_SILENCE_MAX_MS`] before the newest record.
    pub fn is_alive(&self, entry: &Entry) -> bool {
        self.silence_ms(entry) <= limits::INSTANCE_SILENCE_MAX_MS
    }

    /// Returns how long before the newest record an instance spoke last, in milliseconds.
    pub fn silence_ms(&self, entry: &Entry) -> i64 {
        self.newest.map_or(0, |newest| newest.0.saturating_sub(entry.at.0))
    }

    /// Returns the instance that runs a task: of those that live and say so the one that spoke last, since a task that has moved is
    /// still claimed by who had it, until that one speaks again.
    pub fn owner(&self, task: &TaskId) -> Option<&Entry> {
        self.living().filter(|entry| entry.said.active.contains(task)).max_by_key(|entry| entry.offset)
    }

    /// Returns the living instances that keep a standby of a task, the least behind first.
    pub fn standbys(&self, task: &TaskId) -> Vec<&Announcement> {
        let keepers = self.living().filter_map(|entry| Some((entry.said.standby.get(task)?.behind, &entry.said)));
        let mut keepers: Vec<_> = keepers.collect();
        keepers.sort_by_key(|(behind, _)| behind.unwrap_or(u64::MAX));
        keepers.into_iter().map(|(_, said)| said).collect()
    }

    /// Returns the key of the record that tells a shape's topology.
    pub fn shape_key(fingerprint: &str) -> String {
        format!("{SHAPE}{fingerprint}")
    }

    /// Returns the text of a shape's topology; none while nobody has told it.
    pub fn shape(&self, fingerprint: &str) -> Option<&[u8]> {
        self.shapes.get(fingerprint).map(Vec::as_slice)
    }

    /// Returns the shapes that are told and that no instance has.
    pub fn unused_shapes(&self) -> impl Iterator<Item = &str> {
        let used = |shape: &&String| self.entries.values().any(|entry| entry.said.fingerprint == **shape);
        self.shapes.keys().filter(move |shape| !used(shape)).map(String::as_str)
    }

    /// Returns the ids of instances that are dead for longer than [`limits::INSTANCE_FORGOTTEN_MS`]: nobody will say of them that they
    /// have left, unless others do.
    pub fn forgotten(&self) -> impl Iterator<Item = &str> {
        let long_dead = |entry: &&Entry| self.silence_ms(entry) > limits::INSTANCE_FORGOTTEN_MS;
        self.entries.values().filter(long_dead).map(|entry| entry.said.instance.as_str())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::base::record::Headers;

    fn record(offset: i64, at_ms: i64, instance: &str, value: Option<Vec<u8>>) -> Record {
        Record {
            offset: Offset(offset),
            timestamp: Timestamp(at_ms),
            key: Some(Bytes::from(instance.to_owned())),
            value: value.map(Bytes::from),
            headers: Headers::default(),
        }
    }

    fn runs(instance: &str, tasks: &[i32]) -> Vec<u8> {
        let said = Announcement {
            instance: instance.to_owned(),
            http: None,
            fingerprint: String::new(),
            version: String::new(),
            threads: 1,
            processes: true,
            claim: None,
            active: tasks.iter().map(|partition| TaskId::new("t", *partition)).collect(),
            standby: BTreeMap::new(),
        };
        said.encode()
    }

    fn roster(records: &[(i64, &str, Option<Vec<u8>>)]) -> Roster {
        let mut roster = Roster::default();
        for (offset, (at_ms, instance, value)) in records.iter().enumerate() {
            roster.take(&record(offset as i64, *at_ms, instance, value.clone())).unwrap();
        }
        roster
    }

    fn ids<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<&'a str> {
        entries.map(|entry| entry.said.instance.as_str()).collect()
    }

    fn owner(roster: &Roster, partition: i32) -> Option<&str> {
        roster.owner(&TaskId::new("t", partition)).map(|entry| entry.said.instance.as_str())
    }

    const SILENCE: i64 = limits::INSTANCE_SILENCE_MAX_MS;

    #[test]
    fn who_left_is_gone_and_who_is_silent_is_dead() {
        let seen = roster(&[
            (0, "a", Some(runs("a", &[0]))),
            (1, "b", Some(runs("b", &[1]))),
            (2, "c", Some(runs("c", &[2]))),
            (3, "c", None),
            (1 + SILENCE, "b", Some(runs("b", &[1]))),
        ]);
        assert_eq!((ids(seen.entries()), ids(seen.living())), (vec!["a", "b"], vec!["b"]));
        assert_eq!((owner(&seen, 0), owner(&seen, 1), owner(&seen, 2)), (None, Some("b"), None));
    }

    #[test]
    fn silence_begins_behind_the_bound_and_ends_with_a_word() {
        let mut records = vec![(0, "a", Some(runs("a", &[]))), (SILENCE, "b", Some(runs("b", &[])))];
        assert_eq!(ids(roster(&records).living()), ["a", "b"]);
        records.push((SILENCE + 1, "b", Some(runs("b", &[]))));
        assert_eq!(ids(roster(&records).living()), ["b"]);
        records.push((SILENCE + 2, "a", Some(runs("a", &[]))));
        assert_eq!(ids(roster(&records).living()), ["a", "b"]);
    }

    #[test]
    fn a_task_that_two_claim_is_the_later_ones() {
        let mut records = vec![(0, "b", Some(runs("b", &[0, 1]))), (1, "a", Some(runs("a", &[1])))];
        let seen = roster(&records);
        assert_eq!((owner(&seen, 0), owner(&seen, 1)), (Some("b"), Some("a")));
        records.push((2, "b", Some(runs("b", &[0]))));
        assert_eq!(owner(&roster(&records), 1), Some("a"));
    }

    #[test]
    fn a_claim_stands_where_it_was_made_until_it_is_given_up() {
        let says = |processes, claim| {
            let mut said = Announcement::decode("a", &runs("a", &[])).unwrap();
            (said.processes, said.claim) = (processes, claim);
            Some(said.encode())
        };
        let claim = |records: &[(bool, Option<i64>)]| {
            let records: Vec<_> = records.iter().map(|(processes, claim)| (0, "a", says(*processes, *claim))).collect();
            roster(&records).entries().next().unwrap().claim.map(|offset| offset.0)
        };
        assert_eq!(claim(&[(false, None)]), None);
        assert_eq!(claim(&[(false, None), (true, None)]), Some(1));
        assert_eq!(claim(&[(false, None), (true, None), (true, Some(1)), (true, Some(1))]), Some(1));
        assert_eq!(claim(&[(true, Some(1))]), Some(1), "when the claim itself was compacted away");
        assert_eq!(claim(&[(true, None), (false, None), (true, None)]), Some(2));
        assert_eq!(claim(&[(true, None), (true, Some(0)), (true, None)]), Some(2), "claimed anew");
    }

    #[test]
    fn a_claim_of_one_that_was_taken_for_dead_counts_from_when_it_spoke_again() {
        let mut said = Announcement::decode("a", &runs("a", &[])).unwrap();
        said.claim = Some(0);
        let again = |at_ms| {
            let (first, said) = (Some(runs("a", &[])), Some(said.encode()));
            let seen =
                [(0, "a", first), (1, "b", Some(runs("b", &[]))), (at_ms, "a", said.clone()), (at_ms, "a", said)];
            roster(&seen).entry("a").unwrap().claim
        };
        assert_eq!((again(SILENCE), again(SILENCE + 1)), (Some(Offset(0)), Some(Offset(2))));
    }

    #[test]
    fn the_topologies_of_shapes_are_told_beside_and_forgotten_with_the_last_who_has_them() {
        let mut seen = roster(&[(0, "a", Some(runs("a", &[])))]);
        let text = record(1, 1, &Roster::shape_key("f0"), Some(b"text".to_vec()));
        seen.take(&text).unwrap();
        seen.take(&record(2, 2, &Roster::shape_key(""), Some(b"mine".to_vec()))).unwrap();
        assert_eq!((seen.shape("f0"), seen.shape("f1")), (Some(&b"text"[..]), None));
        assert_eq!(ids(seen.entries()), ["a"]);
        assert_eq!(seen.unused_shapes().collect::<Vec<_>>(), ["f0"], "`a` has the other one");
        seen.take(&record(3, 3, &Roster::shape_key("f0"), None)).unwrap();
        assert_eq!(seen.shape("f0"), None);
    }

    #[test]
    fn the_long_dead_are_to_be_forgotten() {
        let late = limits::INSTANCE_FORGOTTEN_MS + 1;
        let seen = roster(&[
            (0, "a", Some(runs("a", &[]))),
            (1, "b", Some(runs("b", &[]))),
            (late, "c", Some(runs("c", &[]))),
        ]);
        assert_eq!(seen.forgotten().collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn what_cannot_be_read_is_as_if_nothing_was_said() {
        let mut seen = roster(&[(0, "a", Some(runs("a", &[0])))]);
        let newer = br#"{"format":2}"#.to_vec();
        assert!(seen.take(&record(1, 1, "a", Some(newer))).unwrap_err().contains("instance `a`"));
        assert!(ids(seen.entries()).is_empty());
    }
}
