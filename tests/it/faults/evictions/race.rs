//! K2, K7: pushes that count on cached content, while all of it is evicted again and again.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{KIB, cap, evicted, give_order, hub};
use crate::{
    faults::{
        figure, rounds,
        shelf::{blob_file, check_blobs},
    },
    hub::{Hub, digest_of},
    lanyard::Lanyard,
    pull::config,
    push::{OCI_IMAGE, Pusher, image},
    wire::{blob, get, head, manifest, send},
};

const FROM: &str = "docker.io/library/busybox";

/// A HEAD before a push waits so long for upstream, and is answered 404 then: the client sends the
/// blob.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the pushes did.
#[derive(Default, Debug)]
struct Done {
    mounted: usize,
    uploaded: usize,
    pushed_back: usize,
}

/// Ends the others when it is dropped.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// An operator trims all the time, and clients pull. Others push layers that the mirror has: by
/// mount, or under the name that they were pulled by, where a HEAD says that they are here. Either
/// the eviction comes first, or the push: after its 201 all of it is here and can be pulled.
#[test]
fn k7_an_eviction_or_a_push_comes_first_and_never_half() {
    let hub = hub();
    let lanyard = Lanyard::start(&config(&hub, &cap("1 GiB")));
    let data = lanyard.data_dir();
    let (over, asked, wrong) = (AtomicBool::new(false), Mutex::<Vec<String>>::default(), AtomicUsize::new(0));
    let done = thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let trimmed = give_order(&data, "POST", "/api/v1/trim?to=0");
                wrong.fetch_add(usize::from(trimmed.is_none_or(|answer| answer.status != 200)), Ordering::Relaxed);
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let Some(digest) = asked.lock().unwrap().last().cloned() else { continue };
                    let answer = get(lanyard.port(), &blob(FROM, &digest));
                    let right = answer.status == 200 && digest_of(&answer.body) == digest;
                    wrong.fetch_add(usize::from(!right), Ordering::Relaxed);
                }
            });
        }
        // Also when a push fails: else the others would go on for ever.
        let _over = Over(&over);
        pushes(&lanyard, &hub, &asked)
    });
    assert_eq!(wrong.into_inner(), 0, "an answer failed");
    assert!(done.mounted > 0 && done.pushed_back > 0 && evicted(&lanyard) > 0, "{done:?}");
    check_blobs(&data);
    figure(&format!("{done:?}, {} KiB evicted", evicted(&lanyard) / KIB as u64));
}

fn pushes(lanyard: &Lanyard, hub: &Hub, asked: &Mutex<Vec<String>>) -> Done {
    let (mut done, pusher) = (Done::default(), Pusher(lanyard.port()));
    let wanted = rounds(60, 2_000);
    for n in 0..2_000 {
        // On a quick machine a mount seldom comes before the eviction.
        if n >= wanted && done.mounted > 0 {
            break;
        }
        let layer = (n as u64 + 1).to_le_bytes().repeat(4 * KIB);
        let digest = hub.put_blob(layer.clone());
        asked.lock().unwrap().push(digest.clone());
        let repo = if n % 2 == 0 {
            assert_eq!(get(lanyard.port(), &blob(FROM, &digest)).status, 200);
            let repo = format!("team/r{n}");
            let mount = format!("/v2/{repo}/blobs/uploads/?mount={digest}&from={FROM}");
            match send(lanyard.port(), "POST", &mount, &[], b"").status {
                201 => done.mounted += 1,
                202 => {
                    done.uploaded += 1;
                    pusher.blob(&repo, &layer);
                }
                other => panic!("{n}: {other}"),
            }
            repo
        } else {
            let (repo, config) = (format!("team/p{n}"), hub.put_blob(b"{}".to_vec()));
            let bytes = image(&config, &[&digest]).to_string();
            hub.put_manifest(&repo, "v0", OCI_IMAGE, bytes.as_bytes());
            assert_eq!(get(lanyard.port(), &manifest(&repo, "v0")).status, 200);
            for part in [&config, &digest] {
                let began = Instant::now();
                let answer = head(lanyard.port(), &blob(&repo, part));
                if answer.status == 404 && began.elapsed() >= PATIENCE {
                    // The machine is busy, and the client sends it.
                    pusher.blob(&repo, if *part == digest { &layer } else { b"{}" });
                    continue;
                }
                assert_eq!(answer.status, 200, "{n}: {part}");
            }
            done.pushed_back += 1;
            repo
        };
        let config = if n % 2 == 0 { pusher.blob(&repo, b"{}") } else { digest_of(b"{}") };
        let bytes = image(&config, &[&digest]).to_string();
        let answer = pusher.manifest(&repo, "v1", OCI_IMAGE, bytes.as_bytes());
        assert_eq!(answer.status, 201, "{n}: {}", answer.text());
        assert!(blob_file(&lanyard.data_dir(), &digest).exists(), "{n}: pushed, and not here");
        let pulled = get(lanyard.port(), &blob(&repo, &digest));
        assert_eq!((pulled.status, pulled.body == layer), (200, true), "{n}");
        hub.drop_blob(&digest);
    }
    done
}
