//! A manifest is asked for again and again on one connection, while the same worker sends blobs
//! that are not in the page cache. A worker that waits for the disk keeps the manifest waiting.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    client,
    content::{Blob, Content},
    measuring::{Cpus, ROUNDS},
    registries,
    report::{Figures, Goal, Section},
    servers::{Kind, Server, here},
};

/// How many blobs of 1 GB are read at once in the second table.
const MANY: usize = 16;

/// The pause between two requests for the manifest while many blobs are read: all of these clients
/// share one processor.
const PAUSE: Duration = Duration::from_millis(1);

pub(crate) fn run(content: &Content, cpus: &Cpus) -> Vec<Section> {
    let one = here().into_iter().map(|kind| row(kind, content, &[&content.large], ROUNDS, Duration::ZERO, cpus));
    let one = section("A manifest beside a cold blob of 1 GB, one worker", one.collect());
    let many = registries::fill_more(content, MANY);
    let blobs: Vec<&Blob> = many.iter().collect();
    let kinds = here().into_iter().filter(|kind| *kind != Kind::Distribution);
    let rows = kinds.map(|kind| row(kind, content, &blobs, 3, PAUSE, cpus)).collect();
    vec![one, section("A manifest beside 16 cold blobs of 1 GB at once, one worker", rows)]
}

fn row(kind: Kind, content: &Content, blobs: &[&Blob], rounds: usize, pause: Duration, cpus: &Cpus) -> Vec<String> {
    let (mut tail, mut worst, mut rate) = (Figures::default(), Figures::default(), Figures::default());
    for _ in 0..rounds {
        // A new server, which has sent nothing yet: lanyard reads content again that it gave to the
        // same address a moment ago.
        let server = Server::start(kind, content, false, &cpus.servers);
        let manifest = server.manifest(&content.manifest.digest);
        blobs.iter().for_each(|blob| server.forget(content, blob));
        let began = Instant::now();
        let mut waits = thread::scope(|scope| {
            let paths = blobs.iter().map(|blob| server.blob(&blob.digest));
            let port = server.port;
            let read = |path: String| {
                scope.spawn(move || {
                    // The lowest priority: the server is measured, and not how a processor is
                    // shared among its clients.
                    let _ = rustix::process::setpriority_process(None, 19);
                    client::get(port, &path, 1)
                })
            };
            let readers: Vec<_> = paths.map(read).collect();
            let mut waits = Vec::new();
            while readers.iter().any(|reader| !reader.is_finished()) {
                let asked = Instant::now();
                client::get(server.port, &manifest, 1);
                waits.push(asked.elapsed().as_secs_f64() * 1e3);
                thread::sleep(pause);
            }
            waits
        });
        let bytes: u64 = blobs.iter().map(|blob| blob.size).sum();
        rate.push(bytes as f64 / 1e9 / began.elapsed().as_secs_f64());
        waits.sort_by(f64::total_cmp);
        tail.push(waits[waits.len() * 99 / 100]);
        worst.push(waits[waits.len() - 1]);
    }
    let goal = match kind {
        Kind::Lanyard => Goal::AtMost(20.0).met(tail.median()),
        _ => String::new(),
    };
    vec![kind.name().to_owned(), tail.text(2), worst.text(2), rate.text(2), goal]
}

fn section(title: &str, rows: Vec<Vec<String>>) -> Section {
    let head = ["server", "manifest p99 ms", "slowest ms", "cold blobs GB/s together", "p99"];
    Section { title: title.to_owned(), head: head.map(str::to_owned).to_vec(), rows }
}
