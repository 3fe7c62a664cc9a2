//! `lanyard config check --reach`: a line for each thing that the object store was asked for.
//!
//! Ends well if the store can do all that lanyard needs, or if there is none; else with exit code
//! 1.

use std::{fmt::Write as _, process::ExitCode};

use super::exit::{FAILED, fail_with, print};
use crate::{
    app::{self, FarOpenError},
    config::Config,
};

/// Asks, and prints what came of it.
pub(super) fn run(config: &Config) -> ExitCode {
    match app::reach(config) {
        Ok((name, reach)) => {
            let mut text = format!("The object store {name}:\n");
            for finding in &reach.findings {
                let _ = writeln!(text, "  {finding}");
            }
            let printed = print(&text);
            if reach.is_good() { printed } else { ExitCode::from(FAILED) }
        }
        Err(FarOpenError::Files) => print("There is no object store to reach: storage.kind is \"files\".\n"),
        Err(error) => fail_with(FAILED, &format!("lanyard: {error}\n")),
    }
}
