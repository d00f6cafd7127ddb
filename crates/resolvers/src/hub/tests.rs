//! What the params of the hub resolver mean.

use super::*;

fn request<const N: usize>(params: [(&str, &str); N], config: &[(&str, &str)]) -> Request {
    Request::example("hubresolver-config", params, config)
}

const NAME: (&str, &str) = ("name", "git-clone");
const VERSION: (&str, &str) = ("version", "0.6");
const TEKTON: (&str, &str) = ("type", "tekton");

/// P-347, P-349, P-351
#[test]
fn urls_are_built_from_params_and_defaults() {
    let urls = HubUrls {
        tekton: Some("https://hub.example/".into()),
        ..HubUrls::default()
    };
    for (request, list, file) in [
        (
            request([NAME, VERSION], &[]),
            "https://artifacthub.io/api/v1/packages/tekton-task/tekton-catalog-tasks/git-clone",
            "/0.6.0",
        ),
        (
            request([NAME, ("version", "0.6.1"), ("kind", "pipeline")], &[]),
            "https://artifacthub.io/api/v1/packages/tekton-pipeline/tekton-catalog-pipelines/git-clone",
            "/0.6.1",
        ),
        (
            request([NAME, ("version", "0.6.1"), TEKTON], &[]),
            "https://hub.example/v1/resource/Tekton/task/git-clone",
            "/0.6/yaml",
        ),
        (
            request(
                [
                    NAME,
                    VERSION,
                    ("kind", "stepaction"),
                    ("catalog", "c"),
                    ("url", "http://my.hub//"),
                ],
                &[],
            ),
            "http://my.hub/api/v1/packages/tekton-stepaction/c/git-clone",
            "/0.6.0",
        ),
    ] {
        let plan = plan(&request, &urls).unwrap();
        assert_eq!(plan.list(&plan.hubs[0]), list);
        assert_eq!(plan.file(&plan.hubs[0]), format!("{list}{file}"));
    }
}

/// P-348
#[test]
fn hubs_come_from_the_param_the_config_map_and_the_environment_in_this_order() {
    let list = (
        "artifact-hub-urls",
        "- https://one.example/\n- https://two.example\n",
    );
    let hubs = |request: Request| plan(&request, &HubUrls::default()).unwrap().hubs;
    assert_eq!(
        hubs(request([NAME, VERSION], &[list])),
        ["https://one.example", "https://two.example"]
    );
    assert_eq!(
        hubs(request(
            [NAME, VERSION, ("url", "https://mine.example/")],
            &[list]
        )),
        ["https://mine.example"]
    );
    for broken in ["not a list", "- ftp://x", "- {}"] {
        assert_eq!(
            hubs(request([NAME, VERSION], &[("artifact-hub-urls", broken)])),
            ["https://artifacthub.io"]
        );
    }
    assert!(
        plan(
            &request(
                [NAME, VERSION, TEKTON],
                &[("tekton-hub-urls", "- http://t")]
            ),
            &HubUrls::default()
        )
        .is_ok()
    );
}

/// P-348, P-352
#[test]
fn params_that_make_no_sense_are_refused_with_upstreams_texts() {
    for (request, expected) in [
        (
            request([], &[]),
            "failed to validate params: missing required hub resolver params: name, version",
        ),
        (
            request([NAME, VERSION, TEKTON], &[]),
            "failed to validate params: please configure TEKTON_HUB_API env variable to use tekton type",
        ),
        (
            request([NAME, VERSION, ("kind", "stepaction")], &[]),
            "failed to populate default params: failed to resolve catalog name with kind: stepaction",
        ),
        (
            request([NAME, VERSION, ("type", "x")], &[]),
            "failed to populate default params: failed to resolve catalog name with type: x",
        ),
        (
            request([NAME, VERSION, ("type", "x"), ("catalog", "c")], &[]),
            "failed to validate params: type param must be artifact or tekton",
        ),
        (
            request([NAME, VERSION, ("kind", "x"), ("catalog", "c")], &[]),
            "failed to validate params: kind param must be one of: task, pipeline, stepaction",
        ),
        (
            request([NAME, VERSION, ("url", "ftp://x")], &[]),
            "failed to validate params: invalid url param: url must use http or https scheme: ftp://x",
        ),
        (
            request([NAME, VERSION, ("url", "hub")], &[]),
            "failed to validate params: invalid url param: url must be a valid absolute URL: hub",
        ),
        (
            request([("name", "../../x"), VERSION], &[]),
            "failed to validate params: name \"../../x\" is no name on a hub: it must not contain /, \\, ?, # or %",
        ),
    ] {
        assert_eq!(plan(&request, &HubUrls::default()).unwrap_err(), expected);
    }
    let mut empty = request([NAME, VERSION], &[]);
    empty.config = Map::new();
    assert_eq!(
        plan(&empty, &HubUrls::default()).unwrap_err(),
        "failed to populate default params: default type was not set during installation of the hub resolver"
    );
}

/// P-350
#[test]
fn the_highest_version_that_fits_is_taken() {
    let versions = |texts: &[&str]| {
        texts
            .iter()
            .filter_map(|text| Version::parse(text))
            .collect()
    };
    let constraint = Constraint::parse(">= 0.2, < 0.10").unwrap();
    let chosen = highest(versions(&["0.1", "0.9", "0.10", "0.3.1"]), &constraint);
    assert_eq!(chosen.unwrap().to_string(), "0.9.0");
    assert!(highest(versions(&["0.1", "1.0"]), &constraint).is_none());
}
