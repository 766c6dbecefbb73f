//! The program `pilaster`: the server by Prometheus's flags, and a few commands.

mod allocator;

use std::process::ExitCode;

use pilaster_engine::{build, export, flags, import, logging, server, test_promql, tsdb};

/// Prometheus's code for a command line or a configuration that cannot be used.
const UNUSABLE: u8 = 2;

type Command = fn(&[&str]) -> ExitCode;

/// Commands by their first word; without one of these it is the server.
const COMMANDS: [(&str, Command); 4] =
    [("export", export::run), ("import", import::run), ("test", test_promql::run), ("tsdb", tsdb::run)];

/// The command that `words` begin with, and the words behind its name.
fn command<'w, 't>(words: &'w [&'t str]) -> Option<(Command, &'w [&'t str])> {
    let (name, rest) = words.split_first()?;
    let (_, run) = COMMANDS.iter().find(|(known, _)| known == name)?;
    Some((*run, rest))
}

fn main() -> ExitCode {
    allocator::give_memory_back();
    let words: Vec<String> = std::env::args().skip(1).collect();
    let plain: Vec<&str> = words.iter().map(String::as_str).collect();
    if let Some((run, rest)) = command(&plain) {
        return run(rest);
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
    match server::run(flags, allocator::thread_rests) {
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
