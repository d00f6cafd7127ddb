//! The first and the last instruction of the shipped program: without libc and without `std` it is a quarter of the size
//! and starts with half the system calls.
#![allow(unsafe_code)] // what libc would do; each use states its invariant

use alloc::vec::Vec;
use core::ffi::CStr;
use core::panic::PanicInfo;

use rustix_dlmalloc::GlobalDlmalloc;

#[global_allocator]
static ALLOCATOR: GlobalDlmalloc = GlobalDlmalloc;

// The kernel leaves the number of arguments, the arguments and the environment on the stack.
#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {begin}",
    "ud2",
    begin = sym begin
);
#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(
    ".globl _start",
    "_start:",
    "mov x29, xzr",
    "mov x30, xzr",
    "mov x0, sp",
    "bl {begin}",
    "brk #1",
    begin = sym begin
);

/// Called by `_start` only, with the stack as the kernel made it.
unsafe extern "C" fn begin(stack: *const usize) -> ! {
    // SAFETY: the stack holds the count, that many pointers to texts, a null, pointers to texts, and a null. They stay
    // as long as the program runs.
    let (arguments, environment) = unsafe {
        let count = *stack;
        let arguments = texts(stack.add(1).cast());
        (arguments, texts(stack.add(1 + count + 1).cast()))
    };
    let environment = environment
        .into_iter()
        .filter_map(|entry| {
            // A name may begin with the sign, but not be empty.
            let at = 1 + entry.get(1..)?.iter().position(|&byte| byte == b'=')?;
            Some((entry[..at].to_vec(), entry[at + 1..].to_vec()))
        })
        .collect();
    tektite_entrypoint::exit(tektite_entrypoint::main(arguments, environment))
}

/// # Safety
/// `list` points to pointers to texts, the last of which is null.
unsafe fn texts(list: *const *const core::ffi::c_char) -> Vec<Vec<u8>> {
    // SAFETY: as above; nothing is read past the null.
    (0..)
        .map(|at| unsafe { *list.add(at) })
        .take_while(|text| !text.is_null())
        .map(|text| unsafe { CStr::from_ptr(text) }.to_bytes().to_vec())
        .collect()
}

/// A mistake of ours: told, and the step ends.
#[panic_handler]
fn panicked(info: &PanicInfo<'_>) -> ! {
    tektite_entrypoint::panicked(info)
}

/// Named by unwinding tables that `core` was compiled with; nothing unwinds here.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// As above.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    tektite_entrypoint::exit(101)
}
