//! The program `pilaster`.

use std::process::ExitCode;

use pilaster_engine::test_promql;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let ["test", "promql", rest @ ..] = words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        return test_promql::run(rest);
    }
    eprintln!("pilaster: error: expected command \"test promql\"");
    ExitCode::from(2)
}
