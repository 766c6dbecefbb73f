//! The allocator of the program, told to give memory back early.

use std::ffi::{c_int, c_long};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The number of mimalloc's option for how long freed memory is kept, in milliseconds.
const PURGE_DELAY: c_int = 15;
/// Long enough for queries one behind the other to take over each other's memory, short enough that no two of them leave
/// much behind. At no delay queries of some milliseconds take up to twice as long: they fault all of it in anew.
const PURGE_DELAY_MS: c_long = 10;

// What the crate `mimalloc` links has these; it declares them under a feature only.
unsafe extern "C" {
    fn mi_option_set(option: c_int, value: c_long);
}

/// Call it first: it holds for memory that is touched later.
pub fn give_memory_back() {
    // SAFETY: takes numbers; the option exists, and may change at any time.
    unsafe { mi_option_set(PURGE_DELAY, PURGE_DELAY_MS) };
    // Huge pages make of each piece that is in use 2 MiB that are resident, and two thirds of that were never written.
    // They gained no processor time. Where the system refuses, more memory is resident, and nothing else is different.
    #[cfg(target_os = "linux")]
    // SAFETY: takes numbers only.
    unsafe {
        libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" {
        fn mi_option_get(option: c_int) -> c_long;
    }

    #[test]
    fn the_option_is_the_one_that_is_meant() {
        // SAFETY: takes a number; the option exists.
        let delay_ms = || unsafe { mi_option_get(PURGE_DELAY) };
        // The default of mimalloc 3, which no option beside it has.
        let neighbours = [PURGE_DELAY - 1, PURGE_DELAY + 1];
        // SAFETY: as above.
        assert!(neighbours.iter().all(|&option| unsafe { mi_option_get(option) } < 1000));
        assert_eq!(delay_ms(), 1000);
        give_memory_back();
        assert_eq!(delay_ms(), PURGE_DELAY_MS);
        #[cfg(target_os = "linux")]
        // SAFETY: takes numbers only.
        assert_eq!(unsafe { libc::prctl(libc::PR_GET_THP_DISABLE, 0, 0, 0, 0) }, 1);
    }
}
