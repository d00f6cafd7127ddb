//! Secrets in the logs of real steps: the example shows stars, whatever way a step came by a value.

mod support;

use std::process::{Command, Stdio};
use std::time::Duration;

use support::{BINARY, Up, eventually, has, root, skip, text};

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

/// The key of the feature flags wins over what the controller does by itself, and counts from the next run on.
#[test]
fn masking_is_turned_off_and_on_again_by_the_feature_flags() {
    const TEST: &str = "masking_is_turned_off_and_on_again_by_the_feature_flags";
    if !has("kubectl") {
        return skip(
            TEST,
            "no kubectl on this machine (Debian: kubernetes-client)",
        );
    }
    let up = Up::start(&[]);
    let secret = [
        "create",
        "secret",
        "generic",
        "s",
        "--from-literal=p=hunter2-hunter2",
    ];
    up.kubectl(&secret);
    let manifest = up.directory.join("run.yaml");
    std::fs::write(&manifest, PRINTS_A_SECRET).expect("a file");
    let manifest = manifest.to_str().expect("a path");
    for (flag, printed) in [
        (None, "the password is ***."),
        (Some("false"), "the password is hunter2-hunter2."),
        (Some("true"), "the password is ***."),
    ] {
        if let Some(flag) = flag {
            let flags = format!(
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: feature-flags, namespace: tekton-pipelines}}\n\
                data: {{enable-secret-masking: \"{flag}\"}}\n"
            );
            up.kubectl_with(&["apply", "-f", "-"], &flags);
        }
        // The controller hears of the flag a moment later.
        eventually(printed, Duration::from_secs(60), || {
            let output = up.tektite(&["run", manifest]);
            assert_eq!(output.status.code(), Some(0), "{}", text(&output));
            text(&output).contains(printed).then_some(())
        });
    }
}

const PRINTS_A_SECRET: &str = "
apiVersion: tekton.dev/v1
kind: TaskRun
metadata: {generateName: prints-}
spec:
  taskSpec:
    steps:
    - name: print
      image: host
      env: [{name: P, valueFrom: {secretKeyRef: {name: s, key: p}}}]
      script: echo \"the password is $P.\"
";
