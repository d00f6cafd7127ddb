//! Where a step sees secrets: variables and mounted files, named on the command line. No value stands there.

use alloc::vec::Vec;

use crate::path::Path;
use crate::system::fs;

/// A mounted Secret is at most a mebibyte; what is larger is none.
const LARGEST: u64 = 1 << 20;
/// Keys of a Secret may be laid out in directories.
const DEEPEST: usize = 16;

/// The places to look at.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// Names of variables.
    pub(crate) variables: Vec<Vec<u8>>,
    /// Files, or directories of files.
    pub(crate) files: Vec<Path>,
}

impl Sources {
    /// The values of this moment. What cannot be read here cannot be read by the step either, which is the same user.
    pub(crate) fn read(&self, environment: &[(Vec<u8>, Vec<u8>)]) -> Vec<Vec<u8>> {
        let variables = environment
            .iter()
            .filter(|(name, _)| self.variables.contains(name));
        let mut values: Vec<Vec<u8>> = variables.map(|(_, value)| value.clone()).collect();
        for path in &self.files {
            below(path, 0, &mut values);
        }
        values
    }
}

fn below(path: &Path, depth: usize, values: &mut Vec<Vec<u8>>) {
    // At the top, keys are links to what the kubelet replaces as a whole; further down nothing need be followed.
    let meta = match depth {
        0 | 1 => fs::metadata(path),
        _ => fs::symlink_metadata(path),
    };
    match meta {
        Ok(meta) if meta.is_dir && depth < DEEPEST => {
            let names = fs::read_dir(path).unwrap_or_default();
            for name in names.iter().filter(|name| !name.starts_with(b"..")) {
                below(&path.join(name), depth + 1, values);
            }
        }
        Ok(meta) if meta.is_file && meta.length <= LARGEST => {
            values.extend(fs::read(path));
        }
        _ => {}
    }
}
