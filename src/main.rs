//! The `lanyard` binary: the command line, with the registry behind its `serve`.

use std::{
    io::{Write, stderr},
    process::ExitCode,
};

use lanyard::{app, cli};

fn main() -> ExitCode {
    cli::run(std::env::args_os(), |loaded| match app::serve(loaded) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where standard error is closed there is nobody left to tell; the exit code still says it.
            let _ = writeln!(stderr(), "lanyard: {error}");
            ExitCode::from(error.exit_code())
        }
    })
}
