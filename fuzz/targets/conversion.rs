//! Conversion between versions: what came back from the older version once (some fields do not, P-085 and P-086) always does.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tektite_api::config::Config;
use tektite_api::convert::convert;

fuzz_target!(|data: &[u8]| {
    let object: Option<Value> = serde_json::from_slice(data)
        .ok()
        .or_else(|| serde_yaml_ng::from_slice(data).ok());
    let Some(object) = object else { return };
    let config = Config::default();
    for (older, newer) in [
        ("tekton.dev/v1beta1", "tekton.dev/v1"),
        ("tekton.dev/v1alpha1", "tekton.dev/v1beta1"),
        (
            "resolution.tekton.dev/v1alpha1",
            "resolution.tekton.dev/v1beta1",
        ),
    ] {
        let _ = convert(object.clone(), older, &config);
        let Ok(new) = convert(object.clone(), newer, &config) else {
            continue;
        };
        let Ok(old) = convert(new.clone(), older, &config) else {
            continue;
        };
        let again = convert(old, newer, &config).expect("what came from there goes back");
        let old = convert(again.clone(), older, &config).expect("what came back goes again");
        let third = convert(old, newer, &config).expect("what came from there goes back");
        assert_eq!(again, third, "{newer} by way of {older}");
    }
});
