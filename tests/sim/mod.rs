//! Simulation: the production engine, several instances of it, on a broker in memory, with time, faults and order by seed. A seed gives
//! the same run anywhere, to the byte. `make sim SEEDS=10000` tries many, `make sim SEED=7` tells all about one.

mod check;
mod disk;
mod fates;
mod history;
mod net;
mod producer;
mod registry;
mod run;
mod workload;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tidemill::planted::Mistake;
use tidemill::runtime::Guarantee;

use fates::{Fates, Fault};
use run::{Shape, World};
use workload::Workload;

/// What became of a seed.
struct Outcome {
    problem: Option<String>,
    struck: BTreeMap<Fault, u64>,
    trace: Vec<String>,
    about: String,
}

fn simulate(seed: u64, traced: bool) -> Outcome {
    let fates = Fates::new(seed, traced);
    let workload = Arc::new(Workload::new(seed));
    let shape = Shape::new(&fates, seed);
    let about = format!("{} ({} records) {shape:?}", workload.name, workload.len());
    let played = catch_unwind(AssertUnwindSafe(|| play(seed, &fates, &workload, shape)));
    let problem = match played {
        Ok(outcome) => outcome.err(),
        Err(panic) => {
            let told = panic.downcast_ref::<String>().cloned();
            Some(told.or_else(|| panic.downcast_ref::<&str>().map(|told| (*told).to_owned())).unwrap_or_default())
        }
    };
    Outcome { problem, struck: fates.struck(), trace: fates.trace(), about }
}

fn play(seed: u64, fates: &Fates, workload: &Arc<Workload>, shape: Shape) -> Result<(), String> {
    let mut world = World::new(fates, workload, shape);
    world.live()?;
    check::all(&mut world)?;
    if workload.finals.is_empty() {
        return Ok(());
    }
    let mut calm = World::new(&Fates::calm(seed), workload, shape.calm());
    calm.live()?;
    if shape.guarantee == Guarantee::AtLeastOnce {
        let (found, wanted) = (check::stateless(&world), check::stateless(&calm));
        return if found == wanted { Ok(()) } else { Err(format!("there is {found:?}, uninterrupted {wanted:?}")) };
    }
    let (found, wanted) = (check::finals(&world), check::finals(&calm));
    if found == wanted { Ok(()) } else { Err(format!("the last values are {found:?}, uninterrupted {wanted:?}")) }
}

/// What `make sim` says, or nothing.
fn said(name: &str) -> Option<u64> {
    let text = crate::provided(name);
    (!text.is_empty()).then(|| text.parse().unwrap_or_else(|_| panic!("{name} is a number, not `{text}`")))
}

/// Runs seeds one after the other; returns how often each fault struck, and what failed.
fn run_all(seeds: impl Iterator<Item = u64>) -> (BTreeMap<Fault, u64>, Vec<String>) {
    let (mut struck, mut failed): (BTreeMap<Fault, u64>, Vec<String>) = (BTreeMap::new(), Vec::new());
    for seed in seeds {
        let outcome = simulate(seed, false);
        for (fault, times) in outcome.struck {
            *struck.entry(fault).or_default() += times;
        }
        if let Some(problem) = outcome.problem {
            failed.push(format!("seed {seed}, {}: {problem}\n  make sim SEED={seed}", outcome.about));
            if failed.len() >= 10 {
                break;
            }
        }
    }
    (struck, failed)
}

fn told(struck: &BTreeMap<Fault, u64>) -> String {
    let mut text = format!("{} faults:", struck.values().sum::<u64>());
    for (fault, times) in struck {
        write!(text, " {fault:?} {times}").unwrap();
    }
    text
}

#[test]
#[ignore = "by `make sim`"]
fn seeds_that_were_asked_for() {
    if let Some(seed) = said("TIDEMILL_SIM_SEED") {
        let outcome = simulate(seed, true);
        println!("{}\n{}\n{}", outcome.trace.join("\n"), outcome.about, told(&outcome.struck));
        assert_eq!(outcome.problem, None);
        return;
    }
    let (first, count) = (said("TIDEMILL_SIM_FIRST").unwrap_or(1), said("TIDEMILL_SIM_SEEDS").unwrap_or(10_000));
    let (struck, failed) = run_all(first..first + count);
    println!("{count} seeds from {first}, {}", told(&struck));
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// How many seeds every run of the tests tries.
const SEEDS: u64 = 4_000;

#[test]
fn some_thousand_seeds_keep_what_is_promised() {
    let (struck, failed) = run_all(1..=SEEDS);
    println!("{SEEDS} seeds, {}", told(&struck));
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    for fault in Fault::ALL {
        assert!(struck.get(&fault).is_some_and(|times| *times > 0), "{fault:?} never struck");
    }
}

/// Seeds in which a planted mistake must be noticed.
const SEEDS_OF_A_MISTAKE: u64 = 1_500;

#[test]
fn every_mistake_that_is_planted_is_noticed() {
    for mistake in Mistake::ALL {
        tidemill::planted::plant(Some(mistake));
        let noticed = (1..=SEEDS_OF_A_MISTAKE).find_map(|seed| Some((seed, simulate(seed, false).problem?)));
        tidemill::planted::plant(None);
        let (seed, problem) = noticed.unwrap_or_else(|| panic!("{mistake:?} is not noticed"));
        println!("{mistake:?} is noticed with seed {seed}: {}", problem.chars().take(160).collect::<String>());
    }
}

#[test]
fn seeds_that_failed_once_are_tried_again() {
    let seeds = include_str!("seeds.txt").lines().filter(|line| !line.starts_with('#'));
    let seeds = seeds.map(|line| line.split_whitespace().next().unwrap().parse::<u64>().unwrap());
    let (_, failed) = run_all(seeds);
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn a_seed_gives_the_same_run_to_the_byte() {
    for seed in 1..=40 {
        let (first, second) = (simulate(seed, true), simulate(seed, true));
        assert!(first.trace.len() > 100, "seed {seed} has a trace");
        let differ = first.trace.iter().zip(&second.trace).position(|(a, b)| a != b);
        let at = differ.map(|at| (at, &first.trace[at], &second.trace[at]));
        assert_eq!((at, first.trace.len()), (None, second.trace.len()), "seed {seed}");
    }
}
