//! What was measured, as a table or as JSON, with the machine named and each figure beside its ratio to Kafka Streams'.

use std::fmt::{Display, Write as _};

use anyhow::Result;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};
use serde::{Serialize, Serializer};

use crate::contender::Contender;
use crate::latency::Latency;
use crate::restart::Restart;
use crate::restore::Restore;
use crate::throughput::Throughput;

/// Above, the machine had other work; generous enough for the servers that have just started.
const QUIET_LOAD_MAX: f64 = 1.5;

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    cpu: String,
    cpus: usize,
    memory_gib: u64,
    /// Processes that wanted a CPU in the minute before the first run, on average: others' work makes figures worse.
    load_before: f64,
    pub(crate) throughput: Vec<Throughput>,
    pub(crate) restore: Vec<Restore>,
    pub(crate) restart: Vec<Restart>,
    pub(crate) latency: Vec<Latency>,
}

impl Report {
    pub(crate) fn of_this_machine() -> Result<Self> {
        let field = |file: &str, name: &str| -> Result<String> {
            let text = std::fs::read_to_string(file)?;
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            Ok(line.split_once(':').unwrap_or_default().1.trim().to_owned())
        };
        let memory = field("/proc/meminfo", "MemTotal")?;
        let memory_kib: u64 = memory.trim_end_matches(" kB").parse().unwrap_or(0);
        let load = std::fs::read_to_string("/proc/loadavg")?;
        Ok(Self {
            cpu: field("/proc/cpuinfo", "model name")?,
            cpus: std::thread::available_parallelism()?.get(),
            memory_gib: memory_kib >> 20,
            load_before: load.split(' ').next().unwrap_or_default().parse()?,
            throughput: Vec::new(),
            restore: Vec::new(),
            restart: Vec::new(),
            latency: Vec::new(),
        })
    }

    pub(crate) fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("figures are JSON")
    }

    pub(crate) fn table(&self) -> String {
        let Self { cpu, cpus, memory_gib, load_before, .. } = self;
        let mut text = format!(
            "{cpus} CPUs ({cpu}), {memory_gib} GiB, load {load_before:.1} before; the broker beside; exactly once\n"
        );
        if *load_before > QUIET_LOAD_MAX {
            text.push_str("Others were at work: not figures to compare with another day's.\n");
        }
        if !self.throughput.is_empty() {
            text.push_str("\nCPU of the whole process, from its start to its end\n");
            writeln!(text, "{}", self.throughputs()).expect("a string takes it");
        }
        if !self.restore.is_empty() {
            text.push_str(
                "\nA lost store, from the start of the process until the next record of every partition is committed\n",
            );
            writeln!(text, "{}", self.restores()).expect("a string takes it");
        }
        if !self.restart.is_empty() {
            text.push_str("\nFrom kill -9, and a start at once, until all that had been sent is committed, ms\n");
            writeln!(text, "{}", self.restarts()).expect("a string takes it");
        }
        if !self.latency.is_empty() {
            text.push_str("\nFrom producer to reader of committed totals, ms\n");
            writeln!(text, "{}", self.latencies()).expect("a string takes it");
        }
        text
    }

    fn throughputs(&self) -> Table {
        let header = [
            "",
            "records",
            "keys",
            "commits",
            "threads",
            "CPU s",
            "records/CPU s",
            "÷ Streams",
            "steady",
            "÷ Streams",
            "records/s",
            "÷ Streams",
            "peak MiB",
        ];
        let mut table = table(&header);
        for row in &self.throughput {
            let peer = self
                .throughput
                .iter()
                .find(|other| other.contender == Contender::Streams && other.alike() == row.alike());
            let peer = peer.filter(|_| row.contender != Contender::Streams);
            let steady = row.steady_records_per_cpu_second;
            table.add_row(vec![
                row.contender.to_string(),
                thousands(row.records as f64),
                thousands(row.keys as f64),
                format!("{} ms", row.commit_ms),
                row.threads.to_string(),
                format!("{:.1}", row.cpu_seconds),
                thousands(row.records_per_cpu_second),
                ratio(Some(row.records_per_cpu_second), peer.map(|peer| peer.records_per_cpu_second)),
                steady.map_or_else(String::new, thousands),
                ratio(steady, peer.and_then(|peer| peer.steady_records_per_cpu_second)),
                thousands(row.records_per_second),
                ratio(Some(row.records_per_second), peer.map(|peer| peer.records_per_second)),
                thousands(row.peak_mib as f64),
            ]);
        }
        table
    }

    fn restores(&self) -> Table {
        let header = ["", "rows", "s", "rows/s", "÷ Streams", "CPU s", "rows/CPU s", "÷ Streams", "peak MiB"];
        let mut table = table(&header);
        let peer = self.restore.iter().find(|row| row.contender == Contender::Streams);
        for row in &self.restore {
            let peer = peer.filter(|_| row.contender != Contender::Streams);
            let per = |rows: u64, seconds: f64| rows as f64 / seconds;
            let (by_clock, by_cpu) = (per(row.rows, row.seconds), per(row.rows, row.cpu_seconds));
            table.add_row(vec![
                row.contender.to_string(),
                thousands(row.rows as f64),
                format!("{:.1}", row.seconds),
                thousands(by_clock),
                ratio(Some(by_clock), peer.map(|peer| per(peer.rows, peer.seconds))),
                format!("{:.1}", row.cpu_seconds),
                thousands(by_cpu),
                ratio(Some(by_cpu), peer.map(|peer| per(peer.rows, peer.cpu_seconds))),
                thousands(row.peak_mib as f64),
            ]);
        }
        table
    }

    fn restarts(&self) -> Table {
        let mut table = table(&["", "records/s", "kills", "min", "median", "max"]);
        for row in &self.restart {
            table.add_row(vec![
                row.contender.to_string(),
                thousands(row.records_per_second as f64),
                row.kills.to_string(),
                row.min_ms.to_string(),
                row.median_ms.to_string(),
                row.max_ms.to_string(),
            ]);
        }
        table
    }

    fn latencies(&self) -> Table {
        let mut table = table(&["", "commits", "records/s", "totals", "p50", "p90", "p99", "max", "CPU s"]);
        for row in &self.latency {
            table.add_row(vec![
                row.contender.to_string(),
                format!("{} ms", row.commit_ms),
                thousands(row.records_per_second as f64),
                thousands(row.totals_seen as f64),
                row.p50_ms.to_string(),
                row.p90_ms.to_string(),
                row.p99_ms.to_string(),
                row.max_ms.to_string(),
                format!("{:.1}", row.cpu_seconds),
            ]);
        }
        table
    }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header(header);
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

fn ratio(ours: Option<f64>, theirs: Option<f64>) -> String {
    ours.zip(theirs).map_or_else(String::new, |(ours, theirs)| format!("{:.2}", ours / theirs))
}

/// A whole number with a comma before each three digits.
fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Serialises what prints itself.
pub(crate) fn as_text<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
