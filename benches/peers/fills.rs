//! Blobs that are being downloaded: the rate of the followers, and the time of a whole fetch.

use std::{fs, path::Path, process::Command, thread, time::Instant};

use crate::{
    client,
    content::{Blob, Content},
    measuring::Cpus,
    report::{Figures, Goal, Section, ratio},
    servers::{Server, finds},
};

/// The rate of the slow upstream, in bytes per second and connection.
const RATE: u64 = 50_000_000;

const ROUNDS: usize = 3;

pub(crate) fn run(content: &Content, cpus: &Cpus) -> Vec<Section> {
    if !finds("nginx") {
        eprintln!("left out: there is no nginx to be the upstream");
        return Vec::new();
    }
    vec![followers(content, cpus), fetch(content, cpus)]
}

/// A lanyard with an empty folder and this upstream.
struct Mirror {
    data: tempfile::TempDir,
    server: Server,
}

impl Mirror {
    fn of(upstream: &Server, cpus: &str) -> Mirror {
        let data = tempfile::tempdir().unwrap();
        let config = format!("[[upstream]]\nname = \"up.test:1\"\nurl = \"http://127.0.0.1:{}\"\n", upstream.port);
        let server = Server::lanyard(data.path(), &config, cpus).listening();
        Mirror { data, server }
    }

    fn path(blob: &Blob) -> String {
        format!("/v2/bench/image/blobs/{}?ns=up.test:1", blob.digest)
    }

    /// Waits until the blob has its final name. It is then hashed, synced and renamed into place.
    fn committed(&self, blob: &Blob) {
        let hex = blob.digest.trim_start_matches("sha256:");
        let file = self.data.path().join(format!("blobs/sha256/{}/{hex}", &hex[..2]));
        while !file.exists() {
            thread::yield_now();
        }
    }
}

/// Followers of one download, beside a client that downloads from the upstream itself.
fn followers(content: &Content, cpus: &Cpus) -> Section {
    let blob = &content.middle;
    let upstream = Server::upstream(content, Some(RATE), &cpus.all);
    let megabytes = |began: Instant| blob.size as f64 / 1e6 / began.elapsed().as_secs_f64();
    let mut rows = Vec::new();
    for count in [1, 16, 100] {
        let (mut direct, mut slowest) = (Figures::default(), Figures::default());
        for _ in 0..ROUNDS {
            let began = Instant::now();
            client::get(upstream.port, &Mirror::path(blob), 1);
            direct.push(megabytes(began));
            let mirror = Mirror::of(&upstream, &cpus.all);
            let rates: Vec<f64> = thread::scope(|scope| {
                let follow = || {
                    let began = Instant::now();
                    client::get(mirror.server.port, &Mirror::path(blob), 1);
                    megabytes(began)
                };
                let all: Vec<_> = (0..count).map(|_| scope.spawn(follow)).collect();
                all.into_iter().map(|one| one.join().unwrap()).collect()
            });
            slowest.push(rates.into_iter().fold(f64::INFINITY, f64::min));
        }
        let beside = ratio(slowest.median(), direct.median(), Goal::AtLeast(0.95));
        rows.push(vec![count.to_string(), direct.text(1), slowest.text(1), beside]);
    }
    let head = ["followers", "from the upstream itself, MB/s", "the slowest follower, MB/s", "its rate / upstream's"];
    Section {
        title: "A blob of 100 MB that is being filled from an upstream of 50 MB/s".to_owned(),
        head: head.map(str::to_owned).to_vec(),
        rows,
    }
}

/// A fetch of a blob until it is committed, beside the same work done by a shell.
fn fetch(content: &Content, cpus: &Cpus) -> Section {
    let blob = &content.large;
    let upstream = Server::upstream(content, None, &cpus.all);
    let (mut ours, mut shell) = (Figures::default(), Figures::default());
    for _ in 0..ROUNDS {
        let mirror = Mirror::of(&upstream, &cpus.all);
        rustix::fs::sync();
        let began = Instant::now();
        client::get(mirror.server.port, &Mirror::path(blob), 1);
        mirror.committed(blob);
        ours.push(began.elapsed().as_secs_f64());
        drop(mirror);
        shell.push(by_shell(&upstream, blob, &content.scratch()));
    }
    let rate = |figures: &Figures| blob.size as f64 / 1e9 / figures.median();
    let rows = vec![
        vec!["lanyard".to_owned(), ours.text(2), format!("{:.2}", rate(&ours)), String::new()],
        vec![
            "curl \\| tee \\| sha256sum, sync".to_owned(),
            shell.text(2),
            format!("{:.2}", rate(&shell)),
            ratio(rate(&ours), rate(&shell), Goal::AtLeast(0.8)),
        ],
    ];
    let head = ["who", "seconds", "GB/s", "lanyard's rate / its"];
    Section {
        title: "A cold fetch of 1 GB from a fast upstream, hashed and committed durably".to_owned(),
        head: head.map(str::to_owned).to_vec(),
        rows,
    }
}

/// Downloads, hashes and syncs the blob by shell commands. Returns the seconds.
fn by_shell(upstream: &Server, blob: &Blob, scratch: &Path) -> f64 {
    let url = format!("http://127.0.0.1:{}{}", upstream.port, Mirror::path(blob));
    let script = "set -e; curl -sf \"$1\" | tee \"$2\" | sha256sum; sync -d \"$2\"";
    let began = Instant::now();
    let output = Command::new("sh").args(["-c", script, "sh", &url]).arg(scratch).output().unwrap();
    let seconds = began.elapsed().as_secs_f64();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.starts_with(blob.digest.trim_start_matches("sha256:")), "{said}");
    fs::remove_file(scratch).unwrap();
    seconds
}
