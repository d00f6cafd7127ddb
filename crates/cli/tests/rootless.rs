//! `tektite run` and `tektite up` without root: what they can do, what they say they cannot, and that nothing stays behind
//! however they end.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use support::{BINARY, eventually, has, root, skip, text};

const PATIENCE: Duration = Duration::from_secs(60);
const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";

/// A place where an ordinary user can run the binary, and the user.
struct User {
    place: tempfile::TempDir,
    /// User and group; `None` for those of the test.
    id: Option<(u32, u32)>,
}

impl User {
    /// The user of the test, or another one if that is root.
    fn new(test: &str, id: (u32, u32)) -> Option<Self> {
        let is_root = rustix::process::geteuid().is_root();
        if is_root && !has("setpriv") {
            skip(test, "setpriv is missing");
            return None;
        }
        // The build directory may lie where other users cannot look.
        let place = tempfile::Builder::new()
            .prefix("rootless-")
            .tempdir_in("/var/tmp")
            .expect("a directory");
        fs::hard_link(BINARY, place.path().join("tektite"))
            .or_else(|_| fs::copy(BINARY, place.path().join("tektite")).map(drop))
            .expect("the binary");
        let user = Self {
            place,
            id: is_root.then_some(id),
        };
        for directory in ["home", "tmp", "work"] {
            fs::create_dir(user.path(directory)).expect("made");
        }
        for path in ["", "home", "tmp", "work"] {
            fs::set_permissions(user.path(path), fs::Permissions::from_mode(0o777))
                .expect("permissions");
        }
        let probe = user
            .command(&["run"])
            .arg(user.file("probe.yaml", &task_run("true")))
            .output()
            .expect("the binary starts");
        if probe.status.code() == Some(3) {
            let reason = format!(
                "ordinary users cannot run containers here: {}",
                unwrapped(&probe)
            );
            skip(test, &reason);
            return None;
        }
        Some(user)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        fs::write(self.path(name), content).expect("written");
        self.path(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        self.program(&self.path("tektite"), arguments)
    }

    /// Any program as this user.
    fn program(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = match self.id {
            None => Command::new(program),
            Some((uid, gid)) => {
                let mut command = Command::new("setpriv");
                command
                    .arg(format!("--reuid={uid}"))
                    .arg(format!("--regid={gid}"))
                    .args(["--clear-groups", "--inh-caps=-all", "--"])
                    .arg(program);
                command
            }
        };
        command
            .args(arguments)
            .current_dir(self.place.path())
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .stdin(Stdio::null());
        command
    }

    fn run(&self, manifest: &str, arguments: &[&str]) -> Output {
        let file = self.file("manifest.yaml", manifest);
        self.command(&["run"])
            .arg(file)
            .args(arguments)
            .output()
            .expect("the binary starts")
    }

    /// What is in the directory of temporary files.
    fn left(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path("tmp")).expect("the directory");
        entries.flatten().map(|entry| entry.path()).collect()
    }

    fn assert_nothing_left(&self) {
        eventually("nothing is left behind", PATIENCE, || {
            (self.left().is_empty() && self.memory().is_empty()).then_some(())
        });
        let place = self.place.path().to_string_lossy();
        assert_eq!(support::mounts_naming(&place), Vec::<String>::new());
    }

    /// Directories in memory that belong to this place.
    fn memory(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir("/dev/shm").into_iter().flatten().flatten();
        entries
            .map(|entry| entry.path())
            .filter(|path| {
                fs::read_link(path.join("of")).is_ok_and(|of| of.starts_with(self.place.path()))
            })
            .collect()
    }

    /// The process of the node's launcher.
    fn launcher(&self) -> Option<i32> {
        let place = self.path("tmp").to_string_lossy().into_owned();
        support::processes_naming(&place)
            .into_iter()
            .find(|pid| {
                let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                String::from_utf8_lossy(&line).contains("__launch")
            })
            .and_then(|pid| i32::try_from(pid).ok())
    }
}

/// One TaskRun with one step and a directory that the step may write to.
fn task_run(script: &str) -> String {
    let script = script.replace('\n', "\n        ");
    format!(
        "apiVersion: tekton.dev/v1\nkind: TaskRun\nmetadata: {{name: probe}}\nspec:\n  taskSpec:\n    volumes: [{{name: scratch, emptyDir: {{}}}}]\n    steps:\n    - name: go\n      image: host\n      volumeMounts: [{{name: scratch, mountPath: /scratch}}]\n      script: |\n        #!/bin/sh\n        {script}\n"
    )
}

/// Standard error without the line breaks of diagnostics.
fn unwrapped(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    let words: Vec<&str> = errors
        .split_whitespace()
        .filter(|word| *word != "|")
        .collect();
    words.join(" ")
}

fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .expect("a process");
    rustix::process::kill_process(pid, signal).expect("signalled");
}

#[test]
fn files_that_the_user_may_not_touch_are_removed_all_the_same() {
    const TEST: &str = "files_that_the_user_may_not_touch_are_removed_all_the_same";
    let Some(user) = User::new(TEST, (65_534, 65_534)) else {
        return;
    };
    let script = "mkdir -p /scratch/a/b /root/c && touch /scratch/a/b/f /tmp/x\nchmod 000 /scratch/a/b /root/c; chmod 555 /scratch/a";
    let output = user.run(&task_run(script), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(user.left(), Vec::<PathBuf>::new());
    let output = user.run(&task_run("exit 7"), &[]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    user.assert_nothing_left();
}

#[test]
fn what_the_kernel_does_not_permit_is_said_in_exactly_one_warning() {
    const TEST: &str = "what_the_kernel_does_not_permit_is_said_in_exactly_one_warning";
    let Some(user) = User::new(TEST, (65_534, 65_534)) else {
        return;
    };
    let manifest = fs::read_to_string(root().join("examples/fan-out/fan-out.yaml"))
        .unwrap_or_else(|_| task_run("true"));
    let output = user.run(&manifest, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let errors = unwrapped(&output);
    assert_eq!(errors.matches("restricted here").count(), 1, "{errors}");
    assert!(
        errors.contains("pods share this machine's network"),
        "{errors}"
    );
    assert!(
        errors.contains("every user inside containers is you"),
        "{errors}"
    );
}

#[test]
fn a_directory_of_the_user_is_a_workspace() {
    const TEST: &str = "a_directory_of_the_user_is_a_workspace";
    let Some(user) = User::new(TEST, (65_534, 65_534)) else {
        return;
    };
    let task = "apiVersion: tekton.dev/v1\nkind: Task\nmetadata: {name: t}\nspec:\n  workspaces: [{name: w}, {name: e}]\n  steps:\n  - name: go\n    image: host\n    script: |\n      #!/bin/sh\n      set -e\n      touch /tmp/x $HOME/x $(workspaces.e.path)/x\n      echo made > $(workspaces.w.path)/made\n";
    let directory = format!("w=dir={}", user.path("work").display());
    let output = user.run(
        task,
        &["--workspace", &directory, "--workspace", "e=emptyDir"],
    );
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let made = fs::read_to_string(user.path("work/made")).expect("the step's file");
    assert_eq!(made, "made\n");
    user.assert_nothing_left();
}

#[test]
fn a_run_that_is_stopped_or_killed_leaves_nothing() {
    const TEST: &str = "a_run_that_is_stopped_or_killed_leaves_nothing";
    use rustix::process::Signal;
    let mut users: Vec<User> = User::new(TEST, (65_534, 65_534)).into_iter().collect();
    if users.is_empty() {
        return;
    }
    // Root's clusters are to leave no more than others'.
    users.extend(
        rustix::process::geteuid()
            .is_root()
            .then(|| User::new(TEST, (0, 0)))
            .flatten(),
    );
    for user in users {
        for (signal_sent, code) in [
            (Signal::INT, Some(130)),
            (Signal::TERM, Some(130)),
            (Signal::KILL, None),
        ] {
            let marker = format!("{}", user.path("work").display()).replace('/', "_");
            let manifest = user.file(
                "long.yaml",
                &task_run(&format!(
                    "echo started; exec sh -c 'sleep 1000; : {marker}'"
                )),
            );
            let mut child = user
                .command(&["run"])
                .arg(manifest)
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .expect("the binary starts");
            eventually("the step runs", PATIENCE, || {
                (!support::processes_naming(&marker).is_empty()).then_some(())
            });
            signal(child.id(), signal_sent);
            let status = child.wait().expect("ended");
            assert_eq!(status.code(), code, "{signal_sent:?}");
            eventually("the step is gone", PATIENCE, || {
                support::processes_naming(&marker).is_empty().then_some(())
            });
            user.assert_nothing_left();
        }
    }
}

#[test]
fn what_two_killed_processes_left_goes_with_the_next_run() {
    const TEST: &str = "what_two_killed_processes_left_goes_with_the_next_run";
    use rustix::process::Signal;
    let Some(user) = User::new(TEST, (65_534, 65_534)) else {
        return;
    };
    let marker = format!("{}", user.path("twice").display()).replace('/', "_");
    let manifest = user.file(
        "long.yaml",
        &task_run(&format!("exec sh -c 'sleep 1000; : {marker}'")),
    );
    let mut child = user
        .command(&["run"])
        .arg(manifest)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    eventually("the step runs", PATIENCE, || {
        (!support::processes_naming(&marker).is_empty()).then_some(())
    });
    let launcher = user.launcher().expect("the launcher runs");
    // Stopped, it cannot do anything between the two kills.
    signal(launcher as u32, Signal::STOP);
    signal(child.id(), Signal::KILL);
    signal(launcher as u32, Signal::KILL);
    let _ = child.wait();
    eventually("containers die with their launcher", PATIENCE, || {
        support::processes_naming(&marker).is_empty().then_some(())
    });
    assert_eq!(user.left().len(), 1);
    let output = user.run(&task_run("true"), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(user.left(), Vec::<PathBuf>::new());
}

/// Exit code 3 where ordinary users may make no user namespaces.
#[test]
fn a_machine_without_user_namespaces_is_exit_code_3_with_what_to_do() {
    const TEST: &str = "a_machine_without_user_namespaces_is_exit_code_3_with_what_to_do";
    if !has("unshare") || !has("setpriv") {
        return skip(TEST, "unshare or setpriv is missing");
    }
    let Some(user) = User::new(TEST, (65_534, 65_534)) else {
        return;
    };
    if user.id.is_none() {
        return skip(TEST, "only root can try it");
    }
    let manifest = user.file("probe.yaml", &task_run("true"));
    // A user namespace whose one user is not its root, and in which no further one may be made.
    let script = format!(
        "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --inh-caps=-all --ambient-caps=-all {} run {}",
        user.path("tektite").display(),
        manifest.display()
    );
    let output = Command::new("unshare")
        .args([
            "--user",
            "--map-user=1000",
            "--map-group=1000",
            "--keep-caps",
        ])
        .args(["sh", "-c", &script])
        .env("HOME", user.path("home"))
        .env("TMPDIR", user.path("tmp"))
        .stdin(Stdio::null())
        .output()
        .expect("unshare starts");
    let errors = unwrapped(&output);
    if errors.contains("unshare:") || errors.contains("cannot create") {
        return skip(TEST, errors.trim());
    }
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(errors.contains("user.max_user_namespaces"), "{errors}");
    assert!(errors.contains("--kubeconfig"), "{errors}");
    user.assert_nothing_left();
}

/// A user with subordinate ids, removed with them when dropped.
struct Account {
    name: String,
    id: (u32, u32),
}

impl Account {
    fn make(test: &str) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let missing: Vec<&str> = ["useradd", "userdel", "setpriv"]
            .into_iter()
            .filter(|tool| !has(tool))
            .collect();
        if !rustix::process::geteuid().is_root() {
            skip(test, "only root can make an account with subordinate ids");
            return None;
        }
        if !missing.is_empty() {
            skip(test, &format!("this machine lacks {}", missing.join(", ")));
            return None;
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("tektite{}-{number}", std::process::id());
        let made = Command::new("useradd")
            .args(["--no-create-home", "--add-subids-for-system", "--system"])
            .arg(&name)
            .output()
            .expect("useradd starts");
        if !made.status.success() {
            let why = String::from_utf8_lossy(&made.stderr).into_owned();
            skip(test, &format!("no account can be made: {why}"));
            return None;
        }
        let passwd = fs::read_to_string("/etc/passwd").expect("accounts");
        let id = passwd
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name}:x:")))
            .and_then(|rest| {
                let (uid, gid) = rest.split_once(':')?;
                // newuidmap wants the account's own group.
                Some((uid.parse().ok()?, gid.split(':').next()?.parse().ok()?))
            })
            .expect("the account");
        Some(Self { name, id })
    }

    /// The same, where the machine's tools map the subordinate ids.
    fn mapped(test: &str) -> Option<Self> {
        if !has("newuidmap") || !has("newgidmap") {
            skip(test, "newuidmap or newgidmap is missing (Debian: uidmap)");
            return None;
        }
        let account = Self::make(test)?;
        // util-linux asks the same tools, so it tells whether they may do it here.
        let (uid, gid) = account.id;
        let mapped = Command::new("setpriv")
            .arg(format!("--reuid={uid}"))
            .arg(format!("--regid={gid}"))
            .args(["--clear-groups", "--inh-caps=-all", "--"])
            .args(["unshare", "--user", "--map-root-user", "--map-auto", "true"])
            .output()
            .expect("setpriv starts");
        if !mapped.status.success() {
            let why = String::from_utf8_lossy(&mapped.stderr).into_owned();
            skip(
                test,
                &format!("no subordinate ids can be mapped here: {why}"),
            );
            return None;
        }
        Some(account)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let _ = Command::new("userdel")
            .arg(&self.name)
            .stderr(Stdio::null())
            .status();
    }
}

#[test]
fn subordinate_ids_give_containers_their_users_and_leave_no_files_of_theirs() {
    const TEST: &str = "subordinate_ids_give_containers_their_users_and_leave_no_files_of_theirs";
    let Some(account) = Account::mapped(TEST) else {
        return;
    };
    let Some(user) = User::new(TEST, account.id) else {
        return;
    };
    let manifest = task_run(
        "set -e\nid -u; touch /scratch/mine; mkdir /scratch/d; touch /scratch/d/f\nchown 1234:1234 /scratch/d; chmod 700 /scratch/d; stat -c %u /scratch/d",
    );
    let output = user.run(&manifest, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(out.contains("] 0") && out.contains("] 1234"), "{out}");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!errors.contains("every user inside"), "{errors}");
    let other = task_run("id -u").replace(
        "image: host\n",
        "image: host\n      securityContext: {runAsUser: 1000}\n",
    );
    let output = user.run(&other, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("] 1000"),
        "{}",
        text(&output)
    );
    user.assert_nothing_left();
}

/// Every example runs without root as it does with it.
#[test]
fn the_examples_run_as_an_ordinary_user() {
    const TEST: &str = "the_examples_run_as_an_ordinary_user";
    let Some(user) = User::new(TEST, (65_534, 65_534)) else {
        return;
    };
    let copied = Command::new("cp")
        .arg("-r")
        .arg(root().join("examples"))
        .arg(user.path("examples"))
        .status();
    assert!(copied.is_ok_and(|status| status.success()));
    let examples: Vec<String> = fs::read_dir(user.path("examples"))
        .expect("the examples")
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    assert!(!examples.is_empty());
    for example in examples {
        let directory = Path::new("examples").join(&example);
        let output = user
            .command(&["run"])
            .arg(directory)
            .output()
            .expect("the binary starts");
        let expected = i32::from(example.ends_with("-failing"));
        assert_eq!(
            output.status.code(),
            Some(expected),
            "{example}:\n{}",
            text(&output)
        );
        user.assert_nothing_left();
    }
}

/// Tools that are there and refuse, as where their file capabilities are gone, leave what there is without them.
#[test]
fn tools_that_refuse_subordinate_ids_are_told_of_once_and_done_without() {
    const TEST: &str = "tools_that_refuse_subordinate_ids_are_told_of_once_and_done_without";
    let Some(account) = Account::make(TEST) else {
        return;
    };
    let Some(user) = User::new(TEST, account.id) else {
        return;
    };
    let tools = user.path("tools");
    fs::create_dir(&tools).expect("made");
    fs::set_permissions(&tools, fs::Permissions::from_mode(0o755)).expect("permissions");
    let refusing = "echo 'newuidmap: write to uid_map failed: Operation not permitted' >&2; exit 1";
    for (users, groups, why) in [
        (
            refusing,
            "exit 0",
            "write to uid_map failed: Operation not permitted",
        ),
        ("exit 5", "exit 0", "newuidmap refused (exit status: 5)"),
        ("exit 0", "exit 0", "newuidmap mapped nothing"),
    ] {
        for (name, script) in [("newuidmap", users), ("newgidmap", groups)] {
            let tool = tools.join(name);
            fs::write(&tool, format!("#!/bin/sh\n{script}\n")).expect("written");
            fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).expect("permissions");
        }
        let manifest = user.file("alone.yaml", &task_run("id -u; touch /scratch/mine"));
        let output = user
            .command(&["run"])
            .arg(manifest)
            .env("PATH", format!("{}:{PATH}", tools.display()))
            .output()
            .expect("the binary starts");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        let errors = unwrapped(&output);
        assert_eq!(errors.matches("every user inside").count(), 1, "{errors}");
        assert!(errors.contains(why), "{errors}");
        user.assert_nothing_left();
    }
}

/// K-250 to K-253: a durable cluster of an ordinary user, with files of other ids on its volumes.
#[test]
fn a_durable_cluster_of_an_ordinary_user_keeps_its_objects_and_removes_its_volumes() {
    const TEST: &str =
        "a_durable_cluster_of_an_ordinary_user_keeps_its_objects_and_removes_its_volumes";
    if !has("kubectl") {
        return skip(TEST, "kubectl is missing (Debian: kubernetes-client)");
    }
    let Some(account) = Account::mapped(TEST) else {
        return;
    };
    let Some(user) = User::new(TEST, account.id) else {
        return;
    };
    let data = user.path("work/data");
    let tektite = |arguments: &[&str]| {
        let output = user
            .command(arguments)
            .arg("--data-dir")
            .arg(&data)
            .output()
            .expect("the binary starts");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        text(&output)
    };
    let kubectl = |arguments: &[&str]| {
        let output = user
            .program(Path::new("kubectl"), arguments)
            .env("KUBECONFIG", data.join("kubeconfig"))
            .output()
            .expect("kubectl starts");
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let volumes = || -> Vec<PathBuf> {
        let entries = fs::read_dir(data.join("volumes")).into_iter().flatten();
        entries.flatten().map(|entry| entry.path()).collect()
    };
    tektite(&["up", "--detach"]);
    let manifest = user.file("claim.yaml", CLAIMED);
    kubectl(&["create", "-f", &manifest.to_string_lossy()]);
    let succeeded = "--for=condition=Succeeded";
    kubectl(&["wait", "taskrun/claimed", succeeded, "--timeout=60s"]);
    let [volume] = &volumes()[..] else {
        panic!("not one volume: {:?}", volumes());
    };
    use std::os::unix::fs::MetadataExt as _;
    let closed = fs::metadata(volume.join("closed")).expect("the step's");
    let owner = closed.uid();
    assert!(owner > account.id.0 && owner != 1234, "{owner}");
    tektite(&["down"]);
    // As a process leaves one that dies between the end of a claim and that of its volume.
    let orphan = data.join("volumes/pvc-0123456789");
    fs::create_dir(&orphan).expect("made");
    fs::write(orphan.join("file"), "").expect("written");
    fs::set_permissions(&orphan, fs::Permissions::from_mode(0o700)).expect("permissions");
    for path in [orphan.join("file"), orphan.clone()] {
        std::os::unix::fs::chown(path, Some(owner), Some(closed.gid())).expect("given away");
    }
    tektite(&["up", "--detach"]);
    eventually("the volume of nobody goes", PATIENCE, || {
        (!orphan.exists()).then_some(())
    });
    let state = "jsonpath={.status.conditions[0].reason}";
    let get = |kind: &str| kubectl(&["get", kind, "-o", "name"]);
    assert_eq!(
        kubectl(&["get", "taskrun", "claimed", "-o", state]),
        "Succeeded"
    );
    assert_eq!(volumes().len(), 1);
    kubectl(&["delete", "taskrun", "claimed"]);
    eventually("the claim and its volume go with the run", PATIENCE, || {
        (get("pvc") + &get("pv")).is_empty().then_some(())
    });
    assert_eq!(volumes(), Vec::<PathBuf>::new());
    tektite(&["down"]);
    let place = user.place.path().to_string_lossy().into_owned();
    eventually("no process is left", PATIENCE, || {
        support::processes_naming(&place).is_empty().then_some(())
    });
    // What is left is the user's own to remove.
    let removed = user
        .program(Path::new("rm"), &["-r", &data.to_string_lossy()])
        .output()
        .expect("rm starts");
    assert!(removed.status.success(), "{}", text(&removed));
    user.assert_nothing_left();
}

const CLAIMED: &str = r#"
apiVersion: tekton.dev/v1
kind: TaskRun
metadata: {name: claimed}
spec:
  workspaces:
  - name: w
    volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}
  taskSpec:
    workspaces: [{name: w}]
    steps:
    - name: go
      image: host
      script: |
        #!/bin/sh
        set -e
        cd $(workspaces.w.path)
        mkdir closed
        touch closed/file
        chown 1234:1234 closed closed/file
        chmod 700 closed
"#;
