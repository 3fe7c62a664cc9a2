//! F7: the disk becomes full in mid-download, and clients that ask for ranges continue straight
//! from upstream.

use std::{thread, time::Duration};

use super::{
    leftovers::Opens,
    lengths::{content, name},
    mirror_with,
};
use crate::{
    faults::series,
    hub::{Fault, Gate, Hub, On},
    wire::{Answer, ask, blob, eventually, get, manifest},
};

const REPO: &str = "library/busybox";
const SIZE: usize = 4 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

/// Ascending ranges cost one request more. So do ranges that go back: a range that would cost one
/// more request each time is not sent.
#[test]
fn f7_ranges_cost_one_request_more_when_the_disk_runs_full() {
    const MIB: usize = 1 << 20;
    let ascending = [2 * MIB + 5, 3 * MIB, 3 * MIB + 500, SIZE - 10];
    let descending = [SIZE - 10, 3 * MIB + 500, 3 * MIB, 2 * MIB + 5];
    let jumping = [3 * MIB, 3 * MIB + 500, 2 * MIB + 5, SIZE - 10];
    for (what, firsts, complete) in
        [("ascending", ascending, true), ("descending", descending, false), ("jumping", jumping, false)]
    {
        let hub = Hub::start();
        hub.image(REPO, "latest").publish();
        let bytes: Vec<u8> = content(1).into_iter().cycle().take(SIZE).collect();
        let digest = hub.put_blob(bytes.clone());
        let filler = hub.put_blob(content(2).into_iter().cycle().take(3 * MIB).collect::<Vec<_>>());
        let lanyard = mirror_with(&hub, "[cache]\nmax_size = \"5 MiB\"\nmin_free = \"0%\"");
        let named = name(&hub, &digest, SIZE as u64);
        assert_eq!(get(lanyard.port(), &manifest(REPO, &named)).status, 200);
        let gate = Gate::shut();
        // Its length is not stated, so that space is reserved as bytes come.
        let stall = Fault::StallAt { bytes: MIB as u64, gate: gate.clone() };
        hub.fault(On::blob(&digest), Fault::All(vec![Fault::Chunked, stall]));
        let full = Gate::shut();
        hub.fault(On::blob(&filler), Fault::StallAt { bytes: MIB as u64 + (64 << 10), gate: full.clone() });
        let answer = thread::scope(|scope| {
            let (gate, full) = (Opens(gate), Opens(full));
            let filler = filler.clone();
            let path = blob(REPO, &digest);
            scope.spawn({
                let path = path.clone();
                let port = lanyard.port();
                move || get(port, &path)
            });
            assert!(gate.0.wait_for_arrivals(1, PATIENCE));
            let set: Vec<_> = firsts.iter().map(|first| format!("{first}-{}", first + 9)).collect();
            let port = lanyard.port();
            let asked = scope.spawn(move || ask(port, "GET", &path, &[("Range", &format!("bytes={}", set.join(",")))]));
            eventually("it has joined", || series(&lanyard, "lanyard_fill_joins_total{upstream=\"docker.io\"}") == 1);
            let filling = scope.spawn(move || get(port, &blob(REPO, &filler)));
            // Behind its first step it takes the rest of its room, and nothing can be evicted.
            eventually("it has all of its room", || {
                series(&lanyard, "lanyard_cache_bytes{part=\"reserved\"}") > 3 * MIB as u64
            });
            drop(gate);
            let answer = asked.join().unwrap();
            drop(full);
            assert_eq!(filling.join().unwrap().body.len(), 3 * MIB);
            answer
        });
        assert_eq!((answer.status, answer.looks_complete()), (206, complete), "{what}");
        let came = firsts.iter().take_while(|first| has(&answer, &bytes[**first..**first + 10])).count();
        let due = if complete { firsts.len() } else { firsts.windows(2).take_while(|two| two[0] < two[1]).count() + 1 };
        assert_eq!(came, due, "{what}");
        // The download, the rest for the client that wants the whole blob, and the rest for the
        // ranges.
        assert_eq!(hub.blob_gets(&digest), 3, "{what}");
    }
}

fn has(answer: &Answer, bytes: &[u8]) -> bool {
    answer.body.windows(bytes.len()).any(|window| window == bytes)
}
