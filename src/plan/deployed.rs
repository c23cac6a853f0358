//! A topology as it is deployed, in one text: its files, the schemas they name, and the names it has in this environment. Whoever reads
//! the text can build the plan that another instance runs, and compare its own with it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Plan, build};
use crate::base::diag::{Diagnostic, Severity};
use crate::limits;
use crate::topology::{self, Sources};

/// The format that is written. A text of another one is not read.
const FORMAT: u32 = 1;

/// What a plan is built from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployed {
    format: u32,
    application_id: Option<String>,
    /// The topology's topic = the one here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    bind_topics: BTreeMap<String, String>,
    /// Name and text of the `*.toml` files, in their order.
    files: Vec<(String, String)>,
    /// The same of the schemas, by the names that the files use.
    schemas: Vec<(String, String)>,
}

impl Deployed {
    /// Takes a topology's texts; `application_id` in place of the topology's own, `bind_topics` as the settings have it.
    pub fn new(sources: &Sources, application_id: Option<&str>, bind_topics: &BTreeMap<String, String>) -> Self {
        Self {
            format: FORMAT,
            application_id: application_id.map(str::to_owned),
            bind_topics: bind_topics.clone(),
            files: sources.files.iter().map(|file| (file_name(&file.path), file.text.clone())).collect(),
            schemas: sources.schemas.iter().map(|file| (file.name.clone(), file.text.clone())).collect(),
        }
    }

    /// Returns the text; none when it is larger than [`limits::DEPLOYED_BYTES_MAX`].
    pub fn encode(&self) -> Option<Vec<u8>> {
        let text = serde_json::to_vec(self).expect("maps of text are JSON");
        (text.len() <= limits::DEPLOYED_BYTES_MAX).then_some(text)
    }

    /// Reads a text.
    ///
    /// # Errors
    /// It is none, or of a format that this version does not know.
    pub fn decode(text: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Form {
            format: u32,
        }
        let unreadable = |error: serde_json::Error| format!("it cannot be read: {error}");
        let Form { format } = serde_json::from_slice(text).map_err(unreadable)?;
        if format != FORMAT {
            return Err(format!("it has format {format}, this version reads {FORMAT}"));
        }
        serde_json::from_slice(text).map_err(unreadable)
    }

    /// Builds the plan, under the names that it has here.
    ///
    /// # Errors
    /// This version finds something wrong with the topology: the first thing it finds.
    pub fn plan(&self) -> Result<Plan, String> {
        let mut sources = Sources::default();
        for (path, text) in &self.files {
            sources = sources.with_file(path, text);
        }
        for (name, text) in &self.schemas {
            sources = sources.with_schema(name, text);
        }
        let (graph, findings) = topology::check(&sources);
        let wrong = |findings: &[Diagnostic]| {
            let first = findings.iter().find(|finding| finding.severity == Severity::Error);
            first.map_or_else(|| "it has no plan".to_owned(), |finding| finding.message.clone())
        };
        let graph = graph.ok_or_else(|| wrong(&findings))?;
        let mut plan = build(&graph).map_err(|findings| wrong(&findings))?;
        plan.bind(&|topic| self.bind_topics.get(topic).map_or(topic, String::as_str).to_owned());
        if let Some(id) = &self.application_id {
            plan.rename_application(id);
        }
        Ok(plan)
    }
}

/// Where a file lies on this machine is nobody else's affair.
fn file_name(path: &str) -> String {
    path.rsplit(['/', '\\']).next().unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Verdict, compare, worst};

    const TOPOLOGY: &str = r#"
[topology]
format = 1
application_id = "notes"

[stream.notes]
topic = "notes"
schemas = ["Note.avsc"]
value_format = "json"

[aggregate.counted]
from = "notes"
select = { notes = 'count()' }
"#;
    const SCHEMA: &str =
        r#"{"type": "record", "name": "Note", "namespace": "n", "fields": [{"name": "n", "type": "long"}]}"#;

    fn deployed(topology: &str) -> Deployed {
        let sources = Sources::default().with_file("app.toml", topology).with_schema("Note.avsc", SCHEMA);
        Deployed::new(&sources, Some("blue"), &BTreeMap::from([("notes".to_owned(), "prod.notes".to_owned())]))
    }

    #[test]
    fn whoever_reads_the_text_has_the_plan_that_is_run() {
        let told = deployed(TOPOLOGY);
        let read = Deployed::decode(&told.encode().unwrap()).unwrap();
        assert_eq!(read, told);
        let (ours, theirs) = (told.plan().unwrap(), read.plan().unwrap());
        assert_eq!((ours.fingerprint, &*ours.application_id), (theirs.fingerprint, "blue"));
        assert!(theirs.topics.keys().any(|topic| topic.as_str() == "prod.notes"));
        assert!(theirs.topics.keys().any(|topic| topic.as_str() == "blue-counted-changelog"));
        assert_eq!(worst(&compare(&theirs, &ours)), Verdict::Same);
        let commented = deployed(&format!("# The same.\n{TOPOLOGY}")).plan().unwrap();
        assert_eq!(commented.fingerprint, ours.fingerprint, "what says the same is the same");
        let other = deployed(&TOPOLOGY.replace("count()", "sum(value.n)")).plan().unwrap();
        assert!(worst(&compare(&theirs, &other)) > Verdict::Same);
    }

    #[test]
    fn what_is_too_large_is_not_told_and_what_is_not_known_is_refused() {
        let large = format!("{TOPOLOGY}# {}\n", "x".repeat(limits::DEPLOYED_BYTES_MAX));
        assert_eq!(deployed(&large).encode(), None);
        assert!(Deployed::decode(br#"{"format": 2}"#).unwrap_err().contains("format 2"));
        assert!(Deployed::decode(b"[]").is_err());
        let wrong = deployed(&TOPOLOGY.replace("count()", "no_such()")).plan().unwrap_err();
        assert!(wrong.contains("aggregate function"), "{wrong}");
    }
}
