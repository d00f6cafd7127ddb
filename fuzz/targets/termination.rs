//! Termination messages, which steps write as they like.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tektite_engine::taskrun::termination::{parse, write};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(entries) = parse(text) {
        let again = parse(&write(&entries)).expect("what was written can be read");
        assert_eq!(entries, again);
    }
});
