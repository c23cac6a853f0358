//! Where standbys stand: on the heirs. A task's first heir is the instance that `range` gives it when the one that runs it is gone; the
//! second, when the first heir is gone as well; and so on.
//!
//! Holds by construction: a standby is never beside its active, nor two on one instance; whoever takes a task over because an instance
//! died has its standby; nothing depends on where standbys stood before, so that placing again moves nothing, and an instance that comes
//! back finds everything as it was. What an instance keeps for another is at most what it would have to run without that one: as balanced
//! as `range` itself (`docs/decisions/0010`).

use std::collections::{BTreeMap, BTreeSet};

use crate::assign::{Deal, Inputs};
use crate::base::ids::TaskId;

/// What is known of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Instances that live, with their number of stream threads.
    pub instances: BTreeMap<String, usize>,
    /// Who runs what, as they say. A task that nobody claims is taken to be run by whom `range` gives it.
    pub active: BTreeMap<TaskId, String>,
    pub inputs: Inputs,
}

/// Returns, for each task of which there are to be standbys, the instances that keep one: `replicas` of them, or all that there are
/// besides the one that runs it.
pub fn standbys<'a>(
    group: &Group,
    tasks: impl Iterator<Item = &'a TaskId>,
    replicas: usize,
) -> BTreeMap<TaskId, Vec<String>> {
    let mut deals: BTreeMap<BTreeSet<String>, Deal> = BTreeMap::new();
    let mut without = |gone: &BTreeSet<String>, task: &TaskId| {
        let deal = deals.entry(gone.clone()).or_insert_with(|| {
            let left = group.instances.iter().filter(|(instance, _)| !gone.contains(*instance));
            Deal::new(&group.inputs, left.map(|(instance, threads)| (instance.as_str(), *threads)))
        });
        deal.of(task).map(str::to_owned)
    };
    let mut placed = BTreeMap::new();
    for task in tasks {
        let told = group.active.get(task).cloned();
        let Some(active) = told.or_else(|| without(&BTreeSet::new(), task)) else { continue };
        let (mut gone, mut heirs) = (BTreeSet::from([active]), Vec::new());
        while heirs.len() < replicas
            && let Some(heir) = without(&gone, task)
        {
            heirs.push(heir.clone());
            gone.insert(heir);
        }
        placed.insert(task.clone(), heirs);
    }
    placed
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::ids::Topic;

    /// Sub-topologies that read one or two topics of as many partitions each.
    fn inputs(subs: &[(u32, bool)]) -> Inputs {
        let mut inputs = Inputs::default();
        for (sub, (partitions, two)) in subs.iter().enumerate() {
            let topics: Vec<Topic> =
                (0..=usize::from(*two)).map(|topic| Topic::new(format!("t{sub}-{topic}"))).collect();
            inputs.partitions.extend(topics.iter().map(|topic| (topic.clone(), *partitions)));
            let tasks = (0..*partitions).map(|number| TaskId::new(format!("s{sub}"), number as i32));
            inputs.tasks.extend(tasks.map(|task| (task, topics.clone())));
        }
        inputs
    }

    fn deal(group: &Group, gone: &[&str]) -> Deal {
        let left = group.instances.iter().filter(|(instance, _)| !gone.contains(&instance.as_str()));
        Deal::new(&group.inputs, left.map(|(instance, threads)| (instance.as_str(), *threads)))
    }

    /// A group at rest: everybody runs what `range` gave.
    fn group() -> impl Strategy<Value = Group> {
        let subs = prop::collection::vec((1..13_u32, any::<bool>()), 1..4);
        let instances = prop::collection::btree_map("[a-c][0-9]{0,2}(-[0-9])?", 1..4_usize, 1..7);
        (subs, instances).prop_map(|(subs, instances)| {
            let mut group = Group { instances, active: BTreeMap::new(), inputs: inputs(&subs) };
            let dealt = deal(&group, &[]);
            group.active =
                group.inputs.tasks.keys().map(|task| (task.clone(), dealt.of(task).unwrap().to_owned())).collect();
            group
        })
    }

    fn place(group: &Group, replicas: usize) -> BTreeMap<TaskId, Vec<String>> {
        standbys(group, group.inputs.tasks.keys(), replicas)
    }

    proptest! {
        #[test]
        fn every_task_has_its_standbys_on_different_instances_and_none_beside_itself(
            group in group(), replicas in 0..4_usize, moved in any::<prop::sample::Index>()
        ) {
            // Whoever runs them: right behind a rebalance, what is told is not what `range` gives.
            let ids: Vec<&String> = group.instances.keys().collect();
            let (by, active) = (moved.index(ids.len()), group.active.iter());
            let turned = |at: &String| ids[(ids.iter().position(|id| *id == at).unwrap() + by) % ids.len()].clone();
            let active = active.map(|(task, at)| (task.clone(), turned(at))).collect();
            let group = Group { active, ..group.clone() };
            let placed = place(&group, replicas);
            prop_assert!(placed.keys().eq(group.inputs.tasks.keys()));
            for (task, heirs) in &placed {
                let different: BTreeSet<&String> = heirs.iter().chain([&group.active[task]]).collect();
                prop_assert_eq!(different.len(), heirs.len() + 1);
                prop_assert_eq!(heirs.len(), replicas.min(group.instances.len() - 1));
            }
            prop_assert_eq!(&place(&group, replicas), &placed, "placing again moves nothing");
        }

        #[test]
        fn who_takes_over_has_a_standby_however_many_die_in_turn(group in group(), replicas in 1..4_usize) {
            for (task, heirs) in place(&group, replicas) {
                let mut gone = vec![group.active[&task].as_str()];
                for heir in &heirs {
                    let next = deal(&group, &gone);
                    prop_assert_eq!(next.of(&task), Some(heir.as_str()));
                    gone.push(heir);
                }
            }
        }

        #[test]
        fn nobody_keeps_more_for_another_than_it_would_run_without_it(group in group()) {
            let placed = place(&group, 1);
            for one in group.instances.keys() {
                let without = deal(&group, &[one.as_str()]);
                for other in group.instances.keys().filter(|other| *other != one) {
                    let kept = placed.iter().filter(|(task, heirs)| group.active[*task] == *one && heirs[0] == *other).count();
                    let would_run = group.inputs.tasks.keys().filter(|task| without.of(task) == Some(other.as_str())).count();
                    prop_assert!(kept <= would_run, "{} for {}: {} of {}", other, one, kept, would_run);
                }
            }
        }
    }

    #[test]
    fn an_instance_that_comes_back_finds_everything_as_it_was() {
        let instances = BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 1), ("c".to_owned(), 1)]);
        let at_rest = |instances: BTreeMap<String, usize>| {
            let mut group = Group { instances, active: BTreeMap::new(), inputs: inputs(&[(6, false)]) };
            let dealt = deal(&group, &[]);
            group.active =
                group.inputs.tasks.keys().map(|task| (task.clone(), dealt.of(task).unwrap().to_owned())).collect();
            place(&group, 1)
        };
        let before = at_rest(instances.clone());
        let shown: Vec<String> = before.values().map(|heirs| heirs.concat()).collect();
        assert_eq!(shown, ["b", "b", "a", "c", "b", "b"]);
        let mut fewer = instances.clone();
        fewer.remove("b");
        assert!(at_rest(fewer).values().all(|heirs| heirs.len() == 1));
        assert_eq!(at_rest(instances), before);
    }
}
