//! S31, the second look: rot reaches a client at most once. A client that was given a whole blob
//! and asks again is given the right bytes, fetched again, or a 404 where the blob was pushed;
//! never the wrong bytes twice.

use std::{fs, io::Write as _, net::TcpStream, os::unix::fs::FileExt as _, path::Path, time::Duration};

use super::{
    figure, rounds,
    shelf::{blob_file, check_blobs, images, keep},
};
use crate::{
    hub::{Hub, digest_of},
    lanyard::Lanyard,
    pull::mirror,
    push::{OCI_IMAGE, Pusher, image},
    wire::{Answer, Connection, ask, blob, eventually, get, head, manifest},
};

/// Flips one bit in place: the file keeps its inode, its length, and, as on a disk that rots, its
/// times.
fn flip(data: &Path, digest: &str, at: u64) {
    let file = fs::File::options().read(true).write(true).open(blob_file(data, digest)).unwrap();
    let times = file.metadata().unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ (1 << (at % 8))], at).unwrap();
    file.set_modified(times.modified().unwrap()).unwrap();
}

/// The value of a series of the metrics; 0 where it does not exist.
pub(crate) fn series(lanyard: &Lanyard, name: &str) -> u64 {
    let text = get(lanyard.port(), "/metrics").text();
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0)
}

fn rotten(lanyard: &Lanyard, what: &str) -> u64 {
    series(lanyard, &format!("lanyard_rotten_total{{what=\"{what}\",by=\"second_look\"}}"))
}

fn content(size: usize, seed: usize) -> Vec<u8> {
    (0..size).map(|at| (at.wrapping_mul(31) ^ (at >> 8) ^ seed) as u8).chain((seed as u64).to_le_bytes()).collect()
}

/// Whether the answer has all the bytes, and the right ones.
fn is_right(answer: &Answer, digest: &str) -> bool {
    answer.status == 200 && answer.looks_complete() && digest_of(&answer.body) == digest
}

/// One flipped bit in each of many cached blobs, at every kind of place. Each is pulled twice by
/// one address.
#[test]
fn s31_the_second_pull_of_rotten_cached_content_is_right() {
    const EACH: usize = 20;
    let hub = Hub::start();
    let count = rounds(60, 1000);
    let images: Vec<_> = (0..count.div_ceil(EACH))
        .map(|n| {
            images(&hub, &format!("i{n}"), 1, &(0..EACH as u64).map(|m| 1 + m * 4099 + n as u64).collect::<Vec<_>>())
                .remove(0)
        })
        .collect();
    let mut lanyard = mirror(&hub);
    images.iter().for_each(|image| keep(lanyard.port(), image));
    // Forgets which client has which blob.
    lanyard.restart();
    let data = lanyard.data_dir();
    let layers: Vec<_> = images.iter().flat_map(|image| (0..EACH).map(|at| image.layer(at).to_owned())).collect();
    for (n, layer) in layers.iter().enumerate() {
        let size = fs::metadata(blob_file(&data, layer)).unwrap().len();
        flip(&data, layer, [0, size - 1, size / 2][n % 3]);
    }
    let repo = &images[0].repo;
    let mut wrong = 0;
    for layer in &layers {
        let first = get(lanyard.port(), &blob(repo, layer));
        wrong += usize::from(first.looks_complete() && !is_right(&first, layer));
        let second = get(lanyard.port(), &blob(repo, layer));
        assert!(is_right(&second, layer), "{layer}: {}", second.status);
        assert_eq!(second.outcome(), "filled");
    }
    assert_eq!(wrong, layers.len(), "each first pull met the rot, or this test shows nothing");
    assert_eq!((rotten(&lanyard, "cached"), rotten(&lanyard, "hosted")), (layers.len() as u64, 0));
    eventually("all of it is here again", || layers.iter().all(|layer| blob_file(&data, layer).exists()));
    check_blobs(&data);
    assert!(lanyard.logs().contains("cached content has rotted on disk"), "{}", lanyard.logs());
    figure(&format!("{} flips in cached blobs: 0 wrong second pulls", layers.len()));
}

/// The same for pushed content: no upstream has it.
#[test]
fn s31_the_second_pull_of_rotten_pushed_content_is_404_until_it_is_pushed_again() {
    const REPO: &str = "team/app";
    let mut lanyard = Lanyard::start("mode = \"offline\"");
    let client = Pusher(lanyard.port());
    let contents: Vec<_> = (0..rounds(60, 1000)).map(|n| content(1 + n * 977 % 200_000, n)).collect();
    let layers: Vec<_> = contents.iter().map(|bytes| client.blob(REPO, bytes)).collect();
    let names: Vec<_> = layers.iter().map(String::as_str).collect();
    let image = image(&client.blob(REPO, b"{}"), &names).to_string();
    assert_eq!(client.manifest(REPO, "latest", OCI_IMAGE, image.as_bytes()).status, 201);
    lanyard.restart();
    let data = lanyard.data_dir();
    for (n, (layer, bytes)) in layers.iter().zip(&contents).enumerate() {
        flip(&data, layer, [0, bytes.len() as u64 - 1, bytes.len() as u64 / 2][n % 3]);
    }
    for layer in &layers {
        assert!(!is_right(&get(lanyard.port(), &blob(REPO, layer)), layer));
        for _ in 0..2 {
            let again = get(lanyard.port(), &blob(REPO, layer));
            assert_eq!((again.status, again.error_code()), (404, "BLOB_UNKNOWN".to_owned()), "{layer}");
        }
        assert_eq!(head(lanyard.port(), &blob(REPO, layer)).status, 404, "a client that pushes is told to send it");
    }
    assert_eq!((rotten(&lanyard, "cached"), rotten(&lanyard, "hosted")), (0, layers.len() as u64));
    let logs = lanyard.logs();
    for layer in &layers {
        let told =
            logs.lines().filter(|line| line.contains("pushed content has rotted") && line.contains(layer.as_str()));
        let told: Vec<_> = told.collect();
        assert!(told.len() == 1 && told[0].contains(REPO), "one sentence with digest and repository: {told:?}");
    }
    for (layer, bytes) in layers.iter().zip(&contents) {
        assert_eq!(&client.blob(REPO, bytes), layer);
        assert!(is_right(&get(lanyard.port(), &blob(REPO, layer)), layer), "pushed again it is whole");
    }
    assert_eq!(get(lanyard.port(), &manifest(REPO, "latest")).status, 200);
    figure(&format!("{} flips in pushed blobs: 0 wrong second pulls", layers.len()));
}

/// The ways in which a blob can be given whole, and in which it can be asked for again.
#[test]
fn s31_whole_is_whole_however_it_was_given() {
    const SIZE: usize = 500_000;
    let hub = Hub::start();
    let mut lanyard = mirror(&hub);
    let range = |port: u16, path: &str, range: &str| ask(port, "GET", path, &[("Range", range)]);
    let part = |port: u16, path: &str, first: usize, last: usize| {
        let answer = range(port, path, &format!("bytes={first}-{last}"));
        assert_eq!((answer.status, answer.body.len()), (206, last - first + 1));
    };
    type Give<'a> = &'a dyn Fn(u16, &str);
    let last = SIZE - 1;
    let parts = |port: u16, path: &str, ranges: &str| {
        let answer = range(port, path, ranges);
        assert!(answer.status == 206 && answer.looks_complete());
    };
    let given: [(&str, Give<'_>, bool); 14] = [
        ("at once", &|port, path| drop(get(port, path)), true),
        ("from 0 on", &|port, path| assert_eq!(range(port, path, "bytes=0-").status, 206), true),
        ("its last half a million", &|port, path| assert_eq!(range(port, path, "bytes=-500000").status, 206), true),
        (
            "in two",
            &|port, path| [(0, 99_999), (100_000, last)].iter().for_each(|(a, b)| part(port, path, *a, *b)),
            true,
        ),
        (
            "in three, the last first",
            &|port, path| [(400_000, last), (0, 9), (10, 399_999)].iter().for_each(|(a, b)| part(port, path, *a, *b)),
            true,
        ),
        (
            "all over one connection",
            &|port, path| {
                let mut client = Connection::open(port);
                for range in ["bytes=0-249999", "bytes=250000-"] {
                    client.request("GET", path, &[("Range", range)]);
                    assert_eq!(client.answer("GET").unwrap().status, 206);
                }
            },
            true,
        ),
        (
            "as several parts of one answer",
            &|port, path| parts(port, path, "bytes=300000-499999,0-99,100-299999"),
            true,
        ),
        (
            "as parts of two answers",
            &|port, path| {
                parts(port, path, "bytes=300000-499999,0-99");
                parts(port, path, "bytes=100-199,200-299999");
            },
            true,
        ),
        (
            "in a hundred pieces, scattered",
            &|port, path| {
                (0..100).map(|n| n * 37 % 100 * 5000).for_each(|first| part(port, path, first, first + 4999));
            },
            true,
        ),
        ("as parts of one answer, but for a byte", &|port, path| parts(port, path, "bytes=0-99,101-"), false),
        ("all but the last byte", &|port, path| part(port, path, 0, last - 1), false),
        ("all but the first", &|port, path| part(port, path, 1, last), false),
        ("not at all", &|port, path| assert_eq!(head(port, path).status, 200), false),
        ("the first half twice", &|port, path| (0..2).for_each(|_| part(port, path, 0, SIZE / 2)), false),
    ];
    for (how, give, whole) in given {
        for (again, first, headers) in [
            ("whole", 0, &[][..]),
            ("from 0 on", 0, &[("Range", "bytes=0-")]),
            ("the middle", 200_000, &[("Range", "bytes=200000-300000")]),
        ] {
            let image = images(&hub, "one", 1, &[SIZE as u64]).remove(0);
            let right = hub.blob(image.layer(0)).unwrap();
            let path = blob(&image.repo, image.layer(0));
            keep(lanyard.port(), &image);
            lanyard.restart();
            flip(&lanyard.data_dir(), image.layer(0), 250_000);
            give(lanyard.port(), &path);
            // An answer counts once the server knows that it has ended.
            eventually("nothing is in flight", || series(&lanyard, "lanyard_requests_in_flight ") == 1);
            let before = rotten(&lanyard, "cached");
            let answer = ask(lanyard.port(), "GET", &path, headers);
            let end = first + answer.body.len();
            assert_eq!(answer.body == right[first..end], whole, "given {how}, asked again for {again}");
            assert_eq!(rotten(&lanyard, "cached") - before, u64::from(whole), "given {how}, asked again for {again}");
            fs::write(blob_file(&lanyard.data_dir(), image.layer(0)), &right).unwrap();
        }
    }
}

/// A client that leaves after some of the bytes, and comes back for the rest, has had the whole
/// blob.
#[test]
fn s31_a_download_that_was_taken_up_again_counts() {
    const SIZE: usize = 8 << 20;
    let hub = Hub::start();
    let image = images(&hub, "one", 1, &[SIZE as u64]).remove(0);
    let path = blob(&image.repo, image.layer(0));
    let mut lanyard = mirror(&hub);
    keep(lanyard.port(), &image);
    lanyard.restart();
    flip(&lanyard.data_dir(), image.layer(0), 5);
    let mut client = TcpStream::connect(lanyard.host()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(client, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    std::io::Read::read_exact(&mut client, &mut vec![0; 100_000]).unwrap();
    drop(client);
    eventually("it has gone", || series(&lanyard, "lanyard_requests_in_flight ") == 1);
    assert!(series(&lanyard, "lanyard_sent_bytes_total ") < SIZE as u64, "it did not leave early enough");
    let rest = ask(lanyard.port(), "GET", &path, &[("Range", "bytes=90000-")]);
    assert_eq!(rest.status, 206);
    assert!(is_right(&get(lanyard.port(), &path), image.layer(0)));
}

/// Content that a mirrored repository also holds is fetched again, blob and manifest, under the
/// pushed name as under the mirrored one.
#[test]
fn s31_pushed_content_that_upstream_has_is_fetched_again() {
    const REPO: &str = "prefapp/debian";
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(300_000).publish();
    let mut lanyard = mirror(&hub);
    keep(lanyard.port(), &image);
    let client = Pusher(lanyard.port());
    assert_eq!(client.manifest(REPO, "mine", &image.media_type, &image.bytes).status, 201);
    lanyard.restart();
    flip(&lanyard.data_dir(), image.layer(0), 1234);
    flip(&lanyard.data_dir(), &image.digest, 12);
    for reference in ["mine", &image.digest] {
        let answer = get(lanyard.port(), &manifest(REPO, reference));
        assert_eq!((answer.status, &answer.body), (200, &image.bytes), "{}", answer.text());
    }
    let path = blob(REPO, image.layer(0));
    assert!(!is_right(&get(lanyard.port(), &path), image.layer(0)));
    assert!(is_right(&get(lanyard.port(), &path), image.layer(0)));
    assert_eq!(rotten(&lanyard, "hosted"), 1);
    // With no upstream the content is gone, and comes back with a push.
    lanyard.restart();
    flip(&lanyard.data_dir(), image.layer(0), 99);
    assert!(!is_right(&get(lanyard.port(), &path), image.layer(0)));
    hub.go_down();
    assert_eq!(get(lanyard.port(), &path).status, 404);
}

/// A manifest is proven each time it is read from the disk: not even the first answer is wrong.
#[test]
fn s31_a_rotten_manifest_is_never_given() {
    let hub = Hub::start();
    let image = images(&hub, "one", 1, &[500]).remove(0);
    let mut lanyard = mirror(&hub);
    keep(lanyard.port(), &image);
    let client = Pusher(lanyard.port());
    let pushed = client.image("team/app", "v1", b"layer");
    for at in [0, 50, 200] {
        lanyard.restart();
        flip(&lanyard.data_dir(), &image.digest, at);
        flip(&lanyard.data_dir(), &pushed, at);
        for reference in [&image.tag, &image.digest] {
            let answer = get(lanyard.port(), &manifest(&image.repo, reference));
            assert_eq!((answer.status, &answer.body), (200, &image.bytes));
        }
        for reference in ["v1", &pushed] {
            let answer = get(lanyard.port(), &manifest("team/app", reference));
            assert_eq!((answer.status, answer.error_code()), (404, "MANIFEST_UNKNOWN".to_owned()));
            assert_eq!(head(lanyard.port(), &manifest("team/app", reference)).status, 404);
        }
        assert_eq!(client.image("team/app", "v1", b"layer"), pushed);
        assert_eq!(digest_of(&get(lanyard.port(), &manifest("team/app", "v1")).body), pushed);
    }
}

/// Many clients at one address ask for rotten content at once: from the moment that the rot is
/// found none of them gets it, and it is fetched once.
#[test]
fn s31_clients_behind_one_address_share_a_proof() {
    let hub = Hub::start();
    let image = images(&hub, "one", 1, &[4 << 20]).remove(0);
    let path = blob(&image.repo, image.layer(0));
    let mut lanyard = mirror(&hub);
    keep(lanyard.port(), &image);
    lanyard.restart();
    flip(&lanyard.data_dir(), image.layer(0), 3 << 20);
    assert!(!is_right(&get(lanyard.port(), &path), image.layer(0)));
    hub.reset_counts();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| assert!(is_right(&get(lanyard.port(), &path), image.layer(0))));
        }
    });
    assert_eq!((hub.blob_gets(image.layer(0)), rotten(&lanyard, "cached")), (1, 1));
    // Sound content is not proven again for every request of a crowd.
    eventually("it is stored", || get(lanyard.port(), &path).outcome() == "hit");
    let before = series(&lanyard, "lanyard_requests_total{kind=\"blob\",code=\"2xx\",outcome=\"hit\"}");
    for _ in 0..200 {
        assert_eq!(get(lanyard.port(), &path).status, 200);
    }
    let hits = series(&lanyard, "lanyard_requests_total{kind=\"blob\",code=\"2xx\",outcome=\"hit\"}") - before;
    assert_eq!((hits, rotten(&lanyard, "cached")), (200, 1));
}
