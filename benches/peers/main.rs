//! lanyard beside nginx (static files) and docker-registry, in one interleaved run: `cargo bench --bench peers`.
//!
//! Writes docs/PERFORMANCE.md: each case with medians, spreads and ratios, the machine, the versions, the date. Servers have one
//! half of the processors and clients the other; the congestion control is reno, in a network namespace of the run's own, since
//! with BBR on loopback every lead shrinks. Peers come from Debian (`nginx-light`, `docker-registry`, `wrk`); one that is not here
//! is left out and named. Needs root for the namespace. `cargo bench --bench peers -- blobs` runs the cases whose name holds the
//! word, and prints without writing.

// A measurement that cannot unwrap what it needs has failed, and says where.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cases;
mod client;
mod cold;
mod content;
mod fills;
mod manifests;
mod report;
mod servers;
#[path = "../shelf/mod.rs"]
mod shelf;
mod start;

use std::{
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

/// Set in the process that has the namespace.
const INSIDE: &str = "LANYARD_BENCH_INSIDE";

fn main() -> ExitCode {
    if std::env::var_os(INSIDE).is_none() {
        // The namespace, with a loopback of its own.
        let error = Command::new("unshare")
            .args([
                "-n",
                "sh",
                "-c",
                "ip link set lo up && echo reno > /proc/sys/net/ipv4/tcp_congestion_control && exec \"$@\"",
            ])
            .arg("sh")
            .arg(std::env::current_exe().unwrap())
            .args(std::env::args_os().skip(1))
            .env(INSIDE, "1")
            .exec();
        eprintln!("no network namespace of our own (Debian packages util-linux and iproute2, and root): {error}");
        return ExitCode::FAILURE;
    }
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    // Before this process is bound to its half of them.
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let content = content::Content::new();
    let sections = cases::run(&content, cores, &words);
    let page = report::page(&sections, cores);
    println!("{page}");
    if words.is_empty() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/PERFORMANCE.md");
        report::replace_tables(path, &page);
    }
    ExitCode::SUCCESS
}
