//! `tektite lint`: what is wrong with manifests, without a cluster.

use crate::arguments::Lint;
use crate::diagnostic::{self, Severity};
use crate::exit::{Exit, Failure, Outcome};
use crate::lint::{self, Strictness};
use crate::manifest;
use crate::terminal::{Terminal, print, print_error};

/// Exit 0 without errors (warnings are printed), 2 with any.
pub fn run(arguments: &Lint) -> Outcome {
    let loaded = manifest::load(&arguments.manifests);
    let strictness = Strictness {
        lenient: arguments.lenient,
        external: false,
    };
    let mut diagnostics = loaded.diagnostics;
    diagnostics.extend(lint::check(&loaded.documents, strictness));
    if lint::refused(&diagnostics) {
        return Err(Failure::refused(diagnostics));
    }
    print_error(&diagnostic::render(&diagnostics, Terminal::stderr().look()));
    let warnings = diagnostics
        .iter()
        .filter(|d| d.severity == Severity::Warning)
        .count();
    let count = loaded.documents.len();
    print(&format!(
        "{count} object{} checked, {warnings} warning{}\n",
        plural(count),
        plural(warnings)
    ));
    Ok(Exit::Success)
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}
