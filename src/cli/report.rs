//! Findings and failures, as a person reads them on stderr.

use std::io::Write as _;
use std::path::Path;

use annotate_snippets::{AnnotationKind, Element, Group, Level, Origin, Renderer, Snippet};
use serde_json::{Value, json};

use super::Failure;
use crate::base::diag::{Diagnostic, Severity, Span};

/// A text that findings point into.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text<'a> {
    pub(crate) path: &'a Path,
    pub(crate) text: &'a str,
}

/// Renders findings in their order, each with its place, the text, and the fix; a finding's `FileId` is an index into `texts`.
pub(crate) fn render(findings: &[Diagnostic], texts: &[Text<'_>], color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let mut report = String::new();
    for finding in findings {
        report.push_str(&renderer.render(&[group(finding, texts)]));
        report.push_str("\n\n");
    }
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    if let Some(first) = findings.first() {
        let plural = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
        let counts: Vec<String> = [(errors, "error"), (warnings, "warning")]
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, noun)| plural(count, noun))
            .collect();
        report.push_str(&format!("{}; `tidemill explain {}` says more\n", counts.join(", "), first.code));
    }
    report
}

fn group<'a>(finding: &'a Diagnostic, texts: &[Text<'a>]) -> Group<'a> {
    let level = match finding.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut elements: Vec<Element<'a>> = Vec::new();
    if let Some(text) = finding.file.and_then(|file| texts.get(file.0)) {
        let path = text.path.display().to_string();
        if finding.span == Span::default() {
            elements.push(Origin::path(path).into());
        } else {
            let span = within(finding.span, text.text);
            let annotation = AnnotationKind::Primary.span(span.start..span.end).label(finding.label.as_str());
            elements.push(Snippet::source(text.text).path(path).annotation(annotation).into());
        }
    }
    if let Some(help) = &finding.help {
        elements.push(Level::HELP.message(help.as_str()).into());
    }
    level.primary_title(finding.message.as_str()).id(finding.code.0).elements(elements)
}

/// A span never reaches past its text, nor into a character: a finding must be shown even when its place is off.
fn within(span: Span, text: &str) -> Span {
    let start = text.floor_char_boundary(span.start.min(text.len()));
    Span::new(start, text.ceil_char_boundary(span.end.clamp(start, text.len())))
}

/// Returns a finding for programs, line and column from 1, in characters.
pub(crate) fn to_json(finding: &Diagnostic, texts: &[Text<'_>]) -> Value {
    let place = finding.file.and_then(|file| texts.get(file.0)).map(|text| {
        let (line, column) = line_column(text.text, within(finding.span, text.text).start);
        (text.path.display().to_string(), line, column)
    });
    json!({
        "code": finding.code.0,
        "severity": match finding.severity { Severity::Error => "error", Severity::Warning => "warning" },
        "message": finding.message,
        "file": place.as_ref().map(|(path, _, _)| path),
        "line": place.as_ref().map(|(_, line, _)| line),
        "column": place.as_ref().map(|(_, _, column)| column),
        "label": finding.label,
        "help": finding.help,
    })
}

fn line_column(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// Writes a failure to stderr.
pub(crate) fn failure(failure: &Failure, color: bool) {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::diag::FileId;
    use crate::error::codes;

    #[test]
    fn a_finding_shows_its_place_and_its_fix() {
        let text = "[http]\nlistne = \"x\"\n";
        let finding = Diagnostic::error(codes::SETTING_UNKNOWN, Span::new(7, 13), "unknown setting `http.listne`")
            .label("no such setting")
            .help("did you mean `listen`?")
            .placed(FileId(0), 0);
        let texts = [Text { path: Path::new("tidemill.toml"), text }];
        expect_test::expect![[r#"
            error[E0501]: unknown setting `http.listne`
             --> tidemill.toml:2:1
              |
            2 | listne = "x"
              | ^^^^^^ no such setting
              |
              = help: did you mean `listen`?

            1 error; `tidemill explain E0501` says more
        "#]]
        .assert_eq(&render(std::slice::from_ref(&finding), &texts, false));
        let json = to_json(&finding, &texts);
        assert_eq!((json["line"].as_u64(), json["column"].as_u64()), (Some(2), Some(1)));
    }

    #[test]
    fn a_span_that_is_off_is_still_shown() {
        let texts = [Text { path: Path::new("a.toml"), text: "é" }];
        for (start, end) in [(1, 1), (0, 1), (5, 9), (2, 1)] {
            let finding = Diagnostic::error(codes::SETTING_VALUE, Span::new(start, end), "wrong").placed(FileId(0), 0);
            assert!(render(&[finding], &texts, false).contains("error[E0502]: wrong"));
        }
    }
}
