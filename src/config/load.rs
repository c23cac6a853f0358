//! Reads the settings file and puts the layers together.

use std::path::{Path, PathBuf};

use super::layers::{Layers, Strings};
use super::machine::Machine;
use super::read::Reader;
use super::settings::Settings;
use crate::base::diag::{Diagnostic, Span};
use crate::error::{Kind, codes};

/// The file that `FileId(0)` of a finding points into.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    pub path: PathBuf,
    pub text: String,
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
#[error("the settings have {} mistake{}", diagnostics.len(), if diagnostics.len() == 1 { "" } else { "s" })]
pub struct Error {
    /// Every mistake that was found, at least one; spans are in `source`.
    pub diagnostics: Vec<Diagnostic>,
    pub source_file: Option<Source>,
}

impl Error {
    /// Returns what the caller should do: always, stop with the findings.
    pub fn kind(&self) -> Kind {
        Kind::Config
    }
}

/// Where settings are read when no `--config` says otherwise.
const DEFAULT_PATH: &str = "tidemill.toml";

/// Reads settings from `file` (none: `tidemill.toml` in the working folder, if it is there), the environment and flags by path
/// (`http.listen`).
///
/// # Errors
/// All mistakes at once.
pub fn load(
    file: Option<&Path>,
    environment: &dyn Strings,
    flags: &dyn Strings,
    machine: Machine,
) -> Result<Settings, Error> {
    let path = file.unwrap_or_else(|| Path::new(DEFAULT_PATH));
    let source = match std::fs::read_to_string(path) {
        Ok(text) => Some(Source { path: path.to_owned(), text }),
        Err(error) if file.is_none() && error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => {
            let message = format!("the settings file `{}` cannot be read: {error}", path.display());
            let finding = Diagnostic::error(codes::SETTINGS_UNREADABLE, Span::default(), message)
                .help("check the path given with `--config`");
            return Err(Error { diagnostics: vec![finding], source_file: None });
        }
    };
    resolve(source, environment, flags, machine)
}

/// Puts the layers together: flags over environment over file over defaults.
///
/// # Errors
/// All mistakes at once.
pub fn resolve(
    source: Option<Source>,
    environment: &dyn Strings,
    flags: &dyn Strings,
    machine: Machine,
) -> Result<Settings, Error> {
    let mut layers = Layers::default();
    if let Some(source) = &source {
        layers.add_toml(&source.text);
    }
    layers.add_variables(environment);
    layers.add_flags(flags);
    let base = source.as_ref().and_then(|source| source.path.parent()).map(Path::to_owned).unwrap_or_default();
    Reader::new(layers, environment, &base)
        .settings(machine)
        .map_err(|diagnostics| Error { diagnostics, source_file: source })
}
