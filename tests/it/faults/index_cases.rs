//! Ways to damage a file.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

/// Damage to a whole file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Damage {
    /// It is removed.
    Gone,
    /// It has no bytes.
    Empty,
    /// Its bytes are replaced.
    Rubbish,
    /// There is a folder in its place.
    Folder,
}

impl Damage {
    pub(super) fn apply(self, file: &Path) {
        match self {
            Damage::Gone => fs::remove_file(file).unwrap(),
            Damage::Empty => fs::write(file, b"").unwrap(),
            Damage::Rubbish => fs::write(file, vec![0xa5; 4096]).unwrap(),
            Damage::Folder => {
                fs::remove_file(file).unwrap();
                fs::create_dir(file).unwrap();
            }
        }
    }
}

/// Flips a bit in one of the files, or cuts it, at a place that the number chooses. Returns the
/// damage in words.
pub(super) fn damage(files: &[PathBuf], number: usize) -> String {
    let path = &files[number % files.len()];
    let turn = number / files.len();
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let length = file.metadata().unwrap().len();
    let used = used(path, length);
    let place = (turn as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) % used.max(1);
    if turn % 3 == 2 {
        file.set_len(place).unwrap();
        return format!("{} cut to {place} of {length} bytes", path.display());
    }
    let mut byte = [0];
    if length > 0 {
        file.read_exact_at(&mut byte, place).unwrap();
        byte[0] ^= 1 << (turn % 8);
        file.write_all_at(&byte, place).unwrap();
    }
    format!("bit {} of byte {place} of {} flipped", turn % 8, path.display())
}

/// The offset of the last byte that is not zero: behind it there is nothing to damage.
fn used(path: &Path, length: u64) -> u64 {
    let bytes = fs::read(path).unwrap();
    bytes.iter().rposition(|byte| *byte != 0).map_or(length, |at| at as u64 + 1)
}
