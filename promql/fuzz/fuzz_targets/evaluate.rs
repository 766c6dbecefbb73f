//! Any short query, evaluated.

#![no_main]

mod check_evaluation;

use libfuzzer_sys::fuzz_target;

/// Longer ones find nothing more, only slower.
const MOST_BYTES: usize = 300;

fuzz_target!(|query: &str| {
    if query.len() <= MOST_BYTES {
        check_evaluation::check_evaluation(query);
    }
});
