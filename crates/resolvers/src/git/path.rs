//! Finding a file in a revision: links are followed within the repository and nowhere else.

use std::collections::VecDeque;

use super::object::{Entry, Objects, Oid};

/// Links that are followed on the way to one file, as the kernel does.
const LINKS: usize = 40;

/// How far the search came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Search {
    /// This is the file.
    Found(Oid),
    /// The content of this link must be known to go on.
    Needs(Oid),
}

/// Looks for the file at `path` below `root`.
///
/// # Errors
/// Upstream's texts (P-335), if it is not there, no file, or outside.
pub(super) fn find(objects: &Objects, root: &Oid, path: &str) -> Result<Search, String> {
    let escapes = || {
        format!(
            "path {path:?} attempts to escape the repository directory (possible path traversal attack)"
        )
    };
    let absent = || "file does not exist".to_owned();
    let mut above: Vec<Oid> = vec![root.clone()];
    let mut ahead: VecDeque<String> = parts(path);
    let mut links = 0;
    while let Some(part) = ahead.pop_front() {
        if part == ".." {
            above.pop();
            if above.is_empty() {
                return Err(escapes());
            }
            continue;
        }
        // The invariant: `above` is never left empty.
        let Some(here) = above.last() else {
            return Err(escapes());
        };
        match objects.entry(here, &part)? {
            Some(Entry::Tree(tree)) => above.push(tree),
            Some(Entry::File(file)) if ahead.is_empty() => return Ok(Search::Found(file)),
            Some(Entry::Link(link)) => {
                let Some(target) = objects.blob(&link) else {
                    return Ok(Search::Needs(link));
                };
                let target = std::str::from_utf8(target).map_err(|_| absent())?;
                if target.starts_with('/') {
                    return Err(escapes());
                }
                links += 1;
                if links > LINKS {
                    return Err("too many links".into());
                }
                for part in parts(target).into_iter().rev() {
                    ahead.push_front(part);
                }
            }
            Some(Entry::File(_) | Entry::Module) | None => return Err(absent()),
        }
    }
    Err(format!("read {path}: is a directory"))
}

fn parts(path: &str) -> VecDeque<String> {
    path.split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .map(str::to_owned)
        .collect()
}
