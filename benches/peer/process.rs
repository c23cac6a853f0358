//! A process under measurement: its CPU time (all threads, until it has ended), its peak memory, and that it does end.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// `/proc` counts CPU time in hundredths of a second, whatever the kernel's own clock.
const TICKS_PER_SECOND: f64 = 100.0;
const STOP_WAIT: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

/// Killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
    peak_kib: u64,
}

/// What a process took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) cpu_seconds: f64,
    pub(crate) peak_mib: u64,
}

impl Process {
    /// Starts a command; what it says goes to a file.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let output = File::create(log)?;
        let child = command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).spawn();
        let child = child.with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self { child, log: log.to_owned(), peak_kib: 0 })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the CPU seconds so far, and takes note of the memory.
    ///
    /// # Errors
    /// The process has ended, which it was not asked to.
    pub(crate) fn look(&mut self) -> Result<f64> {
        let (state, cpu_seconds) = self.stat()?;
        if state == 'Z' {
            bail!("it has ended by itself:\n{}", self.last_words());
        }
        self.note_peak();
        Ok(cpu_seconds)
    }

    /// Waits for the end of a process that ends by itself.
    pub(crate) fn wait(mut self) -> Result<Taken> {
        loop {
            let (state, cpu_seconds) = self.stat()?;
            if state == 'Z' {
                let status = self.child.wait()?;
                ensure!(status.success(), "{status}:\n{}", self.last_words());
                return Ok(Taken { cpu_seconds, peak_mib: self.peak_kib / 1024 });
            }
            self.note_peak();
            std::thread::sleep(LOOK);
        }
    }

    /// Asks the process to end and waits until it has.
    pub(crate) fn stop(mut self) -> Result<Taken> {
        let asked = Command::new("kill").arg("-TERM").arg(self.id().to_string()).status()?;
        ensure!(asked.success(), "kill: {asked}");
        let begun = Instant::now();
        while begun.elapsed() < STOP_WAIT {
            // A process that has ended and was not waited for still has its times.
            let (state, cpu_seconds) = self.stat()?;
            if state == 'Z' {
                self.child.wait()?;
                return Ok(Taken { cpu_seconds, peak_mib: self.peak_kib / 1024 });
            }
            self.note_peak();
            std::thread::sleep(LOOK);
        }
        bail!("it does not end within {STOP_WAIT:?}:\n{}", self.last_words())
    }

    /// The last lines of what it said.
    pub(crate) fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Returns state and CPU seconds. The command's name stands in parentheses and may hold anything.
    fn stat(&self) -> Result<(char, f64)> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id()))?;
        let (_, rest) = stat.rsplit_once(") ").context("/proc/…/stat")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        let (state, user, system) = (fields[0], fields[11].parse::<f64>()?, fields[12].parse::<f64>()?);
        Ok((state.chars().next().unwrap_or('?'), (user + system) / TICKS_PER_SECOND))
    }

    fn note_peak(&mut self) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        self.peak_kib = self.peak_kib.max(kib.unwrap_or(0));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}
