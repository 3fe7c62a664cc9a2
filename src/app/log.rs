//! The log: to standard error, for people or for machines, filtered by `RUST_LOG` where that is set.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// actix calls a stranger's malformed bytes an error, and says of its own start what the banner says better.
const QUIET: &str = "info,actix_http=off,actix_server=warn,sled=warn";

/// Begins logging. A second call, in tests, changes nothing.
pub(super) fn begin(log: Log) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(QUIET));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let begun = match log.format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    // An error means that a subscriber is there already, which is as good.
    drop(begun);
}
