//! Types of single values of the configuration, and the words for them in the file. `parse/` makes
//! them.

/// When upstreams are asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// When needed. Stored content is served if they do not answer.
    Auto,
    /// When needed. If they cannot be reached, a stale tag is an error.
    Online,
    /// Never: no upstream connection is ever opened.
    Offline,
}

impl Mode {
    /// The modes as they are written.
    pub(super) const WORDS: &[(&str, Mode)] =
        &[("auto", Mode::Auto), ("online", Mode::Online), ("offline", Mode::Offline)];
}

/// A share of the disk, or bytes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum MinFree {
    /// Percent of the file system's size, 0 to 100.
    Percent(f64),
    /// Bytes.
    Bytes(u64),
}

/// The bound of the cache: a share of the disk, or bytes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum MaxSize {
    /// Percent of the file system's size, above 0 to 100.
    Percent(f64),
    /// Bytes, at least one.
    Bytes(u64),
}

impl MaxSize {
    /// The bound in bytes, on a disk of so many.
    pub fn of(self, disk: u64) -> u64 {
        match self {
            MaxSize::Bytes(bytes) => bytes,
            // A float is exact enough for a share of a disk, and `as` saturates.
            MaxSize::Percent(share) => (disk as f64 * share / 100.0) as u64,
        }
    }
}

/// The format of log lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// One line for a person.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// The formats as they are written.
    pub(super) const WORDS: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];
}
