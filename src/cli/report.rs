//! Failures, as a person reads them on stderr.

use std::io::Write as _;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{Group, Level, Renderer};

use super::Failure;

/// Writes a failure to stderr.
pub(crate) fn failure(failure: &Failure, color: bool) {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let renderer = renderer.decor_style(DecorStyle::Ascii);
    let title = Level::ERROR.primary_title(failure.message.as_str());
    let title = match failure.code {
        Some(code) => title.id(code.0),
        None => title,
    };
    let group = match &failure.help {
        Some(help) => title.element(Level::HELP.message(help.as_str())),
        None => Group::with_title(title),
    };
    to_stderr(&renderer.render(&[group]));
}

/// Writes text and a line end to stderr; when stderr is gone there is nobody to tell.
pub(crate) fn to_stderr(text: &str) {
    drop(writeln!(std::io::stderr(), "{}", text.trim_end()));
}
