//! Consumer groups: who is a member, who reads what, which offsets are committed.
//!
//! Rebalances are eager, as Kafka's classic protocol with the `range` assignor: every member gives everything back, then a
//! new generation is dealt out. Invariant: a partition has at most one member that may commit it. A member lives as long as
//! its consumer; there is no session clock, so one that never answers `Revoked` holds the others up. No I/O here.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::base::ids::{Offset, Topic, TopicPartition};
use crate::broker::Error;

/// A member of a group; numbers are never used twice within a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MemberId(pub(super) u64);

/// What a transaction's or a consumer's offsets are fenced by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Membership {
    pub(super) group_id: String,
    /// None: not a member; good as long as the group has none.
    pub(super) member: Option<MemberId>,
    pub(super) generation: u64,
}

/// What a member is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum GroupEvent {
    Assigned { generation: u64, partitions: Vec<TopicPartition> },
    Revoked(Vec<TopicPartition>),
}

/// How many partitions a topic has; none when it does not exist.
pub(super) type PartitionCount<'a> = &'a dyn Fn(&Topic) -> Option<u32>;

#[derive(Debug)]
enum Seat {
    /// Owns nothing, waits for the next generation.
    Waiting,
    /// An assignment lies in the queue; the consumer has not seen it.
    Offered,
    Holding(Vec<TopicPartition>),
    /// Was told to give these back.
    Releasing(BTreeSet<TopicPartition>),
}

#[derive(Debug)]
struct Member {
    instance_id: Option<String>,
    topics: BTreeSet<Topic>,
    seat: Seat,
    queue: VecDeque<GroupEvent>,
}

/// One group.
#[derive(Debug, Default)]
pub(super) struct Group {
    generation: u64,
    members: BTreeMap<MemberId, Member>,
    /// Next offset to read, as committed.
    pub(super) offsets: BTreeMap<TopicPartition, Offset>,
    /// Offsets of transactions that are about to end, by transaction.
    pub(super) pending: BTreeMap<u64, Vec<(TopicPartition, Offset)>>,
}

impl Group {
    /// Makes a group without members.
    pub(super) fn with_offsets(offsets: BTreeMap<TopicPartition, Offset>) -> Self {
        Self { offsets, ..Self::default() }
    }

    /// Takes a member in, or changes what it subscribes to. The static member that has the seat is put out of it.
    pub(super) fn join(&mut self, id: MemberId, instance: Option<&str>, topics: &[Topic], counts: PartitionCount<'_>) {
        let topics: BTreeSet<Topic> = topics.iter().cloned().collect();
        if let Some(member) = self.members.get_mut(&id) {
            if member.topics != topics {
                member.topics = topics;
                self.rebalance(counts);
            }
            return;
        }
        let holder = instance.and_then(|instance| {
            self.members.iter().find(|(_, member)| member.instance_id.as_deref() == Some(instance)).map(|(id, _)| *id)
        });
        let before = holder.and_then(|holder| self.members.remove(&holder));
        let mut member =
            Member { instance_id: instance.map(str::to_owned), topics, seat: Seat::Waiting, queue: VecDeque::new() };
        // KIP-345: a static member that is back gets its own partitions without a rebalance.
        let seat = before.filter(|before| before.topics == member.topics).and_then(Member::assignment);
        match seat {
            Some(partitions) => {
                member.offer(self.generation, partitions);
                self.members.insert(id, member);
            }
            None => {
                self.members.insert(id, member);
                self.rebalance(counts);
            }
        }
    }

    /// Puts a member out; the others share what it had.
    pub(super) fn leave(&mut self, id: MemberId, counts: PartitionCount<'_>) {
        if self.members.remove(&id).is_some() {
            self.rebalance(counts);
        }
    }

    /// Starts a rebalance when a member subscribes to `topic`: its partitions have changed.
    pub(super) fn topic_changed(&mut self, topic: &Topic, counts: PartitionCount<'_>) {
        if self.members.values().any(|member| member.topics.contains(topic)) {
            self.rebalance(counts);
        }
    }

    /// Returns the next thing that a member must be told; an error when another took its static id.
    pub(super) fn next_event(&mut self, id: MemberId) -> Result<Option<GroupEvent>, Error> {
        let Some(member) = self.members.get_mut(&id) else {
            return Err(Error::Fenced { message: "another consumer joined under this instance id".to_owned() });
        };
        let event = member.queue.pop_front();
        if let Some(GroupEvent::Assigned { partitions, .. }) = &event {
            member.seat = Seat::Holding(partitions.clone());
        }
        Ok(event)
    }

    /// Tells whether `next_event` has something to say.
    pub(super) fn has_event(&self, id: MemberId) -> bool {
        self.members.get(&id).is_none_or(|member| !member.queue.is_empty())
    }

    /// Takes back what a member has stopped reading.
    pub(super) fn release(&mut self, id: MemberId, partitions: &[TopicPartition], counts: PartitionCount<'_>) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let Seat::Releasing(left) = &mut member.seat else { return };
        partitions.iter().for_each(|partition| {
            left.remove(partition);
        });
        if left.is_empty() {
            member.seat = Seat::Waiting;
            // An answer that came before the question was read settles it.
            member.queue.retain(|event| !matches!(event, GroupEvent::Revoked(_)));
            self.deal_when_ready(counts);
        }
    }

    /// Checks that whoever has this membership may commit.
    pub(super) fn check(&self, membership: &Membership) -> Result<(), String> {
        match membership.member {
            None if self.members.is_empty() => Ok(()),
            None => Err("the group has members and this consumer is none of them".to_owned()),
            Some(id) if !self.members.contains_key(&id) => Err("the consumer is not a member any more".to_owned()),
            Some(_) if membership.generation != self.generation => {
                Err(format!("generation {} is over: the group is at {}", membership.generation, self.generation))
            }
            Some(_) => Ok(()),
        }
    }

    /// Tells whether any of `partitions` waits for a transaction to end.
    pub(super) fn has_pending(&self, partitions: &[TopicPartition]) -> bool {
        self.pending.values().flatten().any(|(partition, _)| partitions.contains(partition))
    }

    pub(super) fn has_members(&self) -> bool {
        !self.members.is_empty()
    }

    fn rebalance(&mut self, counts: PartitionCount<'_>) {
        for member in self.members.values_mut() {
            member.recall();
        }
        self.deal_when_ready(counts);
    }

    /// Deals out a new generation once nobody holds anything.
    fn deal_when_ready(&mut self, counts: PartitionCount<'_>) {
        if self.members.values().any(|member| !matches!(member.seat, Seat::Waiting)) {
            return;
        }
        self.generation += 1;
        let seats: Vec<_> = self.members.iter().map(|(id, m)| (*id, m.instance_id.as_deref(), &m.topics)).collect();
        let assignment = assign_range(seats, counts);
        for (id, member) in &mut self.members {
            let partitions = assignment.get(id).cloned().unwrap_or_default();
            member.offer(self.generation, partitions);
        }
    }
}

impl Member {
    fn offer(&mut self, generation: u64, partitions: Vec<TopicPartition>) {
        self.seat = Seat::Offered;
        self.queue.push_back(GroupEvent::Assigned { generation, partitions });
    }

    /// Asks for everything back; what was not seen yet is simply withdrawn.
    fn recall(&mut self) {
        match std::mem::replace(&mut self.seat, Seat::Waiting) {
            Seat::Waiting => {}
            Seat::Offered => self.queue.retain(|event| !matches!(event, GroupEvent::Assigned { .. })),
            Seat::Holding(partitions) if partitions.is_empty() => {}
            Seat::Holding(partitions) => {
                self.seat = Seat::Releasing(partitions.iter().cloned().collect());
                self.queue.push_back(GroupEvent::Revoked(partitions));
            }
            releasing @ Seat::Releasing(_) => self.seat = releasing,
        }
    }

    /// Returns what the member has or was offered; none in the middle of a rebalance.
    fn assignment(self) -> Option<Vec<TopicPartition>> {
        match self.seat {
            Seat::Waiting | Seat::Releasing(_) => None,
            Seat::Holding(partitions) => Some(partitions),
            Seat::Offered => self.queue.into_iter().find_map(|event| match event {
                GroupEvent::Assigned { partitions, .. } => Some(partitions),
                GroupEvent::Revoked(_) => None,
            }),
        }
    }
}

/// Kafka's `RangeAssignor`: per topic the members in order get a range each, the first ones one partition more where it does
/// not come out even; so equal numbers of topics that the same members read meet at one member.
fn assign_range(
    mut members: Vec<(MemberId, Option<&str>, &BTreeSet<Topic>)>,
    counts: PartitionCount<'_>,
) -> BTreeMap<MemberId, Vec<TopicPartition>> {
    // `AbstractPartitionAssignor.MemberInfo.compareTo`: static members first, by instance id; the others by member id.
    members.sort_by(|(id_a, instance_a, _), (id_b, instance_b, _)| match (instance_a, instance_b) {
        (Some(a), Some(b)) => a.cmp(b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => id_a.cmp(id_b),
    });
    let topics: BTreeSet<&Topic> = members.iter().flat_map(|(_, _, topics)| topics.iter()).collect();
    let mut assignment: BTreeMap<MemberId, Vec<TopicPartition>> = BTreeMap::new();
    for topic in topics {
        let Some(partitions) = counts(topic) else { continue };
        let readers: Vec<MemberId> =
            members.iter().filter(|(_, _, topics)| topics.contains(topic)).map(|(id, _, _)| *id).collect();
        let (each, extra) = (partitions / readers.len() as u32, partitions as usize % readers.len());
        let mut next = 0;
        for (index, reader) in readers.into_iter().enumerate() {
            let length = each + u32::from(index < extra);
            let range = (next..next + length).map(|number| TopicPartition::new(topic.clone(), number as i32));
            assignment.entry(reader).or_default().extend(range);
            next += length;
        }
    }
    assignment
}

#[cfg(test)]
mod tests {
    use super::*;

    fn four_each(topic: &Topic) -> Option<u32> {
        (topic.as_str() != "missing").then_some(4)
    }

    fn topics(names: &[&str]) -> Vec<Topic> {
        names.iter().map(|name| Topic::from(*name)).collect()
    }

    fn numbers(event: Option<GroupEvent>) -> (u64, Vec<String>) {
        match event {
            Some(GroupEvent::Assigned { generation, partitions }) => {
                (generation, partitions.iter().map(ToString::to_string).collect())
            }
            other => panic!("an assignment was expected, not {other:?}"),
        }
    }

    #[test]
    fn range_gives_equal_numbers_of_two_topics_to_one_member() {
        let both: BTreeSet<Topic> = topics(&["a", "b"]).into_iter().collect();
        let members = (1..=3).map(|id| (MemberId(id), None, &both)).collect();
        let assignment = assign_range(members, &four_each);
        let of = |id| assignment[&MemberId(id)].iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(of(1), ["a-0", "a-1", "b-0", "b-1"]);
        assert_eq!(of(2), ["a-2", "b-2"]);
        assert_eq!(of(3), ["a-3", "b-3"]);
    }

    #[test]
    fn range_orders_static_members_by_instance_id_before_the_others() {
        let one: BTreeSet<Topic> = topics(&["a"]).into_iter().collect();
        let members = vec![(MemberId(1), None, &one), (MemberId(2), Some("y"), &one), (MemberId(3), Some("x"), &one)];
        let assignment = assign_range(members, &four_each);
        let of = |id| assignment[&MemberId(id)].iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!((of(3), of(2), of(1)), (vec!["a-0".into(), "a-1".into()], vec!["a-2".into()], vec!["a-3".into()]));
    }

    #[test]
    fn range_gives_a_topic_only_to_its_subscribers() {
        let (a, ab) = (topics(&["a", "missing"]).into_iter().collect(), topics(&["a", "b"]).into_iter().collect());
        let assignment = assign_range(vec![(MemberId(1), None, &a), (MemberId(2), None, &ab)], &four_each);
        let of = |id| assignment[&MemberId(id)].iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(of(1), ["a-0", "a-1"]);
        assert_eq!(of(2), ["a-2", "a-3", "b-0", "b-1", "b-2", "b-3"]);
    }

    #[test]
    fn a_new_generation_waits_until_everything_was_given_back() {
        let mut group = Group::default();
        let (first, second) = (MemberId(1), MemberId(2));
        group.join(first, None, &topics(&["a"]), &four_each);
        let (generation, all) = numbers(group.next_event(first).unwrap());
        assert_eq!(all.len(), 4);
        let old = Membership { group_id: "g".into(), member: Some(first), generation };
        group.join(second, None, &topics(&["a"]), &four_each);
        let Some(GroupEvent::Revoked(revoked)) = group.next_event(first).unwrap() else { panic!("not revoked") };
        assert_eq!(group.next_event(second).unwrap(), None);
        assert_eq!(group.check(&old), Ok(()), "the old owner commits until it lets go");
        group.release(first, &revoked[..2], &four_each);
        assert_eq!(group.next_event(second).unwrap(), None);
        group.release(first, &revoked[2..], &four_each);
        assert!(group.check(&old).is_err());
        assert_eq!(numbers(group.next_event(first).unwrap()), (generation + 1, vec!["a-0".into(), "a-1".into()]));
        assert_eq!(numbers(group.next_event(second).unwrap()).1, ["a-2", "a-3"]);
    }

    #[test]
    fn a_static_member_that_comes_back_takes_its_seat_without_a_rebalance() {
        let mut group = Group::default();
        group.join(MemberId(1), Some("x"), &topics(&["a"]), &four_each);
        group.join(MemberId(2), Some("y"), &topics(&["a"]), &four_each);
        let (generation, mine) = numbers(group.next_event(MemberId(1)).unwrap());
        assert_eq!(numbers(group.next_event(MemberId(2)).unwrap()).0, generation);
        group.join(MemberId(3), Some("x"), &topics(&["a"]), &four_each);
        assert_eq!(numbers(group.next_event(MemberId(3)).unwrap()), (generation, mine));
        assert!(matches!(group.next_event(MemberId(1)), Err(Error::Fenced { .. })));
        assert_eq!(group.next_event(MemberId(2)).unwrap(), None);
        let old = Membership { group_id: "g".into(), member: Some(MemberId(1)), generation };
        assert!(group.check(&old).is_err());
    }
}
