//! A long run: orders at a steady pace, two daemons that stay and one that comes and goes, so that the group rebalances all the time.
//! What the two hold of memory, open files, threads and disk must not grow. `make steady MINUTES=60` draws it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use plotters::prelude::*;

use crate::support::process::Run;
use crate::support::{App, Place, shop, topics};

use super::cluster::Cluster;
use super::load::{Load, PARTITIONS};
use super::verify::Verifier;
use super::{Daemons, NAMES};

/// Customers of each partition.
const CUSTOMERS: u64 = 10_000;
const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// How long the third daemon is there, and away.
const STAY: Duration = Duration::from_secs(20);
/// What stays all the time.
const STAYING: usize = 2;
const RECOVERY_MAX: Duration = Duration::from_secs(60);

/// What a daemon holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    minute: f64,
    memory_mib: f64,
    files: f64,
    threads: f64,
    disk_mib: f64,
}

/// What is looked at, and how much more of it there may be in the run's last third than in its second.
type Measure = (&'static str, fn(&Held) -> f64, f64);

const MEASURES: [Measure; 4] = [
    ("resident memory, MiB", |held| held.memory_mib, 1.1),
    ("open files", |held| held.files, 1.1),
    ("threads", |held| held.threads, 1.0),
    ("state on disk, MiB", |held| held.disk_mib, 1.25),
];

impl Held {
    fn by(run: &Run, state: &Path, begun: Instant) -> Self {
        Self {
            minute: begun.elapsed().as_secs_f64() / 60.0,
            memory_mib: run.resident_kib().0 as f64 / 1024.0,
            files: run.open_files() as f64,
            threads: run.threads() as f64,
            disk_mib: bytes_below(state) as f64 / f64::from(1 << 20),
        }
    }
}

/// Files that go while they are counted count nothing; nor do RocksDB's own logs, two of 1 MiB at most in each task's folder, which
/// take longer than an hour to get there.
fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
        Ok(_) if entry.file_name().to_string_lossy().starts_with("LOG") => 0,
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.map(bytes).sum()
}

/// The shop with an end to everything that it keeps: an hour of the orders' time, of which a minute goes by in a second or less.
fn topology() -> String {
    shop::TOPOLOGY
        .replace("history = \"forever\"", "history = \"1h\"")
        .replace("retention = \"1d\"", "retention = \"1h\"")
}

struct Plan {
    minutes: u64,
    per_second: u64,
    /// Where the plot goes.
    plot: PathBuf,
}

fn run(plan: &Plan) {
    let cluster = Cluster::start(1);
    let registry = Some(crate::provided("TIDEMILL_TEST_REGISTRY"));
    let place = Place::Kafka { servers: cluster.servers(), registry };
    let app = App::new(place.clone(), &topology(), shop::SCHEMAS);
    topics::create(&*app.broker(), &app.topic("orders"), PARTITIONS as u32, &[]);
    let settings = "commit_interval = \"100ms\"\n".to_owned();
    let runs = NAMES.iter().map(|_| None).collect();
    let mut daemons = Daemons { app: &app, place, settings, disks: Vec::new(), runs, said: Vec::new() };
    (0..STAYING).for_each(|which| daemons.start(which));
    let load = Load::start(&cluster.servers(), &app.topic("orders"), plan.per_second, CUSTOMERS);
    let (held, rebalances) = watch(&mut daemons, plan);
    let ledger = load.stop();
    let mut verifier = Verifier::new(&cluster.servers(), &app.id);
    let deadline = Instant::now() + RECOVERY_MAX;
    while verifier.lag(PARTITIONS, Duration::ZERO) != Some(0) {
        assert!(Instant::now() < deadline, "there is lag still");
        std::thread::park_timeout(Duration::from_millis(100));
    }
    let mut outcome = verifier.compare(&ledger);
    while outcome.is_err() && Instant::now() < deadline {
        std::thread::park_timeout(Duration::from_millis(500));
        outcome = verifier.compare(&ledger);
    }
    (0..NAMES.len()).for_each(|which| daemons.stop(which));
    println!("{} orders in {} minutes, {rebalances} rebalances", ledger.len(), plan.minutes);
    draw(&plan.plot, plan, &held).unwrap();
    outcome.unwrap_or_else(|problem| panic!("{problem}"));
    shop::assert_no_store_was_set_aside(&daemons.all_said());
    let grown = grown(&held);
    assert!(grown.is_empty(), "{}", grown.join("\n"));
}

/// Lets the third daemon come and go, and writes down what those hold that stay; with how often one came or went.
fn watch(daemons: &mut Daemons<'_>, plan: &Plan) -> (Vec<Vec<Held>>, usize) {
    let states: Vec<PathBuf> = NAMES.iter().map(|name| daemons.app.state(name)).collect();
    let begun = Instant::now();
    let (mut held, mut rebalances) = (vec![Vec::new(); STAYING], 0);
    let (mut next_sample, mut next_move) = (SAMPLE_EVERY, STAY);
    while begun.elapsed() < Duration::from_secs(60 * plan.minutes) {
        if begun.elapsed() >= next_sample {
            next_sample += SAMPLE_EVERY;
            for (which, held) in held.iter_mut().enumerate() {
                let run = daemons.runs[which].as_mut().expect("it stays");
                assert_eq!(run.exited(), None, "{} has ended:\n{}", NAMES[which], run.said());
                held.push(Held::by(run, &states[which], begun));
            }
        }
        if begun.elapsed() >= next_move {
            next_move += STAY;
            rebalances += 1;
            match daemons.runs[STAYING].is_some() {
                true => daemons.stop(STAYING),
                false => daemons.start(STAYING),
            }
            if rebalances % 30 == 0 {
                println!("{} minutes: {:?}", begun.elapsed().as_secs() / 60, held[0].last());
            }
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
    (held, rebalances)
}

/// What there is more of in the last third of the run than in the second, by its average. Prints all.
fn grown(held: &[Vec<Held>]) -> Vec<String> {
    let mut grown = Vec::new();
    for (held, name) in held.iter().zip(NAMES) {
        let third = held.len() / 3;
        for (measure, of, growth_max) in MEASURES {
            let average = |held: &[Held]| held.iter().map(of).sum::<f64>() / held.len().max(1) as f64;
            let (before, after) = (average(&held[third..2 * third]), average(&held[2 * third..]));
            let most = held.iter().map(of).fold(0.0, f64::max);
            let told = format!("{name}: {measure}: {before:.1}, then {after:.1}, at most {most:.1}");
            println!("{told}");
            if after > before * growth_max {
                grown.push(told);
            }
        }
    }
    grown
}

fn draw(to: &Path, plan: &Plan, held: &[Vec<Held>]) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::new(to, (900, 760)).into_drawing_area();
    root.fill(&WHITE)?;
    for (panel, (measure, of, _)) in root.split_evenly((MEASURES.len(), 1)).iter().zip(MEASURES) {
        let most = held.iter().flatten().map(of).fold(1.0, f64::max);
        let mut chart = ChartBuilder::on(panel)
            .caption(measure, ("sans-serif", 15))
            .margin(8)
            .x_label_area_size(22)
            .y_label_area_size(48)
            .build_cartesian_2d(0.0..plan.minutes as f64, 0.0..most * 1.2)?;
        chart.configure_mesh().x_desc("minutes").y_labels(5).light_line_style(WHITE).draw()?;
        for ((held, name), colour) in held.iter().zip(NAMES).zip([&BLUE, &RED]) {
            let points = held.iter().map(|held| (held.minute, of(held)));
            let line = chart.draw_series(LineSeries::new(points, colour))?;
            line.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour));
        }
        chart.configure_series_labels().border_style(BLACK).draw()?;
    }
    root.present()?;
    Ok(())
}

#[test]
#[ignore = "an hour: `make steady`"]
fn a_steady_load_that_was_asked_for() {
    let number = |name: &str| crate::provided(name).parse().unwrap_or_else(|_| panic!("{name} is a number"));
    run(&Plan {
        minutes: number("TIDEMILL_STEADY_MINUTES"),
        per_second: number("TIDEMILL_STEADY_RATE"),
        plot: crate::provided("TIDEMILL_STEADY_PLOT").into(),
    });
}
