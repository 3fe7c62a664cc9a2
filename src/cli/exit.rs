//! How a command ends: its answer on standard output, its failure on standard error, and the exit
//! code. Called by every command. The codes are in the table of `mod.rs`.

use std::{
    io::{self, ErrorKind, Write, stderr, stdout},
    process::ExitCode,
};

/// The command failed.
pub(super) const FAILED: u8 = 1;
/// `EX_USAGE` of sysexits.h: the command or the configuration has to be changed.
pub(super) const USAGE: u8 = 64;
/// `EX_UNAVAILABLE` of sysexits.h: no lanyard runs that could do it.
pub(super) const UNAVAILABLE: u8 = 69;
/// `EX_IOERR` of sysexits.h: the answer cannot be written.
const OUTPUT: u8 = 74;
/// `EX_TEMPFAIL` of sysexits.h: the same command may work later.
pub(super) const SUSPENDED: u8 = 75;

/// Prints the answer. A reader that closes the pipe early, as `head` does, is no error.
pub(super) fn print(text: &str) -> ExitCode {
    let written: io::Result<()> = stdout().write_all(text.as_bytes()).and_then(|()| stdout().flush());
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            let _ = writeln!(stderr(), "lanyard: standard output cannot be written: {error}");
            ExitCode::from(OUTPUT)
        }
        Ok(()) | Err(_) => ExitCode::SUCCESS,
    }
}

/// Prints the failure and ends with [`USAGE`].
pub(super) fn fail(text: &str) -> ExitCode {
    fail_with(USAGE, text)
}

/// Prints the failure and ends with `code`. If standard error is closed, the exit code alone tells.
pub(super) fn fail_with(code: u8, text: &str) -> ExitCode {
    let _ = stderr().write_all(text.as_bytes());
    ExitCode::from(code)
}
