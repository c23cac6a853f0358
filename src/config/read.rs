//! From named values to [`Settings`]: types, bounds, defaults. Collects every mistake; a field with one takes its default, so
//! that reading goes on.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::catalog::{self, Holds, SETTINGS};
use super::layers::{Layers, Place, Raw, Strings, article};
use super::machine::Machine;
use super::secret::{Property, Secret};
use super::settings::{
    Admin, Guarantee, Http, Kafka, Log, LogFormat, Memory, OffsetReset, Registry, RegistryAuth, Settings, State,
    TopicCreation, Topics,
};
use crate::base::diag::{Diagnostic, FileId, Span, suggestion};
use crate::base::time::SpanMs;
use crate::error::{Code, codes};
use crate::limits::{MEMORY_BUDGET_MIN_BYTES, RESTORE_BYTES_PER_SECOND_MIN, SECRET_BYTES_MAX, STREAM_THREADS_MAX};

/// Properties that tidemill's own protocol decides.
const OURS: &[(&str, &str)] = &[
    ("group.id", "it is the `application_id`"),
    ("group.instance.id", "it is the `instance_id`"),
    ("transactional.id", "it is made of the application, the instance and the thread"),
    ("transaction.timeout.ms", "the commit protocol depends on it"),
    ("enable.auto.commit", "offsets are committed with the results they led to"),
    ("enable.auto.offset.store", "offsets are committed with the results they led to"),
    ("auto.commit.interval.ms", "write `commit_interval`"),
    ("auto.offset.reset", "write `auto_offset_reset`"),
    ("isolation.level", "it follows from `processing_guarantee`"),
    ("enable.idempotence", "writes are always idempotent"),
    ("acks", "writes always wait for all in-sync replicas"),
    ("enable.partition.eof", "restoring depends on it"),
    ("partitioner", "keys are placed as Kafka's own clients do"),
    ("partition.assignment.strategy", "equal-numbered partitions must stay together"),
    ("group.remote.assignor", "equal-numbered partitions must stay together"),
];

/// Reads one field after the other.
pub(super) struct Reader<'a> {
    layers: Layers,
    environment: &'a dyn Strings,
    /// Folder that a secret's file is relative to.
    base: &'a Path,
}

impl<'a> Reader<'a> {
    pub(super) fn new(layers: Layers, environment: &'a dyn Strings, base: &'a Path) -> Self {
        Self { layers, environment, base }
    }

    /// Reads everything.
    ///
    /// # Errors
    /// Every finding, in the order of the file, those from elsewhere first.
    pub(super) fn settings(mut self, machine: Machine) -> Result<Settings, Vec<Diagnostic>> {
        self.refuse_what_is_not_served();
        let kafka = self.kafka();
        let settings = Settings {
            application_id: self.field("application_id", name),
            processing_guarantee: self
                .choice(
                    "processing_guarantee",
                    &[("exactly_once", Guarantee::ExactlyOnce), ("at_least_once", Guarantee::AtLeastOnce)],
                )
                .unwrap_or(Guarantee::ExactlyOnce),
            commit_interval: self.duration("commit_interval").unwrap_or_else(|| default_commit_interval(&kafka)),
            num_stream_threads: self
                .integer("num_stream_threads")
                .map_or_else(|| machine.cpus.min(STREAM_THREADS_MAX), |threads| threads as usize),
            allow_breaking_readers: self.field("allow_breaking_readers", boolean).unwrap_or(false),
            num_standby_replicas: self.integer("num_standby_replicas").map_or(0, |copies| copies as usize),
            auto_offset_reset: self
                .choice(
                    "auto_offset_reset",
                    &[
                        ("earliest", OffsetReset::Earliest),
                        ("latest", OffsetReset::Latest),
                        ("error", OffsetReset::Error),
                    ],
                )
                .unwrap_or(OffsetReset::Earliest),
            instance_id: self.field("instance_id", name),
            state: State {
                dir: self.field("state.dir", text).map_or_else(|| PathBuf::from(".tidemill/state"), PathBuf::from),
                keep_set_aside: self.integer("state.keep_set_aside").map_or(1, |count| count as usize),
                restore_bytes_per_second: self
                    .field("state.restore_bytes_per_second", |raw| bytes(raw, RESTORE_BYTES_PER_SECOND_MIN)),
            },
            memory: Memory {
                budget_bytes: self
                    .field("memory.budget", |raw| bytes(raw, MEMORY_BUDGET_MIN_BYTES))
                    .unwrap_or_else(|| (machine.memory_bytes / 2).max(MEMORY_BUDGET_MIN_BYTES)),
            },
            kafka,
            registry: self.registry(),
            topics: self.topics(),
            bind_topics: self.bind_topics(),
            http: Http { listen: self.listen("http.listen", 7400), advertised: self.field("http.advertised", text) },
            admin: Admin {
                listen: self.listen("admin.listen", 7401),
                advertised: self.field("admin.advertised", text),
                token: self.secret("admin.token"),
            },
            log: self.log(),
        };
        self.check_listeners(&settings);
        self.layers.diagnostics.sort_by_key(|finding| (finding.file, finding.span));
        if self.layers.diagnostics.is_empty() { Ok(settings) } else { Err(self.layers.diagnostics) }
    }

    fn registry(&mut self) -> Registry {
        let urls = self.field("registry.url", urls).unwrap_or_default();
        let auth = self.registry_auth();
        let timeout = self.duration("registry.timeout").unwrap_or(Duration::from_secs(10));
        Registry { urls, auth, timeout }
    }

    fn registry_auth(&mut self) -> RegistryAuth {
        let said = |path: &str| self.layers.entries.contains_key(path);
        let ways = (said("registry.auth.username"), said("registry.auth.password"), said("registry.auth.bearer"));
        let (path, message, help) = match ways {
            (false, false, false) => return RegistryAuth::None,
            (false, false, true) => {
                return self.secret("registry.auth.bearer").map_or(RegistryAuth::None, RegistryAuth::Bearer);
            }
            (true, true, false) => {
                let username = self.field("registry.auth.username", text);
                let password = self.secret("registry.auth.password");
                return match (username, password) {
                    (Some(username), Some(password)) => RegistryAuth::Basic { username, password },
                    _ => RegistryAuth::None,
                };
            }
            (true, false, false) => ("registry.auth.username", "has a `username` and no `password`", "say both"),
            (false, true, false) => ("registry.auth.password", "has a `password` and no `username`", "say both"),
            (_, _, true) => ("registry.auth.bearer", "has a `bearer` token and more", "keep one of the two ways"),
        };
        let place = self.place(path);
        self.report(&place, codes::SETTING_VALUE, format!("`registry.auth` {message}"), help);
        RegistryAuth::None
    }

    fn topics(&mut self) -> Topics {
        let creation = match self.field("topics.create", boolean) {
            Some(false) => TopicCreation::Require,
            Some(true) | None => TopicCreation::Create,
        };
        let factor = |raw: &Raw| match bounded_integer("topics.replication_factor", raw)? {
            0 => Err("a replication factor is -1 (the broker's default) or at least 1".to_owned()),
            factor => Ok(factor as i16),
        };
        Topics { creation, replication_factor: self.field("topics.replication_factor", factor).unwrap_or(-1) }
    }

    fn log(&mut self) -> Log {
        let format = self.choice("log.format", &[("text", LogFormat::Text), ("json", LogFormat::Json)]);
        Log {
            format: format.unwrap_or(LogFormat::Text),
            level: self.field("log.level", level).unwrap_or_else(|| "info".to_owned()),
        }
    }

    fn bind_topics(&mut self) -> BTreeMap<String, String> {
        let mut bound = BTreeMap::new();
        for (topic, entry) in std::mem::take(&mut self.layers.bind_topics) {
            match text(&entry.raw) {
                Ok(name) => drop(bound.insert(topic, name)),
                Err(wrong) => {
                    let message = format!("the topic bound to `{topic}`: {wrong}");
                    self.report(&entry.place, codes::SETTING_VALUE, message, "");
                }
            }
        }
        bound
    }

    fn kafka(&mut self) -> Kafka {
        let names: Vec<String> =
            self.layers.entries.keys().filter_map(|path| path.strip_prefix("kafka.").map(str::to_owned)).collect();
        let mut properties = BTreeMap::new();
        for name in names.into_iter().filter(|name| name != "bootstrap_servers") {
            let path = format!("kafka.{name}");
            let entry = self.layers.entries[&path].clone();
            if let Some((_, why)) = OURS.iter().find(|(ours, _)| *ours == name) {
                let message = format!("`{name}` is not for settings");
                self.report(&entry.place, codes::PROPERTY_OURS, message, &format!("take it out: {why}"));
                continue;
            }
            let referred = matches!(entry.raw, Raw::SecretFile(_) | Raw::SecretVariable(_));
            let value = if referred || (matches!(entry.raw, Raw::Text(_)) && must_be_secret(&name)) {
                self.secret(&path).map(Property::Secret)
            } else {
                self.field(&path, property).map(|value| Property::written(&name, value))
            };
            if let Some(value) = value {
                properties.insert(name, value);
            }
        }
        Kafka { bootstrap_servers: self.field("kafka.bootstrap_servers", servers), properties }
    }

    fn listen(&mut self, path: &str, port: u16) -> SocketAddr {
        self.field(path, address).unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }

    fn refuse_what_is_not_served(&mut self) {
        let not_served = SETTINGS.iter().filter(|setting| setting.holds == Holds::NotServed);
        for path in not_served.map(|setting| setting.path) {
            if let Some(entry) = self.layers.entries.get(path).cloned() {
                let message = format!("`{path}`: this version does not speak TLS on its listeners");
                let help = "take it out; listen on loopback and let a sidecar or an ingress end TLS";
                self.report(&entry.place, codes::SETTING_NOT_SERVED, message, help);
            }
        }
    }

    fn check_listeners(&mut self, settings: &Settings) {
        if !settings.admin.listen.ip().is_loopback()
            && settings.admin.token.is_none()
            && !self.layers.entries.contains_key("admin.token")
        {
            let place = self.place("admin.listen");
            let message =
                format!("`admin.listen` is {}, which others reach, and there is no token", settings.admin.listen);
            let help = "add `admin.token = { file = \"…\" }`, or listen on 127.0.0.1";
            self.report(&place, codes::ADMIN_OPEN, message, help);
        }
        if settings.http.listen == settings.admin.listen && settings.http.listen.port() != 0 {
            let path = if self.layers.entries.contains_key("admin.listen") { "admin.listen" } else { "http.listen" };
            let place = self.place(path);
            let message = format!("`http.listen` and `admin.listen` are both {}", settings.http.listen);
            self.report(&place, codes::SETTING_VALUE, message, "give one of them another port");
        }
    }

    /// A number within the bounds that the catalog has for it.
    fn integer(&mut self, path: &str) -> Option<i64> {
        self.field(path, |raw| bounded_integer(path, raw))
    }

    /// A span of time within the bounds that the catalog has for it.
    fn duration(&mut self, path: &str) -> Option<Duration> {
        self.field(path, |raw| match catalog::find(path).map(|setting| setting.holds) {
            Some(Holds::Duration(least_ms, most_ms)) => duration(raw, least_ms, most_ms),
            found => Err(format!("it is {found:?} in the catalog of settings, not a duration")),
        })
    }

    fn choice<T: Copy>(&mut self, path: &str, choices: &[(&str, T)]) -> Option<T> {
        self.field(path, |raw| {
            let given = text(raw)?;
            choices.iter().find(|(name, _)| *name == given).map(|(_, choice)| *choice).ok_or_else(|| {
                format!(
                    "`{given}` is none of its values: {}",
                    suggestion(&given, choices.iter().map(|(name, _)| *name))
                )
            })
        })
    }

    /// Returns the field's value; none when it is not set, or set wrongly, which is reported.
    fn field<T>(&mut self, path: &str, parse: impl FnOnce(&Raw) -> Result<T, String>) -> Option<T> {
        let entry = self.layers.entries.get(path)?.clone();
        match parse(&entry.raw) {
            Ok(value) => Some(value),
            Err(wrong) => {
                self.report(&entry.place, codes::SETTING_VALUE, format!("`{path}`: {wrong}"), "");
                None
            }
        }
    }

    fn secret(&mut self, path: &str) -> Option<Secret> {
        let entry = self.layers.entries.get(path)?.clone();
        let (found, help) = match &entry.raw {
            Raw::Word(text) => (Ok(text.clone()), ""),
            Raw::SecretFile(file) => (self.secret_file(file), "mount the file, or correct the path"),
            Raw::SecretVariable(name) => {
                let missing = || format!("the environment variable `{name}` is not set");
                (self.environment.get(name).ok_or_else(missing), "set it, or name another")
            }
            Raw::Text(_) | Raw::Integer(_) | Raw::Bool(_) | Raw::Other(_) => (
                Err("a secret does not stand in this file".to_owned()),
                "write `{ file = \"…\" }` or `{ env = \"…\" }`",
            ),
        };
        match found.and_then(|text| if text.is_empty() { Err("the secret is empty".to_owned()) } else { Ok(text) }) {
            Ok(text) => Some(Secret::new(text)),
            Err(wrong) => {
                self.report(&entry.place, codes::SECRET_UNREADABLE, format!("`{path}`: {wrong}"), help);
                None
            }
        }
    }

    /// Reads a secret's file without the line end that editors leave.
    fn secret_file(&self, file: &str) -> Result<String, String> {
        let path = self.base.join(file);
        let unreadable = |why: String| format!("`{}` cannot be read: {why}", path.display());
        let size = std::fs::metadata(&path).map_err(|error| unreadable(error.to_string()))?.len();
        if size > SECRET_BYTES_MAX {
            return Err(unreadable(format!("it has {size} bytes, more than {SECRET_BYTES_MAX}")));
        }
        let text = std::fs::read_to_string(&path).map_err(|error| unreadable(error.to_string()))?;
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    }

    fn place(&self, path: &str) -> Place {
        self.layers.entries.get(path).map_or_else(|| Place::File(Span::default()), |entry| entry.place.clone())
    }

    fn report(&mut self, place: &Place, code: Code, message: impl Into<String>, help: &str) {
        let message = message.into();
        let finding = match place {
            Place::File(span) => Diagnostic::error(code, *span, message).placed(FileId(0), 0),
            Place::Variable(name) => {
                Diagnostic::error(code, Span::default(), format!("{message} (environment variable `{name}`)"))
            }
            Place::Flag(name) => Diagnostic::error(code, Span::default(), format!("{message} (flag for `{name}`)")),
        };
        let finding = if help.is_empty() { finding } else { finding.help(help) };
        self.layers.diagnostics.push(finding);
    }
}

fn must_be_secret(property: &str) -> bool {
    property.contains("password") || property.ends_with("secret") || property.ends_with("key.pem")
}

/// Event Hubs allows four offset commits a second and partition.
fn default_commit_interval(kafka: &Kafka) -> Duration {
    let event_hubs = kafka.bootstrap_servers.as_deref().is_some_and(|servers| servers.contains(".servicebus."));
    Duration::from_millis(if event_hubs { 1000 } else { 100 })
}

fn kind(raw: &Raw) -> String {
    match raw {
        Raw::Text(_) | Raw::Word(_) => "a string".to_owned(),
        Raw::Integer(_) => "an integer".to_owned(),
        Raw::Bool(_) => "a boolean".to_owned(),
        Raw::SecretFile(_) | Raw::SecretVariable(_) => "a table".to_owned(),
        Raw::Other(name) => article(name),
    }
}

fn text(raw: &Raw) -> Result<String, String> {
    let (Raw::Text(text) | Raw::Word(text)) = raw else {
        return Err(format!("expected a string, found {}", kind(raw)));
    };
    if text.is_empty() { Err("the string is empty".to_owned()) } else { Ok(text.clone()) }
}

/// A name that topics and transactional ids are made of: what Kafka allows in topic names.
fn name(raw: &Raw) -> Result<String, String> {
    let text = text(raw)?;
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match text.chars().find(|c| !legal(*c)) {
        Some(wrong) => Err(format!("`{text}` has `{wrong}` in it: letters, digits, `.`, `_` and `-` are allowed")),
        None if text.len() > 200 => Err("it is longer than 200 characters".to_owned()),
        None => Ok(text),
    }
}

fn bounded_integer(path: &str, raw: &Raw) -> Result<i64, String> {
    match catalog::find(path).map(|setting| setting.holds) {
        Some(Holds::Integer(least, most)) => integer(raw, least, most),
        found => Err(format!("it is {found:?} in the catalog of settings, not an integer")),
    }
}

fn integer(raw: &Raw, least: i64, most: i64) -> Result<i64, String> {
    let number = if let Raw::Word(word) = raw {
        word.trim().parse().map_err(|_| format!("`{word}` is not an integer"))?
    } else if let Raw::Integer(number) = raw {
        *number
    } else {
        return Err(format!("expected an integer, found {}", kind(raw)));
    };
    if (least..=most).contains(&number) {
        Ok(number)
    } else {
        Err(format!("{number} is not within {least} and {most}"))
    }
}

fn boolean(raw: &Raw) -> Result<bool, String> {
    if let Raw::Bool(flag) = raw {
        return Ok(*flag);
    }
    let Raw::Word(word) = raw else { return Err(format!("expected `true` or `false`, found {}", kind(raw))) };
    word.parse().map_err(|_| format!("`{word}` is neither `true` nor `false`"))
}

fn duration(raw: &Raw, least_ms: i64, most_ms: i64) -> Result<Duration, String> {
    if let Raw::Integer(number) = raw {
        return Err(format!("{number} has no unit: write it like `\"{number}ms\"`"));
    }
    let text = text(raw)?;
    let span = SpanMs::parse(&text)?;
    if span.0 < least_ms || span.0 > most_ms {
        return Err(format!("`{text}` is not within {} and {}", SpanMs(least_ms), SpanMs(most_ms)));
    }
    Ok(Duration::from_millis(span.0.unsigned_abs()))
}

/// Parses `512MiB`, `2GiB`, `1.5GB`, or a bare number of bytes; fewer than `least` are refused.
fn bytes(raw: &Raw, least: u64) -> Result<u64, String> {
    const UNITS: [(&str, u64); 9] = [
        ("", 1),
        ("B", 1),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("kB", 1000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
    ];
    let count = if let Raw::Integer(number) = raw {
        u64::try_from(*number).map_err(|_| format!("{number} bytes cannot be"))?
    } else {
        let text = text(raw)?;
        let wrong = || format!("`{text}` is not a size: write it like `512MiB` or `2GiB`");
        let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit.trim()).ok_or_else(wrong)?;
        scaled(number, *factor).ok_or_else(wrong)?
    };
    if count < least {
        let least =
            if least.is_multiple_of(1 << 20) { format!("{}MiB", least >> 20) } else { format!("{}KiB", least >> 10) };
        return Err(format!("{count} bytes are too few: at least {least}"));
    }
    Ok(count)
}

/// Returns `number × factor`, exactly, rounded down; `number` may have a fraction.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let places = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let digits = whole.parse::<u128>().ok()?.checked_mul(places)?.checked_add(fraction.parse::<u128>().ok()?)?;
    u64::try_from(digits.checked_mul(u128::from(factor))? / places).ok()
}

fn address(raw: &Raw) -> Result<SocketAddr, String> {
    let text = text(raw)?;
    let wrong = || format!("`{text}` is not an address to listen on: write it like `127.0.0.1:7400` or `0.0.0.0:7400`");
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    // Only `localhost` is looked up: another name's address may change between two starts.
    match text.strip_prefix("localhost:") {
        Some(_) => text.to_socket_addrs().ok().and_then(|mut found| found.next()).ok_or_else(wrong),
        None => Err(wrong()),
    }
}

fn property(raw: &Raw) -> Result<String, String> {
    match raw {
        Raw::Text(text) | Raw::Word(text) => Ok(text.clone()),
        Raw::Integer(number) => Ok(number.to_string()),
        Raw::Bool(flag) => Ok(flag.to_string()),
        Raw::SecretFile(_) | Raw::SecretVariable(_) | Raw::Other(_) => {
            Err(format!("expected a string, an integer or a boolean, found {}", kind(raw)))
        }
    }
}

fn servers(raw: &Raw) -> Result<String, String> {
    let text = text(raw)?;
    for server in text.split(',').map(str::trim) {
        let port = server.rsplit_once(':').and_then(|(host, port)| (!host.is_empty()).then(|| port.parse::<u16>()));
        if !matches!(port, Some(Ok(1..))) {
            return Err(format!("`{server}` is not `host:port`"));
        }
    }
    Ok(text)
}

fn urls(raw: &Raw) -> Result<Vec<String>, String> {
    let text = text(raw)?;
    text.split(',')
        .map(|url| url.trim().trim_end_matches('/'))
        .map(|url| match url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")) {
            Some(rest) if !rest.is_empty() && !rest.contains('@') => Ok(url.to_owned()),
            Some(rest) if rest.contains('@') => {
                Err("a password does not stand in the URL: write `registry.auth`".to_owned())
            }
            Some(_) | None => Err(format!("`{url}` is not a URL that begins with `http://` or `https://`")),
        })
        .collect()
}

fn level(raw: &Raw) -> Result<String, String> {
    let text = text(raw)?;
    for directive in text.split(',') {
        let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level).trim();
        let known = ["error", "warn", "info", "debug", "trace", "off"];
        if !known.contains(&level.to_lowercase().as_str()) {
            return Err(format!("`{level}` is no level: {}", suggestion(level, known)));
        }
    }
    Ok(text)
}
