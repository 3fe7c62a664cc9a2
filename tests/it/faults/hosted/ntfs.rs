//! A data folder on NTFS, where names that differ only in case are the same and `con` is no name.

use super::{client::Client, without_a_grace};
use crate::{
    faults::{
        plight::Plight,
        shelf::{check_blobs, images, keep},
    },
    hub::{Hub, digest_of},
    pull::config,
    push::{OCI_IMAGE, Pusher, image},
    wire::{get, manifest},
};

/// Tags that Windows takes for one another, or for no name.
const TAGS: [&str; 8] = ["latest", "Latest", "LATEST", "con", "CON", "nul.txt", "v1.", "V1."];

/// Repositories that Windows takes for devices.
const REPOSITORIES: [&str; 4] = ["con", "aux/lpt1", "team/nul", "com1.x/prn"];

/// Everything works there as on any other file system, also after a kill, and with the index made
/// anew.
#[test]
fn a_data_folder_on_ntfs_works() {
    let hub = Hub::start();
    let mut lanyard = without_a_grace();
    lanyard.reconfigure(&config(&hub, "[cache]\nmin_free = \"0%\"\n"));
    let Some(plight) = Plight::ntfs(&mut lanyard, 256 << 20) else { return };
    lanyard.restart();
    let mirrored = images(&hub, "ntfs", 1, &[500, 400 << 10]).remove(0);
    keep(lanyard.port(), &mirrored);
    hub.go_down();
    let mut client = Client::new(lanyard.port(), "team", None);
    for seed in 0..4 {
        client.scene(seed).unwrap_or_else(|lost| panic!("{}: {}", client.doing, lost.0));
    }
    let pushed = push_all(lanyard.port());
    for round in 0..3 {
        lanyard.kill9();
        if round == 1 {
            std::fs::remove_dir_all(plight.data().join("index")).unwrap();
        }
        lanyard.restart();
        client.audit(&format!("restart {round}"));
        keep(lanyard.port(), &mirrored);
        for (repo, tag, bytes) in &pushed {
            let answer = get(lanyard.port(), &manifest(repo, tag));
            assert_eq!((answer.status, &answer.body), (200, bytes), "{repo}:{tag} in round {round}");
        }
        let mut tags: Vec<_> = TAGS.to_vec();
        tags.sort_unstable();
        assert_eq!(get(lanyard.port(), "/v2/con/tags/list").json()["tags"], serde_json::json!(tags));
    }
    for (repo, tag, _) in &pushed {
        assert_eq!(Pusher(lanyard.port()).delete(&manifest(repo, tag)), 202, "{repo}:{tag}");
        assert_eq!(get(lanyard.port(), &manifest(repo, tag)).status, 404);
    }
    lanyard.kill9();
    check_blobs(&plight.data());
    let check = format!("{} check --data-dir {}", env!("CARGO_BIN_EXE_lanyard"), plight.inside());
    let said = plight.must(&check);
    assert!(!said.contains("damaged") && !said.contains("missing"), "{said}");
}

/// Pushes an image of its own under every tag of every repository.
fn push_all(port: u16) -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let client = Pusher(port);
    let each = REPOSITORIES.iter().flat_map(|repo| TAGS.iter().map(move |tag| (*repo, *tag)));
    each.map(|(repo, tag)| {
        let layer = client.blob(repo, format!("{repo} {tag}").as_bytes());
        let bytes = image(&client.blob(repo, b"{}"), &[&layer]).to_string().into_bytes();
        let answer = client.manifest(repo, tag, OCI_IMAGE, &bytes);
        assert_eq!(answer.status, 201, "{repo}:{tag} {}: {}", digest_of(&bytes), answer.text());
        (repo, tag, bytes)
    })
    .collect()
}
