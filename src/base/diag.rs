//! Diagnostics: a user's mistake as data, with the place it stands at and the fix. Rendered by the layers above.

use crate::error::Code;

/// A range of bytes in a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

impl Span {
    /// Returns the range from `start` up to, not including, `end`.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// Returns the range moved by `by` bytes: from an expression's text to the file it stands in.
    #[must_use]
    pub fn shifted(self, by: usize) -> Self {
        Self { start: self.start + by, end: self.end + by }
    }
}

/// Which file a diagnostic points into: an index into the list of files that were loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub usize);

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Warning,
    Error,
}

/// One finding.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnostic {
    pub code: Code,
    pub severity: Severity,
    /// What is wrong, lowercase, names in backticks.
    pub message: String,
    /// Where; none while the text has not been placed in a file, or when it is about a whole folder.
    pub file: Option<FileId>,
    pub span: Span,
    /// What to write beneath the underlined text; empty for nothing.
    pub label: String,
    /// The fix.
    pub help: Option<String>,
}

impl Diagnostic {
    /// Makes an error at `span`.
    pub fn error(code: Code, span: Span, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: Severity::Error,
            message: message.into(),
            file: None,
            span,
            label: String::new(),
            help: None,
        }
    }

    /// Makes a warning at `span`.
    pub fn warning(code: Code, span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, span, message) }
    }

    /// Adds the text beneath the underlined place.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Adds the fix.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Places a finding made in an expression's text into the file, where that text begins at byte `start`.
    #[must_use]
    pub fn placed(mut self, file: FileId, start: usize) -> Self {
        self.file = Some(file);
        self.span = self.span.shifted(start);
        self
    }
}

/// Returns the candidate nearest to `name`, if one is near enough to be a slip of the hand.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = 1 + name.chars().count() / 4;
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&name.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Returns "did you mean `x`?" for the nearest candidate, or the list of what there is.
pub fn suggestion<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    let mut named: Vec<&str> = Vec::new();
    for candidate in candidates {
        // A name that no one can write is none.
        if !candidate.is_empty() && !named.contains(&candidate) {
            named.push(candidate);
        }
    }
    let candidates = named;
    match nearest(name, candidates.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if candidates.is_empty() => "there is none to choose from".to_owned(),
        None => format!("known: `{}`", candidates.join("`, `")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_hand_finds_its_name() {
        assert_eq!(nearest("custmer_id", ["customer_id", "id"]), Some("customer_id"));
        assert_eq!(nearest("zzz", ["customer_id", "id"]), None);
        assert_eq!(suggestion("zzz", ["a", "b", "", "a"]), "known: `a`, `b`");
    }
}
