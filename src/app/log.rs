//! The log: to standard error, as text or as JSON, filtered by `RUST_LOG` if that is set. Begun
//! once, by [`super::serve`].

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;

use crate::{
    config::{Log, LogFormat},
    runtime::PrintableLines,
};

/// The filter without `RUST_LOG`. actix logs the malformed bytes of any client as an error, and its
/// own start, which the banner tells better.
const QUIET: &str = "info,actix_http=off,actix_server=warn,sled=warn";

/// Begins logging. A second call, in tests, changes nothing.
pub(super) fn begin(log: Log) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(QUIET));
    let colours = log.format == LogFormat::Text && io::stderr().is_terminal();
    // Texts of strangers are in many fields. tracing escapes the beginning of a colour in them, and
    // the writer the rest that a terminal would obey.
    let writer = move || PrintableLines::new(io::stderr(), colours);
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let begun = match log.format {
        LogFormat::Text => lines.with_ansi(colours).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    // An error means that a subscriber is set already.
    drop(begun);
}
