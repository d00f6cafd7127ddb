//! Paths as the kernel takes them: bytes between slashes.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Path(Vec<u8>);

impl Path {
    pub(crate) fn new(path: impl Into<Vec<u8>>) -> Path {
        Path(path.into())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn is_absolute(&self) -> bool {
        self.0.starts_with(b"/")
    }

    /// Something below this; an absolute one stands for itself.
    pub(crate) fn join(&self, part: impl AsRef<[u8]>) -> Path {
        let part = part.as_ref();
        if part.starts_with(b"/") {
            return Path(part.to_vec());
        }
        let mut joined = self.0.clone();
        if !joined.is_empty() && !joined.ends_with(b"/") {
            joined.push(b'/');
        }
        joined.extend_from_slice(part);
        Path(joined)
    }

    /// The same with more letters at its end.
    pub(crate) fn with(&self, suffix: &str) -> Path {
        Path([&self.0, suffix.as_bytes()].concat())
    }

    /// The path up to its last part: empty above a relative name, nothing above `/`.
    pub(crate) fn parent(&self) -> Option<Path> {
        let (above, name) = split(&self.0);
        (!name.is_empty()).then(|| Path(above.to_vec()))
    }

    /// The last part, or nothing where that is `..` or the root.
    pub(crate) fn file_name(&self) -> Option<&[u8]> {
        let (_, name) = split(&self.0);
        (!matches!(name, b"" | b"." | b"..")).then_some(name)
    }

    /// Without `.` and `..` where that can be told from the text alone.
    pub(crate) fn clean(&self) -> Path {
        let mut parts: Vec<&[u8]> = Vec::new();
        for part in self.0.split(|&byte| byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." if parts.last().is_some_and(|last| *last != b"..") => {
                    parts.pop();
                }
                b".." if self.is_absolute() => {}
                part => parts.push(part),
            }
        }
        let mut clean = Path::new(if self.is_absolute() { "/" } else { "" });
        for part in parts {
            clean = clean.join(part);
        }
        clean
    }
}

/// What is above the last part, and that part; slashes between and after them belong to neither.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let path = without_slashes(path);
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(_) if path == b"/" => (path, b""),
        Some(at) => (without_slashes(&path[..=at]), &path[at + 1..]),
        None => (b"", path),
    }
}

/// Without the slashes at the end, but for the root's own.
fn without_slashes(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|&byte| byte != b'/') {
        Some(last) => &path[..=last],
        None => &path[..path.len().min(1)],
    }
}

impl From<&str> for Path {
    fn from(path: &str) -> Path {
        Path::new(path)
    }
}

impl AsRef<[u8]> for Path {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_as_go_cleans_them() {
        // T-227
        for (path, expected) in [
            ("/workspace/./a/../b", "/workspace/b"),
            ("a//b/", "a/b"),
            ("/../a", "/a"),
            ("../a", "../a"),
            ("../../a", "../../a"),
            ("a/..", ""),
        ] {
            assert_eq!(Path::from(path).clean(), Path::from(expected), "{path}");
        }
    }

    #[test]
    fn paths_are_joined_and_split_as_std_does() {
        for path in [
            "/a/b", "a", "/a", "/", "", "a//b//", "/a/..", "///a", "//", "a/b/",
        ] {
            let (ours, theirs) = (Path::from(path), std::path::Path::new(path));
            let text = |path: &std::path::Path| Path::from(path.to_str().unwrap());
            assert_eq!(ours.parent(), theirs.parent().map(text), "{path}");
            assert_eq!(
                ours.file_name(),
                theirs.file_name().map(|name| name.as_encoded_bytes()),
                "{path}"
            );
            for part in ["x", "x/y", "/z"] {
                assert_eq!(ours.join(part), text(&theirs.join(part)), "{path} {part}");
            }
        }
    }
}
