//! What is wrong with the input, where, and what to do about it; rendered by miette with `file:line:column`.

use std::fmt;
use std::sync::Arc;

use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, SourceCode, SourceSpan,
    SpanContents,
};

use crate::manifest::Span;

/// A file, or standard input, as read.
#[derive(Debug)]
pub struct Source {
    /// The name to print: the path as the user gave it.
    pub name: String,
    /// The text.
    pub text: String,
}

impl Source {
    /// The line and column (from 1, in characters) of a byte.
    pub fn position(&self, byte: usize) -> (usize, usize) {
        let before = &self.text[..self.text.floor_char_boundary(byte)];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (
            before.matches('\n').count() + 1,
            before[line_start..].chars().count() + 1,
        )
    }
}

impl SourceCode for Source {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let contents = self.text.read_span(span, before, after)?;
        Ok(Box::new(miette::MietteSpanContents::new_named(
            self.name.clone(),
            contents.data(),
            *contents.span(),
            contents.line(),
            contents.column(),
            contents.line_count(),
        )))
    }
}

/// Whether the input may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It may; but look.
    Warning,
    /// It may not.
    Error,
}

/// One thing wrong.
#[derive(Debug, Clone)]
pub struct Diagnostic {
    /// How bad.
    pub severity: Severity,
    /// What.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// Where.
    pub place: Option<Place>,
}

/// A range of a source.
#[derive(Debug, Clone)]
pub struct Place {
    /// The file.
    pub source: Arc<Source>,
    /// The range.
    pub span: Span,
    /// Another range of the same file.
    pub related: Option<(Span, String)>,
}

impl Diagnostic {
    /// An error without a place.
    pub fn error(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            message: message.into(),
            hint: None,
            place: None,
        }
    }

    /// A warning without a place.
    pub fn warning(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(message)
        }
    }

    /// Adds what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds where.
    pub fn at(mut self, source: &Arc<Source>, span: Span) -> Self {
        self.place = Some(Place {
            source: Arc::clone(source),
            span,
            related: None,
        });
        self
    }

    /// Adds a second range of the same file.
    pub fn related(mut self, span: Span, label: impl Into<String>) -> Self {
        if let Some(place) = &mut self.place {
            place.related = Some((span, label.into()));
        }
        self
    }

    /// `file:line:column`, for sorting and for lines that machines read.
    pub fn location(&self) -> Option<(String, usize, usize)> {
        let place = self.place.as_ref()?;
        let (line, column) = place.source.position(place.span.start);
        Some((place.source.name.clone(), line, column))
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Diagnostic {}

impl miette::Diagnostic for Diagnostic {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.hint
            .as_ref()
            .map(|hint| Box::new(hint) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.place
            .as_ref()
            .map(|place| &*place.source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let place = self.place.as_ref()?;
        let range = |span: Span| SourceSpan::from((span.start, one_line(&place.source.text, span)));
        let primary = LabeledSpan::new_primary_with_span(None, range(place.span));
        let related = place.related.iter().map(move |(span, label)| {
            LabeledSpan::new_with_span(Some(label.clone()), range(*span))
        });
        Some(Box::new(std::iter::once(primary).chain(related)))
    }
}

/// The length of a span cut at its first line's end, and at least one where there is something to mark.
fn one_line(text: &str, span: Span) -> usize {
    let start = span.start.min(text.len());
    let line = text[start..].find('\n').unwrap_or(text.len() - start);
    (span.end.saturating_sub(start)).clamp(usize::from(line > 0), line.max(usize::from(line > 0)))
}

/// How to draw.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Colours and box drawing; otherwise plain ASCII.
    pub fancy: bool,
    /// Columns.
    pub width: usize,
}

/// Renders diagnostics in the order of their places.
pub fn render(diagnostics: &[Diagnostic], look: Look) -> String {
    let theme = if look.fancy {
        GraphicalTheme::unicode()
    } else {
        GraphicalTheme::none()
    };
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(look.width)
        .with_context_lines(1)
        .with_primary_span_start()
        .without_cause_chain()
        .with_links(false);
    let mut sorted: Vec<&Diagnostic> = diagnostics.iter().collect();
    sorted.sort_by_key(|diagnostic| diagnostic.location());
    let mut out = String::new();
    for diagnostic in sorted {
        if let Some((file, line, column)) = diagnostic.location() {
            let word = match diagnostic.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            out.push_str(&format!("{file}:{line}:{column}: {word}\n"));
        }
        // Writing to a String does not fail; a span outside its source would, and then the message alone must do.
        let mut report = String::new();
        if handler.render_report(&mut report, diagnostic).is_err() {
            report = format!("  {}\n", diagnostic.message);
        }
        out.push_str(&report);
    }
    out
}
