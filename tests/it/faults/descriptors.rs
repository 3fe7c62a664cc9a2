//! Connections that take descriptors and ask for nothing.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use rustix::process::{Resource, getrlimit, setrlimit};

use super::{
    figure, left_out, long, rounds,
    shelf::{images, pull},
};
use crate::{
    hub::Hub,
    lanyard::Lanyard,
    pull::{config, mirror},
};

/// More connections than descriptors: nothing panics, and all other clients are served while the
/// connections are held and after their end.
#[test]
fn recovers_when_the_descriptors_are_used_up() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum.or(Some(1 << 20));
    if setrlimit(Resource::Nofile, limit).is_err() || getrlimit(Resource::Nofile).current.is_some_and(|n| n < 2048) {
        return left_out("600 connections need more descriptors than this user may have");
    }
    let hub = Hub::start();
    let kept = images(&hub, "kept", 1, &[100 << 10]).remove(0);
    let mut lanyard = Lanyard::prepare(&config(&hub, "[cache]\nmin_free = \"0%\"\n"));
    lanyard.through(&["sh", "-c", "ulimit -n 256 && exec \"$@\"", "sh"]);
    lanyard.restart();
    pull(lanyard.port(), &kept).unwrap();
    let mut slowest = Duration::ZERO;
    for round in 0..rounds(2, 20) {
        let idle: Vec<_> = (0..600).map(|_| TcpStream::connect(lanyard.host()).unwrap()).collect();
        // A new image takes descriptors of upstream connections and files.
        for held in [true, false] {
            let began = Instant::now();
            let name = format!("new{round}-{held}-");
            let new = images(&hub, &name, 1, &[300 << 10]).remove(0);
            let mut last = pull(lanyard.port(), &new);
            while last.is_err() {
                assert!(began.elapsed() < Duration::from_secs(5), "{last:?}");
                last = pull(lanyard.port(), &new);
            }
            pull(lanyard.port(), &kept).unwrap();
            slowest = slowest.max(began.elapsed());
            if held {
                idle.iter().for_each(|idle| idle.shutdown(std::net::Shutdown::Both).unwrap_or_default());
            }
        }
    }
    assert!(lanyard.ended().is_none() && !lanyard.logs().contains("panicked at"), "a panic");
    figure(&format!("slowest recovery {slowest:?}"));
}

/// Heads that never end are cut, whether the first of a connection or a later one, and no other
/// client waits for them.
#[test]
fn heads_that_never_end_are_cut() {
    if !long() {
        return;
    }
    let hub = Hub::start();
    let image = images(&hub, "kept", 1, &[100 << 10]).remove(0);
    let lanyard = mirror(&hub);
    pull(lanyard.port(), &image).unwrap();
    let mut slow: Vec<_> = (0..400)
        .map(|number| {
            let mut tcp = TcpStream::connect(lanyard.host()).unwrap();
            tcp.set_nonblocking(true).unwrap();
            if number % 2 == 0 {
                tcp.write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            }
            tcp.write_all(b"GET /v2/ HTTP/1.1\r\nHo").unwrap();
            tcp
        })
        .collect();
    let (began, mut slowest) = (Instant::now(), Duration::ZERO);
    while !slow.is_empty() {
        // The rate of the trickle: each client sends one byte a second.
        std::thread::sleep(Duration::from_secs(1));
        slow.retain_mut(|tcp| {
            let mut chunk = [0; 4096];
            let open = loop {
                match tcp.read(&mut chunk) {
                    Ok(0) => break false,
                    Ok(_) => {}
                    Err(error) => break error.kind() == std::io::ErrorKind::WouldBlock,
                }
            };
            open && tcp.write_all(b"s").is_ok()
        });
        let legitimate = Instant::now();
        pull(lanyard.port(), &image).unwrap();
        slowest = slowest.max(legitimate.elapsed());
        assert!(began.elapsed() < Duration::from_secs(140), "{} are still open", slow.len());
    }
    assert!(slowest < Duration::from_secs(1), "somebody else waited {slowest:?}");
    figure(&format!("400 cut after {:?}, slowest legitimate pull meanwhile {slowest:?}", began.elapsed()));
}
