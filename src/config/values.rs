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

/// Where content lives for good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StorageKind {
    /// In files, in the data folder.
    Files,
    /// In a bucket of S3, or of what speaks like it.
    S3,
    /// In a container of Azure Blob.
    Azure,
    /// In a bucket of Google Cloud Storage.
    Gcs,
}

impl StorageKind {
    /// The kinds as they are written.
    pub(super) const WORDS: &[(&str, StorageKind)] = &[
        ("files", StorageKind::Files),
        ("s3", StorageKind::S3),
        ("azure", StorageKind::Azure),
        ("gcs", StorageKind::Gcs),
    ];

    /// As it is written.
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, kind)| *kind == self).map_or("", |(word, _)| word)
    }
}

/// Where the name of an S3 bucket stands in a URL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Addressing {
    /// In the host at AWS, in the path at an endpoint.
    Auto,
    /// `https://host/bucket/key`
    Path,
    /// `https://bucket.host/key`
    Host,
}

impl Addressing {
    /// The ways as they are written.
    pub(super) const WORDS: &[(&str, Addressing)] =
        &[("auto", Addressing::Auto), ("path", Addressing::Path), ("host", Addressing::Host)];
}

/// What S3 checks a body against.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Checksum {
    /// CRC-64/NVME over HTTPS to AWS, the signature elsewhere.
    Auto,
    /// The signature alone.
    None,
    /// SHA-256, as a header of its own.
    Sha256,
}

impl Checksum {
    /// The checksums as they are written.
    pub(super) const WORDS: &[(&str, Checksum)] =
        &[("auto", Checksum::Auto), ("none", Checksum::None), ("sha256", Checksum::Sha256)];
}

/// How S3 encrypts what it keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encryption {
    /// With a key of AWS KMS.
    Kms,
}

impl Encryption {
    /// The ways as they are written.
    pub(super) const WORDS: &[(&str, Encryption)] = &[("aws:kms", Encryption::Kms)];
}
