//! Time: of day, elapsed, and slept through.
#![allow(unsafe_code)] // clock_gettime: rustix would look for the vDSO first, which costs more than it saves here

use core::time::Duration;

use linux_raw_sys::general::{
    __NR_clock_gettime, __kernel_timespec as Reading, CLOCK_MONOTONIC, CLOCK_REALTIME,
};

use super::syscall::call;

/// Since 1970; a clock set before that shows as 1970.
pub(crate) fn now() -> Duration {
    read(CLOCK_REALTIME)
}

/// A moment that setting the clock does not move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(Duration);

impl Instant {
    pub(crate) fn now() -> Instant {
        Instant(read(CLOCK_MONOTONIC))
    }

    pub(crate) fn checked_add(self, length: Duration) -> Option<Instant> {
        self.0.checked_add(length).map(Instant)
    }

    /// How long until then; zero if it has been.
    pub(crate) fn left(self) -> Duration {
        self.0.saturating_sub(Instant::now().0)
    }
}

pub(crate) fn sleep(length: Duration) {
    let end = Instant::now().checked_add(length);
    let mut left = length;
    while !left.is_zero() {
        // Signals wake it early, and nothing else goes wrong with waiting for no file.
        let _ = super::readable(&[], Some(left));
        left = end.map_or(length, Instant::left);
    }
}

fn read(clock: u32) -> Duration {
    let mut reading = Reading {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes the reading, which outlives the call. Both clocks exist everywhere.
    let _ = unsafe {
        call(
            __NR_clock_gettime,
            [clock as usize, &raw mut reading as usize, 0, 0, 0],
        )
    };
    Duration::new(
        u64::try_from(reading.tv_sec).unwrap_or_default(),
        u32::try_from(reading.tv_nsec).unwrap_or_default(),
    )
}
