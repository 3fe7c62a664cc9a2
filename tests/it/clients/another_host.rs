//! A client on another host of the LAN: it pulls without signing in, and pushes once it has signed
//! in.
//!
//! The client is in a cell behind a [`Link`], so that none of its connections comes from this
//! machine itself. It pulls from the internet through `mirror_listen`, which must go on working
//! while the registry's own address asks users to sign in: a dockerd that a mirror challenges goes
//! to Docker Hub, and the test would see that.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use super::cell::Cell;
use super::dockerd::Dockerd;
use super::link::Link;
use super::podman::Podman;
use super::pulled::Expected;
use super::scenario::{Platforms, expected};
use super::{SignsIn, available_elsewhere, dockerd, podman};
use crate::hub::{Hub, digest_of};
use crate::lanyard::Lanyard;
use crate::soak::client::{Answer, Client};

const PASSWORD: &str = "canary-ann:4711";

/// A lanyard at the near end of a link, before a Docker Hub with `library/app:latest`.
struct Office {
    hub: Hub,
    image: Expected,
    lanyard: Lanyard,
    /// The registry's address.
    registry: SocketAddr,
    /// The address that only pulls, if there is one; else the registry's.
    mirror: SocketAddr,
    _users: tempfile::TempDir,
}

impl Office {
    /// An office with one user, ann, and an address that only pulls.
    fn with_users(link: &Link) -> Office {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users");
        add_user("ann", PASSWORD, &file);
        // The operator claims the names that the team pushes; otherwise clients of the mirror would
        // not get them (N1).
        let hosted = "[hosted]\nnamespaces = [\"team/**\"]\n";
        let config = format!("mirror_listen = \"{}:0\"\n{hosted}[auth]\nhtpasswd = {file:?}\n", link.near());
        Office::open(link, &config, folder)
    }

    /// An office whose only configuration is the address of Docker Hub.
    fn without_users(link: &Link) -> Office {
        Office::open(link, "", tempfile::tempdir().unwrap())
    }

    fn open(link: &Link, config: &str, users: tempfile::TempDir) -> Office {
        let hub = Hub::start();
        let image = hub.image("library/app", "latest").real_layer(300_000).real_layer(2_000).publish();
        let config = format!("{config}[[upstream]]\nname = \"docker.io\"\nurl = \"{}\"\n", hub.url());
        let listen = format!("{}:0", link.near());
        let lanyard = Lanyard::start_with(&config, &[("LANYARD__LISTEN", &listen)]);
        let registry = SocketAddr::from((link.near(), lanyard.port()));
        let logs = lanyard.logs();
        let mirror = logs.lines().find_map(|line| line.strip_prefix("pulls only on http://"));
        let mirror = mirror.map_or(registry, |address| address.parse().unwrap());
        let image = expected(&hub, &image, Platforms::Own);
        Office { hub, image, lanyard, registry, mirror, _users: users }
    }

    /// A name at the registry's address.
    fn name(&self, repo_and_tag: &str) -> String {
        format!("{}/{repo_and_tag}", self.registry)
    }

    fn get(address: SocketAddr, path: &str) -> Answer {
        Client::new(address).call("GET", path, "", b"")
    }

    /// The repositories that were pushed.
    fn catalog(&self) -> serde_json::Value {
        let answer = Office::get(self.mirror, "/v2/_catalog");
        let mut listed: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        listed["repositories"].take()
    }

    /// Panics unless the registry holds nothing of a push, not even its beginning.
    fn assert_nothing_pushed(&self) {
        assert_eq!(self.catalog(), serde_json::json!([]));
        let begun = fs::read_dir(self.lanyard.data_dir().join("uploads")).map_or(0, Iterator::count);
        assert_eq!(begun, 0, "an upload has begun");
    }

    /// A client gets Docker Hub's image through the mirror without signing in.
    fn pulls_as_nobody(&self, client: &dyn SignsIn) {
        let pulled = client.pull("docker.io/library/app:latest");
        let pulled = pulled.unwrap_or_else(|said| panic!("{said}\n{}", self.lanyard.logs()));
        self.image.assert_is(&pulled);
        assert_eq!(client.hub_asked(), 0, "the client went to Docker Hub itself");
    }

    /// The error of a client that may not push.
    fn refuses(&self, client: &dyn SignsIn) -> String {
        let told = client.push("docker.io/library/app:latest", &self.name("team/app:v1"));
        told.expect_err("pushed without a right to")
    }
}

/// Adds a user by the real command. The password comes on standard input, which is no terminal.
fn add_user(name: &str, password: &str, file: &Path) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lanyard"));
    command.args(["user", "add", name, "--file"]).arg(file).env_clear().stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// Pull, refused push, wrong password, right password, push, sign out, pull what was pushed.
fn signs_in_to_push<C: SignsIn>(client: impl Fn(Link, &Office) -> C) {
    let link = Link::make().unwrap();
    let office = Office::with_users(&link);
    let client = client(link, &office);
    let registry = office.registry.to_string();
    assert_eq!(Office::get(office.registry, "/v2/").status, 401, "the registry's address asks people to sign in");
    assert_eq!(Office::get(office.mirror, "/v2/").status, 200);

    // The registry's own address needs no user for a pull either.
    let pulled = client.pull_back(&office.name("docker.io/library/app:latest"));
    office.image.assert_is(&pulled.unwrap_or_else(|said| panic!("{said}\n{}", office.lanyard.logs())));
    client.forget().unwrap();
    office.pulls_as_nobody(&client);

    office.refuses(&client);
    office.assert_nothing_pushed();
    let told = client.login(&registry, "ann", "wrong").expect_err("signed in with a wrong password");
    assert!(told.contains("unauthorized") || told.contains("invalid username/password"), "{told}");
    office.refuses(&client);
    office.assert_nothing_pushed();

    client.login(&registry, "ann", PASSWORD).unwrap_or_else(|said| panic!("{said}\n{}", office.lanyard.logs()));
    let name = office.name("team/app:v1");
    let pushed = client.push("docker.io/library/app:latest", &name);
    pushed.unwrap_or_else(|said| panic!("{said}\n{}", office.lanyard.logs()));
    assert_eq!(office.catalog(), serde_json::json!(["team/app"]));

    client.logout(&registry).unwrap();
    client.forget().unwrap();
    office.hub.go_down();
    let pulled = client.pull_back(&name).unwrap_or_else(|said| panic!("{said}\n{}", office.lanyard.logs()));
    assert_eq!(pulled.unpacked.as_ref(), Some(&office.image.unpacked));
    assert!(office.image.configs.is_subset(pulled.held.as_ref().unwrap()), "the configuration is another: {pulled:?}");
    let stored = Office::get(office.mirror, "/v2/team/app/manifests/v1");
    assert_eq!((stored.status, pulled.tag), (200, Some(digest_of(&stored.body))));
    client.push(&name, &office.name("team/other:v1")).expect_err("pushed after it had signed out");
    assert_eq!(office.catalog(), serde_json::json!(["team/app"]));
    assert_eq!(client.hub_asked(), 0);
    assert!(!office.lanyard.logs().contains("canary"), "a password is in the log");
}

/// Without any configuration other hosts pull. A push is refused with the reason, and leaves
/// nothing.
fn only_pulls<C: SignsIn>(client: impl Fn(Link, &Office) -> C) {
    let link = Link::make().unwrap();
    let office = Office::without_users(&link);
    let client = client(link, &office);
    office.pulls_as_nobody(&client);
    let told = office.refuses(&client);
    assert!(told.contains("lanyard user add"), "it says what to do: {told}");
    office.assert_nothing_pushed();
}

fn docker(link: Link, office: &Office) -> Dockerd {
    let daemon_json = serde_json::json!({
        "registry-mirrors": [format!("http://{}", office.mirror)],
        "insecure-registries": [office.registry.to_string()],
    });
    Dockerd::configured_in(Cell::behind(link), &daemon_json)
}

fn podman(link: Link, office: &Office) -> Podman {
    Podman::new_in(Cell::behind(link), &office.mirror.to_string())
}

#[test]
fn docker_signs_in_and_pushes_from_another_host() {
    if available_elsewhere(dockerd::PROGRAMS) {
        signs_in_to_push(docker);
    }
}

#[test]
fn podman_signs_in_and_pushes_from_another_host() {
    if available_elsewhere(podman::PROGRAMS) {
        signs_in_to_push(podman);
    }
}

#[test]
fn docker_only_pulls_from_another_host_without_users() {
    if available_elsewhere(dockerd::PROGRAMS) {
        only_pulls(docker);
    }
}

#[test]
fn podman_only_pulls_from_another_host_without_users() {
    if available_elsewhere(podman::PROGRAMS) {
        only_pulls(podman);
    }
}
