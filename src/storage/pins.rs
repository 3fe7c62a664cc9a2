//! The pins: images that are never evicted, each a record in `pins/<namespace>/<repository>/`.
//!
//! A pin is of a tag, whatever the tag names, or of a digest. Promises: [`Pins::put`],
//! [`Pins::add`] and [`Pins::remove`] are durable when they return, and one change is made at a
//! time, so that none is lost. A pin that cannot be read is never taken for none: [`Pins::all`]
//! then names the repository of which nothing may go (K6), and the log says so once. A data folder
//! of an earlier lanyard has no pins and no folder of them. Callers: the verbs of `verbs/pins.rs`.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{StorageError, disk::Disk, durable, names, record};
use crate::oci::{Namespace, PlatformName, Reference, Repository};

/// An image that is kept on disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pin {
    /// The image's repository.
    pub repository: Repository,
    /// The tag that the pin follows, or the digest that it is fixed to.
    pub reference: Reference,
    /// The platforms that are kept of an index; empty: all of them.
    pub platforms: Vec<PlatformName>,
    /// Why it is pinned.
    pub why: PinReason,
    /// The operator's own words.
    pub note: String,
    /// Who pinned it.
    pub by: String,
    /// When, in seconds since 1970.
    pub at: u64,
}

impl Pin {
    /// This pin, and what another one of the same image keeps.
    fn with(self, other: Pin) -> Pin {
        let platforms = [self.platforms, other.platforms];
        // Without platforms it keeps all.
        let all = platforms.iter().any(Vec::is_empty);
        let mut platforms = if all { Vec::new() } else { platforms.concat() };
        platforms.sort_by_key(PlatformName::to_string);
        platforms.dedup();
        let note = if self.note.is_empty() { other.note } else { self.note };
        Pin { platforms, note, ..self }
    }
}

/// Why an image is pinned.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PinReason {
    /// An operator said so.
    Pinned,
    /// It was carried in as a file.
    Imported,
}

/// All pins.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct PinList {
    /// Those that can be read, in no order.
    pub pins: Vec<Pin>,
    /// What may have pins that cannot be read.
    pub untold: Vec<Untold>,
}

/// What may have pins that cannot be read, so that nothing of it may be evicted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Untold {
    /// Every repository.
    Everything,
    /// Every repository of the namespace.
    Namespace(Namespace),
    /// The repository.
    Repository(Repository),
}

/// A pin as its file has it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct PinRecord {
    /// As in [`names::whole_repository`].
    repository: String,
    reference: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    platforms: Vec<String>,
    why: PinReason,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    note: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    by: String,
    at: u64,
}

impl PinRecord {
    pub(super) fn of(pin: &Pin) -> PinRecord {
        PinRecord {
            repository: names::whole_repository(&pin.repository),
            reference: pin.reference.to_string(),
            platforms: pin.platforms.iter().map(PlatformName::to_string).collect(),
            why: pin.why,
            note: pin.note.clone(),
            by: pin.by.clone(),
            at: pin.at,
        }
    }

    /// The pin, if this is the record of that image.
    pub(super) fn pin(&self, repository: &Repository, reference: &Reference) -> Option<Pin> {
        let same = self.repository == names::whole_repository(repository) && self.reference == reference.to_string();
        let platforms = self.platforms.iter().map(|text| text.parse().ok()).collect::<Option<_>>()?;
        same.then(|| Pin {
            repository: repository.clone(),
            reference: reference.clone(),
            platforms,
            why: self.why,
            note: self.note.clone(),
            by: self.by.clone(),
            at: self.at,
        })
    }
}

/// The pins of a data folder.
#[derive(Debug)]
pub(crate) struct Pins {
    disk: Arc<Disk>,
    /// Held by a change, from the look at the pin that it changes on.
    changing: Mutex<()>,
    /// What the log has said to be unreadable.
    told: Mutex<HashSet<PathBuf>>,
}

impl Pins {
    pub(super) fn new(disk: Arc<Disk>) -> Pins {
        Pins { disk, changing: Mutex::default(), told: Mutex::default() }
    }

    /// Pins the image, durably, in the place of a pin that it may have.
    pub(crate) fn put(&self, pin: &Pin) -> Result<(), StorageError> {
        let _one = self.changing.lock();
        self.write(pin)
    }

    /// Pins the image, durably, and adds to a pin that it has: the platforms of both are kept, and
    /// its note stays. One that cannot be read may keep all platforms. Gives the pin as it is now.
    pub(crate) fn add(&self, pin: Pin) -> Result<Pin, StorageError> {
        let _one = self.changing.lock();
        let path = self.disk.layout.pin(&pin.repository, &pin.reference);
        let pin = match record::load::<PinRecord>(&path) {
            Ok(None) => pin,
            Ok(Some(Ok(record))) => match record.pin(&pin.repository, &pin.reference) {
                Some(before) => before.with(pin),
                None => Pin { platforms: Vec::new(), ..pin },
            },
            Ok(Some(Err(_))) | Err(_) => Pin { platforms: Vec::new(), ..pin },
        };
        self.write(&pin)?;
        Ok(pin)
    }

    fn write(&self, pin: &Pin) -> Result<(), StorageError> {
        let _change = self.disk.versions.pins_change();
        let _permission = self.disk.writing()?;
        let (folder, path) =
            (self.disk.layout.pinned(&pin.repository), self.disk.layout.pin(&pin.repository, &pin.reference));
        self.disk.folders.ensure(&folder).map_err(StorageError::io("creating", &folder))?;
        let text = record::encode(&PinRecord::of(pin)).map_err(io::Error::other);
        text.and_then(|text| self.disk.temporaries.replace(&path, &text))
            .and_then(|()| durable::sync_dir(&folder))
            .map_err(StorageError::io("writing", &path))
    }

    /// Removes a pin, durably, also one that cannot be read. Says whether it was there.
    pub(crate) fn remove(&self, repository: &Repository, reference: &Reference) -> Result<bool, StorageError> {
        let _one = self.changing.lock();
        let _change = self.disk.versions.pins_change();
        let _permission = self.disk.writing()?;
        let path = self.disk.layout.pin(repository, reference);
        let was_there = durable::remove(&path).map_err(StorageError::io("removing", &path))?;
        if was_there {
            let folder = self.disk.layout.pinned(repository);
            durable::sync_dir(&folder).map_err(StorageError::io("syncing", &folder))?;
        }
        Ok(was_there)
    }

    /// All pins, from their files.
    pub(crate) fn all(&self) -> PinList {
        let mut list = PinList::default();
        let root = self.disk.layout.pins();
        let Some(namespaces) = self.names_in(&root, names::parse_namespace) else {
            list.untold.push(Untold::Everything);
            return list;
        };
        for namespace in namespaces {
            let folder = root.join(names::namespace(&namespace));
            match self.names_in(&folder, names::parse_repository) {
                Some(repositories) => {
                    for name in repositories {
                        self.gather(Repository { namespace: namespace.clone(), name }, &mut list);
                    }
                }
                None => list.untold.push(Untold::Namespace(namespace)),
            }
        }
        list
    }

    /// The pins of a repository; `None`: one of them cannot be read.
    pub(crate) fn of(&self, repository: &Repository) -> Option<Vec<Pin>> {
        let mut list = PinList::default();
        self.gather(repository.clone(), &mut list);
        list.untold.is_empty().then_some(list.pins)
    }

    fn gather(&self, repository: Repository, list: &mut PinList) {
        let Some(references) = self.names_in(&self.disk.layout.pinned(&repository), names::parse_pin) else {
            list.untold.push(Untold::Repository(repository));
            return;
        };
        let mut untold = false;
        for reference in references {
            let path = self.disk.layout.pin(&repository, &reference);
            match record::load::<PinRecord>(&path) {
                // It was removed meanwhile.
                Ok(None) => {}
                Ok(Some(Ok(record))) => match record.pin(&repository, &reference) {
                    Some(pin) => {
                        self.told.lock().remove(&path);
                        list.pins.push(pin);
                    }
                    None => untold |= self.report(&path, &"it is the record of another image"),
                },
                Ok(Some(Err(damage))) => untold |= self.report(&path, &damage),
                Err(error) => untold |= self.report(&path, &error),
            }
        }
        if untold {
            list.untold.push(Untold::Repository(repository));
        }
    }

    /// The names in a folder that parse; none if it is not there, `None` if it cannot be listed.
    fn names_in<T>(&self, folder: &Path, parse: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
        let list = || -> io::Result<Vec<T>> {
            let mut found = Vec::new();
            for entry in fs::read_dir(folder)? {
                found.extend(entry?.file_name().to_str().and_then(&parse));
            }
            Ok(found)
        };
        match list() {
            Ok(found) => {
                self.told.lock().remove(folder);
                Some(found)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Vec::new()),
            Err(error) => {
                self.report(folder, &error);
                None
            }
        }
    }

    /// Says in the log, once, that a pin cannot be read. Always `true`.
    fn report(&self, path: &Path, why: &dyn std::fmt::Display) -> bool {
        if self.told.lock().insert(path.to_owned()) {
            let path = path.display();
            tracing::warn!(%path, %why, "a pin cannot be read: nothing that it may keep is evicted; pin it again, or run `lanyard check`");
        }
        true
    }
}
