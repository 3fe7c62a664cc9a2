//! `lanyard check`.

use std::process::ExitCode;

use clap::Args;

use super::Folder;

/// `lanyard check`
#[derive(Args, Debug)]
pub(super) struct Check {
    /// Repair what can be repaired
    #[arg(long)]
    repair: bool,
    #[command(flatten)]
    folder: Folder,
}

impl Check {
    pub(super) fn run(self) -> ExitCode {
        let _ = (self.repair, self.folder);
        ExitCode::SUCCESS
    }
}
