//! The output of `lanyard setup` works: each client takes the real binary's standard output at the
//! place that the output itself names, and pulls images of two registries through lanyard.
//!
//! The tests watch that the client did not ask a registry itself, and lanyard must have counted the
//! client's pulls. Where the output says how to keep the client from the registry, the tests try
//! that as well.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::buildkit::BuildKit;
use super::cell::Cell;
use super::containerd::Containerd;
use super::containerd_store::{self, ContainerdStore};
use super::dockerd::Dockerd;
use super::podman::Podman;
use super::pulled::Expected;
use super::scenario::{Platforms, expected, pull_named};
use super::{Client, available, containerd, dockerd, podman};
use crate::hub::{Hub, Image};
use crate::lanyard::Lanyard;
use crate::wire;

/// A lanyard in front of two registries, with an image in each.
struct Site {
    hub: Hub,
    ghcr: Hub,
    busybox: Image,
    tool: Image,
    lanyard: Lanyard,
}

impl Site {
    fn start() -> Site {
        let (hub, ghcr) = (Hub::start(), Hub::start());
        let both = ["linux/amd64", "linux/arm64"];
        let busybox = hub.image("library/busybox", "latest").platforms(&both).real_layer(300_000).publish();
        let tool = ghcr.image("team/tool", "v1").oci().platforms(&both).real_layer(200_000).publish();
        let upstream = |name: &str, hub: &Hub| format!("[[upstream]]\nname = \"{name}\"\nurl = \"{}\"\n", hub.url());
        let lanyard = Lanyard::start(&(upstream("docker.io", &hub) + &upstream("ghcr.io", &ghcr)));
        Site { hub, ghcr, busybox, tool, lanyard }
    }

    /// What `lanyard setup CLIENT` prints for this lanyard.
    fn setup(&self, client: &str) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lanyard"));
        let output = command.args(["setup", client, "--server", &self.lanyard.url()]).env_clear().output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The notes on standard error.
    fn notes(&self, client: &str) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lanyard"));
        let output = command.args(["setup", client, "--server", &self.lanyard.url()]).env_clear().output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    }

    /// The output for docker: standard output is all JSON.
    fn daemon_json(&self) -> serde_json::Value {
        serde_json::from_str(&self.setup("docker")).unwrap()
    }

    /// Pulls from Docker Hub. Lanyard must have asked it, and for nothing but this image.
    fn pull_from_docker_hub(&self, client: &dyn Client) {
        self.pull(client, "docker.io/library/busybox:latest", &self.hub, &self.busybox);
    }

    /// Pulls from the second registry, under this name.
    fn pull_from_ghcr(&self, client: &dyn Client, name: &str) {
        self.pull(client, name, &self.ghcr, &self.tool);
    }

    fn pull(&self, client: &dyn Client, name: &str, registry: &Hub, image: &Image) {
        let expected: Expected = expected(registry, image, Platforms::Own);
        let (manifests, blobs) = (self.answered("manifest"), self.answered("blob"));
        pull_named(client, name, &expected, "as set up");
        assert_eq!(self.answered("blob") - blobs, 2, "lanyard counted other blobs than the configuration and a layer");
        assert!(self.answered("manifest") - manifests >= 2, "lanyard counted no index and manifest");
        assert_eq!(registry.any_blob_gets(), 2, "{:#?}", registry.requests());
        assert_eq!(registry.manifest_gets(), 2, "{:#?}", registry.requests());
    }

    /// How many requests of this kind lanyard reports to have answered well.
    fn answered(&self, kind: &str) -> u64 {
        let metrics = wire::get(self.lanyard.port(), "/metrics").text();
        let labels = [format!("kind=\"{kind}\""), String::from("code=\"2xx\"")];
        let counters = metrics.lines().filter(|line| line.starts_with("lanyard_requests_total{"));
        let counters = counters.filter(|line| labels.iter().all(|label| line.contains(label)));
        counters.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    /// Pulls through a lanyard that has ended.
    fn pull_in_vain(mut self, client: &dyn Client) {
        assert!(self.lanyard.stop().success());
        let said = client.pull("docker.io/library/busybox:latest").expect_err("there is nothing to pull from");
        assert_eq!(client.hub_asked(), 0, "the client went to the registry itself: {said}");
    }
}

#[test]
fn docker_takes_its_daemon_json() {
    if available(dockerd::PROGRAMS) {
        let site = Site::start();
        let dockerd = Dockerd::configured(&site.daemon_json());
        let mirrors = dockerd.docker(&["info", "--format", "{{.RegistryConfig.Mirrors}}"]).unwrap();
        assert_eq!(mirrors.trim(), format!("[{}/]", site.lanyard.url()), "the notes say what is shown here");
        site.pull_from_docker_hub(&dockerd);
        // Docker has mirrors for Docker Hub only; the notes name the images of other registries.
        site.pull_from_ghcr(&dockerd, &format!("{}/ghcr.io/team/tool:v1", site.lanyard.host()));
    }
}

/// "The builder inside Docker Engine follows Docker's registry-mirrors", says `setup buildkit`.
#[test]
fn the_builder_inside_docker_takes_the_same_daemon_json() {
    if available(dockerd::PROGRAMS) {
        let site = Site::start();
        let buildkit = BuildKit::of(Dockerd::configured(&site.daemon_json()));
        site.pull_from_docker_hub(&buildkit);
        site.pull_from_ghcr(&buildkit, &format!("{}/ghcr.io/team/tool:v1", site.lanyard.host()));
    }
}

/// The other way for docker, which can keep it from the registries: the command in the notes, run
/// in this cell for this folder of `hosts.toml` files.
fn run_dockers_command(site: &Site, cell: &Cell, folder: &str) {
    let notes = site.notes("docker");
    let (_, command) = notes.split_once("To write it for all of them:\n#   ").unwrap();
    let command = command.lines().next().unwrap().replace("/etc/docker/certs.d", &cell.text(folder));
    let script = cell.write("setup.sh", &format!("sudo() {{ \"$@\"; }}\n{command}\n"));
    cell.run("sh", &["-e", &script]).unwrap();
}

/// The form is containerd's own, so `ctr` takes the same files.
#[test]
fn containerd_takes_dockers_hosts_toml_and_goes_nowhere_else() {
    if available(containerd::PROGRAMS) {
        let site = Site::start();
        let written = || {
            let cell = Cell::new();
            run_dockers_command(&site, &cell, "hosts");
            Containerd::start_in(cell)
        };
        let (containerd, another) = (written(), written());
        site.pull_from_docker_hub(&containerd);
        site.pull_from_ghcr(&containerd, "ghcr.io/team/tool:v1");
        site.pull_in_vain(&another);
    }
}

#[test]
fn docker_28_takes_its_hosts_toml_and_goes_nowhere_else() {
    if let Some(program) = containerd_store::available() {
        let site = Site::start();
        let written = || {
            let cell = Cell::new();
            // The cell's own /etc/docker.
            run_dockers_command(&site, &cell, "etc/docker/certs.d");
            ContainerdStore::start_in(cell, &program)
        };
        let (docker, another) = (written(), written());
        site.pull_from_docker_hub(&docker);
        site.pull_from_ghcr(&docker, "ghcr.io/team/tool:v1");
        site.pull_in_vain(&another);
    }
}

#[test]
fn containerd_takes_what_the_script_writes() {
    if available(containerd::PROGRAMS) {
        let site = Site::start();
        let containerd = Containerd::start_in(written_by_the_script(&site.setup("containerd")));
        site.pull_from_docker_hub(&containerd);
        site.pull_from_ghcr(&containerd, "ghcr.io/team/tool:v1");
    }
}

#[test]
fn containerd_can_be_forbidden_to_go_to_the_registry() {
    if available(containerd::PROGRAMS) {
        let site = Site::start();
        let script = site.setup("containerd");
        let instead = format!("\nserver = \"{}\"\n", site.lanyard.url());
        let forbidding = script.replace("\nserver = \"https://registry-1.docker.io\"\n", &instead);
        assert_ne!(forbidding, script);
        let containerd = Containerd::start_in(written_by_the_script(&forbidding));
        site.pull_from_docker_hub(&containerd);
        site.pull_in_vain(&Containerd::start_in(written_by_the_script(&forbidding)));
    }
}

/// A cell in which the script has run.
fn written_by_the_script(script: &str) -> Cell {
    let cell = Cell::new();
    let script = cell.write("setup.sh", script);
    cell.run("env", &[&format!("CERTS_D={}", cell.text("hosts")), "sh", &script]).unwrap();
    cell
}

#[test]
fn podman_takes_its_drop_in() {
    if available(podman::PROGRAMS) {
        let site = Site::start();
        let podman = Podman::with_drop_in("lanyard", &site.setup("podman"));
        site.pull_from_docker_hub(&podman);
        site.pull_from_ghcr(&podman, "ghcr.io/team/tool:v1");
    }
}

#[test]
fn podman_can_be_forbidden_to_go_to_the_registry() {
    if available(podman::PROGRAMS) {
        let site = Site::start();
        let drop_in = site.setup("podman");
        let instead = format!("\nlocation = \"{}/docker.io\"\ninsecure = true\n", site.lanyard.host());
        let forbidding = drop_in.replace("\nlocation = \"docker.io\"\n", &instead);
        assert_ne!(forbidding, drop_in);
        site.pull_from_docker_hub(&Podman::with_drop_in("lanyard", &forbidding));
        site.pull_in_vain(&Podman::with_drop_in("lanyard", &forbidding));
    }
}

/// The control: a client that goes to the second registry itself is seen as well. Nothing listens
/// on port 1.
#[test]
fn going_to_the_second_registry_is_seen() {
    if available(&[containerd::PROGRAMS, podman::PROGRAMS].concat()) {
        let clients: [&dyn Client; 2] =
            [&Containerd::start("http://127.0.0.1:1", false), &Podman::with_drop_in("none", "")];
        for client in clients {
            let said = client.pull("ghcr.io/team/tool:v1").expect_err("there is nothing to pull from");
            assert!(client.hub_asked() > 0, "the watch missed it: {said}");
        }
    }
}

/// The ConfigMap as kubelet mounts it, and one round of the DaemonSet's container.
#[test]
fn kubernetes_nodes_take_what_the_daemon_set_writes() {
    if available(containerd::PROGRAMS) {
        let site = Site::start();
        let text = site.setup("kubernetes");
        let (config_map, daemon_set) = text.split_once("\n---\n").unwrap();
        let cell = Cell::new();
        let (_, data) = config_map.split_once("\ndata:\n").unwrap();
        mount_config_map(&cell.path("mounted"), data);
        let (_, args) = daemon_set.split_once("          args:\n            - |\n").unwrap();
        let script = block(args, "              ");
        // Only the container's own two folders are elsewhere, and it does no second round.
        let script = script.replace("/hosts/*", &format!("{}/*", cell.text("mounted")));
        let script = script.replace("/certs.d/", &format!("{}/", cell.text("hosts")));
        cell.run("sh", &["-c", &format!("sleep() {{ exit 0; }}\n{script}")]).unwrap();
        assert_eq!(fs::read_dir(cell.path("hosts")).unwrap().count(), data.matches(": |\n").count());

        let containerd = Containerd::start_in(cell);
        site.pull_from_docker_hub(&containerd);
        site.pull_from_ghcr(&containerd, "ghcr.io/team/tool:v1");
    }
}

/// Writes the keys of a ConfigMap's `data` as kubelet does: files in a hidden folder, and links to
/// them.
fn mount_config_map(folder: &Path, data: &str) {
    fs::create_dir_all(folder.join("..data")).unwrap();
    for (at, _) in data.match_indices(": |\n") {
        let name = data[..at].rsplit('\n').next().unwrap().trim();
        fs::write(folder.join("..data").join(name), block(&data[at + 4..], "    ")).unwrap();
        std::os::unix::fs::symlink(Path::new("..data").join(name), folder.join(name)).unwrap();
    }
}

/// The lines of a YAML block that is indented by this much, without the indentation.
fn block(text: &str, indentation: &str) -> String {
    let lines = text.lines().map(|line| if line.is_empty() { Some("") } else { line.strip_prefix(indentation) });
    lines.map_while(|line| Some(format!("{}\n", line?))).collect()
}
