//! YAML manifests: every document becomes its typed kind and back, or is an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tektite_api::{admission, resolution, v1, v1alpha1, v1beta1};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for document in serde_yaml_ng::Deserializer::from_str(text) {
        let Ok(object) = <Value as serde::Deserialize>::deserialize(document) else {
            return;
        };
        let _ = admission::unknown_fields(&object);
        round_trip::<v1::Task>(&object);
        round_trip::<v1::TaskRun>(&object);
        round_trip::<v1::Pipeline>(&object);
        round_trip::<v1::PipelineRun>(&object);
        round_trip::<v1beta1::CustomRun>(&object);
        round_trip::<v1beta1::StepAction>(&object);
        round_trip::<v1alpha1::VerificationPolicy>(&object);
        round_trip::<resolution::ResolutionRequest>(&object);
    }
});

/// What was read once is read again as the same, and written the same.
fn round_trip<K: Serialize + DeserializeOwned>(object: &Value) {
    let Ok(typed) = serde_json::from_value::<K>(object.clone()) else {
        return;
    };
    let written = serde_json::to_value(&typed).expect("what was read can be written");
    let again: K = serde_json::from_value(written.clone()).expect("what was written can be read");
    let again = serde_json::to_value(&again).expect("what was read can be written");
    assert_eq!(written, again);
}
