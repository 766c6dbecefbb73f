//! Any text, parsed: no panic, and no more time than in proportion to its length.

#![no_main]

mod check_parsing;

use std::time::Duration;

use libfuzzer_sys::fuzz_target;

/// Generous for one byte, so that only work that grows faster than its input is found.
const PER_BYTE: Duration = Duration::from_micros(50);

/// Processor time of this thread: what else the machine is busy with does not count.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux counts processor time");
    let nanoseconds = text.split_whitespace().next().and_then(|number| number.parse().ok());
    Duration::from_nanos(nanoseconds.expect("its first number is nanoseconds"))
}

fuzz_target!(|text: &str| {
    let begun = processor_time();
    check_parsing::check_parsing(text);
    let took = processor_time() - begun;
    assert!(took < Duration::from_millis(100) + PER_BYTE * text.len() as u32, "{} bytes took {took:?}", text.len());
});
