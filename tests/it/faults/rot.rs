//! Bits that flip in records: a damaged record counts as missing, never as another one.

use std::{fs, path::Path, time::Duration};

use super::{
    figure, long,
    plight::Plight,
    shelf::{blob_file, check_blobs, copy, fetch, images, keep, list, pull},
};
use crate::{
    hub::{Fault, Gate, Hub, On, digest_of},
    lanyard::Lanyard,
    pull::{config, mirror_with},
    wire::{Connection, blob, eventually, manifest, try_get},
};

/// Flips bits in every byte of `file` in turn, and calls `look` each time. Returns the number of
/// flips.
fn each_flip(file: &Path, mut look: impl FnMut(usize)) -> usize {
    let whole = fs::read(file).unwrap();
    let bits: &[u8] = if long() { &[1, 2, 4, 8, 16, 32, 64, 128, 255] } else { &[1] };
    let mut flips = 0;
    for at in 0..whole.len() {
        for bit in bits {
            let mut rotten = whole.clone();
            rotten[at] ^= bit;
            fs::write(file, rotten).unwrap();
            look(at);
            flips += 1;
        }
    }
    fs::write(file, whole).unwrap();
    flips
}

/// The tag's and the link's file, byte by byte. The disk is too small for an index, so every read
/// is of the file.
#[test]
fn rot_in_a_tag_or_a_link_is_never_another_answer() {
    let hub = Hub::start();
    let mut lanyard = Lanyard::prepare(&config(&hub, "[cache]\nmin_free = \"0%\"\n"));
    let Some(plight) = Plight::tmpfs(&mut lanyard, 32 << 20) else { return };
    lanyard.restart();
    let (image, other) = (images(&hub, "one", 1, &[500]).remove(0), images(&hub, "two", 1, &[600]).remove(0));
    keep(lanyard.port(), &image);
    keep(lanyard.port(), &other);
    hub.go_down();
    let repository = list(&plight.data().join("repos")).into_iter().flat_map(|folder| list(&folder)).next().unwrap();
    let by_tag = manifest(&image.repo, &image.tag);
    let mut flips = 0;
    for file in list(&repository.join("tags")).into_iter().chain(list(&repository.join("links"))) {
        let mut found = 0;
        flips += each_flip(&file, |at| {
            let answer = try_get(lanyard.port(), &by_tag).unwrap();
            if answer.status == 200 {
                assert_eq!(digest_of(&answer.body), image.digest, "byte {at} of {}", file.display());
                found += 1;
            }
            for digest in image.blobs() {
                let _ = fetch(lanyard.port(), &blob(&image.repo, digest), digest);
            }
        });
        if file.ends_with(&image.tag) {
            assert_eq!(found, 0, "a flipped bit in the tag's file went unnoticed");
        }
    }
    pull(lanyard.port(), &image).expect("it is whole again");
    assert!(lanyard.ended().is_none() && !lanyard.logs().contains("panicked at"));
    figure(&format!("{flips} flips in tags and links"));
}

/// The state of a parked download, byte by byte: the download is resumed rightly or begins again.
#[test]
fn rot_in_the_state_of_a_download_is_never_another_blob() {
    const SIZE: u64 = 600 << 10;
    let hub = Hub::start();
    let image = images(&hub, "half", 1, &[SIZE]).remove(0);
    let layer = image.layer(0).to_owned();
    let mut lanyard = mirror_with(&hub, "[cache]\nmin_free = \"0%\"\n");
    let gate = Gate::shut();
    hub.fault(On::blob(&layer), Fault::StallAt { bytes: SIZE / 2, gate: gate.clone() });
    let mut client = Connection::open(lanyard.port());
    client.request("GET", &blob(&image.repo, &layer), &[]);
    assert_eq!(client.head().unwrap().0, 200);
    assert_eq!(client.read_body(SIZE as usize / 2).len() as u64, SIZE / 2);
    assert!(gate.wait_for_arrivals(1, Duration::from_secs(60)));
    drop(client);
    assert!(lanyard.stop().success());
    gate.open();
    let data = lanyard.data_dir();
    let parked = list(&data.join("fills")).pop().expect("an orderly stop parks the download");
    let kept = tempfile::tempdir().unwrap();
    copy(&parked, kept.path());
    lanyard.restart();
    let state = kept.path().join("state");
    let flips = each_flip(&state, |at| {
        let _ = fs::remove_dir_all(&parked);
        let _ = fs::remove_file(blob_file(&data, &layer));
        copy(kept.path(), &parked);
        let outcome = fetch(lanyard.port(), &blob(&image.repo, &layer), &layer);
        // It may have joined the last moment of the previous fill, which does not know the parked
        // download.
        eventually("the parked download is taken up", || {
            fetch(lanyard.port(), &blob(&image.repo, &layer), &layer).is_ok() && list(&data.join("fills")).is_empty()
        });
        assert!(outcome.is_ok(), "byte {at}: {outcome:?}");
    });
    for cut in 0..fs::metadata(&state).unwrap().len() as usize {
        let _ = fs::remove_dir_all(&parked);
        let _ = fs::remove_file(blob_file(&data, &layer));
        copy(kept.path(), &parked);
        // The part itself, shorter than its state says or longer than the blob is.
        let part = fs::OpenOptions::new().write(true).open(parked.join("part")).unwrap();
        part.set_len(cut as u64 * 3000).unwrap();
        let outcome = fetch(lanyard.port(), &blob(&image.repo, &layer), &layer);
        // It may have joined the last moment of the previous fill, which does not know the parked
        // download.
        eventually("the parked download is taken up", || {
            fetch(lanyard.port(), &blob(&image.repo, &layer), &layer).is_ok() && list(&data.join("fills")).is_empty()
        });
        // The proof finds bytes that were never written at the end: an honest error, once.
        let grown = cut as u64 * 3000 > SIZE / 2;
        assert!(outcome.is_ok() || grown, "a part of {} bytes: {outcome:?}", cut * 3000);
        eventually("the next one has it", || fetch(lanyard.port(), &blob(&image.repo, &layer), &layer).is_ok());
        eventually("the download is over", || list(&data.join("fills")).is_empty());
        if !long() && cut > 60 {
            break;
        }
    }
    check_blobs(&data);
    assert!(!lanyard.logs().contains("panicked at"));
    figure(&format!("{flips} flips in the state of a download"));
}
