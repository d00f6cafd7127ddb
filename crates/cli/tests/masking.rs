//! Secrets in the logs of real steps: the example shows stars, whatever way a step came by a value.

mod support;

use std::process::{Command, Stdio};

use support::{BINARY, root, skip, text};

#[test]
fn whatever_way_a_step_comes_by_a_secret_its_log_shows_stars() {
    let output = Command::new(BINARY)
        .args(["run", "examples/secrets"])
        .current_dir(root())
        .env_remove("KUBECONFIG")
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts");
    if output.status.code() == Some(3) {
        skip(
            "whatever_way_a_step_comes_by_a_secret_its_log_shows_stars",
            String::from_utf8_lossy(&output.stderr).trim(),
        );
        return;
    }
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    for line in [
        "[secrets : env] the password is ***.",
        "[secrets : env-from] the token is ***.",
        "[secrets : volume] mounted: *** ***.",
        "[secrets : workspace] bound: ***.",
        "[secrets : in-parts] in parts: ***.",
        "[secrets : encoded] in base64: ***.",
        "[secrets : encoded] in a URL: https://deploy:***@example.com.",
        "[secrets : account] the account's token is ***.",
    ] {
        assert!(
            printed.lines().any(|l| l == line),
            "no {line:?}:\n{printed}"
        );
    }
    // Inside something else a letter at either end is not the value's alone.
    let header = printed.lines().find(|line| line.contains("in a header: "));
    let header = header
        .and_then(|line| line.split_once("header: "))
        .expect("a header")
        .1;
    assert!(header.contains("***") && header.len() < 20, "{header}");
}
