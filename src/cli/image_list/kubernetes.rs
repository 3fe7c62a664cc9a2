//! Kubernetes objects of any kind, also in a `List`: the `image` of all containers, init containers
//! and ephemeral containers, and the images that are volumes. So pods, what makes pods, and custom
//! resources with a template of a pod are read alike.

use std::collections::HashSet;

use super::{
    finding::{Findings, Found, Mistake},
    yaml::Node,
};

/// The keys of lists of containers.
const CONTAINERS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// The images of one document, in its order. Each node is looked at once in each role, however many
/// aliases it has.
pub(super) fn images(document: &Node, findings: &mut Findings) {
    let (mut seen, mut lists, mut items) = (HashSet::new(), HashSet::new(), HashSet::new());
    let mut nodes = vec![document.clone()];
    while let Some(node) = nodes.pop() {
        if !seen.insert(node.id()) {
            continue;
        }
        for (key, value) in node.entries() {
            let key = key.text().unwrap_or_default();
            let is_volume = key == "volumes";
            if !(is_volume || CONTAINERS.contains(&key)) || !lists.insert((value.id(), is_volume)) {
                continue;
            }
            for item in value.items().iter().filter(|item| items.insert((item.id(), is_volume))) {
                let image = item.get("image");
                let image = if is_volume { image.and_then(|image| image.get("reference")) } else { image };
                findings.extend(image.and_then(|image| found(&image)));
            }
        }
        nodes.extend(node.entries().iter().rev().map(|(_, value)| value.clone()));
        nodes.extend(node.items().iter().rev().cloned());
    }
}

/// A container without an image gets one from the cluster.
fn found(image: &Node) -> Option<Result<Found, Mistake>> {
    let line = image.line();
    match image.text() {
        _ if image.is_null() => None,
        Some("") => None,
        Some(text) => Some(Ok(Found { line, image: text.to_owned() })),
        None => Some(Err(Mistake { line, what: "the image of a container is no text".to_owned() })),
    }
}
