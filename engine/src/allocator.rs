//! The allocator of the program: mimalloc, told to keep little of what is freed.
//!
//! What is live between queries is a few MiB; what a process keeps is what its allocator has not given back. mimalloc keeps
//! freed memory in three places: in the arenas that all threads share, for a time that can be set; in pages of one
//! size of blocks that belong to a thread, until that thread allocates again; and in huge pages that it asks for.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::ffi::{c_int, c_long};
use std::time::{Duration, Instant};

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// Blocks above this size come from pages of 4 MiB that a thread keeps for each of eleven sizes, up to [`ALONE`].
const LARGE: usize = 64 << 10;
/// Blocks of this size have a page of their own, which goes back to the arenas when they are freed.
const ALONE: usize = (512 << 10) + 1;

/// mimalloc, in which every large block has a page of its own: one that is long enough. What of it is not used is
/// never touched, and costs addresses only.
struct Allocator;

/// How much is asked for where `size` is needed.
fn asked(size: usize) -> usize {
    if size > LARGE { size.max(ALONE) } else { size }
}

// SAFETY: all blocks are mimalloc's, which knows by itself how long they are, and are as long as the caller wants at least.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as promised to us; sizes near `isize::MAX` stay as they are.
        unsafe { MiMalloc.alloc(Layout::from_size_align_unchecked(asked(layout.size()), layout.align())) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if asked(layout.size()) == layout.size() {
            // SAFETY: as promised to us.
            return unsafe { MiMalloc.alloc_zeroed(layout) };
        }
        // SAFETY: as promised to us; the block is as long as `layout` at least. The rest is not touched.
        unsafe {
            let block = self.alloc(layout);
            if !block.is_null() {
                block.write_bytes(0, layout.size());
            }
            block
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as promised to us; the size is not looked at.
        unsafe { MiMalloc.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if layout.size() <= LARGE {
            // SAFETY: as promised to us.
            return unsafe { MiMalloc.realloc(block, layout, asked(size)) };
        }
        // mimalloc would move what lies behind a large block along with it, and touch what never was.
        // SAFETY: `block` is as long as `layout` and as the block that it is, the new one as long as `size`, and no block is
        // part of another; sizes near `isize::MAX` are as the caller has checked them.
        unsafe {
            let there = mi_usable_size(block);
            if asked(size) <= there && asked(size) >= there / 2 {
                return block;
            }
            let moved = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !moved.is_null() {
                moved.copy_from_nonoverlapping(block, layout.size().min(size));
                self.dealloc(block, layout);
            }
            moved
        }
    }
}

/// The number of mimalloc's option for how long freed memory is kept, in milliseconds.
const PURGE_DELAY: c_int = 15;
/// Long enough for queries one behind the other to take over each other's memory, short enough that no two of them leave
/// much behind. At no delay queries of some milliseconds take up to twice as long: they fault all of it in anew.
const PURGE_DELAY_MS: c_long = 10;

// What the crate `mimalloc` links has these; it declares them under a feature only.
unsafe extern "C" {
    fn mi_option_set(option: c_int, value: c_long);
    fn mi_collect(force: bool);
    fn mi_usable_size(block: *const u8) -> usize;
}

/// Call it first: it holds for memory that is touched later.
pub fn give_memory_back() {
    // SAFETY: takes numbers; the option exists, and may change at any time.
    unsafe { mi_option_set(PURGE_DELAY, PURGE_DELAY_MS) };
}

/// Gives back what the calling thread keeps for blocks to come. For threads that are done with something: as long as they
/// stand still, nobody else can take it from them. It looks at every page that the thread has, so of many calls only as
/// many do it as take no more than a hundredth of the time.
pub fn thread_rests() {
    thread_local! {
        static NEXT: Cell<Option<Instant>> = const { Cell::new(None) };
    }
    /// A page that is empty is kept for so many calls, unless its blocks are small.
    const CALLS: usize = 4;
    const WORTH: u32 = 100;
    let start = Instant::now();
    if NEXT.get().is_some_and(|next| start < next) {
        return;
    }
    for _ in 0..CALLS {
        // By force it would take memory from everybody that was freed just now.
        // SAFETY: takes a flag.
        unsafe { mi_collect(false) };
    }
    let pause = (start.elapsed() * WORTH).max(Duration::from_millis(PURGE_DELAY_MS as u64));
    NEXT.set(start.checked_add(pause));
}

/// Runs before anything is allocated.
#[cfg(target_os = "linux")]
#[used]
// SAFETY: a function of C that takes nothing; the number puts it before mimalloc's own.
#[unsafe(link_section = ".init_array.00101")]
static BEFORE_ALL: extern "C" fn() = refuse_huge_pages;

/// Huge pages make of each piece that is in use 2 MiB that are resident, and two thirds of that were never written.
/// They gained no processor time. Where the system refuses, more memory is resident, and nothing else is different.
#[cfg(target_os = "linux")]
extern "C" fn refuse_huge_pages() {
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
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn no_huge_pages_are_asked_for() {
        // SAFETY: takes numbers only.
        assert_eq!(unsafe { libc::prctl(libc::PR_GET_THP_DISABLE, 0, 0, 0, 0) }, 1);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_lies_behind_a_large_block_is_not_touched_when_it_moves() {
        const MANY: usize = 500;
        let resident = || {
            let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
            pages.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
        };
        let before = resident();
        let used = vec![7; LARGE + 1];
        let moved = |_| {
            let mut block = used.clone();
            block.reserve_exact(8 * ALONE);
            assert_eq!(block, used);
            block
        };
        let blocks: Vec<Vec<u8>> = (0..MANY).map(moved).collect();
        assert!(resident() - before < MANY * ALONE / 2, "{} blocks", blocks.len());
    }

    #[test]
    fn large_blocks_stand_alone_and_keep_what_is_in_them() {
        let sizes = [1, 100, LARGE - 1, LARGE, LARGE + 1, 200 << 10, ALONE - 1, ALONE, ALONE + 1, 3 << 20];
        for from in sizes {
            for to in sizes {
                let mut block: Vec<u8> = Vec::with_capacity(from);
                block.extend((0..from).map(|at| at as u8));
                // SAFETY: a block of mimalloc's.
                let usable = unsafe { mi_usable_size(block.as_ptr()) };
                assert!(usable >= if from > LARGE { from.max(ALONE) } else { from });
                block.reserve_exact(to.saturating_sub(from));
                block.truncate(to);
                block.shrink_to_fit();
                assert!(block.iter().enumerate().all(|(at, &byte)| byte == at as u8), "{from} to {to}");
                drop(block);
                assert!(vec![0u8; from].iter().all(|&byte| byte == 0));
                thread_rests();
            }
        }
        let aligned = Layout::from_size_align(LARGE + 1, 4096).unwrap();
        // SAFETY: the layout is not empty; the block is given back by the same.
        unsafe {
            let block = std::alloc::alloc_zeroed(aligned);
            assert_eq!(block as usize % 4096, 0);
            std::alloc::dealloc(block, aligned);
        }
    }
}
