//! `new`: a project that passes its own checks and tests, to be changed into another.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value as Json, json};

use super::output::{Form, Output};
use super::{Exit, Failure};
use crate::{config, testing, topology};

/// Make a project: a topology with a schema, tests and settings
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  tidemill new shop && cd shop && tidemill test topology")]
pub(crate) struct New {
    /// Its folder, which is made; its last part is the application id
    name: PathBuf,
}

/// The files of a project; `{name}` stands for its name.
const FILES: &[(&str, &str)] = &[
    ("topology/topology.toml", include_str!("new/topology.toml")),
    ("topology/topology.test.toml", include_str!("new/topology.test.toml")),
    ("schemas/Order.avsc", include_str!("new/Order.avsc")),
    ("tidemill.toml", include_str!("new/tidemill.toml")),
    ("README.md", include_str!("new/README.md")),
    (".gitignore", ".tidemill/\n"),
];

pub(crate) fn run(command: &New, output: &mut Output) -> Result<Exit, Failure> {
    let folder = &command.name;
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.starts_with('.') || !name.chars().all(legal) {
        return Err(Failure::new(Exit::Usage, format!("`{name}` cannot be an application id"))
            .help("it stands in topic names: letters, digits, `.`, `_` and `-`"));
    }
    let written = |path: &Path, error: &std::io::Error| {
        Failure::from_error(Exit::Io, error).help(format!("`{}` cannot be written", path.display()))
    };
    if folder.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Failure::new(Exit::Usage, format!("`{}` is there, and not empty", folder.display()))
            .help("choose another name"));
    }
    let pretty = |schema: &Json| serde_json::to_string_pretty(schema).map(|text| text + "\n");
    let schemas = [
        (".schemas/topology.schema.json", topology::json_schema()),
        (".schemas/test.schema.json", testing::json_schema()),
        (".schemas/settings.schema.json", config::json_schema()),
    ];
    let mut files: Vec<(&str, String)> =
        FILES.iter().map(|(path, text)| (*path, text.replace("{name}", &name))).collect();
    for (path, schema) in &schemas {
        files.push((path, pretty(schema).map_err(|error| Failure::from_error(Exit::Bug, &error))?));
    }
    for (path, text) in &files {
        let path = folder.join(path);
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).map_err(|error| written(parent, &error))?;
        std::fs::write(&path, text).map_err(|error| written(&path, &error))?;
    }
    match output.form() {
        Form::Json => {
            let files: Vec<&str> = files.iter().map(|(path, _)| *path).collect();
            output.json(&json!({ "folder": folder.display().to_string(), "application_id": name, "files": files }))?;
        }
        Form::Text => output.line(format!(
            "made `{}`. Next:\n\n  cd {}\n  tidemill check topology     # every mistake at once\n  tidemill test topology      # its tests, \
             with no server\n  tidemill dev topology       # runs it, with a broker and a registry of its own\n\nREADME.md says how \
             to give it events and ask it.",
            folder.display(),
            folder.display()
        ))?,
    }
    Ok(Exit::Ok)
}
