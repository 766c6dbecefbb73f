//! The program `pilaster`: the server by Prometheus's flags, and a few commands.

use std::process::ExitCode;

use pilaster_engine::{build, flags, logging, server, test_promql};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Prometheus's code for a command line or a configuration that cannot be used.
const UNUSABLE: u8 = 2;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let ["test", "promql", rest @ ..] = words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        return test_promql::run(rest);
    }
    if words.first().is_some_and(|word| word == "test") {
        eprintln!("pilaster: error: expected command \"test promql\", try --help");
        return ExitCode::from(UNUSABLE);
    }
    let flags = match flags::parse(&words) {
        Ok(flags::Command::Serve(flags)) => *flags,
        Ok(flags::Command::Help) => {
            print!("{}", flags::help());
            return ExitCode::SUCCESS;
        }
        Ok(flags::Command::Version) => {
            println!("{}", build::describe());
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("Error parsing command line arguments: {error}\npilaster: error: {error}, try --help");
            return ExitCode::from(UNUSABLE);
        }
    };
    let format = if flags.get("log.format") == "json" { logging::Format::Json } else { logging::Format::Logfmt };
    logging::start(flags.get("log.level"), format);
    match server::run(flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            match error {
                server::ServerError::Flags(_) | server::ServerError::Config { .. } => ExitCode::from(UNUSABLE),
                server::ServerError::Listen { .. }
                | server::ServerError::Storage(_)
                | server::ServerError::Start(_) => ExitCode::FAILURE,
            }
        }
    }
}
