//! containerd with `hosts.toml`, driven by `ctr`.

use super::cell::{Cell, Daemon};
use super::pulled::Pulled;
use super::{Client, Program, Pushes};

pub(crate) const PROGRAMS: &[Program] = &[("containerd", "containerd"), ("ctr", "containerd")];

/// The plugins that would need a kernel feature, a network or a folder outside the cell.
const UNWANTED: &[&str] = &[
    "io.containerd.grpc.v1.cri",
    "io.containerd.internal.v1.opt",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
];

/// One containerd with an empty root; ended when dropped.
pub(crate) struct Containerd {
    _daemon: Daemon,
    cell: Cell,
    socket: String,
    snapshotter: &'static str,
}

impl Containerd {
    /// Starts a daemon whose hosts.toml for docker.io has the one entry `[host."URL"]`. With
    /// `override_path` the URL includes `/v2`; without it the client puts `/v2` behind the URL's
    /// path.
    pub(crate) fn start(url: &str, override_path: bool) -> Self {
        let cell = Cell::new();
        cell.write(
            "hosts/docker.io/hosts.toml",
            &format!(
                "server = \"https://registry-1.docker.io\"\n[host.\"{url}\"]\n\
                 capabilities = [\"pull\", \"resolve\"]\noverride_path = {override_path}\n"
            ),
        );
        Containerd::start_in(cell)
    }

    /// Starts a daemon in a cell whose folder `hosts` has the `hosts.toml` files, each in a folder
    /// of its registry's name.
    pub(crate) fn start_in(cell: Cell) -> Self {
        let socket = cell.text("c.sock");
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = {UNWANTED:?}\n\
             [grpc]\naddress = {socket:?}\n[ttrpc]\naddress = {:?}\n",
            cell.text("root"),
            cell.text("state"),
            cell.text("t.sock")
        );
        let config = cell.write("config.toml", &config);
        let snapshotter = if cell.overlay() { "overlayfs" } else { "native" };
        let daemon = cell.daemon("containerd", &["--config", &config], &socket);
        Containerd { _daemon: daemon, cell, socket, snapshotter }
    }

    fn ctr(&self, args: &[&str]) -> Result<String, String> {
        self.cell.run("ctr", &[&["--address", &self.socket], args].concat())
    }
}

impl Containerd {
    /// Pulls from a lanyard of that name, signed in as this user. The error is everything that the
    /// client said.
    pub(super) fn pull_as(&self, name: &str, user: &str, password: &str) -> Result<Pulled, String> {
        self.pulled(name, &["--plain-http", "--user", &format!("{user}:{password}")])
    }

    fn pulled(&self, name: &str, how: &[&str]) -> Result<Pulled, String> {
        let before = self.ctr(&["content", "list", "--quiet"])?;
        // ctr, not the daemon, resolves and fetches, so it runs in the cell as well.
        self.ctr(&[&["images", "pull", "--snapshotter", self.snapshotter], how, &[name]].concat())?;
        let images = self.ctr(&["images", "list", &format!("name=={name}")])?;
        let digest = images.split_whitespace().find(|word| word.starts_with("sha256:"));
        let held = self.ctr(&["content", "list", "--quiet"])?;
        Ok(Pulled {
            tag: Some(digest.ok_or_else(|| format!("no digest in {images}"))?.to_owned()),
            // The content store has no names of images; content that an earlier pull brought is not
            // this image's.
            held: Some(held.split_whitespace().filter(|digest| !before.contains(*digest)).map(str::to_owned).collect()),
            unpacked: None,
        })
    }
}

impl Containerd {
    /// Pushes as this `USER:PASSWORD`, and keeps the image.
    pub(super) fn push_as(&self, user: Option<&str>, from: &str, to: &str) -> Result<(), String> {
        let user = user.map_or(Vec::new(), |user| vec!["--user", user]);
        self.ctr(&[&["images", "push", "--plain-http"], &user[..], &[to, from]].concat()).map(drop)
    }
}

impl Pushes for Containerd {
    fn push(&self, from: &str, to: &str) -> Result<(), String> {
        self.push_as(None, from, to)?;
        self.ctr(&["images", "rm", "--sync", from]).map(drop)
    }

    fn pull_back(&self, name: &str) -> Result<Pulled, String> {
        self.pulled(name, &["--plain-http"])
    }
}

impl Client for Containerd {
    fn pull(&self, name: &str) -> Result<Pulled, String> {
        let hosts = self.cell.text("hosts");
        self.pulled(name, &["--hosts-dir", &hosts])
    }

    fn hub_asked(&self) -> usize {
        self.cell.hub_asked()
    }
}
