//! The settings as the rest of the daemon sees them: checked, complete, with every default filled in.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::secret::{Property, Secret};

/// Everything a daemon is told apart from its topology. Printing it shows no secret.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Overrides the topology's `application_id`: group id, prefix of internal topics and of transactional ids. Default: the
    /// topology's. Set it to run one topology twice against one cluster.
    pub application_id: Option<String>,
    /// Default `exactly_once`. `at_least_once` may count a record twice after a crash; it costs no transaction.
    pub processing_guarantee: Guarantee,
    /// Time between commits, 10 ms to 10 min. Default 100 ms; 1 s on Azure Event Hubs, which throttles offset commits. Longer:
    /// fewer changelog records per key; outputs are seen later by `read_committed` readers.
    pub commit_interval: Duration,
    /// Threads that run tasks, 1 to 256. Default: the CPUs this process may use. More threads than partitions idle.
    pub num_stream_threads: usize,
    /// Copies of each task's stores that follow it on other instances, so that taking it over reads a tail only; 0 to 16, and no more than
    /// there are other instances. Default 0. Each costs the disk of the stores and reading their changelogs.
    pub num_standby_replicas: usize,
    /// Whether a topology whose results readers of the running one's cannot read may take its place; it waits for those to leave.
    /// Default false: it is refused.
    pub allow_breaking_readers: bool,
    /// Where to begin when a topic was never read before by this application; never used after that. Default `earliest`.
    pub auto_offset_reset: OffsetReset,
    /// Name of this instance that survives restarts (a pod's name): static membership and transactional ids stand on it.
    /// Default: an id kept in the state folder. Set it where the folder does not survive but the name does.
    pub instance_id: Option<String>,
    pub state: State,
    pub memory: Memory,
    pub kafka: Kafka,
    pub registry: Registry,
    pub topics: Topics,
    /// `[bind.topics]`: a topology's topic to the name it has in this environment. Default: the same name.
    pub bind_topics: BTreeMap<String, String>,
    pub http: Http,
    pub admin: Admin,
    pub log: Log,
}

/// What a crash may do to results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarantee {
    ExactlyOnce,
    AtLeastOnce,
}

/// Where the very first start begins in a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetReset {
    Earliest,
    Latest,
    /// Stop with a code; for topics that must have been seeded.
    Error,
}

/// `[state]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Folder of all local state. Default `.tidemill/state` beneath the working folder; in a container, a volume.
    pub dir: PathBuf,
    /// How many stores that were set aside (their content could not be trusted) are kept for inspection per task, the newest
    /// ones; 0 to 100. Default 1; 0 where disk is short.
    pub keep_set_aside: usize,
    /// Bytes of changelogs read a second, by all threads together, to restore state; at least
    /// [`RESTORE_BYTES_PER_SECOND_MIN`](crate::limits::RESTORE_BYTES_PER_SECOND_MIN). Default: as fast as it can be.
    pub restore_bytes_per_second: Option<u64>,
}

/// `[memory]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Bytes that caches, overlays, queues and buffers share, at least 64 MiB. Default: half the cgroup's limit (half the
    /// machine's memory without one). The rest is for code, stacks, and the page cache.
    pub budget_bytes: u64,
}

/// `[kafka]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kafka {
    /// `host:port`, several parted by commas. No default: `run` needs it; `dev` has a broker of its own.
    pub bootstrap_servers: Option<String>,
    /// librdkafka properties by their own names. Default: none.
    pub properties: BTreeMap<String, Property>,
}

/// `[registry]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registry {
    /// Base URLs of a registry that speaks Confluent's API, tried in order. Empty: a local registry in the state folder.
    pub urls: Vec<String>,
    /// Default: none.
    pub auth: RegistryAuth,
    /// Bound of one request, 100 ms to 5 min. Default 10 s.
    pub timeout: Duration,
}

/// How the registry knows us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistryAuth {
    None,
    /// `auth = { username = "…", password = { file = "…" } }`
    Basic {
        username: String,
        password: Secret,
    },
    /// `auth = { bearer = { file = "…" } }`
    Bearer(Secret),
}

/// `[topics]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topics {
    /// Default `create = true`. `false` where operators create topics: a missing one then stops the start with its settings.
    pub creation: TopicCreation,
    /// Replication factor of topics created here. Default -1: the broker's own default.
    pub replication_factor: i16,
}

/// What to do about a topic that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicCreation {
    Create,
    Require,
}

/// `[http]`: the listener for reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Default `127.0.0.1:7400`; port 0 takes a free one. `0.0.0.0:7400` in a container.
    pub listen: SocketAddr,
    /// `host:port` under which other instances and people reach it. Default: `listen`, where that is one address; with `0.0.0.0`, none:
    /// other instances cannot ask this one then.
    pub advertised: Option<String>,
}

/// `[admin]`: the listener for everything that changes something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Default `127.0.0.1:7401`. Anything but loopback needs `token`.
    pub listen: SocketAddr,
    /// `host:port` under which people reach it. Default: `listen`.
    pub advertised: Option<String>,
    /// What `Authorization: Bearer …` must carry. Default: none, which only loopback allows.
    pub token: Option<Secret>,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Default `text`. `json`: one object a line, for collectors.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`, or a list by module: `info,tidemill::broker=debug`. Default `info`.
    pub level: String,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

impl Settings {
    /// Returns the name a topology's topic has in this environment.
    pub fn bound_topic<'a>(&'a self, topic: &'a str) -> &'a str {
        self.bind_topics.get(topic).map_or(topic, String::as_str)
    }
}
