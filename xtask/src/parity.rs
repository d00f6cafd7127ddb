//! Maps the rows of the compatibility contract to the tests that cite them.
//!
//! A row is a table line `| T-240 | … |` of a contract file (with or without the outer bars). A test cites it by its identifier in its name, body, doc
//! comment, or the module comment of a test file; `T-303..T-306` and `T-303 to T-306` cite a range.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::LazyLock;

use anyhow::Context;
use regex::Regex;

#[derive(clap::Args)]
pub struct Options {
    /// Contract files to show row by row, such as `taskrun`; without any, one line a file.
    lists: Vec<String>,
    /// Only the rows that no test cites.
    #[arg(long)]
    uncovered: bool,
    /// Where the contract lies.
    #[arg(long, default_value = "../shared/parity")]
    contract: PathBuf,
}

type Row = (String, u32);

pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let root = crate::workspace_root();
    let contract = root.join(&options.contract);
    let mut files: Vec<PathBuf> = fs::read_dir(&contract)
        .with_context(|| format!("{} (give --contract DIR)", contract.display()))?
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
        .collect();
    files.sort();
    let citations = citations(&root)?;
    let out_of_scope = documented_exceptions(&root);
    for file in files {
        let name = file
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let rows = rows(&fs::read_to_string(&file)?);
        let covered = rows
            .iter()
            .filter(|(row, _)| citations.contains_key(*row))
            .count();
        let excepted = rows
            .keys()
            .filter(|row| out_of_scope.contains(*row))
            .count();
        println!(
            "{name}: {covered} of {} rows cited by tests, {excepted} listed as different",
            rows.len()
        );
        if !options.lists.contains(&name) {
            continue;
        }
        for (row, text) in &rows {
            let tests = citations.get(row);
            if options.uncovered && (tests.is_some() || out_of_scope.contains(row)) {
                continue;
            }
            let id = format!("{}-{:03}", row.0, row.1);
            let held = match tests {
                Some(tests) => tests.iter().cloned().collect::<Vec<_>>().join(", "),
                None if out_of_scope.contains(row) => {
                    "different on purpose (docs/compatibility.md)".to_owned()
                }
                None => format!("UNCOVERED  {}", text.chars().take(90).collect::<String>()),
            };
            println!("  {id}  {held}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn rows(text: &str) -> BTreeMap<Row, String> {
    text.lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| ").unwrap_or(line).splitn(3, " | ");
            let (prefix, number) = cells.next()?.split_once('-')?;
            let row = (prefix.to_owned(), number.trim().parse().ok()?);
            Some((row, cells.next().unwrap_or_default().to_owned()))
        })
        .collect()
}

/// Rows that `docs/compatibility.md` lists with a reason.
fn documented_exceptions(root: &Path) -> BTreeSet<Row> {
    let text = fs::read_to_string(root.join("docs/compatibility.md")).unwrap_or_default();
    let table = text.lines().filter(|line| line.starts_with("| "));
    table
        .filter_map(|line| line.split('|').nth(1))
        .flat_map(cited)
        .collect()
}

/// Row → `file::test` for every citation inside a test.
fn citations(root: &Path) -> anyhow::Result<BTreeMap<Row, BTreeSet<String>>> {
    let mut found: BTreeMap<Row, BTreeSet<String>> = BTreeMap::new();
    let mut open = vec![root.join("crates")];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let relative = path
                    .strip_prefix(root)
                    .unwrap_or(&path)
                    .display()
                    .to_string();
                for (row, test) in citations_in(&fs::read_to_string(&path)?, &relative) {
                    found
                        .entry(row)
                        .or_default()
                        .insert(format!("{relative}::{test}"));
                }
            }
        }
    }
    Ok(found)
}

/// The citations of one source file: everything from a test's comments to the end of its body, and the whole of
/// files and modules that hold only tests.
fn citations_in(source: &str, path: &str) -> Vec<(Row, String)> {
    let whole_file =
        path.contains("/tests/") || path.ends_with("/tests.rs") || path.ends_with("_tests.rs");
    let test_attribute =
        Regex::new(r"#\[(tokio::)?test\b|#\[test_case|proptest!").expect("a valid pattern");
    let function = Regex::new(r"\bfn\s+([A-Za-z0-9_]+)").expect("a valid pattern");
    let mut citations = Vec::new();
    let mut inside = whole_file;
    let mut module = whole_file;
    let mut pending: Vec<Row> = Vec::new();
    let mut name = String::from("(file)");
    for line in source.lines() {
        if line.trim_start().starts_with("#[cfg(test)]") {
            module = true;
            inside = true;
            name = "(tests)".to_owned();
        }
        let comment = line.trim_start().starts_with("//");
        if test_attribute.is_match(line) {
            inside = true;
        }
        if let Some(captures) = function.captures(line).filter(|_| inside && !comment) {
            name = captures[1].to_owned();
            citations.extend(pending.drain(..).map(|row| (row, name.clone())));
            let from_name = captures[1].to_uppercase().replace('_', "-");
            citations.extend(cited(&from_name).into_iter().map(|row| (row, name.clone())));
        }
        let here = cited(line);
        if comment && line.trim_start().starts_with("///") {
            pending.extend(here);
        } else if inside {
            citations.extend(here.into_iter().map(|row| (row, name.clone())));
        } else if !comment {
            pending.clear();
        }
        if !module && line == "}" {
            inside = false;
        }
    }
    citations
}

/// One row, or the first and the last of several.
static ROWS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"\b([ABDGHKPRTC])-(\d{3})(?:(?:\s*(?:\.\.\.?|…|–|to|-)=?\s*)([ABDGHKPRTC])-(\d{3}))?\b",
    )
    .expect("a valid pattern")
});

fn cited(text: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    for captures in ROWS.captures_iter(text) {
        let prefix = captures[1].to_owned();
        let first: u32 = captures[2].parse().unwrap_or_default();
        let last = match captures.get(4) {
            Some(last) if captures[3] == prefix => last.as_str().parse().unwrap_or(first),
            _ => first,
        };
        rows.extend((first..=last.max(first)).map(|number| (prefix.clone(), number)));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: u32) -> Row {
        ("T".to_owned(), id)
    }

    #[test]
    fn ranges_cite_every_row_between() {
        assert_eq!(
            cited("holds T-303..T-306"),
            [row(303), row(304), row(305), row(306)]
        );
        assert_eq!(cited("T-001, T-002"), [row(1), row(2)]);
    }

    #[test]
    fn only_citations_inside_tests_count() {
        let source = "/// T-001: in production code\nfn real() {}\n\n/// T-002\n#[test]\nfn a() {\n    // T-003\n}\n";
        let rows: BTreeSet<Row> = citations_in(source, "crates/x/src/lib.rs")
            .into_iter()
            .map(|c| c.0)
            .collect();
        assert_eq!(rows, BTreeSet::from([row(2), row(3)]));
    }
}
