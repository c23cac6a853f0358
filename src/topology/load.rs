//! Reading a topology's folder from the disk: the one place here that does.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::parse;
use super::sources::{SchemaFile, SourceFile, Sources};
use super::spec::Body;
use crate::error::{Code, Kind, codes};

/// The file of settings, which may stand beside a topology.
const SETTINGS: &str = "tidemill.toml";

/// Why a folder could not be read.
#[derive(Debug, Error)]
pub enum LoadError {
    #[error("cannot read `{}`", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("`{}` holds no topology: there is no `*.toml` file in it", path.display())]
    Empty { path: PathBuf },
}

impl LoadError {
    /// The folder is the user's.
    pub fn kind(&self) -> Kind {
        Kind::Config
    }

    /// The page that explains it.
    pub fn code(&self) -> Code {
        codes::TOPOLOGY_UNREADABLE
    }
}

/// Reads a topology's files and the schemas that they name.
///
/// `*.toml` files of the folder are read in the order of their names, without those that begin with a dot, without tests
/// (`*.test.toml`) and without the settings (`tidemill.toml`). A schema `X.avsc` is looked for in the folder, then in each folder of the schema path, then in the
/// sub-folder there that is named as the topology's folder; the first one found is taken. One that is nowhere is left for
/// [`super::check`] to report.
///
/// # Errors
/// When the folder or a file in it cannot be read, or there is no topology in it.
pub fn load(folder: &Path, schema_path: &[PathBuf]) -> Result<Sources, LoadError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| LoadError::Unreadable { path, source }
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable(folder))? {
        let path = entry.map_err(unreadable(folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_other = name.ends_with(".test.toml") || name == SETTINGS || name.starts_with('.');
        if name.ends_with(".toml") && !is_other {
            paths.push(path);
        }
    }
    paths.sort();
    let mut sources = Sources::default();
    for path in paths {
        let text = fs::read_to_string(&path).map_err(unreadable(&path))?;
        sources.files.push(SourceFile { path: path.display().to_string(), text });
    }
    if sources.files.is_empty() {
        return Err(LoadError::Empty { path: folder.to_owned() });
    }
    let mut lacking = false;
    for name in schema_names(&sources) {
        match find_schema(folder, schema_path, &name)? {
            Some(schema) => sources.schemas.push(schema),
            None => lacking = true,
        }
    }
    if lacking {
        sources.beside = schemas_beside(folder, schema_path);
    }
    Ok(sources)
}

/// The schemas that the files name, as far as the files can be read; what is wrong with them is found again by `check`.
fn schema_names(sources: &Sources) -> BTreeSet<String> {
    let spec = parse::parse(sources, &RefCell::default());
    let bodies = spec.nodes.iter().filter_map(|node| node.body.as_ref());
    bodies.flat_map(Body::schemas).map(|name| name.value.clone()).collect()
}

/// The schema files that there are; a folder that cannot be read has none.
fn schemas_beside(folder: &Path, schema_path: &[PathBuf]) -> Vec<String> {
    let own_name = folder.file_name().unwrap_or_default();
    let below = schema_path.iter().flat_map(|path| [path.clone(), path.join(own_name)]);
    let entries = [folder.to_owned()].into_iter().chain(below).filter_map(|folder| fs::read_dir(folder).ok()).flatten();
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let schemas: BTreeSet<String> = names.filter(|name| name.ends_with(".avsc")).collect();
    schemas.into_iter().collect()
}

fn find_schema(folder: &Path, schema_path: &[PathBuf], name: &str) -> Result<Option<SchemaFile>, LoadError> {
    let own_name = folder.file_name().unwrap_or_default();
    let candidates = [folder.join(name)].into_iter().chain(
        schema_path
            .iter()
            .map(|path| path.join(name))
            .chain(schema_path.iter().map(|path| path.join(own_name).join(name))),
    );
    for path in candidates {
        match fs::read_to_string(&path) {
            Ok(text) => {
                return Ok(Some(SchemaFile { name: name.to_owned(), path: path.display().to_string(), text }));
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(source) => return Err(LoadError::Unreadable { path, source }),
        }
    }
    Ok(None)
}
