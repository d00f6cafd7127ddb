//! CEL expressions of when expressions.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let compiled = tektite_api::cel::compile(text);
    // Nested macros take as long as their lists' lengths multiplied; that is the author's time.
    if text.len() < 200 {
        let evaluated = tektite_engine::cel::evaluate(text);
        assert!(compiled.is_ok() || evaluated.is_err());
    }
});
