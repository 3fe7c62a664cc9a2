//! K6: a cache in which all content is pinned; a pin that is damaged, and a manifest of a pinned
//! image that is rotten.

use std::{fs, path::Path, thread, time::Instant};

use super::{
    KIB, MIB, REPO, WAIT, cap, contents, evicted, fetch, folder, give_order, here, hub, keep_image, names, pin, told,
};
use crate::{
    admin::command,
    cli::stdout,
    faults::{
        figure, rounds,
        shelf::{blob_file, check_blobs},
    },
    hub::{Hub, Image},
    lanyard::Lanyard,
    pull::config,
    wire::eventually,
};

/// Clients that come at once.
const CLIENTS: usize = 10;

/// K6, K9: everything that is here is pinned. New content is passed through, nothing goes, no
/// client sees an error or waits long, and `lanyard status` says why.
#[test]
fn k6_a_cache_full_of_pinned_content_passes_the_rest_through() {
    let hub = hub();
    let lanyard = Lanyard::start(&config(&hub, &cap("2 MiB")));
    let image = hub.image(REPO, "kept").layer(900 << 10).layer(900 << 10).publish();
    keep_image(&lanyard, &image);
    let data = lanyard.data_dir();
    assert_eq!(pin(&data, ":kept"), Some(true));
    let layers: Vec<_> = image.blobs().into_iter().map(str::to_owned).collect();
    let news = contents(&hub, 0..rounds(20, 200), 450 * KIB);
    let clients: Vec<_> = news.chunks(news.len().div_ceil(CLIENTS)).collect();
    let began = Instant::now();
    let slowest = thread::scope(|scope| {
        let client = |names: &[String]| {
            let took = names.iter().map(|name| {
                let began = Instant::now();
                assert_eq!(fetch(&lanyard, name).map(drop), Ok(()));
                began.elapsed()
            });
            took.max().unwrap()
        };
        let clients: Vec<_> = clients.iter().map(|names| scope.spawn(move || client(names))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).max().unwrap()
    });
    figure(&format!("{} contents in {:?}, the slowest in {slowest:?}", news.len(), began.elapsed()));
    assert!(slowest < WAIT, "{slowest:?}");
    assert_eq!((evicted(&lanyard), here(&lanyard, &news)), (0, Vec::new()));
    assert_eq!(here(&lanyard, &layers).len(), layers.len(), "what is pinned stays");
    let status = told(&data, "/api/v1/status")["cache"].clone();
    assert_eq!(status["eviction"]["in_vain"], true, "{status}");
    let text = stdout(&command(&lanyard, &["status"]));
    assert!(text.contains("found no room") && text.contains("nothing could go: all is pinned"), "{text}");
    // When it is not pinned any more, it makes room.
    assert_eq!(give_order(&data, "DELETE", "/api/v1/pins/busybox:kept").unwrap().status, 200);
    keep_one(&lanyard, &news[0]);
    assert_eq!(told(&data, "/api/v1/status")["cache"]["eviction"]["in_vain"], false);
}

fn keep_one(lanyard: &Lanyard, name: &str) {
    eventually("new content is kept", || {
        fetch(lanyard, name).unwrap();
        blob_file(&lanyard.data_dir(), name).exists()
    });
}

/// Flips one bit of a file, and leaves its times as they are.
fn flip(path: &Path, at: usize) {
    let times = fs::metadata(path).unwrap();
    let mut bytes = fs::read(path).unwrap();
    let at = at % (bytes.len() * 8);
    bytes[at / 8] ^= 1 << (at % 8);
    fs::write(path, bytes).unwrap();
    let times = fs::FileTimes::new().set_accessed(times.accessed().unwrap()).set_modified(times.modified().unwrap());
    fs::File::open(path).unwrap().set_times(times).unwrap();
}

const SICK: &str = "library/sick";

/// Two images of one repository, of which one is pinned.
fn two(hub: &Hub) -> [Image; 2] {
    [1, 2].map(|n| hub.image(SICK, &format!("{n}")).layer(200_000 + n).layer(3000).publish())
}

/// K6: one flipped bit in the record of a pin, or in the manifest of a pinned image. Neither an
/// eviction nor a trim takes anything of its repository, and `rm` removes nothing of it; other
/// repositories make room. When the damage is mended, its other image goes again.
#[test]
fn k6_one_flipped_bit_in_a_pin_or_a_manifest_keeps_all_of_its_repository() {
    let hub = hub();
    let images = two(&hub);
    let mut lanyard = Lanyard::start(&config(&hub, &cap("2 MiB")));
    let data = lanyard.data_dir();
    let parts: Vec<_> = images.iter().flat_map(|image| image.blobs()).map(str::to_owned).collect();
    // Other content, of which more comes than fits.
    let news = contents(&hub, 0..12, 400 * KIB);
    let count = rounds(4, 200);
    for round in 0..count {
        images.iter().for_each(|image| keep_image(&lanyard, image));
        assert_eq!(give_order(&data, "PUT", "/api/v1/pins/library/sick:1").unwrap().status, 200);
        lanyard.stop();
        let manifest = blob_file(&data, &images[0].digest);
        let path = if round % 2 == 0 { data.join("pins/docker.io/library+sick/1") } else { manifest };
        let good = fs::read(&path).unwrap();
        // Each byte has its turn, and each bit of it.
        flip(&path, round / 2 * 8 * 7 + round % 8);
        let point = format!("round {round}, {}", path.display());
        lanyard.restart();
        let before = files_of(&data);
        let went = evicted(&lanyard);
        for n in 0..6 {
            keep_one(&lanyard, &news[(round * 6 + n) % news.len()]);
        }
        eventually(&format!("{point}: all else is trimmed"), || {
            give_order(&data, "POST", "/api/v1/trim?to=0").unwrap();
            here(&lanyard, &news).is_empty()
        });
        assert!(evicted(&lanyard) >= went + 6 * 400 * KIB as u64, "{point}");
        for query in ["image=sick:2", "image=sick:2&bytes_only=true", "image=sick:1"] {
            let refused = give_order(&data, "POST", &format!("/api/v1/rm?{query}")).unwrap().json();
            assert!(refused["images"][0]["error"].is_string(), "{point}: {query}: {refused}");
            assert_eq!((&refused["links"], &refused["blobs"]), (&0.into(), &0.into()), "{point}: {refused}");
        }
        assert_eq!(here(&lanyard, &parts).len(), parts.len(), "{point}: a part is gone");
        assert_eq!(files_of(&data), before, "{point}: a tag or a link is gone");
        assert!(lanyard.logs().contains("nothing of its repository is evicted"), "{point}: the log says nothing");
        lanyard.stop();
        fs::write(&path, &good).unwrap();
        lanyard.restart();
        eventually(&format!("{point}: what is not pinned goes again"), || {
            give_order(&data, "POST", "/api/v1/trim?to=0").unwrap();
            here(&lanyard, &parts).len() == images[0].blobs().len()
        });
        check_blobs(&data);
    }
    assert!(!lanyard.logs().contains("panicked at"), "a panic");
    figure(&format!("{count} flips: nothing of the repository went, {} MiB of others", count * 6 * 400 * KIB / MIB));
}

/// The files of the repository's tags and links.
fn files_of(data: &Path) -> [std::collections::BTreeSet<String>; 2] {
    ["tags", "links"].map(|kind| names(&folder(data, SICK).join(kind)))
}
