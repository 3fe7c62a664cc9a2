//! The configuration that podman, buildah and skopeo share.

use super::cell::Cell;

/// A cell whose `/etc/containers` has `location` (`HOST:PORT`, or with a path behind it) as the one
/// mirror of docker.io, spoken to over plain HTTP, and which accepts unsigned images.
pub(crate) fn cell_with_mirror(location: &str) -> Cell {
    with_mirror(Cell::new(), location)
}

/// The same for a cell that exists.
pub(crate) fn with_mirror(cell: Cell, location: &str) -> Cell {
    with(
        cell,
        "registries.conf",
        &format!(
            "unqualified-search-registries = [\"docker.io\"]\n\
             [[registry]]\nprefix = \"docker.io\"\nlocation = \"docker.io\"\n\
             [[registry.mirror]]\nlocation = \"{location}\"\ninsecure = true\n"
        ),
    )
}

/// A cell whose `/etc/containers` has `text` as the file `name` and no other file about registries,
/// and which accepts unsigned images.
pub(crate) fn cell_with(name: &str, text: &str) -> Cell {
    with(Cell::new(), name, text)
}

fn with(cell: Cell, name: &str, text: &str) -> Cell {
    cell.write(&format!("etc/containers/{name}"), text);
    cell.write("etc/containers/policy.json", r#"{"default": [{"type": "insecureAcceptAnything"}]}"#);
    let driver = if cell.overlay() { "overlay" } else { "vfs" };
    let (graph, run) = (cell.text("graph"), cell.text("run"));
    cell.write(
        "etc/containers/storage.conf",
        &format!("[storage]\ndriver = \"{driver}\"\ngraphroot = \"{graph}\"\nrunroot = \"{run}\"\n"),
    );
    cell
}
