//! Findings as people and programs read them: with the lines they stand in, or as JSON.

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Serialize;

use super::sources::Sources;
use crate::base::diag::{Diagnostic, Severity, Span};

/// Whether to write colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    Never,
    /// ANSI escapes: for terminals.
    Always,
}

/// A finding for programs. Lines and columns count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JsonDiagnostic {
    pub code: String,
    /// `error` or `warning`.
    pub severity: &'static str,
    pub message: String,
    pub file: Option<String>,
    pub line: Option<usize>,
    pub column: Option<usize>,
    pub end_line: Option<usize>,
    pub end_column: Option<usize>,
    pub label: Option<String>,
    pub help: Option<String>,
}

/// Renders all findings, each with its lines, one blank line between.
pub fn render(diagnostics: &[Diagnostic], sources: &Sources, colour: Colour) -> String {
    let renderer = match colour {
        Colour::Never => Renderer::plain(),
        Colour::Always => Renderer::styled(),
    };
    let renderer = renderer.decor_style(DecorStyle::Ascii).term_width(140);
    let rendered: Vec<String> =
        diagnostics.iter().map(|diagnostic| renderer.render(&[group(diagnostic, sources)])).collect();
    let mut text = rendered.join("\n\n");
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

fn group<'a>(diagnostic: &'a Diagnostic, sources: &'a Sources) -> Group<'a> {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(diagnostic.message.as_str()).id(diagnostic.code.0);
    let mut group = Group::with_title(title);
    if let Some((path, text)) = diagnostic.file.and_then(|file| sources.file(file)) {
        let span = within(diagnostic.span, text);
        let mut annotation = AnnotationKind::Primary.span(span.start..span.end);
        if !diagnostic.label.is_empty() {
            annotation = annotation.label(diagnostic.label.as_str());
        }
        group = group.element(Snippet::source(text).path(path).annotation(annotation));
    }
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    group
}

/// Makes a range one that the text has, on the borders of characters.
fn within(span: Span, text: &str) -> Span {
    let floor = |at: usize| text.floor_char_boundary(at.min(text.len()));
    let start = floor(span.start);
    Span::new(start, floor(span.end).max(start))
}

/// Returns a finding as JSON has it.
pub fn to_json(diagnostic: &Diagnostic, sources: &Sources) -> JsonDiagnostic {
    let located = diagnostic.file.and_then(|file| sources.file(file)).map(|(path, text)| {
        let span = within(diagnostic.span, text);
        (path.to_owned(), position(text, span.start), position(text, span.end))
    });
    JsonDiagnostic {
        code: diagnostic.code.to_string(),
        severity: match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        },
        message: diagnostic.message.clone(),
        file: located.as_ref().map(|(path, _, _)| path.clone()),
        line: located.as_ref().map(|(_, start, _)| start.0),
        column: located.as_ref().map(|(_, start, _)| start.1),
        end_line: located.as_ref().map(|(_, _, end)| end.0),
        end_column: located.as_ref().map(|(_, _, end)| end.1),
        label: Some(diagnostic.label.clone()).filter(|label| !label.is_empty()),
        help: diagnostic.help.clone(),
    }
}

/// Line and column of a byte, from 1.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..at];
    let line = before.matches('\n').count() + 1;
    let column = before[before.rfind('\n').map_or(0, |newline| newline + 1)..].chars().count() + 1;
    (line, column)
}
