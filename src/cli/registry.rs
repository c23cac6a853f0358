//! What a registry says to a topology: whether sinks' schemas may be registered, whether sources read what is registered, and which
//! files differ from it. By field, since registries' own words seldom name one.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::avro::{Incompatibility, Schema, can_read};
use crate::cli::args::Global;
use crate::cli::{Exit, Failure, daemon, dev};
use crate::config::Settings;
use crate::dev::environment;
use crate::plan::{NodeKind, Plan};
use crate::registry::{self, Registry, SubjectVersion};
use crate::topology::{SubjectNaming, WantedSchema};

/// How long one question may take.
const WAIT: Duration = Duration::from_secs(10);

/// A registry and the environment's names.
#[derive(Debug)]
pub(crate) struct Connection {
    registry: Arc<dyn Registry>,
    settings: Settings,
}

/// What becomes of a subject.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) subject: String,
    /// `written` or `read`
    pub(crate) used: &'static str,
    pub(crate) level: String,
    pub(crate) latest: Option<u32>,
    /// What breaks; nothing when all is well.
    pub(crate) problems: Vec<String>,
}

impl Report {
    pub(crate) fn json(&self) -> Json {
        json!({
            "subject": self.subject,
            "used": self.used,
            "level": self.level,
            "latest": self.latest,
            "ok": self.problems.is_empty(),
            "problems": self.problems,
        })
    }
}

impl Connection {
    /// Takes the registry of a URL, else that of the settings.
    ///
    /// # Errors
    /// There is none, or the settings are wrong.
    pub(crate) fn open(url: &str, global: &Global) -> Result<Self, Failure> {
        let mut settings = daemon::settings(global)?;
        if !url.is_empty() {
            settings.registry.urls = vec![url.trim_end_matches('/').to_owned()];
        }
        if settings.registry.urls.is_empty() {
            return Err(Failure::new(Exit::Config, "no registry is configured").help(
                "set `registry.url` in tidemill.toml or TIDEMILL__REGISTRY__URL, or name one: `--registry=http://…`",
            ));
        }
        let registry = environment::registry_of(&settings).map_err(|error| dev::failed(&error))?;
        Ok(Self { registry, settings })
    }

    /// Asks about every subject that a topology writes or reads.
    ///
    /// # Errors
    /// The registry does not answer.
    pub(crate) fn reports(&self, plan: &Plan, wanted: &[WantedSchema]) -> Result<Vec<Report>, Failure> {
        let mut reports = Vec::new();
        for node in plan.sub_topologies.iter().flat_map(|sub| &sub.nodes) {
            let NodeKind::Sink { writers, .. } = &node.kind else { continue };
            for (_, writer) in writers.iter() {
                let Some(subject) = &writer.subject else { continue };
                if !reports.iter().any(|known: &Report| known.subject == *subject && known.used == "written") {
                    reports.push(self.written(subject, &writer.schema)?);
                }
            }
        }
        for schema in wanted {
            let Some(file) = &schema.found else { continue };
            let Ok(reader) = Schema::parse(&file.text) else { continue };
            let subject = self.subject(schema, reader.full_name().unwrap_or_default());
            reports.push(self.read(subject, &reader)?);
        }
        reports.sort_by(|a, b| (a.used, &a.subject).cmp(&(b.used, &b.subject)));
        Ok(reports)
    }

    fn subject(&self, schema: &WantedSchema, record: &str) -> String {
        let topic = crate::base::ids::Topic::new(self.settings.bound_topic(&schema.topic));
        schema.naming.subject(&topic, record)
    }

    fn written(&self, subject: &str, schema: &Schema) -> Result<Report, Failure> {
        let level = self.registry.level(subject, WAIT).map_err(asked)?;
        let latest = self.registry.latest(subject, WAIT).map_err(asked)?;
        let verdict = self.registry.compatible(subject, schema.text(), WAIT).map_err(asked)?;
        let mut problems = Vec::new();
        if !verdict.compatible {
            let versions = if level.contains("TRANSITIVE") {
                self.registry.versions(subject, WAIT).map_err(asked)?
            } else {
                latest.iter().cloned().collect()
            };
            for version in &versions {
                problems.extend(broken(&level, schema, version));
            }
            if problems.is_empty() {
                problems = verdict.messages;
            }
            if problems.is_empty() {
                problems.push("the registry refuses the schema and does not say why".to_owned());
            }
        }
        Ok(Report {
            subject: subject.to_owned(),
            used: "written",
            level,
            latest: latest.map(|found| found.version),
            problems,
        })
    }

    fn read(&self, subject: String, reader: &Schema) -> Result<Report, Failure> {
        let level = self.registry.level(&subject, WAIT).map_err(asked)?;
        let latest = self.registry.latest(&subject, WAIT).map_err(asked)?;
        let problems = match latest.as_ref().map(|latest| Schema::parse(&latest.schema)) {
            None => Vec::new(),
            Some(Ok(writer)) => said(&can_read(reader, &writer)),
            Some(Err(error)) => vec![error.to_string()],
        };
        Ok(Report { subject, used: "read", level, latest: latest.map(|found| found.version), problems })
    }

    /// Finds the newest version of the subject that a schema file stands for: by the record's name, or where there is no file yet by
    /// the file's.
    ///
    /// # Errors
    /// The registry does not answer.
    pub(crate) fn latest(&self, schema: &WantedSchema) -> Result<(String, Option<SubjectVersion>), Failure> {
        let record = schema.found.as_ref().and_then(|file| Schema::parse(&file.text).ok());
        let subject = match record.as_ref().and_then(Schema::full_name) {
            Some(name) => self.subject(schema, name),
            None => self.subject_of_file(schema)?,
        };
        let latest = self.registry.latest(&subject, WAIT).map_err(asked)?;
        Ok((subject, latest))
    }

    /// `OrderPlaced.avsc` stands for a record `OrderPlaced` of any namespace.
    fn subject_of_file(&self, schema: &WantedSchema) -> Result<String, Failure> {
        let stem = schema.file.rsplit('/').next().unwrap_or(&schema.file).trim_end_matches(".avsc");
        let plain = self.subject(schema, stem);
        if schema.naming == SubjectNaming::TopicName {
            return Ok(plain);
        }
        let (prefix, ending) = (plain.strip_suffix(stem).unwrap_or_default(), format!(".{stem}"));
        let subjects = self.registry.subjects(WAIT).map_err(asked)?;
        let fits = |subject: &&String| {
            subject.strip_prefix(prefix).is_some_and(|name| name == stem || name.ends_with(&ending))
        };
        Ok(subjects.iter().find(fits).cloned().unwrap_or(plain))
    }
}

/// What of a version breaks under a level, by field.
fn broken(level: &str, schema: &Schema, version: &SubjectVersion) -> Vec<String> {
    let Ok(earlier) = Schema::parse(&version.schema) else { return Vec::new() };
    let mut problems = Vec::new();
    if level.contains("BACKWARD") || level.contains("FULL") {
        let found = said(&can_read(schema, &earlier));
        problems.extend(
            found
                .into_iter()
                .map(|why| format!("cannot read what was written with version {}: {why}", version.version)),
        );
    }
    if level.contains("FORWARD") || level.contains("FULL") {
        let found = said(&can_read(&earlier, schema));
        problems.extend(
            found.into_iter().map(|why| format!("readers with version {} cannot read it: {why}", version.version)),
        );
    }
    problems
}

fn said(problems: &[Incompatibility]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

fn asked(error: registry::Error) -> Failure {
    let failure = Failure::from_error(Exit::of(error.kind()), &error);
    match error.code() {
        Some(code) => failure.code(code),
        None => failure,
    }
}

/// Says by field how a file and what is registered differ: `+` is registered only, `-` in the file only, `~` in both.
pub(crate) fn differences(file: &Schema, registered: &Schema) -> Vec<String> {
    let mut lines = Vec::new();
    if file.full_name() != registered.full_name() {
        let name = |schema: &Schema| schema.full_name().unwrap_or("no record").to_owned();
        lines.push(format!("~ it is `{}` in the file, `{}` in the registry", name(file), name(registered)));
    }
    let find = |schema: &Schema, name: &str| schema.fields().iter().position(|field| field.name == name);
    for (index, field) in file.fields().iter().enumerate() {
        let Some(other) = find(registered, &field.name) else {
            lines.push(format!("- `{}` ({})", field.name, field.field_type));
            continue;
        };
        let registered_type = &registered.fields()[other].field_type;
        if registered_type.to_string() != field.field_type.to_string() {
            lines.push(format!(
                "~ `{}` is {} in the file, {registered_type} in the registry",
                field.name, field.field_type
            ));
        }
        let (here, there) = (file.default_text(index), registered.default_text(other));
        if here != there {
            let shown = |default: Option<String>| default.unwrap_or_else(|| "none".to_owned());
            lines.push(format!(
                "~ `{}` has default {} in the file, {} in the registry",
                field.name,
                shown(here),
                shown(there)
            ));
        }
    }
    for field in registered.fields() {
        if find(file, &field.name).is_none() {
            lines.push(format!("+ `{}` ({})", field.name, field.field_type));
        }
    }
    if lines.is_empty() && file.fingerprint() != registered.fingerprint() {
        lines.push("~ types within differ".to_owned());
    }
    lines
}
