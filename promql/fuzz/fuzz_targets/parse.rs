//! Any text, parsed: no panic, and no more time than in proportion to its length.

#![no_main]

mod checks;

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;

/// Generous for one byte, so that only work that grows faster than its input is found.
const PER_BYTE: Duration = Duration::from_micros(50);

fuzz_target!(|text: &str| {
    let begun = Instant::now();
    checks::check_parsing(text);
    let took = begun.elapsed();
    assert!(took < Duration::from_millis(100) + PER_BYTE * text.len() as u32, "{} bytes took {took:?}", text.len());
});
