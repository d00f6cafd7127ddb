//! Credentials: from mounted Secrets to the files that git, ssh and docker read.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

/// This crate's own build, or, where the cli's tests include this file, the one that is shipped.
const PROGRAM: &str = match (
    option_env!("TEKTITE_ENTRYPOINT"),
    option_env!("CARGO_BIN_EXE_entrypoint"),
) {
    (Some(program), _) | (None, Some(program)) => program,
    (None, None) => panic!("cargo builds the program before its tests"),
};

fn secret(root: &Path, name: &str, data: &[(&str, &str)]) {
    let dir = root.join("creds-secrets").join(name);
    fs::create_dir_all(&dir).unwrap();
    for (key, value) in data {
        fs::write(dir.join(key), value).unwrap();
    }
}

fn run(root: &Path, flags: &[&str]) -> Output {
    fs::create_dir_all(root.join("creds")).unwrap();
    fs::create_dir_all(root.join("home")).unwrap();
    Command::new(PROGRAM)
        .arg("-tekton_root")
        .arg(root)
        .arg("-termination_path")
        .arg(root.join("termination"))
        .arg("-step_metadata_dir")
        .arg(root.join("run/0/status"))
        .args(flags)
        .args(["-entrypoint", "/bin/true"])
        .env("HOME", root.join("home"))
        .output()
        .unwrap()
}

fn read(root: &Path, path: &str) -> String {
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn git_passwords_become_a_config_and_a_credential_store() {
    // T-275, T-279
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    secret(
        root,
        "repo",
        &[("username", "dom\\user"), ("password", "p@ss:/word")],
    );
    secret(root, "host", &[("username", "me"), ("password", "x")]);
    fs::create_dir_all(root.join("home")).unwrap();
    fs::write(
        root.join("home/.gitconfig"),
        "something much longer than what replaces it".repeat(9),
    )
    .unwrap();
    let output = run(
        root,
        &[
            "-basic-git=repo=https://git.example/team/app",
            "-basic-git=host=https://git.example:8443",
        ],
    );
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let config = "[credential]\n\thelper = store\n\
         [credential \"https://git.example/team/app\"]\n\tusername = dom\\\\user\n\tuseHttpPath = true\n\
         [credential \"https://git.example:8443\"]\n\tusername = me\n";
    let lines =
        "https://me:x@git.example:8443\nhttps://dom%5Cuser:p%40ss%3A%2Fword@git.example/team/app\n";
    for place in ["creds", "home"] {
        assert_eq!(read(root, &format!("{place}/.gitconfig")), config);
        assert_eq!(read(root, &format!("{place}/.git-credentials")), lines);
        assert_eq!(mode(&root.join(place).join(".git-credentials")), 0o600);
    }
}

#[test]
fn ssh_keys_become_identities_with_aliases_for_repositories() {
    // T-276, T-277, T-280
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    secret(root, "deploy", &[("ssh-privatekey", "K1")]);
    secret(
        root,
        "all",
        &[
            ("ssh-privatekey", "K2"),
            ("known_hosts", "example ssh-rsa AAA"),
        ],
    );
    secret(
        root,
        "more",
        &[("ssh-privatekey", "K3"), ("known_hosts", "other")],
    );
    let output = run(
        root,
        &[
            "-ssh-git=deploy=github.com/org/repo",
            "-ssh-git=all=example.com:2222",
            "-ssh-git=more=example.com:2222",
        ],
    );
    assert!(output.status.success());
    let ssh = root.join("creds/.ssh");
    let ssh_text = ssh.display();
    let config = format!(
        "Host example.com\n    HostName example.com\n    Port 2222\n    IdentityFile {ssh_text}/id_all\n    IdentityFile {ssh_text}/id_more\n\
         Host github.com--org--repo\n    HostName github.com\n    Port 22\n    IdentityFile {ssh_text}/id_deploy\n"
    );
    assert_eq!(read(root, "creds/.ssh/config"), config);
    assert_eq!(
        read(root, "home/.ssh/config"),
        config,
        "the copy in the home names the same files"
    );
    assert_eq!(
        read(root, "creds/.ssh/known_hosts"),
        "example ssh-rsa AAA\nother"
    );
    assert_eq!(
        (
            read(root, "home/.ssh/id_deploy"),
            mode(&root.join("home/.ssh/id_deploy"))
        ),
        ("K1".into(), 0o600)
    );
    assert_eq!(mode(&root.join("home/.ssh")), 0o700);
    assert_eq!(
        read(root, "home/.gitconfig"),
        "[url \"git@github.com--org--repo:org/repo.git\"]\n\tinsteadOf = git@github.com:org/repo.git\n\
         [url \"ssh://github.com--org--repo/org/repo.git\"]\n\tinsteadOf = ssh://github.com/org/repo.git\n"
    );
}

#[test]
fn docker_secrets_are_merged_later_sources_winning() {
    // T-278
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    secret(
        root,
        "cfg",
        &[(
            ".dockercfg",
            r#"{"a":{"auth":"old"},"b":{"auth":"b","email":"e"}}"#,
        )],
    );
    secret(
        root,
        "json",
        &[(
            ".dockerconfigjson",
            r#"{"auths":{"a":{"auth":"new"},"c":{"username":"old","auth":"x"}}}"#,
        )],
    );
    secret(root, "basic", &[("username", "u"), ("password", "p")]);
    let output = run(
        root,
        &[
            "-docker-cfg=cfg",
            "-docker-config=json",
            "-basic-docker=basic=c",
        ],
    );
    assert!(output.status.success());
    assert_eq!(
        read(root, "home/.docker/config.json"),
        r#"{"auths":{"a":{"auth":"new"},"b":{"auth":"b","email":"e"},"c":{"username":"u","password":"p","auth":"dTpw","email":"not@val.id"}}}"#
    );
    assert_eq!(mode(&root.join("creds/.docker/config.json")), 0o600);
}

#[test]
fn bad_credential_flags_are_refused_and_copy_problems_are_only_told() {
    // T-274, T-279, T-280
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    secret(
        root,
        "s",
        &[
            ("username", "u"),
            ("password", "p"),
            ("ssh-privatekey", "k"),
        ],
    );
    for flags in [
        &["-basic-git=s"][..],
        &["-basic-git=s=a=b"],
        &["-basic-git=s=https://a", "-basic-git=s=https://a"],
        &["-basic-docker=s=a", "-basic-docker=s=a"],
        &["-basic-git=missing=https://a"],
    ] {
        assert_eq!(run(root, flags).status.code(), Some(2), "{flags:?}");
    }
    fs::create_dir_all(root.join("home/.gitconfig")).unwrap();
    let output = run(root, &["-basic-git=s=https://a"]);
    assert!(output.status.success());
    assert!(
        String::from_utf8_lossy(&output.stderr)
            .contains("warning: unsuccessful cred copy: \".gitconfig\"")
    );
}
