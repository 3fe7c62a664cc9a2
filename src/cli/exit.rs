//! How a command ends: its answer on standard output, its failure on standard error, and the exit
//! code. Called by every command. The codes are in the table of `mod.rs`.
//!
//! All that a command prints goes through here, because names, types and messages of upstreams come
//! from strangers: what a terminal would obey is escaped ([`printable`]). JSON keeps its meaning.
//! Only bars, prompts and the line of `check` that counts up are written elsewhere.

use std::{
    io::{self, ErrorKind, Write, stderr, stdout},
    process::ExitCode,
};

use crate::runtime::printable;

/// The command failed.
pub(super) const FAILED: u8 = 1;
/// `EX_USAGE` of sysexits.h: the command or the configuration has to be changed.
pub(super) const USAGE: u8 = 64;
/// `EX_UNAVAILABLE` of sysexits.h: no lanyard runs that could do it.
pub(super) const UNAVAILABLE: u8 = 69;
/// `EX_IOERR` of sysexits.h: the answer cannot be written.
const OUTPUT: u8 = 74;
/// The command was ended by Ctrl-C, as a shell says it.
pub(super) const INTERRUPTED: u8 = 130;
/// `EX_TEMPFAIL` of sysexits.h: the same command may work later.
pub(super) const SUSPENDED: u8 = 75;

/// Writes a part of the answer.
pub(super) fn put(text: &str) -> io::Result<()> {
    stdout().write_all(printable(text).as_bytes()).and_then(|()| stdout().flush())
}

/// Writes something beside the answer. If standard error is closed, the exit code alone tells.
pub(super) fn tell(text: &str) {
    let _ = stderr().write_all(printable(text).as_bytes());
}

/// Prints the answer. A reader that closes the pipe early, as `head` does, is no error.
pub(super) fn print(text: &str) -> ExitCode {
    match put(text) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => unwritten(&error),
        Ok(()) | Err(_) => ExitCode::SUCCESS,
    }
}

/// The answer cannot be written.
pub(super) fn unwritten(error: &io::Error) -> ExitCode {
    fail_with(OUTPUT, &format!("lanyard: standard output cannot be written: {error}\n"))
}

/// Prints the failure and ends with [`USAGE`].
pub(super) fn fail(text: &str) -> ExitCode {
    fail_with(USAGE, text)
}

/// Prints the failure and ends with `code`.
pub(super) fn fail_with(code: u8, text: &str) -> ExitCode {
    tell(text);
    ExitCode::from(code)
}
