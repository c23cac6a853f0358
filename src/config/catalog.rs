//! Every setting: its name, what it holds, what it is for. The reader takes names, bounds and words from here, and so does the JSON
//! Schema that editors use.

use serde_json::{Map, Value as Json, json};

use crate::base::time::SpanMs;
use crate::limits::{
    COMMIT_INTERVAL_MAX_MS, COMMIT_INTERVAL_MIN_MS, REGISTRY_TIMEOUT_MAX_MS, REGISTRY_TIMEOUT_MIN_MS,
    STANDBY_REPLICAS_MAX, STREAM_THREADS_MAX,
};

/// A setting with a fixed name. `kafka.*` and `bind.topics.*` are open beside these.
#[derive(Debug)]
pub(super) struct Setting {
    pub path: &'static str,
    pub holds: Holds,
    /// For editors: what it is for, its default, when to change it.
    about: &'static str,
}

/// What a setting may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Holds {
    Text,
    /// Letters, digits, `.`, `_` and `-`.
    Name,
    Boolean,
    /// Within these, both included.
    Integer(i64, i64),
    /// Within these, in milliseconds, both included.
    Duration(i64, i64),
    /// Bytes, with a unit.
    Size,
    Choice(&'static [&'static str]),
    /// `host:port`
    Address,
    Secret,
    /// Known, and refused: this version does not serve it.
    NotServed,
}

const fn setting(path: &'static str, holds: Holds, about: &'static str) -> Setting {
    Setting { path, holds, about }
}

/// Every setting with a fixed name, in the order of the documentation.
pub(super) const SETTINGS: &[Setting] = &[
    setting(
        "application_id",
        Holds::Name,
        "Overrides the topology's: group id, prefix of internal topics and of transactional ids. Set it to run one topology twice against one cluster.",
    ),
    setting(
        "processing_guarantee",
        Holds::Choice(&["exactly_once", "at_least_once"]),
        "Default exactly_once. at_least_once may count a record twice after a crash; it costs no transaction.",
    ),
    setting(
        "commit_interval",
        Holds::Duration(COMMIT_INTERVAL_MIN_MS, COMMIT_INTERVAL_MAX_MS),
        "Time between commits. Default 100ms; 1s on Azure Event Hubs. Longer: fewer changelog records per key, outputs are seen later.",
    ),
    setting(
        "num_stream_threads",
        Holds::Integer(1, STREAM_THREADS_MAX as i64),
        "Threads that run tasks. Default: the CPUs this process may use.",
    ),
    setting(
        "allow_breaking_readers",
        Holds::Boolean,
        "Default false. true: a topology that breaks readers of what running instances write takes their place when they have left.",
    ),
    setting(
        "num_standby_replicas",
        Holds::Integer(0, STANDBY_REPLICAS_MAX as i64),
        "Copies of each task's stores that follow it on other instances, so that taking it over reads a tail only. Default 0.",
    ),
    setting(
        "auto_offset_reset",
        Holds::Choice(&["earliest", "latest", "error"]),
        "Where to begin in a topic that this application never read before. Default earliest.",
    ),
    setting(
        "instance_id",
        Holds::Name,
        "A name of this instance that survives restarts (a pod's). Default: an id kept in the state folder.",
    ),
    setting("state.dir", Holds::Text, "Folder of all local state. Default .tidemill/state; in a container, a volume."),
    setting(
        "state.keep_set_aside",
        Holds::Integer(0, 100),
        "How many stores that were set aside are kept for inspection per task. Default 1.",
    ),
    setting(
        "state.restore_bytes_per_second",
        Holds::Size,
        "Bytes of changelogs read a second to restore state, by all threads together. Default: as fast as it can be.",
    ),
    setting(
        "memory.budget",
        Holds::Size,
        "Bytes that caches, overlays, queues and buffers share. Default: half the cgroup's limit.",
    ),
    setting(
        "kafka.bootstrap_servers",
        Holds::Text,
        "host:port, several parted by commas. `run` needs it; `dev` has a broker of its own.",
    ),
    setting(
        "registry.url",
        Holds::Text,
        "Base URLs of a registry that speaks Confluent's API, parted by commas, tried in order. Default: a local registry in the state folder.",
    ),
    setting("registry.auth.username", Holds::Text, "The registry's user; needs a password."),
    setting("registry.auth.password", Holds::Secret, "The registry's password."),
    setting("registry.auth.bearer", Holds::Secret, "The registry's bearer token, in place of user and password."),
    setting(
        "registry.timeout",
        Holds::Duration(REGISTRY_TIMEOUT_MIN_MS, REGISTRY_TIMEOUT_MAX_MS),
        "Bound of one request to the registry. Default 10s.",
    ),
    setting(
        "topics.create",
        Holds::Boolean,
        "Default true. false where operators create topics: a missing one then stops the start.",
    ),
    setting(
        "topics.replication_factor",
        Holds::Integer(-1, i16::MAX as i64),
        "Replication factor of topics created here. Default -1: the broker's own default.",
    ),
    setting("http.listen", Holds::Address, "The listener for reads. Default 127.0.0.1:7400; port 0 takes a free one."),
    setting(
        "http.advertised",
        Holds::Text,
        "host:port under which other instances and people reach it. Default: listen, where that is one address; with 0.0.0.0, none: other instances cannot ask this one then.",
    ),
    setting("http.tls", Holds::NotServed, ""),
    setting(
        "admin.listen",
        Holds::Address,
        "The listener for everything that changes something. Default 127.0.0.1:7401. Anything but loopback needs a token.",
    ),
    setting("admin.advertised", Holds::Text, "host:port under which people reach it. Default: listen."),
    setting(
        "admin.token",
        Holds::Secret,
        "What `Authorization: Bearer …` must carry. Default: none, which only loopback allows.",
    ),
    setting("admin.tls", Holds::NotServed, ""),
    setting("log.format", Holds::Choice(&["text", "json"]), "Default text. json: one object a line, for collectors."),
    setting(
        "log.level",
        Holds::Text,
        "error, warn, info, debug, trace, or a list by module: info,tidemill::broker=debug. Default info.",
    ),
];

/// Finds a setting.
pub(super) fn find(path: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.path == path)
}

/// Makes the JSON Schema of `tidemill.toml`.
pub fn json_schema() -> Json {
    let mut root =
        section("tidemill settings", "Settings of a daemon; each also TIDEMILL__SECTION__NAME in the environment.");
    for setting in SETTINGS.iter().filter(|setting| setting.holds != Holds::NotServed) {
        let parts: Vec<&str> = setting.path.split('.').collect();
        insert(&mut root, &parts, setting.json());
    }
    let mut bind = section("bind", "What this environment calls what the topology names.");
    insert(
        &mut bind,
        &["topics"],
        json!({ "type": "object", "additionalProperties": { "type": "string" },
            "description": "A topology's topic to the name it has here. Default: the same name." }),
    );
    insert(&mut root, &["bind"], Json::Object(bind));
    if let Some(kafka) = root.get_mut("properties").and_then(|all| all.get_mut("kafka")).and_then(Json::as_object_mut) {
        // librdkafka's properties, with dots as written or as tables.
        kafka.insert("additionalProperties".to_owned(), json!(true));
    }
    root.insert("$schema".to_owned(), "http://json-schema.org/draft-07/schema#".into());
    Json::Object(root)
}

fn section(title: &str, about: &str) -> Map<String, Json> {
    let mut section = Map::from_iter([("title".to_owned(), json!(title)), ("type".to_owned(), json!("object"))]);
    if !about.is_empty() {
        section.insert("description".to_owned(), about.into());
    }
    section.insert("properties".to_owned(), json!({}));
    section.insert("additionalProperties".to_owned(), json!(false));
    section
}

fn insert(object: &mut Map<String, Json>, path: &[&str], schema: Json) {
    let [first, rest @ ..] = path else { return };
    let Some(properties) = object.get_mut("properties").and_then(Json::as_object_mut) else { return };
    if rest.is_empty() {
        properties.insert((*first).to_owned(), schema);
        return;
    }
    let inner = properties.entry((*first).to_owned()).or_insert_with(|| Json::Object(section(first, "")));
    if let Some(inner) = inner.as_object_mut() {
        insert(inner, rest, schema);
    }
}

impl Setting {
    fn json(&self) -> Json {
        let mut schema = match self.holds {
            Holds::Text => json!({ "type": "string", "minLength": 1 }),
            Holds::Name => json!({ "type": "string", "pattern": "^[A-Za-z0-9._-]+$", "maxLength": 200 }),
            Holds::Boolean => json!({ "type": "boolean" }),
            Holds::Integer(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
            Holds::Duration(least, most) => json!({ "type": "string", "pattern": SpanMs::PATTERN,
                "examples": [SpanMs(least).to_string(), SpanMs(most).to_string()] }),
            Holds::Size => {
                json!({ "type": ["string", "integer"], "pattern": "^[0-9]+([.][0-9]+)? ?([kKMGT]i?)?B?$", "examples": ["512MiB", "2GiB"] })
            }
            Holds::Choice(words) => json!({ "enum": words }),
            Holds::Address => json!({ "type": "string", "pattern": ":[0-9]+$", "examples": ["127.0.0.1:7400"] }),
            Holds::Secret => {
                json!({ "type": "object", "properties": { "file": { "type": "string" }, "env": { "type": "string" } },
                "additionalProperties": false, "minProperties": 1, "maxProperties": 1, "examples": [{ "file": "/run/secrets/token" }] })
            }
            Holds::NotServed => json!(false),
        };
        if let Some(object) = schema.as_object_mut() {
            object.insert("description".to_owned(), self.about.into());
        }
        schema
    }
}
