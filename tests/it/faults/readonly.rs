//! A file system that turns read-only under a running server, and a start on one.

use super::{
    figure,
    plight::Plight,
    rounds,
    shelf::{cached, check_blobs, images, keep, pull},
};
use crate::{
    hub::Hub,
    lanyard::Lanyard,
    pull::config,
    wire::{eventually, get, manifest},
};

/// ext4 after its first error: writes fail, reads go on. Stored content is served, and other
/// content is passed through.
#[test]
fn a_disk_that_turns_read_only_goes_on_serving() {
    let hub = Hub::start();
    let mut lanyard = Lanyard::prepare(&config(&hub, "[cache]\nmin_free = \"0%\"\n"));
    let Some(plight) = Plight::ext4(&mut lanyard, 192 << 20) else { return };
    lanyard.restart();
    let kept = images(&hub, "kept", 4, &[100 << 10, 1 << 20]);
    kept.iter().for_each(|image| keep(lanyard.port(), image));
    assert!(cached(&pull(lanyard.port(), &kept[0]).unwrap()));
    // A client is served before the download is recorded.
    let idle = || get(lanyard.port(), "/metrics").text().contains("\nlanyard_fills_active 0\n");
    eventually("all of it is recorded", idle);
    turn_read_only(&plight);

    let count = rounds(10, 50);
    for (round, image) in images(&hub, "new", count, &[150 << 10, 1 << 20]).iter().enumerate() {
        pull(lanyard.port(), image).unwrap_or_else(|error| panic!("a miss in round {round}: {error}"));
        let outcomes = pull(lanyard.port(), &kept[round % 4]).unwrap();
        assert!(cached(&outcomes), "{outcomes:?}");
    }
    lanyard.kill9();
    lanyard.restart();
    for image in &kept {
        assert!(cached(&pull(lanyard.port(), image).unwrap()));
    }
    let late = images(&hub, "late", 1, &[1 << 20]).remove(0);
    pull(lanyard.port(), &late).unwrap();
    hub.go_down();
    for image in &kept {
        assert!(cached(&pull(lanyard.port(), image).unwrap()), "offline, on a read-only disk");
    }
    lanyard.stop();
    assert!(!lanyard.logs().contains("panicked at"));
    figure(&format!("{count} misses passed through, {} blobs right", check_blobs(&plight.data())));
}

/// A folder on a file system that was mounted read-only from the start.
#[test]
fn starts_on_a_read_only_folder_that_has_data() {
    let hub = Hub::start();
    let mut lanyard = Lanyard::prepare(&config(&hub, "[cache]\nmin_free = \"0%\"\n"));
    let Some(plight) = Plight::tmpfs(&mut lanyard, 96 << 20) else { return };
    lanyard.restart();
    let kept = images(&hub, "kept", 1, &[1 << 20]).remove(0);
    keep(lanyard.port(), &kept);
    lanyard.stop();
    plight.must(&format!("mount -o remount,ro {}", plight.inside()));
    lanyard.restart();
    assert!(cached(&pull(lanyard.port(), &kept).unwrap()));
    pull(lanyard.port(), &images(&hub, "new", 1, &[300 << 10])[0]).unwrap();
    assert_eq!(get(lanyard.port(), "/livez").status, 200);
    assert!(lanyard.stop().success());
}

/// A tag that moved while nothing could be stored: every client gets its new manifest, not only the
/// first.
#[test]
fn a_tag_that_moves_on_a_read_only_disk_moves_for_everybody() {
    let hub = Hub::start();
    let mut lanyard = Lanyard::prepare(&config(&hub, "[cache]\nmin_free = \"0%\"\ntag_ttl = \"2s\"\n"));
    let Some(plight) = Plight::tmpfs(&mut lanyard, 96 << 20) else { return };
    lanyard.restart();
    let old = images(&hub, "old", 1, &[1000]).remove(0);
    let here = images(&hub, "here", 1, &[2000]).remove(0);
    let elsewhere = images(&hub, "elsewhere", 1, &[3000]).remove(0);
    hub.move_tag(&old.repo, "latest", &old.digest);
    let path = manifest(&old.repo, "latest");
    let now = || get(lanyard.port(), &path).header("docker-content-digest").unwrap_or_default().to_owned();
    assert_eq!(now(), old.digest);
    keep(lanyard.port(), &here);
    lanyard.stop();
    plight.must(&format!("mount -o remount,ro {}", plight.inside()));
    lanyard.restart();
    let now = || get(lanyard.port(), &path).header("docker-content-digest").unwrap_or_default().to_owned();
    for (what, moved) in [("is here", &here), ("has to be fetched", &elsewhere)] {
        hub.move_tag(&old.repo, "latest", &moved.digest);
        eventually(&format!("the tag that moved to what {what} has moved"), || now() == moved.digest);
        for _ in 0..5 {
            assert_eq!(now(), moved.digest, "it {what}");
        }
    }
}

/// Does to the file system what the kernel does when it finds an error in it.
fn turn_read_only(plight: &Plight) {
    let folder = plight.inside();
    plight.must(&format!(
        "echo lanyard > /sys/fs/ext4/$(basename $(findmnt -n -o SOURCE --target {folder}))/trigger_fs_error"
    ));
    let touched = plight.run(&format!("touch {folder}/probe"));
    assert!(!touched.status.success(), "the file system is still writable");
}
