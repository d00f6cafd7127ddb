//! Admission of arbitrary JSON: defaulting and validation never panic, and defaults are set once.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tektite_api::admission::{Operation, Request, admit, default, validate};
use tektite_api::config::Config;

static CONFIGS: LazyLock<[Config; 3]> = LazyLock::new(|| {
    let of = |flags: &[(&str, &str)]| {
        let data = flags.iter().map(|(k, v)| ((*k).into(), (*v).into()));
        let mut config = Config::default();
        config
            .update("feature-flags", &data.collect())
            .expect("known flags");
        config
    };
    [
        of(&[]),
        of(&[
            ("enable-api-fields", "alpha"),
            ("enable-cel-in-whenexpression", "true"),
            ("enable-artifacts", "true"),
            ("enable-concise-resolver-syntax", "true"),
        ]),
        of(&[
            ("enable-api-fields", "stable"),
            ("disable-inline-spec", "pipeline,taskrun"),
        ]),
    ]
});

fuzz_target!(|data: &[u8]| {
    let Some(object) = read(data) else { return };
    for config in CONFIGS.iter() {
        let _ = admit(&object, config);
        let request = Request::create(&object);
        let _ = validate(&request, config);
        let update = Request {
            operation: Operation::Update,
            old_object: Some(&object),
            ..request
        };
        let _ = validate(&update, config);
        let Ok(once) = default(&request, config) else {
            continue;
        };
        let request = Request {
            object: &once,
            ..request
        };
        let twice = default(&request, config).expect("what was defaulted can be defaulted");
        assert_eq!(once, twice, "defaults are set once");
    }
});

/// JSON, or YAML where it is that: seeds are manifests.
fn read(data: &[u8]) -> Option<Value> {
    serde_json::from_slice(data)
        .ok()
        .or_else(|| serde_yaml_ng::from_slice(data).ok())
}
