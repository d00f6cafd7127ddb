//! What the params of the git resolver mean.

use super::*;

fn request<const N: usize>(params: [(&str, &str); N], config: &[(&str, &str)]) -> Request {
    Request::example("git-resolver-config", params, config)
}

const URL: (&str, &str) = ("url", "https://example.com/r.git");
const PATH: (&str, &str) = ("pathInRepo", "task.yaml");
const REPO: (&str, &str) = ("repo", "r");
const ORG: (&str, &str) = ("org", "o");

/// P-331, P-332
#[test]
fn params_that_make_no_sense_are_refused_with_upstreams_texts() {
    let bare = [("default-url", ""), ("default-revision", "")];
    for (request, expected) in [
        (
            request([URL, REPO, PATH], &[]),
            "cannot specify both 'url' and 'repo'",
        ),
        (
            request([PATH], &bare),
            "must specify one of 'url' or 'repo'",
        ),
        (
            request([REPO, PATH], &[]),
            "'org' is required when 'repo' is specified",
        ),
        (
            request([URL], &bare),
            "missing required git resolver params: revision, pathInRepo",
        ),
        (
            request([URL, PATH, ("revision", "--upload-pack=/bin/sh")], &[]),
            "invalid revision \"--upload-pack=/bin/sh\": must not begin with '-'",
        ),
        (
            request([URL, PATH, ("revision", "a\nb")], &[]),
            "invalid revision \"a\\nb\": must not contain control characters",
        ),
        (
            request([("url", "/srv/repo"), PATH], &[]),
            "invalid git repository url: /srv/repo",
        ),
        (
            request([("url", "file:///srv/repo"), PATH], &[]),
            "invalid git repository url: file:///srv/repo",
        ),
        (
            request([("url", "ext::sh -c true"), PATH], &[]),
            "invalid git repository url: ext::sh -c true",
        ),
        (
            request([URL, ("pathInRepo", "/a/../../etc/passwd")], &[]),
            "invalid path \"a/../../etc/passwd\": must not contain '..' components",
        ),
        (
            request([("repo", "../../user"), ORG, PATH], &[]),
            "invalid repo \"../../user\": must not contain '..' components",
        ),
        (
            request([REPO, ORG, PATH, ("revision", "../x")], &[]),
            "invalid revision \"../x\": must not contain '..' components",
        ),
    ] {
        assert_eq!(plan(&request).unwrap_err(), expected);
    }
}

/// P-331, P-332, P-334, P-340
#[test]
fn params_are_completed_from_the_config_map() {
    let planned = plan(&request([("pathInRepo", "//task.yaml")], &[])).unwrap();
    assert_eq!(
        planned,
        Plan {
            source: Source::Clone {
                url: "https://github.com/tektoncd/catalog.git".into(),
                token: None
            },
            revision: "main".into(),
            path: "task.yaml".into(),
            local_root: None,
        }
    );
    let planned = plan(&request([URL, PATH, ("gitToken", "s")], &[])).unwrap();
    let secret = SecretKey {
        namespace: "ns".into(),
        name: "s".into(),
        key: "token".into(),
    };
    assert!(matches!(planned.source, Source::Clone { token: Some(found), .. } if found == secret));
    let local = [("local-repositories", "/srv/git")];
    assert!(plan(&request([("url", "file:///srv/git/r"), PATH], &local)).is_ok());
    assert!(plan(&request([("url", "git@example.com:r.git"), PATH], &[])).is_ok());
}

/// P-337, P-338
#[test]
fn the_systems_token_is_sent_to_the_systems_server_only() {
    let system = [
        ("server-url", "https://scm.example"),
        ("api-token-secret-name", "s"),
        ("api-token-secret-key", "k"),
    ];
    let token = |request: Request| match plan(&request).unwrap().source {
        Source::Api(api) => api.token,
        other => panic!("{other:?}"),
    };
    let key = |namespace: &str, name: &str, key: &str| {
        Ok(SecretKey {
            namespace: namespace.into(),
            name: name.into(),
            key: key.into(),
        })
    };
    assert_eq!(
        token(request([REPO, ORG, PATH], &system)),
        key("default", "s", "k")
    );
    assert_eq!(
        token(request(
            [REPO, ORG, PATH, ("serverURL", "https://scm.example")],
            &system
        )),
        key("default", "s", "k")
    );
    assert_eq!(
        token(request(
            [
                REPO,
                ORG,
                PATH,
                ("serverURL", "https://evil.example"),
                ("token", "mine")
            ],
            &system
        )),
        key("ns", "mine", "token")
    );
    assert_eq!(
        token(request(
            [REPO, ORG, PATH, ("serverURL", "https://evil.example")],
            &system
        )),
        Err("custom serverURL \"https://evil.example\" requires a token parameter; the system token cannot be sent to a non-default server URL".into())
    );
    assert_eq!(
        token(request([REPO, ORG, PATH], &[])),
        Err("cannot get API token, required when specifying 'repo' param, 'api-token-secret-name' not specified in config".into())
    );
}

/// P-325
#[test]
fn only_whole_names_of_commits_are_immutable() {
    for (revision, immutable) in [
        ("a".repeat(40), true),
        ("0123456789abcdefABCDEF".repeat(2)[..40].to_owned(), true),
        ("f".repeat(64), true),
        ("a".repeat(39), false),
        ("g".repeat(40), false),
        ("main".into(), false),
        (String::new(), false),
    ] {
        assert_eq!(is_commit(&revision), immutable, "{revision}");
    }
}
