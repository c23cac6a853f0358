//! What the end-to-end tests share: a topology in a folder of its own on the embedded broker or a real Kafka, the daemon as a
//! process that can be killed, stopped and asked, and a small shop whose every answer can be computed without the engine.

#![allow(clippy::disallowed_methods, reason = "tests wait for conditions, with generous bounds")]

pub(crate) mod disk;
pub(crate) mod kafka_server;
pub(crate) mod notes;
pub(crate) mod preload;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod shop;
pub(crate) mod topics;

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidemill::broker::Broker;
use tidemill::broker::kafka::{KafkaBroker, KafkaSettings};
use tidemill::broker::local::LocalBroker;

use disk::Disk;
use process::Run;

/// Longer than anything takes that a test waits for.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);

/// Lets time pass on a server, where what is waited for gives no sign.
pub(crate) fn rest(span: Duration) {
    std::thread::sleep(span);
}

/// Looks until there is something to return; panics with `what` after the deadline.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    until_or_said(what, || look().ok_or_else(String::new))
}

/// As [`until`]; the panic says what there was in the end.
pub(crate) fn until_or_said<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        let said = match look() {
            Ok(found) => return found,
            Err(said) => said,
        };
        assert!(Instant::now() < end, "waited in vain: {what}\n{said}");
        std::thread::park_timeout(Duration::from_millis(25));
    }
}

/// Where a topology runs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Place {
    Embedded,
    Kafka { servers: String, registry: Option<String> },
}

impl Place {
    /// The real Kafka of `make test`, with the registry that the state folder holds.
    pub(crate) fn kafka() -> Self {
        Self::Kafka { servers: crate::provided("TIDEMILL_TEST_KAFKA"), registry: None }
    }

    /// The real Kafka and the real registry of `make test`.
    pub(crate) fn kafka_and_registry() -> Self {
        let registry = Some(crate::provided("TIDEMILL_TEST_REGISTRY"));
        Self::Kafka { servers: crate::provided("TIDEMILL_TEST_KAFKA"), registry }
    }
}

/// A topology with its folder: `{id}` in its text is a name that no other test has.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) id: String,
    pub(crate) place: Place,
}

/// How to start a daemon.
#[derive(Clone, Debug)]
pub(crate) struct Launch<'a> {
    pub(crate) instance: &'a str,
    pub(crate) threads: usize,
    pub(crate) at_least_once: bool,
    /// `step:count` of the crash hook.
    pub(crate) crash: Option<String>,
    /// More of `tidemill.toml`, in front of its sections.
    pub(crate) settings: &'a str,
    /// More of the section `[kafka]`.
    pub(crate) kafka: &'a str,
    /// Variables of its environment.
    pub(crate) environment: &'a [(&'a str, &'a str)],
    /// In place of the app's own, as seen from this daemon.
    pub(crate) place: Option<Place>,
    /// The state folder's name, in place of the instance's.
    pub(crate) state: Option<&'a str>,
    /// A limit of the shell's `ulimit` on the size of files, in KiB.
    pub(crate) file_kib_max: Option<u64>,
    /// The disk that its state folder is on.
    pub(crate) disk: Option<&'a Disk>,
}

impl Default for Launch<'_> {
    fn default() -> Self {
        Self {
            instance: "a",
            threads: 1,
            at_least_once: false,
            crash: None,
            settings: "",
            kafka: "",
            environment: &[],
            place: None,
            state: None,
            file_kib_max: None,
            disk: None,
        }
    }
}

impl App {
    pub(crate) fn new(place: Place, topology: &str, schemas: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let id = format!("t{}", uuid::Uuid::new_v4().simple());
        let app = Self { folder, id, place };
        std::fs::create_dir_all(app.topology()).unwrap();
        app.rewrite(topology);
        for (name, text) in schemas {
            std::fs::write(app.topology().join(name), text).unwrap();
        }
        app
    }

    /// Replaces the topology's text.
    pub(crate) fn rewrite(&self, topology: &str) {
        std::fs::write(self.topology().join("app.toml"), topology.replace("{id}", &self.id)).unwrap();
    }

    /// Replaces one of its schemas.
    pub(crate) fn rewrite_schema(&self, name: &str, text: &str) {
        std::fs::write(self.topology().join(name), text).unwrap();
    }

    fn topology(&self) -> PathBuf {
        self.folder.path().join("topology")
    }

    /// The state folder of an instance.
    pub(crate) fn state(&self, instance: &str) -> PathBuf {
        match self.place {
            Place::Embedded => self.folder.path().join("data/state"),
            Place::Kafka { .. } => self.folder.path().join(format!("state-{instance}")),
        }
    }

    /// The broker, for the test itself. The embedded one can be had while no daemon runs only.
    pub(crate) fn broker(&self) -> Arc<dyn Broker> {
        match &self.place {
            Place::Embedded => {
                let folder = self.folder.path().join("data/broker");
                std::fs::create_dir_all(&folder).unwrap();
                Arc::new(until("the embedded broker is free", || LocalBroker::open(&folder).ok()))
            }
            Place::Kafka { servers, .. } => {
                let settings = KafkaSettings {
                    bootstrap_servers: servers.clone(),
                    properties: std::collections::BTreeMap::new(),
                    client_id: "tidemill-test".to_owned(),
                };
                Arc::new(KafkaBroker::new(settings).unwrap())
            }
        }
    }

    /// Puts the state folder of an instance on a disk of its own.
    pub(crate) fn disk(&self, instance: &str, options: &str) -> Disk {
        let state = self.state(instance);
        std::fs::create_dir_all(&state).unwrap();
        Disk::at(&state, options)
    }

    pub(crate) fn topic(&self, name: &str) -> String {
        format!("{}-{name}", self.id)
    }

    pub(crate) fn start(&self, launch: &Launch<'_>) -> Run {
        let config = self.folder.path().join(format!("tidemill-{}.toml", launch.instance));
        std::fs::write(&config, self.settings(launch)).unwrap();
        let binary = env!("CARGO_BIN_EXE_tidemill");
        let mut command = match (launch.file_kib_max, launch.disk) {
            (None, None) => Command::new(binary),
            (None, Some(disk)) => disk.command(binary),
            (Some(kib), _) => {
                // The signal is ignored, so that a write beyond the limit fails as on a full disk. The log has no limit.
                let limited = "exec 2> >(exec cat >&2); trap '' XFSZ; ulimit -f \"$0\"; exec \"$@\"";
                let mut shell = Command::new("bash");
                shell.args(["-c", limited, &kib.to_string(), binary]);
                shell
            }
        };
        match &self.place {
            Place::Embedded => command.arg("dev").arg("--data").arg(self.folder.path().join("data")),
            Place::Kafka { .. } => command.arg("run"),
        };
        command.arg(self.topology()).arg("--schemas").arg(self.topology()).arg("--config").arg(config);
        command.current_dir(self.folder.path());
        command.envs(launch.environment.iter().copied());
        if let Some(crash) = &launch.crash {
            command.env(tidemill::crash::VARIABLE, crash);
        }
        Run::start(command)
    }

    fn settings(&self, launch: &Launch<'_>) -> String {
        let guarantee = if launch.at_least_once { "at_least_once" } else { "exactly_once" };
        let mut text = format!(
            "processing_guarantee = \"{guarantee}\"\nnum_stream_threads = {}\ninstance_id = \"{}\"\n",
            launch.threads, launch.instance
        );
        if !launch.settings.contains("commit_interval") {
            text.push_str("commit_interval = \"10ms\"\n");
        }
        let listen = if launch.settings.contains("[http]") { "" } else { "[http]\nlisten = \"127.0.0.1:0\"\n" };
        let memory = if launch.settings.contains("[memory]") { "" } else { "[memory]\nbudget = \"64MiB\"\n" };
        text.push_str(&format!(
            "{}\n{listen}[admin]\nlisten = \"127.0.0.1:0\"\n[log]\nformat = \"json\"\n{memory}",
            launch.settings
        ));
        if let Place::Kafka { servers, registry } = launch.place.as_ref().unwrap_or(&self.place) {
            let state = self.state(launch.state.unwrap_or(launch.instance));
            text.push_str(&format!(
                "[state]\ndir = {state:?}\n[kafka]\nbootstrap_servers = \"{servers}\"\n{}\n",
                launch.kafka
            ));
            if let Some(url) = registry {
                text.push_str(&format!("[registry]\nurl = \"{url}\"\ntimeout = \"2s\"\n"));
            }
        }
        text
    }
}

/// Works through `items` on a few threads at once, to the end, and names those that failed: each run waits for servers more than
/// it computes.
pub(crate) fn in_parallel<T: Sync + std::fmt::Debug>(items: &[T], at_once: usize, work: impl Fn(&T) + Sync) {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let failed = std::sync::Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(item)));
                    if let Err(failure) = done {
                        eprintln!("failed: {item:?}");
                        failed.lock().unwrap().get_or_insert(failure);
                    }
                }
            });
        }
    });
    if let Some(failure) = failed.into_inner().unwrap() {
        std::panic::resume_unwind(failure);
    }
}
