//! A component that a cluster runs as a Deployment, as a process of this machine.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{BINARY, Up, eventually};

/// How long a component may take to say or do something.
pub const LIMIT: Duration = Duration::from_secs(60);

/// `tektite controller` or `webhook`; ends when dropped.
pub struct Component {
    child: Child,
    log: PathBuf,
}

impl Component {
    pub fn start(up: &Up, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let log = up.directory.join(format!("{}.log", arguments[0]));
        let child = Command::new(BINARY)
            .args(arguments)
            .arg("-kubeconfig")
            .arg(up.kubeconfig())
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).expect("a log file"))
            .spawn()
            .expect("the binary starts");
        Self { child, log }
    }

    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The number that it says after `part`.
    pub fn number_after(&self, part: &str) -> u16 {
        eventually(part, LIMIT, || {
            let said = self.said();
            let (_, rest) = said.split_once(part)?;
            let (digits, _) = rest.split_once(|c: char| !c.is_ascii_digit())?;
            digits.parse().ok()
        })
    }

    pub fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Component {
    fn drop(&mut self) {
        self.end();
    }
}
