//! A disk that fills up under pushes: each is either acknowledged and kept, or refused with an
//! honest error.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{HOSTED, client::Client};
use crate::{
    faults::{
        enospc::{fill, unfill},
        figure,
        plight::Plight,
        rounds,
        shelf::{check_blobs, list},
    },
    lanyard::Lanyard,
    push::Pusher,
    wire::get,
};

/// Above the space that the index wants free, so that the index is open when the disk fills up.
const SIZE: u64 = 96 << 20;

/// Clients that push, each to repositories of its own.
const CLIENTS: usize = 4;

/// FAULTS.md, "disk full": no hang, nothing corrupt, no acknowledged push lost, and pushes work
/// again within 10 s of space.
#[test]
fn a_full_disk_refuses_pushes_and_recovers() {
    let mut lanyard = Lanyard::prepare(HOSTED);
    let Some(plight) = Plight::tmpfs(&mut lanyard, SIZE) else { return };
    let data = plight.data();
    lanyard.restart();
    let port = lanyard.port();
    Pusher(port).image("kept/image", "v1", &vec![7; 300_000]);
    let (count, mut refused, mut acknowledged, mut slowest) = (rounds(8, 50), 0, 0, Duration::ZERO);
    for round in 0..count {
        let mut clients: Vec<_> = (0..CLIENTS).map(|n| Client::new(port, &format!("r{round}c{n}"), None)).collect();
        // The space ends at another place each time: before the upload, in it, in a link, in a
        // manifest, in a tag.
        fill(&data, (round as u64 % 25) * 70_000);
        refused += thread::scope(|scope| {
            let scenes = clients
                .iter_mut()
                .map(|client| scope.spawn(move || (0..4).any(|n| client.scene(round * 100 + n).is_err())));
            let scenes: Vec<_> = scenes.collect();
            scenes.into_iter().filter_map(|scene| scene.join().unwrap().then_some(())).count()
        });
        assert_eq!(get(port, "/v2/kept/image/manifests/v1").status, 200, "what is here is served");
        if round % 5 == 4 {
            lanyard.kill9();
            lanyard.restart();
        }
        unfill(&data);
        let began = Instant::now();
        pushes_again(port, &format!("after/r{round}"));
        slowest = slowest.max(began.elapsed());
        for client in &mut clients {
            client.audit(&format!("fill {round}"));
            acknowledged += client.acknowledged;
        }
        check_blobs(&data);
        lanyard.kill9();
        plight.must(&format!("rm -rf {0}/repos/_hosted/r{round}c*", plight.inside()));
        lanyard.restart();
    }
    assert!(refused >= count / 2, "the disk was hardly ever full: {refused}");
    assert!(!lanyard.logs().contains("panicked at"), "a panic");
    figure(&format!(
        "{count} fills, {acknowledged} acknowledged, {refused} clients refused, pushes again after {slowest:?}"
    ));
}

/// A hundred uploads for which the disk has no space hold neither its space nor the client's
/// places: a refused upload leaves nothing, and there is no 429 for a day (S14).
#[test]
fn uploads_without_room_leave_nothing() {
    let mut lanyard = Lanyard::prepare(HOSTED);
    let Some(plight) = Plight::tmpfs(&mut lanyard, SIZE) else { return };
    let data = plight.data();
    lanyard.restart();
    let (client, content) = (Pusher(lanyard.port()), vec![7; 3 << 20]);
    for round in 0..100 {
        let place = client.begin("team/app");
        fill(&data, round % 8 * 300_000);
        let answer = client.patch(&place, None, &content);
        assert_eq!((answer.status, answer.error_code()), (507, "UNAVAILABLE".to_owned()), "{}", answer.text());
        assert_eq!(get(lanyard.port(), &place).status, 404, "the upload is no more");
        unfill(&data);
    }
    assert!(list(&data.join("uploads")).is_empty());
    pushes_again(lanyard.port(), "team/app");
}

/// Pushes keep `cache.min_free` free as well, and the error says so.
#[test]
fn pushes_leave_min_free() {
    let mut lanyard = Lanyard::prepare("mode = \"offline\"\n[cache]\nmin_free = \"32 MiB\"\n");
    let Some(_plight) = Plight::tmpfs(&mut lanyard, SIZE) else { return };
    lanyard.restart();
    let client = Pusher(lanyard.port());
    let place = client.begin("team/app");
    let answer = client.patch(&place, None, &vec![7; 80 << 20]);
    assert_eq!(answer.status, 507);
    assert!(answer.text().contains("cache.min_free"), "{}", answer.text());
    pushes_again(lanyard.port(), "team/app");
}

/// Pushes, within 10 s of space.
fn pushes_again(port: u16, repo: &str) {
    let began = Instant::now();
    let push = || {
        let path = format!("/v2/{repo}/blobs/uploads/?digest={}", crate::hub::digest_of(b"again"));
        crate::wire::send(port, "POST", &path, &[], b"again").status
    };
    while push() != 201 {
        assert!(began.elapsed() < Duration::from_secs(10), "nothing can be pushed though there is space");
        thread::yield_now();
    }
}
