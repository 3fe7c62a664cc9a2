//! lanyard beside nginx (static files) and docker-registry, in one interleaved run: `cargo bench
//! --bench peers`.
//!
//! The run writes docs/PERFORMANCE.md: each case with medians, spreads and ratios, the machine, the
//! versions, the date. The servers have one half of the processors and the clients the other. The
//! congestion control is reno, in a network namespace of the run's own, since BBR on loopback
//! shrinks every lead. The peers come from Debian (`nginx-light`, `docker-registry`, `wrk`); a
//! missing one is left out and named. The namespace needs root.
//!
//! `cargo bench --bench peers -- blobs` runs the cases whose name contains the word, and prints
//! without writing.

// A measurement that cannot unwrap a value has failed, and the panic says where.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cases;
mod client;
mod cold;
mod content;
mod fills;
mod life;
mod manifests;
mod measuring;
#[path = "../cachelife/policies.rs"]
#[allow(dead_code, reason = "the bench cachelife compares more orders")]
mod policies;
#[path = "../cachelife/queue.rs"]
mod queue;
mod registries;
mod report;
mod servers;
#[path = "../shelf/mod.rs"]
mod shelf;
mod start;
#[path = "../cachelife/trace.rs"]
#[allow(dead_code, reason = "the bench cachelife tells the numbers of a trace")]
mod trace;

use std::{
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

/// Set in the process that runs inside the namespace.
const INSIDE: &str = "LANYARD_BENCH_INSIDE";

fn main() -> ExitCode {
    if std::env::var_os(INSIDE).is_none() {
        // A network namespace with a loopback of its own, and a namespace of mounts, which end
        // with the run.
        let error = Command::new("unshare")
            .args([
                "-n",
                "-m",
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
    // Counted before this process is bound to its half of the processors.
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let content = content::Content::new();
    registries::fill(&content);
    let sections = cases::run(&content, cores, &words);
    let page = report::page(&sections, cores);
    println!("{page}");
    if words.is_empty() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/PERFORMANCE.md");
        report::replace_tables(path, &page);
    }
    ExitCode::SUCCESS
}
