//! What the compiler takes for granted: filling, copying and comparing memory.
//!
//! Written so that the compiler cannot turn them into calls of themselves: by instruction on x86-64, byte by byte and
//! volatile elsewhere.
#![allow(unsafe_code)] // raw memory; the callers' promises are C's

use core::ffi::{c_char, c_int};

/// # Safety
/// As C's `memcpy`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe { forwards(to, from, length) };
    to
}

/// # Safety
/// As C's `memmove`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    // SAFETY: the caller's promise; backwards where the end of the source would be overwritten first.
    unsafe {
        if (to as usize).wrapping_sub(from as usize) >= length {
            forwards(to, from, length);
        } else {
            for at in (0..length).rev() {
                to.add(at).write_volatile(from.add(at).read());
            }
        }
    }
    to
}

/// # Safety
/// As C's `memset`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: c_int, length: usize) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe { fill(to, byte as u8, length) };
    to
}

/// # Safety
/// As C's `memcmp`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, length: usize) -> c_int {
    for at in 0..length {
        // SAFETY: the caller's promise.
        let (a, b) = unsafe { (a.add(at).read_volatile(), b.add(at).read_volatile()) };
        if a != b {
            return c_int::from(a) - c_int::from(b);
        }
    }
    0
}

/// # Safety
/// As C's `bcmp`.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, length: usize) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { memcmp(a, b, length) }
}

/// # Safety
/// As C's `strlen`.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const c_char) -> usize {
    let mut length = 0;
    // SAFETY: the caller's promise.
    while unsafe { text.add(length).read_volatile() } != 0 {
        length += 1;
    }
    length
}

/// # Safety
/// Both are valid for the length, and the target does not begin inside the source.
#[cfg(target_arch = "x86_64")]
unsafe fn forwards(to: *mut u8, from: *const u8, length: usize) {
    // SAFETY: the caller's promise; the direction flag is clear by the calling convention.
    unsafe {
        core::arch::asm!(
            "rep movsb",
            inout("rcx") length => _,
            inout("rdi") to => _,
            inout("rsi") from => _,
            options(nostack, preserves_flags)
        );
    }
}

/// # Safety
/// Both are valid for the length, and the target does not begin inside the source.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn forwards(to: *mut u8, from: *const u8, length: usize) {
    for at in 0..length {
        // SAFETY: the caller's promise.
        unsafe { to.add(at).write_volatile(from.add(at).read()) };
    }
}

/// # Safety
/// The target is valid for the length.
#[cfg(target_arch = "x86_64")]
unsafe fn fill(to: *mut u8, byte: u8, length: usize) {
    // SAFETY: the caller's promise; the direction flag is clear by the calling convention.
    unsafe {
        core::arch::asm!(
            "rep stosb",
            inout("rcx") length => _,
            inout("rdi") to => _,
            in("al") byte,
            options(nostack, preserves_flags)
        );
    }
}

/// # Safety
/// The target is valid for the length.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn fill(to: *mut u8, byte: u8, length: usize) {
    for at in 0..length {
        // SAFETY: the caller's promise.
        unsafe { to.add(at).write_volatile(byte) };
    }
}
