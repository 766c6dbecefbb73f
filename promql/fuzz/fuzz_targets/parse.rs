//! Any text, parsed: no panic, and no more time than in proportion to its length.

#![no_main]

mod check_parsing;

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;

/// Generous for one byte, so that only work that grows faster than its input is found.
const PER_BYTE: Duration = Duration::from_micros(50);

/// How often a text may take too long before it is believed: the machine may be busy with something else.
const TRIES: usize = 4;

fuzz_target!(|text: &str| {
    let limit = Duration::from_millis(100) + PER_BYTE * text.len() as u32;
    let took = || {
        let begun = Instant::now();
        check_parsing::check_parsing(text);
        begun.elapsed()
    };
    assert!((0..TRIES).any(|_| took() <= limit), "{} bytes took more than {limit:?}", text.len());
});
