//! S28, S20: handshakes, heads and bodies that never end do not delay other clients.
//!
//! `LANYARD_HELD=2000` holds so many connections instead of a few hundred, and prints how long
//! other clients waited.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use rustls::ClientConnection;

use super::{Served, ask, descriptors, runtime};
use crate::wire::eventually;

/// The words that start a server with few descriptors.
const FEW: [&str; 4] = ["sh", "-c", "ulimit -n 256 && exec \"$@\"", "sh"];

fn count() -> usize {
    std::env::var("LANYARD_HELD").map_or(600, |text| text.parse().expect("a number"))
}

/// Connections that have sent these bytes and wait.
fn hold(served: &Served, count: usize, sent: &[u8]) -> Vec<TcpStream> {
    let connect = |_| {
        let mut tcp = TcpStream::connect(served.lanyard.host()).unwrap();
        // A connection that is refused may be closed before this write.
        let _ = tcp.write_all(sent);
        tcp.set_nonblocking(true).unwrap();
        tcp
    };
    (0..count).map(connect).collect()
}

fn is_open(mut tcp: &TcpStream) -> bool {
    tcp.read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

/// The first half of a client's TLS hello.
fn half_a_hello(served: &Served) -> Vec<u8> {
    let config = served.tls.clone().unwrap();
    let mut client = ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello.truncate(hello.len() / 2);
    hello
}

/// Asks a hundred times, each on a connection of its own, while all of these are held. Returns the
/// time of the slowest request but one.
fn served_meanwhile(served: &Served, held: &[TcpStream]) -> Duration {
    let mut times: Vec<_> = runtime().block_on(async {
        let mut times = Vec::new();
        for _ in 0..100 {
            let began = Instant::now();
            assert_eq!(ask(served, "GET", "/v2/").await.unwrap().status, 200);
            times.push(began.elapsed());
        }
        times
    });
    assert_eq!(held.iter().filter(|tcp| is_open(tcp)).count(), held.len(), "all of them are held");
    times.sort_unstable();
    times[times.len() - 2]
}

#[test]
fn s20_unfinished_handshakes_delay_nobody() {
    if !descriptors(2 * count() as u64 + 500) {
        return;
    }
    let (served, ()) = Served::start("", true, |_| ());
    for (what, sent) in
        [("silent", vec![]), ("half a ClientHello", half_a_hello(&served)), ("a record's head", vec![22, 3, 1, 2])]
    {
        let held = hold(&served, count(), &sent);
        println!("{} connections, {what}: p99 of others {:?}", held.len(), served_meanwhile(&served, &held));
    }
}

#[test]
fn s28_unfinished_heads_and_bodies_delay_nobody() {
    if !descriptors(2 * count() as u64 + 500) {
        return;
    }
    let (served, ()) = Served::start("", false, |_| ());
    for (what, sent) in [
        ("silent", &b""[..]),
        ("half a head", b"GET /v2/ HTTP/1.1\r\nHost: x\r\nExp"),
        ("half a form", b"POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx"),
        (
            "half a manifest",
            b"PUT /v2/a/manifests/b HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1",
        ),
    ] {
        // A connection that is refused before its body has come ends by itself.
        let held = hold(&served, count(), sent);
        let held = if what == "half a form" { vec![] } else { held };
        println!("{} connections, {what}: p99 of others {:?}", held.len(), served_meanwhile(&served, &held));
    }
}

/// With few descriptors the oldest connections without a request make place, and so do those whose
/// clients dribble.
#[test]
fn s28_few_descriptors_are_not_held_by_the_slow() {
    for secured in [false, true] {
        let (served, ()) = Served::start_through(&FEW, "", secured, |_| ());
        let held = hold(&served, 400, b"");
        let runtime = runtime();
        let status = || runtime.block_on(ask(&served, "GET", "/v2/")).map(|answer| answer.status);
        assert_eq!(status(), Ok(200), "silent, secured: {secured}");
        drop(held);
    }
    let (served, ()) = Served::start_through(&FEW, "", false, |_| ());
    let slow = b"PUT /v2/team/app/manifests/v1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nx";
    let held = hold(&served, 400, slow);
    let runtime = runtime();
    eventually("somebody else is served", || {
        runtime.block_on(ask(&served, "GET", "/v2/")).is_ok_and(|answer| answer.status == 200)
    });
    assert!(held.iter().any(is_open), "no more of them went than had to");
}

/// The processor time that the process has used.
fn processor_time(served: &Served) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", served.lanyard.pid().unwrap())).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

/// A burst of connections beyond the number of descriptors waits in the kernel's queue. It takes no
/// descriptors from files, nothing spins or fails, and other clients are answered.
#[test]
fn s28_a_burst_of_connections_leaves_descriptors_for_files() {
    if !descriptors(3000) {
        return;
    }
    for (what, secured, sent) in [
        ("silent", false, &b""[..]),
        ("half a head", false, b"GET /v2/ HTTP/1.1\r\nHo"),
        ("asked once", false, b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("silent", true, b""),
        ("a record's head", true, &[22, 3, 1, 2]),
    ] {
        let (served, digests) = Served::start_through(&FEW, "", secured, |lanyard| {
            let pusher = crate::push::Pusher(lanyard.port());
            (0..5u8).map(|n| pusher.blob("team/app", &vec![n; 300_000])).collect::<Vec<_>>()
        });
        let held = hold(&served, 1000, sent);
        let began = Instant::now();
        for digest in &digests {
            let path = format!("/v2/team/app/blobs/{digest}");
            let answer = runtime().block_on(ask(&served, "GET", &path)).unwrap();
            assert_eq!((answer.status, answer.body.len()), (200, 300_000), "{what}, secured: {secured}");
        }
        let asked = began.elapsed();
        let before = processor_time(&served);
        // The length of the measurement.
        std::thread::sleep(Duration::from_secs(1));
        let spun = processor_time(&served) - before;
        let open = held.iter().filter(|tcp| is_open(tcp)).count();
        println!(
            "{what}, secured: {secured}: five blobs in {asked:?}, {open} held, {spun:?} of a processor in a second"
        );
        assert!(asked < Duration::from_secs(10), "{what}, secured: {secured}: {asked:?}");
        assert!(spun < Duration::from_millis(500), "{what}, secured: {secured}: {spun:?}");
        let logs = served.lanyard.logs();
        for word in ["panicked", "Too many open files", "os error 24"] {
            assert!(!logs.contains(word), "{what}, secured: {secured}: {logs}");
        }
    }
}

/// Heads that go on and on are limited to a number of bytes together, and an ordinary long head is
/// accepted.
#[test]
fn s28_long_heads_are_bounded_together() {
    if !descriptors(2000) {
        return;
    }
    let (served, ()) = Served::start("", false, |_| ());
    let long = |length| format!("GET /v2/ HTTP/1.1\r\nHost: x\r\nX-Long: {}", "x".repeat(length)).into_bytes();
    let held = hold(&served, 300, &long(100_000));
    eventually("the others are sent away", || held.iter().filter(|tcp| is_open(tcp)).count() <= 64);
    let number = held.iter().filter(|tcp| is_open(tcp)).count();
    assert!(number > 0, "none is kept");
    let ask = |length: usize| {
        let mut tcp = TcpStream::connect(served.lanyard.host()).unwrap();
        tcp.write_all(&[&long(length)[..], b"\r\n\r\n"].concat()).unwrap();
        let mut status = [0; 12];
        tcp.read_exact(&mut status).map(|()| String::from_utf8_lossy(&status[9..]).into_owned())
    };
    assert_eq!(ask(10_000).unwrap(), "200", "as long as a client's is, beside {number}");
    drop(held);
    eventually("a longer one has room again", || ask(60_000).is_ok_and(|status| status == "200"));
}
