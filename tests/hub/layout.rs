//! Images that other tools built, from an OCI image layout on disk.

use std::path::Path;

use serde_json::Value;

use super::Hub;
use super::content::OCI_INDEX;

/// Loads the manifest that `index.json` names for this tag (or the only manifest that it names),
/// and everything below it.
pub(super) fn load(hub: &Hub, dir: &Path, repo: &str, tag: &str) -> std::io::Result<String> {
    let index: Value = serde_json::from_slice(&std::fs::read(dir.join("index.json"))?)?;
    let empty = Vec::new();
    let entries = index["manifests"].as_array().unwrap_or(&empty);
    let named = |entry: &&Value| entry["annotations"]["org.opencontainers.image.ref.name"] == tag;
    let Some(entry) = entries.iter().find(named).or(entries.first()) else {
        return Err(std::io::Error::other(format!("{} names no manifest", dir.display())));
    };
    let digest = text(entry, "digest")?;
    manifest(hub, dir, repo, digest, text(entry, "mediaType")?)?;
    hub.move_tag(repo, tag, digest);
    Ok(digest.to_string())
}

fn manifest(hub: &Hub, dir: &Path, repo: &str, digest: &str, media_type: &str) -> std::io::Result<()> {
    let bytes = blob(dir, digest)?;
    let value: Value = serde_json::from_slice(&bytes)?;
    let list = |key: &str| value[key].as_array().cloned().unwrap_or_default();
    for child in list("manifests") {
        let media_type = child["mediaType"].as_str().unwrap_or(OCI_INDEX);
        // An index may name platforms that were not copied.
        if path(dir, text(&child, "digest")?).exists() {
            manifest(hub, dir, repo, text(&child, "digest")?, media_type)?;
        }
    }
    if value["config"].is_object() {
        hub.put_blob(blob(dir, text(&value["config"], "digest")?)?);
    }
    for layer in list("layers") {
        hub.put_blob(blob(dir, text(&layer, "digest")?)?);
    }
    hub.put_untagged(repo, media_type, &bytes);
    Ok(())
}

fn text<'a>(value: &'a Value, key: &str) -> std::io::Result<&'a str> {
    value[key].as_str().ok_or_else(|| std::io::Error::other(format!("a descriptor without {key}")))
}

fn path(dir: &Path, digest: &str) -> std::path::PathBuf {
    dir.join("blobs").join(digest.replace(':', "/"))
}

fn blob(dir: &Path, digest: &str) -> std::io::Result<Vec<u8>> {
    std::fs::read(path(dir, digest))
}
