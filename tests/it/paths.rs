//! S13 through the real binary: whatever the request line holds, no file outside the data folder is
//! touched.
//!
//! Request targets near the grammar and far from it go over raw sockets with every method; strace
//! records each system call that names a file. `LANYARD_PATHS=1000000 cargo test --test it s13_`
//! sends a million, which takes some minutes.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{faults::left_out, hub::digest_of, lanyard::Lanyard, push::Pusher, wire::Connection};

const METHODS: [&str; 6] = ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"];

/// How many connections send at once.
const CLIENTS: u64 = 4;

/// Words of the grammar, of the disk's layout, and of attackers.
const WORDS: &[&str] = &[
    "v2",
    "team",
    "app",
    "library",
    "manifests",
    "blobs",
    "uploads",
    "tags",
    "list",
    "referrers",
    "_catalog",
    "latest",
    "docker.io",
    "0b1fe0c8-7d4e-4b3a-9a52-6c1d8f0e2b47",
    "sha256-00",
    "sha256:..",
    "sha256:/etc/passwd",
    "",
    ".",
    "..",
    "...",
    "%2e%2e",
    "%2E%2e%2F",
    "..%2f",
    "..%5c",
    "%252e%252e",
    "\\..",
    "..\\",
    "%00",
    "%0a",
    "con",
    "nul.txt",
    "a:b",
    "LATEST",
    "etc",
    "passwd",
    "canary",
    "data",
    "LOCK",
    "index",
    "repos",
    "_hosted",
    "quarantine",
    "tmp",
    "lanyard.sock",
    "~",
    "$HOME",
    "\u{2024}\u{2024}",
    "\u{ff0e}\u{ff0e}",
    "%c0%ae%c0%ae",
    "a+b",
    "+con",
    "localhost:5000",
    "..:80",
    "?digest=",
    "#",
    "*",
];

/// Paths of the specification to existing content: a manifest, a blob, and an upload.
fn whole([manifest, blob, upload]: &[String; 3]) -> [Vec<u8>; 6] {
    [
        "manifests/latest".to_owned(),
        format!("manifests/{manifest}"),
        format!("blobs/{blob}"),
        format!("blobs/uploads/{upload}"),
        "tags/list".to_owned(),
        format!("referrers/{manifest}"),
    ]
    .map(|tail| format!("/v2/team/app/{tail}").into_bytes())
}

/// A request target.
fn target(rng: &mut StdRng, known: &[String; 3]) -> Vec<u8> {
    let mut target;
    // Half of the targets are such paths, most with one word changed.
    if rng.random_bool(0.5) {
        let path = String::from_utf8(whole(known)[rng.random_range(0..6)].clone()).unwrap();
        let mut words: Vec<_> = path.split('/').map(str::to_owned).collect();
        let at = rng.random_range(2..=words.len());
        if let Some(bent) = words.get_mut(at) {
            *bent = word(rng);
        }
        target = words.join("/").into_bytes();
    } else {
        target = ["/", "/v2/", "/docker.io/v2/"][rng.random_range(0..3)].into();
        let words: Vec<_> = (0..rng.random_range(0..8)).map(|_| word(rng)).collect();
        target.extend_from_slice(words.join("/").as_bytes());
    }
    if rng.random_bool(0.2) {
        let name =
            ["mount", "from", "digest", "tag", "last", "n", "ns", "artifactType", "_state"][rng.random_range(0..9)];
        target.extend_from_slice(format!("?{name}={}", word(rng)).as_bytes());
    }
    if rng.random_bool(0.1) {
        let at = rng.random_range(1..=target.len());
        target.insert(at, rng.random_range(b'!'..=0xff));
    }
    target
}

fn word(rng: &mut StdRng) -> String {
    match rng.random_range(0..10) {
        0 => (0..rng.random_range(1..300)).map(|_| rng.random_range('!'..='~')).collect(),
        1 => format!("{}/{}", "..", WORDS[rng.random_range(0..WORDS.len())]),
        2 => "../".repeat(rng.random_range(1..12)) + "etc/passwd",
        _ => WORDS[rng.random_range(0..WORDS.len())].to_owned(),
    }
}

#[test]
fn s13_no_request_reaches_a_file_outside_the_data_folder() {
    let Some(mut lanyard) = traced() else { return };
    let log = lanyard.config_file().with_file_name("trace");
    lanyard.restart();
    let count = std::env::var("LANYARD_PATHS").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000);
    let manifest = Pusher(lanyard.port()).image("team/app", "latest", b"layer");
    let place = Pusher(lanyard.port()).begin("team/app");
    let known = [manifest, digest_of(b"layer"), place.rsplit('/').next().unwrap().to_owned()];
    let canary = lanyard.data_dir().with_file_name("canary");
    fs::write(&canary, "canary").unwrap();
    // The calls of the start itself do not belong to a request.
    let started = fs::read_to_string(&log).unwrap().len();
    let (next, statuses) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for seed in 0..CLIENTS {
            let (next, known, statuses, port) = (&next, &known, &statuses, lanyard.port());
            scope.spawn(move || {
                let mut rng = StdRng::seed_from_u64(seed);
                let mut connection = Connection::open(port);
                while next.fetch_add(1, Ordering::Relaxed) < count {
                    let target = target(&mut rng, known);
                    let method = METHODS[rng.random_range(0..METHODS.len())];
                    // The content that all requests look for is never deleted.
                    let method = if method == "DELETE" && whole(known).contains(&target) { "GET" } else { method };
                    let status = ask(&mut connection, port, method, &target);
                    *statuses.lock().unwrap().entry(status).or_insert(0) += 1;
                }
            });
        }
    });
    let statuses: BTreeMap<u16, usize> = statuses.into_inner().unwrap();
    eprintln!("{count} request targets: {statuses:?}");
    assert!(statuses.keys().all(|status| *status < 500), "{statuses:?}");
    assert!([200, 202, 400, 404].iter().all(|status| statuses.contains_key(status)), "{statuses:?}");
    lanyard.kill9();
    assert_eq!(fs::read_to_string(&canary).unwrap(), "canary");
    let (inside, outside) = touched(&log, started, &lanyard.data_dir());
    assert!(inside > 1_000, "the trace shows nothing: {inside}");
    assert!(outside.is_empty(), "{outside:?}");
}

/// A lanyard, not started yet, that strace will trace. None where this machine has no strace; the
/// test then says so.
fn traced() -> Option<Lanyard> {
    let words =
        ["strace", "-D", "-f", "--seccomp-bpf", "-qq", "-y", "-s", "4096", "-e", "trace=%file", "-e", "signal=none"];
    if !Command::new(words[0]).args(&words[2..]).args(["-o", "/dev/null", "true"]).status().is_ok_and(|s| s.success()) {
        left_out("strace does not run (Debian package strace; ptrace must be allowed)");
        return None;
    }
    // A client that opens upload after upload is not refused here: the limit has tests of its own.
    let mut lanyard = Lanyard::prepare("mode = \"offline\"\n[cache]\nmin_free = \"0%\"\n[log]\nformat = \"json\"\n");
    let log = lanyard.config_file().with_file_name("trace");
    lanyard.through(&[&words[..], &["-o", log.to_str().unwrap()]].concat());
    Some(lanyard)
}

/// One request, on a new connection if the server closed the last one. Returns the status.
fn ask(connection: &mut Connection, port: u16, method: &str, target: &[u8]) -> u16 {
    let length = if matches!(method, "PUT" | "POST" | "PATCH") { "Content-Length: 2\r\n" } else { "" };
    let body: &[u8] = if length.is_empty() { b"" } else { b"{}" };
    let head = format!(" HTTP/1.1\r\nHost: 127.0.0.1\r\n{length}Content-Type: application/json\r\n\r\n");
    let request = [method.as_bytes(), b" ", target, head.as_bytes(), body].concat();
    for _ in 0..2 {
        if connection.send_if_open(&request)
            && let Ok(answer) = connection.answer(method)
        {
            if answer.header("connection").is_some_and(|word| word.eq_ignore_ascii_case("close")) {
                *connection = Connection::open(port);
            }
            return answer.status;
        }
        *connection = Connection::open(port);
    }
    panic!("no answer to {method} {}", String::from_utf8_lossy(target));
}

/// How many calls named a file in the folder, and which files outside it were named, from this byte
/// of the trace on.
fn touched(log: &Path, from: usize, folder: &Path) -> (usize, Vec<String>) {
    let folder = folder.to_str().unwrap();
    let (mut inside, mut outside) = (0, Vec::new());
    let mut at = 0;
    for line in BufReader::new(fs::File::open(log).unwrap()).split(b'\n').map(Result::unwrap) {
        at += line.len() + 1;
        if at <= from {
            continue;
        }
        let line = String::from_utf8_lossy(&line);
        // 123 openat(AT_FDCWD</where/it/runs>, "/data/blobs/…", …) = …, or
        // unlinkat(9</data/uploads/…>, "state", …) = …
        let below = line.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or("", |(path, _)| path);
        for path in line.split('"').skip(1).step_by(2) {
            let path = Path::new(below).join(path);
            let path = path.to_str().unwrap();
            if path.starts_with(folder) && !path.contains("/../") {
                inside += 1;
            } else if !path.starts_with("/proc/self/") && !path.starts_with("/sys/fs/cgroup") {
                outside.push(line.to_string());
            }
        }
    }
    (inside, outside)
}
