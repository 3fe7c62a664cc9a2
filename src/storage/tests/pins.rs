//! Pins on disk: durable, readable by `cat`, and never taken for none when they cannot be read.

use std::fs;

use super::{super::pins::Pins, *};
use crate::oci::Reference;

fn pin(name: &str, reference: &str) -> Pin {
    Pin {
        repository: repository(name),
        reference: reference.parse().unwrap(),
        platforms: vec!["linux/amd64".parse().unwrap()],
        why: PinReason::Pinned,
        note: "for \"ü\"".to_owned(),
        by: "ann".to_owned(),
        at: 1_700_000_000,
    }
}

fn sorted(pins: &Pins) -> Vec<Pin> {
    let PinList { mut pins, untold } = pins.all();
    assert_eq!(untold, []);
    pins.sort_by_key(|pin| (pin.repository.clone(), pin.reference.to_string()));
    pins
}

#[test]
fn a_pin_outlives_the_process_and_each_change_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let exact = digest(b"m").to_string();
    {
        let storage = open(dir.path());
        assert_eq!(sorted(&storage.pins), [], "a folder without pins has none");
        let before = storage.disk.versions.of_pins();
        storage.pins.put(&pin("a/b", "V1")).unwrap();
        storage.pins.put(&Pin { note: "first".to_owned(), ..pin("a/b", &exact) }).unwrap();
        storage.pins.put(&pin("a/b", &exact)).unwrap();
        storage.pins.put(&pin("con", &exact.replace(':', "-"))).unwrap();
        assert_eq!(storage.disk.versions.of_pins(), before + 4);
    }
    let storage = open(dir.path());
    let all = [pin("a/b", "V1"), pin("a/b", &exact), pin("con", &exact.replace(':', "-"))];
    assert_eq!(sorted(&storage.pins), all);
    let text = fs::read_to_string(dir.path().join("pins/docker.io/a+b/v1+1")).unwrap();
    assert!(text.contains(r#""repository":"docker.io/a+b","reference":"V1","platforms":["linux/amd64"]"#), "{text}");
    let tag: Reference = "V1".parse().unwrap();
    assert!(storage.pins.remove(&repository("a/b"), &tag).unwrap());
    assert!(!storage.pins.remove(&repository("a/b"), &tag).unwrap());
    assert!(!storage.pins.remove(&repository("nothing"), &tag).unwrap());
    assert_eq!(sorted(&storage.pins), all[1..]);
    storage.close();
    assert!(matches!(storage.pins.put(&pin("a", "b")), Err(StorageError::Closed)));
    assert_eq!(sorted(&storage.pins), all[1..], "a closed folder is still read");
}

/// A pull does so: what the pin kept stays, also where several pulls end together.
#[test]
fn a_pin_that_is_added_to_keeps_what_it_kept() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let add = |platforms: &[&str], note: &str| {
        let platforms = platforms.iter().map(|text| text.parse().unwrap()).collect();
        let by = "bob".to_owned();
        let pin = storage.pins.add(Pin { platforms, note: note.to_owned(), by, ..pin("a", "t") }).unwrap();
        assert_eq!(sorted(&storage.pins)[0], pin);
        (pin.platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "), pin.note, pin.by)
    };
    let told = |platforms: &str, note: &str| (platforms.to_owned(), note.to_owned(), "bob".to_owned());
    assert_eq!(add(&["linux/s390x"], ""), told("linux/s390x", ""));
    assert_eq!(add(&["linux/amd64", "linux/s390x"], "why"), told("linux/amd64 linux/s390x", "why"));
    assert_eq!(add(&["linux/amd64"], "other"), told("linux/amd64 linux/s390x", "why"));
    assert_eq!(add(&[], ""), told("", "why"), "without platforms it keeps all");
    assert_eq!(add(&["linux/amd64"], ""), told("", "why"));
    storage.pins.put(&pin("a", "t")).unwrap();
    assert_eq!(sorted(&storage.pins), [pin("a", "t")], "another pin stands in its place");

    let names: Vec<_> = (0..16).map(|n| format!("linux/a{n}")).collect();
    std::thread::scope(|scope| {
        for name in &names {
            let platforms = vec![name.parse().unwrap()];
            let pins = &storage.pins;
            scope.spawn(move || pins.add(Pin { platforms, ..pin("a", "t") }).unwrap());
        }
    });
    assert_eq!(sorted(&storage.pins)[0].platforms.len(), 17);
    // Nothing says what a damaged one kept.
    fs::write(dir.path().join("pins/docker.io/a/t"), "torn").unwrap();
    assert_eq!(add(&["linux/amd64"], ""), told("", ""));
}

/// K6: whichever byte of a pin is wrong, its repository is named, and the other pins are read.
#[test]
fn k6_a_pin_that_cannot_be_read_is_told_and_never_taken_for_none() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    storage.pins.put(&pin("a", "t")).unwrap();
    storage.pins.put(&pin("b", "t")).unwrap();
    let told = |untold: Untold| PinList { pins: vec![pin("b", "t")], untold: vec![untold] };
    let path = storage.disk.layout.pin(&repository("a"), &"t".parse().unwrap());
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut rotten = whole.clone();
        rotten[at] ^= 0x20;
        fs::write(&path, &rotten).unwrap();
        assert_eq!(storage.pins.all(), told(Untold::Repository(repository("a"))), "byte {at}");
        fs::write(&path, &whole[..at]).unwrap();
        assert_eq!(storage.pins.all(), told(Untold::Repository(repository("a"))), "cut at {at}");
    }
    let other = storage.disk.layout.pin(&repository("b"), &"t".parse().unwrap());
    fs::copy(other, &path).unwrap();
    assert_eq!(storage.pins.all(), told(Untold::Repository(repository("a"))), "the record of another image");
    storage.pins.put(&pin("a", "t")).unwrap();
    assert_eq!(sorted(&storage.pins).len(), 2, "pinned again it is good");
    // A folder that cannot be listed.
    let folder = storage.disk.layout.pinned(&repository("a"));
    fs::remove_dir_all(&folder).unwrap();
    fs::write(&folder, b"").unwrap();
    assert_eq!(storage.pins.all(), told(Untold::Repository(repository("a"))));
    let namespace = folder.parent().unwrap().to_owned();
    fs::remove_dir_all(&namespace).unwrap();
    fs::write(&namespace, b"").unwrap();
    let hub = repository("a").namespace;
    assert_eq!(storage.pins.all(), PinList { pins: vec![], untold: vec![Untold::Namespace(hub)] });
    fs::remove_dir_all(storage.disk.layout.pins()).unwrap();
    fs::write(storage.disk.layout.pins(), b"").unwrap();
    assert_eq!(storage.pins.all(), PinList { pins: vec![], untold: vec![Untold::Everything] });
}
