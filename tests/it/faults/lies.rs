//! Many lies of upstreams: no whole wrong answer, and nothing wrong stored (F2).

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use super::{
    figure, rounds,
    shelf::{blob_file, check_blobs, fetch},
};
use crate::{
    hub::{Cut, Fault, Hub, On, digest_of},
    pull::mirror_with,
    wire::{blob, try_get},
};

/// How many lies are told at a time.
const AT_ONCE: usize = 64;

/// Tells `count` lies about as many blobs, each in a repository of its own: lanyard stops asking
/// for a while in a repository that fails again and again (S30). Prints how many answers were whole
/// (and right), and how many were not.
fn tell(name: &str, honest_length: bool, lie: impl Fn(usize, usize) -> Fault + Sync) {
    let hub = Hub::start();
    let lanyard = mirror_with(&hub, "[cache]\nmin_free = \"0%\"\n");
    let count = rounds(200, 2000);
    let repo = |number: usize| format!("library/of{number}");
    (0..count).for_each(|number| drop(hub.image(&repo(number), "latest").publish()));
    let body = |number: usize| -> Vec<u8> {
        let length = 200 + number * 37 % 5000;
        (0..length).map(|at| (at.wrapping_mul(31) ^ number.wrapping_mul(17) ^ (at >> 8)) as u8).collect()
    };
    let digests: Vec<_> = (0..count)
        .map(|number| {
            let mut bytes = format!("{name} {number} ").into_bytes();
            bytes.extend(body(number));
            let fault = lie(number, bytes.len());
            let digest = hub.put_blob(bytes);
            hub.fault(On::blob(&digest).always(), fault);
            digest
        })
        .collect();
    let (next, whole, stored) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(digest) = digests.get(number) else { break };
                    let Ok(answer) = try_get(lanyard.port(), &blob(&repo(number), digest)) else { continue };
                    if answer.status == 200 && answer.looks_complete() {
                        assert_eq!(digest_of(&answer.body), *digest, "{name}: a whole lie");
                        whole.fetch_add(1, Ordering::Relaxed);
                    }
                    let file = blob_file(&lanyard.data_dir(), digest);
                    stored.fetch_add(usize::from(file.exists()), Ordering::Relaxed);
                }
            });
        }
    });
    let told = digests.iter().filter(|digest| hub.blob_gets(digest) > 0).count();
    assert!(told > count / 2, "{name}: only {told} lies were heard");
    if honest_length {
        assert_eq!((whole.load(Ordering::Relaxed), stored.load(Ordering::Relaxed)), (0, 0), "{name}");
    }
    let kept = check_blobs(&lanyard.data_dir());
    hub.clear_faults();
    for (number, digest) in digests.iter().enumerate().take(10) {
        fetch(lanyard.port(), &blob(&repo(number), digest), digest).expect("the truth is believed afterwards");
    }
    figure(&format!("{name}: {told} of {count} told, {} whole and right, {kept} stored and right", whole.into_inner()));
}

#[test]
fn f2_the_wrong_digest_at_the_right_length() {
    tell("flipped", true, |number, length| Fault::FlipByte { at: (number * 7 % length) as u64 });
}

#[test]
fn f2_a_body_that_the_close_ends() {
    tell("close-delimited and cut", true, |number, length| {
        let how = if number % 2 == 0 { Cut::Fin } else { Cut::Rst };
        Fault::All(vec![Fault::CloseDelimited, Fault::CutAfter { bytes: (number * 13 % length) as u64, how }])
    });
    tell("close-delimited", false, |_, _| Fault::CloseDelimited);
}

#[test]
fn f2_informational_answers_first() {
    tell("1xx and flipped", true, |number, length| {
        Fault::All(vec![Fault::Interim(vec![100, 103, 100]), Fault::FlipByte { at: (number % length) as u64 }])
    });
    tell("1xx", false, |number, _| Fault::Interim(vec![if number % 2 == 0 { 100 } else { 103 }; number % 3 + 1]));
}

#[test]
fn f2_a_length_and_chunks() {
    tell("length and chunks, flipped", true, |number, length| {
        Fault::All(vec![Fault::BothLengths, Fault::FlipByte { at: (number % length) as u64 }])
    });
    tell("length and chunks", false, |_, _| Fault::BothLengths);
    tell("a length that is off", false, |number, _| Fault::LengthOff(if number % 2 == 0 { -1 } else { -100 }));
}
