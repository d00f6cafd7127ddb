//! The system call instruction, for the few calls that rustix does not offer.

use rustix::io::Errno;

/// Makes a system call.
///
/// # Safety
/// As for the call of that number: pointers among the arguments must be what it expects.
#[cfg(target_arch = "x86_64")]
pub(super) unsafe fn call(number: u32, [a, b, c, d, e]: [usize; 5]) -> Result<usize, Errno> {
    let result: isize;
    // SAFETY: the kernel changes rax, rcx and r11 only; memory is the caller's promise.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") number as usize => result,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            in("r10") d,
            in("r8") e,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack)
        );
    }
    outcome(result)
}

/// Makes a system call.
///
/// # Safety
/// As for the call of that number: pointers among the arguments must be what it expects.
#[cfg(target_arch = "aarch64")]
pub(super) unsafe fn call(number: u32, [a, b, c, d, e]: [usize; 5]) -> Result<usize, Errno> {
    let result: isize;
    // SAFETY: the kernel changes x0 only; memory is the caller's promise.
    unsafe {
        core::arch::asm!(
            "svc 0",
            in("x8") number as usize,
            inlateout("x0") a => result,
            in("x1") b,
            in("x2") c,
            in("x3") d,
            in("x4") e,
            options(nostack)
        );
    }
    outcome(result)
}

fn outcome(result: isize) -> Result<usize, Errno> {
    match result {
        // The kernel keeps these numbers for errors.
        -4095..=-1 => Err(Errno::from_raw_os_error(-(result as i32))),
        _ => Ok(result as usize),
    }
}
