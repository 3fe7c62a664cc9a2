//! The `lanyard` binary: runs the command line, and the registry for `serve`.

use std::{
    io::{Write, stderr},
    process::ExitCode,
};

use lanyard::{app, cli};

fn main() -> ExitCode {
    cli::run(std::env::args_os(), |loaded| match app::serve(loaded) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If standard error is closed, the exit code alone tells.
            let _ = writeln!(stderr(), "lanyard: {error}");
            ExitCode::from(error.exit_code())
        }
    })
}
