//! Real clients: dockerd, containerd, podman, skopeo and buildah pull through a lanyard, and push
//! to it.
//!
//! One driver per client ([`dockerd`], [`containerd`], [`podman`], [`skopeo`], [`buildah`]) runs it
//! in a [`cell`] of its own, points it at a mirror in that client's way, and reports by digest what
//! it pulled. [`scenario`] tells the story that they all go through, and [`pulls`] lists which
//! client goes through it with which image. In [`setup`] the clients take the output of `lanyard
//! setup` for them. [`pushes`] is the way back, [`refused`] has the errors of a client that may not
//! push, [`another_host`] puts a client elsewhere in the LAN, and [`artifacts`] pushes content that
//! is no image. In [`outage`] only a part of an image is here, in [`full_cache`] more was pulled
//! than fits. [`partial`] pulls only the new parts of a layer, [`catalog`] lists repositories as a
//! user, and [`passwords`] sends a wrong one.
//!
//! A test whose client this machine does not have is left out. It says so by name on the real
//! standard error, which the test runner does not capture. With `LANYARD_REQUIRE_CLIENTS=1` a
//! missing client is a failure.

mod another_host;
mod artifacts;
mod buildah;
mod buildkit;
mod catalog;
mod cell;
mod child;
mod containerd;
mod containerd_store;
mod dockerd;
mod full_cache;
mod link;
mod outage;
mod partial;
mod passwords;
mod podman;
mod pulled;
mod pulls;
mod pushes;
mod refused;
mod registries;
mod scenario;
mod setup;
mod skopeo;
mod tools;
mod users;
mod watch;

use std::io::Write;

use cell::Cell;
use pulled::Pulled;

/// A program and its Debian package, or the address where it can be found.
type Program = (&'static str, &'static str);

/// One clean client with a mirror. Its store lives as long as the value.
trait Client {
    /// Pulls `name`, like `docker.io/library/NAME:TAG`, and reports what the client has then. The
    /// error is everything that the client said.
    fn pull(&self, name: &str) -> Result<Pulled, String>;

    /// How many times the client went to Docker Hub, or another registry, instead of its mirror.
    fn hub_asked(&self) -> usize;
}

/// A client that also pushes.
trait Pushes: Client {
    /// Pushes the image `from`, by the client's own name for it, as `to`, `HOST:PORT/NAME:TAG`, and
    /// forgets both.
    fn push(&self, from: &str, to: &str) -> Result<(), String>;

    /// Pulls an image that was pushed. The error is everything that the client said.
    fn pull_back(&self, name: &str) -> Result<Pulled, String>;
}

/// A client that signs in.
trait SignsIn: Pushes {
    /// Signs in at `registry`, `HOST:PORT`, and stays signed in. The error is everything that the
    /// client said.
    fn login(&self, registry: &str, user: &str, password: &str) -> Result<(), String>;

    /// Forgets the password.
    fn logout(&self, registry: &str) -> Result<(), String>;

    /// Forgets every image, under whatever name it was pulled.
    fn forget(&self) -> Result<(), String>;
}

/// Whether all `programs` can be run in a cell on this machine. Says so on standard error if not.
fn available(programs: &[Program]) -> bool {
    unhindered(hindrance(programs), Weight::Required)
}

/// The same for a cell behind a [`Link`](link::Link).
fn available_elsewhere(programs: &[Program]) -> bool {
    let refused = || Some(format!("no other host can be made on this machine: {}", link::Link::make().err()?));
    let reason = hindrance(&[programs, &[("ip", "iproute2"), ("nsenter", "util-linux")]].concat()).or_else(refused);
    unhindered(reason, Weight::Required)
}

/// The same for a client that Debian does not have: it is never required.
fn available_extra(programs: &[Program]) -> bool {
    unhindered(hindrance(programs), Weight::Extra)
}

/// The consequence of leaving a test out.
enum Weight {
    /// With `LANYARD_REQUIRE_CLIENTS=1` it is a failure.
    Required,
    /// The test only says so.
    Extra,
}

/// Whether there is no reason to leave this test out. Prints the reason otherwise.
fn unhindered(reason: Option<String>, weight: Weight) -> bool {
    let Some(reason) = reason else { return true };
    let required = std::env::var("LANYARD_REQUIRE_CLIENTS").as_deref() == Ok("1");
    assert!(!required || matches!(weight, Weight::Extra), "{reason}");
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // The output of eprintln! would be captured when the test passes. It is one write, so that the
    // lines of tests that run side by side do not mix.
    let line = format!("left out: {reason}; {test} was not run\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
    false
}

fn hindrance(programs: &[Program]) -> Option<String> {
    let needed = [("setpriv", "util-linux"), ("unshare", "util-linux")];
    let path = cell::search_path();
    let missing = |name: &str| !std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
    if let Some((name, package)) = programs.iter().chain(&needed).find(|(name, _)| missing(name)) {
        let source = if package.contains("://") { "" } else { "Debian package " };
        return Some(format!("{name} is not installed ({source}{package})"));
    }
    let client = programs.first().map_or("the client", |(name, _)| name);
    if !rustix::process::geteuid().is_root() {
        return Some(format!("{client} needs root"));
    }
    let refused = Cell::new().run("true", &[]).err()?;
    Some(format!("{client} needs mount and process namespaces, which this machine refuses: {}", refused.trim()))
}
