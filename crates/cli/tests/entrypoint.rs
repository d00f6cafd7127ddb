//! The shipped entrypoint: small, static, and able to do all that its own crate asks of the build with `std`.

// Whole steps again, with the program of the other build: its own start, allocator and link.
#[path = "../../entrypoint/tests/credentials.rs"]
mod credentials;
#[path = "../../entrypoint/tests/masking.rs"]
mod masking;
#[path = "../../entrypoint/tests/steps.rs"]
mod steps;

const SHIPPED: &[u8] = include_bytes!(env!("TEKTITE_ENTRYPOINT"));

#[test]
fn it_is_smaller_than_a_mebibyte() {
    assert!(SHIPPED.len() < 1 << 20, "{} bytes", SHIPPED.len());
}

#[test]
fn it_needs_no_loader_and_no_library() {
    const INTERPRETER: u64 = 3;
    const DYNAMIC: u64 = 2;
    // Numbers of a 64-bit little-endian ELF file by offset and length.
    let number = |at: usize, length: usize| {
        let bytes = &SHIPPED[at..at + length];
        bytes
            .iter()
            .rev()
            .fold(0u64, |n, &byte| n << 8 | u64::from(byte))
    };
    assert_eq!(&SHIPPED[..6], b"\x7fELF\x02\x01");
    let (table, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    assert!(count > 0, "there are segments");
    for segment in 0..count {
        let kind = number((table + segment * size) as usize, 4);
        assert!(kind != INTERPRETER && kind != DYNAMIC, "segment {segment}");
    }
}
