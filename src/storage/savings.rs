//! The account of savings, in a record beside the blobs: what clients of mirrored names were sent,
//! and what came from upstreams for it, by upstream and day.
//!
//! Promises: [`Files::note_savings`] is durable when it returns. A damaged record is reported in
//! the log and reads as absent: the account then begins anew. Callers: the verbs `savings` and
//! `note_savings`, for the administration's `Savings`, which alone gives the numbers a meaning.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Files, Storage, StorageError, durable, record};

/// Far above the record of a hundred upstreams that are used each day.
const MAX_BYTES: u64 = 16 << 20;

/// The account.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct SavingsRecord {
    /// When it was begun, in seconds since 1970.
    pub since: u64,
    /// By the upstream's name.
    pub upstreams: BTreeMap<String, UpstreamRecord>,
}

/// One upstream's part of it.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct UpstreamRecord {
    /// The sum of the days that are no longer told apart.
    pub earlier: Flow,
    /// By the day, as in `2026-03-02` (UTC). A day on which nothing passed is not there.
    pub days: BTreeMap<String, Flow>,
}

/// What passed in a time.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Flow {
    /// Body bytes that clients were sent, by the outcome's word.
    pub sent: BTreeMap<String, u64>,
    /// Body bytes that the upstream sent.
    pub received: u64,
    /// Manifests that clients were sent.
    pub pulls: u64,
}

impl Flow {
    /// Adds another one.
    pub fn add(&mut self, other: &Flow) {
        for (outcome, bytes) in &other.sent {
            let sum = self.sent.entry(outcome.clone()).or_default();
            *sum = sum.saturating_add(*bytes);
        }
        self.received = self.received.saturating_add(other.received);
        self.pulls = self.pulls.saturating_add(other.pulls);
    }

    /// Body bytes that clients were sent, whatever the outcome.
    pub fn all_sent(&self) -> u64 {
        self.sent.values().fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }

    /// Whether nothing passed.
    pub fn is_empty(&self) -> bool {
        self.all_sent() == 0 && self.received == 0 && self.pulls == 0
    }
}

impl Files {
    /// The account as it was last written; `None` if there is none.
    fn savings(&self) -> Result<Option<SavingsRecord>, StorageError> {
        let path = self.disk.layout.savings();
        let record = record::load_up_to(&path, MAX_BYTES)?;
        Ok(record.and_then(|record| record.inspect_err(|damage| record::report(&path, damage)).ok()))
    }

    fn note_savings(&self, savings: &SavingsRecord) -> Result<(), StorageError> {
        let _permission = self.disk.writing()?;
        let path = self.disk.layout.savings();
        let text = record::encode(savings).map_err(std::io::Error::other);
        text.and_then(|text| self.disk.temporaries.replace(&path, &text))
            .and_then(|()| durable::sync_dir(self.disk.layout.root()))
            .map_err(StorageError::io("writing", &path))
    }
}

impl Storage {
    /// The account of savings as it was last noted.
    ///
    /// # Errors
    /// The record cannot be read.
    pub async fn savings(&self) -> Result<Option<SavingsRecord>, StorageError> {
        self.read_with(Files::savings).await
    }

    /// Notes the account of savings, durably.
    ///
    /// # Errors
    /// The disk's.
    pub async fn note_savings(&self, savings: SavingsRecord) -> Result<(), StorageError> {
        self.write_with(move |files| files.note_savings(&savings)).await
    }
}
