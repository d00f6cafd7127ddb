//! Files that say how to log in to registries, names of images, and the map of names to others.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tektite_oci::{Credentials, NameMapping, Reference};

fuzz_target!(|data: &[u8]| {
    let mut credentials = Credentials::none();
    let _ = credentials.add_docker_config_json(data);
    let _ = credentials.add_docker_cfg(data);
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    credentials.add_basic(text, "user", "password");
    if let Ok(reference) = text.parse::<Reference>() {
        let written = reference.to_string();
        let again: Reference = written.parse().expect("what was written can be read");
        assert_eq!(again.to_string(), written);
    }
    if let Ok(mapping) = NameMapping::parse(text) {
        for name in text.lines() {
            let _ = mapping.apply(name);
        }
    }
});
