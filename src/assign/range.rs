//! Kafka's `range` assignor: of each topic, members in the order of their names get neighbouring partitions, the first ones one more
//! where they do not divide evenly. Members are static, `<instance>-<thread>`: they are ordered by that name.

use std::collections::BTreeMap;

use crate::base::ids::{TaskId, Topic};

/// What tasks read, by what the group deals out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs {
    /// How many partitions each subscribed topic has.
    pub partitions: BTreeMap<Topic, u32>,
    /// The topics of each task; it reads the partition of its number, where there is one.
    pub tasks: BTreeMap<TaskId, Vec<Topic>>,
}

/// Which instance each task comes to when certain instances are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deal(BTreeMap<TaskId, String>);

impl Deal {
    /// Deals the tasks out among instances, with their number of threads. A task whose partitions come to several instances comes to none.
    pub fn new<'a>(inputs: &Inputs, instances: impl Iterator<Item = (&'a str, usize)>) -> Self {
        let named = |(instance, threads): (&'a str, usize)| {
            (0..threads).map(move |thread| (format!("{instance}-{thread}"), instance))
        };
        let members: BTreeMap<String, &str> = instances.flat_map(named).collect();
        let members: Vec<&str> = members.into_values().collect();
        let owner = |topic: &Topic, number: u32| {
            let of = *inputs.partitions.get(topic)?;
            (number < of).then(|| members.get(member(number, of, members.len())?).copied())?
        };
        let task = |(task, topics): (&TaskId, &Vec<Topic>)| {
            let number = u32::try_from(task.partition.0).ok()?;
            let mut owners = topics.iter().filter_map(|topic| owner(topic, number));
            let first = owners.next()?;
            owners.all(|other| other == first).then(|| (task.clone(), first.to_owned()))
        };
        Self(inputs.tasks.iter().filter_map(task).collect())
    }

    /// Returns the instance that a task comes to.
    pub fn of(&self, task: &TaskId) -> Option<&str> {
        self.0.get(task).map(String::as_str)
    }
}

/// Returns the place of the member that gets partition `number` of `partitions`; none without members.
fn member(number: u32, partitions: u32, members: usize) -> Option<usize> {
    let members = u32::try_from(members).ok().filter(|members| *members > 0)?;
    let (each, more) = (partitions / members, partitions % members);
    // The first `more` members have one more than `each`.
    let of_larger = more * (each + 1);
    let place = if number < of_larger { number / (each + 1) } else { more + (number - of_larger) / each.max(1) };
    usize::try_from(place).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dealt(partitions: &[(&str, u32)], tasks: u32, instances: &[(&str, usize)]) -> Vec<String> {
        let topics: Vec<Topic> = partitions.iter().map(|(topic, _)| Topic::new(topic)).collect();
        let inputs = Inputs {
            partitions: partitions.iter().map(|(topic, count)| (Topic::new(topic), *count)).collect(),
            tasks: (0..tasks).map(|number| (TaskId::new("t", number as i32), topics.clone())).collect(),
        };
        let deal = Deal::new(&inputs, instances.iter().copied());
        (0..tasks).map(|number| deal.of(&TaskId::new("t", number as i32)).unwrap_or("-").to_owned()).collect()
    }

    #[test]
    fn neighbouring_partitions_go_to_members_in_the_order_of_their_names() {
        assert_eq!(dealt(&[("x", 7)], 7, &[("b", 1), ("a", 1), ("c", 1)]), ["a", "a", "a", "b", "b", "c", "c"]);
        assert_eq!(dealt(&[("x", 2)], 2, &[("a", 1), ("b", 1), ("c", 1)]), ["a", "b"]);
        // Threads are members: `a-0`, `a-1`, `b-0`.
        assert_eq!(dealt(&[("x", 4)], 4, &[("a", 2), ("b", 1)]), ["a", "a", "a", "b"]);
        // Names are ordered as text: `a-0` stands before `a-b-0`.
        assert_eq!(dealt(&[("x", 2)], 2, &[("a", 1), ("a-b", 1)]), ["a", "a-b"]);
        assert_eq!(dealt(&[("x", 3)], 3, &[]), ["-", "-", "-"]);
    }

    #[test]
    fn equal_numbers_of_topics_stay_together_and_torn_tasks_are_nobodys() {
        assert_eq!(dealt(&[("x", 4), ("y", 4)], 4, &[("a", 1), ("b", 1)]), ["a", "a", "b", "b"]);
        // Of `y` the first member has 0 and 1, of `x` 0 to 2: task 2 is torn; 3 and beyond have no `y`.
        assert_eq!(dealt(&[("x", 6), ("y", 3)], 6, &[("a", 1), ("b", 1)]), ["a", "a", "-", "b", "b", "b"]);
    }

    /// The deal as the assignor's clients compute it: runs of partitions, member by member.
    fn runs(partitions: u32, members: usize) -> Vec<usize> {
        let (each, more) = (partitions as usize / members, partitions as usize % members);
        (0..members).flat_map(|member| std::iter::repeat_n(member, each + usize::from(member < more))).collect()
    }

    #[test]
    fn a_partitions_member_is_the_one_whose_run_it_is_in() {
        for partitions in 1..40 {
            for members in 1..12 {
                let computed: Vec<usize> =
                    (0..partitions).map(|number| member(number, partitions, members).unwrap()).collect();
                assert_eq!(computed, runs(partitions, members), "{partitions} among {members}");
            }
        }
    }
}
