//! Which images of an index are brought, and what refers to them.

use serde_json::json;

use super::*;
use crate::hub::{OCI_MANIFEST, PlatformImage};

fn blobs(platforms: &[&PlatformImage]) -> Vec<String> {
    platforms.iter().flat_map(|built| std::iter::once(&built.config).chain(&built.layers)).cloned().collect()
}

fn fetched(output: &std::process::Output) -> Vec<(String, String)> {
    assert_eq!(code(output), 0, "{}", stderr(output));
    outcomes(&events(output))
}

#[test]
fn the_wanted_platforms_of_an_index_are_brought() {
    let hub = Hub::start();
    let platforms = ["linux/amd64", "linux/arm64/v8", "linux/arm/v7", "windows/amd64"];
    let image = hub.image(REPO, "latest").layer(1000).platforms(&platforms).publish();
    let of = |numbers: &[usize]| -> Vec<String> {
        blobs(&numbers.iter().map(|number| &image.platforms[*number]).collect::<Vec<_>>())
    };
    for (words, numbers) in [
        (&["--platform", "linux/arm64,linux/arm"][..], &[1, 2][..]),
        (&["--platform", "windows/amd64"], &[3]),
        (&["--platform", "all"], &[0, 1, 2, 3]),
    ] {
        let server = mirror(&hub);
        hub.reset_counts();
        let words: Vec<_> = ["busybox", "--json"].iter().chain(words).copied().collect();
        let (output, wanted) = (pull(&server, &words), of(numbers));
        let wanted: Vec<_> = wanted.iter().map(String::as_str).collect();
        assert_eq!(fetched(&output), all_with(&wanted, "filled"), "{words:?}");
        assert_eq!(hub.manifest_gets(), 1 + numbers.len(), "{words:?}");
        hub.go_down();
        assert_eq!(get(server.port(), &manifest(REPO, "latest")).status, 200);
        for number in numbers {
            let child = manifest(REPO, &image.platforms[*number].digest);
            assert_eq!(get(server.port(), &child).outcome(), "hit", "{words:?}");
        }
        hub.come_back();
    }
}

#[test]
fn by_default_linux_on_this_machine_is_brought() {
    let hub = Hub::start();
    let this = match std::env::consts::ARCH {
        "x86_64" => "linux/amd64",
        "aarch64" => "linux/arm64",
        other => panic!("the test does not know Go's word for {other}"),
    };
    let image = hub.image(REPO, "latest").layer(1000).platforms(&["linux/riscv64", this]).publish();
    let server = mirror(&hub);
    let wanted = blobs(&[&image.platforms[1]]);
    let wanted: Vec<_> = wanted.iter().map(String::as_str).collect();
    assert_eq!(fetched(&pull(&server, &["busybox", "--json"])), all_with(&wanted, "filled"));
}

#[test]
fn a_platform_that_is_missing_is_told_with_those_that_are_there() {
    let hub = Hub::start();
    hub.image(REPO, "many").layer(10).platforms(&["linux/amd64", "linux/arm64/v8"]).publish();
    hub.image(REPO, "one").layer(10).publish();
    let server = mirror(&hub);
    let output = pull(&server, &["busybox:many", "--platform", "linux/amd64,linux/s390x"]);
    assert_eq!(code(&output), 1);
    let told = "it has no image for linux/s390x; it has linux/amd64, linux/arm64/v8";
    assert!(stderr(&output).contains(told), "{}", stderr(&output));
    assert_eq!(hub.any_blob_gets(), 0, "nothing of it is fetched");

    let output = pull(&server, &["busybox:one", "--platform", "linux/s390x"]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("it is for linux/amd64 only"), "{}", stderr(&output));
    assert_eq!(code(&pull(&server, &["busybox:one", "--platform", "linux/amd64"])), 0);
    assert_eq!(code(&pull(&server, &["busybox:one"])), 0);
}

#[test]
fn what_refers_to_an_image_comes_with_it_if_it_is_wanted() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(10).publish();
    let (config, payload) = (hub.put_blob(b"{}".to_vec()), hub.put_blob(b"signature".to_vec()));
    let signature = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "example/signature",
        "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2 },
        "layers": [{ "mediaType": "text/plain", "digest": payload, "size": 9 }],
        "subject": { "mediaType": image.media_type, "digest": image.digest, "size": image.bytes.len() },
    });
    let digest = hub.put_untagged(REPO, OCI_MANIFEST, signature.to_string().as_bytes());
    let server = mirror(&hub);
    assert_eq!(code(&pull(&server, &["busybox"])), 0);
    assert_eq!(hub.blob_gets(&payload), 0);
    let output = pull(&server, &["busybox", "--referrers", "--dry-run", "--json"]);
    let would: Vec<_> = outcomes(&events(&output)).into_iter().filter(|(_, outcome)| outcome == "filled").collect();
    let mut missing = all_with(&[&config, &payload], "filled");
    missing.dedup();
    assert_eq!(would, missing, "only what refers to it is not here");
    assert_eq!(hub.blob_gets(&payload), 0);
    let output = pull(&server, &["busybox", "--referrers"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));

    hub.go_down();
    let listed = get(server.port(), &format!("/v2/{REPO}/referrers/{}", image.digest)).json();
    assert_eq!(listed["manifests"][0]["digest"], digest);
    assert_eq!(get(server.port(), &manifest(REPO, &digest)).outcome(), "hit");
    assert_eq!(get(server.port(), &blob(REPO, &payload)).outcome(), "hit");
}

/// K14: a dry run says what would be fetched, and leaves nothing behind.
#[test]
fn k14_a_dry_run_keeps_nothing() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(1000).layer(2000).publish();
    let server = mirror(&hub);
    assert_eq!(get(server.port(), &blob(REPO, image.layer(0))).status, 200);
    eventually("it is stored and linked", || server.logs().contains("blob filled"));
    let before = files(&server);
    let output = pull(&server, &["busybox", "--dry-run"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.starts_with("docker.io/library/busybox:latest: 1 of 3 blobs are here, "), "{text}");
    let line = |digest: &str| text.lines().find(|line| line.contains(digest)).unwrap().to_owned();
    assert!(line(image.layer(0)).ends_with("1000 bytes  here"), "{text}");
    assert!(line(image.layer(1)).ends_with("2.0 KiB  would be fetched"), "{text}");
    assert!(text.contains("1 image: 2 blobs would be fetched"), "{text}");
    assert_eq!(files(&server), before);
    assert_eq!((hub.any_blob_gets(), hub.manifest_gets()), (1, 1));

    assert_eq!(code(&pull(&server, &["busybox"])), 0);
    let (before, gets) = (files(&server), hub.manifest_gets());
    let output = pull(&server, &["busybox", "--dry-run", "--json"]);
    let events = events(&output);
    assert_eq!(outcomes(&events), all_with(&image.blobs(), "hit"));
    assert!(events.iter().any(|event| event["state"] == "planned"), "{events:?}");
    assert_eq!((files(&server), hub.manifest_gets()), (before, gets), "what is here is not asked for");
}

/// The files of the data folder that say what is kept, with their lengths and last uses.
fn files(server: &Lanyard) -> Vec<(std::path::PathBuf, u64, i64)> {
    let (mut folders, mut found) = (vec![server.data_dir().join("blobs"), server.data_dir().join("repos")], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                folders.push(entry.path());
            } else {
                found.push((entry.path(), metadata.len(), std::os::unix::fs::MetadataExt::atime(&metadata)));
            }
        }
    }
    found.sort();
    found
}
