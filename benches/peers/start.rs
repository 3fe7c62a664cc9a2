//! From the start to the first answer, and pages of lists in a large folder.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    client,
    measuring::{Cpus, ROUNDS},
    report::{Figures, Goal, Section},
    servers::Server,
    shelf,
};

const OFFLINE: &str = "mode = \"offline\"";

/// How many times a page is asked for.
const PAGES: usize = 20;

/// With an empty folder, and with [`shelf::BLOBS`] blobs.
pub(crate) fn run(cpus: &Cpus) -> Section {
    let mut rows = Vec::new();
    let mut add = |name: &str, seen: &Figures, goal: Goal| {
        rows.push(vec![name.to_owned(), seen.text(1), goal.met(seen.median())]);
    };
    let mut empty = Figures::default();
    for _ in 0..ROUNDS {
        let folder = tempfile::tempdir().unwrap();
        empty.push(first_answer(folder.path(), cpus).1);
    }
    add("an empty folder", &empty, Goal::AtMost(30.0));
    let folder = tempfile::tempdir().unwrap();
    drop(first_answer(folder.path(), cpus));
    shelf::fill(folder.path());
    let name = format!("{} blobs, {} links, the index is to be made", shelf::BLOBS, shelf::LINKS);
    let mut without = Figures::default();
    let (server, seen) = first_answer(folder.path(), cpus);
    without.push(seen);
    add(&name, &without, Goal::AtMost(500.0));
    wait_for_index(folder.path());
    drop(server);
    let mut with = Figures::default();
    for _ in 0..ROUNDS {
        with.push(first_answer(folder.path(), cpus).1);
    }
    add("the same, and the index is there", &with, Goal::AtMost(500.0));
    let head = ["folder", "ms to the first answer", "goal"];
    Section { title: "From the start to the first answer".to_owned(), head: head.map(str::to_owned).to_vec(), rows }
}

/// Starts a lanyard. Returns it, and the milliseconds until its first answer.
fn first_answer(data: &Path, cpus: &Cpus) -> (Server, f64) {
    let began = Instant::now();
    let server = Server::lanyard(data, OFFLINE, &cpus.servers);
    loop {
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", server.port)) {
            let mut answer = [0; 12];
            stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            if stream.read_exact(&mut answer).is_ok() {
                assert_eq!(&answer, b"HTTP/1.1 200");
                return (server, began.elapsed().as_secs_f64() * 1e3);
            }
        }
        std::thread::yield_now();
    }
}

/// Pages of a thousand entries.
pub(crate) fn index(cpus: &Cpus) -> Section {
    let folder = tempfile::tempdir().unwrap();
    drop(first_answer(folder.path(), cpus));
    shelf::fill(folder.path());
    let (server, _) = first_answer(folder.path(), cpus);
    wait_for_index(folder.path());
    let (middle, repository) = (shelf::tag(shelf::TAGS / 2), shelf::LARGE);
    let referrers = |subject| format!("/v2/{repository}/referrers/{subject}");
    let mut rows = Vec::new();
    for (name, path) in [
        ("tags, the first page", format!("/v2/{repository}/tags/list?n=1000")),
        ("tags, a page in the middle", format!("/v2/{repository}/tags/list?n=1000&last={middle}")),
        ("`_catalog`, the first page", "/v2/_catalog?n=1000".to_owned()),
        ("`_catalog`, a page in the middle", "/v2/_catalog?n=1000&last=team-3/app-0500".to_owned()),
        ("referrers of a manifest that has 10", referrers(shelf::few())),
        ("referrers, a page of 1,000", referrers(shelf::many())),
    ] {
        let mut seen = Figures::default();
        client::get(server.port, &path, 1);
        for _ in 0..PAGES {
            let asked = Instant::now();
            client::get(server.port, &path, 1);
            seen.push(asked.elapsed().as_secs_f64() * 1e3);
        }
        rows.push(vec![name.to_owned(), seen.text(2), Goal::AtMost(5.0).met(seen.median())]);
    }
    let head = ["page", "ms", "goal"];
    Section {
        title: "Lists with 100,000 tags and 1,000,000 links".to_owned(),
        head: head.map(str::to_owned).to_vec(),
        rows,
    }
}

/// Waits until lists come from the index, as the admin socket reports it.
fn wait_for_index(data: &Path) {
    loop {
        let mut stream = UnixStream::connect(data.join(lanyard::admin::SOCKET)).unwrap();
        stream.write_all(b"GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut status = String::new();
        stream.read_to_string(&mut status).unwrap();
        if status.contains("\"index\":true") {
            return;
        }
        // The interval of the poll; it is not a part of a measurement.
        std::thread::sleep(Duration::from_millis(200));
    }
}
