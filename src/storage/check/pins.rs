//! The check of the pins.
//!
//! Promises: a repair writes a damaged pin anew for all platforms, since its file's name says which
//! image it keeps; it never loses one. Callers: `check/mod.rs`.

use std::{fs, io, path::Path};

use super::{
    CheckReport, Checker,
    records::{Examined, examine},
};
use crate::{
    oci::{Reference, Repository},
    runtime::clock,
    storage::{
        StorageError, durable, names,
        pins::{Pin, PinReason, PinRecord},
    },
};

impl Checker<'_> {
    /// Reads every pin, and mends those that are damaged if this is a repair.
    pub(super) fn pins(&self, report: &mut CheckReport) -> Result<(), StorageError> {
        let root = self.disk.layout.pins();
        for namespace in folders(&root, names::parse_namespace, report)? {
            for name in folders(&root.join(names::namespace(&namespace)), names::parse_repository, report)? {
                self.pins_of(&Repository { namespace: namespace.clone(), name }, report)?;
            }
        }
        Ok(())
    }

    fn pins_of(&self, repository: &Repository, report: &mut CheckReport) -> Result<(), StorageError> {
        let folder = self.disk.layout.pinned(repository);
        let is_of = |record: &PinRecord, reference: &Reference| record.pin(repository, reference).is_some();
        for Examined { key, path, record } in examine(&folder, names::parse_pin, is_of, report)? {
            if let Err(bad) = record {
                let renewed = PinRecord::of(&renewed(repository, key));
                self.mend(path, &bad, Some(&renewed), report)?;
            }
        }
        if self.options.repair {
            durable::sync_dir(&folder).map_err(StorageError::io("syncing", &folder))?;
        }
        Ok(())
    }
}

/// A new pin for one that is damaged.
fn renewed(repository: &Repository, reference: Reference) -> Pin {
    Pin {
        repository: repository.clone(),
        reference,
        platforms: Vec::new(),
        why: PinReason::Pinned,
        note: "written anew by lanyard check: the record was damaged".to_owned(),
        by: String::new(),
        at: clock::now(),
    }
}

/// The names of the folders in a folder; other entries are strays.
fn folders<T>(
    folder: &Path,
    parse: impl Fn(&str) -> Option<T>,
    report: &mut CheckReport,
) -> Result<Vec<T>, StorageError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(StorageError::io("listing", folder))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(StorageError::io("listing", folder))?;
        let parsed = entry.file_name().to_str().and_then(&parse).filter(|_| entry.path().is_dir());
        match parsed {
            Some(parsed) => found.push(parsed),
            None => report.strays.push(entry.path()),
        }
    }
    Ok(found)
}
