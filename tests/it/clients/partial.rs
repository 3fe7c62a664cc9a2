//! podman's partial pulls: it fetches a layer's table of contents, and then, by ranges, the files
//! that it does not have.

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{Weight, available, cell::Cell, podman::PROGRAMS, registries::cell_with_mirror, unhindered};
use crate::{
    lanyard::Lanyard,
    wire::{get, manifest},
};

/// How many files the image has, and how many bytes each has; compression does not shrink them.
const FILES: usize = 400;
const SIZE: usize = 20_000;
/// One file in so many is new in the second version, so that one range is not enough.
const STEP: usize = 57;

/// podman with a store that can take a layer in parts, if this machine has one.
fn podman(lanyard: &Lanyard) -> Option<Cell> {
    let cell = cell_with_mirror(&lanyard.host());
    let usual = std::fs::read_to_string(cell.path("etc/containers/storage.conf")).unwrap();
    let vfs = || "podman takes a layer in parts on overlay alone, which cannot be mounted here".to_owned();
    if !unhindered((!usual.contains("overlay")).then(vfs), Weight::Extra) {
        return None;
    }
    let (graph, run) = (cell.text("graph"), cell.text("run"));
    cell.write(
        "etc/containers/storage.conf",
        &format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{graph}\"\nrunroot = \"{run}\"\n[storage.options]\n\
             pull_options = {{enable_partial_images = \"true\", use_hard_links = \"false\", ostree_repos = \"\"}}\n"
        ),
    );
    Some(cell)
}

/// A file's bytes in a version.
fn content(file: usize, version: u64) -> Vec<u8> {
    let version = if file % STEP == 3 { version } else { 1 };
    let mut bytes = vec![0; SIZE];
    StdRng::seed_from_u64(file as u64 * 1000 + version).fill(&mut bytes[..]);
    bytes
}

/// Pushes both versions.
fn push(cell: &Cell, lanyard: &Lanyard) {
    for version in [1, 2] {
        cell.write("files/.keep", "");
        for file in 0..FILES {
            std::fs::write(cell.path(&format!("files/{file}")), content(file, version)).unwrap();
        }
        let name = format!("{}/team/app:v{version}", lanyard.host());
        run(cell, "tar", &["-C", "files", "-cf", "layer.tar", "."]);
        run(cell, "podman", &["import", "--quiet", "layer.tar", &name]);
        let kind = ["--format", "oci", "--compression-format", "zstd:chunked"];
        run(cell, "podman", &[&["push", "--quiet", "--tls-verify=false"], &kind[..], &[&name]].concat());
    }
}

fn run(cell: &Cell, program: &str, args: &[&str]) -> String {
    cell.run(program, args).unwrap_or_else(|said| panic!("{said}"))
}

/// The number of body bytes that lanyard has sent.
fn sent(lanyard: &Lanyard) -> u64 {
    let text = get(lanyard.port(), "/metrics").text();
    let lines = text.lines().filter(|line| line.starts_with("lanyard_sent_bytes_total"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

#[test]
fn podman_pulls_only_the_files_that_it_does_not_have() {
    if !available(PROGRAMS) {
        return;
    }
    let lanyard = Lanyard::start("mode = \"offline\"\n");
    push(&cell_with_mirror(&lanyard.host()), &lanyard);
    let pushed = get(lanyard.port(), &manifest("team/app", "v2")).json();
    let layer = pushed["layers"][0]["size"].as_u64().unwrap();
    assert!(layer > (FILES * SIZE) as u64);
    let Some(cell) = podman(&lanyard) else { return };
    let mut costs = Vec::new();
    for version in [1, 2] {
        let before = sent(&lanyard);
        let name = format!("{}/team/app:v{version}", lanyard.host());
        run(&cell, "podman", &["pull", "--quiet", "--tls-verify=false", &name]);
        costs.push(sent(&lanyard) - before);
        let script = format!("cd \"$(podman image mount {name})\" && sha256sum $(seq 0 {})", FILES - 1);
        let sums = run(&cell, "sh", &["-c", &script]);
        let expected: Vec<_> = (0..FILES).map(|file| crate::hub::digest_of(&content(file, version))).collect();
        let found: Vec<_> =
            sums.lines().filter_map(|line| Some(format!("sha256:{}", line.split(' ').next()?))).collect();
        assert_eq!(found, expected, "v{version}");
    }
    let new = (0..FILES).filter(|file| file % STEP == 3).count();
    println!("a layer of {layer} bytes, of which {} are new: {costs:?} bytes sent", new * SIZE);
    assert!(costs[1] < layer / 10, "{costs:?} of {layer}: it was not pulled in parts\n{}", lanyard.logs());
}
