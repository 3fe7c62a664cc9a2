//! Measurements, run by hand: `cargo test --release --lib storage::tests::measured -- --ignored
//! --nocapture`

use std::{fs, time::Instant};

use super::*;
use crate::storage::index::Entry;

const MIB: usize = 1 << 20;

#[test]
#[ignore = "a measurement"]
fn throughput() {
    let dir = tempfile::tempdir_in(".").unwrap();
    let storage = open(dir.path());
    let piece = content(MIB);
    let started = Instant::now();
    let mut hasher = Hasher::new(Algorithm::Sha256);
    for _ in 0..1024 {
        hasher.update(&piece);
    }
    let name = hasher.finish();
    println!("1 GiB: hash alone {:.2} s", started.elapsed().as_secs_f64());
    let started = Instant::now();
    let mut plain = tempfile::tempfile_in(".").unwrap();
    for _ in 0..1024 {
        std::io::Write::write_all(&mut plain, &piece).unwrap();
    }
    let write = started.elapsed().as_secs_f64();
    plain.sync_data().unwrap();
    println!("1 GiB: write alone {write:.2} s, synced {:.2} s", started.elapsed().as_secs_f64());
    for size in [16 * 1024, MIB] {
        let started = Instant::now();
        let mut part = storage.downloads.open(name, Some(1 << 30)).unwrap();
        for _ in 0..1024 {
            for bytes in piece.chunks(size) {
                part.append(batch(bytes)).unwrap();
            }
        }
        let append = started.elapsed().as_secs_f64();
        assert!(part.verify().unwrap());
        part.commit().unwrap();
        println!("1 GiB by {size}: append {append:.2} s, committed {:.2} s", started.elapsed().as_secs_f64());
        storage.blobs.quarantine(&name).unwrap();
    }
}

#[test]
#[ignore = "a measurement"]
fn rebuild() {
    let dir = tempfile::tempdir_in(".").unwrap();
    drop(open(dir.path()));
    for n in 0..1000_u32 {
        let repository = repository(&format!("r{n}"));
        let layout = Layout::new(dir.path());
        fs::create_dir_all(layout.tags(&repository)).unwrap();
        fs::create_dir_all(layout.links(&repository)).unwrap();
        for m in 0..100_u32 {
            let record = link_record(&[n.to_le_bytes(), m.to_le_bytes()].concat());
            fs::write(layout.link(&repository, &record.digest), record::encode(&record).unwrap()).unwrap();
            if m < 10 {
                let record = tag_record(&format!("v{m}"), b"x");
                fs::write(layout.tag(&repository, &record.tag), record::encode(&record).unwrap()).unwrap();
            }
        }
    }
    let started = Instant::now();
    let storage = open(dir.path());
    println!("open {:.4} s", started.elapsed().as_secs_f64());
    while !storage.index_is_ready() {
        std::thread::sleep(Duration::from_millis(5));
    }
    println!("100,000 links and 10,000 tags: rebuilt in {:.2} s", started.elapsed().as_secs_f64());
    let repository = repository("r7");
    for (how, storage) in [("index", &storage), ("files", &storage)] {
        if how == "files" {
            storage.close();
        }
        let started = Instant::now();
        for _ in 0..10_000 {
            assert!(storage.catalog.tag(&repository, &tag("v3")).unwrap().is_some());
        }
        println!("a tag from the {how}: {:.1} us", started.elapsed().as_secs_f64() * 100.0);
    }
}

#[test]
#[ignore = "a measurement"]
fn residents() {
    const BLOBS: u32 = 1_000_000;
    let dir = tempfile::tempdir_in(".").unwrap();
    let storage = open_ready(dir.path());
    for chunk in (0..BLOBS).collect::<Vec<_>>().chunks(4096) {
        let entry = |n: &u32| Entry::blob(&digest(&n.to_le_bytes()), BlobUse::new(u64::from(*n), 1_700_000_000));
        storage.disk.index.feed(chunk.iter().map(entry).collect()).recv().unwrap();
    }
    scan(&storage, "from the index", BLOBS);
    storage.disk.index.close();
    for n in 0..BLOBS / 10 {
        let path = storage.disk.layout.blob(&digest(&n.to_le_bytes()));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, []).unwrap();
    }
    scan(&storage, "from files", BLOBS / 10);
}

fn scan(storage: &Files, how: &str, expected: u32) {
    for _ in 0..3 {
        let (started, mut blobs) = (Instant::now(), 0);
        storage.blobs.uses(|_, _| blobs += 1).unwrap();
        assert_eq!(blobs, expected);
        println!("{blobs} blobs {how}: {:.2} s", started.elapsed().as_secs_f64());
    }
}
