//! Durations and quantities: what is read is written so that it is read the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::json;
use tektite_api::Duration;
use tektite_api::admission::admit;
use tektite_api::config::{Config, Defaults, LeaderElection, WaitExponentialBackoff};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(duration) = text.parse::<Duration>() {
        let written = duration.to_string();
        assert_eq!(written.parse::<Duration>(), Ok(duration), "{written}");
    }
    let resources = json!({"limits": {"cpu": text}, "requests": {"memory": text}});
    let task = json!({"apiVersion": "tekton.dev/v1", "kind": "Task", "metadata": {"name": "t"},
        "spec": {"steps": [{"image": "i", "computeResources": resources, "timeout": text}]}});
    if let Ok((admitted, _)) = admit(&task, &Config::default()) {
        let (again, _) =
            admit(&admitted, &Config::default()).expect("what was admitted is admitted");
        assert_eq!(admitted["spec"], again["spec"]);
    }
    let data = |keys: &[&str]| {
        keys.iter()
            .map(|key| ((*key).to_owned(), text.to_owned()))
            .collect()
    };
    let _ = Defaults::from_data(&data(&["default-timeout-minutes", "default-pod-template"]));
    let _ = LeaderElection::from_data(&data(&["lease-duration", "buckets"]));
    if let Ok(backoff) = WaitExponentialBackoff::from_data(&data(&["factor", "steps"])) {
        let _ = backoff.waits().take(100).count();
    }
});
