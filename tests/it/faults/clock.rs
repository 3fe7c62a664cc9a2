//! A clock that jumps: nothing expires, nothing is revalidated, nothing crashes.

use std::{fs, path::PathBuf};

use super::{
    figure, left_out, rounds,
    shelf::{cached, images, keep, list, pull},
};
use crate::{hub::Hub, lanyard::Lanyard, pull::config};

/// The clock of one lanyard, set by a test through libfaketime. The monotonic clock goes on, as on
/// a real machine.
pub(super) struct FakeClock(tempfile::NamedTempFile);

impl FakeClock {
    /// Starts a prepared lanyard under a clock that is right. None where there is no libfaketime.
    pub(super) fn start(lanyard: &mut Lanyard) -> Option<FakeClock> {
        let library = library()?;
        let clock = FakeClock(tempfile::NamedTempFile::new().unwrap());
        clock.set("+0d");
        let preload = format!("LD_PRELOAD={}", library.display());
        let file = format!("FAKETIME_TIMESTAMP_FILE={}", clock.0.path().display());
        lanyard.through(&["env", &preload, &file, "FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1"]);
        lanyard.restart();
        Some(clock)
    }

    /// Sets the clock off by this much: `+10d`.
    pub(super) fn set(&self, offset: &str) {
        fs::write(self.0.path(), offset).unwrap()
    }
}

fn library() -> Option<PathBuf> {
    let mut found = list("/usr/lib".as_ref()).into_iter().map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    let found = found.find(|path| path.is_file());
    if found.is_none() {
        left_out("libfaketime is not installed (Debian package faketime)");
    }
    found
}

/// Ten days forward and back, while lanyard runs and over restarts.
#[test]
fn a_clock_that_jumps_expires_nothing() {
    let hub = Hub::start();
    let mut lanyard = Lanyard::prepare(&config(&hub, "[cache]\nmin_free = \"0%\"\ntag_ttl = \"1h\"\n"));
    let Some(clock) = FakeClock::start(&mut lanyard) else { return };
    let kept = images(&hub, "kept", 4, &[1000, 300 << 10]);
    kept.iter().for_each(|image| keep(lanyard.port(), image));
    let jumps = ["+10d", "-10d", "+0d", "+3650d", "-20000d", "+0d"];
    for round in 0..rounds(12, 100) {
        let jump = jumps[round % jumps.len()];
        clock.set(jump);
        if round % 4 == 3 {
            if round % 8 == 3 {
                lanyard.kill9()
            } else {
                assert!(lanyard.stop().success())
            }
            lanyard.restart();
            // After a restart each tag is revalidated once.
            kept.iter().for_each(|image| drop(pull(lanyard.port(), image).unwrap()));
        }
        hub.reset_counts();
        for image in &kept {
            let outcomes = pull(lanyard.port(), image).unwrap_or_else(|error| panic!("after {jump}: {error}"));
            assert!(cached(&outcomes), "after {jump}: {outcomes:?}");
        }
        assert_eq!(hub.requests().len(), 0, "after {jump} upstream was asked: {:?}", hub.requests());
        let new = images(&hub, &format!("new{round}-"), 1, &[2000]).remove(0);
        keep(lanyard.port(), &new);
        assert!(hub.token_calls() <= 3, "a storm of {} tokens after {jump}", hub.token_calls());
    }
    assert!(lanyard.ended().is_none() && !lanyard.logs().contains("panicked at"), "a panic");
    figure("all jumps without a request too many");
}
